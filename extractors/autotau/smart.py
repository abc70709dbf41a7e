"""Search windows by differential evolution instead of trying all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import differential_evolution

from oectflow.errors import ParameterError
from oectflow.extractors.autotau.auto import AutoTauFitter, WindowPair
from oectflow.extractors.autotau.fits import OFF, ON, fit_windows, resampled_points
from oectflow.extractors.autotau.search import Window

#: What a window without an admissible fit is worth: less than any adjusted R2 above 0.
_NOTHING = 1.0


class SmartWindowSearchFitter(AutoTauFitter):
    """Search the best windows by differential evolution.

    It [1]_ tries some hundred windows and may miss the best; :class:`AutoTauFitter` tries all of
    them and cannot.

    Parameters
    ----------
    time, signal, sample_step, period
        And the options of the windows: as in :class:`AutoTauFitter`, but by default every length
        from 0.1 to 0.4 periods is possible.
    maxiter, popsize
        Generations, and members of the population per variable (there are two).
    atol, tol
        The search ends when the spread of adjusted R2 in the population is below
        ``atol + tol * |mean|``.
    seed
        Any integer; the same one gives the same windows.  None differs from run to run.

    Attributes
    ----------
    eval_count
        Windows that the last search has fitted.
    optimization_result_on, optimization_result_off
        What SciPy says of it; None before the first.

    References
    ----------
    .. [1] Storn & Price (1997), J. Global Optim. 11, 341. doi:10.1023/A:1008202821328
    """

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        sample_step: float,
        period: float,
        window_scalar_min: float = 0.1,
        window_scalar_max: float = 0.4,
        window_points_step: int = 1,
        window_start_idx_step: int = 1,
        normalize: bool = False,
        language: str = "en",
        show_progress: bool = False,
        maxiter: int = 50,
        popsize: int = 15,
        atol: float = 0.01,
        tol: float = 0.001,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            time, signal, sample_step, period, window_scalar_min, window_scalar_max,
            window_points_step, window_start_idx_step, normalize, language, show_progress,
        )  # fmt: skip
        if maxiter < 1 or popsize < 1:
            raise ParameterError(f"maxiter={maxiter!r}, popsize={popsize!r}: expected at least 1")
        self.maxiter = maxiter
        self.popsize = popsize
        self.atol = atol
        self.tol = tol
        self.seed = seed
        self.eval_count = 0
        self.optimization_result_on: Any = None
        self.optimization_result_off: Any = None

    def search(self, interp: bool = True, points_after_interp: int = 100) -> WindowPair:
        """Return windows for ``"on"`` and ``"off"``; None where none was found."""
        points = resampled_points(interp, points_after_interp)
        lengths = [n for n in self._lengths if n <= len(self._trace)]
        self.eval_count = 0
        self.optimization_result_on = self.optimization_result_off = None
        if not lengths:
            return {ON: None, OFF: None}
        return {phase: self._evolve(phase, lengths, points) for phase in (ON, OFF)}

    def _evolve(self, phase: str, lengths: list[int], points: int) -> Window | None:
        step = self.window_start_idx_step

        def window(x: NDArray[np.float64]) -> tuple[int, int]:
            n = lengths[int(x[0])]
            # Starts that do not leave room for the window stand for the last one that does.
            return min(int(x[1]) * step, (len(self._trace) - n) // step * step), n

        def cost(x: NDArray[np.float64]) -> float:
            start, n = window(x)
            fits = fit_windows(self._trace, np.array([start]), n, phase, points)
            return -float(fits.r_squared_adj[0]) if fits.status[0] == "ok" else _NOTHING

        last = (len(self._trace) - lengths[0]) // step
        found: Any = differential_evolution(
            cost,
            [(0, len(lengths) - 1), (0, last)],
            maxiter=self.maxiter,
            popsize=self.popsize,
            atol=self.atol,
            tol=self.tol,
            seed=np.random.default_rng(self.seed),
            polish=False,
            integrality=[True, True],
        )
        self.eval_count += int(found.nfev)
        setattr(self, f"optimization_result_{phase}", found)
        if found.fun >= 0.0:
            return None
        return Window(*window(found.x), -float(found.fun))

    def get_statistics(self) -> dict[str, Any]:
        """Return what the last search cost.

        Returns
        -------
        ``total_evaluations``, windows that were fitted; ``maxiter`` and ``popsize``; and
        ``on_iterations``, generations, ``on_success`` and ``on_message``, and ``off`` alike.
        """
        statistics: dict[str, Any] = {
            "total_evaluations": self.eval_count,
            "maxiter": self.maxiter,
            "popsize": self.popsize,
        }
        for phase in (ON, OFF):
            found = getattr(self, f"optimization_result_{phase}")
            statistics |= {
                f"{phase}_iterations": 0 if found is None else int(found.nit),
                f"{phase}_success": found is not None and bool(found.success),
                f"{phase}_message": "" if found is None else str(found.message),
            }
        return statistics
