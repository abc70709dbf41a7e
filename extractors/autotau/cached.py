"""Keep the windows of one step for the steps that follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from oectflow.errors import ParameterError
from oectflow.extractors.autotau.auto import AutoTauFitter, Best
from oectflow.extractors.autotau.fits import OFF, ON, fit_windows, resampled_points
from oectflow.extractors.autotau.trace import Trace

_COUNTS = ("total_steps", "full_searches", "cache_hits", "cache_misses", "revalidations")


class CachedAutoTauFitter:
    """Search the first step in full; fit later steps in its windows while those fit well.

    Parameters
    ----------
    base_fitter_factory
        ``base_fitter_factory(time, signal, sample_step=..., period=..., **options)`` returns the
        :class:`AutoTauFitter` (or alike) of a full search; None takes :class:`AutoTauFitter`.
    validation_threshold
        Adjusted R2 below which the kept windows are given up and the step is searched.
    revalidation_interval
        Steps after which a search takes place in any case.
    """

    def __init__(
        self,
        base_fitter_factory: Callable[..., Any] | None = None,
        validation_threshold: float = 0.95,
        revalidation_interval: int = 500,
    ) -> None:
        if revalidation_interval < 1:
            raise ParameterError(
                f"revalidation_interval={revalidation_interval!r}: expected at least 1 step"
            )
        self.base_fitter_factory = base_fitter_factory
        self.validation_threshold = validation_threshold
        self.revalidation_interval = revalidation_interval
        #: What happened so far, as :meth:`get_statistics` names it.
        self.stats = dict.fromkeys(_COUNTS, 0)
        self._windows: dict[str, tuple[int, int]] = {}
        self._kept: dict[str, dict[str, float]] = {}
        #: What the windows were found for: they mean nothing for other options.
        self._found_for: Any = None
        self._searched_at = 0

    def reset_cache(self) -> None:
        """Forget the windows and the counts."""
        self.stats = dict.fromkeys(_COUNTS, 0)
        self._windows, self._kept = {}, {}
        self._found_for, self._searched_at = None, 0

    @property
    def cached_window_on(self) -> dict[str, float] | None:
        """The kept window of the rise, None where there is none.

        ``start_time``, ``end_time`` and ``duration`` (s), ``start_offset`` (s, from the begin of
        the step that was searched) and ``size`` (s).
        """
        return self._kept.get(ON)

    @property
    def cached_window_off(self) -> dict[str, float] | None:
        """The same of the decay."""
        return self._kept.get(OFF)

    @property
    def last_full_search_step(self) -> int:
        """Number of the step that was searched last, -1 before the first."""
        return self._searched_at if self._windows else -1

    def fit_step(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        sample_step: float,
        period: float,
        step_index: int | None = None,
        force_full_search: bool = False,
        interp: bool = True,
        points_after_interp: int = 100,
        **options: Any,
    ) -> Best:
        """Fit one step, in the kept windows or after a search.

        Parameters
        ----------
        time, signal
            Times, increasing, in s, and samples in any unit.  Shape (N,).
        sample_step, period
            Sampling interval and gate period, in s.
        step_index
            Number of the step, from which the age of the windows follows; None counts the calls.
        force_full_search
            Search in any case.
        interp, points_after_interp
            As in :meth:`AutoTauFitter.fit_tau_on_and_off`.
        **options
            Options of the search.  Other ones than in the call before, or another sampling
            interval or period, cause a search.

        Returns
        -------
        popt (A, tau, C) and adjusted R2 of the rise, then of the decay; ``None, 0`` where no
        window holds the process.
        """
        step = self.stats["total_steps"] if step_index is None else step_index
        self.stats["total_steps"] += 1
        asked = (sample_step, period, interp, points_after_interp, options)
        young = 0 <= step - self._searched_at < self.revalidation_interval
        if self._windows and asked == self._found_for and not force_full_search:
            kept = None
            if young:
                kept = self._fit_kept(Trace.of(time, signal), interp, points_after_interp)
            if kept is not None:
                self.stats["cache_hits"] += 1
                return kept
            self.stats["cache_misses" if young else "revalidations"] += 1
        factory = self.base_fitter_factory or AutoTauFitter
        fitter = factory(time, signal, sample_step=sample_step, period=period, **options)
        result: Best = fitter.fit_tau_on_and_off(
            interp=interp, points_after_interp=points_after_interp
        )
        self.stats["full_searches"] += 1
        self._keep(Trace.of(time, signal), fitter)
        self._found_for, self._searched_at = asked, step
        return result

    def _keep(self, trace: Trace, fitter: Any) -> None:
        self._windows, self._kept = {}, {}
        for phase in (ON, OFF):
            begin = getattr(fitter, f"best_tau_{phase}_window_start_time")
            if begin is not None:
                first = int(trace.nearest(begin))
                end = getattr(fitter, f"best_tau_{phase}_window_end_time")
                self._kept[phase] = {
                    "start_time": begin,
                    "end_time": end,
                    "size": getattr(fitter, f"best_tau_{phase}_window_size"),
                    "start_offset": begin - float(trace.time[0]),
                    "duration": end - begin,
                }
                self._windows[phase] = first, int(trace.nearest(end)) - first + 1

    def _fit_kept(self, trace: Trace, interp: bool, points_after_interp: int) -> Best | None:
        """Fit the kept windows; None where one does not fit well enough."""
        points = resampled_points(interp, points_after_interp)
        found: dict[str, Any] = {ON: (None, 0.0), OFF: (None, 0.0)}
        for phase, (first, n) in self._windows.items():
            if first + n > len(trace):
                return None
            fits = fit_windows(trace, np.array([first]), n, phase, points)
            if not fits.r_squared_adj[0] >= self.validation_threshold:
                return None
            found[phase] = fits.popt[0], float(fits.r_squared_adj[0])
        return *found[ON], *found[OFF]

    def get_statistics(self) -> dict[str, Any]:
        """Return how often the kept windows served.

        Returns
        -------
        ``total_steps``, ``full_searches``, ``cache_hits``, ``cache_misses`` (kept windows that
        did not fit), ``revalidations`` (searches because the windows were old), ``cache_hit_rate``
        (0 to 1), ``search_reduction`` (the same as text) and ``estimated_speedup``, steps per
        search.
        """
        steps = self.stats["total_steps"]
        rate = self.stats["cache_hits"] / steps if steps else 0.0
        return {
            **self.stats,
            "cache_hit_rate": rate,
            "search_reduction": f"{rate:.1%}",
            "estimated_speedup": steps / max(1, self.stats["full_searches"]),
        }
