"""Several processes on one catalog: no lock error, no lost row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import h5py

from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.simulate import simulate_device

SECONDS = "OECTFLOW_CROWD_SECONDS"
MEMBER = Path(__file__).with_name("crowd.py")


def test_catalog__two_scan_and_one_extracts(url: str, tmp_path: Path) -> None:
    """Lasts 5 s, or ``OECTFLOW_CROWD_SECONDS``; the three also make the new catalog at once."""
    folder = tmp_path / "crowd"
    (folder / "raw").mkdir(parents=True)
    (folder / "features").mkdir()
    seconds = os.environ.get(SECONDS, "5")
    members = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(MEMBER), role, url, str(folder), seconds],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in ("scan", "scan", "extract")
    ]
    made = 0
    while any(member.poll() is None for member in members):
        make_experiment(folder, made)
        made += 1
        time.sleep(0.03)
        if made % 3 == 0:
            change_experiment(folder, made // 2)
    answers = [member.communicate() for member in members]
    assert [answer[1] for answer in answers] == ["", "", ""]
    assert [member.returncode for member in members] == [0, 0, 0]
    first, second, extracted = (json.loads(answer[0]) for answer in answers)
    assert min(first["scans"], second["scans"]) > 0
    assert first["added"] + second["added"] + extracted["recorded"] > 0

    names = {f"test_{number:06d}" for number in range(made)}
    results = {path.stem.removeprefix("sim-") for path in (folder / "features").iterdir()}
    assert len(results) == extracted["recorded"]
    with Catalog(url) as catalog:
        # Before this scan nothing is lost that the others have said they wrote.
        known = set(catalog.search().test_ids)
        assert len(known) >= max(first["added"] + second["added"], extracted["recorded"])
        assert results <= known <= names
        catalog.scan(folder / "raw", workers=1)
        assert set(catalog.search(file_state="present").test_ids) == names
        assert all(catalog.features(name) for name in results)
        assert catalog.stats().n_experiments == made
        report = catalog.validate(content=True)
        # What was changed after its features were computed is known to be so.
        assert {problem.kind for problem in report.problems} <= {"results outdated"}
        outdated = {problem.subject for problem in report.problems}
        assert set(catalog.search(has_features="tau").test_ids) == results - outdated
    print(f"{made} files; {first}, {second}, {extracted}")


def make_experiment(folder: Path, number: int) -> None:
    device = simulate_device(
        number, n_transfer=1, n_transient=0, n_points=5, test_id=f"test_{number:06d}"
    )
    hidden = device.write(folder / f".{number}.h5")
    hidden.rename(folder / "raw" / f"sim-test_{number:06d}.h5")


def change_experiment(folder: Path, number: int) -> None:
    path = folder / "raw" / f"sim-test_{number:06d}.h5"
    hidden = folder / ".changing.h5"
    hidden.write_bytes(path.read_bytes())
    with h5py.File(hidden, "r+") as file:
        file.attrs["description"] = f"changed {number}"
    hidden.rename(path)
