from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.simulate import (
    SimulatedExperiment,
    damage,
    simulate_device,
    simulate_lab,
)

Polarity = Literal["n", "p"]


def noiseless(**options: Any) -> SimulatedExperiment:
    return simulate_device(3, transfer_noise=0, transient_noise=0, **options)


def fitted_tau(y: np.ndarray, sample_rate: float) -> float:
    """Fit alpha exp(-t / tau) + beta to a trace without noise."""
    t = np.arange(len(y)) / sample_rate
    scale = np.ptp(y)

    def residuals(p: np.ndarray) -> np.ndarray:
        return p[0] * np.exp(-t / np.exp(p[2])) + p[1] - (y - y[0]) / scale

    start = [1, 0, np.log(t[-1] / 4)] if y[0] > y[-1] else [-1, 1, np.log(t[-1] / 4)]
    fit = least_squares(residuals, start, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return float(np.exp(fit.x[2]))


@pytest.mark.parametrize("polarity", ["n", "p"])
@pytest.mark.parametrize("max_current", [1e-2, 1e-9])
def test_transient__least_squares_finds_the_time_constants(
    polarity: Polarity, max_current: float
) -> None:
    # 30 ms phases of 15 ms constants: every phase starts where the last one broke off.
    device = noiseless(
        polarity=polarity,
        max_current=max_current,
        n_transient=2,
        n_cycles=3,
        period=0.08,
        duty_cycle=0.375,
        tau_drift=0.1,
    )
    truth = device.truth
    for step, transient in enumerate(device.transient_steps):
        signal = transient.arrays["Id"] * (1 if polarity == "n" else -1)
        assert (signal > 0).all()
        for cycle in range(3):
            start = 80 * cycle
            # Double precision, amplified by the condition of the fit (below 100), leaves 1e-13;
            # the rest is where the iteration stops.
            if cycle:
                tau_off = fitted_tau(signal[start : start + 50], 1000)
                assert tau_off == pytest.approx(truth["tau_off"][step, cycle], rel=1e-9)
            tau_on = fitted_tau(signal[start + 50 : start + 80], 1000)
            assert tau_on == pytest.approx(truth["tau_on"][step, cycle], rel=1e-9)
    assert np.isnan(truth["tau_off"][:, 0]).all()
    assert (truth["off_amplitude"][:, 0] == 0).all()
    assert truth["tau_on"][1, 0] == pytest.approx(1.1 * truth["tau_on"][0, 0])


def test_transient__solves_the_relaxation_equation() -> None:
    device = noiseless(
        n_transfer=0, n_transient=1, n_cycles=3, period=0.02, tau_drift=0.3, fade=0.3, off_ratio=0.1
    )
    truth = device.truth
    value, level_off = 1e-4, 1e-4
    solution = []
    for phase in range(6):
        cycle, on = divmod(phase, 2)
        level = 1e-3 * 0.7 ** (cycle / 3) if on else level_off
        tau = (8e-3 if on else 15e-3) * (1 + 0.3 * cycle / 3)
        amplitude = truth["on_amplitude" if on else "off_amplitude"][0, cycle]
        assert amplitude == pytest.approx(abs(level - value), rel=1e-9)
        result = solve_ivp(
            lambda _, y, level=level, tau=tau: (level - y) / tau,
            (0, 0.01),
            [value],
            t_eval=np.arange(11) * 1e-3,
            rtol=1e-12,
            atol=1e-16,
            method="DOP853",
        )
        solution.append(result.y[0, :-1])
        value = result.y[0, -1]
    # The solver's tolerance per unit step, over the fewer than 100 steps that it takes.
    np.testing.assert_allclose(
        device.transient_steps[0].arrays["Id"], np.concatenate(solution), rtol=1e-10
    )


@pytest.mark.parametrize(
    ("sample_rate", "period", "duty_cycle", "starts", "first_on"),
    [
        (1000.0, 0.2, 0.5, [0, 200, 400, 600], 100),
        (1000.0, 0.0333, 0.5, [0, 33, 67, 100], 17),
        (2000.0, 0.1, 0.25, [0, 200, 400, 600], 150),
    ],
)
def test_transient__phase_borders(
    sample_rate: float, period: float, duty_cycle: float, starts: list[int], first_on: int
) -> None:
    device = noiseless(
        n_transient=1,
        n_cycles=3,
        sample_rate=sample_rate,
        period=period,
        duty_cycle=duty_cycle,
        fade=0,
    )
    (step,) = device.transient_steps
    rising = np.diff(step.arrays["Id"]) > 0
    assert len(step.arrays["Id"]) == starts[-1]
    # A phase's first sample holds what the one before has reached; the change comes after it.
    turns_on = np.flatnonzero(rising[1:] & ~rising[:-1]) + 1
    np.testing.assert_array_equal(turns_on, [start + first_on for start in starts[:-1]])
    turns_off = np.flatnonzero(~rising[1:] & rising[:-1]) + 1
    np.testing.assert_array_equal(turns_off, starts[1:-1])
    np.testing.assert_allclose(np.diff(step.arrays["time"]), 1 / sample_rate, rtol=1e-12)
    parameters = step.info["parameters"]
    assert parameters["topTime"] + parameters["bottomTime"] == pytest.approx(1000 * period)
    assert parameters["topTime"] == pytest.approx(1000 * period * duty_cycle)
    assert parameters["timeStep"] == 1000 / sample_rate


@pytest.mark.parametrize("polarity", ["n", "p"])
def test_transfer__numeric_derivatives_find_gm_max_and_Von(polarity: Polarity) -> None:
    device = noiseless(polarity=polarity, n_transfer=2, n_points=20_001, fade=0.1)
    h, w = 1e-4, 0.05
    for step, sweep in enumerate(device.transfer_steps):
        assert (np.sign(sweep.arrays["Id"]) == (1 if polarity == "n" else -1)).all()
        for direction, part in enumerate((slice(0, 10_001), slice(10_001, None))):
            Vg, Id = sweep.arrays["Vg"][part], sweep.arrays["Id"][part]
            gm = np.gradient(Id, Vg)
            best = int(np.argmax(np.abs(gm)))
            # At the maximum gm'' / gm = -1 / (2 w²).  The central difference errs by h²/6 of it,
            # and the nearest grid point lies up to h/2 beside, which costs (h/2)²/2 of it.
            error = (h**2 / 6 + h**2 / 8) / (2 * w**2)
            assert gm[best] == pytest.approx(device.truth["gm_max"][step, direction], rel=error)
            assert abs(Vg[best] - device.truth["gm_max_Vg"][step, direction]) < h
            slope = np.gradient(np.log10(np.abs(Id)), Vg)
            Von = Vg[int(np.argmax(np.abs(slope)))]
            assert abs(Von - device.truth["Von"][step, direction]) < h
    assert device.truth["gm_max"][1, 0] == pytest.approx(0.9 * device.truth["gm_max"][0, 0])


def test_transfer__sweep_goes_there_and_back() -> None:
    (sweep,) = noiseless(polarity="p", n_transfer=1, n_points=161).transfer_steps
    assert len(sweep.arrays["Vg"]) == len(sweep.arrays["Id"]) == 161
    assert np.argmin(sweep.arrays["Vg"]) == 80
    np.testing.assert_array_equal(sweep.arrays["Vg"], sweep.arrays["Vg"][::-1])
    parameters = sweep.info["parameters"]
    assert [parameters[f"gateVoltage{key}"] for key in ("Start", "End", "Step")] == [
        200,
        -800,
        12.5,
    ]
    assert parameters["drainVoltage"] < 0


def test_truth__nan_where_the_sweep_does_not_reach() -> None:
    truth = noiseless(turn_on_V=0.81, turn_on_shift_V=0).truth
    # The way back turns on 20 mV earlier, inside the sweep; Von lies inside both ways.
    np.testing.assert_array_equal(np.isnan(truth["gm_max"][0]), [True, False])
    np.testing.assert_array_equal(np.isnan(truth["gm_max_Vg"][0]), [True, False])
    assert np.isfinite(truth["Von"]).all()
    assert np.isnan(noiseless(turn_on_V=0.0).truth["Von"]).all()


def test_noise__has_the_size_asked_for() -> None:
    clean = noiseless()
    noisy = simulate_device(3, transfer_noise=0.01, transient_noise=0.02)
    transient = np.concatenate(
        [
            a.arrays["Id"] - b.arrays["Id"]
            for a, b in zip(noisy.transient_steps, clean.transient_steps, strict=True)
        ]
    )
    transfer = np.concatenate(
        [
            a.arrays["Id"] / b.arrays["Id"] - 1
            for a, b in zip(noisy.transfer_steps, clean.transfer_steps, strict=True)
        ]
    )
    # The standard deviation of n normal numbers is itself known to 1/sqrt(2 n); five times that.
    for noise, size in ((transient, 0.02 * 1e-3), (transfer, 0.01)):
        assert noise.std() == pytest.approx(size, rel=5 / np.sqrt(2 * len(noise)))


def test_adc__few_levels() -> None:
    device = simulate_device(3, n_transient=1, adc_bits=8, max_current=1e-6)
    least = 4e-6 / 2**8
    levels = device.transient_steps[0].arrays["Id"] / least
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-9)
    assert len(np.unique(np.rint(levels))) > 50


