"""The numbers of every version of every built-in extractor, as kept in ``golden.json``.

::

    python tests/extractors/golden.py    # in the checkout: write the file anew

The inputs are made from integers by additions, multiplications and divisions, which IEEE 754
rounds in one way only, so that they are the same bits on every machine.  What comes out is not:
compilers may join a multiplication and an addition, and ``exp`` and ``log`` differ in the last bit
between C libraries.  Hence ten digits are kept, and compared with a tolerance.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import typing
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from oectflow.errors import ParameterError
from oectflow.extractors.base import BaseExtractor, extractor_names, get_extractor, stack_steps
from oectflow.extractors.pinning import is_built_in
from oectflow.measurement import Batch

GOLDEN = Path(__file__).with_suffix(".json")
HOW = "python tests/extractors/golden.py"
_DIGITS = 10
#: Some results are float32.
_TOLERANCE = 2e-7
#: Numbers of one variable that are kept; of more, each n-th, and the sum of all.
_MOST = 24


def noise(n: int) -> np.ndarray:
    """Return numbers in ±1/2, multiples of 2^-16, that look random."""
    state, found = 1, []
    for _ in range(n):
        state = (1103515245 * state + 12345) % 2**31
        found.append((state >> 15) / 2**16 - 0.5)
    return np.array(found)


def sweeps() -> list[dict[str, Any]]:
    """Return sweeps there and back: n-type and p-type, rough, and degenerate ones."""
    up = np.arange(-16, 49) / 64.0
    vg = np.concatenate([up, up[-2::-1]])
    bent = (vg - 0.25) * 16.0
    on = 0.5 + 0.5 * bent / (1.0 + np.abs(bent))
    current = (on * on + 2.0**-12) * 2.0**-12
    shifted = np.where(np.arange(vg.size) < up.size, current, current * 1.125)
    rough = current + noise(vg.size) * 2.0**-20
    hole = rough.copy()
    hole[20] = np.nan
    flat = np.full(vg.size, 2.0**-14)
    found = [current, shifted, -current[::-1], rough, hole, flat, np.full(vg.size, np.nan)]
    return [{"Vg": vg, "Id": one} for one in found] + [{"Vg": vg[:0], "Id": current[:0]}]


def transients() -> list[dict[str, Any]]:
    """Return transients of six gate cycles: clean, rough, drifting, and degenerate ones."""
    half, n_cycles = 32, 6
    current, level = [], 0.0
    for k in range(2 * half * n_cycles + 7):
        target = 0.0 if k // half % 2 else 1.0
        level += (target - level) * 0.15625
        current.append(level)
    clean = np.array(current) * 2.0**-10
    time = np.arange(clean.size) / 1024.0
    rough = clean + noise(clean.size) * 2.0**-15
    hole = rough.copy()
    hole[40] = np.nan
    drift = rough * (1.0 + np.arange(clean.size) / 4096.0)
    known = {"sampling_interval": 1 / 1024, "gate_period": 2 * half / 1024, "duty_cycle": 0.5}
    known |= {"Vg_low": 0.0, "Vg_high": 0.5}
    unknown = known | {"gate_period": np.nan}
    found = [(clean, known), (rough, known), (-drift, known), (hole, known), (rough, unknown)]
    # Not another constant: what a wavelet leaves of that is rounding.
    found += [(np.zeros(clean.size), known), (np.full(clean.size, np.nan), known)]
    steps = [
        {"continuous_time": time, "original_time": time, "time": time}
        | {"drain_current": one, "Id": one, "Ig": np.diff(one, prepend=0.0) / 64.0}
        | values
        for one, values in found
    ]
    arrays = ("continuous_time", "original_time", "time", "drain_current", "Id", "Ig")
    return [*steps, {name: steps[0][name][:0] for name in arrays} | known]


def output_curves() -> list[dict[str, Any]]:
    """Return output curves: saturating ones of both signs, rough, a resistor, degenerate ones."""
    Vd = np.arange(61) / 64.0
    x = np.minimum(Vd, 0.5)
    clean = (0.5 - x / 2) * x * 2.0**-10 + Vd * 2.0**-16
    rough = clean + noise(Vd.size) * 2.0**-20
    hole = rough.copy()
    hole[[3, 55]] = np.nan
    found = [(Vd, clean), (-Vd, -rough), (Vd, hole), (Vd, Vd * 2.0**-12), (Vd[:9], rough[:9])]
    found += [(Vd, noise(Vd.size) * 2.0**-30), (Vd, np.full(Vd.size, np.nan)), (Vd[:0], Vd[:0])]
    return [{"Vd": voltage, "Id": current} for voltage, current in found]


def spectra() -> list[dict[str, Any]]:
    """Return impedance spectra: a leaking and a blocking capacitor, rough, a resistor, none."""
    frequency = 2.0 ** np.arange(14, -4, -1)
    w = 6.25 * frequency
    parts = []
    for leak in (2.0**-16, 0.0):
        size = leak**2 + (w * 2.0**-20) ** 2
        parts.append((64.0 + leak / size, -w * 2.0**-20 / size))
    real, imag = parts[0]
    rough = real * (1.0 + noise(w.size) / 64.0)
    hole = rough.copy()
    hole[[2, 9]] = np.nan
    parts += [(rough, imag), (hole, imag), (np.full(w.size, 64.0), noise(w.size))]
    parts += [(np.full(w.size, np.nan), imag), (real[:3], imag[:3]), (real[:0], imag[:0])]
    return [{"frequency": frequency[: a.size], "Z_real": a, "Z_imag": b} for a, b in parts]


INPUTS = {
    "impedance": spectra,
    "output": output_curves,
    "transfer": sweeps,
    "transient": transients,
}


def variants(name: str) -> list[dict[str, Any]]:
    """Return the default parameters, and each choice of each of them that works by itself."""
    declared = get_extractor(name).Params
    found: list[dict[str, Any]] = [{}]
    for word, field in (declared.model_fields if declared else {}).items():
        choices = [arg for arg in typing.get_args(field.annotation) if isinstance(arg, str)]
        if word == "dtype":
            # Of single precision, machines agree in too few digits.
            choices = []
        if field.annotation is bool:
            choices = [True, False]
        found += [{word: choice} for choice in choices if choice != field.default]
    return [params for params in found if _works(name, params)]


def _works(name: str, params: dict[str, Any]) -> bool:
    try:
        get_extractor(name, params)
    except ParameterError:
        return False
    return True


def built_in() -> list[str]:
    """Return the names of the extractors that come with the package."""
    return [name for name in extractor_names() if is_built_in(type(get_extractor(name)))]


def numbers(name: str) -> dict[str, dict[str, list[Any]]]:
    """Return what an extractor computes: by parameters and variable, to be written as JSON."""
    return {
        json.dumps(params, sort_keys=True): _columns(get_extractor(name, params))
        for params in variants(name)
    }


def _columns(extractor: BaseExtractor) -> dict[str, list[Any]]:
    steps = INPUTS[extractor.source]()
    if extractor.arrays is not None:
        kept = {"sampling_interval", "gate_period", "duty_cycle", "Vg_low", "Vg_high"}
        kept |= set(extractor.arrays)
        steps = [{k: v for k, v in step.items() if k in kept} for step in steps]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if extractor.extract_batch is not None:
            columns = extractor.extract_batch(Batch.from_steps(steps), extractor.params)
        else:
            rows = [extractor.extract_step(step) for step in steps]
            columns = stack_steps(extractor.variables, rows)
    return {key: _kept(np.asarray(column)) for key, column in sorted(columns.items())}


def _kept(column: np.ndarray) -> list[Any]:
    flat = [_digits(value) for value in column.ravel().tolist()]
    total = math.fsum(value for value in flat if isinstance(value, float | int))
    every = max(1, -(-len(flat) // _MOST))
    return [list(column.shape), *flat[::every], _digits(total)]


def _digits(value: float) -> Any:
    if isinstance(value, float):
        # JSON has no word for NaN and infinity.
        return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else str(value)
    return value


def same(one: Any, other: Any, scale: float = 0.0) -> bool:
    """Whether two of them agree; numbers within what machines may differ in."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        # What is left where large numbers cancel is as exact as these.
        finite = [abs(value) for value in other if isinstance(value, float)]
        largest = max(finite, default=0.0)
        return len(one) == len(other) and all(
            same(*pair, largest) for pair in itertools.zip_longest(one, other)
        )
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=1e-10 * scale)
    return bool(one == other)


