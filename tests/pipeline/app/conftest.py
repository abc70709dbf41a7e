"""A small lab: raw files and results of four devices, one of which is noisy."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

WANTED = {
    "gm_max": {"extractor": "transfer.gm_max", "input": "transfer"},
    "coords": {"extractor": "transfer.gm_max_coords", "input": "transfer"},
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
}


class Lab(NamedTuple):
    raw: Path
    out: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("app")
    (folder / "raw").mkdir()
    for k, (chip, device) in enumerate((("A", "1"), ("A", "2"), ("B", "1"), ("B", "2"))):
        simulate_device(
            k,
            n_transfer=3,
            n_transient=4 + k,
            n_cycles=5,
            transient_noise=0.05 if k == 2 else 5e-3,
            chip_id=chip,
            device_number=device,
            test_id=f"{chip}{device}",
        ).write(folder / "raw" / f"{chip}{device}.h5")
    of.extract(folder / "raw", WANTED, folder / "out", progress=False)
    return Lab(folder / "raw", folder / "out")


@pytest.fixture
def lab(made: Lab, tmp_path: Path) -> Lab:
    """A copy whose results may be marked."""
    return Lab(made.raw, Path(shutil.copytree(made.out, tmp_path / "out")))
