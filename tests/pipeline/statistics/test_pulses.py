"""Ratios of the amplitudes of pulses, and what stands in their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import oectflow as of
from oectflow.errors import OutputError, ParameterError
from oectflow.pipeline.inputs.simulate import simulate_device


def make_results(amplitudes: np.ndarray, **others: Any) -> xr.Dataset:
    """Results of steps with an amplitude for each pulse; NaN behind the end of a train."""
    dims = ("experiment", "step", "cycle")
    rows = amplitudes[np.newaxis]
    data = {
        "A": (dims, rows, {"feature": "tau"}),
        "A_stderr": (dims, 0.01 * np.abs(rows)),
        "tau_status": (dims, np.where(np.isfinite(rows), "ok", "absent").astype(object)),
        "gate_period": (("experiment", "step"), np.full(rows.shape[:2], 0.2)),
        "duty_cycle": (("experiment", "step"), np.full(rows.shape[:2], 0.25)),
    }
    return xr.Dataset(data | others)


def test_ratios__of_the_second_and_the_tenth_pulse() -> None:
    n = np.arange(12)
    rows = np.array([-(2 - np.exp(-n / 3)), 1 + 0.1 * n]) * 1e-6
    found = of.pulse_ratios(make_results(rows), "A")
    assert found["pulse_ratio"].dims == ("experiment", "step", "pulse")
    expected = rows[:, [1, 9]] / rows[:, [0]]
    np.testing.assert_allclose(found["pulse_ratio"][0], expected, rtol=1e-14)
    # Two relative errors of 1 %.
    error = found["pulse_ratio_stderr"] / found["pulse_ratio"]
    np.testing.assert_allclose(error, 0.01 * np.sqrt(2), rtol=1e-12)
    assert (found["pulse_ratio_status"] == "ok").all()
    np.testing.assert_allclose(found["pulse_interval"], 0.15, rtol=1e-12)
    assert found["pulse"].values.tolist() == [2, 10]


def test_words__where_there_is_no_ratio() -> None:
    rows = np.ones((6, 12))
    rows[0, 5:] = np.nan
    rows[1, 0] = np.nan
    rows[2, 1] = np.nan
    rows[3, 1] = -1
    rows[4, 0] = 1e-3
    results = make_results(rows)
    results["A_stderr"][0, 4, 0] = 1e-3
    found = of.pulse_ratios(results, "A")
    assert found["pulse_ratio_status"].values[0].tolist() == [
        ["ok", "absent"],
        ["no_first", "no_first"],
        ["no_later", "ok"],
        ["opposite", "ok"],
        ["no_amplitude", "no_amplitude"],
        ["ok", "ok"],
    ]
    known = found["pulse_ratio_status"] == "ok"
    assert (found["pulse_ratio"].notnull() == known).all()
    short = of.pulse_ratios(results, "A", pulses=[20])
    assert short["pulse_ratio_status"].values[0, -1].tolist() == ["absent"]
    unknown = of.pulse_ratios(results.drop_vars("A_stderr"), "A").isel(step=5)
    assert unknown["pulse_ratio"].values.tolist() == [[1, 1]]
    assert unknown["pulse_ratio_stderr"].isnull().all()
    assert "opposite: " in found["pulse_ratio_status"].attrs["words"]


def test_measured_trains(tmp_path: Any) -> None:
    device = simulate_device(
        3, n_transfer=0, n_transient=2, n_cycles=12, period=0.2, tau_on=0.01, tau_off=0.01
    )
    device.write(tmp_path / "raw.h5")
    of.extract(tmp_path / "raw.h5", "transient_tau", tmp_path / "out", progress=False)
    found = of.pulse_ratios(of.open_results(tmp_path / "out"), phase="on")
    np.testing.assert_allclose(found["pulse_ratio"], 1, atol=0.05)
    # Ten time constants lie between two pulses: each begins when the one before is forgotten.
    assert (found["pulse_ratio_status"] == "ok").all()


def test_wrong_arguments__are_named() -> None:
    results = make_results(np.ones((2, 3)))
    with pytest.raises(ParameterError, match=r"pulses=\[1\]: expected whole numbers from 2 on"):
        of.pulse_ratios(results, "A", pulses=[1])
    with pytest.raises(OutputError, match="'gate_period' has no axis 'cycle'"):
        of.pulse_ratios(results, "gate_period")
    with pytest.raises(OutputError, match="no variable 'tau_amplitude'"):
        of.pulse_ratios(results)