#: ``search="smart"`` is SciPy's differential evolution, which took other ways in SciPy 1.13 than in
#: 1.17, with which the numbers were made.
OTHER_EVOLUTION = [int(part) for part in scipy.__version__.split(".")[:2]] < [1, 17]


def differences(name: str, kept: dict[str, Any] | None) -> str:
    """Say what is wrong with what is kept of an extractor, ``""`` if nothing is."""
    cls = type(get_extractor(name))
    if kept is None:
        return f"{name} is not in {GOLDEN.name}: run '{HOW}'"
    now = numbers(name)
    # A choice that is new is no change.
    changed = [
        params
        for params, columns in kept["numbers"].items()
        if not same(now.get(params), columns) and not ("smart" in params and OTHER_EVOLUTION)
    ]
    if changed and cls.version == kept["version"]:
        return (
            f"{name} gives other numbers than version {cls.version} did, with the parameters "
            f"{', '.join(changed)}. If that is meant: set 'version = {cls.version + 1}' in class "
            f"{cls.__name__} ({cls.__module__}), or results of the old version are taken for "
            f"current, and run '{HOW}'"
        )
    if cls.version != kept["version"] or now.keys() != kept["numbers"].keys():
        return f"{name}: {GOLDEN.name} holds version {kept['version']}: run '{HOW}'"
    return ""


def main() -> int:
    """Write the file, unless numbers have changed and their version has not."""
    old = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    wrong = [differences(name, old[name]) for name in built_in() if name in old]
    wrong = [text for text in wrong if "other numbers" in text]
    if wrong:
        print("\n".join(wrong), file=sys.stderr)
        return 1
    entries = {}
    for name in built_in():
        found, kept = numbers(name), old.get(name, {"version": 0, "numbers": {}})
        version = type(get_extractor(name)).version
        if version == kept["version"]:
            # The last digits of another machine are no news.
            found |= {key: value for key, value in kept["numbers"].items() if key in found}
        entries[name] = {"version": version, "numbers": found}
    lines = []
    for name, entry in entries.items():
        rows = ",\n".join(
            f"    {json.dumps(params)}: {json.dumps(columns)}"
            for params, columns in entry["numbers"].items()
        )
        lines.append(f'  "{name}": {{"version": {entry["version"]}, "numbers": {{\n{rows}\n  }}}}')
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
