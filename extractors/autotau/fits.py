"""Fit many windows of one length: the only place that calls the fitting kernels.

Dimension letters: W windows, n samples of a window, P resampled points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import ParameterError
from oectflow.extractors.autotau.models import adjust, exp_decay, exp_rise
from oectflow.extractors.autotau.trace import Trace
from oectflow.extractors.fit_words import FIT_WORDS
from oectflow.extractors.kernels import cycles, exponential, uneven, windows
from oectflow.extractors.kernels.misfit import N_EVIDENCE
from oectflow.extractors.kernels.tau_grid import TAU_MIN

#: What a status says; the words are those of the extractor ``transient.tau_on_off``.
STATUSES = {
    "ok": "the value is the answer",
    "low_r2": "an exponential was fitted, but R2 is below the threshold",
    "flat": "the signal is constant in the window",
    "straight": "no curvature: tau is longer than 100 windows",
    "step": "no relaxation: tau is shorter than a tenth of a sample",
    "opposite": "the signal moves the other way in the window",
    "noise": "an exponential explains the window no better than chance",
    "no_response": "neither a rise nor a decay explains the window better than chance",
    "nan": "a sample in the window is not a number",
    "too_few": "fewer than four samples in the window",
    "cut": "the window reaches beyond the end of the trace",
    "no_window": "no window was found",
}
ON, OFF = "on", "off"
_PROCESS = {ON: exponential.RISE, OFF: exponential.DECAY}
MODELS = {ON: exp_rise, OFF: exp_decay}
_EVEN: NDArray[np.float64] = np.empty(0)
#: Windows that are resampled at a time: bounds the memory to some MB.
_BLOCK = 4096


@dataclass(frozen=True)
class Fits:
    """Fits of W windows.

    Attributes
    ----------
    popt
        A, tau (s), C; NaN where the status is not ``ok``.  Shape (W, 3).
    r_squared, r_squared_adj
        On the raw samples.  Shape (W,).
    status
        Words of :data:`STATUSES`.  Shape (W,).
    """

    popt: NDArray[np.float64]
    r_squared: NDArray[np.float64]
    r_squared_adj: NDArray[np.float64]
    status: NDArray[np.str_]

    @classmethod
    def failed(cls, n: int, status: str) -> Fits:
        """Return ``n`` fits that did not take place."""
        nan = np.full(n, np.nan)
        return cls(np.full((n, 3), np.nan), nan, nan, np.full(n, status))


def resampled_points(interp: bool, points_after_interp: int) -> int:
    """Return the number of points to resample to, 0 for the raw samples."""
    if not interp:
        return 0
    if points_after_interp < 4:
        raise ParameterError(
            f"points_after_interp={points_after_interp!r}: three parameters need 4 points; "
            "interp=False fits the raw samples"
        )
    return int(points_after_interp)


def fit_windows(trace: Trace, starts: NDArray[np.int64], n: int, phase: str, points: int) -> Fits:
    """Fit one process to windows of one length; a result does not depend on its neighbours.

    Parameters
    ----------
    trace
        The signal.
    starts
        First samples; windows lie inside the trace.  Shape (W,).
    n
        Samples in a window.
    phase
        ``"on"`` or ``"off"``.
    points
        Points to which a window is resampled linearly before the fit; 0 fits the raw samples.
    """
    starts = np.asarray(starts, np.int64)
    if n < 4:
        return Fits.failed(starts.size, "too_few")
    if points:
        parts = [
            _fit_resampled(trace, starts[i : i + _BLOCK], n, phase, points)
            for i in range(0, max(1, starts.size), _BLOCK)
        ]
    else:
        parts = [_fit_raw(trace, starts, n, phase)]
    return _as_fits(trace, n, *(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _fit_raw(
    trace: Trace, starts: NDArray[np.int64], n: int, phase: str
) -> tuple[NDArray[Any], ...]:
    rows, codes = _kernel(trace.signal, trace.clock, starts, n, phase)
    return rows[:, _POPT], rows[:, exponential.R2], codes


def _fit_resampled(
    trace: Trace, starts: NDArray[np.int64], n: int, phase: str, points: int
) -> tuple[NDArray[Any], ...]:
    index = starts[:, np.newaxis] + np.arange(n)
    y = trace.signal[index]
    finite = np.isfinite(y).all(axis=1)
    first = y[:, :1]
    # Relative to its first sample a window keeps its digits on top of a large constant.
    change = np.where(finite[:, np.newaxis], y - np.where(np.isfinite(first), first, 0.0), np.nan)
    t = trace.clock[index] - trace.clock[starts][:, np.newaxis] if trace.clock.size else None
    dense, step = resample(change, t, points)
    rows, codes = _kernel(dense.ravel(), _EVEN, np.arange(starts.size) * points, points, phase)
    popt = rows[:, _POPT]
    popt[:, 1] *= step
    r_squared = _score(change, np.arange(n) if t is None else t, popt, phase)
    popt[:, 2] += first[:, 0]
    # Both verdicts are about the raw samples, not about the points between them.
    fitted = (codes == exponential.FIT_OK) | (codes == exponential.NOISE)
    noise = r_squared * (n - 3) < 2.0 * exponential.F_MIN * (1.0 - r_squared)
    codes = np.where(fitted, np.where(noise, exponential.NOISE, exponential.FIT_OK), codes)
    codes[fitted & (popt[:, 1] <= TAU_MIN)] = exponential.STEP
    codes[~finite] = exponential.NOT_FINITE
    return popt, r_squared, codes


_POPT = [exponential.AMPLITUDE, exponential.TAU, exponential.OFFSET]


def _kernel(
    y: NDArray[np.float64],
    clock: NDArray[np.float64],
    starts: NDArray[np.int64],
    n: int,
    phase: str,
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    rows = np.full((starts.size, exponential.N_COLUMNS), np.nan)
    codes = np.empty(starts.size, np.int8)
    evidence = np.empty((starts.size, N_EVIDENCE))
    cycles.fit_windows(y, clock, starts, n, _PROCESS[phase], rows, codes, evidence)
    return rows, codes


def resample(
    y: NDArray[np.float64], t: NDArray[np.float64] | None, points: int
) -> tuple[NDArray[np.float64], NDArray[np.float64] | float]:
    """Interpolate windows linearly at evenly spaced times.

    Parameters
    ----------
    y
        Shape (W, n).
    t
        Times since the first sample, shape (W, n); None stands for 0, 1, 2, ...
    points
        Number P of points, from the first to the last sample.

    Returns
    -------
    Shape (W, P), and the distance of the points in the unit of ``t``.
    """
    n = y.shape[1]
    if t is None:
        at = np.linspace(0.0, n - 1.0, points)
        left = np.minimum(at.astype(np.int64), n - 2)
        share = at - left
        return y[:, left] + share * (y[:, left + 1] - y[:, left]), (n - 1) / (points - 1)
    dense = np.empty((y.shape[0], points))
    for w in range(y.shape[0]):
        dense[w] = np.interp(np.linspace(t[w, 0], t[w, -1], points), t[w], y[w])
    return dense, (t[:, -1] - t[:, 0]) / (points - 1)


def _score(
    y: NDArray[np.float64], t: NDArray[Any], popt: NDArray[np.float64], phase: str
) -> NDArray[np.float64]:
    """Return R2 of every window, NaN where there is no fit."""
    A, tau, C = popt.T[:, :, np.newaxis]
    model = -A * np.expm1(-t / tau) + C if phase == ON else A * np.exp(-t / tau) + C
    rss = ((y - model) ** 2).sum(axis=1)
    tss = ((y - y.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    return np.asarray(1.0 - rss / np.where(tss > 0.0, tss, np.nan))


def _as_fits(
    trace: Trace,
    n: int,
    popt: NDArray[np.float64],
    r_squared: NDArray[np.float64],
    codes: NDArray[np.int8],
) -> Fits:
    ok = codes == exponential.FIT_OK
    popt = np.where(ok[:, np.newaxis], popt, np.nan)
    popt[:, 1] *= trace.spacing
    r_squared = np.where(ok | (codes == exponential.NOISE), r_squared, np.nan)
    adjusted = np.array([adjust(value, n) for value in r_squared])
    status = np.array([FIT_WORDS[int(code)] for code in codes], np.str_)
    return Fits(popt, r_squared, adjusted, status)


def is_silent(trace: Trace, first: int, n: int) -> bool:
    """Tell whether neither a rise nor a decay explains a window better than chance."""
    y = trace.signal[first : first + n]
    if not np.isfinite(y).all() or n < 4:
        return False
    clock = trace.clock[first : first + n]
    row = np.empty(exponential.N_COLUMNS)
    for process in _PROCESS.values():
        code, _ = exponential.fit_exponential(y, clock - clock[:1], process, np.nan, row)
        if code == exponential.FIT_OK:
            return False
    # Neither bends; but a straight line is a response, too.
    slope = float(np.corrcoef(np.arange(n), y)[0, 1])
    return bool(exponential.is_noise(slope**2, n))


def search_starts(
    trace: Trace, n: int, start_step: int, points: int
) -> dict[str, NDArray[np.int64]]:
    """Return for each process the starts among which the best window of ``n`` samples is.

    On raw samples the search kernels name one; with resampling, of uneven samples, every start is a
    candidate.
    """
    if points:
        everywhere = np.arange(0, len(trace) - n + 1, start_step, dtype=np.int64)
        return {ON: everywhere, OFF: everywhere}
    y, clock, lengths = trace.signal, trace.clock, np.array([n], np.int64)
    if clock.size:
        fall, rise = uneven.search_uneven(y, clock, 0, len(trace), start_step, lengths, 0.0)
    else:
        tables = windows.search_tables(lengths)
        fall, rise = windows.search_windows(y, 0, len(trace), start_step, lengths, tables, 0.0)
    return {
        phase: np.array([start] if start >= 0 else [], np.int64)
        for phase, (start, _, _) in ((ON, rise), (OFF, fall))
    }


def covariance(
    t: NDArray[np.float64], y: NDArray[np.float64], popt: NDArray[np.float64], phase: str
) -> NDArray[np.float64]:
    """Return the covariance of (A, tau, C): inverse of ``J^T J`` times ``RSS / (n - 3)``.

    Parameters
    ----------
    t, y
        The points that were fitted, time from the begin of the window.  Shape (n,).
    popt
        The fit.
    phase
        ``"on"`` or ``"off"``.

    Returns
    -------
    Shape (3, 3); NaN where there is no fit.
    """
    A, tau, _ = popt
    if not np.isfinite(popt).all():
        return np.full((3, 3), np.nan)
    decayed = np.exp(-t / tau)
    by_tau = A * t / tau**2 * decayed
    if phase == ON:
        J = np.column_stack([-np.expm1(-t / tau), -by_tau, np.ones_like(t)])
    else:
        J = np.column_stack([decayed, by_tau, np.ones_like(t)])
    # A, tau and C differ by orders of magnitude: scaled columns keep the inverse accurate.
    scale = np.linalg.norm(J, axis=0)
    inverse = np.linalg.inv(np.linalg.qr(J / scale, mode="r")) / scale[:, np.newaxis]
    residual = y - MODELS[phase](t, *popt)
    freedom = t.size - 3
    variance = float(residual @ residual) / freedom if freedom > 0 else np.inf
    return np.asarray(inverse @ inverse.T * variance)
