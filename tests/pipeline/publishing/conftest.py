"""A laboratory whose results are published: two chips, samples, marks of two people."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.marks.mark import new_mark
from oectflow.pipeline.marks.store import write

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "gm_norm": {"func": "gm / gm.mean()", "input": "gm"},
    "gm_per_area": {"extractor": "transfer.gm_normalized", "input": "transfer"},
    "cycles": {"extractor": "transient.cycles", "input": "transient", "params": {"n_cycles": 4}},
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
}


def simulate(folder: Path, k: int, **options: object) -> Path:
    about = {
        "n_transfer": 3 - (k == 1), "n_transient": 2, "n_points": 21, "n_cycles": 4,
        "test_id": f"t{k}", "chip_id": "C7" if k else "C6", "device_number": str(k),
    } | options  # fmt: skip
    path = folder / f"#{k} é.h5"
    simulate_device(k, **about).write(path)
    return path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ada-lab")
    (folder / "raw").mkdir()
    for k in range(3):
        simulate(folder / "raw", k)
    # One device measured twice, with other things known of it.
    for k, width in ((3, 1e-4), (4, 2e-4)):
        path = simulate(folder / "raw", k, chip_id="C7", device_number="7")
        with h5py.File(path, "r+") as file:
            file.create_group("sample").attrs.update({"W": width, "L": 1e-5, "d": 1e-7})
    devices = folder / "devices.csv"
    devices.write_text("chip_id,device_id,W (µm),L (µm),d (nm),material\nC7,1,100,10,50,PEDOT\n")
    out = folder / "out"
    assert of.extract(folder / "raw", FEATURES, out, samples=devices, progress=False).ok
    chosen = {"step": 1, "cycle": 2, "phase": "on", "begin": 0.41, "end": 0.47}
    of.set_window(out, "t2", **chosen, who="Zoe-Example")
    assert of.extract(folder / "raw", FEATURES, out, samples=devices, progress=False).ok
    assert of.windows(out).used.all()
    reason = "Zoe-Example slipped"
    write(out, [new_mark("bad", experiment_id="t0", step=1, reason=reason, who="Ada-Example")])
    reason = f"see {folder}/raw/x.txt"
    write(out, [new_mark("check", chip_id="C7", reason=reason, who="Zoe-Example")])
    return folder


@pytest.fixture
def lab(made, tmp_path):
    """The laboratory, of one's own; its raw files are those that the results name."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path
