"""The pictures of a report, as PNG: their size does not depend on how long was measured."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.measurement import get_kind
from oectflow.pipeline.outputs.html.summary import Feature
from oectflow.pipeline.outputs.plots import (
    plot_chip,
    plot_curves,
    plot_degradation,
    plot_feature,
    plot_transfer,
    plot_transient,
)
from oectflow.pipeline.outputs.plots.axes import COLOURS, count_axis, set_unit
from oectflow.pipeline.outputs.plots.choose import choose, spread

if TYPE_CHECKING:
    import xarray as xr

    from oectflow.pipeline.inputs.experiment import Experiment

_DPI = 88
_COLUMNS = 4
#: Of more steps than this the unflagged ones are no points but a line.
_MOST_POINTS = 40
#: The axis of values spans at least this share of the largest.
_LEAST_SPAN = 0.1
#: Values are drawn on a logarithmic scale where they span more than this factor.
_TWO_DECADES = 100


@dataclass(frozen=True)
class Picture:
    """A picture with what a reader who does not see it has to know."""

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
    """Draw a figure in 256 colours, which makes the file a third and is hardly seen."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    buffer.seek(0)
    with Image.open(buffer) as image:
        # Of Pillow's methods the one that keeps also colours that few pixels have.
        method = Image.Quantize.FASTOCTREE
        small = image.convert("RGB").quantize(256, method, dither=Image.Dither.NONE)
    file = io.BytesIO()
    small.save(file, format="png", optimize=True)
    return Picture(file.getvalue(), small.width, small.height, alt, caption)


def of_feature(loaded: xr.Dataset, feature: Feature) -> Iterator[Picture]:
    """Draw a feature of all devices: against the step, and as a map of chips."""
    if not feature.has_one_unit:
        return
    n = loaded.sizes["experiment"]
    for entry in feature.entries:
        name = " ".join((feature.name, *entry.values()))
        ax = plot_feature(loaded, feature.name, **entry)
        yield take(ax.figure, f"{name} against the step for {n} experiments", f"{name} by step")
        ax = plot_chip(loaded, feature.name, **entry)
        caption = f"{name} by device, median over its steps"
        yield take(ax.figure, f"Map of chips: {name} of each device", caption)


def of_device(one: xr.Dataset, features: Sequence[Feature]) -> Iterator[Picture]:
    """Draw the features of one experiment against the step, and its map of degradation."""
    name = str(one["experiment"].item())
    if not one.sizes["step"]:
        return
    drawn = [f for f in features if f.has_one_unit and f.name in one]
    if drawn:
        yield take(
            _panels(one, drawn),
            f"Features of {name} against the step: {', '.join(f.name for f in drawn)}",
            "Features by step: medians over cycles, hollow where a value is flagged",
        )
    per_cycle = [f for f in drawn if {"cycle", "phase"} <= set(one[f.name].dims)]
    for feature in per_cycle[:1]:
        for entry in feature.entries:
            words = " ".join((feature.name, *entry.values()))
            ax = plot_degradation(one, feature.name, **entry)
            yield take(
                ax.figure, f"{words} of {name} by step and cycle", f"{words} by step and cycle"
            )


def of_sweeps(experiment: Experiment, device_type: Any) -> Iterator[Picture]:
    """Draw the transfer curves of one experiment."""
    if experiment.n_steps("transfer"):
        ax = plot_transfer(experiment, device_type=device_type)
        yield take(
            ax.figure,
            f"Transfer curves of {experiment.experiment_id}: drain current against gate voltage",
            "Transfer curves, with the largest transconductance and the onset voltage",
        )


def of_curves(experiment: Experiment) -> Iterator[Picture]:
    """Draw every kind of measurement that has no picture of its own."""
    for source in experiment.sources:
        if source not in ("transfer", "transient"):
            ax = plot_curves(experiment, source)
            title = get_kind(source).title
            yield take(ax.figure, f"{title} of {experiment.experiment_id}", title)


def of_fits(experiment: Experiment, one: xr.Dataset, fitted: str) -> Iterator[Picture]:
    """Draw the fits of one transient step: the one with most flags, or the first."""
    n_steps = experiment.n_steps("transient")
    if not n_steps:
        return
    status = one[f"{fitted}_status"]
    flagged = ~status.isin(("ok", "absent"))
    n = flagged.sum([dim for dim in status.dims if dim != "step"]).values[:n_steps]
    step = int(np.argmax(n))
    why = f"the one with most flags ({n[step]})" if n[step] else "the first"
    cycles = range(min(3, one.sizes["cycle"]))
    ax = plot_transient(experiment, one, step, feature=fitted, cycles=cycles)
    yield take(
        ax.figure,
        f"Transient of {experiment.experiment_id}, step {step}: drain current against time, with "
        "fits and residuals",
        f"Fits of step {step}, {why}",
    )


def _not_too_near(ax: Any, low: float, high: float) -> None:
    """Keep a change of a per cent from filling the axes, and ticks from being told as ``+1``."""
    ax.ticklabel_format(axis="y", useOffset=False)
    least = _LEAST_SPAN * max(abs(low), abs(high))
    if high - low < least:
        middle = (low + high) / 2
        ax.set_ylim(middle - least / 2, middle + least / 2)


def _panels(one: xr.Dataset, features: Sequence[Feature]) -> Any:
    """Draw every feature on small axes of its own."""
    from matplotlib.figure import Figure

    n_rows = math.ceil(len(features) / _COLUMNS)
    height = 1.85 * n_rows + 0.3
    figure = Figure(figsize=(10.6, height))
    # Of so many axes the constrained layout would take most of the time of a report.
    figure.subplots_adjust(
        left=0.075,
        right=0.99,
        wspace=0.48,
        hspace=0.42,
        top=1 - 0.25 / height,
        bottom=0.42 / height,
    )
    axes = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for ax, feature in zip(axes, features, strict=False):
        for entry, colour in zip(feature.entries, COLOURS, strict=False):
            chosen = choose(one, feature.name, entry)
            values = chosen.values.isel(experiment=0).transpose("step", ...).values
            flagged = chosen.flagged.isel(experiment=0).transpose("step", ...).values
            _, middle, _ = spread(values.reshape(len(values), -1).astype(np.float64))
            marked = flagged.reshape(len(flagged), -1).any(axis=1)
            steps = np.arange(len(values))
            ax.plot(steps, middle, "-", color=colour, linewidth=1, label=" ".join(entry.values()))
            if len(steps) <= _MOST_POINTS:
                ax.plot(steps[~marked], middle[~marked], "o", color=colour, ms=2.5)
            ax.plot(steps[marked], middle[marked], "o", color=colour, mfc="white", ms=2.5)
        ax.set_title(feature.name, fontsize="small")
        ax.tick_params(labelsize="small")
        count_axis(ax.xaxis)
        drawn = np.concatenate([line.get_ydata() for line in ax.lines])
        drawn = drawn[np.isfinite(drawn)]
        if drawn.size and drawn.min() > 0 and drawn.max() > _TWO_DECADES * drawn.min():
            ax.set_yscale("log")
        elif drawn.size:
            _not_too_near(ax, float(drawn.min()), float(drawn.max()))
        set_unit(ax.yaxis, feature.unit)
        if len(feature.entries) > 1:
            ax.legend(fontsize="x-small", handlelength=1, labelspacing=0.2)
    for ax in axes[len(features) :]:
        ax.set_axis_off()
    for ax in axes[max(0, len(features) - _COLUMNS) : len(features)]:
        ax.set_xlabel("step", fontsize="small")
    return figure
