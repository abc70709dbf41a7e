"""Pictures of a measurement and of what was computed from it.

Every function draws into the axes that it is given, or into new ones, and returns them; none of
them shows a window.  Colours are those of Okabe and Ito, which colour-blind people can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from oectflow.pipeline.errors import OectflowError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

#: Okabe & Ito (2008), "Color universal design".
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#E69F00", "#009E73", "#999999"
_DEVICE_COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "black")


class _Measured(Protocol):
    def n_steps(self, source: str) -> int: ...

    def step(self, source: str, index: int) -> dict[str, Any]: ...


def plot_transfer(experiment: _Measured, ax: Axes | None = None, *, gm: bool = True) -> Axes:
    """Draw every transfer sweep of an experiment, and below them their transconductance.

    Parameters
    ----------
    experiment
        A raw experiment.
    ax
        Where to draw; by default a new figure.
    gm
        Draw dId/dVg, from centred differences, on a second axis to the right.

    Returns
    -------
    The axes of the current; forward sweeps are solid, reverse ones dashed, the colour is the step.
    """
    ax = _axes(ax)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    n_steps = experiment.n_steps("transfer")
    colours = ScalarMappable(Normalize(0, max(1, n_steps - 1)), "viridis")
    palette = colours.to_rgba(np.arange(n_steps))
    right = ax.twinx() if gm else None
    for index in range(n_steps):
        step = experiment.step("transfer", index)
        vg, current = step["Vg"], step["Id"]
        if len(vg) < 2:
            continue
        turn = int(np.argmax(np.abs(vg - vg[0])))
        colour = tuple(palette[index])
        for part, style in ((slice(0, turn + 1), "-"), (slice(turn, None), "--")):
            ax.plot(vg[part], current[part], style, color=colour, linewidth=1)
            if right is not None and len(vg[part]) > 2:
                slope = np.gradient(current[part], vg[part])
                right.plot(vg[part], slope, style, color=colour, linewidth=0.7, alpha=0.5)
    ax.set(xlabel="gate voltage $V_G$", ylabel="drain current $I_D$")
    _engineering(ax, x="V", y="A")
    if right is not None:
        right.set_ylabel("transconductance $g_m$ (thin)")
        _engineering(right, y="S")
    bar = _figure(ax).colorbar(colours, ax=ax, label="step", pad=0.16 if gm else 0.05)
    bar.locator = MaxNLocator(integer=True)
    return ax


def plot_transient(
    experiment: _Measured,
    results: xr.Dataset,
    step: int,
    ax: Axes | None = None,
    *,
    feature: str = "tau",
    cycles: Sequence[int] = (0, 1, 2),
) -> Axes:
    """Draw cycles of a transient step with the windows and curves that gave its time constants.

    Parameters
    ----------
    experiment
        The raw experiment.
    results
        Results of this one experiment: ``open_results(out).sel(experiment=…)``.
    step
        Which transient step.
    ax
        Where to draw; by default a new figure.
    feature
        Name of the feature computed by ``transient.tau_on_off``.
    cycles
        Which gate cycles, from 0.

    Returns
    -------
    The axes; each fitted curve is drawn over its window, those without a result are left out.
    """
    ax = _axes(ax)
    data = experiment.step("transient", step)
    one = results.isel(step=step)
    interval = float(one["sampling_interval"])
    period = float(one["gate_period"])
    current = data["drain_current"]
    time = np.arange(len(current)) * interval
    shown = (time >= min(cycles) * period) & (time < (max(cycles) + 1) * period)
    ax.plot(time[shown], current[shown], ".", color=GREY, markersize=3, label="measured")
    for phase, colour in (("on", BLUE), ("off", ORANGE)):
        label: str | None = f"fit, {phase}"
        for cycle in cycles:
            fit = {
                name: float(one[f"{feature}_{name}"].sel(phase=phase).isel(cycle=cycle))
                for name in ("window_start", "window_duration", "amplitude", "offset")
            }
            tau = float(one[feature].sel(phase=phase).isel(cycle=cycle))
            if not np.isfinite(tau):
                continue
            t = np.linspace(0.0, fit["window_duration"], 200)
            decay = np.exp(-t / tau)
            shape = 1.0 - decay if phase == "on" else decay
            curve = fit["offset"] + fit["amplitude"] * shape
            ax.axvspan(fit["window_start"], fit["window_start"] + t[-1], color=colour, alpha=0.12)
            ax.plot(fit["window_start"] + t, curve, color=colour, linewidth=2, label=label)
            label = None
    ax.set(xlabel="time", ylabel="drain current $I_D$", title=f"step {step}")
    _engineering(ax, x="s", y="A")
    ax.legend(loc="best")
    return ax


def plot_feature(
    results: xr.Dataset, feature: str, ax: Axes | None = None, **selection: Any
) -> Axes:
    """Draw a feature against the step for every experiment in ``results``.

    Parameters
    ----------
    results
        As :func:`oectflow.open_results` returns, with the experiments to be compared.
    feature
        Name of a variable.
    ax
        Where to draw; by default a new figure.
    selection
        Entries along labelled axes, such as ``phase="on"``.  Over cycles, the median is drawn, and
        the band from the 10th to the 90th percentile.

    Returns
    -------
    The axes.
    """
    ax = _axes(ax)
    from matplotlib.ticker import MaxNLocator

    variable = results[feature].sel(selection)
    unit = variable.attrs.get("units", "")
    for i, name in enumerate(results["experiment"].values):
        one = variable.sel(experiment=name).load()
        colour = _DEVICE_COLOURS[i % len(_DEVICE_COLOURS)]
        label = f"{results['chip_id'].values[i]}, device {results['device_id'].values[i]}"
        if "cycle" in one.dims:
            # A step without any value would make NumPy warn about an empty median.
            one = one.dropna("step", how="all")
            low, middle, high = (one.quantile(q, "cycle") for q in (0.1, 0.5, 0.9))
            ax.fill_between(one["step"], low, high, color=colour, alpha=0.2, linewidth=0)
            one = middle
        ax.plot(one["step"], one, "o-", color=colour, markersize=3, label=label)
    words = " ".join(str(word) for word in selection.values())
    ax.set(xlabel="step", ylabel=f"{feature} {words}".strip())
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if unit:
        _engineering(ax, y=unit)
    ax.legend(loc="best")
    return ax


def _axes(ax: Axes | None) -> Axes:
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ModuleNotFoundError as error:
            raise OectflowError("plots need matplotlib: pip install 'oectflow[plot]'") from error
        ax = plt.figure(figsize=(7, 4), layout="constrained").add_subplot()
    return ax


def _figure(ax: Axes) -> Any:
    return ax.get_figure()


def _engineering(ax: Axes, *, x: str = "", y: str = "") -> None:
    """Label axes with SI prefixes."""
    from matplotlib.ticker import EngFormatter

    for axis, unit in ((ax.xaxis, x), (ax.yaxis, y)):
        if unit:
            axis.set_major_formatter(EngFormatter(unit=unit))
