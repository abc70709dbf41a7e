"""Groups of devices side by side, and how much they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from oectflow.errors import ParameterError, did_you_mean
from oectflow.pipeline.outputs.plots.axes import (
    COLOURS,
    GREY,
    literal,
    need_matplotlib,
    new_axes,
    room_for_units,
    set_unit,
    superscript,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

Style = Literal["strip", "box", "forest"]
_STYLES = ("strip", "box", "forest")
#: Points beside each other, as a share of the distance of two groups.
_SPREAD = 0.18
#: Of more groups their names stand upright.
_MOST_FLAT = 6
#: Stars are for posters; a p value has two digits.
_LEAST_P = 1e-4


def plot_comparison(
    comparison: xr.Dataset, ax: Axes | None = None, *, style: Style = "strip"
) -> Axes:
    """Draw the result of :func:`oectflow.compare`.

    Parameters
    ----------
    comparison
        The result.
    ax
        Where to draw; by default a new figure.
    style
        ``"strip"``: a point for every device, and the mean of each group with its 95 % interval.
        ``"box"``: quartiles of the devices in place of the mean; whiskers reach to the last device
        within 1.5 times the distance between the quartiles.  ``"forest"``: the difference of every
        pair of groups with its interval, effect size and corrected p value.

    Raises
    ------
    ParameterError
        There is no such style.
    """
    need_matplotlib()
    if style not in _STYLES:
        hint = did_you_mean(str(style), _STYLES)
        raise ParameterError(f"style={style!r}: expected strip, box or forest{hint}")
    if style == "forest":
        return _forest(comparison, ax)
    names = [str(name) for name in comparison["group"].values]
    ax = new_axes(ax, width=max(4.0, 1.5 + 0.9 * len(names)))
    for k, name in enumerate(names):
        own = comparison["device_value"].values[comparison["device_group"].values == name]
        colour = COLOURS[k % len(COLOURS)]
        if style == "box" and own.size:
            ax.boxplot(
                [own], positions=[k], widths=0.55, showfliers=False,
                medianprops={"color": colour, "linewidth": 2},
            )  # fmt: skip
        ax.plot(k + _beside(own), own, "o", color=colour, markersize=5, alpha=0.7, mec="white")
        if style == "strip":
            _estimate(ax, comparison.isel(group=k), k)
    labels = [
        f"{literal(name)}\nn = {n}"
        for name, n in zip(names, comparison["n_devices"].values.tolist(), strict=True)
    ]
    ax.set_xticks(range(len(names)), labels, rotation=90 if len(names) > _MOST_FLAT else 0)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.set_ylabel(literal(comparison.attrs["label"]))
    if comparison.attrs["log"] and (comparison["device_value"] > 0).any():
        ax.set_yscale("log")
    set_unit(ax.yaxis, comparison.attrs["units"])
    what = "geometric mean" if comparison.attrs["log"] else "mean"
    said = f"bars: {what} and 95 % interval" if style == "strip" else "boxes: quartiles"
    ax.set_xlabel(f"points: devices; {said}", fontsize="small")
    return ax


def _estimate(ax: Axes, one: xr.Dataset, at: int) -> None:
    middle, low, high = (float(one[f"estimate{end}"]) for end in ("", "_low", "_high"))
    ax.plot([at - 0.25, at + 0.25], [middle, middle], color="black", linewidth=2)
    if np.isfinite(low) and np.isfinite(high):
        ax.plot([at, at], [low, high], color="black", linewidth=1.5)


def _beside(values: Any) -> Any:
    """Return a shift for each value, so that those next to each other are seen apart."""
    shifts = np.zeros(values.size)
    shifts[np.argsort(values, kind="stable")] = _SPREAD * np.resize([0, 1, -1], values.size)
    return shifts if values.size > 1 else shifts * 0


def _forest(comparison: xr.Dataset, ax: Axes | None) -> Axes:
    log = bool(comparison.attrs["log"])
    name = "ratio" if log else "difference"
    n = comparison.sizes["pair"]
    ax = new_axes(ax, width=7.0, height=1.4 + 0.4 * n)
    ax.axvline(1.0 if log else 0.0, color=GREY, linewidth=1)
    words: list[str] = []
    for k in range(n):
        one = comparison.isel(pair=k)
        middle, low, high = (float(one[f"{name}{end}"]) for end in ("", "_low", "_high"))
        ok = str(one["pair_status"].item()) in ("ok", "shared_chips")
        ax.plot([low, high], [k, k], color=COLOURS[0], linewidth=2)
        ax.plot(middle, k, "o", color=COLOURS[0], mfc=COLOURS[0] if ok else "white", markersize=7)
        words.append(_beside_words(one))
    ax.set_yticks(range(n), [literal(pair) for pair in comparison["pair"].values])
    ax.set_ylim(n - 0.5, -0.5)
    right = ax.secondary_yaxis("right")
    right.set_yticks(range(n), words)
    right.tick_params(length=0)
    if log:
        ax.set_xscale("log")
    ax.set_xlabel(f"{name} of {literal(comparison.attrs['label'])}")
    set_unit(ax.xaxis, "" if log else comparison.attrs["units"])
    if not log and not superscript(comparison.attrs["units"]).startswith("("):
        room_for_units(ax)
    statuses: Sequence[str] = [
        word for word in dict.fromkeys(comparison["pair_status"].values.tolist()) if word != "ok"
    ]
    if statuses:
        ax.set_title(f"hollow or with a word: {', '.join(statuses)}", fontsize="small", loc="left")
    return ax


def _beside_words(one: xr.Dataset) -> str:
    size, p_value = float(one["effect_size"]), float(one["p_corrected"])
    parts = [f"g = {size:.2f}".replace("-", "−")] if np.isfinite(size) else []
    if np.isfinite(p_value):
        parts.append(f"p = {p_value:.2g}" if p_value >= _LEAST_P else f"p < {_LEAST_P:g}")
    status = str(one["pair_status"].item())
    return ", ".join([*parts, *([status] if status != "ok" else [])])
