"""Draw fits, time constants and windows; every function returns axes and shows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ParameterError
from oectflow.extras import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe & Ito (2008), "Color universal design": on, off, data.
_COLOURS = {"on": "#0072B2", "off": "#E69F00", "data": "#555555"}
_LABELS = {
    "en": {
        "time": "time (s)",
        "signal": "signal",
        "data": "data",
        "fit": "fit",
        "cycle": "cycle",
        "on": "on",
        "off": "off",
        "on_process": "switching on",
        "off_process": "switching off",
        "refitted": "own window",
        "threshold": "threshold",
    },
    "cn": {
        "time": "时间 (s)",
        "signal": "信号",
        "data": "数据",
        "fit": "拟合",
        "cycle": "周期",
        "on": "开启",
        "off": "关闭",
        "on_process": "开启过程",
        "off_process": "关闭过程",
        "refitted": "单独窗口",
        "threshold": "阈值",
    },
}


def labels(language: str) -> dict[str, str]:
    """Return the words of the plots in ``"en"`` or ``"cn"``."""
    if language not in _LABELS:
        raise ParameterError(f"language={language!r}: expected 'en' or 'cn'")
    return _LABELS[language]


def new_axes(figsize: tuple[float, float], shape: tuple[int, int] | None = None) -> Any:
    """Return the axes of a new figure, or an array of them.

    Raises
    ------
    OectflowError
        matplotlib is not installed.
    """
    with extra("plot", "a plot"):
        import matplotlib.pyplot as plt
    rows, columns = shape or (1, 1)
    _, axes = plt.subplots(rows, columns, figsize=figsize, squeeze=False, layout="constrained")
    return axes if shape else axes[0, 0]


def draw_fit(ax: Axes, fitter: Any, phase: str, title: str) -> Axes:
    """Draw one window and the curve that was fitted to it."""
    text = fitter.text
    time, y = fitter.window(phase)
    ax.plot(time, y, ".", color=_COLOURS["data"], label=text["data"])
    tau = getattr(fitter, f"tau_{phase}_popt")[1]
    if np.isfinite(tau):
        ax.plot(*fitter.curve(phase), color=_COLOURS[phase], label=text["fit"])
        r_squared = getattr(fitter, f"tau_{phase}_r_squared")
        title = f"{title}: τ = {tau:.5g} s, R² = {r_squared:.4f}"
    else:
        title = f"{title}: {getattr(fitter, f'tau_{phase}_status')}"
    ax.set(xlabel=text["time"], ylabel=text["signal"], title=title)
    ax.legend()
    return ax


def draw_fits(
    records: Sequence[dict[str, Any]], text: dict[str, str], figsize: tuple[float, float]
) -> NDArray[Any]:
    """Draw the fits of some cycles, one row each: on, off."""
    axes: NDArray[Any] = new_axes(figsize, (len(records), 2))
    for row, record in zip(axes, records, strict=True):
        for ax, phase in zip(row, ("on", "off"), strict=True):
            title = f"{text['cycle']} {record['cycle']}, {text[phase]}"
            draw_fit(ax, record["fitter"], phase, title)
    return axes


def draw_taus(
    ax: Axes, records: Sequence[dict[str, Any]], text: dict[str, str], dual_y_axis: bool
) -> Axes:
    """Draw the time constants over the cycles, cycles with windows of their own in rings."""
    cycles = np.array([record["cycle"] for record in records])
    refitted = np.array([record.get("was_refitted", False) for record in records])
    right = ax.twinx() if dual_y_axis else ax
    lines = []
    for axis, phase, marker in ((ax, "on", "o"), (right, "off", "s")):
        tau = np.array([record[f"tau_{phase}"] for record in records])
        lines += axis.plot(
            cycles, tau, marker + "-", color=_COLOURS[phase], label=f"τ {text[phase]}"
        )
        if refitted.any():
            axis.plot(
                cycles[refitted], tau[refitted], "o", ms=11, mfc="none", color=_COLOURS[phase]
            )
    ax.set(xlabel=text["cycle"], ylabel=f"τ {text['on']} (s)" if dual_y_axis else "τ (s)")
    if dual_y_axis:
        right.set_ylabel(f"τ {text['off']} (s)")
    ax.legend(handles=lines)
    return ax


def draw_r_squared(
    ax: Axes, records: Sequence[dict[str, Any]], text: dict[str, str], threshold: float | None
) -> Axes:
    """Draw R2 over the cycles, cycles with windows of their own in rings."""
    cycles = np.array([record["cycle"] for record in records])
    refitted = np.array([record.get("was_refitted", False) for record in records])
    for phase, marker in (("on", "o"), ("off", "s")):
        value = np.array([record[f"tau_{phase}_r_squared"] for record in records])
        ax.plot(cycles, value, marker + "-", color=_COLOURS[phase], label=text[phase])
        if refitted.any():
            ax.plot(
                cycles[refitted],
                value[refitted],
                "o",
                ms=11,
                mfc="none",
                color=_COLOURS[phase],
                label=f"{text[phase]}, {text['refitted']}",
            )
    if threshold is not None:
        ax.axhline(threshold, ls="--", color=_COLOURS["data"], label=text["threshold"])
    ax.set(xlabel=text["cycle"], ylabel="R²")
    ax.legend()
    return ax


def draw_windows(
    ax: Axes,
    time: NDArray[np.float64],
    signal: NDArray[np.float64],
    windows: Sequence[tuple[str, float, float]],
    text: dict[str, str],
) -> Axes:
    """Draw a signal and shade windows, given as process, first and last time."""
    ax.plot(time, signal, lw=1, color=_COLOURS["data"])
    named: set[str] = set()
    for phase, begin, end in windows:
        label = None if phase in named else text[phase]
        ax.axvspan(begin, end, color=_COLOURS[phase], alpha=0.3, label=label)
        named.add(phase)
    ax.set(xlabel=text["time"], ylabel=text["signal"])
    if named:
        ax.legend()
    return ax
