"""Measurements from memory: what went in comes out of the raw file, and mistakes are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oectflow.errors import ConfigError, InputError
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.from_python import write_experiment
from oectflow.pipeline.inputs.simulate import simulate_device

Vg = np.linspace(0.2, -0.8, 51)
Id = -1e-3 * np.clip(0.2 - Vg, 0, None) ** 2
TIME = np.arange(600) / 1000
PULSE = np.where(np.arange(600) // 100 % 2 == 0, -0.6, 0.0)


def same(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-14, atol=0)


def test_arrays_of_all_kinds(tmp_path: Path) -> None:
    path = write_experiment(
        tmp_path / "new" / "a1.h5",
        transfer=[{"Vg": Vg, "Id": Id, "Vd": -0.6}, ({"Vg": Vg[:9], "Id": Id[:9]}, {"Vd": -0.1})],
        output=[{"Vd": -Vg, "Id": Id, "Ig": Id / 100, "Vg": -0.2}],
        transient=(
            {"time": TIME, "Id": PULSE / 1e3, "Vg": PULSE},
            {"gate_period": 0.2, "duty_cycle": 0.5, "sampling_interval": 1e-3},
        ),
        impedance=[{"frequency": [1, 10.0], "Z_real": [5, 6], "Z_imag": [-1, -2], "Vdc": 0.1}],
        sample={"W (µm)": 100, "L": 1e-5},
        chip_id="A",
        device_id=3,
        note="good",
        nothing=None,
    )
    experiment = Experiment(path)
    assert (experiment.experiment_id, experiment.chip_id, experiment.device_id) == ("a1", "A", "3")
    assert experiment.attributes["note"] == "good"
    assert experiment.sample == {"W": 1e-4, "L": 1e-5}
    assert experiment.sources == ("transfer", "output", "transient", "impedance")
    first, second = (experiment.step("transfer", i) for i in range(2))
    same(first["Vg"], Vg)
    same(first["Id"], Id)
    assert (first["Vd"], second["Vd"], len(second["Id"])) == (-0.6, -0.1, 9)
    output = experiment.step("output", 0)
    same(output["Vd"], -Vg)
    same(output["Ig"], Id / 100)
    assert output["Vg"] == -0.2
    transient = experiment.step("transient", 0)
    same(transient["time"], TIME)
    same(transient["continuous_time"], TIME)
    same(transient["Vg"], PULSE)
    assert transient["gate_period"] == 0.2
    assert transient["duty_cycle"] == pytest.approx(0.5)
    impedance = experiment.step("impedance", 0)
    same(impedance["Z_imag"], [-1, -2])
    assert impedance["Vdc"] == 0.1


@pytest.mark.parametrize("make", ["dict", "frame", "attrs", "dataset", "coordinate", "masked"])
def test_units_and_names(tmp_path: Path, make: str) -> None:
    columns = {"V_GS (mV)": Vg * 1e3, "Drain Current [µA]": Id * 1e6, "Ig (nA)": Id * 1e7}
    plain = {"Vg": Vg * 1e3, "Id": Id * 1e6, "Ig": Id * 1e7}
    units = {"Vg": "mV", "Id": "µA", "Ig": "nA"}
    step: Any = columns
    if make == "frame":
        step = pd.DataFrame(columns)
        step["Ig (nA)"] = step["Ig (nA)"].astype("Float64")
    elif make == "attrs":
        step = pd.DataFrame(plain)
        step.attrs["units"] = units
    elif make == "dataset":
        step = xr.Dataset({k: ("x", v, {"units": units[k]}) for k, v in plain.items()})
    elif make == "coordinate":
        step = xr.Dataset({k: ("Vg", v, {"units": units[k]}) for k, v in plain.items()})
    elif make == "masked":
        step = dict(columns)
        step["Ig (nA)"] = np.ma.masked_equal(step["Ig (nA)"], 1e99)
    read = Experiment(write_experiment(tmp_path / "a.h5", transfer=step)).step("transfer", 0)
    same(read["Vg"], Vg)
    same(read["Id"], Id)
    same(read["Ig"], Id / 100)


def test_a_frame_with_an_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"Vg": Vg, "Id": Id}).set_index("Vg")
    same(
        Experiment(write_experiment(tmp_path / "a.h5", transfer=frame)).step("transfer", 0)["Vg"],
        Vg,
    )


def test_what_no_kind_knows_is_kept_with_a_warning(tmp_path: Path) -> None:
    step = {"Vg": Vg, "Id": Id, "humidity (%)": Vg}
    with pytest.warns(UserWarning, match=r"transfer\[0\]: 'humidity \(%\)' is kept under /extra"):
        path = write_experiment(tmp_path / "a.h5", transfer=step)
    (extra,) = Experiment(path).extra("transfer", 0).values()
    assert extra.heading == "humidity (%)"
    same(extra.values, Vg)


def test_overflow_and_impossible_units_are_said(tmp_path: Path) -> None:
    current = Id.copy()
    current[7] = 9.91e37
    with pytest.warns(UserWarning, match="transfer 1: Id is 9.91e.37 at point 7, beyond"):
        path = write_experiment(tmp_path / "a.h5", transfer={"Vg": Vg, "Id": current})
    assert np.flatnonzero(np.isnan(Experiment(path).step("transfer", 0)["Id"])).tolist() == [7]
    with pytest.warns(UserWarning, match="transfer 1: Vg is -220 V at .*is the unit right"):
        write_experiment(tmp_path / "b.h5", transfer={"Vg": 1e3 * Vg, "Id": Id})


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    device = simulate_device(3, n_transfer=3, n_transient=2, n_points=21, chip_id="A", test_id="t7")
    original = Experiment(device.write(tmp_path / "a.h5"))
    tree = original.to_xarray()
    copy = Experiment(write_experiment(tmp_path / "b.h5", tree))
    xr.testing.assert_identical(
        copy.to_xarray().to_dataset(), tree.to_dataset().assign_attrs(copy.attributes)
    )
    for source in original.sources:
        assert copy.n_steps(source) == original.n_steps(source)
        for i in range(original.n_steps(source)):
            left, right = original.step(source, i), copy.step(source, i)
            assert left.keys() == right.keys()
            for name in left:
                np.testing.assert_array_equal(left[name], right[name])
    assert copy.experiment_id == "t7"
    assert copy.chip_id == "A"


def test_a_tree_keeps_sample_and_extras(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="kept under /extra"):
        path = write_experiment(
            tmp_path / "a.h5",
            transfer=[{"Vg": Vg, "Id": Id, "T (°C)": Vg}, {"Vg": Vg[:5], "Id": Id[:5]}],
            sample={"W": 1e-4, "ink": "blue", "age (d)": 3},
        )
    first = Experiment(path)
    second = Experiment(write_experiment(tmp_path / "b.h5", first.to_xarray()))
    assert second.sample["W"] == 1e-4
    assert second.sample["ink"] == "blue"
    assert second.extra("transfer", 0).keys() == first.extra("transfer", 0).keys()
    assert len(second.step("transfer", 1)["Vg"]) == 5


FRAME = pd.DataFrame({"Vg": Vg, "Id": Id})
GOOD = {"Vg": Vg, "Id": Id}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "no steps; give some as transfer="),
        ({"chip_id": "A"}, "no steps"),
        ({"tranfer": [GOOD]}, "did you mean 'transfer'"),
        ({"transfer": GOOD, "when": object()}, "attributes are text and numbers"),
        ({"data": FRAME}, "a DataFrame does not say what was measured"),
        ({"data": xr.DataTree.from_dict({"/tranfer": xr.Dataset()})}, "node 'tranfer'; did you"),
    ],
)
def test_mistakes_in_the_whole_are_named(
    tmp_path: Path, contents: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_experiment(tmp_path / "a.h5", **contents)
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"Vg": Vg}, r"no Id \(drain current, A\); it has Vg"),
        ([GOOD, {"Vg": Vg, "Id": Id[1:]}], r"\[1\]: Vg has 51 points, Id has 50"),
        (GOOD | {"Id": np.ones((51, 2))}, r"\[0\]: Id has shape \(51, 2\)"),
        (GOOD | {"Id": ["a"] * 51}, r"\[0\]: 'Id' has numbers of type <U1"),
        (FRAME.assign(Id=["0,5"] * 51).astype(object), "'Id' is not all real numbers"),
        (GOOD | {"Id": Id + 0j}, "numbers of type complex128"),
        ({"Vg": [], "Id": []}, r"\[0\]: has no points"),
        (GOOD | {"gate_voltage": Vg}, "'Vg' and 'gate_voltage' both are Vg"),
        (GOOD | {"Vdd": -0.6}, "no number 'Vdd'; did you mean 'Vd'"),
        ((GOOD, {"sweeprate": 1}), "did you mean 'sweep_rate'"),
        ((GOOD, {"Vd": [1, 2]}), r"'Vd' has shape \(2,\), expected one number"),
        ((GOOD, {"Vd": 1}, 3), "a tuple of 3"),
        (Vg, r"\[0\]: is a ndarray, expected a dict"),
        ({"Vg (mA)": Vg, "Id": Id}, "no Vg .*'mA' is not known as a unit of Vg"),
        (xr.Dataset({"Vg": ("x", Vg, {"units": "s"}), "Id": ("x", Id)}), "no unit of it"),
        (xr.Dataset({"Vg": ("x", Vg), "Id": (("x", "y"), np.ones((51, 2)))}), "dimensions x, y"),
    ],
)
def test_mistakes_in_a_step_are_named(tmp_path: Path, step: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"transfer.*{message}"):
        write_experiment(tmp_path / "a.h5", transfer=step)
    assert not (tmp_path / "a.h5").exists()


def test_a_transient_needs_its_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"transient\[0\]: no time \(time as recorded, s\)"):
        write_experiment(tmp_path / "a.h5", transient={"Id": Id})


def test_a_file_is_replaced_on_request_only(tmp_path: Path) -> None:
    step = {"Vg": Vg, "Id": Id}
    path = write_experiment(tmp_path / "a.h5", transfer=step)
    with pytest.raises(InputError, match="exists; give overwrite=True"):
        write_experiment(path, transfer=step)
    with pytest.raises(ConfigError, match="W=100 m is impossible"):
        write_experiment(path, transfer=step, sample={"W": 100}, overwrite=True)
    write_experiment(path, transfer=[step, step], overwrite=True)
    assert Experiment(path).n_steps("transfer") == 2


numbers = st.floats(-1, 1, allow_nan=False)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sweeps=st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9), max_size=4),
    traces=st.lists(st.lists(numbers, min_size=2, max_size=9), max_size=4),
    as_frame=st.booleans(),
)
def test_every_number_comes_back(
    tmp_path: Path, sweeps: list[Any], traces: list[Any], as_frame: bool
) -> None:
    if not sweeps and not traces:
        return
    make = pd.DataFrame if as_frame else dict
    transfer = [make({"Vg": [a for a, _ in s], "Id": [b for _, b in s]}) for s in sweeps]
    transient = [make({"time": np.arange(len(t)) / 10, "Id": t}) for t in traces]
    path = write_experiment(
        tmp_path / "a.h5", overwrite=True, transfer=transfer, transient=transient
    )
    experiment = Experiment(path)
    assert experiment.n_steps("transfer") == len(sweeps)
    assert experiment.n_steps("transient") == len(traces)
    for i, sweep in enumerate(sweeps):
        step = experiment.step("transfer", i)
        np.testing.assert_array_equal(step["Vg"], [a for a, _ in sweep])
        np.testing.assert_array_equal(step["Id"], [b for _, b in sweep])
    for i, trace in enumerate(traces):
        np.testing.assert_array_equal(experiment.step("transient", i)["Id"], trace)
