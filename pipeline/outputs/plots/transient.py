"""Pictures of the cycles of a transient step, with the fits of its time constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OectflowError, OutputError, did_you_mean
from oectflow.pipeline.outputs.plots.axes import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    literal,
    need_matplotlib,
    new_axes,
    room_for_units,
    set_unit,
    with_unit,
)
from oectflow.pipeline.outputs.plots.choose import one_experiment
from oectflow.pipeline.outputs.plots.transfer import Measured
from oectflow.pipeline.outputs.trouble import GOOD

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

PHASES = {"on": BLUE, "off": ORANGE}
_COMPANIONS = ("status", "window_start", "window_duration", "amplitude", "offset")
#: What else there may be: how well it is known, and of other models than one exponential.
_FURTHER = ("stderr", "r_squared", "slow", "slow_amplitude", "beta")
#: A status word longer than this is divided, since windows are narrow.
_LONGEST_WORD = 9
#: More than this is told as an inequality.
_NEARLY_ONE = 0.9999


class Fit(NamedTuple):
    """The fit of one phase of one cycle: one exponential, two, or a stretched one.

    Attributes
    ----------
    cycle, phase, status
        Which phase, and the status of the fit.
    start, duration
        The window in s after the step's first sample; NaN if there is none.
    tau, amplitude, offset
        In s and A; NaN if there is no result.
    stderr, r_squared
        Standard error of tau in s, and R² of the fit; NaN if unknown.
    slow, slow_amplitude
        Time constant and amplitude of the slower of two exponentials, in s and A; NaN if there is
        only one.
    beta
        Exponent of a stretched exponential; NaN for others.
    """

    cycle: int
    phase: str
    status: str
    start: float
    duration: float
    tau: float
    amplitude: float
    offset: float
    stderr: float = np.nan
    r_squared: float = np.nan
    slow: float = np.nan
    slow_amplitude: float = np.nan
    beta: float = np.nan

    @property
    def is_one(self) -> bool:
        """Whether one exponential was fitted."""
        return bool(np.isnan(self.slow) and np.isnan(self.beta))

    def current(self, t: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the fitted current (A) at times ``t`` (s) after the begin of the window."""
        if np.isfinite(self.slow):
            slow: NDArray[np.float64] = self.slow_amplitude * np.exp(-t / self.slow)
            return self.offset + self.amplitude * np.exp(-t / self.tau) + slow
        if np.isfinite(self.beta):
            stretched: NDArray[np.float64] = np.exp(-((t / self.tau) ** self.beta))
            return self.offset + self.amplitude * stretched
        decay = np.exp(-t / self.tau)
        shape = 1.0 - decay if self.phase == "on" else decay
        return self.offset + self.amplitude * shape


def plot_transient(
    experiment: Measured,
    results: xr.Dataset,
    step: int,
    ax: Axes | None = None,
    *,
    feature: str = "tau",
    cycles: Sequence[int] = (0, 1, 2),
    residuals: bool = True,
) -> Axes:
    """Draw cycles of a transient step with the windows and curves that gave its time constants.

    Parameters
    ----------
    experiment
        The raw experiment.
    results
        Results that include this experiment.
    step
        Which transient step.
    ax
        Where to draw; by default a new figure.
    feature
        Name of the feature computed by ``transient.tau_on_off``, or a model of
        ``transient.two_exponentials`` or ``transient.stretched_exponential``.
    cycles
        Which gate cycles, from 0.
    residuals
        Draw measured minus fitted current below, on separate axes that take a quarter of the space
        of ``ax``.

    Returns
    -------
    The axes of the current, in A against s after the step's first sample.  Each fitted curve is
    drawn over its window.  Above it are the time constant with its standard error, R², and the
    status word if it is not ``ok``.

    Raises
    ------
    OectflowError
        The experiment, the step, the feature or a cycle does not exist.
    """
    need_matplotlib()
    if not 0 <= step < experiment.n_steps("transient"):
        raise OectflowError(
            f"{experiment.experiment_id}: has {experiment.n_steps('transient')} transient steps, "
            f"there is no step {step}"
        )
    fits = read_fits(results, experiment.experiment_id, step, feature, cycles)
    one = one_experiment(results, experiment.experiment_id).isel(step=step)
    interval, period = float(one["sampling_interval"]), float(one["gate_period"])
    if not interval > 0:
        raise OectflowError(
            f"{experiment.experiment_id}, step {step}: its sampling interval is unknown, "
            "there is no axis of time to draw"
        )
    ax = new_axes(ax, width=8, height=5 if residuals else 4)
    current = experiment.step("transient", step)["drain_current"]
    time = np.arange(len(current), dtype=np.float64) * interval
    shown = np.full(len(time), True)
    if period > 0:
        shown = (time >= min(cycles) * period) & (time < (max(cycles) + 1) * period)
    ax.plot(time[shown], current[shown], ".", color=GREY, markersize=3, label="measured")
    lower = _below(ax) if residuals else None
    labelled: set[str] = set()
    for fit in fits:
        _draw(ax, lower, fit, time, current, None if fit.phase in labelled else f"fit, {fit.phase}")
        if np.isfinite(fit.tau):
            labelled.add(fit.phase)
    ax.set(ylabel=r"drain current $I_\mathrm{D}$")
    # Above the words of the windows.
    n_lines = max((words.get_text().count("\n") + 1 for words in ax.texts), default=0)
    ax.set_title(
        f"{literal(experiment.experiment_id)}, step {step}", fontsize="medium", pad=6 + 12 * n_lines
    )
    set_unit(ax.xaxis, "s")
    room_for_units(ax)
    set_unit(ax.yaxis, "A")
    if lower is not None:
        ax.tick_params(labelbottom=False)
        lower.axhline(0, color="black", linewidth=0.6)
        lower.set(ylabel="residual", xlabel="time")
        set_unit(lower.yaxis, "A")
    else:
        ax.set_xlabel("time")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    return ax


