"""The catalog: an index that finds experiments by their properties."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from sqlalchemy import ColumnElement, select

from oectflow.errors import CatalogError, did_you_mean
from oectflow.pipeline.inputs.catalog import features, integrity, legacy
from oectflow.pipeline.inputs.catalog.config import (
    CatalogConfig,
    Discovery,
    load_catalog_config,
)
from oectflow.pipeline.inputs.catalog.entry import CatalogEntry, load_entries
from oectflow.pipeline.inputs.catalog.features import FeatureRecord, SyncReport
from oectflow.pipeline.inputs.catalog.integrity import CatalogStats, ValidationReport
from oectflow.pipeline.inputs.catalog.legacy import ImportReport
from oectflow.pipeline.inputs.catalog.sample_sets import SamplesReport, set_samples, stored_table
from oectflow.pipeline.inputs.catalog.scan import ScanReport, scan
from oectflow.pipeline.inputs.catalog.schema import experiments
from oectflow.pipeline.inputs.catalog.search import SearchResult, search
from oectflow.pipeline.inputs.catalog.store import Store, is_url
from oectflow.pipeline.inputs.samples import Samples, read_samples

_NEIGHBOURS = 20


class Catalog:
    """An index of experiments in a database.

    All its content comes from the raw files and the results.  You can delete a catalog and make it
    again with :meth:`scan` and :meth:`sync_features`.  Several processes may use it at the same
    time.

    Parameters
    ----------
    url_or_path
        A SQLite file, made if missing, for the processes of one machine; or
        ``"postgresql+psycopg://user@host/database"`` for a group.  All machines of a group must see
        the raw files under the same paths.  A ``catalog.db`` of the earlier software is not
        changed.  Its content is imported into ``catalog.oectflow.db`` beside it, and imported again
        whenever it has changed.
    config
        Where the raw files are and how they are found; by default the default configuration.

    Attributes
    ----------
    name
        The database file, or the URL without its password.
    config
        The configuration.

    Raises
    ------
    CatalogError
        The database cannot be reached, is not a catalog, or was written by a newer version.

    Examples
    --------
    >>> import oectflow as of
    >>> with of.Catalog("catalog.db") as catalog:
    ...     scanned = catalog.scan("raw/")
    ...     found = catalog.search(chip_id="#20250804008", status="completed")
    >>> report = of.extract(found.paths, "transient_tau", "features/", progress=False)
    """

    def __init__(
        self, url_or_path: str | os.PathLike[str], *, config: CatalogConfig | None = None
    ) -> None:
        self.config = config or CatalogConfig()
        old = None if is_url(url_or_path) else Path(url_or_path).expanduser().absolute()
        if old is not None and legacy.is_legacy(old):
            self._store = Store(old.with_name(f"{old.stem}.oectflow{old.suffix}"))
            if not legacy.is_imported(self._store, old):
                legacy.import_legacy(self._store, old, config.roots.raw_data if config else None)
        else:
            self._store = Store(url_or_path)
        self.name = self._store.name

    @classmethod
    def from_config(
        cls, config: str | os.PathLike[str] | Mapping[str, Any] = "catalog_config.yaml"
    ) -> Self:
        """Open the catalog that a configuration names.

        Raises
        ------
        CatalogError
            The configuration is wrong, or the database cannot be used.
        """
        loaded = load_catalog_config(config)
        return cls(loaded.database.path, config=loaded)

    def scan(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        workers: int | None = None,
        verify: Literal["identity", "content"] = "identity",
        progress: Callable[[int, int], object] | None = None,
    ) -> ScanReport:
        """Bring the catalog up to date with the raw files below a folder.

        A file with the same size and time as before is not opened.  A file with another time is
        opened, and its content decides whether it has changed.  Missing files are marked, and keep
        their entries.  Each file that cannot be used has a line in the report.  Raw files are never
        changed.

        Parameters
        ----------
        root
            The folder, by default ``roots.raw_data`` of the configuration.
        workers
            Number of processes that read; 1 reads in this process.  By default as many as are
            useful for the work, at most ``discovery.parallel_workers``.
        verify
            ``"content"``: files with the same size and time are read, too.  This finds files that
            were changed without a trace.
        progress
            Called with the number of files done, and the number of all files.

        Returns
        -------
        What was found; print it.

        Raises
        ------
        CatalogError
            ``root`` is no folder, or the database cannot be written.
        """
        folder = self.config.roots.raw_data if root is None else root
        discovery: Discovery = self.config.discovery
        return scan(
            self._store, folder, discovery, workers=workers, verify=verify, progress=progress
        )

    def set_samples(self, source: Any) -> SamplesReport:
        """Add a table of devices; it completes what raw files say about their devices.

        The table is kept, so files that are scanned later are completed from it, too.

        Parameters
        ----------
        source
            A file, DataFrame or mapping, as :func:`oectflow.read_samples` takes it; None removes
            the table.

        Returns
        -------
        How many experiments it describes, and where it contradicts a raw file; print it.

        Raises
        ------
        ConfigError
            The table is wrong; the previous table stays.
        """
        return set_samples(self._store, None if source is None else read_samples(source))

    @property
    def samples(self) -> Samples | None:
        """The table of devices, for ``oectflow.extract(..., samples=catalog.samples)``."""
        with self._store.read() as connection:
            return stored_table(connection)

    def search(self, **filters: Any) -> SearchResult:
        """Find experiments.

        An experiment must match all filters; a filter that is None is ignored.

        Parameters
        ----------
        **filters
            ``test_id``, ``chip_id``, ``device_id``, ``batch_id``, ``status``, ``device_type``:
            a text, or a list of texts, one of which must match.
            ``has_features``, ``missing_features``: True or False, the name of a feature, or a
            list of names.  ``has_features``: the experiment has all of them;
            ``missing_features``: it lacks at least one.  Features computed from an older raw
            file do not count.
            ``kind``: has steps of this kind of measurement, or of one of several.
            ``has_transfer_data``, ``has_transient_data``: True or False.
            ``created_after``, ``created_before``, ``completed_after``, ``completed_before``: a
            datetime, a date, or its ISO text, on the instrument's wall clock; *after* includes
            this moment, *before* does not.
            ``min_completion``, ``max_completion`` (percent), ``min_steps``, ``max_steps`` (of
            ``total_steps``): numbers, included.
            ``text_search``: part of the chip id, the description or the test id; upper and
            lower case are the same.
            ``file_state``: ``"present"``, ``"missing"``, ``"unreadable"`` or ``"unscanned"``.
            ``workflow_step_<i>…``: a parameter of the workflow: a value, a list of values, or a
            range ``(low, high)``, both ends included, None for an open end.
            A key of the samples (``W``, ``L``, ``d``, ``semiconductor``, …, see
            :mod:`oectflow.pipeline.inputs.samples`): a value, a list of values, or a range
            ``(low, high)``; numbers are in SI units, or texts with a unit (``"100 µm"``).
            ``order_by`` (``"created_at"``), ``order_desc`` (True), ``limit``, ``offset``.

        Returns
        -------
        A sequence of :class:`CatalogEntry`, shown as a table, with ``to_frame()`` and ``paths``. It
        includes experiments whose raw file is missing.

        Raises
        ------
        CatalogError
            There is no such filter, or it does not accept the value; the message names the nearest
            one.

        Examples
        --------
        >>> import oectflow as of
        >>> with of.Catalog("catalog.db") as catalog:
        ...     found = catalog.search(
        ...         status="completed", workflow_step_1_2_param_cycles=(5, None), limit=100
        ...     )
        """
        return search(self._store, filters)

    def get(self, key: str | int) -> CatalogEntry:
        """Return one experiment.

        Parameters
        ----------
        key
            Its test id, or the ``id`` of its entry.

        Raises
        ------
        CatalogError
            There is no such experiment; the message names the nearest one.
        """
        column: ColumnElement[Any] = experiments.c.id if isinstance(key, int) else _TEST_ID
        with self._store.read() as connection:
            row_id = connection.scalar(select(experiments.c.id).where(column == key))
            if row_id is not None:
                return load_entries(connection, [row_id])[0]
            hint = ""
            if isinstance(key, str):
                # The alphabetical neighbours: comparing with all would take minutes.
                ids = select(_TEST_ID).limit(_NEIGHBOURS)
                near = [
                    *connection.scalars(ids.where(key < _TEST_ID).order_by(_TEST_ID)),
                    *connection.scalars(ids.where(key > _TEST_ID).order_by(_TEST_ID.desc())),
                ]
                hint = did_you_mean(key, near)
        raise CatalogError(
            f"{self.name}: there is no experiment {key!r}"
            + (hint if hint.startswith("; did") else "; scan its folder")
        )

    def record_features(
        self, results: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
    ) -> int:
        """Record the features in one or several result files.

        Every fifty files are one small transaction.  An experiment that was never scanned gets an
        entry from the metadata of its results.

        Parameters
        ----------
        results
            Parquet files that a run has written, such as ``out_path`` of its records.

        Returns
        -------
        The number of files.

        Raises
        ------
        CatalogError
            A file cannot be read, or is not a result file.
        """
        paths = [results] if isinstance(results, str | os.PathLike) else results
        return features.record_features(self._store, paths)

    def sync_features(self, folder: str | os.PathLike[str] | None = None) -> SyncReport:
        """Bring the record of features up to date with a folder of results.

        Parameters
        ----------
        folder
            The folder, searched at any depth; by default ``roots.features_v2`` of the
            configuration.

        Returns
        -------
        What was found; print it.

        Raises
        ------
        CatalogError
            There is no such folder, or the database cannot be written.
        """
        return features.sync_features(
            self._store, self.config.roots.features_v2 if folder is None else folder
        )

    def features(self, key: str | int) -> list[FeatureRecord]:
        """Return the features of one experiment by name; parameters and errors as for :meth:`get`.

        A feature that is in several result files is listed several times, the newest first.
        """
        entry = self.get(key)
        with self._store.read() as connection:
            return features.load_features(connection, entry.id)

    def forget_features(self, key: str | int) -> int:
        """Remove the record of an experiment's features; return the number of files removed.

        The files themselves stay; :meth:`sync_features` finds them again.  Parameters and errors as
        for :meth:`get`.
        """
        entry = self.get(key)
        with self._store.write() as connection:
            return features.forget_features(connection, entry.id)

    def import_legacy(
        self, path: str | os.PathLike[str], raw_root: str | os.PathLike[str] | None = None
    ) -> ImportReport:
        """Import a ``catalog.db`` of the earlier software, without changing it.

        Experiments keep their numbers if these are free.  Experiments that are already known do not
        change.  A scan of the raw files completes the entries.

        Parameters
        ----------
        path
            The ``catalog.db`` file.
        raw_root
            The folder that its paths are relative to; by default ``raw`` beside the file, or the
            folder of the file.

        Returns
        -------
        A report of what was imported; print it.

        Raises
        ------
        CatalogError
            The file is not such a catalog, or cannot be read.
        """
        return legacy.import_legacy(self._store, path, raw_root)

    def validate(self, *, content: bool = False) -> ValidationReport:
        """Check the catalog against itself, the raw files and the results.

        Parameters
        ----------
        content
            Read every raw file and compare its bytes with those at the scan.  This finds changes by
            a failing disk.

        Returns
        -------
        All problems; print it.
        """
        return integrity.validate(self._store, content=content)

    def backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the catalog, as it is now, into one SQLite file, and return its path.

        The copy is a catalog, too, even if the original is in PostgreSQL.

        Raises
        ------
        CatalogError
            The file exists, or cannot be written.
        """
        return integrity.backup(self._store, path)

    def vacuum(self) -> int:
        """Make the database smaller, and return the number of bytes gained."""
        return integrity.vacuum(self._store)

    def remove_missing(self) -> int:
        """Remove the experiments whose raw files are missing, and return their number."""
        return integrity.remove_missing(self._store)

    def stats(self) -> CatalogStats:
        """Return the content of the catalog in numbers; print it."""
        return integrity.stats(self._store)

    def close(self) -> None:
        """Close the database.  You can still look at the results of a search."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Catalog {self.name}>"


_TEST_ID = experiments.c.test_id
