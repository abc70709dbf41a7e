"""The features of one experiment: compute, read and record them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OutputError, UnknownFeature, did_you_mean
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.inputs.catalog import Catalog, CatalogEntry, FeatureRecord
from oectflow.pipeline.manager.extraction import (
    FeatureConfig,
    check_current,
    check_option,
    check_record,
    instead_of,
    load_features,
    record_folder,
    run_batch,
)
from oectflow.pipeline.outputs.legacy import (
    group_columns,
    open_legacy_features,
    read_legacy_table,
)
from oectflow.pipeline.outputs.places import result_path
from oectflow.pipeline.outputs.sink import read_metadata
from oectflow.pipeline.outputs.wide import (
    config_folder,
    read_values,
    select_columns,
    wide_frame,
)

if TYPE_CHECKING:
    import pandas as pd

OutputFormat = Literal["dict", "dataframe", "parquet"]


class ComputedFeatures:
    """Features of one experiment of a catalog.

    Parameters
    ----------
    entry
        The entry of the experiment in the catalog.
    catalog
        The catalog that records its features.
    features_root
        Folder of the results, with one folder for each configuration.
    features_v1_root
        Folder of feature files of the earlier software.
    """

    def __init__(
        self, entry: CatalogEntry, catalog: Catalog, features_root: Path, features_v1_root: Path
    ) -> None:
        self.entry = entry
        self.catalog = catalog
        self.features_root = features_root
        self.features_v1_root = features_v1_root

    def has_features(self, version: str | None = None) -> bool:
        """Whether there are features.

        Parameters
        ----------
        version
            None: any features that were computed from the content of the raw file at the last
            scan.  ``"v1"``, …: the features in a feature file of the earlier software.
        """
        if version is None:
            return self.catalog.get(self.entry.id).has_features
        return self._v1_file().exists()

    def has_v2_features(self, validate_files: bool = True) -> bool:
        """Whether features of any configuration are recorded.

        Parameters
        ----------
        validate_files
            Count only files that exist.
        """
        return bool(self._paths(exist=validate_files))

    def get_v2_features_metadata(self, validate_files: bool = True) -> dict[str, Any] | None:
        """Return the record of computed features, None if there is none.

        Parameters
        ----------
        validate_files
            Count only files that exist.

        Returns
        -------
        ``configs_used``, ``last_computed`` (ISO, UTC), ``feature_count`` and ``output_files``.
        """
        records = self._existing() if validate_files else self._records()
        if not records:
            return None
        return {
            "configs_used": list(dict.fromkeys(record.config for record in reversed(records))),
            "last_computed": iso(records[0].created_at),
            "feature_count": len({record.name for record in records}),
            "output_files": list(dict.fromkeys(str(record.path) for record in reversed(records))),
        }

    def clear_v2_features_metadata(self) -> None:
        """Remove the record of features from the catalog; files stay, and a sync finds them."""
        self.catalog.forget_features(self.entry.id)

    def sync_v2_features_from_filesystem(self) -> dict[str, Any]:
        """Update the record from the folder of results.

        Returns
        -------
        For this experiment: ``found_files``, ``added_files``, ``removed_files``, ``total_files``
        and ``configs_found``.

        Raises
        ------
        CatalogError
            There is no such folder.
        """
        before = self._paths(exist=False)
        record_folder(self.catalog, self.features_root)
        after = self._paths(exist=False)
        return {
            "found_files": len(after),
            "added_files": len(set(after) - set(before)),
            "removed_files": len(set(before) - set(after)),
            "configs_found": list(dict.fromkeys(after.values())),
            "total_files": len(after),
        }

    def record(self, record: ExperimentRecord) -> None:
        """Record in the catalog what a run has written for this experiment."""
        if record.outcome != "unchanged" or Path(record.out_path) not in self._paths(exist=True):
            self.catalog.record_features(record.out_path)

    def extract_features_v2(
        self,
        feature_config: FeatureConfig,
        output_format: OutputFormat = "parquet",
        output_dir: str | os.PathLike[str] | None = None,
        save_metadata: bool = True,
        force_recompute: bool = False,
    ) -> dict[str, NDArray[Any]] | pd.DataFrame | str:
        """Compute the features that are not known yet.

        Parameters
        ----------
        feature_config
            Name of a bundled configuration, path of a file, or a dict.
        output_format
            ``"dict"``: arrays by feature, shape (n_steps, …); ``"dataframe"``: the table of
            :meth:`get_v2_feature_dataframe`; ``"parquet"``: the path of the result file.
        output_dir
            By default ``roots.features_v2``.  The file is written into its subfolder with the name
            of the configuration.
        save_metadata
            Record the file in the catalog.
        force_recompute
            Compute everything again.

        Raises
        ------
        ConfigError
            The configuration or an argument is wrong.
        RunFailed
            The raw file cannot be read.
        StorageError
            The results cannot be written.
        """
        check_option("output_format", output_format, OutputFormat)
        features = load_features(feature_config)
        records, impossible = run_batch(
            self.catalog if save_metadata else None,
            [self.entry],
            features,
            self.features_root if output_dir is None else Path(output_dir).expanduser().absolute(),
            save=True,
            client=None,
            granularity="auto",
            force=force_recompute,
            progress=False,
        )
        if impossible:
            raise OutputError(impossible[self.entry.id])
        record = records[self.entry.id]
        check_record(record)
        path = Path(record.out_path)
        if output_format == "parquet":
            return str(path)
        if output_format == "dataframe":
            return wide_frame(path, features.features, list(features.features))
        return read_values(path, features.features)[0]

    def get_v2_feature_dataframe(
        self,
        config_name: str | None = None,
        file_path: str | os.PathLike[str] | None = None,
        feature_names: str | Iterable[str] | None = None,
    ) -> pd.DataFrame | None:
        """Return features that have been computed, as a table.

        Parameters
        ----------
        config_name
            The configuration; by default the newest results.
        file_path
            A Parquet file to read instead, of this or of the earlier software.
        feature_names
            Names of features, columns, or companions such as ``gm_max_status``; ``*`` and ``?``
            stand for any text and any letter.

        Returns
        -------
        ``step_index``, and for each feature ``name``, or ``name_0``, ``name_1``, … if it has
        several values per step; ``attrs["units"]`` has the units.  None if nothing has been
        computed for this configuration.

        Raises
        ------
        UnknownFeature
            There is no such feature; the message names the nearest one.
        OutputError
            The results belong to an older state of the raw file, or cannot be read.
        """
        if file_path is not None:
            return _read_table(Path(file_path), feature_names)
        path = self._newest(config_name)
        if path is None:
            return None
        check_current(path, read_metadata(path) or {}, self.entry.path)
        return wide_frame(path, names=feature_names)

    def get_features(
        self, feature_names: Iterable[str], data_type: str = "transfer"
    ) -> dict[str, NDArray[Any]]:
        """Return features by name, wherever they were computed.

        Parameters
        ----------
        feature_names
            Names of features.  Each is taken from the newest results that contain it, or else from
            the feature file of the earlier software.
        data_type
            ``"transfer"`` or ``"transient"``; only for such a file.

        Returns
        -------
        Arrays by feature, shape (n_steps, …).

        Raises
        ------
        UnknownFeature
            A feature has not been computed; the message names the nearest one.
        OutputError
            The results belong to an older state of the raw file, or cannot be read.
        """
        newest = {record.name: record.path for record in reversed(self._existing())}
        old = self._v1_table(data_type)
        found: dict[str, NDArray[Any]] = {}
        for name in [feature_names] if isinstance(feature_names, str) else feature_names:
            if name in newest:
                values, _, metadata = read_values(newest[name], [name])
                check_current(newest[name], metadata, self.entry.path)
                found[name] = values[name]
            elif name in old:
                found[name] = old[name].to_numpy()
            else:
                hint = did_you_mean(name, [*newest, *old])
                raise UnknownFeature(
                    f"{self.entry.test_id}: {name!r} has not been computed"
                    f"{hint or '; call extract_features_v2'}"
                )
        return found

    def get_feature_dataframe(
        self, version: str = "v1", data_type: str = "transfer", include_workflow: bool = False
    ) -> pd.DataFrame | None:
        """Return the features of a version of the earlier software, None if there are none.

        Parameters
        ----------
        version
            ``"v1"``, …: the columns of its feature file.  If there is no file: the features
            computed here with ``v2_transfer_basic`` (``"v1"``) or ``transient_tau`` (``"v2"``).
        data_type
            ``"transfer"`` or ``"transient"``; only for such a file.
        include_workflow
            Add the parameters of the workflow as columns.
        """
        if self.has_features(version):
            frame: pd.DataFrame | None = self._v1_table(data_type)
        else:
            frame = self.get_v2_feature_dataframe(instead_of(version))
        if frame is not None and include_workflow:
            frame = frame.assign(**dict(self.entry.workflow))
        return frame

    def get_feature_matrix(
        self, version: str = "v1", data_type: str = "transfer"
    ) -> NDArray[np.float64] | None:
        """Return the features of :meth:`get_feature_dataframe` alone, None without any.

        Returns
        -------
        Shape (n_steps, n_features).
        """
        frame = self.get_feature_dataframe(version, data_type)
        return None if frame is None else frame.drop(columns="step_index").to_numpy(np.float64)

    def _records(self) -> list[FeatureRecord]:
        """Return the records, the newest first."""
        return sorted(self.catalog.features(self.entry.id), key=_time, reverse=True)

    def _existing(self) -> list[FeatureRecord]:
        """Return the records whose files exist, the newest first."""
        return [record for record in self._records() if record.path.exists()]

    def _paths(self, *, exist: bool) -> dict[Path, str]:
        return {r.path: r.config for r in self._records() if r.path.exists() or not exist}

    def _newest(self, config_name: str | None) -> Path | None:
        """Return the newest result file of a configuration, or of any."""
        records = [r for r in self._existing() if config_name in (None, r.config)]
        if records:
            return records[0].path
        if config_name is not None:
            # Another process wrote it, and has not recorded it yet.
            path = result_path(config_folder(self.features_root, config_name), self.entry.test_id)
            if path.exists():
                return path
        return None

    def _v1_file(self) -> Path:
        stem = "" if self.entry.path is None else self.entry.path.stem
        return self.features_v1_root / f"{stem.replace('-test_', '-feat_', 1)}.h5"

    def _v1_table(self, data_type: str) -> pd.DataFrame:
        import pandas as pd

        if not self._v1_file().exists():
            return pd.DataFrame()
        old = open_legacy_features(self._v1_file())
        if old.attrs.get("test_id") != self.entry.test_id:
            raise OutputError(
                f"{self._v1_file()}: belongs to test {old.attrs.get('test_id')!r}, not to "
                f"{self.entry.test_id!r}; move it away"
            )
        dim = "step" if data_type == "transfer" else "transient_entry"
        columns = {str(name): old[name].to_numpy() for name in old if dim in old[name].dims}
        n_rows = max((len(column) for column in columns.values()), default=0)
        return pd.DataFrame({"step_index": np.arange(n_rows)} | columns)


def _time(record: FeatureRecord) -> tuple[datetime, int]:
    # The time in a file is precise to the second.
    written = record.path.stat().st_mtime_ns if record.path.exists() else 0
    return record.created_at or datetime.min, written


def iso(moment: datetime | None) -> str | None:
    """Return a time as text."""
    return None if moment is None else moment.isoformat()


def _read_table(path: Path, names: str | Iterable[str] | None) -> pd.DataFrame:
    if path.exists() and read_metadata(path) is not None:
        return wide_frame(path, names=names)
    if not path.exists():
        raise OutputError(f"{path}: there is no such file")
    frame = read_legacy_table(path)
    groups = group_columns(str(name) for name in frame.columns if name != "step_index")
    return frame[["step_index", *select_columns(groups, names)]]
