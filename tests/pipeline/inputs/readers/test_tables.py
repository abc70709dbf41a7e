"""From tables to steps: kinds, column groups, what is not used, and what makes no sense."""

from __future__ import annotations

import numpy as np
import pytest

from oectflow.errors import IngestError
from oectflow.pipeline.inputs.readers.marks import doubtful_interval, is_overflow_word
from oectflow.pipeline.inputs.readers.tables import Table, steps_from_table

ONE_WAY = np.linspace(0, -0.8, 33)
SWEEP = np.r_[ONE_WAY, ONE_WAY[::-1]]
CURRENT = -1e-3 * (1 + np.arange(66) / 66)
CLOCK = np.arange(1000) * 1e-3
PULSES = np.where(CLOCK % 0.2 < 0.06, 0.6, -0.2)


def read(headings, *columns, units=(), **options):
    n = max(len(column) for column in columns)
    padded = [np.r_[column, np.full(n - len(column), np.nan)] for column in columns]
    return steps_from_table(Table(headings, padded, units, first_line=2, source="a.csv"), **options)


def kinds(steps):
    return [step.kind for step in steps]


def test_a_transfer_curve_in_other_units():
    steps, warnings = read(
        ["V_GS (mV)", "I_D (mA)", "Ig [nA]", "I_D Error (mA)"],
        SWEEP * 1e3, CURRENT * 1e3, CURRENT * 1e9, CURRENT * 1e3,
    )  # fmt: skip
    assert (kinds(steps), warnings) == (["transfer"], [])
    assert steps[0].arrays.keys() == {"Vg", "Id", "Ig", "u_Id"}
    np.testing.assert_allclose(steps[0].arrays["Vg"], SWEEP, rtol=1e-15)
    for name in ("Id", "Ig", "u_Id"):
        np.testing.assert_allclose(steps[0].arrays[name], CURRENT, rtol=1e-15)
    assert dict(steps[0].values) == {}


def test_units_in_a_row_of_their_own():
    steps, _ = read(["gate", "drain"], SWEEP, CURRENT * 1e6, units=["V", "uA"])
    np.testing.assert_allclose(steps[0].arrays["Id"], CURRENT, rtol=1e-15)


@pytest.mark.parametrize("noise", [0, 1e-3])
def test_a_switched_gate_is_a_transient_and_a_swept_one_a_transfer_curve(noise):
    gate = PULSES + np.random.default_rng(1).normal(0, noise, 1000)
    steps, warnings = read(["Time (s)", "Id (A)", "Vg (V)"], CLOCK, gate * 1e-3, gate)
    assert (kinds(steps), warnings) == (["transient"], [])
    np.testing.assert_array_equal(steps[0].arrays["Vg"], gate)
    assert steps[0].values["sampling_interval"] == pytest.approx(1e-3)
    swept = SWEEP + np.random.default_rng(1).normal(0, noise, 66)
    steps, warnings = read(["Time (s)", "Vg (V)", "Id (A)"], np.arange(66) * 0.5, swept, CURRENT)
    assert (kinds(steps), warnings) == (["transfer"], [])
    assert steps[0].values["sweep_rate"] == pytest.approx(0.05, rel=0.1)


def test_a_gate_that_goes_through_many_levels_and_holds_each_is_a_transient():
    gate = np.repeat(np.linspace(0, -0.9, 10), 100)
    assert kinds(read(["t", "Vg", "Id"], CLOCK, gate, gate * 1e-3)[0]) == ["transient"]


@pytest.mark.parametrize("noise", [0, 1e-4])
def test_the_inner_loop_of_two_voltages_is_the_sweep(noise):
    inner, outer = np.tile(ONE_WAY, 3), np.repeat([-0.4, -0.2, 0.0], 33)
    inner, outer = (v + np.random.default_rng(2).normal(0, noise, 99) for v in (inner, outer))
    current = np.arange(99) * 1e-6
    output, _ = read(["Vg", "Vd", "Id"], outer, inner, current)
    transfer, _ = read(["Vg", "Vd", "Id"], inner, outer, current)
    assert kinds(output) == ["output"] * 3
    assert kinds(transfer) == ["transfer"] * 3
    levels = pytest.approx([-0.4, -0.2, 0.0], abs=5 * noise)
    assert [step.values["Vg"] for step in output] == levels
    assert [step.values["Vd"] for step in transfer] == levels
    assert [step.values["file_position"] for step in output] == [0, 33, 66]
    np.testing.assert_array_equal(output[1].arrays["Id"], current[33:66])