def test_seed__fixes_everything() -> None:
    first, again, other = (simulate_device(seed, n_cycles=2) for seed in (1, 1, 2))
    for a, b, c in zip(
        first.transient_steps, again.transient_steps, other.transient_steps, strict=True
    ):
        np.testing.assert_array_equal(a.arrays["Id"], b.arrays["Id"])
        assert (a.arrays["Id"] != c.arrays["Id"]).any()
    assert first.file_name == again.file_name != other.file_name


@pytest.mark.parametrize(("n_transfer", "n_transient"), [(3, 3), (4, 2), (1, 3), (0, 2), (2, 0)])
def test_write__equals_ingested_folder(tmp_path: Path, n_transfer: int, n_transient: int) -> None:
    device = simulate_device(
        7, polarity="p", n_transfer=n_transfer, n_transient=n_transient, n_cycles=4
    )
    direct = device.write(tmp_path / "direct.h5")
    device.write_folder(tmp_path / "folder")
    (record,) = ingest(tmp_path / "folder", tmp_path / "out", workers=1).records
    assert record.warnings == ()
    assert (record.n_transfer, record.n_transient) == (n_transfer, n_transient)
    assert record.path is not None
    assert record.path.name == device.file_name
    with h5py.File(direct) as a, h5py.File(record.path) as b:
        for kind, steps in (("transfer", n_transfer), ("transient", n_transient)):
            assert (kind in a) == (kind in b) == (steps > 0)
            if steps:
                for name in ("measurement_data", "step_info_table"):
                    left, right = a[kind][name][()], b[kind][name][()]
                    np.testing.assert_array_equal(left, right, strict=True)
        provenance = {"source_folder_name", "source_folder_path", "source_json_name"}
        provenance |= {"export_time_utc", "output_filename"}
        assert dict(a.attrs) == {k: v for k, v in b.attrs.items() if k not in provenance}
        assert a["raw/json"][()] == b["raw/json"][()]
        assert ("raw/workflow" in a) == ("raw/workflow" in b)


