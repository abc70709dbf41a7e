"""Time what inflates the chunks of raw files, side by side.

    pip install isal zlib-ng
    python benchmarks/inflaters.py [--rounds 15] [--json PATH]

The chunks are those of one experiment as ``headline_data.py`` makes it (shuffled, gzip level 4), 60
of the current and 60 of the times.  In each round every library inflates all of them; a number is
CPU time per chunk.  Libraries that are not installed are left out, and named.
"""

from __future__ import annotations

import importlib
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import _machine
import deflate
import h5py
import headline_data as data

CHUNKS = 60
Inflate = Callable[[bytes, int], bytes]


def libraries() -> dict[str, Inflate]:
    """Return what inflates, by name."""
    found: dict[str, Inflate] = {
        "libdeflate": lambda stored, n: deflate.zlib_decompress(stored, n),
        "zlib": lambda stored, n: zlib.decompress(stored, bufsize=n),
    }
    for name, module in (("ISA-L", "isal.isal_zlib"), ("zlib-ng", "zlib_ng.zlib_ng")):
        try:
            imported = importlib.import_module(module)
        except ImportError:
            print(f"{name} is left out: {module.partition('.')[0]} is not installed")
            continue
        found[name] = lambda stored, n, of=imported: of.decompress(stored, bufsize=n)
    return found


def stored_chunks(path: Path) -> tuple[dict[str, list[bytes]], int]:
    """Return chunks of the times and of the current as they are stored, and their inflated size."""
    with h5py.File(path) as file:
        dataset = file["transient/measurement_data"]
        wide = dataset.chunks[1]
        many = min(CHUNKS, dataset.shape[1] // wide)
        chunks = {
            name: [dataset.id.read_direct_chunk((row, k * wide))[1] for k in range(many)]
            for name, row in (("current", 2), ("times", 1))
        }
        # Behind the stream there is a checksum of four bytes where the dataset has them.
        if dataset.fletcher32:
            chunks = {name: [chunk[:-4] for chunk in all_] for name, all_ in chunks.items()}
        return chunks, 8 * wide


def main() -> None:
    """Time all libraries and print a table."""
    parser = _machine.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    machine = _machine.describe()
    every = libraries()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.h5"
        data.write_one(path, 0, 200)
        chunks, n_bytes = stored_chunks(path)
    spent: dict[tuple[str, str], list[float]] = {
        (row, name): [] for row in chunks for name in every
    }
    for _ in range(args.rounds):
        for (row, name), seconds in spent.items():
            begin = time.process_time()
            for chunk in chunks[row]:
                every[name](chunk, n_bytes)
            seconds.append((time.process_time() - begin) / len(chunks[row]))
    usual = {which: statistics.median(seconds) for which, seconds in spent.items()}
    rows = [
        {
            "chunks": row,
            "library": name,
            "µs, median": seconds * 1e6,
            "least": min(spent[row, name]) * 1e6,
            "MB/s": n_bytes / seconds / 1e6,
            "of libdeflate's time": seconds / usual[row, "libdeflate"],
        }
        for (row, name), seconds in usual.items()
    ]
    title = f"Inflating chunks of {n_bytes / 1e3:.0f} kB"
    _machine.report(title, rows, args.json, machine=machine)


if __name__ == "__main__":
    main()