def test_output_curves_of_the_lab_s_instrument_one_of_them_stopped():
    steps, warnings = read(
        ["Vd", "Id(Vg=-200mV)", "Id(Vg=0mV)"], ONE_WAY, CURRENT[:33], CURRENT[:12]
    )
    assert (kinds(steps), warnings) == (["output"] * 2, [])
    assert [len(step) for step in steps] == [33, 12]
    assert [step.values["Vg"] for step in steps] == [-0.2, 0.0]
    assert [step.values["curve"] for step in steps] == [1, 2]


def test_transfer_curves_whose_headings_carry_the_drain_voltage():
    steps, warnings = read(
        ["Vg (V)", "Id (mA) @ Vd=-0.1 V", "Ig (A) @ Vd=-0.1 V",
         "Id (mA) @ Vd=-0.6 V", "Ig (A) @ Vd=-0.6 V"],
        SWEEP, CURRENT, CURRENT, 2 * CURRENT, 2 * CURRENT,
    )  # fmt: skip
    assert (kinds(steps), warnings) == (["transfer"] * 2, [])
    assert [step.values["Vd"] for step in steps] == [-0.1, -0.6]
    np.testing.assert_allclose(steps[1].arrays["Id"], 2e-3 * CURRENT)
    np.testing.assert_allclose(steps[1].arrays["Ig"], 2 * CURRENT)


@pytest.mark.parametrize(
    "headings",
    [
        ["Vg", "Id", "Vg", "Id"],
        ["Vg.1", "Id.1", "Vg.2", "Id.2"],
        ["Vg (V)", "Id (A)", "", "Vg (V)", "Id (A)"],
    ],
)
def test_groups_side_by_side_end_where_they_end(headings):
    columns = [SWEEP, CURRENT, ONE_WAY, CURRENT[:33]]
    if "" in headings:
        columns.insert(2, [])
    steps, warnings = read(headings, *columns)
    assert (kinds(steps), warnings) == (["transfer"] * 2, [])
    assert [len(step) for step in steps] == [66, 33]


def test_a_sweep_and_a_transient_side_by_side():
    steps, warnings = read(["Vg", "Id", "Time", "Id"], SWEEP, CURRENT, CLOCK, CLOCK)
    assert (kinds(steps), warnings) == (["transfer", "transient"], [])
    assert [len(step) for step in steps] == [66, 1000]


def test_an_instrument_that_puts_the_current_first():
    steps, _ = read(
        ["DrainI(1)", "GateV(1)", "DrainI(2)", "GateV(2)"], CURRENT, SWEEP, CURRENT, SWEEP
    )
    assert kinds(steps) == ["transfer"] * 2


def test_impedance_from_parts_and_from_magnitude_and_phase():
    f = np.logspace(5, -1, 31)
    z = 100 + 1 / (2j * np.pi * f * 1e-6)
    parts, _ = read(["freq/Hz", "Re(Z)/Ohm", "-Im(Z)/Ohm"], f, z.real, -z.imag)
    polar, _ = read(["f (Hz)", "|Z| (kOhm)", "Phase (deg)"], f, abs(z) / 1e3, np.angle(z, deg=True))
    for steps in (parts, polar):
        assert kinds(steps) == ["impedance"]
        np.testing.assert_allclose(steps[0].arrays["Z_real"], z.real, rtol=1e-9)
        np.testing.assert_allclose(steps[0].arrays["Z_imag"], z.imag, rtol=1e-9)


def test_what_no_kind_knows_is_kept_and_named():
    steps, warnings = read(
        ["Vg", "Id", "gm (mS)", "", "Id (a.u.)", "comment"],
        SWEEP, CURRENT, SWEEP + 1, SWEEP + 2, SWEEP + 3, [],
    )  # fmt: skip
    assert steps[0].arrays.keys() == {"Vg", "Id"}
    kept = {name: (extra.heading, extra.unit) for name, extra in steps[0].extra.items()}
    assert kept == {
        "gm_mS": ("gm (mS)", "mS"), "column_4": ("", ""), "Id_a_u": ("Id (a.u.)", "a.u.")
    }  # fmt: skip
    np.testing.assert_array_equal(steps[0].extra["gm_mS"].values, SWEEP + 1)
    assert len(warnings) == 4
    assert any("'a.u.' is not known as a unit of Id" in warning for warning in warnings)
    assert any("'comment' holds no numbers" in warning for warning in warnings)


def test_what_was_measured_wins_over_what_was_set():
    steps, warnings = read(["Vg set", "Vg measured", "Id"], SWEEP, SWEEP + 1e-4, CURRENT)
    np.testing.assert_array_equal(steps[0].arrays["Vg"], SWEEP + 1e-4)
    np.testing.assert_array_equal(steps[0].extra["Vg_set"].values, SWEEP)
    assert len(warnings) == 1


