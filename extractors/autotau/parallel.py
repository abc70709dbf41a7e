"""The classes whose names say parallel; two of them are deprecated."""

from __future__ import annotations

import warnings
from typing import Any

from numpy.typing import ArrayLike

from oectflow.errors import ParameterError
from oectflow.extractors.autotau.auto import AutoTauFitter, Best
from oectflow.extractors.autotau.cycles import CyclesAutoTauFitter, CyclesTauFitter
from oectflow.extractors.autotau.fits import OFF, ON
from oectflow.extractors.autotau.records import Record
from oectflow.extractors.autotau.search import threads


class ParallelAutoTauFitter(AutoTauFitter):
    """Deprecated: :class:`AutoTauFitter` with ``max_workers`` threads.

    Parameters
    ----------
    time, signal, sample_step, period
        And the options of the windows: as in :class:`AutoTauFitter`.
    max_workers
        Threads that share the search; None searches in the calling thread.
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
        warnings.warn(
            "ParallelAutoTauFitter is deprecated; use AutoTauFitter(time, signal, sample_step, "
            "period, executor=ThreadPoolExecutor(max_workers))",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(
            time, signal, sample_step, period, window_scalar_min, window_scalar_max,
            window_points_step, window_start_idx_step, normalize, language, show_progress,
        )  # fmt: skip
        self.max_workers = max_workers

    def fit_tau_on_and_off(self, interp: bool = True, points_after_interp: int = 100) -> Best:
        """Search and fit both processes; as :meth:`AutoTauFitter.fit_tau_on_and_off`."""
        with threads(self.max_workers) as pool:
            self.executor = pool
            try:
                return super().fit_tau_on_and_off(interp, points_after_interp)
            finally:
                self.executor = None


class ParallelCyclesAutoTauFitter(CyclesAutoTauFitter):
    """Deprecated: :class:`CyclesAutoTauFitter` whose search has ``max_workers`` threads.

    Parameters
    ----------
    time, signal, period, sample_rate, **kwargs
        As in :class:`CyclesAutoTauFitter`, and ``max_workers``.
    """

    def __init__(
        self,
        time: ArrayLike,
        signal: ArrayLike,
        period: float,
        sample_rate: float,
        *,
        max_workers: int | None = None,
        **kwargs: Any,
    ) -> None:
        warnings.warn(
            "ParallelCyclesAutoTauFitter is deprecated; use CyclesAutoTauFitter(time, signal, "
            "period, sample_rate, ...), with fitter_factory= to search on an executor",
            DeprecationWarning,
            stacklevel=2,
        )
        super().__init__(time, signal, period, sample_rate, **kwargs)
        self.max_workers = max_workers
        self.show_progress = bool(kwargs.get("show_progress", False))

    def find_best_windows(self, interp: bool = True, points_after_interp: int = 100) -> Any:
        """Search the first two periods; as :meth:`CyclesAutoTauFitter.find_best_windows`."""
        options = self.auto_tau_fitter_params
        with threads(self.max_workers) as pool:
            self.auto_tau_fitter_params = options | {"executor": pool}
            try:
                fitter = super().find_best_windows(interp, points_after_interp)
            finally:
                self.auto_tau_fitter_params = options
        fitter.executor = None
        return fitter

    def fit_all_cycles(
        self,
        interp: bool = True,
        points_after_interp: int = 100,
        r_squared_threshold: float = 0.95,
    ) -> list[Record]:
        """Fit all complete cycles; as :meth:`CyclesAutoTauFitter.fit_all_cycles`.

        Returns
        -------
        The same dicts, with ``status``, ``cycle_start_idx``, ``cycle_end_idx`` (the first sample
        behind the cycle), ``tau_on_pcov``, ``tau_off_pcov`` and ``refit_info`` besides.
        """
        super().fit_all_cycles(interp, points_after_interp, r_squared_threshold)
        refits = {entry["cycle"]: entry for entry in self.refitted_cycles}
        for i, record in enumerate(self._records):
            fitted = record["tau_on_status"] in _USABLE and record["tau_off_status"] in _USABLE
            record["status"] = "success" if fitted else "failed"
            record["cycle_start_idx"] = int(self._starts[i])
            record["cycle_end_idx"] = int(self._starts[i + 1])
            for phase in (ON, OFF):
                record[f"tau_{phase}_pcov"] = getattr(
                    record["fitter"], f"tau_{phase}_pcov"
                ).tolist()
            record["refit_info"] = refits.get(record["cycle"])
        return self.cycle_results


_USABLE = ("ok", "low_r2")
_COLUMNS = (
    "window_on_start_time",
    "window_on_end_time",
    "window_off_start_time",
    "window_off_end_time",
    "window_on_start_idx",
    "window_on_end_idx",
    "window_off_start_idx",
    "window_off_end_idx",
    "tau_on_status",
    "tau_off_status",
)


class ParallelCyclesTauFitter(CyclesTauFitter):
    """:class:`CyclesTauFitter` whose results are a table.

    Parameters
    ----------
    time, signal, period, sample_rate, window_on_offset, window_on_size
        And all up to ``language``: as in :class:`CyclesTauFitter`.
    show_progress, max_workers
        Accepted: all cycles are fitted side by side in less time than a pool needs to start.
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
        show_progress: bool = False,
        max_workers: int | None = None,
    ) -> None:
        super().__init__(
            time, signal, period, sample_rate, window_on_offset, window_on_size,
            window_off_offset, window_off_size, normalize, language,
        )  # fmt: skip
        self.show_progress = show_progress
        self.max_workers = max_workers

    def fit_all_cycles(
        self,
        interp: bool = True,
        points_after_interp: int = 100,
        return_format: str = "dataframe",
    ) -> Any:
        """Fit all complete cycles.

        Parameters
        ----------
        interp, points_after_interp
            As in :meth:`CyclesTauFitter.fit_all_cycles`.
        return_format
            ``"dataframe"`` or ``"records"``.

        Returns
        -------
        A row or dict per cycle: ``cycle``, ``cycle_start_time``, ``tau_on``, ``r_squared_on``,
        ``r_squared_adj_on``, times and samples of the window, ``tau_on_status``; ``off`` alike.
        """
        if return_format not in ("dataframe", "records"):
            raise ParameterError(
                f"return_format={return_format!r}: expected 'dataframe' or 'records'"
            )
        super().fit_all_cycles(interp, points_after_interp)
        rows = [
            self._summary_row(record) | {name: record[name] for name in _COLUMNS}
            for record in self._records
        ]
        if return_format == "records":
            self.cycle_results = rows
        else:
            import pandas as pd

            self.cycle_results = pd.DataFrame(rows)
        return self.cycle_results
