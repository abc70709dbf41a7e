"""Fit given windows in every cycle: what all the classes for cycles share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oectflow.errors import ParameterError
from oectflow.extractors.autotau import plots
from oectflow.extractors.autotau.fits import OFF, ON, Fits, fit_windows
from oectflow.extractors.autotau.fitter import TauFitter
from oectflow.extractors.autotau.trace import Trace, logger

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Record = dict[str, Any]

#: Columns of the summary: our name of the value -> name of the column.
_SUMMARY = {
    "cycle": "cycle",
    "cycle_start_time": "cycle_start_time",
    "tau_on": "tau_on",
    "tau_off": "tau_off",
    "tau_on_r_squared": "r_squared_on",
    "tau_off_r_squared": "r_squared_off",
    "tau_on_r_squared_adj": "r_squared_adj_on",
    "tau_off_r_squared_adj": "r_squared_adj_off",
}


class CycleResults:
    """Cycles of a signal, their fits, a summary and plots.

    Parameters
    ----------
    time, signal
        Times, increasing, in s, and samples in any unit.  Shape (N,).
    period, sample_rate
        Gate period in s, samples per s.
    normalize, language
        As in :class:`TauFitter`.
    """

    #: R2 at which the plots draw a line.
    _threshold: float | None = None

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        period: float,
        sample_rate: float,
        normalize: bool = False,
        language: str = "en",
    ) -> None:
        self._trace = Trace.of(time, signal)
        self.time = self._trace.time
        self.signal = self._trace.signal
        self.period = period
        self.sample_rate = sample_rate
        if not sample_rate > 0.0:
            raise ParameterError(f"sample_rate={sample_rate!r}: expected samples per second, > 0")
        self._starts = self._trace.cycles(period)
        self._trace.check_rate(1.0 / sample_rate)
        self.normalize = normalize
        self.text = plots.labels(language)
        self.language = language
        self._records: list[Record] = []

    def _fit_cycles(
        self, windows: dict[str, tuple[float, float] | None], n_cycles: int | None, points: int
    ) -> list[Record]:
        """Fit one window per process in every complete cycle.

        Parameters
        ----------
        windows
            Offset in the cycle and size, in s, of the windows; both ends belong to the window.
            None where there is none.
        n_cycles
            At most so many cycles; None for all.
        points
            Points to which a window is resampled before the fit; 0 fits the raw samples.
        """
        starts = self._starts[:-1][:n_cycles]
        if not starts.size:
            logger.warning(
                "no complete cycle: %d samples of %.6g s, period %.6g s",
                len(self._trace), self._trace.spacing, self.period,
            )  # fmt: skip
        fitters = [
            TauFitter.on_trace(self._trace, None, None, self.normalize, self.language)
            for _ in starts
        ]
        for phase, window in windows.items():
            first, n = self._spans(starts, window)
            failed = Fits.failed(1, "no_window" if window is None else "cut")
            for length in np.unique(n):
                members = np.flatnonzero(n == length)
                if length <= 0:
                    fits = None
                else:
                    fits = fit_windows(self._trace, first[members], int(length), phase, points)
                for i, cycle in enumerate(members):
                    fitted = int(first[cycle]), max(0, int(length)), points
                    if fits is None:
                        fitters[cycle].store(phase, failed, 0, fitted)
                    else:
                        fitters[cycle].store(phase, fits, i, fitted)
        return [
            self._record(i, int(start), fitter)
            for i, (start, fitter) in enumerate(zip(starts, fitters, strict=True))
        ]

    def _spans(
        self, starts: NDArray[np.int64], window: tuple[float, float] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return first sample and length of a window in every cycle; length 0 where it is cut."""
        if window is None or not starts.size:
            return starts.copy(), np.zeros(starts.size, np.int64)
        offset, size = window
        begin = self.time[starts] + offset
        if self._trace.clock.size:
            first = self._trace.nearest(begin)
            last = self._trace.nearest(begin + size)
        else:
            # Rounded once, so that the window has the same length in every cycle.
            first = starts + int(np.floor(offset / self._trace.spacing + 0.5))
            last = first + int(np.floor(size / self._trace.spacing + 0.5))
        n = last - first + 1
        # A window that ends where the next cycle begins has its last sample there.
        n = np.where(last == len(self._trace), n - 1, n)
        return first, np.where((last <= len(self._trace)) & (first >= 0), n, 0)

    def _record(self, i: int, start: int, fitter: TauFitter) -> Record:
        record: Record = {
            "cycle": i + 1,
            "cycle_start_time": float(self.time[start]),
            "fitter": fitter,
        }
        for phase in (ON, OFF):
            self._fill(record, phase, fitter)
        return record

    def _fill(self, record: Record, phase: str, fitter: TauFitter) -> None:
        """Write the fit of one process into the record of its cycle."""
        popt: NDArray[np.float64] = getattr(fitter, f"tau_{phase}_popt")
        first, n, _ = fitter._fitted[phase]
        has_window = n > 0
        begin = float(fitter.time[first]) if has_window else float("nan")
        end = float(fitter.time[first + n - 1]) if has_window else float("nan")
        record[f"tau_{phase}"] = float(popt[1])
        record[f"tau_{phase}_popt"] = popt
        for name in ("r_squared", "r_squared_adj", "status"):
            record[f"tau_{phase}_{name}"] = getattr(fitter, f"tau_{phase}_{name}")
        record[f"window_{phase}_start_time"] = begin
        record[f"window_{phase}_end_time"] = end
        record[f"window_{phase}_start_idx"] = int(self._trace.nearest(begin)) if has_window else -1
        record[f"window_{phase}_end_idx"] = int(self._trace.nearest(end)) if has_window else -1
        setattr(fitter, f"t_{phase}_idx", [begin, end] if has_window else None)

    def _windows(self, start_cycle: int, n_cycles: int) -> list[tuple[str, float, float]]:
        return [
            (phase, record[f"window_{phase}_start_time"], record[f"window_{phase}_end_time"])
            for record in self._records[start_cycle : start_cycle + n_cycles]
            for phase in (ON, OFF)
            if record[f"window_{phase}_start_idx"] >= 0
        ]

    def _ready(self, start_cycle: int = 0) -> bool:
        if not self._records:
            logger.warning("no results yet: call fit_all_cycles() first")
            return False
        if not 0 <= start_cycle < len(self._records):
            raise ParameterError(
                f"start_cycle={start_cycle!r}: expected 0 to {len(self._records) - 1}"
            )
        return True

    def get_summary_data(self) -> pd.DataFrame | None:
        """Return cycle, start time, tau, R2 and adjusted R2 of all cycles; None before the fit."""
        import pandas as pd

        if not self._ready():
            return None
        return pd.DataFrame([self._summary_row(record) for record in self._records])

    def _summary_row(self, record: Record) -> Record:
        return {column: record[name] for name, column in _SUMMARY.items()}

    def plot_cycle_results(
        self, figsize: tuple[float, float] = (10, 6), dual_y_axis: bool = True
    ) -> Axes | None:
        """Draw tau over the cycles into new axes, and return them; None before the fit.

        Parameters
        ----------
        figsize
            Width and height in inches.
        dual_y_axis
            Draw the decay on an axis of its own, at the right.
        """
        if not self._ready():
            return None
        return plots.draw_taus(plots.new_axes(figsize), self._records, self.text, dual_y_axis)

    def plot_r_squared_values(
        self, figsize: tuple[float, float] = (10, 6), threshold: float | None = None
    ) -> Axes | None:
        """Draw R2 over the cycles, and a line at ``threshold``; None before the fit."""
        if not self._ready():
            return None
        level = self._threshold if threshold is None else threshold
        return plots.draw_r_squared(plots.new_axes(figsize), self._records, self.text, level)

    def plot_all_fits(
        self,
        start_cycle: int = 0,
        num_cycles: int | None = None,
        figsize: tuple[float, float] = (15, 10),
    ) -> NDArray[Any] | None:
        """Draw windows and fits of some cycles, by default of ten; None before the fit.

        Returns
        -------
        Axes of shape (cycles, 2): on, off.
        """
        if not self._ready(start_cycle):
            return None
        shown = self._records[start_cycle:][: 10 if num_cycles is None else num_cycles]
        return plots.draw_fits(shown, self.text, figsize)

    def plot_windows_on_signal(
        self,
        plot_full_signal: bool = False,
        start_cycle: int = 0,
        num_cycles: int = 5,
        figsize: tuple[float, float] = (12, 6),
    ) -> Axes | None:
        """Draw the signal and the windows of some cycles, or of all; None before the fit."""
        if plot_full_signal:
            start_cycle, num_cycles = 0, len(self._records)
        if not self._ready(start_cycle):
            return None
        last = min(start_cycle + num_cycles, len(self._records))
        span = slice(self._starts[start_cycle], self._starts[last])
        if plot_full_signal:
            span = slice(None)
        windows = self._windows(start_cycle, num_cycles)
        ax: Axes = plots.new_axes(figsize)
        return plots.draw_windows(ax, self.time[span], self.signal[span], windows, self.text)

    #: The shorter name.
    plot_windows = plot_windows_on_signal
