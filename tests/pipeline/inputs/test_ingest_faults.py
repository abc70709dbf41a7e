"""What goes wrong in the conversion of the software in use until now, and must not here.

Each test is named after the fault; faults of one function have their tests beside that function's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import h5py
import pytest

from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.ingest import ingest

SWEEP = "Vg,Id\n0,0.1\n0.5,0.2\n"
ALIASES = "gate_voltage,drain_current\n0,1\n0.5,2\n"
TRACE = "timestamp,drain_current\n0,1\n1,2\n"


def make(folder: Path, steps: list[Any], files: dict[str, str], **info: Any) -> Path:
    folder.mkdir(parents=True)
    info = {"test_id": "test_1", "chip_id": "c", "device_number": "1", "description": "d"} | info
    (folder / "test_info.json").write_text(json.dumps(info | {"steps": steps}), "utf-8")
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def converted(source: Path, out: Path, workers: int = 1) -> Experiment:
    (record,) = ingest(source, out, workers=workers).records
    assert record.path is not None, record.reason
    return Experiment(record.path)


def test_fault__the_instrument_folder_is_rewritten(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "in",
        [{"type": "transfer", "data_file": "1.csv", "workflow_info": {"path": [1]}}],
        {"1.csv": SWEEP},
        test_type="x",
        device_id="unit_C1",
        metadata={"name": "n"},
        summary={"completed_steps": 1},
    )

    def state() -> dict[str, tuple[str, int]]:
        return {
            path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in folder.iterdir()
        }

    before = state()
    experiment = converted(tmp_path / "in", tmp_path / "out")
    assert state() == before
    # The tidied form is in the HDF5 file.
    assert experiment.attributes["test_unit_id"] == "unit_C1"
    assert experiment.attributes["name"] == "n"


@pytest.mark.parametrize("workers", [1, 2])
def test_fault__in_parallel_the_files_of_steps_are_shifted_by_one(
    tmp_path: Path, workers: int
) -> None:
    steps = [{"type": "transfer"}, {"type": "transfer"}]
    for name in ("a", "b"):
        make(
            tmp_path / "in" / name,
            steps,
            {f"{n}_x.csv": f"Vg,Id\n0,{n}\n" for n in (0, 1, 2, 3)},
            test_id=f"test_{name}",
        )
    for record in ingest(tmp_path / "in", tmp_path / "out", workers=workers).written:
        assert record.path is not None
        found = [Experiment(record.path).step("transfer", i)["Id"][0] for i in range(2)]
        assert found == [1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_fault__in_parallel_other_column_names_make_a_step_of_nan(
    tmp_path: Path, workers: int
) -> None:
    steps = [
        {"type": "transfer", "data_file": "a.csv"},
        {"type": "Transient", "data_file": "b.csv", "parameters": {"timeStep": 1}},
    ]
    for name in ("a", "b"):
        make(
            tmp_path / "in" / name,
            steps,
            {"a.csv": ALIASES, "b.csv": TRACE},
            test_id=f"test_{name}",
        )
    for record in ingest(tmp_path / "in", tmp_path / "out", workers=workers).written:
        assert record.path is not None
        experiment = Experiment(record.path)
        assert experiment.step("transfer", 0)["Id"].tolist() == [1, 2]
        assert experiment.step("transient", 0)["drain_current"].tolist() == [1, 2]


def test_fault__of_several_csv_files_of_a_step_some_are_dropped_in_silence(
    tmp_path: Path,
) -> None:
    make(
        tmp_path / "in",
        [{"type": "transfer", "data_file": "a.csv", "more": ["b.csv", "a.csv", "gone.csv"]}],
        {"a.csv": SWEEP, "b.csv": "Vg,Id\n9,0.9\n"},
    )
    (record,) = ingest(tmp_path / "in", tmp_path / "out").records
    assert record.warnings == ("step 1 (transfer): names a.csv and b.csv; only the first is read",)


def test_fault__a_text_that_some_steps_lack_aborts_the_conversion(tmp_path: Path) -> None:
    make(
        tmp_path / "in",
        [
            {"type": "transfer", "data_file": "1.csv", "reason": "done"},
            {"type": "transfer", "data_file": "1.csv"},
        ],
        {"1.csv": SWEEP},
    )
    table = converted(tmp_path / "in", tmp_path / "out").step_table("transfer")
    assert table["reason"].tolist() == ["done", ""]


def test_fault__a_conversion_that_is_killed_leaves_half_a_file_that_is_then_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "in", [{"type": "transfer", "data_file": "1.csv"}], {"1.csv": SWEEP})
    real = h5py.Group.create_dataset

    def fail(self: h5py.Group, name: str, *args: Any, **options: Any) -> Any:
        if "step_info_table" in str(name):
            raise OSError(28, "No space left on device")
        return real(self, name, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "create_dataset", fail)
        report = ingest(tmp_path / "in", tmp_path / "out", workers=1)
    assert len(report.failed) == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert len(ingest(tmp_path / "in", tmp_path / "out", workers=1).written) == 1


def test_fault__two_tests_of_one_device_get_one_file(tmp_path: Path) -> None:
    for number in (1, 2):
        make(
            tmp_path / "in" / str(number),
            [{"type": "transfer", "data_file": "1.csv"}],
            {"1.csv": SWEEP},
            test_id=f"test_{number}",
        )
    assert len(ingest(tmp_path / "in", tmp_path / "out").written) == 2
    assert len(list((tmp_path / "out").iterdir())) == 2