def read_fits(
    results: xr.Dataset, experiment_id: str, step: int, feature: str, cycles: Sequence[int]
) -> list[Fit]:
    """Return the fits of some cycles of one step.

    Raises
    ------
    OutputError
        The feature is not a fit of phases, or a cycle does not exist.
    """
    one = one_experiment(results, experiment_id)
    missing = [name for name in _COMPANIONS if f"{feature}_{name}" not in one]
    if feature not in one or missing:
        fitted = [
            str(name)
            for name in one.data_vars
            if all(f"{name}_{companion}" in one for companion in _COMPANIONS)
        ]
        raise OutputError(
            f"{feature!r} is no fit of phases, such as transient.tau_on_off, in these results"
            f"{did_you_mean(feature, fitted)}"
        )
    wanted = [name for name in fit_variables(feature) if name in one]
    one = one[wanted].isel(step=step).load()
    arrays = {name: one[name].transpose("cycle", "phase").values for name in wanted}
    return fits_of(arrays, feature, one["phase"].values.tolist(), cycles)


def fit_variables(feature: str) -> list[str]:
    """Return the variables to draw fits from; the last ones may be missing in some results."""
    return [feature, *(f"{feature}_{name}" for name in (*_COMPANIONS, *_FURTHER))]


def fits_of(
    arrays: Mapping[str, NDArray[Any]], feature: str, phases: Sequence[str], cycles: Sequence[int]
) -> list[Fit]:
    """Return the fits of some cycles from the variables of one step.

    Parameters
    ----------
    arrays
        The existing variables of :func:`fit_variables`, shape (n_cycles, n_phases).
    feature
        Its name.
    phases
        Names of the phases in their order.
    cycles
        Which ones.

    Raises
    ------
    OutputError
        A cycle is not there.
    """
    n_cycles = len(arrays[feature])
    further = [name for name in _FURTHER if f"{feature}_{name}" in arrays]
    fits = []
    for cycle in cycles:
        if not 0 <= cycle < n_cycles:
            raise OutputError(f"{feature!r} has {n_cycles} cycles, there is no cycle {cycle}")
        for phase in PHASES:
            at = cycle, phases.index(phase)
            status, *numbers = (arrays[f"{feature}_{name}"][at].item() for name in _COMPANIONS)
            start, duration, amplitude, offset = numbers
            tau = arrays[feature][at].item()
            known = {name: arrays[f"{feature}_{name}"][at].item() for name in further}
            fits.append(Fit(cycle, phase, status, start, duration, tau, amplitude, offset, **known))
    return fits


def _below(ax: Axes) -> Axes:
    """Divide the room of some axes, and return new ones in its lower quarter."""
    place = ax.get_subplotspec()
    if place is None:
        raise OectflowError(
            "these axes are no subplot, there is no room below them; give residuals=False"
        )
    rows: Any = place.subgridspec(2, 1, height_ratios=(3, 1), hspace=0.02)
    figure: Any = ax.get_figure()
    ax.set_subplotspec(rows[0])
    lower: Axes = figure.add_subplot(rows[1], sharex=ax)
    return lower


def _draw(
    ax: Axes,
    lower: Axes | None,
    fit: Fit,
    time: NDArray[np.float64],
    current: NDArray[np.float64],
    label: str | None,
) -> None:
    if not np.isfinite(fit.start):
        return
    colour = PHASES[fit.phase]
    ax.axvspan(fit.start, fit.start + fit.duration, color=colour, alpha=0.12, linewidth=0)
    good = fit.status in GOOD
    ax.text(
        fit.start + fit.duration / 2,
        1.01,
        _words(fit),
        transform=ax.get_xaxis_transform(),
        ha="center",
        va="bottom",
        fontsize=7.5,
        color="black" if good else RED,
        fontweight="normal" if good else "bold",
    )
    if not np.isfinite(fit.tau):
        return
    t = np.linspace(0.0, fit.duration, 200)
    ax.plot(fit.start + t, fit.current(t), color=colour, linewidth=2, label=label)
    if lower is not None:
        # Half a sample of tolerance: the window begins and ends on samples.
        half = (time[1] - time[0]) / 2
        inside = (time > fit.start - half) & (time < fit.start + fit.duration - half)
        rest: Any = current[inside] - fit.current(time[inside] - fit.start)
        lower.plot(time[inside], rest, ".", color=colour, markersize=3)


def _words(fit: Fit) -> str:
    """Return what stands above a window: what was found and how well, and what is wrong."""
    lines = []
    if fit.status != "ok":
        word = fit.status
        lines.append(word.replace("_", "_\n") if len(word) > _LONGEST_WORD else word)
    if np.isfinite(fit.tau):
        lines.append(with_unit(fit.tau, "s"))
        if np.isfinite(fit.stderr):
            lines.append(f"± {with_unit(fit.stderr, 's', 2)}")
        if np.isfinite(fit.r_squared):
            near = fit.r_squared > _NEARLY_ONE
            lines.append(f"R² > {_NEARLY_ONE}" if near else f"R² {fit.r_squared:.4f}")
    return "\n".join(lines)
