"""The pictures of a report as PNG; their size does not depend on the length of a measurement."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from oectflow.measurement import get_kind
from oectflow.pipeline.outputs.html.summary import FeatureSummary
from oectflow.pipeline.outputs.plots import (
    plot_chip,
    plot_curves,
    plot_degradation,
    plot_feature,
    plot_run,
    plot_transfer,
    plot_transient,
)
from oectflow.pipeline.outputs.plots.axes import (
    COLOURS,
    count_axis,
    set_unit,
    whole_ticks,
    widened,
    with_prefix,
)
from oectflow.pipeline.outputs.plots.choose import choose, spread
from oectflow.pipeline.outputs.plots.overview import Run
from oectflow.pipeline.outputs.plots.transfer import to_log
from oectflow.pipeline.outputs.trouble import GOOD

if TYPE_CHECKING:
    import xarray as xr

    from oectflow.pipeline.inputs.experiment import Experiment

_T = TypeVar("_T")

_DPI = 100
#: Of a picture (inches): half a page, and words that can be read on a phone.
_SIZE = (5.4, 3.9)
#: Of a small one, and where its axes are in it.
_SMALL = (2.6, 1.9)
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.58, 0.1, 0.4, 0.26
_COLUMNS = 4
#: Of more entries than this the legend is no line above the axes.
_MOST_ENTRIES = 4
#: Gate cycles of which the fits are drawn.
_CYCLES = 3
#: Of more steps than this the unflagged ones are no points but a line.
_MOST_POINTS = 40
#: Values are drawn on a logarithmic scale where they span more than this factor.
_TWO_DECADES = 100


@dataclass(frozen=True)
class Picture:
    """A picture with a text for readers who cannot see it."""

    png: bytes
    width: int
    height: int
    alt: str
    caption: str

    @property
    def uri(self) -> str:
        """The picture as ``data:`` address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


def take(figure: Any, alt: str, caption: str) -> Picture:
    """Draw a figure in 256 colours.  The file shrinks to a third, and the change is hardly seen."""
    return _packed(_drawn(figure), alt, caption)


def _drawn(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    # Not savefig, which draws twice where a layout is wanted, and packs what is unpacked again.
    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _packed(image: Any, alt: str, caption: str) -> Picture:
    from PIL import Image

    # Of Pillow's methods the one that keeps also colours that few pixels have.
    method = Image.Quantize.FASTOCTREE
    small = image.quantize(256, method, dither=Image.Dither.NONE)
    file = io.BytesIO()
    small.save(file, format="png", optimize=True)
    return Picture(file.getvalue(), small.width, small.height, alt, caption)


def _new_axes() -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=_SIZE, layout="constrained").add_subplot()


def _legend_below(ax: Any, n_columns: int) -> None:
    """Move a legend below the axes, which leaves them the whole width."""
    legend = ax.get_legend()
    words = [text.get_text() for text in legend.get_texts()]
    handles = legend.legend_handles
    legend.remove()
    ax.figure.legend(
        handles, words, loc="outside lower center", ncols=n_columns, frameon=False, fontsize="small"
    )


def of_feature(loaded: xr.Dataset, feature: FeatureSummary) -> Iterator[Picture]:
    """Draw a feature of all devices: against the step, and as a map of chips."""
    if not (feature.has_one_unit and feature.was_measured):
        return
    n = loaded.sizes["experiment"]
    for entry in feature.entries:
        name = " ".join((feature.name, *entry.values()))
        ax = plot_feature(loaded, feature.name, _new_axes(), **entry)
        low, high = ax.get_ylim()
        ax.set_ylim(widened(low, high))
        _legend_below(ax, 2)
        yield take(ax.figure, f"{name} against the step for {n} experiments", f"{name} by step")
        ax = plot_chip(loaded, feature.name, **entry)
        caption = f"{name} by device, over all its steps"
        yield take(ax.figure, f"Map of chips: {name} of each device", caption)


