"""The fits of a transient step as text: values, uncertainties, correlations, window."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OectflowError
from oectflow.extractors.tau import TAU_WORDS
from oectflow.pipeline.outputs.plots.axes import with_unit
from oectflow.pipeline.outputs.plots.choose import one_experiment
from oectflow.pipeline.outputs.plots.transient import Fit, read_fits

if TYPE_CHECKING:
    import xarray as xr

    from oectflow.pipeline.outputs.plots.transfer import Measured

_NAMES = ("amplitude", "tau", "offset")
#: Samples of the window were left out of these fits, and nobody knows here which.
_LEFT_OUT = ("clipped", "overflow", "outlier")


def fit_report(
    experiment: Measured,
    results: xr.Dataset,
    step: int = 0,
    *,
    feature: str = "tau",
    cycles: Sequence[int] = (0,),
) -> str:
    """Return the fits of some cycles as text, in the style of fitting programs.

    Parameters
    ----------
    experiment
        The raw experiment.
    results
        Results that include this experiment.
    step
        Which transient step.
    feature
        Name of the feature computed by ``transient.tau_on_off``.
    cycles
        Which gate cycles, from 0.

    Returns
    -------
    For each phase: status and its meaning, window, number of samples, R², and amplitude, time
    constant and offset with their standard errors and correlations.  These follow from the
    curvature of the sum of squares at the fitted values, with the variance of the residuals.

    Raises
    ------
    OectflowError
        The step, the feature or a cycle does not exist.
    """
    fits = read_fits(results, experiment.experiment_id, step, feature, cycles)
    one = one_experiment(results, experiment.experiment_id).isel(step=step)
    time, current = _trace(experiment, step, float(one["sampling_interval"]))
    if not all(fit.is_one for fit in fits):
        raise OectflowError(
            f"{feature!r}: correlations are only given for one exponential; the columns of these "
            "results have the standard errors of other models"
        )
    lines = []
    for fit in fits:
        lines += _lines(fit, TAU_WORDS.get(fit.status, ""), step, time, current)
    return "\n".join(lines)


def covariance(
    fit: Fit, t: NDArray[np.float64], current: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Return the covariance of amplitude, tau and offset; None if it is not defined.

    Parameters
    ----------
    fit
        The fitted values.
    t, current
        Times (s) after the begin of the window, and measured current (A), of its samples.
    """
    if len(t) <= len(_NAMES):
        return None
    decay = np.exp(-t / fit.tau)
    slope = fit.amplitude * decay * t / fit.tau**2
    shape, slope = (1 - decay, -slope) if fit.phase == "on" else (decay, slope)
    # In units of the values, since those of A and s are orders of magnitude apart.
    scale = np.array([fit.amplitude, fit.tau, fit.amplitude])
    jacobian = np.stack([shape, slope, np.ones_like(t)], axis=1) * scale
    rest = current - fit.current(t)
    try:
        inverse = np.linalg.inv(jacobian.T @ jacobian)
    except np.linalg.LinAlgError:
        return None
    variance = float(rest @ rest) / (len(t) - len(_NAMES))
    found: NDArray[np.float64] = variance * inverse * np.outer(scale, scale)
    return found if np.isfinite(found).all() and (np.diag(found) >= 0).all() else None


def _trace(
    experiment: Measured, step: int, interval: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    data = experiment.step("transient", step)
    current = np.asarray(data["drain_current"], np.float64)
    recorded = np.asarray(data.get("original_time", np.full(len(current), np.nan)), np.float64)
    if len(recorded) and np.isfinite(recorded).all() and (np.diff(recorded) > 0).all():
        return recorded - recorded[0], current
    return np.arange(len(current), dtype=np.float64) * interval, current


def _lines(
    fit: Fit,
    meaning: str,
    step: int,
    time: NDArray[np.float64],
    current: NDArray[np.float64],
) -> list[str]:
    lines = [f"[[step {step}, cycle {fit.cycle}, {fit.phase}]]"]
    lines.append(f"    status       {fit.status}" + (f": {meaning}" if meaning else ""))
    if not math.isfinite(fit.start):
        return lines
    half = np.diff(time[:2])[0] / 2 if len(time) > 1 else 0.0
    inside = (time > fit.start - half) & (time < fit.start + fit.duration - half)
    inside &= np.isfinite(current)
    n = int(inside.sum())
    begin, end = with_unit(fit.start, "s"), with_unit(fit.start + fit.duration, "s")
    lines.append(f"    window       {begin} … {end}, {n:,} samples")
    if not math.isfinite(fit.tau):
        return lines
    model = "C + A (1 - exp(-t/tau))" if fit.phase == "on" else "C + A exp(-t/tau)"
    lines.append(f"    model        Id = {model}, t from the begin of the window")
    lines.append(f"    R-squared    {fit.r_squared:.6f}")
    known = fit.status not in _LEFT_OUT
    found = covariance(fit, time[inside] - fit.start, current[inside]) if known else None
    for i, (name, unit) in enumerate(zip(("A", "tau", "C"), ("A", "s", "A"), strict=True)):
        value = (fit.amplitude, fit.tau, fit.offset)[i]
        line = f"    {name:<12} {value:.6g} {unit}"
        if found is not None:
            error = math.sqrt(found[i, i])
            line += f" ± {error:.2g} {unit} ({100 * error / abs(value or 1):.2g} %)"
        lines.append(line)
    if found is not None:
        spread = np.sqrt(np.diag(found))
        pairs = ((0, 1, "A, tau"), (1, 2, "tau, C"), (0, 2, "A, C"))
        words = [
            f"C({name}) = {found[i, j] / (spread[i] * spread[j]):+.3f}" for i, j, name in pairs
        ]
        lines.append(f"    correlations {'   '.join(words)}")
    return lines
