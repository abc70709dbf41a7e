"""How often a number of a transfer sweep has the status ``ok`` and is wrong.

    python benchmarks/sweep_truth.py [--json PATH] [--sweeps 2000] [--first 0]

Sweeps of made devices (n and p, accumulation and depletion, 21 to 1,000 points, one way or there
and back, even and uneven voltages, four kinds of noise from 1e-4 to 0.3 of the swing), whole or
with one fault each, from ``tests/extractors/faulty_sweeps.py``.  A value is wrong that is farther
from the truth than five of its standard errors and than 3 %.  ``visible`` leaves out steps of the
current that are less than 25 standard deviations of the noise, or five times what the curve itself
bends, where they are.  ``--first`` is the first seed: thresholds are set on others than reported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import _machine
import numpy as np

from oectflow.extractors.base import get_extractor
from oectflow.measurement import Batch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "extractors"))
import faulty_sweeps
import naive

#: Words that say that a sweep has a fault.
FAULTS = ("overflow", "outlier", "clipped", "jump", "noise", "several_loops", "implausible")


def wrong_of(sweeps: list[faulty_sweeps.Sweep]) -> dict[str, dict[str, np.ndarray]]:
    """Return, per feature, which values are ok, which of these are wrong, and the words."""
    found = {}
    measured = Batch.from_steps([sweep.step for sweep in sweeps])
    truth = Batch.from_steps([sweep.right for sweep in sweeps])
    for name, params in faulty_sweeps.FEATURES.items():
        extractor = get_extractor(f"transfer.{name}", params)
        columns = extractor.extract_batch(measured, extractor.params)  # type: ignore[misc]
        with naive.believing():
            want = extractor.extract_batch(truth, extractor.params)["value"]  # type: ignore[misc]
        words = np.array(list(extractor.variables["status"].statuses))
        ok = columns["status"] == 0
        wrong = ok & faulty_sweeps.wrong(columns["value"], columns["stderr"], want)
        within = np.abs(columns["value"] - want) <= 1.96 * columns["stderr"]
        found[name] = {"ok": ok, "wrong": wrong, "within": within, "word": words[columns["status"]]}
    return found


def rows_of(fault: str, first: int, n_sweeps: int) -> list[dict[str, Any]]:
    """Return one row for all sweeps with a fault, and one for those in which it is visible."""
    sweeps = [faulty_sweeps.faulty(fault, seed) for seed in range(first, first + n_sweeps)]
    hidden = np.array([sweep.hidden for sweep in sweeps])
    found = wrong_of(sweeps)
    rows = []
    parts = {fault: hidden | True}
    if hidden.any():
        parts[f"{fault}, visible"] = ~hidden
    for name, chosen in parts.items():
        row: dict[str, Any] = {"fault": name, "sweeps": int(chosen.sum())}
        for feature, part in found.items():
            row[feature] = f"{part['wrong'][chosen].sum()}/{part['ok'][chosen].sum()}"
        words = np.concatenate([part["word"].reshape(n_sweeps, -1) for part in found.values()], 1)
        row["a word of a fault"] = float(np.isin(words[chosen], FAULTS).any(axis=1).mean())
        rows.append(row)
    if fault == "clean":
        row = {"fault": "share within 1.96 standard errors", "sweeps": n_sweeps}
        for feature, part in found.items():
            row[feature] = float(part["within"][part["ok"]].mean())
        rows.append(row)
        row = {"fault": "share that is noisy", "sweeps": n_sweeps}
        for feature, part in found.items():
            row[feature] = float((part["word"] == "noisy").mean())
        rows.append(row)
    return rows


def main() -> None:
    """Make, judge and print."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--sweeps", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    rows = []
    for fault in faulty_sweeps.FAULTS:
        rows += rows_of(fault, arguments.first, arguments.sweeps)
    _machine.report("Wrong values among those with the status ok", rows, arguments.json)


if __name__ == "__main__":
    main()
