"""Searches: every filter against a plain loop over what was put in, and every mistake named."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from oectflow.errors import CatalogError
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.catalog.feature_sets import intern_set
from oectflow.pipeline.inputs.catalog.filters import ORDERS
from oectflow.pipeline.inputs.catalog.indexing import insert_experiment
from oectflow.pipeline.inputs.catalog.schema import experiments
from oectflow.pipeline.inputs.catalog.store import Store

N = 400
CYCLES = "workflow_step_1_2_param_cycles"
MODE = "workflow_step_1_2_param_mode"
Row = dict[str, Any]


def make_rows() -> list[Row]:
    draw = random.Random(3)
    rows = []
    for i in range(1, N + 1):
        created = datetime(2024, 1, 1) + timedelta(minutes=draw.randrange(400 * 24 * 60))
        cycles = draw.choice((5, 10, 25, None))
        workflow = (
            {} if cycles is None else {CYCLES: cycles, MODE: draw.choice(("a", "b", 7, None))}
        )
        rows.append(
            {
                "id": i,
                "test_id": f"test_{draw.getrandbits(32):08x}",
                "chip_id": f"#{draw.randrange(20)}",
                "device_id": str(draw.randrange(1, 7)),
                "batch_id": draw.choice((None, "b1", "B2")),
                "description": draw.choice(("Stability", "100%_sure", "ÄÖ 稳定性", "")),
                "status": draw.choice(("completed", "running", "aborted by user")),
                "device_type": draw.choice("NP"),
                "file_state": draw.choice(("present", "missing")),
                "completion_percentage": draw.choice((None, 0.0, 50.0, 83.3, 100.0)),
                "total_steps": draw.randrange(40),
                "transfer_steps": draw.randrange(2),
                "transient_steps": draw.randrange(2),
                "total_data_points": 1,
                "created_at": draw.choice((created, created, created, None)),
                "completed_at": draw.choice((created + timedelta(hours=3), None)),
                "workflow": workflow,
                "features": draw.choice((set(), {"tau"}, {"tau", "gm_max"})),
            }
        )
    return rows


ROWS = make_rows()


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    store = Store(url)
    with store.write() as connection:
        for row in ROWS:
            columns = {k: v for k, v in row.items() if k not in ("id", "workflow", "features")}
            file = {"path": f"/raw/{row['id']}", "size": 1, "mtime_ns": 1, "scanned_ns": 1}
            file |= {"problem": ""}
            insert_experiment(connection, columns, file, workflow=row["workflow"], row_id=row["id"])
            if row["features"]:
                set_id = intern_set(connection, dict.fromkeys(sorted(row["features"]), "f"))
                mine = experiments.c.id == row["id"]
                connection.execute(experiments.update().where(mine).values(features_id=set_id))
    store.close()
    with Catalog(url) as opened:
        yield opened


NEW_YEAR = datetime(2025, 1, 1)
FILTERS: list[tuple[Row, Callable[[Row], object]]] = [
    ({}, lambda r: True),
    ({"chip_id": None}, lambda r: True),
    ({"chip_id": "#3"}, lambda r: r["chip_id"] == "#3"),
    ({"chip_id": ["#3", "#4"]}, lambda r: r["chip_id"] in ("#3", "#4")),
    ({"chip_id": "#nowhere"}, lambda r: False),
    ({"device_id": 2}, lambda r: r["device_id"] == "2"),
    ({"test_id": ROWS[7]["test_id"]}, lambda r: r["id"] == 8),
    ({"batch_id": "b1"}, lambda r: r["batch_id"] == "b1"),
    ({"batch_id": "b2"}, lambda r: False),
    ({"status": "completed"}, lambda r: r["status"] == "completed"),
    ({"status": "aborted by user"}, lambda r: r["status"] == "aborted by user"),
    ({"status": "failed"}, lambda r: False),
    ({"device_type": "N"}, lambda r: r["device_type"] == "N"),
    ({"file_state": "missing"}, lambda r: r["file_state"] == "missing"),
    ({"has_features": True}, lambda r: r["features"]),
    ({"has_features": False}, lambda r: not r["features"]),
    ({"missing_features": True}, lambda r: not r["features"]),
    ({"missing_features": False}, lambda r: r["features"]),
    ({"has_features": "gm_max"}, lambda r: "gm_max" in r["features"]),
    ({"has_features": ["tau", "gm_max"]}, lambda r: r["features"] >= {"tau", "gm_max"}),
    ({"missing_features": "gm_max"}, lambda r: "gm_max" not in r["features"]),
    ({"missing_features": ["tau", "gm_max"]}, lambda r: not r["features"] >= {"tau", "gm_max"}),
    ({"missing_features": "not_yet_computed"}, lambda r: True),
    ({"has_transfer_data": True}, lambda r: r["transfer_steps"]),
    ({"has_transfer_data": False}, lambda r: not r["transfer_steps"]),
    ({"has_transient_data": True}, lambda r: r["transient_steps"]),
    ({"created_after": NEW_YEAR}, lambda r: r["created_at"] and r["created_at"] >= NEW_YEAR),
    (
        {"created_before": date(2025, 1, 1)},
        lambda r: r["created_at"] and r["created_at"] < NEW_YEAR,
    ),
    (
        {"completed_after": "2025-01-01"},
        lambda r: r["completed_at"] and r["completed_at"] >= NEW_YEAR,
    ),
    (
        {"completed_before": "2025-01-01T00:00:00"},
        lambda r: r["completed_at"] and r["completed_at"] < NEW_YEAR,
    ),
    (
        {"min_completion": 50},
        lambda r: r["completion_percentage"] is not None and r["completion_percentage"] >= 50,
    ),
    (
        {"max_completion": 50.0},
        lambda r: r["completion_percentage"] is not None and r["completion_percentage"] <= 50,
    ),
    ({"min_steps": 10, "max_steps": 20}, lambda r: 10 <= r["total_steps"] <= 20),
    ({"text_search": "stab"}, lambda r: "stab" in r["description"].lower()),
    ({"text_search": "äö"}, lambda r: "ÄÖ" in r["description"]),
    ({"text_search": "0%_s"}, lambda r: r["description"] == "100%_sure"),
    ({"text_search": "%"}, lambda r: "%" in r["description"]),
    ({"text_search": "TEST_1"}, lambda r: "test_1" in r["test_id"]),
    ({"text_search": "#12"}, lambda r: "#12" in r["chip_id"]),
    ({CYCLES: 5}, lambda r: r["workflow"].get(CYCLES) == 5),
    ({CYCLES: 5.0}, lambda r: r["workflow"].get(CYCLES) == 5),
    ({CYCLES: [5, 25]}, lambda r: r["workflow"].get(CYCLES) in (5, 25)),
    ({CYCLES: (6, 25)}, lambda r: r["workflow"].get(CYCLES) in (10, 25)),
    ({CYCLES: (None, 10)}, lambda r: r["workflow"].get(CYCLES) in (5, 10)),
    ({CYCLES: (10, None)}, lambda r: r["workflow"].get(CYCLES) in (10, 25)),
    ({CYCLES: (None, None)}, lambda r: r["workflow"]),
    ({MODE: "a"}, lambda r: r["workflow"].get(MODE) == "a"),
    ({MODE: "7"}, lambda r: False),
    ({MODE: ["a", 7]}, lambda r: r["workflow"].get(MODE) in ("a", 7)),
    ({MODE: [None]}, lambda r: r["workflow"] and r["workflow"][MODE] is None),
    ({MODE: (0, 100)}, lambda r: r["workflow"].get(MODE) == 7),
    ({MODE: []}, lambda r: False),
    (
        {"status": "completed", "chip_id": "#3", "min_steps": 3, CYCLES: (5, 10)},
        lambda r: (
            r["status"] == "completed"
            and r["chip_id"] == "#3"
            and r["total_steps"] >= 3
            and r["workflow"].get(CYCLES) in (5, 10)
        ),
    ),
]


def test_search__every_filter_as_a_loop(catalog: Catalog) -> None:
    for filters, fits in FILTERS:
        found = catalog.search(**filters, order_by="id", order_desc=False)
        wanted = [row["id"] for row in ROWS if fits(row)]
        assert [entry.id for entry in found] == wanted, filters
        assert len(found) == len(wanted), filters


def test_search__order_with_unknown_values_last(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    for column, many, down in itertools.product(ORDERS, (0, 10**9), (True, False)):
        # Both ways to sort: along an index, and by reading everything.
        monkeypatch.setattr("oectflow.pipeline.inputs.catalog.filters._MANY", many)
        known = [row for row in ROWS if row[column] is not None]
        unknown = [row for row in ROWS if row[column] is None]
        wanted = [
            *sorted(known, key=lambda r, c=column: (r[c], r["id"]), reverse=down),
            *sorted(unknown, key=lambda r: r["id"], reverse=down),
        ]
        found = catalog.search(order_by=column, order_desc=down)
        assert [entry.id for entry in found] == [row["id"] for row in wanted], (column, down)


def test_search__newest_first_by_default(catalog: Catalog) -> None:
    found = [entry.created_at for entry in catalog.search(created_after="2000-01-01")]
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("first", [7, 10, 2000])
def test_search__limit_and_offset(
    catalog: Catalog, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oectflow.pipeline.inputs.catalog.search._FIRST", first)
    everything = [entry.id for entry in catalog.search()]
    for limit, offset in ((10, None), (10, 5), (None, 390), (300, 150), (0, 0), (5, 1000)):
        found = catalog.search(limit=limit, offset=offset)
        start = offset or 0
        wanted = everything[start : None if limit is None else start + limit]
        assert [entry.id for entry in found] == wanted
        assert len(found) == len(wanted)


MISTAKES: list[tuple[Row, str]] = [
    ({"chip": "#3"}, "no filter 'chip'; did you mean 'chip_id'"),
    ({"crated_after": "2025"}, "did you mean 'created_after'"),
    ({"limt": 3}, "did you mean 'limit'"),
    ({"work_flow": 3}, "did you mean 'workflow"),
    ({"status": "complete"}, "did you mean 'completed'"),
    ({"status": ["completed", "runing"]}, "did you mean 'running'"),
    ({"device_type": "n"}, "did you mean 'N'"),
    ({"file_state": "gone"}, "known: missing, present, unreadable, unscanned"),
    ({"chip_id": 3.5}, "chip_id=3.5: expected a text"),
    ({"chip_id": True}, "expected a text"),
    ({"has_features": 1.0}, "expected a text"),
    ({"has_features": "gm_maks"}, "did you mean 'gm_max'"),
    ({"has_transfer_data": 1}, "has_transfer_data=1: expected True or False"),
    ({"created_after": "yesterday"}, "expected a time such as"),
    ({"created_after": 20250101}, "expected a datetime"),
    ({"created_after": "2025-01-01T00:00:00+00:00"}, "without time zone"),
    ({"min_completion": 101}, "expected a number from 0 to 100"),
    ({"min_completion": "50"}, "expected a number"),
    ({"max_steps": -1}, "expected a number from 0 on"),
    ({"max_steps": float("nan")}, "expected a number from 0 on"),
    ({"text_search": 3.5}, "expected a text"),
    ({"order_by": "created"}, "cannot order by 'created'; did you mean 'created_at'"),
    ({"order_by": "id; DROP TABLE experiments"}, "cannot order by"),
    ({"order_desc": "no"}, "expected True or False"),
    ({"limit": -1}, "limit=-1: expected a whole number"),
    ({"offset": 1.5}, "expected a whole number"),
    ({"workflow_step_1_2_param_cycels": 5}, f"did you mean '{CYCLES}'"),
    ({CYCLES: (1, 2, 3)}, "a range is"),
    ({CYCLES: ("a", "b")}, "a range is"),
    ({CYCLES: {"min": 1}}, "expected a number, a text, a list"),
]


def test_search__mistakes_are_named(catalog: Catalog) -> None:
    for filters, message in MISTAKES:
        with pytest.raises(CatalogError) as caught:
            catalog.search(**filters)
        assert message in str(caught.value)


def test_search__empty_catalog(url: str) -> None:
    with Catalog(url) as catalog:
        found = catalog.search(status="completed", workflow_step_1_type="loop", has_features="tau")
        assert (len(found), list(found), found.paths) == (0, [], [])
        assert found.to_frame().empty
        assert "0 experiments" in found._repr_html_()


def test_result__is_a_sequence(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oectflow.pipeline.inputs.catalog.search._FIRST", 30)
    found = catalog.search(order_by="id", order_desc=False)
    assert [found[i].id for i in (0, 99, 100, 250, -1, 3)] == [1, 100, 101, 251, 400, 4]
    assert [entry.id for entry in found[390:]] == list(range(391, 401))
    assert [entry.id for entry in found[::100]] == [1, 101, 201, 301]
    assert [entry.id for entry in reversed(found[:3])] == [3, 2, 1]
    assert found[5:2].paths == []
    with pytest.raises(IndexError, match="400 experiments"):
        found[400]
    assert len(catalog.search()[10:350][20:30]) == 10


def test_result__paths_of_files_that_are_there(catalog: Catalog) -> None:
    found = catalog.search(order_by="id", order_desc=False)
    wanted = [f"/raw/{row['id']}" for row in ROWS if row["file_state"] == "present"]
    assert [str(path) for path in found.paths] == wanted


def test_result__to_frame(catalog: Catalog) -> None:
    found = catalog.search(order_by="id", order_desc=False)
    frame = found.to_frame(workflow=True)
    assert frame["test_id"].tolist() == [row["test_id"] for row in ROWS]
    assert frame["created_at"].isna().sum() == sum(row["created_at"] is None for row in ROWS)
    assert frame.loc[frame[CYCLES] == 5, "id"].tolist() == [
        row["id"] for row in ROWS if row["workflow"].get(CYCLES) == 5
    ]
    assert CYCLES not in found.to_frame().columns


def test_result__shows_as_a_table(catalog: Catalog) -> None:
    page = catalog.search(order_by="id", order_desc=False)._repr_html_()
    assert page.count("<tr>") == 21
    assert "400 experiments" in page
    assert "… and 380 more" in page
    assert ROWS[0]["test_id"] in page
    assert ROWS[20]["test_id"] not in page
    assert "1 experiment>" in repr(catalog.search(limit=1))


def test_result__text_cannot_become_html(url: str) -> None:
    store = Store(url)
    row = ROWS[0] | {"description": "<script>alert(1)</script>"}
    columns = {k: v for k, v in row.items() if k not in ("id", "workflow", "features")}
    file = {"path": "", "size": 0, "mtime_ns": 0, "scanned_ns": 0, "problem": ""}
    with store.write() as connection:
        insert_experiment(connection, columns, file, workflow={})
    store.close()
    with Catalog(url) as catalog:
        assert "<script>" not in catalog.search()._repr_html_()
        assert catalog.search()[0].path is None
        with pytest.raises(CatalogError, match="scan its folder"):
            catalog.search()[0].open()


def test_result__outlives_its_catalog(catalog: Catalog) -> None:
    found = catalog.search()
    catalog.close()
    assert len(list(found)) == N
    assert len(found.paths) > 0


def test_result__of_removed_experiments(catalog: Catalog) -> None:
    found = catalog.search(file_state="missing", limit=5)
    assert catalog.remove_missing() > len(found)
    with pytest.raises(CatalogError, match="search again"):
        list(found)


def test_get__by_test_id_and_number(catalog: Catalog) -> None:
    entry = catalog.get(ROWS[3]["test_id"])
    assert entry == catalog.get(4)
    assert json.loads(json.dumps(dict(entry.workflow))) == ROWS[3]["workflow"]


def test_get__names_the_nearest(catalog: Catalog) -> None:
    wanted = ROWS[3]["test_id"]
    with pytest.raises(CatalogError, match=f"did you mean '{wanted}'"):
        catalog.get(wanted + "x")
    with pytest.raises(CatalogError, match="scan its folder"):
        catalog.get("zzz")
    with pytest.raises(CatalogError, match="no experiment 4711"):
        catalog.get(4711)