def test_a_current_without_a_name_is_the_drain_s_where_there_is_no_other():
    steps, warnings = read(["Vg", "Current (A)"], SWEEP, CURRENT)
    assert "'Current (A)' is taken as the drain current" in warnings[0]
    np.testing.assert_array_equal(steps[0].arrays["Id"], CURRENT)
    steps, warnings = read(["Vg", "Current (A)", "Id (A)"], SWEEP, CURRENT, 2 * CURRENT)
    np.testing.assert_array_equal(steps[0].arrays["Id"], 2 * CURRENT)
    assert "kept as extra" in warnings[0]
    with pytest.raises(IngestError, match="schema"):
        read(["Vg", "I1", "I2"], SWEEP, CURRENT, CURRENT)


@pytest.mark.parametrize("mark", [9.9e37, -9.9e37, 9.91e37, np.inf, 1e31])
def test_marks_of_overflow_are_no_numbers(mark):
    current = CURRENT * 1e3
    current[[4, 9]] = mark
    steps, warnings = read(["Vg", "Id (mA)"], SWEEP, current)
    assert np.flatnonzero(np.isnan(steps[0].arrays["Id"])).tolist() == [4, 9]
    assert len(warnings) == 1
    assert "line 6: Id (mA) is" in warnings[0]
    assert "the first of 2" in warnings[0]


def test_words_of_overflow():
    for word in ("OVLD", "OVERFLOW", "#NUM!", "#DIV/0!", "Inf", "-inf", "NaN", " ovld "):
        assert is_overflow_word(word)
    for word in ("", "0.1", "Vg", "1e5"):
        assert not is_overflow_word(word)


def test_empty_cells_inside_are_named():
    current = CURRENT.copy()
    current[[7, 20]] = np.nan
    _, warnings = read(["Vg", "Id"], SWEEP, current)
    assert warnings == ["column 'Id': 2 of 66 cells are empty or no number, the first in line 9"]


def test_a_clock_that_contradicts_the_parameters():
    info = {"parameters": {"timeStep": 0.1}}
    time = np.arange(50) * 0.1
    steps, warnings = read(["Time", "Id"], time, time * 1e-3, info=info)
    assert steps[0].info == info
    assert len(warnings) == 1
    assert "recorded times are 0.1 s apart, the declared timeStep is 0.0001 s" in warnings[0]
    assert doubtful_interval(time, 0.1) == ""
    assert doubtful_interval(np.array([1.0]), 0.1) == ""
    # Times rounded to whole ms at 0.4 ms.
    assert doubtful_interval(np.round(np.arange(1000) * 4e-4, 3), 4e-4) == ""


@pytest.mark.parametrize(
    ("headings", "message"),
    [
        (["a", "b"], r"no column holds a measurement. Columns: 'a' \(unknown\)"),
        (["Vg", "Id (a.u.)"], "'a.u.' is not known"),
        (["Vg", "Vd"], "no column"),
        (["Id", "Ig"], "no column is a time, a gate voltage or a drain voltage"),
        (["Vg", "Ig"], "no column is a drain current"),
    ],
)
def test_no_measurement_is_an_error_that_names_the_columns(headings, message):
    with pytest.raises(IngestError, match=message):
        read(headings, SWEEP, CURRENT)


def test_a_kind_asked_for_needs_its_columns():
    steps, _ = read(["Time", "Vg", "Id"], np.arange(66), SWEEP, CURRENT, kind="transient")
    assert kinds(steps) == ["transient"]
    with pytest.raises(IngestError, match="a output needs Vd; the columns are Vg, Id"):
        read(["Vg", "Id"], SWEEP, CURRENT, kind="output")


def test_a_group_that_is_no_measurement_is_named_beside_one_that_is():
    steps, warnings = read(["Vg", "Id", "Vg", "Ig"], SWEEP, CURRENT, SWEEP, CURRENT)
    assert kinds(steps) == ["transfer"]
    assert any("no column is a drain current" in warning for warning in warnings)


def test_three_curves_below_each_other_with_extras():
    x = np.tile(ONE_WAY, 3)
    steps, _ = read(["Vg", "Id", "x"], x, np.arange(99) * 1e-6, np.arange(99))
    assert [step.extra["x"].values[0] for step in steps] == [0, 33, 66]


@pytest.mark.parametrize(("mirrored", "curves"), [(-CURRENT, 1), (-CURRENT * 1.01, 2)])
def test_a_current_with_the_other_sign_for_a_plot_is_no_second_curve(mirrored, curves):
    steps, warnings = read(["Vg(V)", "Id(A)", "-Id(A)"], SWEEP, CURRENT, mirrored)
    assert len(steps) == curves
    np.testing.assert_array_equal(steps[0].arrays["Id"], CURRENT)
    assert any("other sign" in warning for warning in warnings) == (curves == 1)
