"""What is different between two results of one experiment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import Variable
from oectflow.pipeline.outputs.sink import read_columns, read_problems, read_variables

_Result = tuple[Path, Mapping[str, Any]]


@dataclass(frozen=True)
class Difference:
    """A variable of one experiment that is not the same.

    Attributes
    ----------
    experiment_id, variable
        Which.
    what
        How it is different.
    """

    experiment_id: str
    variable: str
    what: str

    def __str__(self) -> str:
        return f"{self.experiment_id}, {self.variable}: {self.what}"


def compare_results(then: _Result, now: _Result) -> tuple[int, list[Difference]]:
    """Compare two results of one experiment bit by bit; all that is no number is the same.

    Returns
    -------
    The number of values that were compared, and the differences.
    """
    name = then[1]["identity"]["experiment_id"]
    found: list[Difference] = []

    def add(variable: str, what: str) -> None:
        found.append(Difference(name, variable, what))

    for feature, about in then[1]["features"].items():
        other = now[1]["features"].get(feature)
        if other is not None and other["fingerprint"] != about["fingerprint"]:
            add(feature, "is defined otherwise here; use the version that computed it")
    if then[1]["n_rows"] != now[1]["n_rows"]:
        add("step", f"{then[1]['n_rows']} steps then, {now[1]['n_rows']} now")
        return 0, found
    old, new = read_variables(then[1]), read_variables(now[1])
    for variable in old.keys() ^ new.keys():
        add(variable, "was not computed now" if variable in old else "was not computed then")
    both = [variable for variable in old if variable in new]
    before = read_columns(then[0], both, then[1])
    after = read_columns(now[0], both, now[1])
    n_values = 0
    for variable in both:
        a, b = (
            _words(before[variable], old[variable]), _words(after[variable], new[variable]),
        )  # fmt: skip
        n_values += a.size
        what = _difference(a, b)
        if what:
            add(variable, what)
    problems = [_problems(then[0]), _problems(now[0])]
    if problems[0] != problems[1]:
        other_ones = (problems[0] - problems[1]) + (problems[1] - problems[0])
        step, feature, status, error = min(other_ones)
        add(feature, f"another problem at step {step} ({status} {error})".replace(" )", ")"))
    return n_values, found


def _words(array: NDArray[Any], variable: Variable) -> NDArray[Any]:
    """Return status words in place of codes, whose order may be another one."""
    return np.array(list(variable.statuses))[array] if variable.statuses else array


def _difference(a: NDArray[Any], b: NDArray[Any]) -> str:
    if a.shape != b.shape:
        return f"shape {a.shape} then, {b.shape} now"
    if a.dtype.kind != b.dtype.kind or (a.dtype.kind != "U" and a.dtype != b.dtype):
        return f"{a.dtype} then, {b.dtype} now"
    same = np.asarray(a == b)
    if a.dtype.kind == "f":
        # 0 and -0 are equal, but not the same bits.
        same = (same & (np.signbit(a) == np.signbit(b))) | (np.isnan(a) & np.isnan(b))
    wrong = ~same
    n = int(wrong.sum())
    if not n:
        return ""
    place = tuple(int(k) for k in np.argwhere(wrong)[0])
    said = f"{n:,} of {a.size:,} values, first at step {place[0]}: {a[place]} then, {b[place]} now"
    if a.dtype.kind == "f":
        with np.errstate(all="ignore"):
            gaps = np.abs(a - b)[wrong] / np.maximum(np.abs(a), np.abs(b))[wrong]
        if np.isfinite(gaps).any():
            said += f"; at most {np.nanmax(gaps[np.isfinite(gaps)]):.1e} of the value"
    return said


def _problems(path: Path) -> Counter[tuple[int, str, str, str]]:
    """Return what went wrong; messages name files, and are not compared."""
    return Counter((p.step, p.feature, p.status, p.error_type) for p in read_problems(path))
