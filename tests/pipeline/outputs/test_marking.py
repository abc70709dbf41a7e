"""Marks come to bear when results are opened, and never touch what was computed."""

from __future__ import annotations

import hashlib
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import oectflow as of
from oectflow.errors import OutputError, ParameterError
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.marks.mark import Mark, new_mark
from oectflow.pipeline.marks.store import write
from oectflow.pipeline.outputs.marked import MarksWarning
from oectflow.pipeline.statistics.points import good_values

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "cycles": {
        "extractor": "transient.cycles",
        "input": "transient",
        "params": {"n_cycles": 5},
    },
    "middle": {"func": "cycles.mean(axis=1)", "input": "cycles"},
    "gm_norm": {"func": "gm / gm.mean()", "input": "gm"},
    "both": {"func": "gm * middle", "input": ["gm", "middle"]},
}
BAD = {"reason": "the probe had slipped", "who": "Ada"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    (folder / "raw").mkdir()
    for i in range(3):
        simulate_device(
            i, n_transfer=4, n_transient=3, n_points=21, n_cycles=5, test_id=f"test_{i}",
            chip_id="C7" if i else "C6", device_number=str(i),
        ).write(folder / "raw" / f"{i}.h5")  # fmt: skip
    assert of.extract(folder / "raw", FEATURES, folder / "out", progress=False).ok
    return folder


@pytest.fixture
def out(made, tmp_path):
    """Results of one's own."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path / "out"


def opened(out, marks="exclude"):
    return of.open_results(out, marks=marks).load()


def missing(column):
    rows = [np.ravel(row) for row in column]
    return np.isnan(np.concatenate(rows).astype(float))


def digests(out):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.parquet")}


def test_without_marks_nothing_is_different(made):
    plain = opened(made / "out", "ignore")
    for marks in ("exclude", "flag"):
        xr.testing.assert_identical(opened(made / "out", marks), plain)
        frame = of.results_frame(made / "out", marks=marks).compute()
        pd.testing.assert_frame_equal(
            frame, of.results_frame(made / "out", marks="ignore").compute()
        )
    assert of.marks(made / "out").empty


def test_a_step_that_is_bad(out):
    before, plain = digests(out), opened(out)
    (mark,) = of.mark(out, experiment="test_1", step=2, **BAD)
    found = opened(out)
    assert digests(out) == before
    gone = np.zeros((3, 4), bool)
    gone[1, 2] = True
    for name in ("gm", "middle", "both", "cycles"):
        assert np.isnan(found[name].values[gone]).all()
        np.testing.assert_array_equal(found[name].values[~gone], plain[name].values[~gone])
        assert (found[f"{name}_status"].values[gone] == "marked").all()
    assert (found["gm_status"].values == "marked").tolist() == gone.tolist()
    assert found["gm_mark"].values.tolist() == np.where(gone, "bad", "").tolist()
    assert "marked: somebody has marked it" in found["gm_status"].attrs["words"]
    assert found.attrs["marks"] == "1 mark: 1 bad"
    # The mean of all steps has this one in it.
    assert np.isnan(found["gm_norm"].values[1, 2])
    assert found["gm_norm_status"].values[1].tolist() == ["partly", "partly", "marked", "partly"]
    np.testing.assert_array_equal(
        found["gm_norm"].values[1, [0, 1, 3]], plain["gm_norm"][1, [0, 1, 3]]
    )
    assert (found["gm_norm_status"].values[0] == "ok").all()
    (row,) = of.marks(out).to_dict("records")
    assert (row["id"], row["step"], row["who"], row["reason"]) == (mark, 2, "Ada", BAD["reason"])
    assert row["applies"]


def test_flagged_or_ignored(out):
    plain = opened(out)
    of.mark(out, experiment="test_1", step=2, kind="transfer")
    flagged = opened(out, "flag")
    assert {str(n) for n in flagged} - {str(n) for n in plain} == {
        "gm_mark", "gm_norm_mark", "both_mark",
    }  # fmt: skip
    computed = flagged[list(plain)]
    computed.attrs = plain.attrs
    xr.testing.assert_identical(computed, plain)
    assert flagged["gm_mark"].values[1].tolist() == ["", "", "bad", ""]
    assert flagged["gm_norm_mark"].values[1].tolist() == [
        "partly bad", "partly bad", "bad", "partly bad",
    ]  # fmt: skip
    xr.testing.assert_identical(opened(out, "ignore"), plain)
    for marks in ("exclude", "flag"):
        values, _ = good_values(opened(out, marks), "gm", "")
        assert np.isnan(values.values).tolist() == [
            [False] * 4, [False, False, True, False], [False] * 4,
        ]  # fmt: skip
    values, _ = good_values(flagged, "gm_norm", "")
    assert np.isnan(values.values[1]).all()


def test_a_cycle_that_is_bad(out):
    plain = opened(out)
    of.mark(out, experiment="test_0", step=1, cycle=[3, 4])
    found = opened(out)
    assert of.marks(out)["kind"].tolist() == ["transient"] * 2
    gone = np.isnan(found["cycles"].values) & ~np.isnan(plain["cycles"].values)
    assert np.argwhere(gone).tolist() == [[0, 1, 3], [0, 1, 4]]
    assert found["cycles_mark"].values[0, 1].tolist() == ["", "", "", "bad", "bad"]
    # The mean over cycles has a value still, and says that two of them are bad.
    assert found["middle"].values[0, 1] == plain["middle"].values[0, 1]
    assert found["middle_status"].values[0].tolist() == ["ok", "partly", "ok", "absent"]
    assert found["middle_mark"].values[0].tolist() == ["", "partly bad", "", ""]
    xr.testing.assert_identical(found["gm"], plain["gm"])
    assert "gm_mark" not in found


def test_one_feature_and_what_rests_on_it(out):
    plain = opened(out)
    of.mark(out, experiment="test_2", step=0, feature="cycles")
    found = opened(out)
    assert np.isnan(found["cycles"].values[2, 0]).all()
    assert found["middle_status"].values[2, 0] == "partly"
    assert found["both_status"].values[2, 0] == "partly"
    assert found["middle"].values[2, 0] == plain["middle"].values[2, 0]
    xr.testing.assert_identical(found["gm"], plain["gm"])


def test_a_device_a_chip_and_what_is_measured_later(made, tmp_path):
    out = tmp_path / "out"
    of.extract(made / "raw" / "1.h5", FEATURES, out, progress=False)
    of.mark(out, chip_id="C7", feature="gm")
    of.mark(out, "humid, or so".replace(",", ""), chip_id="C7", device_id="1")
    assert of.extract(made / "raw", FEATURES, out, progress=False).ok
    found = opened(out)
    assert np.isnan(found["gm"].values).all(axis=1).tolist() == [False, True, True]
    assert found["gm_mark"].values[:, 0].tolist() == ["", "bad, humid or so", "bad"]
    # A word of one's own is shown, and changes nothing.
    assert (found["cycles_status"].values == opened(out, "ignore")["cycles_status"].values).all()
    assert found.attrs["marks"] == "2 marks: 1 bad, 1 humid or so"


def test_marks_hold_when_features_are_extracted_again(made, out):
    of.mark(out, experiment="test_1", step=1, cycle=2)
    before = opened(out)
    assert of.extract(made / "raw", FEATURES, out, progress=False, force=True).ok
    xr.testing.assert_identical(opened(out), before)
    more = FEATURES | {"peak": {"extractor": "transient.peak_current", "input": "transient"}}
    assert of.extract(made / "raw", more, out, progress=False).ok
    assert opened(out)["peak_status"].values[1].tolist() == ["ok", "partly", "ok", "absent"]


def test_undo(out):
    plain = opened(out)
    one, other = of.mark(out, experiment="test_0", step=[0, 1])
    of.unmark(out, one[:10], reason="it was the cable", who="Bob")
    assert of.marks(out)["id"].tolist() == [other]
    history = of.marks(out, history=True).set_index("id")
    assert history.loc[one, "undone_by"] == "Bob"
    assert history.loc[one, "undone_reason"] == "it was the cable"
    assert history.loc[other, "undone_by"] == ""
    assert np.isnan(opened(out)["gm"].values[0]).tolist() == [False, True, False, False]
    of.unmark(out, [other])
    xr.testing.assert_identical(opened(out), plain)
    with pytest.raises(OutputError, match=f"no mark or window with the id '{one}'"):
        of.unmark(out, one)
    with pytest.raises(OutputError, match="no mark or window with the id ''"):
        of.unmark(out, "")


def test_frame(out):
    plain = of.results_frame(out).compute()
    of.mark(out, experiment="test_1", step=2, kind="transfer")
    of.mark(out, "check", experiment="test_1", step=2, cycle=3)
    of.mark(out, experiment="test_0", step=1, cycle=3)
    found = of.results_frame(out).compute()
    assert set(found) - set(plain) == {"marks"}
    row = found[(found["experiment_id"] == "test_1") & (found["step_index"] == 2)].iloc[0]
    was = plain[(plain["experiment_id"] == "test_1") & (plain["step_index"] == 2)].iloc[0]
    assert np.isnan(row["gm"])
    assert row["gm_status"] == "marked"
    assert row["marks"] == "bad (transfer); check (transient, cycle 3)"
    assert list(row["cycles"]) == list(was["cycles"])
    row = found[(found["experiment_id"] == "test_0") & (found["step_index"] == 1)].iloc[0]
    assert np.isnan(list(row["cycles"])).tolist() == [False, False, False, True, False]
    assert row["middle_status"] == "partly"
    untouched = found["experiment_id"] == "test_2"
    pd.testing.assert_frame_equal(
        found[untouched].drop(columns="marks"), plain[plain["experiment_id"] == "test_2"]
    )
    assert (found[untouched]["marks"] == "").all()
    flagged = of.results_frame(out, marks="flag").compute()
    pd.testing.assert_frame_equal(flagged.drop(columns="marks"), plain)
    # The table and the Dataset leave out the same.
    dataset = opened(out)
    for i, name in enumerate(dataset["experiment"].values):
        own = found[found["experiment_id"] == name]
        np.testing.assert_array_equal(own["gm"], dataset["gm"].values[i])
        np.testing.assert_array_equal(own["gm_status"], dataset["gm_status"].values[i])


def test_expanded_columns_and_directions(made, tmp_path):
    features = {
        "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
        "point": {"extractor": "transfer.gm_max_coords", "input": "transfer"},
    }
    for expand in (False, True):
        out = tmp_path / f"out {expand}"
        of.extract(made / "raw" / "0.h5", features, out, progress=False, expand_multidim=expand)
        of.mark(out, experiment="test_0", step=1, cycle=2)
        of.mark(out, experiment="test_0", step=3, feature="point")
        found, plain = opened(out), opened(out, "ignore")
        assert (found["tau_status"].values[0, 1, 2] == "marked").all()
        frame = of.results_frame(out).compute()
        was = of.results_frame(out, marks="ignore").compute()
        for name in ("tau", "tau_stderr", "point"):
            gone = np.isnan(found[name].values[0]) & ~np.isnan(plain[name].values[0])
            assert gone.sum() in (2, plain["point"].values[0, 3].size)
            columns = [
                c
                for c in frame
                if c.startswith(f"{name}_")
                and not {"status", "stderr"} & set(c[len(name) :].split("_"))
            ]
            columns = [
                c for c in columns if name != "tau" or c[4:] in ("on", "off") or c[4:].isdigit()
            ]
            lost = {c: int((missing(frame[c]) & ~missing(was[c])).sum()) for c in columns}
            assert sum(lost.values()) == gone.sum(), name


def test_partitioned_results_and_single_files(made, tmp_path):
    out = tmp_path / "out"
    of.extract(made / "raw", FEATURES, out, progress=False, partition_by="chip_id")
    of.mark(out, experiment="test_1", step=0)
    assert np.isnan(opened(out)["gm"].values)[:, 0].tolist() == [False, True, False]
    one = out / "chip_id=C7" / "test_1.parquet"
    assert np.isnan(opened(one)["gm"].values)[0, 0]
    # Nothing that reads a folder of Parquet files trips over marks.
    assert len(pd.read_parquet(out)) == 12


@pytest.mark.parametrize(
    ("about", "why"),
    [
        ({"experiment": "tset_1"}, "did you mean 'test_1'"),
        ({"chip_id": "C77"}, "did you mean 'C7'"),
        ({"experiment": "test_1", "step": 4}, "there are 4 steps, from 0 on"),
        ({"experiment": "test_1", "step": 3, "kind": "transient"}, "there are 3 steps"),
        ({"experiment": "test_1", "cycle": 5}, "there are 5 cycles, from 0 on"),
        ({"experiment": "test_1", "feature": "gmm"}, "did you mean 'gm'"),
        ({"experiment": "test_1", "kind": "tranfser"}, "did you mean 'transfer'"),
        ({"experiment": "test_1", "step": []}, "and not none at all"),
        ({"experiment": "test_1", "step": 1.5}, "step=1.5: expected whole numbers"),
        ({"experiment": "test_1", "cycle": "3"}, "cycle='3': expected whole numbers"),
        ({"experiment": "x" * 300}, "no results of x"),
        ({}, "name an experiment, or a chip"),
        ({"experiment": "test_1", "label": "a,b"}, "label='a,b'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_marked(made, about, why):
    with pytest.raises((OutputError, ParameterError), match=why):
        of.mark(made / "out", **about)
    assert not (made / "out" / "_marks").exists()


def test_a_mark_that_applies_to_nothing_any_more_is_said(made, tmp_path):
    out = tmp_path / "out"
    of.extract(made / "raw" / "0.h5", FEATURES, out, progress=False)
    of.mark(out, experiment="test_0", feature="both")
    of.mark(out, experiment="test_0", step=0)
    fewer = {name: FEATURES[name] for name in ("gm", "cycles")}
    of.extract(made / "raw" / "0.h5", fewer, out, progress=False, force=True)
    assert of.marks(out)["applies"].tolist().count(False) == int("both" not in opened(out))


def test_one_mark_of_many_experiments_reads_one_file(out, monkeypatch):
    from oectflow.pipeline.outputs import marking

    read = []
    real = marking.read_metadata
    monkeypatch.setattr(marking, "read_metadata", lambda path: read.append(path.name) or real(path))
    of.mark(out, experiment="test_1", step=np.arange(2), cycle=np.int64(1))
    assert read == ["test_1.parquet"]
    assert of.marks(out)["step"].tolist() == [0, 1]


def test_ten_thousand_marks_are_compared_with_each_experiment_once(out, monkeypatch):
    compared = []
    real = Mark.is_of
    monkeypatch.setattr(
        Mark, "is_of", lambda self, identity: compared.append(1) or real(self, identity)
    )
    many = [new_mark("check", experiment_id=f"other_{k}", step=0) for k in range(9999)]
    write(out, [*many, new_mark("bad", experiment_id="test_0", step=0)])
    found = of.open_results(out)
    assert found.attrs["marks"] == "1 mark: 1 bad"
    # Those that name an experiment are found by that.
    assert compared == []


def test_wrong_words(made, tmp_path):
    with pytest.raises(ParameterError, match="did you mean 'exclude'"):
        of.open_results(made / "out", marks="exlude")
    with pytest.raises(OutputError, match="no such folder"):
        of.marks(tmp_path / "nowhere")


def test_lines_that_are_no_marks_are_named_and_the_others_count(out):
    of.mark(out, experiment="test_0", step=0)
    (path,) = (out / "_marks").iterdir()
    with path.open("a") as file:
        file.write('{"id": "77')
    with pytest.warns(MarksWarning, match="line 2: is no mark: it was cut off"):
        found = of.open_results(out)
    assert np.isnan(found["gm"].values[0, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of.open_results(out, marks="ignore")


def test_what_was_opened_before_stays_as_it_was(out):
    before = of.open_results(out)
    of.mark(out, experiment="test_0", step=0)
    after = of.open_results(out)
    # Dask takes the two for different things.
    assert before["gm"].data.name != after["gm"].data.name
    assert not np.isnan(before["gm"].values[0, 0])
    assert np.isnan(after["gm"].values[0, 0])


def test_results_with_marks_are_saved(out, tmp_path):
    of.mark(out, experiment="test_0", step=0)
    opened(out).to_netcdf(tmp_path / "all.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "all.nc", engine="h5netcdf") as again:
        assert again["gm_mark"].values[0].tolist() == ["bad", "", "", ""]


def test_report(made, out, tmp_path):
    plain = of.report(out, tmp_path / "plain.html", progress=False).read_text()
    assert 'id="marks"' not in plain
    of.mark(out, experiment="test_1", step=2, reason="<slipped>", who="Ada")
    of.mark(out, "check", experiment="test_2", feature="gm")
    text = of.report(out, tmp_path / "r.html", progress=False).read_text()
    assert 'id="marks"' in text
    assert "&lt;slipped&gt;" in text
    assert "test_1, step 2" in text
    assert "with marks" in text
    # The summary counts what is bad among the flagged, and not among the values.
    import base64
    import csv
    import io
    import re

    (table,) = re.findall(r"data:text/csv;charset=utf-8;base64,([^\"]+)", text)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(table).decode())))
    n = {r["experiment_id"]: (r["n_values"], r["n_flagged"]) for r in rows if r["feature"] == "gm"}
    assert n == {"test_0": ("4", "0"), "test_1": ("3", "1"), "test_2": ("4", "4")}


@pytest.mark.parametrize("feature", ["gm", "middle"])
def test_maps_of_chips_have_a_dot_where_something_is_marked(out, feature):
    pytest.importorskip("matplotlib")
    dots = [len(of.plot_chip(opened(out), feature).lines)]
    of.mark(out, "check", experiment="test_1", step=1)
    dots.append(len(of.plot_chip(opened(out), feature).lines))
    assert dots == [0, 1]
