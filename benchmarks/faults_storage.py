"""Scenarios of ``faults.py`` in which nothing dies: files that are damaged, hostile or not alone.

What is wrong after one of them is a silent one: a value where there should be a reason, a result
that is gone or another's, an experiment that is not computed because of a bad one beside it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faults
import h5py
import numpy as np
from faults import Outcome, Place

import oectflow as of
from oectflow.errors import DamagedFile
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.sink import read_metadata, read_table

SAMPLES = "transient/measurement_data"
N_FLIPS = 400


def copy_of(place: Place) -> Place:
    """Return the place with raw files of its own, to which bad ones may be added."""
    raw = place.folder / "good and bad"
    shutil.copytree(place.raw, raw)
    return Place(raw, place.folder, place.seed)


def bad_file(place: Place, name: str, change: Callable[[h5py.File], None] | None = None) -> Path:
    """Write one more experiment beside the good ones, and do something to it."""
    path = place.raw / f"{name}.h5"
    simulate_device(
        99, n_transfer=2, n_transient=faults.N_STEPS, n_points=41, n_cycles=5, period=0.06,
        test_id=name,
    ).write(path)  # fmt: skip
    if change is not None:
        with h5py.File(path, "r+") as file:
            change(file)
    return path


def need_refused(place: Place, outcome: Outcome, reasons: dict[str, str]) -> of.RunReport:
    """Extract everything; each of these files must fail with these words, and nothing else."""
    report = of.extract(place.raw, faults.features(), place.out, progress=False)
    failed = {Path(record.path).name: record for record in report.failed}
    for name, words in reasons.items():
        record = failed.pop(name, None)
        if record is None:
            outcome.wrong.append(f"{name}: no word about it")
            continue
        outcome.done.append(record.reason[:240])
        if words not in record.reason or name not in record.reason:
            outcome.wrong.append(f"{name}: the reason does not say {words!r} and the file")
        # Steps that can be read are computed; those that cannot have no value.
        if record.out_path and Path(record.out_path).exists():
            table = read_table(Path(record.out_path)).to_pandas()
            bad = table["problems"].map(len) > 0
            if table.loc[bad, "peak"].notna().any():
                outcome.wrong.append(f"{name}: a value in a step that cannot be read")
            Path(record.out_path).unlink()
    outcome.wrong += [f"{name} failed, too: {one.reason}" for name, one in failed.items()]
    return report


def half_of_the_chunks(file: h5py.File) -> None:
    """Make the samples again, of which only the first half is ever stored."""
    data = file[SAMPLES][()]
    del file[SAMPLES]
    new = file.create_dataset(SAMPLES, data.shape, "f8", chunks=(1, 300))
    new[:, : data.shape[1] // 2] = data[:, : data.shape[1] // 2]


def one_chunk_less(file: h5py.File) -> None:
    """Make the samples again without one chunk, compressed as instruments write them."""
    data = file[SAMPLES][()]
    del file[SAMPLES]
    new = file.create_dataset(
        SAMPLES, data.shape, "f8", chunks=(1, 300), compression="gzip", shuffle=True
    )
    for row, column in np.ndindex(data.shape[0], -(-data.shape[1] // 300)):
        if (row, column) != (2, 1):
            span = slice(300 * column, 300 * (column + 1))
            new[row, span] = data[row, span]


def never_written(file: h5py.File) -> None:
    """Make the samples in one piece, into which nothing is written."""
    shape = file[SAMPLES].shape
    del file[SAMPLES]
    file.create_dataset(SAMPLES, shape, "f8")


def source_is_gone(file: h5py.File) -> None:
    """Make the samples of another file, which is not there."""
    shape = file[SAMPLES].shape
    layout = h5py.VirtualLayout(shape, "f8")
    layout[...] = h5py.VirtualSource("gone.h5", "x", shape)
    del file[SAMPLES]
    file.create_virtual_dataset(SAMPLES, layout)


def somebody_elses_bytes(file: h5py.File) -> None:
    """Let the samples be the bytes of any file that the reader may read."""
    data = file[SAMPLES][()]
    secret = Path(file.filename).parent.parent / "secret.bin"
    secret.write_bytes(data.tobytes())
    del file[SAMPLES]
    file.create_dataset(SAMPLES, data.shape, "f8", external=[(str(secret), 0, data.nbytes)])


def holes(place: Place) -> Outcome:
    """Samples that were never stored, or lie elsewhere: no value, and the rest is computed."""
    place = copy_of(place)
    with faults.faulty(place, "holes") as outcome:
        wanted = {
            half_of_the_chunks: "is not stored",
            one_chunk_less: "is not stored",
            never_written: "none was ever stored",
            source_is_gone: "is a virtual dataset",
            somebody_elses_bytes: "is stored in 1 other file",
        }
        for change in wanted:
            bad_file(place, change.__name__, change)
        reasons = {f"{change.__name__}.h5": words for change, words in wanted.items()}
        need_refused(place, outcome, reasons)
    return outcome


def flips(place: Place) -> Outcome:
    """Flip single bits of a result: named by whoever reads it, and computed anew by a run."""
    with faults.faulty(place, "flips") as outcome:
        of.extract(place.raw, faults.features(), place.out, progress=False)
        path = sorted(place.out.glob("*.parquet"))[0]
        whole, truth = path.read_bytes(), (read_table(path), read_metadata(path))
        rng = random.Random(place.seed)
        refused = 0
        for _ in range(N_FLIPS):
            bit = rng.randrange(8 * len(whole))
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            try:
                got = read_table(path), read_metadata(path)
            except DamagedFile:
                refused += 1
                continue
            if not got[0].equals(truth[0]) or got[1] != truth[1]:
                outcome.wrong.append(f"bit {bit} gives other values without a word")
        outcome.done.append(f"{N_FLIPS} bits flipped, {refused} refused, the others read the same")
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        need_replaced(place, outcome, [path])
    return outcome


def cuts(place: Place) -> Outcome:
    """Results that were cut, emptied or zeroed: named, left out, computed anew."""
    with faults.faulty(place, "cuts") as outcome:
        of.extract(place.raw, faults.features(), place.out, progress=False)
        paths = sorted(place.out.glob("*.parquet"))[:3]
        size = paths[0].stat().st_size
        os.truncate(paths[0], size // 2)
        os.truncate(paths[1], 0)
        paths[2].write_bytes(bytes(size))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            n_left = of.open_results(place.out).sizes["experiment"]
        said = "\n".join(str(one.message) for one in caught)
        outcome.wrong += [f"{path.name}: not named" for path in paths if path.name not in said]
        n = len(list(place.raw.glob("*.h5"))) - len(paths)
        if n_left != n:
            outcome.wrong.append(f"{n_left} of {n} whole results are read")
        need_replaced(place, outcome, paths)
    return outcome


def need_replaced(place: Place, outcome: Outcome, paths: list[Path]) -> None:
    """A run must name these results once each, replace them, and end with status 1, once."""
    config = place.folder / "features.json"
    peak = {"name": "peak", "extractor": "transient.peak_current", "input": "transient"}
    config.write_text(json.dumps({"features": [peak]}))
    command = "from oectflow.pipeline.cli import main; main()"
    run = [sys.executable, "-c", command, "extract", place.raw, "-o", place.out, "-q"]
    for status, named in ((1, paths), (0, [])):
        done = subprocess.run([*run, "-f", config], capture_output=True, text=True)
        outcome.done.append(f"exit status {done.returncode}")
        if done.returncode != status:
            outcome.wrong.append(f"exit status {done.returncode}: {done.stdout}{done.stderr}")
        lines = [line for line in done.stdout.splitlines() if line.startswith("damaged")]
        if [sum(str(path) in line for line in lines) for path in paths] != [
            int(path in named) for path in paths
        ]:
            outcome.wrong.append(f"named: {lines}")
    faults.resume(place, outcome)


def same_names(place: Place) -> Outcome:
    """Ids that give one name of a file, and one id on two chips: nothing is overwritten."""
    place = copy_of(place)
    with faults.faulty(place, "names") as outcome:
        # The first of both comes in the order of names.
        bad_file(place, "zz copy", lambda file: file.attrs.modify("test_id", "test_00"))
        bad_file(place, "zz slash", lambda file: file.attrs.modify("test_id", "test/01"))
        bad_file(place, "zz slash 2", lambda file: file.attrs.modify("test_id", "test 01"))
        of.extract(place.raw / "zz slash.h5", faults.features(), place.out, progress=False)
        slash = (place.out / "test_01.parquet").read_bytes()
        one_name = dict.fromkeys(("zz slash.h5", "zz slash 2.h5"), "give one name of a file")
        others = {"zz copy.h5": "has the test_id", "test_01.h5": "holds the result of"}
        need_refused(place, outcome, others | one_name)
        if (place.out / "test_01.parquet").read_bytes() != slash:
            outcome.wrong.append("test_01.parquet was overwritten by another experiment")
        (place.out / "test_01.parquet").unlink()
        for path in place.raw.glob("zz*"):
            path.unlink()
        faults.resume(place, outcome)
    return outcome


def urls(place: Place) -> Outcome:
    """Stores that cannot be used are named, and no folder of such a name is made."""
    with faults.faulty(place, "urls") as outcome:
        for url in ("s3://bucket/out", "gs://bucket/out", "https://host/out"):
            try:
                of.extract(place.raw, faults.features(), url, progress=False)
                outcome.wrong.append(f"{url}: success is reported")
            except of.OutputError as error:
                outcome.done.append(str(error))
            if Path(url.partition("/")[0]).exists():
                outcome.wrong.append(f"{url}: a folder was made")
        faults.resume(place, outcome)
    return outcome


def hostile(place: Place) -> Outcome:
    """Metadata that stop a reader are one failed experiment; of our own files, none at all."""

    def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
        return lambda file: file.attrs.create(name, value)

    def text(content: str) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            del file["raw/json"]
            file["raw/json"] = content

        return change

    place = copy_of(place)
    with faults.faulty(place, "hostile") as outcome:
        bad_file(place, "long", attribute("test_id", "x" * 250))
        bad_file(place, "bytes", attribute("test_id", np.bytes_(b"\xff\xfe\xed\xa0\x80")))
        bad_file(place, "chip", attribute("chip_id", "c" * 60_000))
        bad_file(place, "up", attribute("test_id", "../../up"))
        need = {"long.h5": "250 bytes", "bytes.h5": "test_id", "chip.h5": "60,000 characters"}
        # What nobody needs for features stops nothing.
        bad_file(place, "number", text('{"a": ' + "9" * 5000 + "}"))
        bad_file(place, "brackets", text("[" * 100_000))
        place.out.mkdir()
        (place.out / ".oectflow-costs.json").write_text("[" * 100_000)
        need_refused(place, outcome, need)
        for name in ("number", "brackets", "_._.._up"):
            (place.out / f"{name}.parquet").unlink()
    return outcome


_WRITER = """
import sys, h5py
with h5py.File(sys.argv[1], "r+", libver="latest") as file:
    print("open", flush=True)
    sys.stdin.readline()
