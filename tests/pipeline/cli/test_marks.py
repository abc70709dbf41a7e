"""Marks on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.results import open_results


@pytest.fixture
def results(oectflow, tmp_path) -> Path:
    simulate_device(
        0, n_transfer=6, n_transient=0, n_points=21, test_id="a", chip_id="C7", device_number="2"
    ).write(tmp_path / "raw.h5")
    gm = {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}
    extract(tmp_path / "raw.h5", gm, tmp_path / "features", progress=False)
    return tmp_path / "features"


def test_add_list_undo(oectflow, results):
    answer = oectflow("marks", "list")
    assert (answer.status, answer.out.strip()) == (0, "features: no marks")
    assert oectflow("marks", "list", "--json").json == []
    answer = oectflow("marks", "add", "bad", "-e", "a", "--step", "1,3-4", "--reason", "slipped")
    assert answer.status == 0, answer.err
    assert answer.out.startswith("3 marks bad: ")
    assert np.isnan(open_results(results)["gm"].values[0]).tolist() == [
        False, True, False, True, True, False,
    ]  # fmt: skip
    (more,) = oectflow("marks", "add", "check", "--chip", "C7", "--device", "2", "--json").json[
        "ids"
    ]
    answer = oectflow("marks", "list", "--results", results)
    assert "slipped" in answer.out
    assert more[:8] in answer.out
    # What no mark says has no column.
    assert "cycle" not in answer.out
    rows = oectflow("marks", "list", "--json").json
    assert [row["step"] for row in rows if row["label"] == "bad"] == [1, 3, 4]
    assert {row["who"] for row in rows} != {""}
    ids = [row["id"][:8] for row in rows if row["label"] == "bad"]
    answer = oectflow("marks", "undo", *ids, "--reason", "it had not")
    assert (answer.status, answer.out.strip()) == (0, f"undone: {', '.join(ids)}")
    assert [row["label"] for row in oectflow("marks", "list", "--json").json] == ["check"]
    history = oectflow("marks", "list", "--history", "--json").json
    assert [row["undone_reason"] for row in history if row["label"] == "bad"] == ["it had not"] * 3


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["bad"], "name an experiment, or a chip"),
        (["bad", "-e", "b"], "no results of b"),
        (["bad", "-e", "a", "--step", "6"], "there are 6 steps, from 0 on"),
        (["bad", "-e", "a", "--step", "3-1"], "--step 3-1: expected numbers such as"),
        (["bad", "-e", "a", "--step", "x"], "--step x: expected numbers such as"),
        (["bad", "-e", "a", "--step", "0-999999999"], "expected numbers such as"),
        (["bad", "-e", "a", "-r", "elsewhere"], "elsewhere: there is no such folder"),
    ],
)
def test_mistakes_are_one_line(oectflow, results, options, why):
    answer = oectflow("marks", "add", *options)
    assert answer.status == 2
    assert why in answer.err
    assert not (results / "_marks").exists()


def test_undo_of_what_is_not_there(oectflow, results):
    answer = oectflow("marks", "undo", "77")
    assert answer.status == 2
    assert "no mark or window with the id '77' to undo" in answer.err


def test_windows(oectflow, tmp_path):
    simulate_device(0, n_transfer=0, n_transient=1, n_cycles=5, test_id="a").write(
        tmp_path / "raw.h5"
    )
    tau = {"tau": {"extractor": "transient.tau_on_off", "input": "transient"}}
    extract(tmp_path / "raw.h5", tau, tmp_path / "features", progress=False)
    assert oectflow("marks", "windows").out.strip() == "features: no windows were chosen"
    where = ["a", "0.01", "0.05", "--step", "0", "--cycle", "1", "--phase", "off"]
    answer = oectflow("marks", "window", *where, "--reason", "a spike")
    assert answer.status == 0, answer.err
    assert "run extract again" in answer.out
    (row,) = oectflow("marks", "windows", "--json").json
    assert (row["begin"], row["end"], row["used"]) == (0.01, 0.05, False)
    assert "a spike" in oectflow("marks", "windows").out
    assert oectflow("marks", "list", "--json").json == []
    assert oectflow("marks", "undo", row["id"][:8]).status == 0
    assert oectflow("marks", "windows", "--json").json == []
    answer = oectflow("marks", "window", "a", "0.05", "0.01", *where[3:])
    assert answer.status == 2
    assert "is not before" in answer.err
