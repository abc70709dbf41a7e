"""Films of the transfer curves of a device over its steps."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from oectflow.atomic_write import atomic_write
from oectflow.errors import InputError, OutputError, StorageError
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.find import Experiments, open_experiments
from oectflow.pipeline.outputs.places import result_path
from oectflow.pipeline.outputs.plots.axes import GREY, literal, need_matplotlib, set_unit
from oectflow.pipeline.outputs.plots.transfer import Branch, branches, draw_branch, label_right

if TYPE_CHECKING:
    from distributed import Client

_WRITERS = {".mp4": "ffmpeg", ".gif": "pillow"}
_DPI = 100
#: Steps in a film that are drawn behind the one shown, the newest darkest.
_TRAIL = 5
DeviceType = Literal["auto", "N", "P"]


def animate_transfer(
    raw: Experiments,
    out: str | os.PathLike[str] = "transfer.mp4",
    *,
    fps: int = 10,
    every: int = 1,
    device_type: DeviceType = "auto",
    client: Client | None = None,
    progress: bool = True,
) -> list[Path]:
    """Make a film of the transfer curves of each experiment, one picture per step.

    Parameters
    ----------
    raw
        A folder (searched with its subfolders), a glob, a file, an Experiment, or several of them.
    out
        File name of the film: ``.mp4``, which needs the program ffmpeg, or ``.gif``.  For several
        experiments, give the name of a folder with a suffix: ``films.gif`` makes
        ``films/<experiment id>.gif``.
    fps
        Pictures per second.
    every
        Show only each ``every``-th step.
    device_type
        Device type for the onset voltage that is marked, as in :func:`oectflow.plot_transfer`.
    client
        A Dask client.  Each of its workers makes one film at a time; all workers must see the raw
        files and ``out`` under the same paths.  By default, this process makes the films one after
        the other.
    progress
        Show a progress bar.

    Returns
    -------
    The films, in the order of the experiments.

    Raises
    ------
    OutputError
        The suffix is not one of these, or ffmpeg is not installed.
    InputError
        No experiment can be used, or it has no transfer step.
    StorageError
        A film cannot be written.  A film is written completely or not at all.
    OectflowError
        matplotlib is not installed.
    """
    need_matplotlib()
    target = Path(out).expanduser().absolute()
    if target.suffix not in _WRITERS:
        raise OutputError(f"{out}: a film ends in {' or '.join(_WRITERS)}")
    if fps < 1 or every < 1:
        raise OutputError(f"fps={fps}, every={every}: expected 1 or more")
    if client is None:
        need_writer(target.suffix)
    experiments, _ = open_experiments(raw)
    for experiment in experiments.values():
        if not experiment.n_steps("transfer"):
            raise InputError(f"{experiment.path}: has no transfer step")
    paths = [target]
    if len(experiments) > 1:
        folder = target.with_suffix("")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: cannot be made ({error.strerror})") from error
        # As the Parquet files are named, so that a film is found beside its results.
        paths = [result_path(folder, name).with_suffix(target.suffix) for name in experiments]
    jobs = [
        (str(experiment.path.absolute()), str(path), fps, every, device_type)
        for experiment, path in zip(experiments.values(), paths, strict=True)
    ]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        disable=not progress,
    )
    with bar:
        if client is not None:
            _on_cluster(jobs, client, bar)
            return paths
        n_frames = sum(len(_shown(e, every)) for e in experiments.values())
        task = bar.add_task("steps", total=n_frames)
        for job in jobs:
            for _ in film(*job):
                bar.advance(task)
    return paths


def need_writer(suffix: str) -> None:
    """Raise an error that says what to install if films of this kind cannot be written.

    Raises
    ------
    OutputError
        The program is missing.
    """
    from matplotlib.animation import FFMpegWriter

    if _WRITERS[suffix] == "ffmpeg" and not FFMpegWriter.isAvailable():
        raise OutputError(
            "films in .mp4 need the program ffmpeg, which is not installed here "
            "(apt install ffmpeg, conda install ffmpeg); name a file .gif to do without"
        )


def film(
    raw: str, out: str, fps: int, every: int, device_type: DeviceType = "auto"
) -> Iterator[int]:
    """Make one film; after every picture, yield the step that it shows.

    Parameters
    ----------
    raw
        The raw file.
    out, fps, every, device_type
        As in :func:`animate_transfer`.

    Raises
    ------
    StorageError
        The film cannot be written.
    """
    from matplotlib.animation import FFMpegWriter, PillowWriter
    from matplotlib.figure import Figure

    experiment = Experiment(raw)
    path = Path(out)
    need_writer(path.suffix)
    shown = _shown(experiment, every)
    name, n_steps = literal(experiment.experiment_id), experiment.n_steps("transfer")
    # Even numbers of pixels, which the codec wants.
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    ax = figure.add_subplot()
    right = ax.twinx()
    _prepare(ax, right, experiment, shown)
    writer: Any = (
        PillowWriter(fps=fps)
        if path.suffix == ".gif"
        else FFMpegWriter(fps=fps, codec="h264", extra_args=["-pix_fmt", "yuv420p"])
    )
    # The writer reads the kind of film off the name.
    try:
        with (
            atomic_write(path, path.suffix) as temporary,
            writer.saving(figure, str(temporary), _DPI),
        ):
            trail: list[list[Branch]] = []
            for step in shown:
                now = branches(experiment.step("transfer", step), device_type)
                _draw(ax, right, trail, now)
                ax.set_title(f"{name}, step {step} of 0 to {n_steps - 1}", fontsize="medium")
                writer.grab_frame()
                trail = [*trail, now][-_TRAIL:]
                yield step
    except subprocess.CalledProcessError as error:
        raise StorageError(f"{path}: ffmpeg cannot write it ({error})") from error
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or error})") from error


def make_film(raw: str, out: str, fps: int, every: int, device_type: DeviceType) -> int:
    """Make one film on a worker and return the number of its pictures."""
    return sum(1 for _ in film(raw, out, fps, every, device_type))


def _on_cluster(jobs: Sequence[tuple[Any, ...]], client: Client, bar: Progress) -> None:
    from distributed import as_completed

    futures = [client.submit(make_film, *job, key=f"film-{uuid.uuid4().hex}") for job in jobs]
    try:
        for future in bar.track(as_completed(futures), total=len(futures), description="films"):
            future.result()
    finally:
        # After an error the films that have not begun are not wanted.
        client.cancel(futures)


def _shown(experiment: Experiment, every: int) -> range:
    return range(0, experiment.n_steps("transfer"), every)


def _prepare(ax: Any, right: Any, experiment: Experiment, shown: range) -> None:
    """Set axes that stay the same through the whole film."""
    import numpy as np

    low = np.full(3, np.inf)
    high = -low
    for step in shown:
        data = experiment.step("transfer", step)
        magnitude = np.abs(data["Id"])
        magnitude = np.where(magnitude > 0, magnitude, np.nan)
        for k, values in enumerate((data["Vg"], data["Id"], magnitude)):
            finite = values[np.isfinite(values)]
            if finite.size:
                low[k], high[k] = min(low[k], finite.min()), max(high[k], finite.max())
    if not np.isfinite(low).all():
        raise InputError(f"{experiment.path}: no transfer step has a finite, nonzero current")
    margin = 0.04 * (high - low)
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
    label_right(right, "log")
    right.set_ylim(low[2] / 1.5, high[2] * 1.5)
    ax.set(xlabel=r"gate voltage $V_\mathrm{G}$", ylabel=r"drain current $I_\mathrm{D}$")
    set_unit(ax.xaxis, "V")
    set_unit(ax.yaxis, "A")


def _draw(ax: Any, right: Any, trail: Sequence[Sequence[Branch]], now: Sequence[Branch]) -> None:
    """Replace the curves: those of the steps before in grey, that of this step in colour."""
    for line in [*ax.lines, *right.lines]:
        line.remove()
    for age, before in enumerate(reversed(trail), start=1):
        for branch in before:
            (line,) = ax.plot(branch.Vg, branch.Id, color=GREY, linewidth=0.8)
            line.set_alpha(1 - age / (_TRAIL + 1))
    for branch in now:
        draw_branch(ax, right, branch, "#0072B2", right="log", marks=True)
