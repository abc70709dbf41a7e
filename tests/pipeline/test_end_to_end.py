"""From files that laboratories have to numbers that can be trusted."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

import oectflow as of
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.raw_format import write_measurement


def extract(raw, out, features="all"):
    return of.extract(raw, features, out, progress=False)


def write(path: Path, transfers=(), transients=(), period_ms: float | None = 100.0) -> Path:
    """Write raw steps: (Vg, Id) pairs and currents at 1 kHz."""
    timing = {} if period_ms is None else {"topTime": period_ms / 2, "bottomTime": period_ms / 2}
    info = {"parameters": {"timeStep": 1, **timing}}
    attributes = {"test_id": path.stem, "chip_id": "#1", "device_number": "1"}
    steps = [Step("transfer", {"Vg": np.asarray(v), "Id": np.asarray(i)}) for v, i in transfers]
    steps += [
        Step("transient", {"time": np.arange(len(i)) * 1e-3, "Id": np.asarray(i)}, info=info)
        for i in transients
    ]
    return write_measurement(path, Measurement(attributes, steps, documents={"json": "{}"}))


def sweep(n: int = 41, top: float = 0.6, scale: float = 1e-3, twice: bool = False):
    up = np.linspace(-0.2, top, n)
    down = up[::-1] if twice else up[-2::-1]
    vg = np.concatenate([up, down])
    return vg, scale / (1 + np.exp(-(vg - 0.2) / 0.05)) + scale * 1e-5


def pulses(n_cycles: int = 5, tau: float = 5e-3, scale: float = 1e-3):
    t = np.arange(50) * 1e-3
    off, on = np.exp(-t / tau), 1 - np.exp(-t / tau)
    trace = np.tile(np.concatenate([off, on]), n_cycles)
    trace[:50] = 0.0
    return scale * (0.1 + trace)


@pytest.fixture(scope="module")
def real_trace(shared_data, tmp_path_factory):
    """The real transient of 163 gate cycles, ingested as one experiment."""
    folder = tmp_path_factory.mktemp("real")
    source = folder / "instrument" / "test_real"
    source.mkdir(parents=True)
    shutil.copy(shared_data / "autotau_transient.csv", source / "1_transient.csv")
    step = {
        "type": "transient",
        "data_file": "1_transient.csv",
        "parameters": {"timeStep": 1, "topTime": 100, "bottomTime": 100},
    }
    info = {"test_id": "test_real", "chip_id": "#1", "device_number": "1", "steps": [step]}
    (source / "test_info.json").write_text(json.dumps(info))
    assert len(of.ingest(folder / "instrument", folder / "raw").written) == 1
    with (shared_data / "autotau_transient.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    current = np.array([float(row[1]) for row in rows])
    return folder / "raw", current


def test_real_trace__163_cycles_and_tau_as_scipy_finds_it(real_trace, tmp_path):
    raw, current = real_trace
    features = {
        "tau": {
            "extractor": "transient.tau_on_off",
            "input": "transient",
            "params": {"search": "fixed", "window_on": [0.109, 0.041]},
        }
    }
    assert extract(raw, tmp_path / "out", features).ok
    ds = of.open_results(tmp_path / "out").isel(experiment=0, step=0).load()
    assert ds.sizes["cycle"] == 163
    assert ds["timing_source"] == "step"
    on = ds["tau"].sel(phase="on")
    # 41 samples of a real phase are not quite one exponential, and the word says so.
    assert set(ds["tau_status"].sel(phase="on").values) <= {"ok", "not_exponential"}
    t = np.arange(41) * 1e-3
    for cycle in range(6):
        start = 200 * cycle + 109
        y = -current[start : start + 41]
        scaled = (y - y.mean()) / np.ptp(y)

        def residuals(p, scaled=scaled):
            return p[0] * (1 - np.exp(-t / p[1])) + p[2] - scaled

        tight = dict.fromkeys(("xtol", "ftol", "gtol"), 1e-15)
        fit = least_squares(residuals, [1, 5e-3, -1], x_scale=[1, 1e-3, 1], **tight)
        assert float(on[cycle]) == pytest.approx(fit.x[1], rel=1e-6)


def test_real_trace__found_without_being_told_the_period(real_trace, shared_data, tmp_path):
    _, current = real_trace
    write(tmp_path / "raw.h5", transients=[current], period_ms=None)
    assert extract(tmp_path / "raw.h5", tmp_path / "out", "transient_tau").ok
    ds = of.open_results(tmp_path / "out").isel(experiment=0, step=0)
    assert ds["timing_source"] == "trace"
    assert float(ds["gate_period"]) == pytest.approx(0.2, rel=1e-3)
    assert ds.sizes["cycle"] == 163


@pytest.mark.parametrize("factor", [1e-3, 1e-6, -1.0])
def test_current_scale__features_follow_as_physics_says(tmp_path, factor):
    # Large enough that the floor of 1e-12 A in Von's logarithm is never reached.
    vg, current = sweep(scale=1e-1)
    trace = pulses(scale=1e-1)
    for name, k in (("one", 1.0), ("scaled", factor)):
        write(tmp_path / f"{name}.h5", [(vg, k * current)], [k * trace])
    assert extract([tmp_path / "one.h5", tmp_path / "scaled.h5"], tmp_path / "out").ok
    ds = of.open_results(tmp_path / "out").load()
    one, scaled = ds.sel(experiment="one"), ds.sel(experiment="scaled")
    for name in ("gm_max_forward", "gm_max_reverse", "absI_max", "peak_current"):
        # A product of two roundings: the factor is not a power of two.
        np.testing.assert_allclose(scaled[name], abs(factor) * one[name], rtol=8e-16 * 50)
    np.testing.assert_allclose(scaled["cycle_peaks"], factor * one["cycle_peaks"], rtol=1e-15)
    for name in ("Von_forward", "Von_reverse"):
        np.testing.assert_array_equal(scaled[name], one[name])
    for name in ("tau", "decay_time"):
        np.testing.assert_allclose(scaled[name], one[name], rtol=1e-9)
        np.testing.assert_array_equal(scaled[f"{name}_status"], one[f"{name}_status"])


def one_result(tmp_path, path):
    report = extract(path, tmp_path / "out")
    return report, of.open_results(tmp_path / "out").isel(experiment=0).load()


def test_step_of_nothing_but_nan(tmp_path):
    nan = np.full(81, np.nan)
    path = write(
        tmp_path / "a.h5", [sweep(), (nan, nan), sweep()], [pulses(), np.full(500, np.nan)]
    )
    report, ds = one_result(tmp_path, path)
    assert report.ok
    assert report.experiments[0].outcome == "flagged"
    assert ds["gm_max_forward_status"].values.tolist() == ["ok", "no_data", "ok"]
    assert np.isfinite(ds["gm_max_forward"]).values.tolist() == [True, False, True]
    statuses = set(ds["tau_status"].isel(step=1).values.ravel())
    assert statuses <= {"nan", "absent", "no_window"}
    assert np.isnan(ds["tau"].isel(step=1)).all()
    # The third row has no transient at all.
    assert set(ds["tau_status"].isel(step=2).values.ravel()) == {"absent"}


def test_one_way_sweep(tmp_path):
    vg, current = sweep()
    path = write(tmp_path / "a.h5", [(vg[:41], current[:41])])
    report, ds = one_result(tmp_path, path)
    assert report.ok
    assert ds["gm_max_forward_status"].item() == "ok"
    assert ds["gm_max_reverse_status"].item() == "absent"
    assert np.isnan(ds["gm_max_reverse"].item())
    # Features of a source that the file does not have are there, and absent.
    assert set(ds["tau_status"].values.ravel()) == {"absent"}


def test_turning_voltage_measured_twice(tmp_path):
    once = write(tmp_path / "once.h5", [sweep()])
    twice = write(tmp_path / "twice.h5", [sweep(twice=True)])
    assert extract([once, twice], tmp_path / "out").ok
    ds = of.open_results(tmp_path / "out").load()
    assert np.isfinite(ds["gm_max_reverse"]).all()
    a, b = ds.sel(experiment="once"), ds.sel(experiment="twice")
    assert a["gm_max_forward"].item() == b["gm_max_forward"].item()
    # The maximum lies inside the branch, so one point more at its end changes nothing.
    assert a["gm_max_reverse"].item() == b["gm_max_reverse"].item()


def test_steps_of_unequal_length_and_number(tmp_path):
    path = write(
        tmp_path / "a.h5",
        [sweep(41), sweep(21), sweep(61), sweep(5)],
        [pulses(3), pulses(8)],
    )
    report, ds = one_result(tmp_path, path)
    assert report.ok
    assert ds.sizes["step"] == 4
    assert np.isfinite(ds["gm_max_forward"]).all()
    on = ds["tau_status"].sel(phase="on")
    assert (on == "ok").sum("cycle").values.tolist() == [3, 8, 0, 0]
    assert set(ds["peak_current_status"].values.tolist()) == {"ok", "absent"}


def test_no_period_anywhere(tmp_path):
    noise = np.random.default_rng(0).normal(size=400) * 1e-6
    path = write(tmp_path / "a.h5", transients=[noise], period_ms=None)
    report, ds = one_result(tmp_path, path)
    assert report.ok
    assert ds["timing_source"].item() == "unknown"
    assert set(ds["tau_status"].values.ravel()) == {"no_period", "absent"}
    assert np.isfinite(ds["peak_current"].item())


def test_files_of_the_software_in_use_today(shared_data, expected, tmp_path):
    raw = sorted((shared_data / "oect_infra").glob("*.h5"))
    # Two of the three files are the same test, written by the two writers.
    report = extract([raw[0], raw[2]], tmp_path / "out")
    assert report.ok
    ds = of.open_results(tmp_path / "out").load()
    for case in ("regular_serial", "ragged_ptype_serial"):
        reference = expected[case]
        one = ds.sel(experiment=reference["attributes"]["test_id"])
        for direction in ("forward", "reverse"):
            values = [
                s["absgm_max"][direction][0]
                for s in reference["batch_transfer_float64"]["N_step_by_step"]
            ]
            got = one[f"gm_max_{direction}"].values[: len(values)]
            np.testing.assert_allclose(got, values, rtol=1e-12)


# Numbers over the cycles of a step ---------------------------------------------------------------


def growing(n_cycles: int = 8, noise: float = 0.0):
    """Pulses whose time constants grow from cycle to cycle: on 4 + 0.1 k ms, off 6 + 0.2 k ms."""
    t = np.arange(50) * 1e-3
    parts = []
    for k in range(n_cycles):
        on = 1 - np.exp(-t / (4e-3 + 1e-4 * k))
        parts += [on, np.exp(-t / (6e-3 + 2e-4 * k))]
    rng = np.random.default_rng(5)
    trace = np.concatenate(parts)
    return 1e-3 * (0.1 + trace + noise * rng.standard_normal(trace.size))


def test_aggregates__over_the_good_cycles_of_every_step(tmp_path):
    disturbed = growing()
    # The fifth cycle is a mess; its R2 is below the threshold.
    disturbed[4 * 100 : 5 * 100] += 1e-3 * np.sin(np.arange(100) ** 2)
    only_noise = 1e-6 * np.random.default_rng(6).standard_normal(800)
    write(tmp_path / "raw.h5", [sweep()] * 4, [growing(), disturbed, only_noise])
    names = ("mean", "median", "std", "first", "last", "drift")
    tau = {"tau": {"extractor": "transient.tau_on_off", "params": {"window": "full_phase"}}}
    features = tau | {"gm": {"extractor": "transfer.gm_max"}}
    for phase in ("on", "off"):
        for name in names:
            func = f"{name}(tau_{phase}[tau_status_{phase} == 0], axis=1)"
            features[f"{name}_{phase}"] = {"func": func}
    # What was measured is taken over from the file of the first run; so is its status.
    extract(tmp_path / "raw.h5", tmp_path / "out", tau)
    extract(tmp_path / "raw.h5", tmp_path / "out", features)
    ds = of.open_results(tmp_path / "out").isel(experiment=0)
    good = np.where(ds.tau_status.values == "ok", ds.tau.values, np.nan)
    assert np.isfinite(good[0]).all()
    assert np.isnan(good[1, 4]).any()
    assert np.isnan(good[2:]).all()
    for i, phase in enumerate(("on", "off")):
        for name in names:
            found = ds[f"{name}_{phase}"]
            assert found.attrs["units"] == ("s/cycle" if name == "drift" else "s")
            status = ds[f"{name}_{phase}_status"].values
            assert list(status) == ["ok", "ok", "undefined", "absent"]
            assert np.isnan(found.values[2:]).all()
            for row, value in zip(good[:2, :, i], found.values[:2], strict=True):
                k = np.flatnonzero(np.isfinite(row))
                there = row[k]
                want = {
                    "mean": there.mean(),
                    "median": np.median(there),
                    "std": there.std(),
                    "first": there[0],
                    "last": there[-1],
                    "drift": np.polyfit(k, there, 1)[0],
                }[name]
                # polyfit scales its columns by QR: the last five digits are its own.
                assert value == pytest.approx(want, rel=1e-11)
    # Exact exponentials on even samples: what the fit is good to, over what the drift is.
    assert ds.drift_on.values[0] == pytest.approx(1e-4, rel=1e-6)
    assert ds.drift_off.values[0] == pytest.approx(2e-4, rel=1e-6)


def test_all__has_median_and_drift_of_tau(tmp_path):
    write(tmp_path / "raw.h5", [sweep()], [growing()])
    extract(tmp_path / "raw.h5", tmp_path / "out")
    ds = of.open_results(tmp_path / "out").isel(experiment=0, step=0)
    for phase in ("on", "off"):
        tau = ds.tau.sel(phase=phase).values[:8]
        assert ds[f"tau_{phase}_median"] == np.median(tau)
        assert ds[f"tau_{phase}_drift"].attrs["units"] == "s/cycle"
        assert ds[f"tau_{phase}_drift"] > 0
