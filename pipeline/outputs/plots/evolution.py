"""Pictures of features over steps and cycles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OutputError, did_you_mean
from oectflow.pipeline.outputs.plots.axes import (
    COLOURS,
    GREY,
    RED,
    colour_bar,
    count_axis,
    literal,
    need_matplotlib,
    new_axes,
    set_unit,
    whole_ticks,
)
from oectflow.pipeline.outputs.plots.choose import (
    choose,
    device_names,
    one_experiment,
    spread,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def plot_feature(
    results: xr.Dataset,
    feature: str,
    ax: Axes | None = None,
    *,
    along: Literal["step", "cycle"] = "step",
    normalise: bool = False,
    **selection: Any,
) -> Axes:
    """Draw a feature against the step, or against the cycle, for every experiment in ``results``.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, with the experiments to compare.
    feature
        Name of a variable.
    ax
        Where to draw; by default a new figure.
    along
        ``"step"`` or ``"cycle"``.  The picture shows the median over the other one, and the band
        from the 10th to the 90th percentile.
    normalise
        Divide by each device's first value.
    selection
        Entries along axes, such as ``phase="on"`` or ``step=3``.

    Returns
    -------
    The axes.  Hollow points have a status word other than ``ok`` and ``absent`` (in a median, at
    least one value has).  Crosses at the lower edge stand for values that are missing for such a
    reason.  With more than eight devices, the colour shows the chip, and there are no bands.

    Raises
    ------
    OutputError
        There is no such variable or entry, or you must choose one entry of an axis.
    """
    need_matplotlib()
    if along not in ("step", "cycle"):
        raise OutputError(f"along={along!r}{did_you_mean(along, ('step', 'cycle'))}")
    chosen = choose(results, feature, selection)
    if along not in chosen.values.dims:
        raise OutputError(f"{feature!r} has no axis {along!r} to draw it along")
    ax = new_axes(ax, width=8)
    rest = [dim for dim in chosen.values.dims if dim not in ("experiment", along)]
    values = chosen.values.transpose("experiment", along, *rest).values
    flagged = chosen.flagged.transpose("experiment", along, *rest).values
    x = chosen.values[along].values
    n = len(values)
    colours, names = _colours(chosen.values)
    for i in range(n):
        _draw_device(
            ax,
            x,
            values[i].reshape(len(x), -1),
            flagged[i].reshape(len(x), -1),
            colours[i],
            label=names[i],
            normalise=normalise,
            many=n > len(COLOURS),
        )
    ax.set(xlabel=along, ylabel=chosen.label + ", relative to the first value" * normalise)
    if chosen.description:
        ax.set_title(chosen.description, fontsize="medium", wrap=True)
    count_axis(ax.xaxis)
    if not normalise:
        set_unit(ax.yaxis, chosen.unit)
    else:
        whole_ticks(ax.yaxis)
    _legend(ax, "cycles" if along == "step" else "steps")
    return ax


def plot_degradation(
    results: xr.Dataset,
    feature: str,
    ax: Axes | None = None,
    *,
    normalise: bool = False,
    **selection: Any,
) -> Axes:
    """Draw a feature of one experiment as a map: step to the right, cycle upwards.

    Parameters
    ----------
    results
        Results of one experiment.
    feature
        Name of a variable with a value per cycle.
    ax
        Where to draw; by default a new figure.
    normalise
        Divide by the first value.
    selection
        Entries along other axes, such as ``phase="on"``.

    Returns
    -------
    The axes.  Crosses mark values with a status word other than ``ok`` and ``absent``; grey means
    no value.

    Raises
    ------
    OutputError
        There are several experiments, no such variable, or it has no value per cycle.
    """
    need_matplotlib()
    one = one_experiment(results)
    chosen = choose(one, feature, selection)
    if set(chosen.values.dims) != {"experiment", "step", "cycle"}:
        raise OutputError(f"{feature!r} has no value per step and cycle; use plot_feature")
    values = chosen.values.isel(experiment=0).transpose("cycle", "step").values.astype(np.float64)
    flagged = chosen.flagged.isel(experiment=0).transpose("cycle", "step").values
    # Results hold as many cycles as the longest variable has.
    used = np.flatnonzero((np.isfinite(values) | flagged).any(axis=1))
    n_cycles = used[-1] + 1 if len(used) else 1
    values, flagged = values[:n_cycles], flagged[:n_cycles]
    if normalise:
        values = values / _first(values.T.ravel())
    ax = new_axes(ax)
    ax.set_facecolor("#dddddd")
    mesh = ax.pcolormesh(
        np.arange(values.shape[1] + 1) - 0.5,
        np.arange(n_cycles + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap="viridis",
    )
    if flagged.any():
        cycle, step = np.nonzero(flagged)
        ax.plot(step, cycle, "x", color=RED, markersize=4, label="flagged")
        ax.legend(loc="upper right")
    ax.set(xlabel="step", ylabel="cycle")
    ax.set_title(device_names(chosen.values)[0], fontsize="medium")
    count_axis(ax.xaxis)
    count_axis(ax.yaxis)
    label = chosen.label + ", relative to the first value" * normalise
    colour_bar(ax, mesh, label, unit="" if normalise else chosen.unit)
    return ax


def plot_bands(
    results: xr.Dataset,
    ax: Axes | None = None,
    *,
    feature: str = "dwt",
    relative: bool = False,
) -> Axes:
    """Draw the energy of each wavelet band of one experiment against the step.

    Parameters
    ----------
    results
        Results of one experiment.
    ax
        Where to draw; by default a new figure.
    feature
        Name of the feature computed by ``transient.dwt``.
    relative
        Draw shares of the energy of all bands instead of A².

    Returns
    -------
    The axes, logarithmic.  Hollow points have a status word other than ``ok`` and ``absent``.

    Raises
    ------
    OutputError
        There are several experiments, or no such feature.
    """
    need_matplotlib()
    name = f"{feature}_relative_energy" if relative else feature
    one = one_experiment(results)
    if name in one and "band" not in one[name].dims:
        raise OutputError(f"{feature!r} is no feature of transient.dwt")
    chosen = choose(one, name, {}, ("step", "band"))
    ax = new_axes(ax, width=8)
    flagged = chosen.flagged.isel(experiment=0)
    for band, colour in zip(chosen.values["band"].values, COLOURS, strict=False):
        y = chosen.values.isel(experiment=0).sel(band=band).values
        marked = flagged.sel(band=band).values
        line: dict[str, Any] = {"color": colour, "markersize": 4}
        ax.plot(y, "-", linewidth=1.2, **line)
        ax.plot(np.where(marked, np.nan, y), "o", label=literal(band), **line)
        ax.plot(np.where(marked, y, np.nan), "o", markerfacecolor="white", **line)
    positive = chosen.values.values[chosen.values.values > 0]
    if positive.size:
        ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="share of the energy" if relative else "energy per band")
    ax.set_title(device_names(chosen.values)[0], fontsize="medium")
    count_axis(ax.xaxis)
    set_unit(ax.yaxis, chosen.unit)
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, title="band")
    return ax


def _colours(values: xr.DataArray) -> tuple[list[str], list[str | None]]:
    """Return a colour for each device, and a label where the legend names it."""
    n = values.sizes["experiment"]
    if n <= len(COLOURS):
        return list(COLOURS[:n]), list(device_names(values))
    chips = [str(chip) for chip in values["chip_id"].values]
    known = list(dict.fromkeys(chips))
    if len(known) > len(COLOURS):
        return [GREY] * n, [f"{n} devices", *[None] * (n - 1)]
    colours = [COLOURS[known.index(chip)] for chip in chips]
    labels = [
        literal(f"chip {chip}") if chips.index(chip) == i else None for i, chip in enumerate(chips)
    ]
    return colours, labels


def _draw_device(
    ax: Axes,
    x: NDArray[Any],
    values: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    colour: str,
    *,
    label: str | None,
    normalise: bool,
    many: bool,
) -> None:
    """Draw one device.  Values and flags: shape (n, m), one point per row."""
    low, middle, high = spread(values.astype(np.float64))
    if normalise:
        low, middle, high = (part / _first(middle) for part in (low, middle, high))
    marked = flagged.any(axis=1)
    without = marked & np.isnan(middle)
    if values.shape[1] > 1 and not many:
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0, gid="band")
    ax.plot(
        x,
        middle,
        "-" if many else "o-",
        color=colour,
        markersize=3.5,
        linewidth=0.8 if many else 1.2,
        label=label,
    )
    hollow: dict[str, Any] = {"color": colour, "markersize": 3.5, "linestyle": "none"}
    if (marked & ~without).any():
        ax.plot(x[marked], middle[marked], marker="o", mfc="white", gid="hollow", **hollow)
    if without.any():
        edge = ax.get_xaxis_transform()
        bottom = np.full(without.sum(), 0.02)
        ax.plot(x[without], bottom, marker="x", transform=edge, gid="cross", **hollow)


def _legend(ax: Axes, behind: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles, labels = ax.get_legend_handles_labels()
    drawn = {line.get_gid() for line in ax.lines}
    for gid, marker, label in (("hollow", "o", "flagged"), ("cross", "x", "flagged, no value")):
        if gid in drawn:
            handles.append(Line2D([], [], color="black", marker=marker, mfc="white", ls="none"))
            labels.append(label)
    if any(collection.get_gid() == "band" for collection in ax.collections):
        handles.append(Patch(color=GREY, alpha=0.4, linewidth=0))
        labels.append(f"10 % to 90 % of {behind}")
    ax.legend(handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)


def _first(values: NDArray[np.float64]) -> float:
    """Return the first finite value; NaN where there is none or it is zero."""
    finite = values[np.isfinite(values)]
    return float(finite[0]) if finite.size and finite[0] else np.nan
