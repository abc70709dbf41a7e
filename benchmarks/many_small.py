"""Many experiments of 2 + 2 steps: the first run, a run with nothing to do, and opening them.

    python benchmarks/many_small.py [--json PATH] [--files 5000] [--open 10000] [--features all]

Every stage runs in a process of its own, with what it takes to import everything.  The raw files
are copies of eight simulated ones, each with a ``test_id`` of its own.  Where more results are to
be opened than were computed, the rest are links to them.  Wanted: the run with nothing to do and
opening each take 5 s at most, opening takes 500 MB at most, and a result has 20 kB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py

from oectflow.pipeline.inputs.simulate import simulate_device

WANTED_S, WANTED_MB, WANTED_BYTES = 5.0, 500, 20_000
_STAGE = """
import json, resource, sys, time
begin, cpu = time.perf_counter(), time.process_time()
import oectflow as of
what, *args = sys.argv[1:]
if what == "extract":
    raw, out, features = args
    counts = of.extract(raw, features, out, progress=False).counts
else:
    counts = {}
    getattr(of, what)(*args)
print(json.dumps({
    "s": round(time.perf_counter() - begin, 2),
    "cpu_s": round(time.process_time() - cpu, 2),
    "peak_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    **counts,
}))
"""


def write_raw(folder: Path, n: int) -> int:
    """Write raw files of two sweeps and two transients; return the bytes of one."""
    folder.mkdir()
    first = [
        simulate_device(
            k, n_transfer=2, n_transient=2, n_points=41, n_cycles=4, period=0.06
        ).write(folder.with_name(f"first_{k}.h5"))
        for k in range(8)
    ]  # fmt: skip
    for i in range(n):
        path = folder / f"test_{i:05d}.h5"
        shutil.copyfile(first[i % len(first)], path)
        with h5py.File(path, "r+") as file:
            file.attrs["test_id"] = path.stem
    return path.stat().st_size


def stage(*args: object) -> dict[str, Any]:
    """Do one thing in a fresh process and return what it took."""
    done = subprocess.run(
        [sys.executable, "-c", _STAGE, *map(str, args)], capture_output=True, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    """Measure every stage, print it, and say what is more than wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--open", type=int, default=10_000)
    parser.add_argument("--features", default="all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many_small_") as top:
        raw, out = Path(top, "raw"), Path(top, "out")
        raw_bytes = write_raw(raw, options.files)
        # The book takes no file for known that has been written a moment ago.
        time.sleep(2.1)
        run = ("extract", raw, out, options.features)
        results = {"first run": stage(*run), "nothing to do": stage(*run)}
        (out / ".oectflow-unchanged.json").unlink(missing_ok=True)
        results["nothing to do, book lost"] = stage(*run)
        files = sorted(out.glob("[!.]*.parquet"))
        n_bytes = sum(path.stat().st_size for path in files) / len(files)
        for i in range(len(files), options.open):
            os.link(files[i % len(files)], out / f"link_{i:05d}.parquet")
        for what in ("open_results", "results_frame"):
            results[f"{what} of {max(options.open, len(files)):,}"] = stage(what, out)
    print(f"{options.files:,} raw files of {raw_bytes:,} bytes; a result has {n_bytes:,.0f}")
    for name, result in results.items():
        print(f"{name:32s}", *(f"{key} {value}" for key, value in result.items()))
    missed = [
        name
        for name, result in results.items()
        if name == "nothing to do" or name.startswith(("open_", "results_"))
        if result["s"] > WANTED_S or result["peak_MB"] > WANTED_MB
    ]
    missed += ["bytes of a result"] if n_bytes > WANTED_BYTES else []
    print("more than wanted:", ", ".join(missed) or "nothing")
    if options.json:
        about = {"files": options.files, "result_bytes": n_bytes, "stages": results}
        options.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
