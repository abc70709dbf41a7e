"""Pictures of transfer sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OectflowError, did_you_mean
from oectflow.extractors import get_extractor
from oectflow.extractors.kernels import sweep_errors, sweeps
from oectflow.pipeline.outputs.plots.axes import (
    colour_bar,
    count_axis,
    need_matplotlib,
    new_axes,
    room_for_units,
    set_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More sweeps than this in one picture cannot be told apart.
_MOST_STEPS = 10
_RIGHT = ("log", "gm")


class Measured(Protocol):
    """The part of an :class:`oectflow.Experiment` that a picture needs."""

    experiment_id: str

    def n_steps(self, source: str) -> int:
        """Return the number of steps of a source."""

    def step(self, source: str, index: int) -> dict[str, Any]:
        """Return the samples of a step."""


class Branch(NamedTuple):
    """One direction of a sweep: its points, and the points of largest |gm| and of the onset.

    Attributes
    ----------
    direction
        ``"forward"`` or ``"reverse"``.
    Vg, Id
        All points, in V and A; the reverse branch begins with the turning point.  Shape (m,).
    gm_at, gm
        |dId/dVg| in S, as ``transfer.gm_max`` computes it.  Shape (k,).
    gm_max, Von
        (Vg, Id) at these points; NaN if there is no such point.
    """

    direction: str
    Vg: NDArray[np.float64]
    Id: NDArray[np.float64]
    gm_at: NDArray[np.float64]
    gm: NDArray[np.float64]
    gm_max: tuple[float, float]
    Von: tuple[float, float]


def branches(step: dict[str, Any], device_type: Literal["auto", "N", "P"] = "auto") -> list[Branch]:
    """Split a sweep at its turning point, as the extractors do, and find its marked points.

    Parameters
    ----------
    step
        ``Vg`` (V) and ``Id`` (A).
    device_type
        As in ``transfer.Von``.
    """
    size = len(step["Vg"]) + 1
    Vg, Id, x, y = np.empty((4, size))
    n = sweeps.keep_finite(step["Vg"], step["Id"], Vg, Id)
    if n == 0:
        return []
    first, counts = sweeps.branches(step["Vg"], step["Id"], x, y)
    turn = first[1] - 1
    found = []
    for direction, begin, m, drawn in zip(
        ("forward", "reverse"), first, counts, (slice(0, turn + 1), slice(turn, n)), strict=True
    ):
        if m == 0:
            continue
        points = slice(begin, begin + m)
        gm = np.zeros(m)
        if m > 1:
            sweeps.derivative(y[points], x[points], sweep_errors.AUTO, gm)
        marked = {
            name: get_extractor(
                name, {"direction": direction, "device_type": device_type}
            ).extract_step(step)["value"]
            for name in ("transfer.gm_max_coords", "transfer.Von_coords")
        }
        found.append(
            Branch(
                direction,
                Vg[drawn],
                Id[drawn],
                x[points],
                np.abs(gm),
                tuple(marked["transfer.gm_max_coords"].tolist()),
                tuple(marked["transfer.Von_coords"].tolist()),
            )
        )
    return found


def plot_transfer(
    experiment: Measured,
    ax: Axes | None = None,
    *,
    steps: Sequence[int] | None = None,
    right: Literal["log", "gm"] | None = "log",
    marks: bool = True,
    device_type: Literal["auto", "N", "P"] = "auto",
) -> Axes:
    """Draw transfer sweeps of an experiment.

    Parameters
    ----------
    experiment
        A raw experiment.
    ax
        Where to draw; by default a new figure.
    steps
        Which transfer steps; by default all.  If there are more than ten, ten of them, evenly
        spaced from the first to the last.
    right
        Quantity on a second axis to the right, in thin lines: ``"log"``, |Id| on a logarithmic
        scale; ``"gm"``, |dId/dVg| as the extractors compute it; None, nothing.
    marks
        Mark the largest transconductance (circles) and the onset voltage (triangles), as
        ``transfer.gm_max_coords`` and ``transfer.Von_coords`` find them.
    device_type
        Device type for the onset, as in ``transfer.Von``.

    Returns
    -------
    The axes of the current, in A against V.  Forward sweeps are solid, reverse sweeps are dashed,
    and the colour shows the step.

    Raises
    ------
    OectflowError
        The experiment has no transfer step, or an argument is wrong.
    """
    need_matplotlib()
    n_steps = experiment.n_steps("transfer")
    if not n_steps:
        raise OectflowError(f"{experiment.experiment_id}: has no transfer step")
    if right is not None and right not in _RIGHT:
        raise OectflowError(f"right={right!r}{did_you_mean(str(right), _RIGHT)}")
    if steps is None:
        steps = np.unique(np.linspace(0, n_steps - 1, _MOST_STEPS).round().astype(int)).tolist()
    ax = new_axes(ax, width=7.5)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    map_: Any = ScalarMappable(Normalize(min(steps), max(*steps, min(steps) + 1)), colour_map())
    other = ax.twinx() if right else None
    for index in steps:
        colour = map_.to_rgba(index)
        for branch in branches(experiment.step("transfer", index), device_type):
            draw_branch(ax, other, branch, colour, right=right, marks=marks)
    title = f"{n_steps} transfer sweep" + "s" * (n_steps > 1)
    ax.set(xlabel=r"gate voltage $V_\mathrm{G}$", ylabel=r"drain current $I_\mathrm{D}$")
    ax.set_title(title if len(steps) == n_steps else f"{len(steps)} of {title}", fontsize="medium")
    set_unit(ax.xaxis, "V")
    room_for_units(ax)
    set_unit(ax.yaxis, "A")
    if other is not None:
        label_right(other, right)
    _legend(ax, right, marks)
    if len(steps) > 1:
        bar = colour_bar(ax, map_, "step", pad=0.02)
        count_axis(bar.ax.yaxis)
    return ax


def draw_branch(
    ax: Axes, other: Axes | None, branch: Branch, colour: Any, *, right: str | None, marks: bool
) -> None:
    """Draw one direction of one sweep, and the chosen quantity on the other axes."""
    style = "-" if branch.direction == "forward" else "--"
    ax.plot(branch.Vg, branch.Id, style, color=colour, linewidth=1.4)
    if other is not None and right == "log":
        other.plot(branch.Vg, np.abs(branch.Id), style, color=colour, linewidth=0.6, alpha=0.7)
    elif other is not None:
        other.plot(branch.gm_at, branch.gm, style, color=colour, linewidth=0.6, alpha=0.7)
    if marks:
        ax.plot(*branch.gm_max, "o", color=colour, markersize=5, markerfacecolor="white")
        on_log = other is not None and right == "log"
        place = (branch.Von[0], abs(branch.Von[1])) if on_log else branch.Von
        (other if on_log and other is not None else ax).plot(
            *place, "^", color=colour, markersize=5, markerfacecolor="white"
        )


def label_right(other: Axes, right: str | None) -> None:
    """Label the axis to the right."""
    if right == "log":
        other.set_yscale("log")
        other.set_ylabel(r"$|I_\mathrm{D}|$ (thin)")
        set_unit(other.yaxis, "A")
    else:
        other.set_ylabel(r"transconductance $|g_\mathrm{m}|$ (thin)")
        set_unit(other.yaxis, "S")
        other.set_ylim(bottom=0)


def to_log(ax: Axes) -> None:
    """Turn the currents of a picture into their absolute values on a logarithmic scale."""
    for line in ax.lines:
        current = np.abs(np.asarray(line.get_ydata(), np.float64))
        line.set_ydata(np.where(current > 0, current, np.nan))
    ax.relim()
    ax.set_yscale("log")
    ax.autoscale_view()
    ax.set_ylabel(r"$|I_\mathrm{D}|$")
    set_unit(ax.yaxis, "A")


def _legend(ax: Axes, right: str | None, marks: bool) -> None:
    from matplotlib.lines import Line2D

    line: dict[str, Any] = {"color": "black", "linewidth": 1.2}
    handles = [Line2D([], [], **line), Line2D([], [], linestyle="--", **line)]
    names = ["forward", "reverse"]
    if marks:
        for marker, name in (("o", r"$g_\mathrm{m,max}$"), ("^", r"$V_\mathrm{on}$")):
            handles.append(
                Line2D([], [], color="black", marker=marker, mfc="white", linestyle="none")
            )
            names.append(name + (", on the log curve" if marker == "^" and right == "log" else ""))
    # Above the data of either polarity there is no free corner that is always the same.
    ax.legend(
        handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=4, frameon=False
    )


def colour_map() -> Any:
    """Return the colours of steps: viridis without its light end, which is hard to see on white."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["viridis"](np.linspace(0, 0.92, 256)), "viridis, darker")
