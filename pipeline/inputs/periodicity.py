"""The period of a gate signal, found in the drain current alone.

The gate switches at regular times and the current relaxes after each switch, so the current itself
is smooth and its autocorrelation is wide.  What is sharp are its innovations: the part of each
sample that the few samples before it do not predict.  They are large where the gate switches and
small elsewhere, whatever the relaxation time; a drift, noise and mains hum are predicted or white,
and do not recur.

1. *Innovations*: differences of the current, whitened by an autoregressive model (Levinson [1]_,
   order by AIC), the largest few clipped so that no single spike decides.
2. *Significance*: were the innovations independent, their lagged products would be martingale
   differences, and Freedman's inequality [2]_ bounds the probability that their sum reaches what
   is seen.  It holds for Gaussian noise as well as for a handful of spikes.  A lag counts if the
   bound, summed over all lags, is below :data:`FALSE_ALARM`.
3. *Dominance*: at that lag, and on average over all its multiples, at least half of the energy of
   the innovations recurs.  A random telegraph signal has chance coincidences, not that.
4. *Return*: one period later the current is nearer to where it was than two samples of one cycle
   are to each other; ramps, decays and random walks are not.  The shortest lag that does so is the
   period, so that no multiple is taken for it.

Where the noise hides the innovations, the same is tried on averages over 2, 4, 8, … samples.

References
----------
.. [1] Levinson (1946), J. Math. Phys. 25, 261. doi:10.1002/sapm1946251261
.. [2] Freedman (1975), Ann. Probab. 3, 100, theorem 1.6. doi:10.1214/aop/1176996452
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

#: Bound on the probability to find a period in a trace of independent innovations.
FALSE_ALARM = 1e-4
_ORDER = 8
# The whitening leaves traces of itself at lags just beyond its order; their squares, which is what
# is left at twice the order, are negligible.
_MIN_LAG = 2 * (_ORDER + 1)
# A lag up to a quarter of the trace is seen at least four times.
_CYCLES = 4
# Four cycles have eight switches; what is larger than the eighth largest innovation is no rule.
_CLIP = 2 * _CYCLES


def find_period(current: NDArray[np.float64]) -> float:
    """Return the period of the gate signal that a current follows.

    Parameters
    ----------
    current
        Drain current at uniform intervals, in any unit.  Samples that are not finite are
        interpolated.  Shape (n_samples,).

    Returns
    -------
    The period in samples, NaN where none is certain.  At least four periods of at least 18
    samples must be there; five with sharp edges usually suffice.  With ``k`` periods in half of the
    trace the error is below ``1 / k`` samples where single samples show the edges.
    """
    finite = np.isfinite(current)
    if np.count_nonzero(finite) < _CYCLES * _MIN_LAG:
        return float("nan")
    samples = np.arange(len(current))
    current = np.interp(samples, samples[finite], current[finite])
    level = np.log(FALSE_ALARM / len(current))
    width = 1
    while len(current) // width >= _CYCLES * _MIN_LAG:
        means = current[: len(current) // width * width].reshape(-1, width).mean(axis=1)
        lags = _LagSums.of(_innovations(means))
        period = lags.candidate(level)
        if period:
            # Averages hide what is shorter than they are, single samples what is below the noise.
            parts = _divisor(current, period * width), _divisor(means, period)
            if max(parts) > 1:
                period = lags.near(period / max(parts), level)
            if min(parts) and period and lags.recurs(period):
                return period * width
        width *= 2
    return float("nan")


def _innovations(current: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what an autoregressive model of the current's differences does not predict."""
    steps = np.diff(current)
    steps -= steps.mean()
    n = len(steps)
    size = scipy.fft.next_fast_len(n + _ORDER + 1, real=True)
    acf = scipy.fft.irfft(np.abs(scipy.fft.rfft(steps, size)) ** 2, size)[: _ORDER + 1]
    model = best = np.zeros(0)
    error = acf[0]
    # What is smaller than the rounding of n products predicts rounding.
    floor = n * np.finfo(float).eps * acf[0]
    score = n * np.log(error) if error > 0 else -np.inf
    for order in range(1, _ORDER + 1):
        if error <= floor:
            break
        reflection = (acf[order] - model @ acf[order - 1 : 0 : -1]) / error
        model = np.append(model - reflection * model[::-1], reflection)
        error *= 1 - reflection**2
        if error > floor and n * np.log(error) + 2 * order < score:
            score, best = n * np.log(error) + 2 * order, model
    white = np.convolve(steps, np.concatenate([[1.0], -best]))[len(best) : n]
    limit = np.partition(np.abs(white), -_CLIP)[-_CLIP]
    clipped: NDArray[np.float64] = np.clip(white, -limit, limit)
    clipped -= clipped.mean()
    return clipped


