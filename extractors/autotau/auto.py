"""Search the windows that an exponential explains best, and fit them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oectflow.extractors.autotau import plots
from oectflow.extractors.autotau.fits import OFF, ON, fit_windows, resampled_points
from oectflow.extractors.autotau.fitter import TauFitter
from oectflow.extractors.autotau.search import Window, best_windows, threads, window_lengths
from oectflow.extractors.autotau.trace import Trace, logger

WindowPair = dict[str, Window | None]
_BEGIN = np.zeros(1, np.int64)
Best = tuple[NDArray[np.float64] | None, float, NDArray[np.float64] | None, float]


class AutoTauFitter:
    """Try every window, keep the one with the largest adjusted R2 for the rise and the decay.

    Parameters
    ----------
    time, signal
        Times, increasing, in s, and samples in any unit.  Shape (N,).
    sample_step, period
        Sampling interval and gate period, in s.
    window_scalar_min, window_scalar_max
        Shortest and longest window as shares of the period.
    window_points_step, window_start_idx_step
        Distance of the lengths and of the starts that are tried, in samples.
    normalize, language
        As in :class:`TauFitter`.
    show_progress
        Accepted; a search takes milliseconds and shows nothing.
    executor
        None, a thread or process pool, or ``client.get_executor()`` of a Dask client: anything
        with ``submit``.  The results are the same.

    Attributes
    ----------
    best_tau_on_fitter, best_tau_off_fitter
        :class:`TauFitter` of the best window; None where no window holds the process.
    best_tau_on_window_start_time, best_tau_on_window_end_time, best_tau_on_window_size
        Times of its first and last sample, and ``n * sample_step``, in s; ``off`` alike.
    """

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        sample_step: float,
        period: float,
        window_scalar_min: float = 1 / 5,
        window_scalar_max: float = 1 / 3,
        window_points_step: int = 10,
        window_start_idx_step: int = 1,
        normalize: bool = False,
        language: str = "en",
        show_progress: bool = False,
        executor: Any = None,
    ) -> None:
        self._trace = Trace.of(time, signal)
        self.time = self._trace.time
        self.signal = self._trace.signal
        self.sample_step = sample_step
        self.period = period
        self._lengths = window_lengths(
            period, sample_step, window_scalar_min, window_scalar_max, window_points_step
        )
        self._trace.check_rate(sample_step)
        self.window_length_min = window_scalar_min * period
        self.window_length_max = window_scalar_max * period
        self.window_points_step = window_points_step
        self.window_start_idx_step = window_start_idx_step
        self.normalize = normalize
        self.text = plots.labels(language)
        self.language = language
        self.show_progress = show_progress
        self.executor = executor
        self.best_tau_on_fitter: TauFitter | None = None
        self.best_tau_off_fitter: TauFitter | None = None
        self.best_tau_on_window_start_time: float | None = None
        self.best_tau_off_window_start_time: float | None = None
        self.best_tau_on_window_end_time: float | None = None
        self.best_tau_off_window_end_time: float | None = None
        self.best_tau_on_window_size: float | None = None
        self.best_tau_off_window_size: float | None = None

    def fit_tau_on_and_off(self, interp: bool = True, points_after_interp: int = 100) -> Best:
        """Search and fit both processes.

        Parameters
        ----------
        interp, points_after_interp
            Resample each window linearly to so many points before its fit; R2 is always that of
            the raw samples.

        Returns
        -------
        popt (A, tau, C) and adjusted R2 of the rise, then of the decay; ``None, 0`` where no
        window holds the process.
        """
        found = self.search(interp, points_after_interp)
        on = self._keep(ON, found[ON], interp, points_after_interp)
        off = self._keep(OFF, found[OFF], interp, points_after_interp)
        return *on, *off

    def search(self, interp: bool = True, points_after_interp: int = 100) -> WindowPair:
        """Return the best window of ``"on"`` and ``"off"``; None where there is none."""
        points = resampled_points(interp, points_after_interp)
        return best_windows(
            self._trace, self._lengths, self.window_start_idx_step, points, self.executor
        )

    def _keep(
        self, phase: str, window: Window | None, interp: bool, points: int
    ) -> tuple[NDArray[np.float64] | None, float]:
        if window is None:
            logger.info("no window holds the process %s", phase)
            for name in ("fitter", "window_start_time", "window_end_time", "window_size"):
                setattr(self, f"best_tau_{phase}_{name}", None)
            return None, 0
        used = resampled_points(interp, points)
        part = self._trace.part(window.start, window.start + window.length)
        ends = [float(part.time[0]), float(part.time[-1])]
        fitter = TauFitter.on_trace(part, ends, ends, self.normalize, self.language)
        for process in (ON, OFF):
            # Its covariance is computed when somebody asks for it.
            fits = fit_windows(part, _BEGIN, window.length, process, used)
            fitter.store(process, fits, 0, (0, window.length, used))
        setattr(self, f"best_tau_{phase}_fitter", fitter)
        setattr(self, f"best_tau_{phase}_window_start_time", ends[0])
        setattr(self, f"best_tau_{phase}_window_end_time", ends[1])
        setattr(self, f"best_tau_{phase}_window_size", window.length * self.sample_step)
        popt: NDArray[np.float64] = getattr(fitter, f"tau_{phase}_popt")
        return popt, float(getattr(fitter, f"tau_{phase}_r_squared_adj"))

    def plot_windows(self, figsize: tuple[float, float] = (12, 6)) -> Any:
        """Draw the signal with the windows that were found into new axes, and return them."""
        windows = [
            (
                phase,
                getattr(self, f"best_tau_{phase}_window_start_time"),
                getattr(self, f"best_tau_{phase}_window_end_time"),
            )
            for phase in (ON, OFF)
        ]
        found = [window for window in windows if window[1] is not None]
        return plots.draw_windows(plots.new_axes(figsize), self.time, self.signal, found, self.text)


class WindowFinder:
    """Search the best windows without keeping their fits.

    Parameters
    ----------
    time, signal, sample_step, period
        And all that follow, but ``max_workers``: as in :class:`AutoTauFitter`.
    max_workers
        Threads that share the search; None searches in the calling thread.

    Attributes
    ----------
    best_on_window, best_off_window
        The windows as :meth:`find_best_windows` returns them.
    """

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        sample_step: float,
        period: float,
        window_scalar_min: float = 1 / 5,
        window_scalar_max: float = 1 / 3,
        window_points_step: int = 10,
        window_start_idx_step: int = 1,
        normalize: bool = False,
        language: str = "en",
        show_progress: bool = False,
        max_workers: int | None = None,
    ) -> None:
        self._fitter = AutoTauFitter(
            time, signal, sample_step, period, window_scalar_min, window_scalar_max,
            window_points_step, window_start_idx_step, normalize, language, show_progress,
        )  # fmt: skip
        self.time = self._fitter.time
        self.signal = self._fitter.signal
        self.sample_step = sample_step
        self.period = period
        self.window_length_min = self._fitter.window_length_min
        self.window_length_max = self._fitter.window_length_max
        self.window_points_step = window_points_step
        self.window_start_idx_step = window_start_idx_step
        self.normalize = normalize
        self.language = language
        self.show_progress = show_progress
        self.max_workers = max_workers
        self.best_on_window: dict[str, float] | None = None
        self.best_off_window: dict[str, float] | None = None

    def find_best_windows(
        self, interp: bool = True, points_after_interp: int = 100
    ) -> dict[str, dict[str, float] | None]:
        """Search both windows.

        Returns
        -------
        For ``"on"`` and ``"off"``: ``offset`` within the period, ``size``, ``start_time``,
        ``end_time`` (s), ``r_squared``, ``r_squared_adj``; None where no window holds the process.
        """
        with threads(self.max_workers) as pool:
            self._fitter.executor = pool
            self._fitter.fit_tau_on_and_off(interp, points_after_interp)
            self._fitter.executor = None
        self.best_on_window = self._window(ON)
        self.best_off_window = self._window(OFF)
        return self.get_window_params()

    def get_window_params(self) -> dict[str, dict[str, float] | None]:
        """Return the windows that were found last."""
        return {ON: self.best_on_window, OFF: self.best_off_window}

    def _window(self, phase: str) -> dict[str, float] | None:
        fitter: TauFitter | None = getattr(self._fitter, f"best_tau_{phase}_fitter")
        if fitter is None:
            return None
        start = float(getattr(self._fitter, f"best_tau_{phase}_window_start_time"))
        return {
            "offset": offset_in_period(self._fitter._trace, start, self.period),
            "size": getattr(self._fitter, f"best_tau_{phase}_window_size"),
            "start_time": start,
            "end_time": getattr(self._fitter, f"best_tau_{phase}_window_end_time"),
            "r_squared": getattr(fitter, f"tau_{phase}_r_squared"),
            "r_squared_adj": getattr(fitter, f"tau_{phase}_r_squared_adj"),
        }

    def plot_windows(self, figsize: tuple[float, float] = (12, 6)) -> Any:
        """Draw the signal with the windows that were found into new axes, and return them."""
        return self._fitter.plot_windows(figsize)


def offset_in_period(trace: Trace, start_time: float, period: float) -> float:
    """Return the time from the begin of the cycle in which a window begins, in s."""
    starts = trace.cycles(period)
    sample = int(trace.nearest(start_time))
    cycle = int(np.searchsorted(starts, sample, side="right")) - 1
    return float(trace.time[sample] - trace.time[starts[cycle]])