def of_device(one: xr.Dataset, features: Sequence[FeatureSummary]) -> Iterator[Picture]:
    """Draw the map of degradation of one experiment."""
    name = str(one["experiment"].item())
    if not one.sizes["step"]:
        return
    per_cycle = [f for f in _drawable(one, features) if {"cycle", "phase"} <= set(one[f.name].dims)]
    for feature in per_cycle[:1]:
        for entry in feature.entries:
            words = " ".join((feature.name, *entry.values()))
            ax = plot_degradation(one, feature.name, _new_axes(), **entry)
            yield take(
                ax.figure,
                f"{words} of {name} by step and cycle",
                f"{words} by step and cycle; grey: no value",
            )


def of_run(run: Run) -> Picture:
    """Draw the number of steps that a run has written over time."""
    ax = plot_run(run, _new_axes())
    alt = "Steps per second over the time of the run, by outcome"
    return take(ax.figure, alt, "Throughput of the run")


def of_sweeps(experiment: Experiment, device_type: Any) -> Iterator[Picture]:
    """Draw the transfer curves of one experiment, on a linear and on a logarithmic scale."""
    if not experiment.n_steps("transfer"):
        return
    for scale in ("linear", "logarithmic"):
        ax = plot_transfer(experiment, _new_axes(), right=None, device_type=device_type)
        if scale == "logarithmic":
            to_log(ax)
        _legend_below(ax, 4)
        yield take(
            ax.figure,
            f"Transfer curves of {experiment.experiment_id}, {scale}: drain current against gate "
            "voltage",
            f"Transfer curves, {scale}, with the largest transconductance and the onset voltage",
        )


def of_curves(experiment: Experiment) -> Iterator[Picture]:
    """Draw every kind of measurement that has no special picture."""
    for source in experiment.sources:
        if source not in ("transfer", "transient"):
            ax = plot_curves(experiment, source, _new_axes())
            title = get_kind(source).title
            yield take(ax.figure, f"{title} of {experiment.experiment_id}", title)


def of_fits(experiment: Experiment, one: xr.Dataset, fitted: str) -> Iterator[Picture]:
    """Draw fits of one transient step: those around the most flags, or the first."""
    n_steps = experiment.n_steps("transient")
    if not n_steps:
        return
    status = one[f"{fitted}_status"].isel(step=slice(n_steps)).transpose("step", "cycle", "phase")
    flagged = (~status.isin(GOOD)).values.sum(axis=2)
    step = int(np.argmax(flagged.sum(axis=1)))
    n = int(flagged[step].sum())
    used = np.flatnonzero((status.values[step] != "absent").any(axis=1))
    last = int(used[-1]) if len(used) else 0
    first = int(np.argmax(flagged[step])) - 1 if n else 0
    first = max(0, min(first, last - _CYCLES + 1))
    cycles = range(first, min(first + _CYCLES, last + 1))
    why = f"the one with most flags ({n})" if n else "the first"
    ax = plot_transient(experiment, one, step, _new_axes(), feature=fitted, cycles=cycles)
    _legend_below(ax, 3)
    yield take(
        ax.figure,
        f"Transient of {experiment.experiment_id}, step {step}: drain current against time, with "
        "fits and residuals",
        f"Fits of step {step}, {why}, cycles {first} to {cycles[-1]}. Above each window: time "
        "constant ± standard error and R², or why there is none",
    )


def _drawable(one: xr.Dataset, features: Sequence[FeatureSummary]) -> list[FeatureSummary]:
    """Return the features of which an experiment has a number, or a flag in place of one."""
    return [
        feature
        for feature in features
        if feature.has_one_unit
        and feature.name in one
        and (
            np.isfinite(one[feature.name].values).any()
            or (one[f"{feature.name}_status"] != "absent").any()
        )
    ]


def of_steps(one: xr.Dataset, features: Sequence[FeatureSummary]) -> Iterator[Picture]:
    """Draw every feature of one experiment against the step, each in a separate small picture."""
    drawn = _drawable(one, features) if one.sizes["step"] else []
    name = str(one["experiment"].item())
    alts = [f"{feature.name} of {name} against the step" for feature in drawn]
    yield from small_pictures(drawn, lambda ax, feature: _draw_steps(ax, one, feature), alts)