@dataclass(frozen=True)
class _LagSums:
    """Sums of lagged products of innovations, by lag.

    ``single``: at this very lag; ``triple``: at this lag and its neighbours, as switches fall
    between samples; ``energy``: what ``triple`` would be if everything recurred; ``log_bound``: the
    logarithm of Freedman's bound on the probability of ``triple``.
    """

    single: NDArray[np.float64]
    triple: NDArray[np.float64]
    energy: NDArray[np.float64]
    log_bound: NDArray[np.float64]

    @classmethod
    def of(cls, white: NDArray[np.float64]) -> _LagSums:
        n = len(white)
        near = np.convolve(white, [1.0, 1.0, 1.0], mode="same")
        size = scipy.fft.next_fast_len(2 * n, real=True)
        spectrum = scipy.fft.rfft(white, size)
        single = scipy.fft.irfft(np.abs(spectrum) ** 2, size)[:n]
        triple = scipy.fft.irfft(spectrum * np.conj(scipy.fft.rfft(near, size)), size)[:n]
        lags = np.arange(n)
        energies = np.concatenate([[0.0], np.cumsum(white**2)])
        energy = np.sqrt(energies[n - lags] * (energies[n] - energies[lags]))
        # Sum of conditional variances, largest term, and P(sum >= x) <= exp(-v/b² h(b x / v)).
        variance = energies[n] / n * np.cumsum(near**2)[::-1]
        largest = np.abs(white).max() * np.abs(near).max()
        excess = np.divide(
            largest * np.maximum(triple, 0), variance, out=np.zeros(n), where=variance > 0
        )
        h = (1 + excess) * np.log1p(excess) - excess
        bound = -variance * h / largest**2 if largest > 0 else np.zeros(n)
        return cls(single, triple, energy, bound)

    def _good(self, level: float) -> NDArray[np.bool_]:
        good = (self.log_bound < level) & (self.triple >= self.energy / 2)
        good[:_MIN_LAG] = False
        good[len(good) // _CYCLES + 1 :] = False
        return good

    def candidate(self, level: float) -> float:
        """Return the shortest lag that recurs about as well as the best, 0 where none does."""
        good = self._good(level)
        if not good.any():
            return 0.0
        share = np.divide(self.triple, self.energy, out=np.zeros(len(good)), where=good)
        # A lag that is no multiple of the period matches at most one of the two switches of a
        # cycle, half of what the period does; 3/4 is midway.
        lag = int(np.argmax(share >= 0.75 * share.max()))
        return self._refined(lag + int(share[lag + 1] > share[lag]))

    def near(self, period: float, level: float) -> float:
        """Return the period next to ``period``, 0 where the innovations do not recur there."""
        lag = round(period)
        return self._refined(lag) if self._good(level)[lag - 1 : lag + 2].any() else 0.0

    def recurs(self, period: float) -> bool:
        """Tell whether half of the energy recurs, taken over all multiples of the period."""
        multiples = np.arange(1, int((len(self.triple) - 1) / period) + 1)
        lags = np.rint(multiples * period).astype(int)
        return bool(self.triple[lags].sum() >= self.energy[lags].sum() / 2)

    def _refined(self, lag: int) -> float:
        """Follow the peak to ever larger multiples, where its place tells the period better."""
        period = float(lag - 1 + np.argmax(self.single[lag - 1 : lag + 2]))
        multiple = 1
        while multiple * period <= len(self.single) // 2:
            centre = round(multiple * period)
            peak = np.maximum(self.single[centre - 1 : centre + 2], 0)
            if peak.sum() > 0:
                # Switches between samples share their products among the lags on either side.
                period = float(centre + (peak[2] - peak[0]) / peak.sum()) / multiple
            # The error of one multiple, at most half a sample, must not lose the next one.
            multiple += max(1, multiple // 4)
        return period


def _divisor(current: NDArray[np.float64], period: float) -> int:
    """Return into how many shorter periods a period falls: 1 if into none, 0 if it is no period.

    The structure function, the mean square of ``I(t + lag) - I(t)``, grows until the current has
    moved away, and is small again where it comes back.
    """
    # A device settles in the first cycles.
    current = current[len(current) // 2 :] - current.mean()
    n, lag = len(current), round(period)
    cycles = current[: n // lag * lag].reshape(-1, lag)
    spread = 2 * float(np.var(cycles, axis=1).mean())
    size = scipy.fft.next_fast_len(2 * n, real=True)
    acf = scipy.fft.irfft(np.abs(scipy.fft.rfft(current, size)) ** 2, size)[: lag + 1]
    energies = np.concatenate([[0.0], np.cumsum(current**2)])
    lags = np.arange(lag + 1)
    moved = (energies[n - lags] + energies[n] - energies[lags] - 2 * acf) / (n - lags)
    if not moved[lag] < spread:
        return 0
    midway = (moved[lag] + spread) / 2
    away = int(np.argmax(moved >= midway))
    parts = np.arange(1, lag + 1)
    places = np.rint(period / parts).astype(int)
    back = (moved[places] <= midway) & (places > away)
    return int(parts[back].max(initial=0)) if away else 0
