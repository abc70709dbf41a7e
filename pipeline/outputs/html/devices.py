"""Sections of devices, drawn one after the other, or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from oectflow.errors import OectflowError
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.outputs.html import pictures
from oectflow.pipeline.outputs.html.summary import FeatureSummary, File, readable
from oectflow.pipeline.outputs.html.worst import Worst, of_worst, worst_fits
from oectflow.pipeline.outputs.results import open_results

if TYPE_CHECKING:
    from distributed import Client

_TIMING = ("sampling_interval", "gate_period")


class Drawn(NamedTuple):
    """The pictures of one experiment.

    Attributes
    ----------
    pictures, small
        Pictures of half a page each, and one small picture for every feature.
    notes
        Why there are no pictures of its raw file.
    worst, worst_small
        The worst fits, and a picture of each if the raw file exists.
    """

    pictures: list[pictures.Picture]
    small: list[pictures.Picture]
    notes: list[str]
    worst: list[Worst]
    worst_small: list[pictures.Picture]


class Devices:
    """The sections of a report, each made on request; workers begin at once.

    Parameters
    ----------
    files
        The result files.
    features
        Features to draw for each experiment.
    rows
        The summary of all experiments; it must be complete when the first section is requested.
    raw
        Existing raw experiments by their id.
    client
        Client whose workers draw; None draws in this process.
    """

    def __init__(
        self,
        files: Sequence[File],
        features: Sequence[FeatureSummary],
        rows: Sequence[Mapping[str, Any]],
        raw: Mapping[str, Experiment],
        client: Client | None,
    ) -> None:
        self._files, self._features, self._rows = files, features, rows
        self._raw = [raw.get(file.experiment_id) for file in files]
        self._futures: list[Any] = []
        if client is not None:
            asked = [list(features)] * len(files)
            self._futures = client.map(draw, files, asked, self._raw, pure=False)
        self._client = client

    def __enter__(self) -> Devices:
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            # After an error nobody wants the rest.
            self._client.cancel(self._futures)

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        by_experiment: dict[str, list[Mapping[str, Any]]] = {}
        for row in self._rows:
            by_experiment.setdefault(row["experiment_id"], []).append(row)
        drawn: Iterator[Drawn]
        if self._client is None:
            both = zip(self._files, self._raw, strict=True)
            drawn = (draw(file, self._features, raw) for file, raw in both)
        else:
            drawn = (future.result() for future in self._futures)
        for file, shown in zip(self._files, drawn, strict=True):
            rows = by_experiment[file.experiment_id]
            there = [row for row in rows if row["n_values"] or row["n_flagged"]]
            yield {
                "file": file,
                "drawn": shown,
                "rows": readable(there),
                "without": sorted(
                    {row["feature"] for row in rows} - {row["feature"] for row in there}
                ),
            }


def draw(file: File, features: Sequence[FeatureSummary], raw: Experiment | None) -> Drawn:
    """Return the pictures of one experiment."""
    import dask

    about = file.metadata["features"]
    fitted = next((name for name in about if _extractor(about[name]) == "transient.tau_on_off"), "")
    one = open_results(file.path)
    wanted = [n for f in features for n in _of(f.name) if n in one]
    if fitted:
        wanted += [n for n in map(str, one) if n in _TIMING or n.startswith(f"{fitted}_")]
    # In a task of a worker, the default scheduler would send the reading to the cluster, and wait.
    with dask.config.set(scheduler="synchronous"):
        one = one[list(dict.fromkeys(wanted))].isel(experiment=0).load()
    drawn: list[pictures.Picture] = []
    fits: list[pictures.Picture] = []
    worst = worst_fits(one, fitted) if fitted else []
    notes = []
    try:
        if raw is not None:
            drawn += pictures.of_sweeps(raw, _device_type(file))
            drawn += pictures.of_curves(raw)
        if raw is not None and fitted:
            drawn += pictures.of_fits(raw, one, fitted)
            fits += of_worst(raw, one, fitted, worst)
    except OectflowError as error:
        notes.append(str(error))
    drawn += pictures.of_device(one, features)
    return Drawn(drawn, list(pictures.of_steps(one, features)), notes, worst, fits)


def _of(name: str) -> tuple[str, ...]:
    return name, f"{name}_status", f"{name}_mark"


def _extractor(about: Mapping[str, Any]) -> str:
    return about["extractor"] or ""


def _device_type(file: File) -> str:
    """Return the device type with which the onset was computed, where that is one."""
    types = {
        about["params"].get("device_type", "auto")
        for about in file.metadata["features"].values()
        if _extractor(about).startswith("transfer.Von")
    }
    return types.pop() if len(types) == 1 else "auto"