def small_pictures(
    drawn: Sequence[_T], draw: Callable[[Any, _T], None], alts: Sequence[str]
) -> Iterator[Picture]:
    """Draw each of several things in a separate small picture.

    Parameters
    ----------
    drawn
        The things to draw.
    draw
        Draws one of them on axes.
    alts
        A text for readers who cannot see the picture, for each thing.
    """
    from matplotlib.figure import Figure

    if not drawn:
        return
    width, height = _SMALL
    n_rows = math.ceil(len(drawn) / _COLUMNS)
    # Drawn at once and cut apart, which takes a fraction of the time of so many figures; the
    # constrained layout would take most of it.
    figure = Figure(figsize=(_COLUMNS * width, n_rows * height))
    places = []
    for i, one in enumerate(drawn):
        row, column = divmod(i, _COLUMNS)
        left, bottom = column * width, (n_rows - 1 - row) * height
        ax = figure.add_axes(
            (
                (left + _LEFT) / (_COLUMNS * width),
                (bottom + _BOTTOM) / (n_rows * height),
                (width - _LEFT - _RIGHT) / (_COLUMNS * width),
                (height - _BOTTOM - _TOP) / (n_rows * height),
            )
        )
        draw(ax, one)
        corner = (column * width, row * height, (column + 1) * width, (row + 1) * height)
        places.append(tuple(round(_DPI * length) for length in corner))
    image = _drawn(figure)
    for alt, place in zip(alts, places, strict=True):
        yield _packed(image.crop(place), alt, "")


def _draw_steps(ax: Any, one: xr.Dataset, feature: FeatureSummary) -> None:
    """Draw a feature against the step: medians over cycles, hollow where a value is flagged."""
    parts = []
    for entry in feature.entries:
        chosen = choose(one, feature.name, entry)
        values = chosen.values.isel(experiment=0).transpose("step", ...).values
        flagged = chosen.flagged.isel(experiment=0).transpose("step", ...).values
        _, middle, _ = spread(values.reshape(len(values), -1).astype(np.float64))
        parts.append((middle, flagged.reshape(len(flagged), -1).any(axis=1)))
    drawn = np.concatenate([middle for middle, _ in parts])
    drawn = drawn[np.isfinite(drawn)]
    log = bool(drawn.size and drawn.min() > 0 and drawn.max() > _TWO_DECADES * drawn.min())
    largest = float(np.abs(drawn).max()) if drawn.size else 0.0
    # On a logarithmic scale every tick has a prefix of its own.
    factor, unit = (1.0, "") if log else with_prefix(largest, feature.unit)
    steps = np.arange(one.sizes["step"])
    for entry, colour, (middle, marked) in zip(feature.entries, COLOURS, parts, strict=False):
        middle = middle / factor
        ax.plot(steps, middle, "-", color=colour, linewidth=1, label=" ".join(entry.values()))
        if len(steps) <= _MOST_POINTS:
            ax.plot(steps[~marked], middle[~marked], "o", color=colour, ms=2.5)
        ax.plot(steps[marked], middle[marked], "o", color=colour, mfc="white", ms=2.5)
    ax.set_xlabel("step", fontsize="small", labelpad=1)
    ax.tick_params(labelsize="small")
    ax.set_xlim(-0.5, len(steps) - 0.5)
    count_axis(ax.xaxis)
    ax.locator_params(axis="x", nbins=5)
    if log:
        ax.set_yscale("log")
        set_unit(ax.yaxis, feature.unit)
        # Its unit is in the title, where it is not in the ticks.
        unit = ax.get_ylabel().strip(" ()")
        ax.set_ylabel("")
    else:
        whole_ticks(ax.yaxis)
        if drawn.size:
            ax.set_ylim(widened(*ax.get_ylim()))
        else:
            ax.set_yticks([])
            ax.text(0.5, 0.5, "no number", transform=ax.transAxes, ha="center", fontsize="small")
    title = f"{feature.name} ({unit})" if unit else feature.name
    ax.set_title(title, fontsize="small", loc="left")
    if len(feature.entries) > 1:
        above: dict[str, Any] = {
            "loc": "lower right",
            "bbox_to_anchor": (1.02, 1.0),
            "ncols": _MOST_ENTRIES,
            "borderaxespad": 0.1,
            "columnspacing": 0.6,
            "handletextpad": 0.3,
        }
        few = len(feature.entries) <= _MOST_ENTRIES
        ax.legend(
            fontsize="x-small", handlelength=0.8, labelspacing=0.2, frameon=not few,
            **(above if few else {}),
        )  # fmt: skip
