"""Write the report of a batch as one HTML file."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files as package_files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from oectflow.atomic_write import atomic_write
from oectflow.errors import InputError, OectflowError, OutputError, StorageError
from oectflow.local_path import local_path
from oectflow.measurement import kinds
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.find import Experiments, find_experiments
from oectflow.pipeline.outputs.html import pictures, summary
from oectflow.pipeline.outputs.html.devices import Devices
from oectflow.pipeline.outputs.html.groups import LEVEL_NAMES, NAMES, groupings, statistics_of
from oectflow.pipeline.outputs.html.mark_table import MarkTable
from oectflow.pipeline.outputs.places import partition_of, result_path
from oectflow.pipeline.outputs.plots.axes import need_matplotlib, superscript
from oectflow.pipeline.outputs.plots.overview import Run
from oectflow.pipeline.outputs.results import open_results
from oectflow.pipeline.outputs.slides import write_decks
from oectflow.pipeline.outputs.states import RawFiles
from oectflow.pipeline.outputs.trouble import sum_up
from oectflow.place import fetch_ahead, place, snapshot

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

#: Raw files without results that are named.
_MOST_NAMED = 10


def report(
    results: str | os.PathLike[str] | xr.Dataset,
    out: str | os.PathLike[str] = "report.html",
    *,
    raw: Experiments | None = None,
    run: Run | None = None,
    title: str = "OECT measurements",
    slides: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    client: Client | None = None,
    progress: bool = True,
) -> Path:
    """Write a report of a batch: slides, or one HTML file that needs no other file and no network.

    The report lists the files, the computed features and the software versions.  It shows which
    values were flagged, failed or marked, and why, and defines every feature with its unit.  It has
    statistics over devices, batches and chips, pictures of every feature over all devices, pictures
    of every device with its worst fits, and the summary as a CSV file to save.

    Parameters
    ----------
    results
        Folder that :func:`oectflow.extract` has written, or a Dataset from
        :func:`oectflow.open_results`, or some of its experiments.
    out
        The HTML file; an existing one is replaced.  With a name that ends in ``.pptx``: a deck of
        slides of the chip.  If there are several chips, one deck for each is written into the
        folder ``out`` without the suffix.
    raw
        Raw files, folder or glob.  With them, the report shows transfer curves and fits.
    run
        The report that :func:`oectflow.extract` returned.  With it, raw files without results are
        listed, and the throughput is shown.
    title
        Title of the report.
    slides
        Slides of a deck: a YAML file like that of oect-infra, or its content.  By default, transfer
        curves, linear and logarithmic, the first and the last transient, films if ffmpeg is
        installed, and every feature.
    client
        A Dask client whose workers draw the devices.  They must see the results and the raw files
        under the same paths.  By default, this process draws the devices.
    progress
        Show a progress bar.

    Returns
    -------
    The file written, or the folder of the decks.

    Raises
    ------
    OutputError
        There are no results.
    InputError
        ``raw`` was given, but no file of it can be used.
    StorageError
        The file cannot be written; an existing file is unchanged.
    OectflowError
        matplotlib is not installed, or python-pptx, which slides need.
    """
    need_matplotlib()
    from jinja2 import Environment, StrictUndefined

    if isinstance(results, str | os.PathLike):
        results = open_results(results)
    source = snapshot(place(results.attrs["source"], OutputError))
    paths = [source] if source.is_file() else _paths_of(source, results)
    fetch_ahead(paths)
    found = [summary.read_file(path) for path in paths]
    folder = source.parent if source.is_file() else source
    experiments, unreadable = _raw_of(raw, folder) if raw is not None else ({}, [])
    features = summary.collect_features(found, results)
    target = (local_path if Path(out).suffix == ".pptx" else place)(out, StorageError)
    if target.suffix == ".pptx":
        drawn_of = [feature.name for feature in features if feature.has_one_unit]
        there = experiments if raw is not None else _recorded(found)
        return write_decks(results, target, there, drawn_of, slides, title)
    if slides is not None:
        raise OectflowError(f"{out}: slides= is for a name that ends in .pptx")
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters["unit"] = lambda unit: superscript(unit) or "1"
    environment.filters["name"] = lambda path: place(path).name
    text = package_files("oectflow.pipeline.outputs.html").joinpath("report.html.jinja")
    template = environment.from_string(text.read_text(encoding="utf-8"))
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
    rows: list[dict[str, Any]] = []
    with bar, Devices(found, features, rows, experiments, client) as devices:
        drawn = []
        marks, by = MarkTable(results, found), groupings(results)
        for feature in bar.track(features, description="features"):
            columns = (feature.name, f"{feature.name}_status", f"{feature.name}_mark")
            loaded = results[[name for name in columns if name in results]].load()
            rows += summary.statistics(loaded, feature)
            groups = list(statistics_of(loaded, feature, by))
            marks.count(loaded, feature.name)
            drawn.append((feature, list(pictures.of_feature(loaded, feature)), groups))
        context = {
            "title": title,
            "written": datetime.now().astimezone().isoformat(" ", "minutes"),
            "version": version("oectflow"),
            "source": source.name,
            "files": found,
            "kinds": [
                kind
                for kind in kinds()
                if any(kind in file.metadata["source"]["n_steps"] for file in found)
            ],
            "features": drawn,
            "troubles": sum_up((file.experiment_id, file.flags) for file in found),
            "marks": marks.rows,
            "versions": summary.versions(found),
            "configs": sorted({file.metadata["config"] for file in found}),
            "n_steps": sum(file.metadata["n_rows"] for file in found),
            "unreadable": _without_folders(
                [*results.attrs.get("unreadable", ()), *_without_results(run, unreadable)],
                [*paths, *_raw_paths(run, found), *(e.path for e in experiments.values())],
            ),
            "throughput": _throughput(run),
            "levels": LEVEL_NAMES,
            "by": " and ".join(NAMES[column] for column in by),
            "csv": base64.b64encode(summary.as_csv(rows).encode()).decode(),
            "devices": bar.track(devices, description="devices"),
        }
        return _write(target, template.generate(context))


def _raw_of(raw: Experiments, folder: Path) -> tuple[dict[str, Experiment], list[str]]:
    """Return the raw files by the id of their experiment, and why others have no results."""
    found: dict[str, Experiment] = {}
    reasons = []
    missing = []
    looked = RawFiles(folder)
    for path in find_experiments(raw):
        try:
            one = looked.look(path)
        except OectflowError as error:
            reasons.append(str(error))
            continue
        found[one.experiment.experiment_id] = one.experiment
        if one.damage:
            reasons.append(one.damage)
        elif one.metadata is None:
            missing.append(path.name)
    if not found:
        raise InputError(reasons[0])
    if missing:
        more = len(missing) - _MOST_NAMED
        named = ", ".join(missing[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        reasons.append(f"never extracted into {folder.name}: {named}")
    return found, reasons


def _recorded(found: Sequence[summary.File]) -> dict[str, Experiment]:
    """Return the raw files that the results name, those that can be read here."""
    experiments = {}
    for file in found:
        with suppress(InputError):
            experiments[file.experiment_id] = Experiment(file.metadata["source"]["path"])
    return experiments


def _without_results(run: Run | None, unreadable: Sequence[str]) -> list[str]:
    failed = [] if run is None else [r.reason for r in run.experiments if not r.out_path]
    return list(dict.fromkeys([*failed, *unreadable]))


def _raw_paths(run: Run | None, found: Sequence[summary.File]) -> list[Path]:
    named = [place(file.metadata["source"]["path"]) for file in found]
    return named + ([] if run is None else [place(record.path) for record in run.experiments])


def _without_folders(reasons: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Leave names of files: a report is sent on, and folders tell about a machine and its users."""
    folders = {
        f"{folder}{os.sep}" for path in paths for folder in (path.parent, *path.parents[1:3])
    }
    for folder in sorted(folders - {os.sep}, key=len, reverse=True):
        reasons = [reason.replace(folder, "") for reason in reasons]
    return list(reasons)


def _throughput(run: Run | None) -> pictures.Picture | None:
    if run is None or all(record.finished != record.finished for record in run.experiments):
        return None
    return pictures.of_run(run)


def _write(out: Path, parts: Iterator[str]) -> Path:
    """Write a file whole or not at all."""
    with (
        _explained(out),
        atomic_write(out) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        for part in parts:
            file.write(part)
    return out


@contextmanager
def _explained(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{out}: cannot be written ({error.strerror or error})") from error


def _paths_of(folder: Path, results: xr.Dataset) -> list[Path]:
    """Return the result files of experiments."""
    partition_by = partition_of(folder)
    keys = ("experiment", "chip_id", "device_id")
    return [
        result_path(folder, name, {"chip_id": chip, "device_id": device}, partition_by)
        for name, chip, device in zip(
            *(map(str, results[key].values.tolist()) for key in keys), strict=True
        )
    ]
