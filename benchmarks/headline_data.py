"""Make the data set of ``headline.py``: experiments as laboratories have them on disk.

Every file is simulated from a seed of its own and compressed by h5py: nothing of a current is
shared.  Only the two rows of times, which are the same in every experiment by their definition, are
compressed once per process and stored in each file as they are.

What a reader has to inflate depends on noise and digits.  These are those of the measured trace in
``../shared/data``: noise of 2e-5 of the swing, a converter of 18 bits, six digits in the CSV file.
The currents then shrink by a factor of 1.74.
"""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from oectflow.pipeline.inputs.simulate import SimulatedExperiment, simulate_device

CYCLES, SAMPLES_PER_CYCLE = 100, 100
SAMPLES = CYCLES * SAMPLES_PER_CYCLE
INTERVAL = 1e-3
FULL_EXPERIMENTS, FULL_STEPS = 75, 5_000
#: What h5py chooses for three rows of 5,000 steps, as in the files of laboratories.
CHUNK = 24_415
FILTERS = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
#: Measured: 69 kB per step on disk, and 7 kB of results for tau, 8 kB for everything.
BYTES_PER_STEP, RESULT_BYTES_PER_STEP = 70_000, 17_000
#: Share of the current that a device loses with every step.
FADE = 1e-4
#: Steps simulated at a time, 80 kB each.
PART = 500


@dataclass(frozen=True)
class Size:
    """How many experiments, and transient steps in each."""

    n_experiments: int
    n_steps: int

    @classmethod
    def of(cls, scale: float) -> Size:
        """Return a share of 75 experiments of 5,000 steps; of small shares, 4 shorter ones."""
        n_experiments = max(4, round(FULL_EXPERIMENTS * scale))
        total = round(FULL_EXPERIMENTS * FULL_STEPS * scale)
        return cls(n_experiments, min(FULL_STEPS, max(1, round(total / n_experiments))))

    @property
    def total(self) -> int:
        """Steps of all experiments."""
        return self.n_experiments * self.n_steps


def make_data(folder: Path, size: Size, workers: int) -> list[Path]:
    """Write what is not there yet and return all files.

    Raises
    ------
    SystemExit
        The disk has too little room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:02d}-test_{i:02d}.h5" for i in range(size.n_experiments)]
    todo = [(i, path) for i, path in enumerate(paths) if not _is_complete(path, size.n_steps)]
    wanted = BYTES_PER_STEP * size.n_steps * len(todo) + RESULT_BYTES_PER_STEP * size.total
    free = shutil.disk_usage(folder).free
    if wanted > 0.9 * free:
        raise SystemExit(
            f"{folder}: {wanted / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free; "
            "choose a smaller --scale or another --folder"
        )
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = [pool.submit(write_one, path, i, size.n_steps) for i, path in todo]
        for job in jobs:
            job.result()
    return paths


def _is_complete(path: Path, n_steps: int) -> bool:
    if not path.exists():
        return False
    with h5py.File(path) as file:
        return bool(file["transient/measurement_data"].shape[1] == n_steps * SAMPLES)


def device(seed: int, n_steps: int, n_cycles: int, first: int = 0) -> SimulatedExperiment:
    """Return steps of one device from its ``first`` on; every fourth device is of p-type."""
    rng = np.random.default_rng([7, seed])
    drift = 1e-4 * rng.uniform(-0.5, 1.0)
    aged = 1 + drift * first
    return simulate_device(
        1_000_000 * seed + first,
        polarity="p" if seed % 4 == 1 else "n",
        n_transfer=10 if first == 0 else 0,
        n_transient=n_steps,
        n_cycles=n_cycles,
        sample_rate=1 / INTERVAL,
        period=SAMPLES_PER_CYCLE * INTERVAL,
        tau_on=rng.uniform(4e-3, 10e-3) * aged,
        tau_off=rng.uniform(8e-3, 18e-3) * aged,
        tau_drift=drift,
        max_current=10 ** rng.uniform(-6, -2) * (1 - FADE) ** first,
        fade=FADE,
        transient_noise=2e-5,
        adc_bits=18,
        chip_id=f"#20250815{1 + seed // 4:03d}",
        device_number=str(1 + seed % 4),
        description="headline",
        test_id=f"test_{seed:02d}",
    )


def write_one(path: Path, seed: int, n_steps: int) -> None:
    """Write one experiment; it appears whole, or not at all."""
    partial = path.with_suffix(".partial")
    short = device(seed, n_steps, 1)
    for info in short.test_info["steps"]:
        if info["type"] == "transient":
            info["parameters"]["cycles"] = CYCLES
    short.write(partial)
    with h5py.File(partial, "r+") as file:
        group = file["transient"]
        table = group["step_info_table"][()]
        ends = SAMPLES * np.arange(1, n_steps + 1)
        table["start_data_index"], table["end_data_index"] = ends - SAMPLES, ends
        group["step_info_table"][...] = table
        labels = dict(group["measurement_data"].attrs)
        del group["measurement_data"]
        shape, chunks = (3, n_steps * SAMPLES), (1, min(CHUNK, n_steps * SAMPLES))
        data = group.create_dataset("measurement_data", shape, "f8", chunks=chunks, **FILTERS)
        for name, value in labels.items():
            data.attrs[name] = value
        for row, chunk in _times(n_steps):
            for at, stored in chunk:
                data.id.write_direct_chunk((row, at), stored)
        for first in range(0, n_steps, PART):
            steps = device(seed, min(PART, n_steps - first), CYCLES, first).transient_steps
            current = six_digits(np.concatenate([step.arrays["Id"] for step in steps]))
            data[2, first * SAMPLES : first * SAMPLES + current.size] = current
    partial.rename(path)


def six_digits(current: np.ndarray) -> np.ndarray:
    """Return the numbers that a CSV file with six significant digits holds.

    A power of ten up to 1e22 is exact, so that the quotient is the number next to the decimal one.
    """
    size = np.abs(current)
    scale = 10.0 ** (5 - np.floor(np.log10(np.maximum(size, 1e-15))))
    return np.rint(current * scale) / scale


_stored_times: dict[int, list[tuple[int, list[tuple[int, bytes]]]]] = {}


def _times(n_steps: int) -> list[tuple[int, list[tuple[int, bytes]]]]:
    """Return the compressed chunks of the two rows of times, by row."""
    if n_steps not in _stored_times:
        n = n_steps * SAMPLES
        step = INTERVAL * np.arange(SAMPLES)
        with h5py.File(f"times-{n_steps}", "w", driver="core", backing_store=False) as file:
            data = file.create_dataset("x", (2, n), "f8", chunks=(1, min(CHUNK, n)), **FILTERS)
            for first in range(0, n_steps, PART):
                until = min(n_steps, first + PART)
                data[0, first * SAMPLES : until * SAMPLES] = INTERVAL * np.arange(
                    first * SAMPLES, until * SAMPLES
                )
                data[1, first * SAMPLES : until * SAMPLES] = np.tile(step, until - first)
            _stored_times[n_steps] = [(row, list(_chunks(data, row))) for row in range(2)]
    return _stored_times[n_steps]


def _chunks(data: Any, row: int) -> Iterator[tuple[int, bytes]]:
    for at in range(0, data.shape[1], data.chunks[1]):
        yield at, data.id.read_direct_chunk((row, at))[1]
