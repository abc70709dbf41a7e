"""One file or two arrays, no folder and no cluster."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import curve_fit

import oectflow as of
from oectflow.errors import ConfigError, InputError, OutputError
from oectflow.pipeline.inputs.simulate import simulate_device

PERIOD = 0.2


@pytest.fixture(scope="module")
def trace():
    """Three cycles of one transient, with their true time constants."""
    device = simulate_device(5, n_transfer=1, n_transient=1, n_cycles=3, tau_drift=0.0)
    step = device.transient_steps[0]
    return np.asarray(step.arrays["time"]), np.asarray(step.arrays["Id"])


@pytest.fixture(scope="module")
def table(trace):
    return of.fit_tau(*trace, period=PERIOD)


def test_fit_tau__a_row_per_cycle_and_phase_in_words(table):
    frame = table.frame
    assert list(frame) == [
        "feature", "step", "cycle", "entry", "value", "unit", "stderr", "r_squared", "status",
    ]  # fmt: skip
    assert set(frame["unit"]) == {"s"}
    on = frame[(frame["entry"] == "on") & (frame["status"] == "ok")]
    assert len(on) >= 2
    # Five standard errors: one in a million by chance.
    assert (abs(on["value"] - 8e-3) < 5 * on["stderr"]).all()
    assert repr(table).splitlines()[0].split() == list(frame)


def test_fit_tau__the_same_numbers_as_a_run(trace, table, tmp_path):
    time, current = trace
    of.write_experiment(
        tmp_path / "raw" / "a.h5", transient=[{"time": time, "Id": current, "gate_period": PERIOD}]
    )
    features = {"tau": {"extractor": "transient.tau_on_off", "input": "transient"}}
    of.extract(tmp_path / "raw", features, tmp_path / "out", progress=False)
    results = of.open_results(tmp_path / "out").load()
    for name in ("tau", "tau_status", "tau_stderr"):
        np.testing.assert_array_equal(results[name].values, table.results[name].values)


@pytest.mark.parametrize("phase", ["on", "off"])
def test_fit_report__says_what_scipy_finds_in_the_same_window(trace, table, phase):
    time, current = trace
    one = table.results.isel(experiment=0, step=0, cycle=1).sel(phase=phase)
    assert one["tau_status"].item() == "ok"
    start, length = one["tau_window_start"].item(), one["tau_window_duration"].item()
    inside = (time > start - 5e-4) & (time < start + length - 5e-4)
    t, y = time[inside] - start, current[inside]

    def on(t, a, tau, c):
        return c + a * (1 - np.exp(-t / tau))

    def off(t, a, tau, c):
        return c + a * np.exp(-t / tau)

    guess = [one[f"tau_{name}"].item() for name in ("amplitude", "offset")]
    guess.insert(1, one["tau"].item())
    best, covariance = curve_fit(on if phase == "on" else off, t, y, guess)
    text = table.fit_report(cycles=(1,))
    block = text[text.index(f"cycle 1, {phase}]]") :]
    block = block[: block.find("[[", 5)] if "[[" in block[5:] else block
    rows = {line.split()[0]: line.split() for line in block.splitlines()[1:]}
    spread = np.sqrt(np.diag(covariance))
    for i, name in enumerate(("A", "tau", "C")):
        assert float(rows[name][1]) == pytest.approx(best[i], abs=1e-3 * spread[i])
        # Printed with two digits.
        assert float(rows[name][4]) == pytest.approx(spread[i], rel=0.06)
    words = " ".join(rows["correlations"][1:])
    said = {pair: float(value) for pair, value in re.findall(r"C(\(\w+, \w+\)) = (\S+)", words)}
    for pair, i, j in (("(A, tau)", 0, 1), ("(tau, C)", 1, 2), ("(A, C)", 0, 2)):
        expected = covariance[i, j] / (spread[i] * spread[j])
        assert said[pair] == pytest.approx(expected, abs=2e-3)
    assert f"{len(t):,} samples" in block


def test_fit_report__the_standard_error_is_that_of_the_feature(table):
    text = table.fit_report(cycles=(1,))
    error = table.results["tau_stderr"].isel(experiment=0, step=0, cycle=1).sel(phase="on").item()
    line = next(line for line in text.splitlines() if line.split()[0] == "tau")
    assert float(line.split()[4]) == pytest.approx(error, rel=0.06)


@pytest.mark.parametrize("how", ["csv", "german", "frame", "frame_names", "index"])
def test_features__of_a_table_as_of_arrays(trace, table, tmp_path, how):
    time, current = trace
    path = tmp_path / "my.csv"
    options = {}
    if how == "csv":
        pd.DataFrame({"Time": time, "Id": current}).to_csv(path, index=False)
        source = path
    elif how == "german":
        frame = pd.DataFrame({"Uhr (ms)": time * 1e3, "Kanal 2 (A)": current})
        frame.to_csv(path, index=False, sep=";", decimal=",")
        source, options = str(path), {"columns": {"time": "Uhr (ms)", "Id": "Kanal 2 (A)"}}
    elif how == "frame":
        source = pd.DataFrame({"time": time, "Id (A)": current})
    elif how == "index":
        source = pd.DataFrame({"Id": current}, index=pd.Index(time, name="time (s)"))
    else:
        source = pd.DataFrame({"x": time, "y": current})
        options = {"columns": {"time": "x", "Id": "y"}}
    features = {"tau": {"extractor": "transient.tau_on_off", "input": "transient"}}
    found = of.features(source, features, period=PERIOD, **options)
    # The interval is worked out from recorded times here, and rounded there.
    np.testing.assert_allclose(found.frame["value"], table.frame["value"], rtol=1e-9)
    assert found.frame["status"].tolist() == table.frame["status"].tolist()


def test_features__of_a_transfer_curve(tmp_path):
    sweep = simulate_device(2, n_transfer=2, n_transient=1, n_cycles=2).transfer_steps[0]
    frame = pd.DataFrame({"Vg (V)": sweep.arrays["Vg"], "Id (A)": sweep.arrays["Id"]})
    point = {"point": {"extractor": "transfer.gm_max_coords", "input": "transfer"}}
    found = of.features(frame, point)
    assert found.frame[["entry", "unit"]].values.tolist() == [["Vg", "V"], ["Id", "A"]]
    assert "cycle" not in found.frame


def test_features__needs_no_client_and_uses_none(trace, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a cluster was asked for")

    monkeypatch.setattr("distributed.Client.compute", refuse)
    assert len(of.fit_tau(*trace, period=PERIOD))


def test_plot__the_fits_of_the_first_cycles(table):
    ax = table.plot()
    assert {line.get_label() for line in ax.lines} >= {"measured", "fit, on", "fit, off"}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: of.fit_tau([0, 1], [1]), InputError, "time has 2 samples, Id has 1"),
        (lambda: of.fit_tau([], []), InputError, "expected one dimension and samples"),
        (lambda: of.fit_tau(["a"], [1]), InputError, "time: expected numbers"),
        (lambda: of.fit_tau([0, 1], [1, 2], period=-1), ConfigError, "expected the gate period"),
        (lambda: of.fit_tau([0, 1], [1, 2], windw=1), ConfigError, "windw"),
        (lambda: of.features("nothing.csv"), InputError, "no such file"),
        (
            lambda: of.features(pd.DataFrame({"a": [1.0], "b": [2.0]})),
            InputError,
            "no column holds a measurement",
        ),
        (
            lambda: of.features(pd.DataFrame({"a": [1.0]}), columns={"Id": "b"}),
            InputError,
            "has no column 'b', but a",
        ),
        (
            lambda: of.features(pd.DataFrame({"a": ["x"]})),
            InputError,
            "column 'a' has the type",
        ),
        (
            lambda: of.features(pd.DataFrame({"a": [1.0]}), columns={"Idd": "a"}),
            ConfigError,
            "no quantity 'Idd'",
        ),
    ],
)
def test_mistakes__are_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_fit_report__of_something_that_was_not_fitted():
    sweep = simulate_device(2, n_transfer=1, n_transient=1, n_cycles=2).transfer_steps[0]
    found = of.features({"transfer": dict(sweep.arrays)}, "v2_transfer_basic")
    with pytest.raises(OutputError, match="nothing was fitted"):
        found.fit_report()
