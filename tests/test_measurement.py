from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from oectflow import measurement
from oectflow.errors import ConfigError, UnreadableFile
from oectflow.measurement import (
    Array,
    Extra,
    Kind,
    Measurement,
    Step,
    Value,
    get_kind,
    kinds,
    register_kind,
)
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.raw_format import write_measurement


def step(kind: str, n: int, seed: int = 0, **rest: object) -> Step:
    """A step of ``n`` random samples of every array of its kind."""
    rng = np.random.default_rng(seed)
    names = [array.name for array in get_kind(kind).arrays if array.name != "continuous_time"]
    return Step(kind, {name: rng.normal(size=n) for name in names}, **rest)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind__what_is_written_comes_back(kind: str, tmp_path: Path) -> None:
    steps = [step(kind, n, seed=n) for n in (7, 3, 0, 12)]
    path = write_measurement(tmp_path / "a.h5", Measurement({"test_id": "test_a"}, steps))
    experiment = Experiment(path)
    assert experiment.sources == (kind,)
    assert experiment.n_steps(kind) == 4
    whole = experiment.batch(kind, 0, 4)
    np.testing.assert_array_equal(whole.offsets, [0, 7, 10, 10, 22])
    for i, written in enumerate(steps):
        found = experiment.batch(kind, i, i + 1).arrays
        for array in get_kind(kind).arrays:
            for name in (array.name, *array.aliases):
                a, b = whole.offsets[i : i + 2]
                np.testing.assert_array_equal(found[name], whole.arrays[name][a:b])
                if array.name in written.arrays:
                    np.testing.assert_array_equal(found[name], written.arrays[array.name])
    node = experiment.to_xarray()[kind]
    assert node.sizes[get_kind(kind).sample] == 12
    assert all("units" in variable.attrs for variable in node.data_vars.values())


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind__a_step_may_lack_what_is_optional(kind: str, tmp_path: Path) -> None:
    rows = [row.name for row in get_kind(kind).rows if row.name != "continuous_time"]
    whole = step(kind, 5)
    bare = Step(kind, {name: whole.arrays[name] for name in rows})
    experiment = Experiment(
        write_measurement(tmp_path / "a.h5", Measurement({}, [bare, whole, bare]))
    )
    for array in get_kind(kind).optional:
        found = experiment.batch(kind, 0, 3, [array.name]).arrays[array.name]
        np.testing.assert_array_equal(found[5:10], whole.arrays[array.name])
        assert np.isnan(found[:5]).all()
        assert np.isnan(found[10:]).all()


def test_the_old_arrays_stay_as_they_were(tmp_path: Path) -> None:
    steps = [step("transfer", 4), step("transient", 6)]
    with h5py.File(write_measurement(tmp_path / "a.h5", Measurement({}, steps))) as file:
        assert file["transfer/measurement_data"].shape == (1, 2, 4)
        assert file["transient/measurement_data"].shape == (3, 6)
        assert file["transient/gate_voltage"].shape == (6,)
        assert file["transfer/gate_current"].shape == (1, 4)
        assert file["transfer/gate_current"].attrs["units"] == "A"


def test_numbers_of_a_step__from_parameters_or_as_given(tmp_path: Path) -> None:
    given = {
        "drainVoltage": -600,
        "gateVoltageStep": 20,
        "timeStep": 50,
    }
    steps = [
        step("transfer", 3, info={"parameters": given}),
        step("transfer", 3, values={"Vd": -0.25, "curve": 1, "file_step": 4, "file_position": 61}),
    ]
    batch = Experiment(write_measurement(tmp_path / "a.h5", Measurement({}, steps))).batch(
        "transfer", 0, 2
    )
    np.testing.assert_array_equal(batch.values["Vd"], [-0.6, -0.25])
    np.testing.assert_array_equal(batch.values["sweep_rate"], [0.4, np.nan])
    np.testing.assert_array_equal(batch.values["curve"], [np.nan, 1])
    np.testing.assert_array_equal(batch.values["file_position"], [np.nan, 61])
    one = batch.step(1)
    assert one["Vd"] == -0.25
    np.testing.assert_array_equal(one["Vd_measured"], steps[1].arrays["Vd"])


