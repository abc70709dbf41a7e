"""What becomes of raw files that were damaged at random: refused, the same, or other values.

    python benchmarks/fuzz.py [--n 1000] [--seed 0] [--json PATH]

Two small experiments, one as laboratories have it (shuffle, gzip, fletcher32) and one without any
checksum, are changed: a flipped bit, a cut, a block of zeros, two blocks swapped.  A child process
reads all that an extraction would, and says of each file whether it was refused, gave the same, or
something else; what else, by part of the file.  If the child dies the caller has been killed; if it
is silent for three minutes, it hangs.  Both must be 0.

HDF5 1.8 files, which are what instruments write, have no checksum over their metadata: whatever
changes in attributes, in the step table of a file without fletcher32, or in the message that says
how long a row is, cannot be told from what was measured.  These are counted by name.
"""

from __future__ import annotations

import argparse
import json
import random
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import oectflow as of
from oectflow.errors import OectflowError
from oectflow.pipeline.inputs.simulate import simulate_device

DAMAGES = ("flip", "cut", "zeros", "swap")
#: A child that says nothing for so long hangs; one file takes at most 6 s of CPU time.
SILENCE_S = 180.0
_BLOCK = 512


def originals(folder: Path) -> dict[str, Path]:
    """Write the two files that are damaged."""
    protected = folder / "fletcher32.h5"
    simulate_device(1, n_transfer=4, n_transient=5, n_points=41, n_cycles=3).write(protected)
    plain = folder / "plain.h5"
    plain.write_bytes(protected.read_bytes())
    with h5py.File(plain, "r+") as file:
        for kind in ("transfer", "transient"):
            for name in ("measurement_data", "step_info_table"):
                data = file[kind][name][()]
                del file[kind][name]
                file[kind].create_dataset(name, data=data)
    return {"fletcher32": protected, "plain": plain}


def damaged(data: bytes, damage: str, rng: random.Random) -> bytes:
    """Return the bytes of a file with one damage."""
    out = bytearray(data)
    at = rng.randrange(len(out))
    if damage == "flip":
        out[at] ^= 1 << rng.randrange(8)
    elif damage == "cut":
        del out[at:]
    else:
        n = rng.choice((8, 64, _BLOCK, 8 * _BLOCK))
        at = rng.randrange(max(1, len(out) - n))
        other = rng.randrange(max(1, len(out) - n))
        if damage == "zeros":
            out[at : at + n] = bytes(n)
        else:
            out[at : at + n], out[other : other + n] = data[other : other + n], data[at : at + n]
    return bytes(out)


def contents(path: Path) -> dict[str, Any]:
    """Return everything that an extraction takes of a file, by part; None for a refused part."""
    experiment = of.Experiment(path)
    found: dict[str, Any] = {
        "attributes": repr(sorted(experiment.attributes.items())),
        "sources": experiment.sources,
    }
    for source in experiment.sources:
        found[f"{source} table"] = experiment.step_table(source).to_json()
        for step in range(experiment.n_steps(source)):
            try:
                values = experiment.step(source, step)
            except OectflowError:
                values = None
            found[f"{source} step {step}"] = values
    return found


def compare(truth: dict[str, Any], path: Path) -> list[str]:
    """Return the parts that are other ones without a word, or ``refused`` and why."""
    try:
        got = contents(path)
    except OectflowError as error:
        return ["refused", type(error).__name__]
    except Exception as error:  # noqa: BLE001 - whatever else is raised, stops a caller
        return ["raised", repr(error)]
    parts = []
    for name in sorted(truth.keys() | got.keys()):
        one, other = truth.get(name), got.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            same = one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
        else:
            # A step that is refused says so in its result.
            same = one == other or (isinstance(one, dict) and name in got and other is None)
        if not same:
            parts.append(name.rpartition(" step ")[0] + " samples" if " step " in name else name)
    return sorted(set(parts))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.tobytes() == other.tobytes()
    return repr(one) == repr(other)


def child() -> None:
    """Compare files, one for each line of standard input: the truth, and the file."""
    truths: dict[str, dict[str, Any]] = {}
    out = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        original, path = json.loads(line)
        if original not in truths:
            truths[original] = contents(Path(original))
        out.write(json.dumps(compare(truths[original], Path(path))) + "\n")
        out.flush()


def fuzz(n: int, seed: int, folder: Path) -> dict[str, Any]:
    """Damage ``n`` files and return how many became what, by original and damage."""
    files = originals(folder)
    rng = random.Random(seed)
    counts: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    bad: list[str] = []
    process = None
    for i in range(n):
        kind = list(files)[i % 2]
        damage = DAMAGES[i // 2 % len(DAMAGES)]
        path = folder / f"{i}.h5"
        path.write_bytes(damaged(files[kind].read_bytes(), damage, rng))
        if process is None:
            process = subprocess.Popen(
                [sys.executable, __file__, "--child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True,
            )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([str(files[kind]), str(path)]) + "\n")
        process.stdin.flush()
        ready = select.select([process.stdout], [], [], SILENCE_S)[0]
        answer = process.stdout.readline() if ready else ""
        if not answer:
            process.kill()
            process.stdin.close()
            process.stdout.close()
            word = f"exit status {process.wait()}" if ready else "hangs"
            bad.append(f"{kind}, {damage}, file {i}: {word}")
            process = None
            continue
        parts = json.loads(answer)
        if parts[:1] == ["refused"]:
            counts[f"{kind}, {damage}: refused"] += 1
        elif parts[:1] == ["raised"]:
            bad.append(f"{kind}, {damage}, file {i}: {parts[1]}")
        elif parts:
            counts[f"{kind}, {damage}: other values"] += 1
            silent.update(f"{kind}: {part}" for part in parts)
        else:
            counts[f"{kind}, {damage}: the same, or steps refused"] += 1
        path.unlink()
    if process is not None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    return {"n": n, "seed": seed, "killed or hanging": bad, "counts": counts, "silent": silent}


def main() -> None:
    """Run and print; exit status 1 if a caller was killed or hangs, or samples lie in silence."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child()
        return
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = fuzz(options.n, options.seed, Path(folder))
    found["seconds"] = round(time.perf_counter() - begin, 1)
    for name in ("counts", "silent"):
        print(f"{name}:")
        for key, value in sorted(found[name].items()):
            print(f"  {value:5}  {key}")
    print(f"killed or hanging: {len(found['killed or hanging'])} of {found['n']}")
    print("\n".join(found["killed or hanging"]))
    silent = {key: n for key, n in found["silent"].items() if key.startswith("fletcher32")}
    samples = sum(n for key, n in silent.items() if key.endswith("samples"))
    print(
        f"fletcher32, other values without a word: {samples} times in samples, which have a "
        f"checksum; {sum(silent.values()) - samples} times in attributes and in the description of "
        "a table, for which HDF5 has none.  Of the file without fletcher32 nothing has one."
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    sys.exit(1 if found["killed or hanging"] or samples else 0)


if __name__ == "__main__":
    main()
