"""Pictures of the recorded steps of any kind of measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.errors import OectflowError
from oectflow.measurement import Kind, get_kind
from oectflow.pipeline.outputs.plots.axes import (
    colour_bar,
    count_axis,
    need_matplotlib,
    new_axes,
    room_for_units,
    set_unit,
    with_unit,
)
from oectflow.pipeline.outputs.plots.transfer import Measured, colour_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: More curves than this get a colour bar in the place of a legend.
_MOST_NAMES = 8


def plot_curves(
    experiment: Measured,
    kind: str,
    ax: Axes | None = None,
    *,
    steps: Sequence[int] | None = None,
    y: str = "",
) -> Axes:
    """Draw the curves of one kind of measurement: output, impedance, or any kind of a plug-in.

    Parameters
    ----------
    experiment
        A raw experiment.
    kind
        ``"output"``, ``"impedance"``, …
    ax
        Where to draw; by default a new figure.
    steps
        Which steps; by default all.
    y
        The array to draw; by default the one that the kind defines.

    Returns
    -------
    The axes, in the units of the arrays.  The colour shows the number in which the curves differ,
    such as the gate voltage of output curves, or else the step.

    Raises
    ------
    OectflowError
        The experiment has no step of this kind, or the kind has no such array.
    """
    need_matplotlib()
    try:
        declared = get_kind(kind)
        along, up = declared.array(declared.x), declared.array(y or declared.y)
    except ValueError as error:
        raise OectflowError(str(error)) from None
    n_steps = experiment.n_steps(kind)
    if not n_steps:
        raise OectflowError(f"{experiment.experiment_id}: has no {kind} step")
    chosen = list(range(n_steps)) if steps is None else list(steps)
    measured = [experiment.step(kind, index) for index in chosen]
    if not all(up.name in step for step in measured):
        raise OectflowError(f"{experiment.experiment_id}: {up.name} was not recorded")
    by, unit, numbers = _told_apart(declared, chosen, measured)
    ax = new_axes(ax, width=7.5)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    low, high = min(numbers), max(numbers)
    map_: Any = ScalarMappable(Normalize(low, high if high > low else low + 1), colour_map())
    for number, step in zip(numbers, measured, strict=True):
        name = f"{by} {number:g}" if by == "step" else f"{by} = {with_unit(number, unit)}"
        ax.plot(
            step[along.name], step[up.name], color=map_.to_rgba(number), linewidth=1.3, label=name
        )
    ax.set(xlabel=f"{along.description} {along.name}", ylabel=f"{up.description} {up.name}")
    ax.set_title(f"{declared.title}: {len(chosen)} of {n_steps}", fontsize="medium")
    set_unit(ax.xaxis, along.unit)
    room_for_units(ax)
    set_unit(ax.yaxis, up.unit)
    if len(chosen) <= _MOST_NAMES:
        ax.legend(frameon=False, fontsize="small")
    else:
        bar = colour_bar(ax, map_, by, unit=unit)
        if by == "step":
            count_axis(bar.ax.yaxis)
    return ax


def _told_apart(
    kind: Kind, chosen: Sequence[int], measured: Sequence[dict[str, Any]]
) -> tuple[str, str, list[float]]:
    """Return the name, the unit and the values of what tells the curves apart."""
    if kind.curve_by:
        numbers = [float(step[kind.curve_by]) for step in measured]
        if np.isfinite(numbers).all() and len(set(numbers)) > 1:
            return kind.curve_by, kind.value(kind.curve_by).unit, numbers
    return "step", "", [float(index) for index in chosen]
