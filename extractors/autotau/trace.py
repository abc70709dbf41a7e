"""A signal with its clock: what every class of this package works on."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oectflow.errors import ParameterError
from oectflow.extractors.kernels.gate import count_cycles, cycle_starts, recorded_clock

logger = logging.getLogger("oectflow.autotau")

#: Share of a sample by which a time may miss a border and still belong to it.
SLACK = 1e-3


@dataclass(frozen=True)
class Trace:
    """Samples and their times.

    Attributes
    ----------
    time, signal
        Shape (N,), float64, in s and any unit.
    spacing
        Mean distance of samples, in s; NaN for less than two.
    clock
        Times since the first sample in units of ``spacing`` where they are uneven, shape (N,);
        else shape (0,).
    """

    time: NDArray[np.float64]
    signal: NDArray[np.float64]
    spacing: float
    clock: NDArray[np.float64]

    @classmethod
    def of(cls, time: ArrayLike, signal: ArrayLike) -> Trace:
        """Check two arrays and find out whether the samples are even.

        Raises
        ------
        ParameterError
            The arrays are not one-dimensional and equally long, or the times do not increase.
        """
        t = np.ascontiguousarray(time, np.float64)
        y = np.ascontiguousarray(signal, np.float64)
        if t.ndim != 1 or t.shape != y.shape:
            raise ParameterError(
                f"time has shape {t.shape} and signal {y.shape}; expected two arrays of shape (n,)"
            )
        wrong = np.flatnonzero(~(np.diff(t) > 0.0))
        if wrong.size or not np.isfinite(t).all():
            where = int(wrong[0]) + 1 if wrong.size else int(np.argmin(np.isfinite(t)))
            raise ParameterError(
                f"time[{where}] = {float(t[where])!r}: times must be finite and increase; "
                "sort the samples and drop those without a time"
            )
        spacing = float((t[-1] - t[0]) / (t.size - 1)) if t.size > 1 else float("nan")
        return cls(t, y, spacing, recorded_clock(t, spacing))

    def __len__(self) -> int:
        return self.time.size

    def part(self, first: int, last: int) -> Trace:
        """Return samples ``first:last``."""
        clock = self.clock[first:last]
        return Trace(
            self.time[first:last],
            self.signal[first:last],
            self.spacing,
            clock - clock[0] if clock.size else clock,
        )

    def span(self, begin: float, end: float) -> tuple[int, int]:
        """Return the first sample and the number of samples in ``begin <= time <= end``.

        A time that misses a border by less than a thousandth of a sample lies on it.
        """
        slack = SLACK * self.spacing if len(self) > 1 else 0.0
        first = int(np.searchsorted(self.time, begin - slack, "left"))
        last = int(np.searchsorted(self.time, end + slack, "right"))
        return first, max(0, last - first)

    def nearest(self, times: ArrayLike) -> NDArray[np.int64]:
        """Return the samples nearest to ``times``; N for times after the trace."""
        wanted = np.asarray(times, np.float64)
        if not self.clock.size:
            at = np.floor((wanted - self.time[0]) / self.spacing + 0.5)
            return np.asarray(np.minimum(at, len(self)), np.int64)
        right = np.searchsorted(self.time, wanted)
        left = np.maximum(right - 1, 0)
        inside = np.minimum(right, len(self) - 1)
        closer = wanted - self.time[left] <= self.time[inside] - wanted
        beyond = wanted > self.time[-1] + 0.5 * self.spacing
        return np.asarray(np.where(beyond, len(self), np.where(closer, left, inside)), np.int64)

    def cycles(self, period: float) -> NDArray[np.int64]:
        """Return the first samples of all complete periods, and the end of the last one.

        Cycle i begins at the sample nearest to i periods; the period that ends with the last
        sample is complete.

        Returns
        -------
        Shape (n + 1,), int64.

        Raises
        ------
        ParameterError
            The period is not positive or shorter than four samples.
        """
        samples = period / self.spacing
        if not samples >= 4.0:
            raise ParameterError(
                f"period={period!r} s is {samples:.3g} samples of {self.spacing!r} s; "
                "expected at least 4; are both in s?"
            )
        n = count_cycles(len(self), samples)
        return np.asarray(cycle_starts(self.clock, len(self), samples, n), np.int64)

    def check_rate(self, sample_step: float) -> None:
        """Warn where the sampling interval that was given is not that of the times."""
        if len(self) > 1 and not abs(sample_step / self.spacing - 1.0) < 0.05:
            logger.warning(
                "sampling interval given as %.6g s, but the times are %.6g s apart; "
                "window lengths follow the former, borders the latter",
                sample_step,
                self.spacing,
            )
