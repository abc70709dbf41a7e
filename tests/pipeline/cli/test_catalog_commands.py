"""``ingest``, ``scan``, ``show``, ``catalog …``, and which catalog is meant."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from oectflow.pipeline.inputs.catalog import Catalog

CHIP = "#20250815001"


def test_ingest__statuses_and_conflicts(oectflow, instrument: Path, tmp_path: Path) -> None:
    answer = oectflow("ingest", instrument, "raw")
    assert (answer.status, "3 written" in answer.out) == (0, True)
    answer = oectflow("ingest", instrument, "raw", "--json")
    assert [record["status"] for record in answer.json["records"]] == ["skipped"] * 3
    answer = oectflow("ingest", instrument, "raw", "--on-conflict", "rename")
    assert (answer.status, "3 written" in answer.out) == (0, True)
    assert len(list((tmp_path / "raw").glob("*.h5"))) == 6


def test_ingest__a_bad_folder_is_named_and_status_1(oectflow, tmp_path: Path) -> None:
    folder = tmp_path / "instrument" / "test_1"
    folder.mkdir(parents=True)
    (folder / "test_info.json").write_text("{")
    answer = oectflow("ingest", "instrument", "raw")
    assert answer.status == 1
    assert "test_1" in answer.out


def test_ingest__into_the_folder_of_the_configuration(
    oectflow, instrument: Path, tmp_path: Path
) -> None:
    oectflow("init", "--raw", "here")
    assert oectflow("ingest", instrument).status == 0
    assert len(list((tmp_path / "here").glob("*.h5"))) == 3


def test_scan__counts_and_names_bad_files(oectflow, lab: Path) -> None:
    (lab / "data/raw/bad-test_9.h5").write_bytes(b"no HDF5")
    answer = oectflow("scan")
    assert answer.status == 1
    assert "3 unchanged" in answer.out
    assert "1 unreadable" in answer.out
    assert "bad-test_9.h5: " in answer.out
    document = oectflow("scan", "--json").json
    assert document["report"]["counts"]["unreadable"] == 1
    assert document["report"]["problems"][0]["path"].endswith("bad-test_9.h5")


def test_catalog__from_a_folder_below(oectflow, lab: Path, monkeypatch) -> None:
    (lab / "notes/today").mkdir(parents=True)
    monkeypatch.chdir(lab / "notes/today")
    # The configuration's relative paths are its own, not those of where one stands.
    assert len(oectflow("search", "--json").json) == 3
    assert oectflow("scan", "--json").json["catalog"] == str(lab / "data/catalog.db")
    assert not list((lab / "notes/today").iterdir())


def test_catalog__option_before_configuration_before_environment(
    oectflow, lab: Path, monkeypatch
) -> None:
    (lab / "few").mkdir()
    for name in ("few.db", "none.db"):
        Catalog(lab / name).close()
    raw = next((lab / "data/raw").iterdir())
    (lab / "few" / raw.name).write_bytes(raw.read_bytes())
    assert oectflow("scan", "few", "--catalog", "few.db").status == 0
    monkeypatch.setenv("OECTFLOW_CATALOG", str(lab / "none.db"))
    assert len(oectflow("search", "--json").json) == 3
    assert len(oectflow("search", "--json", "--catalog", "few.db").json) == 1
    monkeypatch.chdir(lab.parent)
    assert len(oectflow("search", "--json").json) == 0
    config = lab / "catalog_config.yaml"
    assert len(oectflow("search", "--json", "--catalog", config).json) == 3


def test_show__file_and_id(oectflow, lab: Path, monkeypatch) -> None:
    path = sorted((lab / "data/raw").iterdir())[0]
    document = oectflow("show", path, "--json").json
    assert document["steps"]["transfer"][0]["samples"] > 0
    assert len(document["steps"]["transient"]) == 2
    assert document["workflow"][0]["type"] == "loop"
    assert document["attributes"]["chip_id"] == CHIP
    test_id = document["experiment_id"]
    number = str(document["catalog"]["id"])
    for key in (path, test_id, number):
        answer = oectflow("show", key)
        assert answer.status == 0
        for word in ("2 steps of", "chip_id", "1: loop", "cycles=4", "transient steps"):
            assert word in answer.out
        assert "the catalog knows of none" in answer.out
    answer = oectflow("show", test_id + "x")
    assert (answer.status, f"did you mean '{test_id}'" in answer.err) == (2, True)
    # A file needs no catalog.
    monkeypatch.chdir(lab.parent)
    assert "features" not in oectflow("show", path).out


def test_show__vanished_file(oectflow, lab: Path) -> None:
    path = sorted((lab / "data/raw").iterdir())[0]
    test_id = oectflow("show", path, "--json").json["experiment_id"]
    path.unlink()
    answer = oectflow("show", test_id)
    assert answer.status == 0
    assert "no such file" in answer.err
    assert "workflow_step_1_2_param_cycles" in answer.out
    assert CHIP in answer.out


def test_show__markup_of_users_is_no_markup(oectflow, tmp_path: Path) -> None:
    from oectflow.pipeline.inputs.simulate import simulate_device

    device = simulate_device(1, n_transfer=1, n_transient=0, n_points=5, test_id="test_[red]x[b]")
    device.write(tmp_path / "a.h5")
    answer = oectflow("show", "a.h5")
    # Once in the head, once in the table.
    assert answer.out.count("test_[red]x[b]") == 2


def test_catalog_group(oectflow, lab: Path) -> None:
    assert oectflow("catalog", "stats", "--json").json["n_experiments"] == 3
    assert "3 experiments" in oectflow("catalog", "stats").out
    assert "no problem found" in oectflow("catalog", "validate").out
    assert oectflow("catalog", "validate", "--content", "--json").json["problems"] == []
    assert oectflow("catalog", "backup", "copy.db").status == 0
    assert len(oectflow("search", "--json", "--catalog", "copy.db").json) == 3
    answer = oectflow("catalog", "backup", "copy.db")
    assert (answer.status, "copy.db: exists" in answer.err) == (2, True)
    assert "bytes_gained" in oectflow("catalog", "vacuum", "--json").json
    path = sorted((lab / "data/raw").iterdir())[0]
    path.unlink()
    answer = oectflow("catalog", "validate")
    assert (answer.status, "1 missing" in answer.out) == (1, True)
    oectflow("scan")
    assert oectflow("catalog", "remove-missing", "--json").json == {"removed": 1}


def test_catalog_import(oectflow, expected: dict[str, Any], tmp_path: Path) -> None:
    rows = expected["catalog"]["rows"]
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as connection:
        columns = ", ".join(f'"{name}"' for name in rows[0])
        connection.execute(f"CREATE TABLE experiments ({columns}, PRIMARY KEY (id))")
        connection.execute("CREATE TABLE sync_history (id INTEGER PRIMARY KEY)")
        marks = ", ".join("?" * len(rows[0]))
        connection.executemany(
            f"INSERT INTO experiments VALUES ({marks})", [tuple(row.values()) for row in rows]
        )
        connection.commit()
    answer = oectflow("catalog", "import", "catalog.db", "--catalog", "new.db", "--json")
    assert answer.status == 0
    assert answer.json["n_imported"] == answer.json["n_without_file"] == len(rows)
    found = oectflow("search", "--json", "--catalog", "new.db").json
    assert {row["test_id"] for row in found} == {row["test_id"] for row in rows}


def test_json__is_all_that_stdout_has(oectflow, lab: Path) -> None:
    for command in (
        ("scan",),
        ("search",),
        ("status",),
        ("extract", "--dry-run"),
        ("catalog", "stats"),
        ("catalog", "validate"),
        ("catalog", "sync"),
        ("features", "list"),
        ("features", "show", "all"),
    ):
        answer = oectflow(*command, "--json")
        assert json.loads(answer.out) is not None, command
