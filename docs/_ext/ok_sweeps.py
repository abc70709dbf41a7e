"""The part of the page on ``ok`` that says what status words of transfer sweeps are worth."""

from __future__ import annotations

import json
from pathlib import Path

from feature_pages import table

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "sweep_truth.json"
FEATURES = (
    "gm_max", "Von", "Vth", "on_off_ratio", "subthreshold_swing", "absI_max", "hysteresis",
)  # fmt: skip


def sweeps_section() -> list[str]:
    """Return the Markdown lines: what was made, and how often ``ok`` was wrong."""
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    counts = [row for row in rows if "/" in str(row["gm_max"])]
    alarms = next(row for row in rows if row["fault"] == "clean")["a word of a fault"]
    return [
        "## Transfer sweeps",
        "",
        "The same of sweeps: n and p, accumulation and depletion, 21 to 1,000 points, even and "
        "uneven voltages, four kinds of noise from 1e-4 to 0.3 of the swing, with one fault each "
        "(`python benchmarks/sweep_truth.py`). A cell is the number of wrong values of all that "
        "have the status `ok`. *Visible* leaves out steps of the current that are less than 25 "
        "standard deviations of the noise, or five times what the curve itself bends there. "
        f"Without a fault {100 * alarms:.2g} % of the sweeps have a word of one.",
        "",
        "A step of the current that is less than the noise of the point where it is, is not "
        "seen. What belongs to larger currents is mostly right within its error all the same: "
        "that holds what a range may change by without being seen; the row *gain* says how "
        "often not. An offset is many times the current of a device that is off, and with it "
        "on/off ratio, onset and subthreshold swing of all that is measured behind it are "
        "wrong. Three things tell of it, and make these `noisy`: the loop does not close where "
        "the device is off, which a shift of the voltage does not explain; the current is less "
        "noisy than its size has it be elsewhere; or it has the other sign. Of a sweep that "
        "begins with the device on and goes one way, none need be: what is left in the row "
        "*jump* are mostly such sweeps, with an off current that is noisy by itself.",
        "",
        *table(
            ("fault", *(f"`{name}`" for name in FEATURES)),
            [(row["fault"].replace("_", " "), *(row[name] for name in FEATURES)) for row in counts],
        ),
        "",
    ]
