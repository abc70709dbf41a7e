"""Fit every cycle of a signal, with windows that are given or searched."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from oectflow.errors import ParameterError, did_you_mean
from oectflow.extractors.autotau.auto import AutoTauFitter, offset_in_period
from oectflow.extractors.autotau.fits import OFF, ON, fit_windows, resampled_points
from oectflow.extractors.autotau.records import CycleResults, Record
from oectflow.extractors.autotau.search import Window
from oectflow.extractors.autotau.trace import logger

if TYPE_CHECKING:
    import pandas as pd

_SEARCH_OPTIONS = list(inspect.signature(AutoTauFitter).parameters)[4:]


class CyclesTauFitter(CycleResults):
    """Fit windows that are given in every cycle of a signal.

    Parameters
    ----------
    time, signal, period, sample_rate, normalize, language
        As in :class:`.records.CycleResults`.
    window_on_offset, window_on_size, window_off_offset, window_off_size
        Begin of the windows after that of the cycle, and their durations, in s; both ends belong
        to the window.

    Attributes
    ----------
    cycle_results
        One dict per complete cycle, as :meth:`fit_all_cycles` returns them.
    """

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        period: float,
        sample_rate: float,
        window_on_offset: float,
        window_on_size: float,
        window_off_offset: float,
        window_off_size: float,
        normalize: bool = False,
        language: str = "en",
    ) -> None:
        super().__init__(time, signal, period, sample_rate, normalize, language)
        self.window_on_offset = window_on_offset
        self.window_on_size = window_on_size
        self.window_off_offset = window_off_offset
        self.window_off_size = window_off_size
        self.cycle_results: Any = []

    def fit_all_cycles(self, interp: bool = True, points_after_interp: int = 100) -> Any:
        """Fit all complete cycles.

        Parameters
        ----------
        interp, points_after_interp
            Resample each window linearly to so many points before its fit; R2 is always that of
            the raw samples.

        Returns
        -------
        One dict per cycle: ``cycle`` (from 1), ``cycle_start_time``, and for ``on`` and ``off``
        ``tau_on``, ``tau_on_popt``, ``tau_on_r_squared``, ``tau_on_r_squared_adj``,
        ``tau_on_status``, ``window_on_start_time`` ...; ``fitter`` has the fits of the cycle.
        """
        on = self.window_on_offset, self.window_on_size
        off = self.window_off_offset, self.window_off_size
        points = resampled_points(interp, points_after_interp)
        self._records = self._fit_cycles({ON: on, OFF: off}, None, points)
        self.cycle_results = self._records
        return self.cycle_results


class CyclesAutoTauFitter(CycleResults):
    """Search the best windows in the first two periods and fit them in every cycle.

    A cycle in which R2 stays below the threshold is searched again on its own.

    Parameters
    ----------
    time, signal, period, sample_rate
        As in :class:`.records.CycleResults`.
    fitter_factory
        ``fitter_factory(time, signal, sample_step=..., period=..., **kwargs)`` returns the
        :class:`AutoTauFitter` (or alike) that searches the first two periods.
    max_cycles
        Fit at most so many cycles.
    **kwargs
        Options of :class:`AutoTauFitter`; with a factory, whatever it takes.

    Attributes
    ----------
    cycle_results
        One dict per complete cycle, as :meth:`fit_all_cycles` returns them.
    refitted_cycles
        One dict per cycle in which a search found a better window.
    initial_auto_fitter
        The fitter that searched the first two periods.
    window_on_offset, window_on_size, window_off_offset, window_off_size
        The windows that were found, in s; None where no window holds the process.
    """

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        period: float,
        sample_rate: float,
        fitter_factory: Callable[..., Any] | None = None,
        *,
        max_cycles: int | None = None,
        **kwargs: Any,
    ) -> None:
        normalize = bool(kwargs.get("normalize", False))
        language = kwargs.get("language", "en")
        super().__init__(time, signal, period, sample_rate, normalize, language)
        for word in kwargs if fitter_factory is None else ():
            if word not in _SEARCH_OPTIONS:
                raise ParameterError(
                    f"{type(self).__name__}: unknown option {word!r}"
                    f"{did_you_mean(word, _SEARCH_OPTIONS)}"
                )
        self.auto_tau_fitter_params = kwargs
        self.fitter_factory = fitter_factory
        self.max_cycles = max_cycles
        self.cycle_results: list[Record] = []
        self.refitted_cycles: list[Record] = []
        self.last_r_squared_threshold = 0.95
        self.initial_auto_fitter: Any = None
        self.window_on_offset: float | None = None
        self.window_off_offset: float | None = None
        self.window_on_size: float | None = None
        self.window_off_size: float | None = None

    def find_best_windows(self, interp: bool = True, points_after_interp: int = 100) -> Any:
        """Search the first two periods.

        Returns
        -------
        The fitter that searched; the windows are in ``window_on_offset`` and so on.
        """
        end = int(self._starts[2]) if self._starts.size > 2 else len(self.time)
        fitter = self._make_fitter(end)
        fitter.fit_tau_on_and_off(interp=interp, points_after_interp=points_after_interp)
        for phase in (ON, OFF):
            start = getattr(fitter, f"best_tau_{phase}_window_start_time")
            size = getattr(fitter, f"best_tau_{phase}_window_size")
            offset = None
            if start is not None:
                offset = offset_in_period(self._trace, start, self.period)
            setattr(self, f"window_{phase}_offset", offset)
            setattr(self, f"window_{phase}_size", size)
        self.initial_auto_fitter = fitter
        return fitter

    def _make_fitter(self, end: int) -> Any:
        time, signal = self.time[:end], self.signal[:end]
        steps = {"sample_step": 1.0 / self.sample_rate, "period": self.period}
        options = steps | self.auto_tau_fitter_params
        if self.fitter_factory is None:
            return AutoTauFitter(time, signal, **options)
        try:
            return self.fitter_factory(time, signal, **options)
        except TypeError as error:
            # Factories written for autotau 0.6.0 supply both themselves: it does not pass them.
            if "multiple values" not in str(error):
                raise
            return self.fitter_factory(time, signal, **self.auto_tau_fitter_params)

    def fit_all_cycles(
        self,
        interp: bool = True,
        points_after_interp: int = 100,
        r_squared_threshold: float = 0.95,
    ) -> list[Record]:
        """Fit all complete cycles, after :meth:`find_best_windows` if that was not called.

        Parameters
        ----------
        interp, points_after_interp
            As in :meth:`find_best_windows`.
        r_squared_threshold
            A cycle with R2 below it is searched again; what is found replaces a worse fit.

        Returns
        -------
        Dicts as in :meth:`CyclesTauFitter.fit_all_cycles`, and ``was_refitted``: whether a fit of
        this cycle was replaced.
        """
        if self.initial_auto_fitter is None:
            self.find_best_windows(interp, points_after_interp)
        points = resampled_points(interp, points_after_interp)
        windows = {phase: self._given(phase) for phase in (ON, OFF)}
        self._records = self._fit_cycles(windows, self.max_cycles, points)
        self.last_r_squared_threshold = self._threshold = r_squared_threshold
        self.refitted_cycles = []
        for record in self._records:
            self._refit(record, interp, points_after_interp, r_squared_threshold)
        self.cycle_results = self._records
        return self.cycle_results

    def _given(self, phase: str) -> tuple[float, float] | None:
        offset = getattr(self, f"window_{phase}_offset")
        size = getattr(self, f"window_{phase}_size")
        return None if offset is None or size is None else (offset, size)

    def _refit(self, record: Record, interp: bool, points: int, threshold: float) -> None:
        """Search a cycle whose fits are poor, and take what is better."""
        # A sample that is not a number makes no poor fit but none: another window of the cycle
        # would not be comparable with its neighbours.
        poor = [
            phase
            for phase in (ON, OFF)
            if record[f"tau_{phase}_status"] != "nan"
            and not record[f"tau_{phase}_r_squared"] >= threshold
        ]
        old = {phase: record[f"tau_{phase}_r_squared"] for phase in (ON, OFF)}
        found = self._search_cycle(record["cycle"] - 1, interp, points) if poor else {}
        replaced = [phase for phase in poor if self._improve(record, phase, found, interp, points)]
        for phase in poor:
            below = not record[f"tau_{phase}_r_squared"] >= threshold
            if record[f"tau_{phase}_status"] == "ok" and below:
                record[f"tau_{phase}_status"] = "low_r2"
        record["was_refitted"] = bool(replaced)
        if replaced:
            self.refitted_cycles.append(
                {
                    "cycle": record["cycle"],
                    "original_r_squared_on": old[ON],
                    "original_r_squared_off": old[OFF],
                    "refit_types": replaced,
                    "new_r_squared_on": record["tau_on_r_squared"],
                    "new_r_squared_off": record["tau_off_r_squared"],
                }
            )
            logger.info("cycle %d: better windows for %s", record["cycle"], ", ".join(replaced))

    def _search_cycle(self, i: int, interp: bool, points: int) -> dict[str, Window | None]:
        """Search one cycle, with the options of the first search but in this thread."""
        options = {
            name: value
            for name, value in self.auto_tau_fitter_params.items()
            if name in _SEARCH_OPTIONS and name != "executor"
        }
        first, last = int(self._starts[i]), int(self._starts[i + 1])
        search = AutoTauFitter(
            self.time[first:last],
            self.signal[first:last],
            **{"sample_step": 1.0 / self.sample_rate, "period": self.period} | options,
        )
        found = search.search(interp, points)
        return {
            phase: window and window._replace(start=window.start + first)
            for phase, window in found.items()
        }

    def _improve(
        self,
        record: Record,
        phase: str,
        found: dict[str, Window | None],
        interp: bool,
        points_after_interp: int,
    ) -> bool:
        """Take the window that was found if it is better than the one of the record."""
        window = found[phase]
        if window is None:
            return False
        points = resampled_points(interp, points_after_interp)
        fits = fit_windows(self._trace, np.array([window.start]), window.length, phase, points)
        old = record[f"tau_{phase}_r_squared"]
        if record[f"tau_{phase}_status"] == "ok" and not fits.r_squared[0] > old:
            return False
        record["fitter"].store(phase, fits, 0, (window.start, window.length, points))
        self._fill(record, phase, record["fitter"])
        return True

    def get_refitted_cycles_info(self) -> pd.DataFrame | None:
        """Return what was searched again and got better, with both R2; None where nothing was."""
        import pandas as pd

        if not self.refitted_cycles:
            logger.info("no cycle was fitted again")
            return None
        return pd.DataFrame(self.refitted_cycles)

    def _summary_row(self, record: Record) -> Record:
        return super()._summary_row(record) | {"was_refitted": record["was_refitted"]}
