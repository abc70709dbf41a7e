from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from oectflow.errors import IngestError
from oectflow.pipeline.inputs import ingest as ingest_module
from oectflow.pipeline.inputs.convert import convert_folder
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.ingest_report import IngestRecord
from oectflow.pipeline.inputs.simulate import damage, simulate_device

SWEEP = "Vg,Id\n0,1e-6\n0.1,2e-6\n0.2,3e-6\n"
TRACE = "Time,Id\n0,1e-6\n0.001,2e-6\n"


def make_folder(folder: Path, steps: list[Any], files: dict[str, str | bytes], **root: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"chip_id": "c", "device_number": "1", "description": "d", "test_id": "test_1"}
    test_info = identity | root | {"steps": steps}
    (folder / "test_info.json").write_text(json.dumps(test_info), "utf-8")
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    return folder


def convert(folder: Path, out: Path) -> tuple[IngestRecord, dict[str, Any]]:
    record = convert_folder(folder, out)
    assert record.status == "written", record.reason
    assert record.path is not None
    return record, contents(record.path)


def contents(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with h5py.File(path) as file:
        found["/"] = dict(file.attrs)

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        file.visititems(visit)
    return found


def transfer_step(**extra: Any) -> dict[str, Any]:
    return {"type": "transfer", **extra}


@pytest.mark.parametrize(
    ("folder", "key"), [("exp_000", "regular_serial"), ("exp_001", "ragged_ptype_serial")]
)
def test_convert_folder__equals_files_in_use(
    shared_data: Path, expected: dict[str, Any], tmp_path: Path, folder: str, key: str
) -> None:
    source = shared_data / "oect_infra" / "src" / folder
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    record = convert_folder(source, tmp_path)
    assert record.warnings == ()
    layout = expected[key]["layout"]
    # The time of conversion and the place of the source cannot be the same.
    changing = {"export_time_utc", "source_folder_path"}
    with (
        h5py.File(record.path) as ours,
        h5py.File(shared_data / "oect_infra" / layout["attrs"]["output_filename"]) as theirs,
    ):
        assert {k: v for k, v in ours.attrs.items() if k not in changing} == {
            k: v for k, v in layout["attrs"].items() if k not in changing
        }
        for name, facts in layout.items():
            if name == "attrs":
                continue
            dataset = ours[name]
            assert list(dataset.shape) == facts["shape"]
            assert str(dataset.dtype) == facts["dtype"]
            for fact in ("compression", "compression_opts", "shuffle", "fletcher32"):
                assert getattr(dataset, fact) == facts[fact]
            attrs = {k: v.tolist() if np.ndim(v) else v for k, v in dataset.attrs.items()}
            assert attrs == facts["attrs"]
            if "rows" in facts:
                rows = [[_plain(cell) for cell in row] for row in dataset[()].tolist()]
                assert rows == facts["rows"]
            theirs_data = theirs[name][()]
            if dataset.dtype.kind == "f":
                np.testing.assert_array_equal(dataset[()], theirs_data, strict=True)
            else:
                assert np.all(dataset[()] == theirs_data)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


def _plain(cell: Any) -> Any:
    return cell.decode() if isinstance(cell, bytes) else cell


def test_convert_folder__table_columns_of_every_type(tmp_path: Path) -> None:
    reason = "达到最大循环次数后自动停止测试"  # 15 characters, 45 bytes
    steps = [
        transfer_step(
            reason=reason, parameters={"a": 1, "b": 1, "c": 1, "d": True, "e": "x", "null": None}
        ),
        transfer_step(start_time="later", parameters={"a": 2, "b": 2.5, "e": 7, "f": [1, 2]}),
        transfer_step(parameters={"a": 3, "b": 3, "c": 3, "d": False, "deep": {"er": 2**70}}),
    ]
    folder = make_folder(tmp_path / "in", steps, dict.fromkeys(("1.csv", "2.csv", "3.csv"), SWEEP))
    _, found = convert(folder, tmp_path)
    table = found["transfer/step_info_table"]
    assert table.dtype.names == (
        *("step_index", "type", "start_time", "reason"),
        *("param_a", "param_b", "param_c", "param_d", "param_e", "param_f", "param_deep_er"),
    )
    assert table["param_a"].tolist() == [1, 2, 3]
    assert table.dtype["param_a"] == np.int64
    assert table["param_b"].tolist() == [1, 2.5, 3]
    np.testing.assert_array_equal(table["param_c"], [1, np.nan, 3])
    assert table["param_d"].tolist() == [b"True", b"", b"False"]
    assert table["param_e"].tolist() == [b"x", b"7", b""]
    assert table["param_f"].tolist() == [b"", b"[1, 2]", b""]
    assert table["param_deep_er"][2] == 2.0**70
    assert table["start_time"].tolist() == [b"", b"later", b""]
    assert [cell.decode() for cell in table["reason"]] == [reason, "", ""]


def test_convert_folder__root_attributes(tmp_path: Path) -> None:
    root = {
        "chip_id": "稳定/性",
        "device_id": "unit",
        "test_type": "workflow",
        "empty": None,
        "huge": 2**80,
        "nul": "a\0b",
        "half": "\ud800",
        "list": [1],
        "sync_mode": True,
        "format_version": "1.0",
    }
    _, found = convert(
        make_folder(tmp_path / "in", [transfer_step()], {"1.csv": SWEEP}, **root), tmp_path
    )
    attributes = found["/"]
    for gone in ("empty", "list", "test_type", "device_id", "steps"):
        assert gone not in attributes
    assert attributes["chip_id"] == "稳定_性"
    assert attributes["test_unit_id"] == "unit"
    assert attributes["huge"] == str(2**80)
    assert attributes["nul"] == "ab"
    assert attributes["half"] == "?"
    assert attributes["sync_mode"]
    assert attributes["format_version"] == "2.0_direct_new_storage"
    assert attributes["source_json_name"] == "test_info.json"
    assert json.loads(found["raw/json"])["chip_id"] == "稳定/性"


def test_convert_folder__left_out_steps_are_named(tmp_path: Path) -> None:
    steps = [
        transfer_step(data_file="gone.csv"),
        transfer_step(data_file="b.csv"),
        {"type": "output", "data_file": "b.csv"},
        {"type": "transient", "data_file": "b.csv", "parameters": {"timeStep": 1}},
        transfer_step(data_file="empty.csv"),
        transfer_step(data_file="folder.csv"),
        "nonsense",
    ]
    folder = make_folder(tmp_path / "in", steps, {"b.csv": SWEEP, "empty.csv": "Vg,Id\n"})
    (folder / "folder.csv").mkdir()
    record, found = convert(folder, tmp_path)
    assert (record.n_transfer, record.n_transient) == (1, 0)
    assert "transient" not in {name.split("/")[0] for name in found}
    table = found["transfer/step_info_table"]
    assert table[["step_index", "data_file"]].tolist() == [(0, b"b.csv")]
    texts = [
        ("step 1 (transfer)", "gone.csv"),
        ("step 3 (output)", "columns ['Vg', 'Id'], expected Vd or drain_voltage or vd"),
        ("step 4 (transient)", "Time or timestamp or time"),
        ("step 5 (transfer)", "no rows"),
        ("step 6 (transfer)", "folder.csv"),
        ("step 7 (malformed)", "nonsense"),
    ]
    assert len(record.warnings) == len(texts)
    for warning, (step, detail) in zip(record.warnings, texts, strict=True):
        assert warning.startswith(step)
        assert detail in warning


@pytest.mark.parametrize(
    ("parameters", "interval_s", "warned"),
    [
        ({"timeStep": 2}, 0.002, False),
        ({"timeStep": "0.5"}, 0.0005, False),
        ({"nested": [{"timeStep": 4}]}, 0.004, False),
        ({"timeStep": 3, "nested": {"timeStep": 4}}, 0.003, False),
        ({"timeStep": 0}, 0.001, True),
        ({"timeStep": None}, 0.001, True),
        ({}, 0.001, True),
        (None, 0.001, True),
    ],
)
def test_convert_folder__continuous_time(
    tmp_path: Path, parameters: Any, interval_s: float, warned: bool
) -> None:
    step = {"type": "Transient", "parameters": parameters, "workflow_info": {"timeStep": 99}}
    files = {"1_x.csv": TRACE, "step2_x.csv": "Time,Id\n5,0.1\n6,0.2\n7,0.3\n"}
    record, found = convert(make_folder(tmp_path / "in", [step, step], files), tmp_path)
    data = found["transient/measurement_data"]
    # Where nothing is declared, the recorded times tell: 1 ms in the first step, 1 s in the second.
    expected = [0, 0.001, 0.002, 1.002, 2.002] if warned else np.arange(5) * interval_s
    # Two roundings of a few intervals.
    np.testing.assert_allclose(data[0], expected, rtol=4e-16)
    np.testing.assert_array_equal(data[1], [0, 0.001, 5, 6, 7])
    np.testing.assert_array_equal(data[2], [1e-6, 2e-6, 0.1, 0.2, 0.3])
    table = found["transient/step_info_table"]
    assert table.dtype.names[-2:] == ("start_data_index", "end_data_index")
    assert table[["start_data_index", "end_data_index"]].tolist() == [(0, 2), (2, 5)]
    word = "follows the recorded times" if warned else "is timeStep in ms?"
    assert [word in warning for warning in record.warnings] == [True, True]


def test_convert_folder__ragged_sweeps(tmp_path: Path) -> None:
    files = {"1.csv": SWEEP, "2.csv": "Vg,Id\n0.5,7\n"}
    _, found = convert(make_folder(tmp_path / "in", [transfer_step()] * 2, files), tmp_path)
    expected = [[[0, 0.1, 0.2], [1e-6, 2e-6, 3e-6]], [[0.5, np.nan, np.nan], [7, np.nan, np.nan]]]
    np.testing.assert_array_equal(found["transfer/measurement_data"], expected)


def test_convert_folder__bad_workflow_is_left_out(tmp_path: Path) -> None:
    files = {"1.csv": SWEEP, "workflow.json": "[{"}
    record, found = convert(make_folder(tmp_path / "in", [transfer_step()], files), tmp_path)
    assert "raw/workflow" not in found
    assert "workflow.json" in record.warnings[0]


def test_convert_folder__json_of_another_name(tmp_path: Path) -> None:
    files = {"1.csv": SWEEP, "workflow.json": "[]"}
    folder = make_folder(tmp_path / "in", [transfer_step()], files)
    (folder / "test_info.json").rename(folder / "info.json")
    _, found = convert(folder, tmp_path)
    assert found["/"]["source_json_name"] == "info.json"
    (folder / "second.json").write_text("{}")
    record = convert_folder(folder, tmp_path)
    assert record.status == "failed"
    assert "found info.json, second.json" in record.reason


@pytest.mark.parametrize(
    ("test_info", "word"),
    [
        (b"", "not valid JSON"),
        (b'{"steps": [{"type"', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"\xff\xff", "neither UTF-8 nor GBK"),
        (b"[]", "list 'steps'"),
        (b'{"steps": []}', "list 'steps'"),
        (b'{"steps": {"type": "transfer"}}', "list 'steps'"),
        (b'{"steps": [{"type": "output"}, {"type": null}]}', "no step can be read"),
        (b'{"steps": [{"type": "transfer"}]}', "no CSV file"),
    ],
)
def test_convert_folder__unusable(tmp_path: Path, test_info: bytes, word: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "test_info.json").write_bytes(test_info)
    record = convert_folder(folder, tmp_path / "out")
    assert record.status == "failed"
    assert word in record.reason
    assert str(folder / "test_info.json") in record.reason or "neither" in record.reason
    assert list((tmp_path / "out").iterdir()) == []


def test_convert_folder__no_such_folder(tmp_path: Path) -> None:
    assert "no such folder" in convert_folder(tmp_path / "absent", tmp_path).reason


def test_ingest__conflicts(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", [transfer_step()], {"1.csv": SWEEP})
    out = tmp_path / "out"
    assert len(ingest(folder, out).written) == 1
    (folder / "1.csv").write_text("Vg,Id\n9,9\n")
    path = out / "c-1-d-test_1.h5"
    before = path.read_bytes()
    assert ingest(folder, out).skipped[0].path == path
    assert path.read_bytes() == before
    names = [ingest(folder, out, on_conflict="rename").written[0].path for _ in range(2)]
    assert names == [out / "c-1-d-test_1_2.h5", out / "c-1-d-test_1_3.h5"]
    assert contents(names[1])["/"]["output_filename"] == "c-1-d-test_1_3.h5"
    assert path.read_bytes() == before
    assert len(ingest(folder, out, on_conflict="overwrite").written) == 1
    assert contents(path)["transfer/measurement_data"].tolist() == [[[9.0], [9.0]]]
    assert len(list(out.iterdir())) == 3


@pytest.mark.parametrize(
    ("policy", "statuses", "files"),
    [
        ("skip", ["written", "skipped"], 1),
        ("rename", ["written", "written"], 2),
        ("overwrite", ["written", "failed"], 1),
    ],
)
def test_ingest__two_folders_of_one_name(
    tmp_path: Path, policy: Any, statuses: list[str], files: int
) -> None:
    for name in ("a/b", "z"):
        make_folder(tmp_path / "in" / name, [transfer_step()], {"1.csv": SWEEP})
    report = ingest(tmp_path / "in", tmp_path / "out", on_conflict=policy)
    assert [record.status for record in report.records] == statuses
    assert len(list((tmp_path / "out").iterdir())) == files


def test_ingest__processes_equal_one_process(tmp_path: Path) -> None:
    for seed in range(3):
        device = simulate_device(seed, n_transfer=2, n_transient=2, n_cycles=3)
        device.write_folder(tmp_path / "in" / f"deep{seed}" / "folder")
    damage(tmp_path / "in" / "deep1" / "folder" / "test_info.json")
    calls: list[tuple[int, int]] = []
    many = ingest(
        tmp_path / "in", tmp_path / "many", workers=2, progress=lambda *c: calls.append(c)
    )
    one = ingest(tmp_path / "in", tmp_path / "one", workers=1)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert [r.status for r in many.records] == ["written", "failed", "written"]
    assert [r.folder for r in many.records] == [r.folder for r in one.records]
    assert "1 failed" in str(many)
    assert str(tmp_path / "in" / "deep1" / "folder") in str(many)
    for a, b in zip(many.written, one.written, strict=True):
        left, right = contents(a.path), contents(b.path)
        for found in (left, right):
            del found["/"]["export_time_utc"]
        np.testing.assert_equal(left, right)


KILLER = """
import os
from oectflow.pipeline.inputs.convert import convert_folder

def convert(folders, out):
    if folders[0].name == "kills":
        os._exit(1)
    return [convert_folder(folder, out) for folder in folders]
"""


def test_ingest__a_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    monkeypatch.syspath_prepend(tmp_path)
    from killer import convert

    groups = [
        [make_folder(tmp_path / "in" / name, [transfer_step()], {"1.csv": SWEEP}, test_id=name)]
        for name in ("a", "kills", "b", "c")
    ]
    results = ingest_module._in_processes(groups, partial(convert, out=tmp_path / "out"), 2)
    records = {record.folder.name: record for _, result in results for record in result}
    assert {name: record.status for name, record in records.items()} == {
        "a": "written",
        "kills": "failed",
        "b": "written",
        "c": "written",
    }
    assert "died" in records["kills"].reason


def test_ingest__script_without_main_guard(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_folder(tmp_path / "in" / name, [transfer_step()], {"1.csv": SWEEP}, test_id=name)
    script = tmp_path / "script.py"
    script.write_text(
        "from oectflow.pipeline.inputs.ingest import ingest\n"
        f"ingest({str(tmp_path / 'in')!r}, {str(tmp_path / 'out')!r}, workers=2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "worker processes do not start" in done.stderr.splitlines()[-1]


def test_ingest__wrong_arguments(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"no folder with a test_info\.json"):
        ingest(tmp_path, tmp_path)
    with pytest.raises(IngestError, match="expected a folder"):
        ingest(tmp_path / "absent", tmp_path)
    with pytest.raises(IngestError, match="did you mean 'overwrite'"):
        ingest(tmp_path, tmp_path, on_conflict="overwite")
    with pytest.raises(IngestError, match="workers=0"):
        ingest(tmp_path, tmp_path, workers=0)


def test_convert_folder__output_cannot_be_written(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "in", [transfer_step()], {"1.csv": SWEEP})
    (tmp_path / "file").write_text("not a folder")
    record = convert_folder(folder, tmp_path / "file" / "out")
    assert record.status == "failed"
    assert record.reason.startswith("NotADirectoryError")


def test_ingest__several_folders_each_once(tmp_path):
    for number in (1, 2, 3):
        device = simulate_device(number, n_transfer=1, n_transient=0, n_points=5)
        device.write_folder(tmp_path / "in" / f"run_{number}")
    chosen = [tmp_path / "in" / "run_1", tmp_path / "in" / "run_3", tmp_path / "in" / "run_1"]
    report = ingest(chosen, tmp_path / "out", workers=1)
    assert [record.folder.name for record in report.written] == ["run_1", "run_3"]
    with pytest.raises(IngestError, match="nothing given: no folder"):
        ingest([], tmp_path / "out")
