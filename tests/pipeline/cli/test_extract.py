"""``extract`` and ``status``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import pytest

from oectflow.pipeline.inputs.simulate import damage

TAU = ("-f", "transient_tau")


def test_extract__of_the_catalog_into_the_folder_of_the_configuration(oectflow, lab: Path) -> None:
    answer = oectflow("extract", *TAU, "--device", "1", "--device", "2", "--json")
    assert answer.status == 0, answer.err
    assert {r["outcome"] for r in answer.json["report"]["experiments"]} == {"done"}
    assert answer.json["recorded"] == 2
    assert len(list((lab / "data/features_v2").glob("*.parquet"))) == 2
    found = oectflow("search", "--has-features", "tau", "--json").json
    assert sorted(row["device_id"] for row in found) == ["1", "2"]
    # The catalog says at once which are left, and extract takes the same filters.
    answer = oectflow("extract", *TAU, "--missing-features", "tau")
    assert (answer.status, "1 done" in answer.out) == (0, True)
    assert len(oectflow("search", "--has-features", "tau", "--json").json) == 3
    assert "21 ok" in oectflow("show", "1").out or " ok" in oectflow("show", "1").out
    answer = oectflow("extract", *TAU)
    assert "nothing to do: 3 experiments unchanged" in answer.out
    answer = oectflow("extract", *TAU, "--missing-features", "tau")
    assert (answer.status, "no experiment fits" in answer.err) == (2, True)


def test_extract__a_damaged_file_is_status_1_and_the_rest_is_written(oectflow, lab: Path) -> None:
    raw = sorted((lab / "data/raw").iterdir())
    damage(raw[0])
    answer = oectflow("extract", "data/raw", *TAU, "-o", "mine")
    assert answer.status == 1
    assert "2 done" in answer.out
    assert str(raw[0]) in answer.out or raw[0].name in answer.out
    assert len(list((lab / "mine").glob("*.parquet"))) == 2
    assert len(oectflow("search", "--has-features", "tau", "--json").json) == 2


def test_extract__without_a_catalog(oectflow, lab: Path, monkeypatch) -> None:
    (lab.parent / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(lab.parent / "elsewhere")
    answer = oectflow("extract", lab / "data/raw", *TAU, "--json")
    assert (answer.status, answer.json["recorded"]) == (0, None)
    assert len(list((lab.parent / "elsewhere/features").glob("*.parquet"))) == 3


def test_extract__catalog_that_cannot_be_told(oectflow, lab: Path, monkeypatch) -> None:
    from oectflow.errors import CatalogError
    from oectflow.pipeline.inputs.catalog import Catalog

    def fail(*_: Any) -> None:
        raise CatalogError("the disk is full; make room and repeat")

    monkeypatch.setattr(Catalog, "sync_features", fail)
    answer = oectflow("extract", *TAU)
    assert answer.status == 1
    assert "the results are written, but not recorded: the disk is full" in answer.err
    assert "3 done" in answer.out


def test_extract__catalog_that_cannot_be_opened_costs_no_run(
    oectflow, lab: Path, monkeypatch
) -> None:
    from oectflow.pipeline.cli import extract as module

    (lab / "text.db").write_text("no database")
    monkeypatch.setattr(module, "run", lambda *_, **__: pytest.fail("the run was started"))
    answer = oectflow("extract", "data/raw", "--catalog", "text.db")
    assert answer.status == 2
    assert "no SQLite database" in answer.err


def test_dry_run__says_what_a_run_then_does(oectflow, lab: Path) -> None:
    plan = oectflow("extract", *TAU, "--dry-run", "--json").json
    assert (plan["n_todo"], plan["n_unchanged"], plan["unusable"]) == (3, 0, [])
    [tau] = plan["features"]
    assert (tau["n_steps"], tau["timed"]) == (6, False)
    assert not list((lab / "data/features_v2").iterdir())
    report = oectflow("extract", *TAU, "--device", "1", "--json").json["report"]
    assert report["plan"]["features"][0]["n_steps"] == 2
    damage(sorted((lab / "data/raw").iterdir())[2])
    answer = oectflow("extract", *TAU, "--dry-run")
    assert answer.status == 1
    assert "1 experiments to compute, 1 unchanged, 1 cannot be used" in answer.out
    # Its cost is known by now.
    [tau] = oectflow("extract", *TAU, "--dry-run", "--json").json["features"]
    assert tau["timed"]
    assert tau["predicted_seconds"] > 0
    answer = oectflow("extract", *TAU, "--dry-run", "--granularity", "step", "--force", "--json")
    [tau] = answer.json["features"]
    assert (tau["n_steps"], tau["n_tasks"]) == (4, 4)


def test_status__of_a_catalog(oectflow, lab: Path) -> None:
    answer = oectflow("status")
    assert (answer.status, "3 missing; 0 unchanged" in answer.out) == (1, True)
    assert "oectflow extract" in answer.out
    oectflow("extract", *TAU)
    answer = oectflow("status", *TAU)
    assert (answer.status, "3 done; 3 unchanged" in answer.out) == (0, True)
    raw = sorted((lab / "data/raw").iterdir())
    with h5py.File(raw[0], "r+") as file:
        file.attrs["description"] = "another content"
    damage(raw[1])
    document = oectflow("status", "--json").json
    states = {Path(s["raw"]).name: s for s in document["experiments"]}
    assert states[raw[0].name]["reason"] == "the raw file has changed since"
    assert states[raw[0].name]["unchanged"] is False
    assert states[raw[1].name]["state"] == "failed"
    assert raw[1].name in states[raw[1].name]["reason"]
    assert (states[raw[2].name]["state"], states[raw[2].name]["unchanged"]) == ("done", True)
    answer = oectflow("status", "data/raw", "-f", "v2_quick_analysis", "--json")
    assert answer.json["unchanged"] == 0
    assert "to compute: " in answer.json["experiments"][2]["reason"]


def test_status__touched_file_is_unchanged(oectflow, lab: Path) -> None:
    oectflow("extract", *TAU)
    for raw in (lab / "data/raw").iterdir():
        os.utime(raw)
    assert oectflow("status").status == 0


def test_status__of_a_folder_of_results_alone(oectflow, lab: Path, monkeypatch) -> None:
    (lab / "flat.yaml").write_text(
        "features:\n  - {name: tau, extractor: transient.tau_on_off, input: transient, "
        "params: {r_squared_threshold: 2}}\n"
    )
    oectflow("extract", *TAU)
    results = lab / "data/features_v2"
    (results / "notes.parquet").write_text("of something else")
    raw = sorted((lab / "data/raw").iterdir())[0]
    raw.unlink()
    monkeypatch.chdir(lab.parent)
    answer = oectflow("status", "-o", results, "--json")
    assert answer.status == 0
    assert answer.json["counts"] == {"done": 3}
    reasons = [s["reason"] for s in answer.json["experiments"] if s["reason"]]
    assert reasons == [f"its raw file has vanished: {raw}"]


def test_judge__words_of_the_results() -> None:
    from oectflow.pipeline.outputs.states import judge

    def of(**counts: int) -> tuple[str, list[str]]:
        features = {"a": {"counts": {"ok": 1}}, "b": {"counts": counts}}
        return judge({"features": features, "variables": {}})

    assert of(ok=3, absent=1) == ("done", [])
    assert of(ok=3, error=0) == ("done", [])
    assert of(ok=3, no_edge=1) == ("flagged", ["b: no_edge 1 of 4"])
    assert of(no_edge=1, error=1) == ("failed", ["b: no_edge 1 of 2; b: error 1 of 2"])


def test_report__of_the_folder_of_the_configuration(oectflow, lab: Path) -> None:
    assert oectflow("report").status == 2
    oectflow("extract", "-f", "v2_transfer_basic")
    answer = oectflow("report", "--raw", "data/raw", "--title", "Chip of today", "--json")
    page = (lab / "report.html").read_text()
    assert answer.json == {"out": "report.html", "bytes": len(page.encode())}
    assert "<title>Chip of today" in page
    assert "gm_max" in page
    assert "report.html: " in oectflow("report", "-o", "report.html").out


def test_damaged_results__are_named_once_and_the_exit_status_is_1(oectflow, lab: Path) -> None:
    oectflow("extract", "-f", "v2_transfer_basic")
    out = next(lab.rglob("*.parquet")).parent
    damaged = sorted(out.glob("*.parquet"))[0]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:1000])
    answer = oectflow("report")
    assert answer.status == 1
    assert (answer.out + answer.err).count(damaged.name) == 1
    assert "--force" in answer.err
    answer = oectflow("extract", "-f", "v2_transfer_basic", "-q")
    assert answer.status == 1
    assert (answer.out + answer.err).count(damaged.name) == 1
    assert oectflow("report").status == 0
    assert oectflow("extract", "-f", "v2_transfer_basic", "-q").status == 0


def test_repack__a_folder_and_again(oectflow, lab: Path) -> None:
    answer = oectflow("repack", "data/raw", "fast", "--workers", "1", "--json")
    assert answer.status == 0
    assert {record["status"] for record in answer.json["records"]} == {"written"}
    assert [p.name for p in sorted((lab / "fast").iterdir())] == [
        p.name for p in sorted((lab / "data/raw").iterdir())
    ]
    assert "3 skipped" in oectflow("repack", "data/raw", "fast", "--workers", "1").out
    damage(sorted((lab / "data/raw").iterdir())[0])
    answer = oectflow("repack", "data/raw", "again", "--workers", "1")
    assert (answer.status, "1 failed" in answer.out) == (1, True)
