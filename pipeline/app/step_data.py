"""What is drawn of one step: sweeps, traces with fits and residuals, and other curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.measurement import get_kind
from oectflow.pipeline.app.one_result import OneResult
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.marks.reach import CYCLE
from oectflow.pipeline.outputs.plots.transfer import Branch, branches
from oectflow.pipeline.outputs.plots.transient import PHASES, Fit, fit_variables, fits_of

#: Samples that are drawn of a trace; of more, every second or third.
MOST_SAMPLES = 20_000
#: Points of a fitted curve.
_CURVE = 120
_TIMES = ("sampling_interval", "gate_period")


@dataclass(frozen=True)
class Curve:
    """A curve of any kind of measurement.

    Attributes
    ----------
    kind, x_name, y_name, x_unit, y_unit
        What was measured, and its units.
    x, y
        Shape (n,).
    """

    kind: str
    x_name: str
    y_name: str
    x_unit: str
    y_unit: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class Trace:
    """A transient step.

    Attributes
    ----------
    time, current
        In s from the step's first sample, and A.  Shape (n,).
    period
        Gate period in s; NaN where it is not known.
    """

    time: NDArray[np.float64]
    current: NDArray[np.float64]
    period: float

    def span(self, cycle: int, fits: Sequence[Fit] = ()) -> tuple[float, float]:
        """Return begin and end of a cycle, with the windows of its fits, in s."""
        end = float(self.time[-1]) if len(self.time) else 0.0
        low, high = 0.0, end
        if self.period > 0:
            low, high = cycle * self.period, (cycle + 1) * self.period
        for fit in fits:
            if fit.cycle == cycle and np.isfinite(fit.start):
                low, high = min(low, fit.start), max(high, fit.start + fit.duration)
        return (low, min(high, end)) if low < end else (0.0, end)

    def between(
        self, low: float, high: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
        """Return the samples of a time, and of how many samples each stands for one."""
        first, last = np.searchsorted(self.time, (low, high))
        every = max(1, int(np.ceil((last + 1 - first) / MOST_SAMPLES)))
        part = slice(int(first), int(last) + 1, every)
        return self.time[part], self.current[part], every


def read_trace(experiment: Experiment, result: OneResult, step: int) -> Trace | None:
    """Return a transient step on the axis of time of its results; None where there is none."""
    if step >= experiment.n_steps("transient"):
        return None
    data = experiment.step("transient", step)
    current = np.asarray(data["drain_current"], np.float64)
    # Results without features of transients know nothing of their times.
    known = {name: values[step] for name, values in result.load(_TIMES).items()}
    interval, period = (float(known.get(name, data.get(name, np.nan))) for name in _TIMES)
    if not interval > 0:
        return None
    return Trace(np.arange(len(current), dtype=np.float64) * interval, current, period)


def read_fits(result: OneResult, feature: str, step: int) -> list[Fit]:
    """Return the fits of all cycles of a step; none where the feature is no fit of phases."""
    if not has_windows(result, feature):
        return []
    arrays = result.load(fit_variables(feature))
    dims = result.variables[feature].dims
    cycle_first = dims.index(CYCLE) == 0
    one = {name: array[step] if cycle_first else array[step].T for name, array in arrays.items()}
    phases = list(result.variables[feature].labels["phase"])
    return fits_of(one, feature, phases, range(len(one[feature])))


def has_windows(result: OneResult, feature: str) -> bool:
    """Whether a feature is a fit of the phases of cycles, each in a window."""
    needed = [feature, f"{feature}_window_start", f"{feature}_window_duration"]
    needed += [f"{feature}_status", f"{feature}_amplitude", f"{feature}_offset"]
    there = all(name in result.variables for name in needed)
    return there and set(result.variables[feature].dims) == {CYCLE, "phase"}


def windowed_feature(result: OneResult, wanted: str) -> str:
    """Return the feature whose fits are drawn: the one wanted, or else the first that has some."""
    names = [wanted, *result.metadata["features"]]
    return next((name for name in names if has_windows(result, name)), "")


def curve_of(fit: Fit) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return time (s) and fitted current (A) over the window of a fit."""
    t = np.linspace(0.0, fit.duration, _CURVE)
    return fit.start + t, fit.current(t)


def residuals_of(
    fit: Fit, time: NDArray[np.float64], current: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return times (s) in the window of a fit and measured minus fitted current (A)."""
    if not (np.isfinite(fit.start) and np.isfinite(fit.tau)) or len(time) < 2:
        return np.empty(0), np.empty(0)
    # Half a sample of tolerance: the window begins and ends on samples.
    half = (time[1] - time[0]) / 2
    inside = (time > fit.start - half) & (time < fit.start + fit.duration - half)
    return time[inside], current[inside] - fit.current(time[inside] - fit.start)


def read_sweep(experiment: Experiment, step: int) -> list[Branch]:
    """Return the branches of a transfer sweep, none where there is no such step."""
    if step >= experiment.n_steps("transfer"):
        return []
    return branches(experiment.step("transfer", step))


def read_curves(experiment: Experiment, step: int) -> list[Curve]:
    """Return the curves of all other kinds of measurement at a step."""
    found = []
    for name in experiment.sources:
        if name in ("transfer", "transient") or step >= experiment.n_steps(name):
            continue
        kind, data = get_kind(name), experiment.step(name, step)
        x, y = kind.array(kind.x), kind.array(kind.y)
        if x.name in data and y.name in data:
            found.append(
                Curve(
                    name, x.name, y.name, x.unit, y.unit, _flat(data[x.name]), _flat(data[y.name])
                )
            )
    return found


def _flat(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, np.float64)


__all__ = ["PHASES", "Curve", "Trace", "read_curves", "read_fits", "read_sweep", "read_trace"]