def test_a_number_that_nobody_declared_is_what_was_measured(tmp_path: Path) -> None:
    arrays = {"Vd": np.arange(5.0), "Id": np.arange(5.0), "Vg": np.array([0.2] * 4 + [np.nan])}
    path = write_measurement(tmp_path / "a.h5", Measurement({}, [Step("output", arrays)]))
    for wanted in (None, ["Id"]):
        assert Experiment(path).batch("output", 0, 1, wanted).values["Vg"].tolist() == [0.2]


def test_extras__are_kept_with_heading_and_unit(tmp_path: Path) -> None:
    extra = {"pressure": Extra(np.array([1.0, np.nan, 3.0]), "p (mbar)", "mbar")}
    arrays = {"Vg": np.arange(3.0), "Id": np.arange(3.0)}
    steps = [Step("transfer", arrays, extra=extra), Step("transfer", arrays)]
    experiment = Experiment(write_measurement(tmp_path / "a.h5", Measurement({}, steps)))
    found = experiment.extra("transfer", 0)["pressure"]
    np.testing.assert_array_equal(found.values, [1.0, np.nan, 3.0])
    assert (found.heading, found.unit) == ("p (mbar)", "mbar")
    node = experiment.to_xarray()["transfer"]
    assert node["extra_pressure"].attrs == {"units": "mbar", "heading": "p (mbar)"}
    np.testing.assert_array_equal(node["extra_pressure"][0], [1.0, np.nan, 3.0])


def test_the_sample__comes_back_and_reaches_a_step(tmp_path: Path) -> None:
    sample = {"W": 1e-4, "electrolyte": "NaCl", "pore": 3.0, "units": {"pore": "nm"}}
    measured = Measurement({}, [step("transfer", 3)], sample=sample)
    experiment = Experiment(write_measurement(tmp_path / "a.h5", measured))
    assert experiment.sample == sample
    assert experiment.step("transfer", 0)["sample"] == sample


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (Step("transfer", {"Vg": np.zeros(3)}), "a transfer step needs Id"),
        (Step("transfer", {"Vg": np.zeros(3), "Id": np.zeros(2)}), "expected one length for all"),
        (Step("transfer", {"Vg": np.zeros(3), "Id": np.zeros(3), "Ix": np.zeros(3)}), "no array"),
        (Step("output", {"Vd": np.zeros(1), "Id": np.zeros(1)}, {"Vx": 1.0}), "no number 'Vx'"),
        (Step("impedence", {}), "did you mean 'impedance'"),
    ],
)
def test_write_measurement__says_what_is_wrong(bad: Step, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write_measurement(tmp_path / "a.h5", Measurement({}, [bad]))
    assert not list(tmp_path.iterdir())


def test_an_array_of_another_length_is_named(tmp_path: Path) -> None:
    path = write_measurement(tmp_path / "a.h5", Measurement({}, [step("transient", 6)]))
    with h5py.File(path, "r+") as file:
        del file["transient/gate_voltage"]
        file["transient/gate_voltage"] = np.zeros(5)
    with pytest.raises(UnreadableFile, match=r"/transient/gate_voltage has the shape \(5,\)"):
        Experiment(path)


def test_kinds__their_order_does_not_depend_on_which_was_asked_for_first() -> None:
    code = (
        "from oectflow.measurement import get_kind, kinds\n"
        "get_kind('transient')\n"
        "print(*list(kinds())[:4])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["transfer", "output", "transient", "impedance"]


def test_register_kind__names_must_be_unlike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "_kinds", dict(kinds()))
    same = Kind("noise", "Noise", (Array("f", "Hz", ""), Array("S", "A2/Hz", "", "", ("f",))), ())
    with pytest.raises(ConfigError, match="two of its arrays have one name"):
        register_kind(same)
    clash = Kind("noise", "Noise", (Array("Vd", "V", ""),), (Value("Vd", "V", ""),))
    with pytest.raises(ConfigError, match="give the array 'Vd' an alias"):
        register_kind(clash)
    with pytest.raises(ConfigError, match="there is a kind 'transfer' already"):
        register_kind(Kind("transfer", "Mine", (Array("x", "", ""),), ()))
