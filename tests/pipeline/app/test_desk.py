"""What is chosen, looked through and marked, without a browser."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import oectflow as of
from oectflow.errors import InputError, OutputError
from oectflow.pipeline.app import desk as desks
from oectflow.pipeline.app.desk import Desk, Filter, Place
from oectflow.pipeline.app.index import open_index
from oectflow.pipeline.app.marking import Marks


@pytest.fixture
def desk(lab):
    return Desk(open_index(lab.out), Marks(lab.out))


def chosen(desk):
    return [desk.index.entries[n].summary.experiment_id for n in desk.chosen]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), ["A1", "A2", "B1", "B2"]),
        (Filter("chip=b"), ["B1", "B2"]),
        (Filter("device=1 a"), ["A1"]),
        (Filter("B2"), ["B2"]),
        (Filter("nothing"), []),
        (Filter(state="failed"), []),
        (Filter(mark="-"), ["A1", "A2", "B1", "B2"]),
        (Filter(mark="bad"), []),
    ],
)
def test_choose(desk, wanted, found):
    desk.choose(wanted)
    assert chosen(desk) == found
    assert {desk.index.entries[p.experiment].summary.experiment_id for p in desk.queue} <= set(
        found
    )


def test_choose__a_column_that_there_is_not(desk):
    with pytest.raises(InputError, match=r"chpi.*did you mean 'chip'"):
        desk.choose(Filter("chpi=A"))


def all_fits(lab):
    """Every fit of the lab, the worst first, as the results have them."""
    results = of.open_results(lab.out, marks="ignore").load()
    found = []
    for number, name in enumerate(results["experiment"].values):
        values = results["tau_r_squared"].sel(experiment=name).transpose("step", "cycle", "phase")
        for (step, cycle, phase), value in np.ndenumerate(values.values):
            if np.isfinite(value):
                found.append((float(value), number, step, cycle, ("on", "off")[phase]))
    return sorted(found)


def test_worst_fits__are_the_worst_of_all_cycles(desk, lab, monkeypatch):
    # One step at a time is the hardest: the next may hide a worse fit.
    for at_once in (1, 3, 16):
        monkeypatch.setattr(desks, "_AT_ONCE", at_once)
        desk.look_through("worst fits")
        found = [(p.r_squared, p.experiment, p.step, p.cycle, p.entry) for p in desk.queue]
        assert found == all_fits(lab)[:50]
    assert desk.here == desk.queue[0]
    assert desk.n_places == 22


def test_worst_fits__without_what_is_marked(desk, lab):
    worst = desk.queue[0]
    name = desk.index.entries[worst.experiment].summary.experiment_id
    of.mark(lab.out, "check", experiment=name, step=worst.step, cycle=worst.cycle)
    assert desk.refresh(desk.index)
    desk.look_through(hide_marked=True)
    kept = [f for f in all_fits(lab) if f[1:4] != (worst.experiment, worst.step, worst.cycle)]
    assert [p.r_squared for p in desk.queue] == [f[0] for f in kept[:50]]


def test_flagged__steps_with_a_status_word(desk, lab):
    desk.look_through("flagged", "tau")
    results = of.open_results(lab.out).load()
    flagged = ~results["tau_status"].isin(["ok", "absent"])
    steps = flagged.any(["cycle", "phase"]).values
    found = {(p.experiment, p.step) for p in desk.queue}
    assert found == set(zip(*(k.tolist() for k in np.nonzero(steps)), strict=True))
    assert found


def test_all_steps__no_more_are_lined_up_than_anybody_looks_at(desk, lab, monkeypatch):
    monkeypatch.setattr(desks, "MOST_PLACES", 3)
    of.mark(lab.out, experiment="A1", step=[0, 2])
    desk.refresh(desk.index)
    desk.look_through("all steps", hide_marked=True)
    assert [(p.experiment, p.step) for p in desk.queue] == [(0, 1), (0, 3), (1, 0)]
    assert desk.n_places == 22


def test_all_steps__and_the_ends_are_ends(desk):
    desk.look_through("all steps")
    assert [(p.experiment, p.step) for p in desk.queue] == [
        (n, s) for n, steps in enumerate((4, 5, 6, 7)) for s in range(steps)
    ]
    assert desk.go(-1) == desk.queue[0]
    assert desk.go(2) == desk.queue[2]
    assert desk.go(1000) == desk.queue[-1]
    desk.choose(Filter("nothing"))
    assert desk.here is None
    assert desk.go(1) is None


@pytest.mark.parametrize(
    ("scope", "about"),
    [
        ("cycle", ("B1", None, None, 2, 3)),
        ("step", ("B1", None, None, 2, None)),
        ("experiment", ("B1", None, None, None, None)),
        ("device", (None, "B", "1", None, None)),
        ("chip", (None, "B", None, None, None)),
    ],
)
def test_mark_and_undo(desk, lab, scope, about):
    (one,) = desk.mark("bad", [Place(2, 2, 3)], scope, reason="a bubble", who="Ada")
    (row,) = of.marks(lab.out).astype(object).to_dict("records")
    columns = ("experiment_id", "chip_id", "device_id", "step", "cycle")
    assert tuple(None if pd.isna(row[name]) else row[name] for name in columns) == about
    assert (row["id"], row["label"], row["reason"], row["who"]) == (one, "bad", "a bubble", "Ada")
    assert desk.marked(Place(2, 2, 3)) == ["bad"]
    assert desk.labels_of(2) == ["bad"]
    assert desk.marked(Place(0, 2, 3)) == []
    assert desk.undo() == [one]
    assert desk.marked(Place(2, 2, 3)) == []
    assert of.marks(lab.out).empty
    assert desk.undo() == []


def test_mark__three_cycles_are_undone_together(desk, lab):
    places = desk.queue[:3]
    ids = desk.mark("bad", places)
    assert (
        len(of.marks(lab.out)) == len(ids) == len({(p.experiment, p.step, p.cycle) for p in places})
    )
    desk.undo()
    assert of.marks(lab.out).empty


def test_mark__nothing_to_mark(desk):
    with pytest.raises(OutputError, match="nothing is chosen"):
        desk.mark("bad", [])


def test_trends__leave_out_what_is_bad_as_results_do(desk, lab):
    desk.mark("bad", [Place(0, 1, 2)], "cycle")
    desk.mark("bad", [Place(0, 2)], "step")
    desk.mark("check", [Place(1, 0)], "step")
    results = of.open_results(lab.out).load()
    for name in ("tau on", "gm_max", "coords Vg"):
        column = desk.index.column(name)
        for trend in desk.trends(column, 10):
            values = results[column.feature].isel(experiment=trend.experiment)
            values = values.isel(step=trend.steps)
            if column.entry:
                dim = "phase" if column.feature == "tau" else "quantity"
                values = values.sel({dim: column.entry})
            expected = values.median("cycle") if column.per_cycle else values
            np.testing.assert_allclose(trend.values, expected, rtol=1e-12)
    first, second, *_ = desk.trends(desk.index.column("tau on"), 10)
    assert first.flagged[[1, 2]].all()
    assert second.flagged[0]


def test_bands__percentiles_of_the_chosen(desk):
    column = desk.index.column("tau off")
    desk.choose(Filter("chip=A"))
    trends = desk.trends(column, 10)
    bands = desk.bands(column)
    assert bands.shape == (3, 5)
    both = np.stack([t.values[:4] for t in trends])
    np.testing.assert_allclose(bands[:, :4], np.percentile(both, (10, 50, 90), axis=0))
    assert bands[1, 4] == trends[1].values[4]


def test_refresh__marks_of_others_are_seen(desk, lab):
    assert not desk.refresh(desk.index)
    of.mark(lab.out, "check", chip_id="A")
    assert desk.refresh(desk.index)
    assert desk.labels() == ["check"]
    desk.choose(Filter(mark="check"))
    assert chosen(desk) == ["A1", "A2"]


def test_refresh__results_that_come_are_seen(desk, lab):
    (lab.out / "B2.parquet").unlink()
    assert desk.refresh(open_index(lab.out))
    assert chosen(desk) == ["A1", "A2", "B1"]
