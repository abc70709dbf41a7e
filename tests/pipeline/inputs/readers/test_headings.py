"""What headings say, as laboratories and their instruments write them."""

from __future__ import annotations

import math

import pytest

from oectflow.pipeline.inputs.readers.headings import known_heading, read_heading, si_scale


@pytest.mark.parametrize(
    ("quantity", "unit", "scale", "texts"),
    [
        ("Vg", "", 1, ["Vg", "Vgs", "V_G", "VGS", "V_GS", "gate voltage", "gate", "GateV"]),
        ("Vg", "", 1, ["GateV(1)", "Vg_meas", "栅压", "V gate", "Measured gate voltage"]),
        ("Vg", "V", 1, ["Vg(V)", "Vg [V]", "V_GS / V", "Vg, V", "Vg_V", "栅压（V）", "gate (V)"]),
        ("Vg", "mV", 1e-3, ["Vg (mV)", "VG/mV", "V_G_mV", "Vgs in mV"]),
        ("Vd", "", 1, ["Vd", "Vds", "V_DS", "drain voltage", "DrainV", "漏极电压"]),
        ("Id", "", 1, ["Id", "Ids", "I_D", "drain current", "DrainI(3)", "drain_current"]),
        ("Id", "mA", 1e-3, ["Id (mA)", "I_DS [mA]", "Id_mA", "Id / mA", "Drain Current [mA]"]),
        ("Id", "ma", 1e-3, ["DRAIN CURRENT (ma)"]),
        ("Id", "uA", 1e-6, ["Id (uA)", "ID[uA]"]),
        ("Id", "μA", 1e-6, ["Id (µA)", "Ids/μA"]),
        ("Id", "UA", 1e-6, ["ID (UA)"]),
        ("Id", "A", 1, ["drain (A)", "漏极电流 (A)"]),
        ("Id", "A", -1, ["-Id (A)", "−I_D (A)"]),
        ("Ig", "", 1, ["Ig", "I_G", "GateI", "gate current", "leakage", "Leakage Current", "IGS"]),
        ("Ig", "nA", 1e-9, ["Ig (nA)", "gate (nA)"]),
        ("u_Id", "A", 1, ["I_DS Error (A)", "u_Id (A)", "Id std (A)", "drain current error [A]"]),
        ("u_Ig", "A", 1, ["I_G Error (A)"]),
        ("time", "", 1, ["Time", "time", "t", "timestamp", "elapsed", "Elapsed Time", "时间"]),
        ("time", "s", 1, ["Time (s)", "t / s", "T (s)", "time_s"]),
        ("time", "ms", 1e-3, ["Time (ms)", "t[ms]"]),
        ("time", "MS", 1e-3, ["TIME (MS)"]),
        ("time", "min", 60, ["Time (min)"]),
        ("frequency", "", 1, ["frequency", "Freq", "f"]),
        ("frequency", "Hz", 1, ["freq/Hz", "Frequency (Hz)", "F [Hz]"]),
        ("frequency", "kHz", 1e3, ["f (kHz)"]),
        ("Z_real", "Ohm", 1, ["Re(Z)/Ohm", "Z' (Ohm)", "Zre [Ohm]", "Z_real (Ohm)", "ReZ (Ohm)"]),
        ("Z_imag", "Ohm", -1, ["-Im(Z)/Ohm", "-Z'' (Ohm)", '-Z" (Ohm)', "-Z″ / Ohm"]),
        ("Z_imag", "Ω", 1, ["Z'' (Ω)", "Zim (Ω)", "Z_imag / Ω"]),
        ("phase", "deg", math.pi / 180, ["Phase (deg)", "Phase(Z)/deg"]),
    ],
)  # fmt: skip
def test_names_and_units(quantity, unit, scale, texts):
    for text in texts:
        heading = read_heading(text)
        seen = (heading.quantity, heading.unit, heading.scale)
        assert seen == (quantity, unit, pytest.approx(scale, rel=1e-15, abs=0)), text
        assert not heading.assumed
        assert not heading.note
        assert heading.text == text


@pytest.mark.parametrize(
    ("text", "values", "scale"),
    [
        ("Id(Vg=-200mV)", {"Vg": -0.2}, 1),
        ("Id(Vg=0mV)", {"Vg": 0.0}, 1),
        ("Id @ Vd=-0.6 V", {"Vd": -0.6}, 1),
        ("Id (mA) @ V_DS = -0.6 V", {"Vd": -0.6}, 1e-3),
        ("I_D (VG = 0.2 V) [uA]", {"Vg": 0.2}, 1e-6),
        ("Id Vg=0.2V", {"Vg": 0.2}, 1),
        ("Id_Vd=-100mV", {"Vd": -0.1}, 1),
        ("Id (Vg=-0,2 V)", {"Vg": -0.2}, 1),
        ("Id, Vds=−1e-1V", {"Vd": -0.1}, 1),
    ],
)
def test_values_that_hold_for_the_column(text, values, scale):
    heading = read_heading(text)
    assert (heading.quantity, dict(heading.values), heading.scale) == ("Id", values, scale)
    assert not heading.assumed


def test_a_row_of_units():
    assert read_heading("Id", "(mA)").scale == 1e-3
    assert read_heading("gate", "[nA]").quantity == "Ig"
    assert read_heading("Id (mA)", "mA").scale == 1e-3
    contradiction = read_heading("Id (A)", "mA")
    assert contradiction.quantity is None
    assert "'A' in the heading and 'mA' below" in contradiction.note


@pytest.mark.parametrize(
    "text",
    ["Id (A/m)", "Id/W (A/m)", "Id (a.u.)", "Id (V)", "Vg (A)", "T", "T (K)", "|Id| (A)",
     "sqrt(Id)", "log10(Id)", "gm (S)", "Is (A)", "", "漏电流 (A)", "Time (hh:mm:ss)",
     "Vg - Vth (V)", "dId/dVg"],
)  # fmt: skip
def test_what_is_something_else_is_not_taken_for_it(text):
    assert read_heading(text).quantity is None


def test_what_the_name_alone_does_not_say():
    assert read_heading("Current (mA)").assumed
    assert read_heading("Vd = -0.1 V").assumed
    assert read_heading("Vg set (V)").nominal
    assert "T=300K" in read_heading("Id (T=300K)").note


@pytest.mark.parametrize(
    ("unit", "si", "scale"),
    [("V vs. Ag/AgCl", "V", 1), ("millivolts", "V", 1e-3), ("microamps", "A", 1e-6),
     ("pA", "A", 1e-12), ("kOhm", "Ω", 1e3), ("MΩ", "Ω", 1e6), ("msec", "s", 1e-3),
     ("µs", "s", 1e-6), ("h", "s", 3600), ("", "A", 1), ("A/cm2", "A", None), ("dB", "V", None)],
)  # fmt: skip
def test_units(unit, si, scale):
    assert si_scale(unit, si) == scale


def test_a_heading_known_from_elsewhere():
    assert known_heading("CH1", "Id", "uA").scale == 1e-6
    with pytest.raises(ValueError, match="'S' is no unit of Id"):
        known_heading("CH1", "Id", "S")
    with pytest.raises(ValueError, match="no quantity 'X'"):
        known_heading("CH1", "X", "A")
