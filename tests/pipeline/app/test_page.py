"""What the page shows, from its models, without a browser."""

from __future__ import annotations

import urllib.request

import pandas as pd
import pytest

import oectflow as of
from oectflow.pipeline.app.shared import Shared
from oectflow.pipeline.app.views.page import Page
from oectflow.pipeline.watching.status import (
    STATUS_NAME,
    WatchedExperiment,
    WatchStatus,
    write_status,
)


def page_of(out, raw=None):
    return Page(Shared(out, raw), "token")


def test_watcher__running_experiments_are_on_the_page(lab):
    page = page_of(*reversed(lab))
    assert page.watch.text == ""
    running = WatchedExperiment("new <b>", 7, 3, "running", "waits for & more")
    done = WatchedExperiment("old", 7, 7, "done")
    write_status(lab.out, WatchStatus(1, "far away", 1e9, 1e9, "stopped", (running, done)))
    page.look_for_news()
    for words in ("stopped", "far away", "1 running, 1 done", "3 of 7 steps", "2001-09-09"):
        assert words in page.watch.text
    assert "new &lt;b&gt;" in page.watch.text
    assert "waits for &amp; more" in page.watch.text
    assert "old" not in page.watch.text


@pytest.mark.parametrize("updated", ["1e300", "-1e18", "null"])
def test_watcher__what_is_no_time_stops_nothing(lab, updated):
    (lab.out / STATUS_NAME).write_text(
        f'{{"pid": 1, "host": "x", "started": 0, "updated": {updated}, "state": "stopped",'
        ' "experiments": []}'
    )
    assert "1970" not in page_of(*reversed(lab)).watch.text


def test_page__without_raw_files_shows_results_and_says_why_no_curve(lab, tmp_path):
    other = tmp_path / "raw"
    other.mkdir()
    (other / "other.h5").write_bytes((lab.raw / "A1.h5").read_bytes())
    page = page_of(lab.out, other)
    assert "its raw file" in page.message.text
    assert "--raw" in page.message.text
    assert "tau on" in page.table.text
    assert "τ =" in page.fit_words.text
    assert len(page.step.samples.data["x"]) == 0


def test_page__a_raw_file_of_another_experiment_is_not_taken(lab, tmp_path):
    other = tmp_path / "raw"
    other.mkdir()
    for name in ("A1", "A2", "B1", "B2"):
        (other / f"{name}.h5").write_bytes((lab.raw / "A1.h5").read_bytes())
    page = page_of(lab.out, other)
    worst = page.desk.index.entries[page.desk.here.experiment].summary
    assert worst.experiment_id != "A1"
    assert f"{worst.experiment_id}: its raw file" in page.message.text


def test_page__a_damaged_result_is_in_the_table_and_stops_nothing(lab):
    path = lab.out / "A2.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    page = page_of(*reversed(lab))
    rows = page.experiments.source.data
    assert rows["state"][rows["experiment"].index("A2")] == "✗ failed"
    page.experiments.source.selected.indices = [rows["experiment"].index("A2")]
    assert "A2.parquet" in page.message.text
    page.press("n")
    assert page.message.text == ""


def test_page__results_that_come_appear(lab, tmp_path):
    later = lab.out / "B2.parquet"
    kept = later.read_bytes()
    later.unlink()
    shared = Shared(lab.out, lab.raw)
    page = Page(shared, "token")
    assert list(page.experiments.source.data["experiment"]) == ["A1", "A2", "B1"]
    later.write_bytes(kept)
    shared.look()
    page.look_for_news()
    assert list(page.experiments.source.data["experiment"]) == ["A1", "A2", "B1", "B2"]
    assert "4 experiments" in page.head.text


def test_page__message_stays_until_something_is_done(lab):
    page = page_of(*reversed(lab))
    page.press("c")
    assert "1 mark check" in page.message.text
    page.look_for_news()
    assert "1 mark check" in page.message.text
    page.press("w")
    assert "drag one first" in page.message.text
    page.press("o")
    assert "label=" in page.message.text


def test_page__results_of_sweeps_alone(made, tmp_path):
    wanted = {"gm_max": {"extractor": "transfer.gm_max", "input": "transfer"}}
    of.extract(made.raw / "B1.h5", wanted, tmp_path / "out", progress=False)
    page = page_of(tmp_path / "out", made.raw)
    assert page.desk.order == "all steps"
    # The trace is seen all the same, without fits.
    assert len(page.step.samples.data["x"]) >= 200
    assert not page.step.windows["on"].visible
    page.press("b")
    (mark,) = of.marks(tmp_path / "out").to_dict("records")
    assert (mark["experiment_id"], mark["step"], pd.isna(mark["cycle"])) == ("B1", 0, True)


def test_page__marks_that_cannot_be_read_are_named(lab):
    of.mark(lab.out, experiment="A1")
    (path,) = (lab.out / "_marks").glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b"<i>no mark</i>\n")
    page = page_of(*reversed(lab))
    assert "not respected: 1" in page.head.text
    assert path.name in page.head.text
    assert page.experiments.source.data["marks"][0] == "bad"


def test_app__shows_itself_in_a_notebook(lab):
    page = of.app(lab.out, raw=lab.raw)
    try:
        assert page.url in repr(page)
        assert f'<iframe src="{page.url}"' in page._repr_html_()
        with urllib.request.urlopen(page.url) as answer:
            assert answer.status == 200
    finally:
        page.stop()
