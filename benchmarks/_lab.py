"""Laboratories to measure with: many small raw files, and extractors that take as long as told.

The first sample of every step is a draw of the standard normal distribution, from which extractors
here derive how long the step takes.  They return that time, so that results can be compared.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import math
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from oectflow.extractors.base import BaseExtractor, register
from oectflow.pipeline.inputs.simulate import simulate_device


def write_lab(folder: Path, n_experiments: int, n_steps: int, seed: int = 0) -> Path:
    """Write experiments of transients with ten samples each, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(n_experiments):
        device = simulate_device(
            i, n_transfer=0, n_transient=n_steps, n_cycles=1, sample_rate=100.0, period=0.1,
            test_id=f"test_{i:04d}",
        )  # fmt: skip
        draws = rng.standard_normal((n_steps, 10))
        steps = [
            dataclasses.replace(step, arrays=dict(step.arrays) | {"Id": row})
            for step, row in zip(device.transient_steps, draws, strict=True)
        ]
        dataclasses.replace(device, transient_steps=steps).write(folder / f"test_{i:04d}.h5")
    return folder


def write_copies(folder: Path, n_experiments: int, n_steps: int) -> Path:
    """Write many experiments of which only ``test_id`` differs, which is much quicker."""
    (first,) = write_lab(folder.with_name(f"{folder.name}-first"), 1, n_steps).iterdir()
    folder.mkdir()
    for i in range(n_experiments):
        path = folder / f"test_{i:05d}.h5"
        shutil.copyfile(first, path)
        with h5py.File(path, "r+") as file:
            file.attrs["test_id"] = path.stem
    return folder


def new_disk(path: Path) -> str:
    """Make the file that stands for a disk: it holds the time at which the disk is free."""
    path.write_bytes(struct.pack("d", 0.0))
    return str(path)


def timed_feature(kind: str, seconds: float, **params: Any) -> dict[str, Any]:
    """Return the configuration of a feature that takes ``seconds`` per step.

    Parameters
    ----------
    kind
        ``"sleep"`` leaves the core to others, ``"spin"`` uses it.
    seconds
        Mean time per step.
    **params
        ``spread``: standard deviation of the logarithm of a step's time.  ``salt``: anything; a new
        one makes a feature of which no cost is known.  ``disk``, ``rate``, ``n_bytes``: before
        it begins, a step waits until a disk of this rate, shared with all others that name the
        same file (of :func:`new_disk`), has served so many bytes.
    """
    define_extractors()
    return {
        "extractor": f"transient.{kind}",
        "input": "transient",
        "params": {"seconds": seconds, **params},
    }


@functools.cache
def define_extractors() -> None:
    """Register ``transient.sleep`` and ``transient.spin``.

    They are defined in a function, so that Dask sends them to workers which cannot import this
    module.
    """

    def spin(seconds: float) -> None:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def wait_for_disk(path: str, rate: float, n_bytes: float) -> None:
        with open(path, "r+b") as file:  # noqa: PTH123
            # Each open file has a lock of its own, so that this also holds between threads.
            fcntl.flock(file, fcntl.LOCK_EX)
            (free,) = struct.unpack("d", file.read(8))
            free = max(free, time.time()) + n_bytes / rate
            file.seek(0)
            file.write(struct.pack("d", free))
        time.sleep(max(0.0, free - time.time()))

    class Timed(BaseExtractor):
        source = "transient"
        unit = "s"
        description = "time that the step was made to take"

        def extract_batch(self, batch, params):
            first = batch.arrays["drain_current"][batch.offsets[:-1]]
            value = [self.cost(z, params) for z in first.tolist()]
            if "disk" in params:
                wait_for_disk(params["disk"], params["rate"], params["n_bytes"] * len(value))
            self.take(value)
            return {"value": np.array(value), "status": np.zeros(len(value), np.int8)}

        def extract_single_step(self, step_data, params):
            cost = self.cost(float(step_data["drain_current"][0]), params)
            self.take([cost])
            return cost

        @staticmethod
        def cost(z, params):
            spread = params.get("spread", 0.0)
            return params["seconds"] * math.exp(spread * z - spread**2 / 2)

    @register("transient.sleep")
    class Sleep(Timed):
        @staticmethod
        def take(seconds):
            time.sleep(sum(seconds))

    @register("transient.spin")
    class Spin(Timed):
        @staticmethod
        def take(seconds):
            for one in seconds:
                spin(one)
