"""``search``: every filter of the catalog is an option, and means the same."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oectflow.errors import CatalogError
from oectflow.pipeline.cli.filters import Filters, parse_workflow
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.catalog.filters import FILTER_NAMES

CYCLES = "workflow_step_1_2_param_cycles"


@pytest.fixture
def lab(oectflow, common_lab: Path, monkeypatch) -> Path:
    monkeypatch.chdir(common_lab)
    return common_lab


def test_filters__are_those_of_the_catalog() -> None:
    arrangement = {"order_by", "order_desc", "limit", "offset"}
    assert {f.name for f in fields(Filters)} - {"workflow", "sample"} == set(
        FILTER_NAMES
    ) - arrangement


@pytest.mark.parametrize(
    ("options", "filters"),
    [
        (["--device", "1", "--device", "3"], {"device_id": ["1", "3"]}),
        (["--chip", "#20250815001"], {"chip_id": "#20250815001"}),
        (["--status", "completed"], {"status": "completed"}),
        (["--device-type", "unknown"], {"device_type": "unknown"}),
        (["--file-state", "missing"], {"file_state": "missing"}),
        (["--has-features", "any"], {"has_features": True}),
        (["--missing-features", "all"], {"missing_features": True}),
        (["--missing-features", "tau"], {"missing_features": "tau"}),
        (["--has-transfer-data"], {"has_transfer_data": True}),
        (["--no-transient-data"], {"has_transient_data": False}),
        (["--created-after", "2025-08-16"], {"created_after": "2025-08-16"}),
        (["--created-before", "2025-08-16"], {"created_before": "2025-08-16"}),
        (["--completed-after", "2025-08-16"], {"completed_after": "2025-08-16"}),
        (["--completed-before", "2025-08-16"], {"completed_before": "2025-08-16"}),
        (["--min-completion", "50"], {"min_completion": 50}),
        (["--max-completion", "50.5"], {"max_completion": 50.5}),
        (["--min-steps", "3"], {"min_steps": 3}),
        (["--max-steps", "3"], {"max_steps": 3}),
        (["--text", "STABIL"], {"text_search": "stabil"}),
        (["--batch", "b1"], {"batch_id": "b1"}),
        (["--workflow", "step_1_2_param_cycles=4"], {CYCLES: 4}),
        (["--workflow", f"{CYCLES}=5.."], {CYCLES: (5, None)}),
        (
            ["--workflow", f"{CYCLES}=..4", "--workflow", "step_1_iterations=1,2"],
            {CYCLES: (None, 4), "workflow_step_1_iterations": [1, 2]},
        ),
        (["--order-by", "test_id", "--ascending"], {"order_by": "test_id", "order_desc": False}),
        (["--limit", "2", "--offset", "1"], {"limit": 2, "offset": 1}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_search__finds_what_the_catalog_finds(
    oectflow, lab: Path, options: list[str], filters: dict[str, Any]
) -> None:
    with Catalog(lab / "data/catalog.db") as catalog:
        expected = catalog.search(**filters).test_ids
    answer = oectflow("search", "--json", *options)
    assert answer.status == 0, answer.err
    assert [row["test_id"] for row in answer.json] == expected


def test_search__some_filters_find_and_some_do_not(oectflow, lab: Path) -> None:
    # So that the test above cannot pass because nothing is ever found, or everything.
    for options, n in (
        (["--device", "1", "--device", "3"], 2),
        (["--device", "9"], 0),
        (["--has-features", "any"], 0),
        (["--created-after", "2025-08-16"], 2),
        (["--workflow", "step_1_2_param_cycles=4"], 3),
        (["--workflow", "step_1_2_param_cycles=5.."], 0),
    ):
        assert len(oectflow("search", "--json", *options).json) == n, options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--status", "complted"], "did you mean 'completed'"),
        (["--workflow", "step_1_2_param_cycels=4"], f"did you mean '{CYCLES}'"),
        (["--workflow", "cycles"], "expected KEY=VALUE, KEY=MIN..MAX or KEY=A,B"),
        (["--workflow", "=4"], "expected KEY=VALUE"),
        (["--workflow", "a=x..y"], "'x' is no number; a range is MIN..MAX"),
        (["--workflow", "a=1", "--workflow", "a=2"], "stands twice; write"),
        (["--created-after", "yesterday"], "expected a time such as"),
        (["--min-completion", "101"], "expected a number from 0 to 100"),
        (["--order-by", "created"], "did you mean 'created_at'"),
        (["--limit", "-1"], "limit=-1"),
    ],
)
def test_search__mistakes(oectflow, lab: Path, options: list[str], message: str) -> None:
    answer = oectflow("search", *options)
    assert (answer.status, answer.out) == (2, "")
    assert message in answer.err


def test_search__csv_and_json_say_the_same(oectflow, lab: Path) -> None:
    found = oectflow("search", "--output", "json").json
    rows = list(csv.DictReader(io.StringIO(oectflow("search", "--output", "csv").out)))
    assert [row["test_id"] for row in rows] == [row["test_id"] for row in found]
    assert [Path(row["path"]) for row in rows] == [Path(row["path"]) for row in found]
    assert set(found[0]) - {"workflow", "sample"} == set(rows[0])
    assert found[0]["workflow"][CYCLES] == 4


def test_search__table_says_how_many_there_are(oectflow, lab: Path, monkeypatch) -> None:
    from oectflow.pipeline.cli import search as module

    assert "3 experiments" in oectflow("search").out
    monkeypatch.setattr(module, "_SHOWN", 2)
    answer = oectflow("search")
    assert answer.out.count("test_2025") == 2
    assert "3 experiments, the first 2 are shown; --limit shows more" in answer.out
    assert oectflow("search", "--limit", "3").out.count("test_2025") == 3
    answer = oectflow("search", "--device", "9")
    assert (answer.status, answer.out) == (0, "")
    assert "no experiment fits" in answer.err


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=25", [25]),
        ("k=0.5,1e3", [0.5, 1000.0]),
        ("k=5..50", (5, 50)),
        ("k=-1.5..", (-1.5, None)),
        ("k=..0", (None, 0)),
        ("k=..", (None, None)),
        ("k=true,null", [True, None]),
        ("k=sweep", ["sweep"]),
        ('k="5"', ["5"]),
        ('k="a,b..c"', ["a,b..c"]),
        ("k=", [""]),
        ("k=a=b", ["a=b"]),
        ("k=[1]", ["[1]"]),
    ],
)
def test_parse_workflow(text: str, value: Any) -> None:
    assert parse_workflow(text) == ("workflow_k", value)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_parse_workflow__any_text_is_read_or_refused(text: str) -> None:
    try:
        name, value = parse_workflow(text)
    except CatalogError as error:
        assert "--workflow" in str(error)  # noqa: PT017
        return
    assert name.startswith("workflow_")
    assert isinstance(value, list | tuple)
