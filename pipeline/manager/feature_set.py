"""A feature set that can be bound to an experiment, computed, and saved as a configuration."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ConfigError, OutputError
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.features.config import load_config
from oectflow.pipeline.features.drawing import FeatureGraph
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.manager.computed import ComputedFeatures
from oectflow.pipeline.manager.extraction import check_record
from oectflow.pipeline.manager.saving import appended, as_text, write_config
from oectflow.pipeline.outputs.legacy import read_legacy_table
from oectflow.pipeline.outputs.wide import config_folder, read_values, wide_frame, write_frame

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

_USER_FOLDER = "~/.my_features"


class Catalogued(Protocol):
    """The part of a catalog's experiment that a feature set needs."""

    features: ComputedFeatures

    @property
    def data(self) -> Experiment:
        """The raw file, opened."""


RawFile = Experiment | Catalogued | str | os.PathLike[str]


class FeatureSet(FeatureList):
    """An ordered collection of features, and, with an experiment, their values.

    Results from the same raw file with the same definition are not computed again.  For an
    experiment of a catalog, this includes all earlier sessions; for a file, all calls since this
    object was made.

    Parameters
    ----------
    name
        Used in the results and in messages.  An :class:`Experiment` is taken as ``experiment``.
    description
        One line for people.
    experiment
        A raw file.  From an experiment of a catalog, its raw file is taken.
    unified_experiment
        An experiment of a catalog.  Results are kept in the folder ``roots.features_v2`` of its
        configuration, and recorded in the catalog.
    config_name
        Another name of the parameter ``name``.
    config_version
        Version in the configuration that :meth:`save_as_config` writes.

    Examples
    --------
    >>> features = FeatureSet("mine")
    >>> features = features.add("gm", extractor="transfer.gm_max", input="transfer")
    >>> print(features.visualize_graph())
    FeatureSet 'mine'
      gm ← transfer: transfer.gm_max
    """

    def __init__(
        self,
        name: str | Experiment = "inline_config",
        description: str = "",
        *,
        experiment: RawFile | None = None,
        unified_experiment: Catalogued | None = None,
        config_name: str | None = None,
        config_version: str = "1.0",
    ) -> None:
        if isinstance(name, Experiment):
            # Existing notebooks give the experiment first.
            name, experiment = "inline_config", name
        if not isinstance(name, str):
            raise ConfigError(
                f"FeatureSet({type(name).__name__}): the name is text; an experiment is given as "
                "experiment=…, one of a catalog as unified_experiment=…"
            )
        super().__init__(config_name or name, description)
        self.config_version = config_version
        self.unified_experiment = unified_experiment
        self._bound: Experiment | None = None
        self._folder: Path | None = None
        self._record: ExperimentRecord | None = None
        self._total_ms = 0.0
        if experiment is not None:
            self.set_experiment(experiment)

    @classmethod
    def from_config(
        cls,
        config_path: str | os.PathLike[str] | Mapping[str, Any],
        experiment: RawFile | None = None,
        unified_experiment: Catalogued | None = None,
    ) -> Self:
        """Build a feature set from a configuration, bound to an experiment if one is given.

        Parameters
        ----------
        config_path
            Name of a bundled configuration, path of a YAML or JSON file, or a dict.
        experiment, unified_experiment
            As for the class.

        Raises
        ------
        ConfigError
            The message names configuration, feature and remedy.
        """
        source = config_path if isinstance(config_path, Mapping) else _path_or_name(config_path)
        config = load_config(source)
        declared = FeatureList.load(source)
        features = cls(
            declared.name,
            declared.description,
            experiment=experiment,
            unified_experiment=unified_experiment,
            config_version=config.config_version,
        )
        features._adopt(declared)
        return features

    def set_experiment(self, experiment: RawFile) -> None:
        """Bind the set to a raw file, and forget the results of another one.

        Raises
        ------
        ConfigError
            The argument is neither an experiment nor a path.
        InputError
            It cannot be read.
        """
        # Existing scripts give what a search of the catalog returned.
        raw = getattr(experiment, "data", experiment)
        if not isinstance(raw, Experiment | str | os.PathLike):
            raise ConfigError(
                f"experiment={experiment!r}: expected an experiment, or the path of a raw file"
            )
        self._bound = raw if isinstance(raw, Experiment) else Experiment(raw)
        self._record = None

    @property
    def graph(self) -> FeatureGraph:
        """The graph of features and their inputs; ``graph.nodes`` are the features by name."""
        return FeatureGraph(self.name, self.features)

    def visualize_graph(self) -> FeatureGraph:
        """Return the graph: a picture in a notebook if Graphviz is installed, else text."""
        return self.graph

    def compute(self, *, client: Client | None = None) -> dict[str, NDArray[Any]]:
        """Compute the features that are not known yet, and return all features.

        Parameters
        ----------
        client
            As for :func:`oectflow.extract`.

        Returns
        -------
        Arrays by feature, shape (n_steps, …), in the units of :attr:`variables`.  A feature that
        could not be computed for a step is NaN there, with a warning.

        Raises
        ------
        ConfigError
            No experiment, or no feature, was given.
        RunFailed
            The raw file cannot be read.
        StorageError
            The results cannot be written.
        """
        values, _, _ = read_values(self._computed(client, told=True), self.features)
        return {name: values[name] for name in self.features}

    def to_dataframe(self, expand_multidim: bool = True) -> pd.DataFrame:
        """Return the features as a table; compute those that are missing.

        Parameters
        ----------
        expand_multidim
            Make one column for each value (``cycles_0``, ``cycles_1``, …), otherwise one column of
            arrays.

        Returns
        -------
        ``step_index`` and the features; ``attrs["units"]`` has the unit of each feature.
        """
        path = self._computed()
        frame = wide_frame(path, self.features, list(self.features))
        if expand_multidim:
            return frame
        import pandas as pd

        values, _, _ = read_values(path, self.features)
        columns = {name: pd.Series(list(values[name])) for name in self.features}
        whole = pd.DataFrame({"step_index": frame["step_index"]} | columns)
        whole.attrs = frame.attrs
        return whole

    def to_parquet(
        self,
        output_path: str | os.PathLike[str],
        merge_existing: bool = False,
        save_metadata: bool = True,
    ) -> None:
        """Write the table of :meth:`to_dataframe` to a Parquet file, completely or not at all.

        Parameters
        ----------
        output_path
            The file.
        merge_existing
            Keep the columns of an existing file, except those that are written now.
        save_metadata
            Save ``attrs`` with units and origin; pandas reads them back.

        Raises
        ------
        OutputError
            The existing file has other steps, or cannot be read; it is not changed.
        StorageError
            The file cannot be written.
        """
        path = Path(output_path)
        frame = self.to_dataframe()
        about = dict(frame.attrs)
        if merge_existing and path.exists():
            earlier = read_legacy_table(path)
            if not np.array_equal(earlier["step_index"], frame["step_index"]):
                raise OutputError(
                    f"{path}: has {len(earlier)} steps, the features {len(frame)}; they cannot be "
                    "merged, write to another file"
                )
            about = _merged(earlier.attrs, about)
            others = [name for name in earlier.columns if name not in frame.columns]
            frame = earlier[["step_index", *others]].join(frame.drop(columns="step_index"))
        frame.attrs = about if save_metadata else {}
        write_frame(frame, path)

    def get_statistics(self) -> dict[str, Any]:
        """Return numbers about the last :meth:`compute`.

        Returns
        -------
        ``total_features``; ``cache_hits``, features that were known; ``cache_misses``, features
        that were computed; ``total_time_ms``, wall time; ``avg_time_per_feature_ms`` and
        ``slowest_feature``, of the worker time of extracted features.

        Raises
        ------
        ConfigError
            Nothing has been computed.
        """
        if self._record is None:
            raise ConfigError(f"config {self.name!r}: nothing is computed yet; call compute()")
        hits = [name for name in self._record.reused if name in self.features]
        times = {name: 1e3 * seconds for name, seconds in self._record.seconds.items()}
        slowest = max(times, key=times.__getitem__, default=None)
        return {
            "total_features": len(self),
            "total_time_ms": self._total_ms,
            "cache_hits": len(hits),
            "cache_misses": len(self) - len(hits),
            "avg_time_per_feature_ms": sum(times.values()) / len(times) if times else 0.0,
            "slowest_feature": None
            if slowest is None
            else {"name": slowest, "time_ms": times[slowest]},
        }

    def save_as_config(
        self,
        config_name: str,
        save_parquet: bool = True,
        append: bool = False,
        config_dir: str | os.PathLike[str] = "user",
        description: str = "",
    ) -> dict[str, Any]:
        """Write the set as a configuration file, and compute its features.

        A lambda is saved as text and then has the meaning of this text: aggregates skip NaN.
        Afterwards, this set has the content of the file.

        Parameters
        ----------
        config_name
            Name of the configuration and of its file.
        save_parquet
            Compute the features for an experiment of a catalog, so that they exist under the new
            name.
        append
            Add to the existing configuration; features of the same name are replaced, and the minor
            version is increased by one.
        config_dir
            A folder; ``"user"`` is ``~/.my_features``.
        description
            One line for people.

        Returns
        -------
        ``config_file``, ``parquet_file`` (None without an experiment of a catalog),
        ``features_added`` (new or changed) and ``config_version``.

        Raises
        ------
        ConfigError
            A Python function cannot be saved as text, or the result is not a valid configuration;
            no file is written.
        """
        if config_dir == "global":
            raise ConfigError(
                "config_dir='global': the installed package is no place for configurations; "
                "name a folder that all users can read"
            )
        folder = Path(_USER_FOLDER if config_dir == "user" else config_dir).expanduser()
        path = folder / f"{config_name}.yaml"
        content = as_text(self) | {"name": config_name, "config_version": self.config_version}
        if description or self.description:
            content["description"] = description or self.description
        added = [entry["name"] for entry in content["features"]]
        if append and path.exists():
            content, added = appended(path, content)
        declared = FeatureList.load(content)
        write_config(path, content)
        self.name, self.description = config_name, declared.description
        self.config_version = content["config_version"]
        self._adopt(declared)
        keep = save_parquet and self.unified_experiment is not None
        return {
            "config_file": str(path),
            "parquet_file": str(self._computed()) if keep else None,
            "features_added": added,
            "config_version": self.config_version,
        }

    def _computed(self, client: Client | None = None, *, told: bool = False) -> Path:
        """Return the result file, brought up to date; ``told`` if somebody asked to compute."""
        if not self.features:
            raise ConfigError(f"config {self.name!r}: there is no feature; add one")
        unified = self.unified_experiment
        if unified is not None:
            raw = unified.data.path
            folder = config_folder(unified.features.features_root, self.name)
        elif self._bound is not None:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="oectflow-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            raw, folder = self._bound.path, self._folder
        else:
            raise ConfigError(
                f"config {self.name!r}: there is no experiment; give experiment=… or "
                "unified_experiment=…"
            )
        report = extract(raw, self, folder, client=client, progress=False, expand_multidim=True)
        (record,) = report.experiments
        check_record(record)
        # A table of what compute() has computed is no computation: its statistics stay.
        if told or self._record is None or record.seconds:
            self._record, self._total_ms = record, 1e3 * report.seconds
        if unified is not None:
            unified.features.record(record)
        return Path(record.out_path)

    def _adopt(self, declared: FeatureList) -> None:
        state = declared.__dict__
        self.__dict__.update({k: state[k] for k in ("_features", "_derived", "_fingerprints")})

    def __getstate__(self) -> dict[str, Any]:
        # Workers need to know what to compute; the experiment and its catalog stay here.
        left = {"unified_experiment": None, "_bound": None, "_folder": None, "_record": None}
        return super().__getstate__() | left


def _path_or_name(config: str | os.PathLike[str]) -> str | Path:
    return config if isinstance(config, str) else Path(config)


def _merged(earlier: Mapping[Any, Any], about: Mapping[Any, Any]) -> dict[Any, Any]:
    """Put together what two tables carry along: the newer wins, words by feature are joined."""
    merged = {**earlier, **about}
    for key in ("units", "axes", "labels"):
        merged[key] = {**earlier.get(key, {}), **about.get(key, {})}
    return merged
