"""The classes that say parallel: the same numbers, and a warning that names the replacement."""

import numpy as np
import pytest

from oectflow.errors import ParameterError
from oectflow.extractors.autotau import (
    AutoTauFitter,
    CyclesAutoTauFitter,
    CyclesTauFitter,
    ParallelAutoTauFitter,
    ParallelCyclesAutoTauFitter,
    ParallelCyclesTauFitter,
)

WINDOWS = {
    "window_on_offset": 0.0,
    "window_on_size": 0.04,
    "window_off_offset": 0.1,
    "window_off_size": 0.06,
}


@pytest.mark.parametrize("max_workers", [None, 3])
def test_parallel_auto__as_serial(trace, max_workers):
    t, y = trace
    serial = AutoTauFitter(t, y, 1e-3, 0.2).fit_tau_on_and_off()
    with pytest.warns(DeprecationWarning, match=r"use AutoTauFitter\(.*executor="):
        fitter = ParallelAutoTauFitter(t, y, 1e-3, 0.2, max_workers=max_workers)
    for found, expected in zip(fitter.fit_tau_on_and_off(), serial, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("max_workers", [None, 3])
def test_parallel_cycles_auto__as_serial(trace, max_workers):
    t, y = trace
    y = y.copy()
    y[400:410] += 0.5
    serial = CyclesAutoTauFitter(t, y, 0.2, 1000)
    expected = serial.fit_all_cycles()
    with pytest.warns(DeprecationWarning, match=r"use CyclesAutoTauFitter\(.*fitter_factory="):
        fitter = ParallelCyclesAutoTauFitter(t, y, 0.2, 1000, max_workers=max_workers)
    results = fitter.fit_all_cycles()
    for mine, theirs in zip(results, expected, strict=True):
        for key in set(theirs) - {"fitter"}:
            np.testing.assert_array_equal(mine[key], theirs[key])
        # The keys that autotau 0.6.0 has here besides.
        assert mine["status"] == "success"
        assert mine["cycle_end_idx"] - mine["cycle_start_idx"] == 200
        np.testing.assert_array_equal(mine["tau_on_pcov"], theirs["fitter"].tau_on_pcov)
    assert fitter.refitted_cycles == serial.refitted_cycles
    assert [r["refit_info"] for r in results] == [None, None, fitter.refitted_cycles[0], None, None]
    assert fitter.get_summary_data().equals(serial.get_summary_data())


def test_parallel_cycles__as_serial(trace):
    serial = CyclesTauFitter(*trace, 0.2, 1000, **WINDOWS)
    serial.fit_all_cycles()
    fitter = ParallelCyclesTauFitter(*trace, 0.2, 1000, **WINDOWS, max_workers=2)
    table = fitter.fit_all_cycles()
    assert fitter.get_summary_data().equals(serial.get_summary_data())
    assert table["tau_on"].tolist() == [r["tau_on"] for r in serial.cycle_results]
    # The columns of autotau 0.6.0, in its order, then ours.
    assert list(table.columns) == [
        "cycle", "cycle_start_time", "tau_on", "tau_off",
        "r_squared_on", "r_squared_off", "r_squared_adj_on", "r_squared_adj_off",
        "window_on_start_time", "window_on_end_time",
        "window_off_start_time", "window_off_end_time",
        "window_on_start_idx", "window_on_end_idx",
        "window_off_start_idx", "window_off_end_idx",
        "tau_on_status", "tau_off_status",
    ]  # fmt: skip
    records = fitter.fit_all_cycles(return_format="records")
    assert records == table.to_dict("records")
    with pytest.raises(ParameterError, match="return_format='csv'"):
        fitter.fit_all_cycles(return_format="csv")
