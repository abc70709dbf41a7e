"""What is lazy stays lazy: under a scheduler that refuses, until values are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from tests.pipeline.outputs.test_results import PEAKS, write


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two experiments of different length, and a mark on one step."""
    write(tmp_path, "a1", 3, 2)
    write(tmp_path, "b2", 2, 4, peaks=PEAKS)
    of.mark(tmp_path, experiment="a1", step=1)
    return tmp_path


@pytest.mark.parametrize("marks", ["exclude", "flag", "ignore"])
def test_open_results__opens_shows_selects_and_calculates(out, nothing_computes, marks):
    ds = of.open_results(out, marks=marks)
    assert ds.chunks["experiment"] == (1, 1)
    assert "gm" in repr(ds)
    assert "gm" in ds._repr_html_()
    one = ds.sel(experiment="a1").isel(step=slice(2))
    for lazy in (
        one["tau"].mean("cycle"),
        ds["tau"].sel(phase="on") / ds["gm"],
        ds["gm"].where(ds["gm_status"] == "ok"),
        ds.drop_vars("peaks").stack(row=("experiment", "step"))["gm"],
    ):
        # The values are a graph, and only they would have been computed.
        assert lazy.chunks is not None
    with pytest.raises(nothing_computes):
        ds["gm"].load()


@pytest.mark.parametrize("marks", ["exclude", "flag", "ignore"])
def test_results_frame__opens_selects_and_calculates(out, nothing_computes, marks):
    frame = of.results_frame(out, marks=marks)
    assert frame.npartitions == 2
    assert "gm" in repr(frame)
    good = frame[frame["gm"] > 0][["gm"]]
    assert good.npartitions == 2
    assert (2 * good["gm"]).mean() is not None
    with pytest.raises(nothing_computes):
        good.compute()


def test_plan__has_graphs_and_runs_none(tmp_path, nothing_computes):
    simulate_device(1, n_transfer=2, n_transient=0, n_points=21, test_id="one").write(
        tmp_path / "one.h5"
    )
    plan = of.plan(tmp_path / "one.h5", {"gm": {"extractor": "transfer.gm_max"}}, tmp_path / "out")
    graph = plan.dask_graph("one")
    assert dict(graph.dask)
    with pytest.raises(nothing_computes):
        graph.compute()
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_values__are_those_of_the_files(out):
    # Without the scheduler that refuses: the same calls end with numbers.
    ds = of.open_results(out, marks="ignore")
    lazy = ds["tau"].sel(experiment="a1", phase="on").isel(cycle=slice(2)).mean("cycle")
    expected = np.arange(12.0).reshape(3, 2, 2)[:, :, 0].mean(axis=1)
    np.testing.assert_array_equal(lazy.values, expected)