def test_workflow__leads_to_the_steps() -> None:
    device = simulate_device(n_transfer=3, n_transient=2, n_cycles=2)
    unrolled = [
        (step["type"], step["params"])
        for loop in device.workflow
        for _ in range(loop["iterations"])
        for step in loop["steps"]
    ]
    recorded = [(step["type"], step["parameters"]) for step in device.test_info["steps"]]
    assert unrolled == recorded


def test_simulate_lab__several_kinds_of_device(tmp_path: Path) -> None:
    folders = simulate_lab(tmp_path / "lab", 5, seed=1, steps=2, cycles=3)
    assert len(set(folders)) == 5
    report = ingest(tmp_path / "lab", tmp_path / "out", workers=1)
    assert len(report.written) == 5
    signs = set()
    for record in report.written:
        with h5py.File(record.path) as file:
            signs.add(np.sign(np.nanmean(file["transfer/measurement_data"][:, 1])))
    assert signs == {-1.0, 1.0}
    assert len({(record.n_transfer, record.n_transient) for record in report.written}) == 1


def test_damage__file_cannot_be_opened(tmp_path: Path) -> None:
    path = simulate_device(n_transient=2, n_cycles=2).write(tmp_path / "x.h5")
    damage(path)
    with pytest.raises(OSError, match="truncated"):
        h5py.File(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"polarity": "x"}, "polarity='x', expected 'n' or 'p'"),
        ({"n_points": 120}, "n_points=120, expected an odd number"),
        ({"n_cycles": 0}, "n_cycles=0"),
        ({"tau_drift": -0.05, "n_transient": 20}, "leaves no time constant after 20 steps"),
        ({"period": 0.002}, "leaves a phase of 1 samples"),
        ({"duty_cycle": 1.0}, "leaves a phase of 0 samples"),
    ],
)
def test_simulate_device__refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_device(**options)


def test_steps__arrays_are_attributes_and_can_be_replaced():
    device = simulate_device(0, n_transfer=1, n_transient=1, n_cycles=2)
    step = device.transient_steps[0]
    assert step.drain_current is step.Id is step.arrays["Id"]
    assert step.original_time is step.arrays["time"]
    shorter = replace(step, original_time=step.original_time[::2], drain_current=step.Id[::2])
    np.testing.assert_array_equal(shorter.arrays["Id"], step.Id[::2])
    assert len(shorter) == len(step) // 2
    assert device.transfer_steps[0].Vg is device.transfer_steps[0].arrays["Vg"]
    with pytest.raises(AttributeError, match="no attribute 'current'"):
        _ = step.current
    with pytest.raises(TypeError, match="'current' is no array of this kind"):
        replace(step, current=step.Id)
    assert pickle.loads(pickle.dumps(step)).Id.tolist() == step.Id.tolist()