"""


def writing(place: Place) -> Outcome:
    """Files that are being written: said so, and computed when they are complete."""
    place = copy_of(place)
    with faults.faulty(place, "writing") as outcome:
        path = sorted(place.raw.glob("*.h5"))[0]
        bad = bad_file(place, "copied")
        with h5py.File(place.folder / "swmr.h5", "w", libver="latest") as file:
            with h5py.File(bad) as whole:
                for name in whole:
                    whole.copy(name, file)
                file.attrs.update(whole.attrs)
            file.swmr_mode = True
            shutil.copy(place.folder / "swmr.h5", bad)
        with subprocess.Popen(
            [sys.executable, "-c", _WRITER, path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as writer:  # fmt: skip
            assert writer.stdout is not None
            writer.stdout.readline()
            need_refused(place, outcome, dict.fromkeys((path.name, bad.name), "is being written"))
            writer.communicate("\n")
        bad.unlink()
        faults.resume(place, outcome)
    return outcome


def swapped(place: Place) -> Outcome:
    """Files with other content that look the same: found by ``verify="content"``."""
    expected = place.folder / "other"
    place = copy_of(place)
    path = sorted(place.raw.glob("*.h5"))[0]
    other = bad_file(place, "other", lambda file: file.attrs.modify("test_id", "test_00"))
    other = other.rename(place.folder / "other.h5")
    with faults.faulty(place, "swapped") as outcome:
        of.extract(place.raw, faults.features(), place.out, progress=False)
        truth = path.read_bytes()
        before = path.stat()
        size = max(len(truth), other.stat().st_size)
        if len(truth) != size:
            outcome.skipped = "the two files have different sizes"
            return outcome
        content = other.read_bytes().ljust(size, b"\0")
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        report = of.extract(
            place.raw, faults.features(), place.out, verify="content", progress=False
        )
        outcome.done.append(f"other content of one size and time: {report.counts}")
        of.extract(path, faults.features(), expected, progress=False)
        if faults.contents(place.out)["test_00"] != faults.contents(expected)["test_00"]:
            outcome.wrong.append("test_00: verify='content' kept what is of another file")
        path.write_bytes(truth)
        faults.resume(place, outcome)
        shutil.rmtree(expected)
    return outcome


#: By name, in the order in which they run.
SCENARIOS: dict[str, Callable[[Place], Outcome]] = {
    "holes": holes,
    "flips": flips,
    "cuts": cuts,
    "names": same_names,
    "urls": urls,
    "hostile": hostile,
    "writing": writing,
    "swapped": swapped,
}
