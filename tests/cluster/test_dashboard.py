"""The page of the dashboard: its counters alone, over HTTP, and in a browser during a real run."""

from __future__ import annotations

import threading
import urllib.request

import pytest
from dask.utils import key_split
from distributed import Client, get_task_stream

from oectflow.cluster.connect import connect
from oectflow.cluster.counters import RunCounters
from oectflow.cluster.dashboard import COLOURS, Page, add_page
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.inputs.ingest import ingest
from oectflow.pipeline.inputs.simulate import simulate_lab

from .browser import Browser, find_chromium

TOPIC = "oectflow-0123abcd"
#: The text of all tables, each in shadow roots of its own.
SHOWN = """(function text(node) {
    const inside = [...(node.shadowRoot ? node.shadowRoot.children : []), ...node.children];
    const own = node.classList.contains('slick-cell') ? node.textContent + ' ' : '';
    return own + inside.map(text).join('');
})(document.body)"""


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def entered(name="e", n_steps=10, n_logical=20):
    one = {"experiment_id": name, "n_steps": n_steps, "n_logical": n_logical}
    return {"kind": "entered", "experiments": [one]}


def batch(name="e", features=("tau", "gm"), n_steps=5, n_errors=0):
    return {
        "kind": "batch",
        "experiment_id": name,
        "source": "transient",
        "features": features,
        "n_steps": n_steps,
        "n_logical": n_steps * len(features),
        "n_errors": n_errors,
        "seconds": 0.25,
        "bytes": 1000,
    }


def written(name="e", outcome="done", n_flagged=0, n_failed=0):
    return {
        "kind": "written",
        "experiment_id": name,
        "outcome": outcome,
        "n_steps": 10,
        "n_flagged": n_flagged,
        "n_failed": n_failed,
        "bytes": 77,
    }


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counters(clock):
    return RunCounters(n_rows=3, bin_seconds=2.0, n_bins=5, n_dots=4, clock=clock)


def test_counters__life_of_an_experiment(counters):
    counters.event(TOPIC, entered())
    (row,) = counters.newest_first()
    assert (row.state, row.steps_done, row.run) == ("waiting", 0, "0123abcd")
    counters.event(TOPIC, batch(n_errors=2))
    assert (row.state, row.steps_done, row.n_errors) == ("running", 5, 2)
    counters.event(TOPIC, batch(features=("tau",)))
    assert (row.steps_done, row.seconds, row.bytes_computed) == (7.5, 0.5, 2000)
    counters.event(TOPIC, written(outcome="flagged", n_flagged=4, n_failed=1))
    assert (row.state, row.steps_done) == ("flagged", 10)
    assert (row.n_flagged, row.n_failed, row.bytes_written) == (4, 1, 77)
    (run,) = counters.runs.values()
    assert run.outcomes == {"flagged": 1}
    assert (run.steps_over, run.n_errors) == (10, 2)


def test_counters__how_a_run_stands(counters):
    run = "0123abcd"
    counters.event(TOPIC, {"kind": "begun", "n_experiments": 3, "n_steps": 30})
    for event in (entered("a"), batch("a"), entered("b"), batch("b"), written("b")):
        counters.event(TOPIC, event)
    totals = counters.runs[run]
    assert (totals.n_experiments, totals.n_steps) == (3, 30)
    # Half of a, all of b, and nothing of the third.
    assert (counters.n_open(run), counters.steps_done(run)) == (1, 15)
    line = Page(counters)._line(run)
    for words in ("<b>3</b> experiments", "<b>1</b> done", "<b>1</b> given to workers",
                  "<b>1</b> not yet", "<b>15</b> of 30 computed"):  # fmt: skip
        assert words in line
    for i in range(20):
        counters.event(f"oectflow-{i}", {"kind": "begun", "n_experiments": 1, "n_steps": 1})
    assert len(counters.runs) == counters.n_runs


@pytest.mark.parametrize(
    ("n_logical_done", "per_cent"), [(0, 0), (1, 1), (5000, 5), (99_999, 99), (100_000, 100)]
)
def test_counters__per_cent_is_0_only_where_nothing_is_done(counters, n_logical_done, per_cent):
    counters.event(TOPIC, entered(n_steps=1000, n_logical=100_000))
    event = batch(features=("tau",), n_steps=n_logical_done)
    counters.event(TOPIC, event)
    assert counters.newest_first()[0].per_cent == per_cent


def test_counters__batches_that_ran_twice_are_no_more_than_all(counters):
    counters.event(TOPIC, entered())
    for _ in range(3):
        counters.event(TOPIC, batch())
    (row,) = counters.newest_first()
    assert row.steps_done == 10


def test_counters__written_twice_counts_once(counters):
    for _ in range(2):
        counters.event(TOPIC, written())
    counters.event(TOPIC, batch())
    assert counters.runs["0123abcd"].outcomes == {"done": 1}
    assert counters.newest_first()[0].state == "done"


def test_counters__tried_again(counters):
    for event in (entered(), batch(), entered()):
        counters.event(TOPIC, event)
    (row,) = counters.newest_first()
    assert (row.state, row.steps_done) == ("waiting", 0)


@pytest.mark.parametrize(
    ("topic", "event"),
    [
        ("all", entered()),
        ("print", {"args": ("x",)}),
        (TOPIC, "text"),
        (TOPIC, {"kind": "else", "experiment_id": "e"}),
        (TOPIC, {}),
    ],
)
def test_counters__events_of_others(topic, event, counters):
    counters.event(topic, event)
    assert not counters.rows


def test_counters__open_experiments_stay_and_the_last_ones(counters, clock):
    for name in "abcd":
        clock.now += 1
        counters.event(TOPIC, entered(name))
        if name != "a":
            counters.event(TOPIC, written(name))
    assert [row.experiment_id for row in counters.newest_first()] == ["a", "d", "c"]


def test_counters__bounded_even_if_nothing_ever_ends(counters):
    for i in range(100):
        counters.event(TOPIC, entered(str(i)))
        counters.event(TOPIC, batch(str(i)))
    assert len(counters.rows) == 30
    assert len(counters.dots) == 4


def test_counters__the_same_experiment_in_two_runs(counters):
    counters.event("oectflow-1", entered())
    counters.event("oectflow-2", entered())
    assert [row.run for row in counters.rows.values()] == ["1", "2"]


def test_throughput__per_feature_with_gaps(counters, clock):
    assert counters.throughput(7) == ([], {})
    counters.event(TOPIC, batch(features=("tau", "gm"), n_steps=4))
    clock.now = 1001.9
    counters.event(TOPIC, batch(features=("tau",), n_steps=6))
    # The interval that is not over would look like a drop.
    assert counters.throughput(7) == ([], {})
    clock.now = 1006.5
    counters.event(TOPIC, batch(features=("gm",), n_steps=100))
    assert counters.throughput(7) == (
        [1000.0, 1002.0, 1004.0],
        {"tau": [5.0, 0.0, 0.0], "gm": [2.0, 0.0, 0.0]},
    )


def test_throughput__small_features_become_one(counters, clock):
    for n_steps, feature in enumerate("abcd", start=1):
        counters.event(TOPIC, batch(features=(feature,), n_steps=2 * n_steps))
    clock.now += 2
    assert counters.throughput(2) == ([1000.0], {"d": [4.0], "c": [3.0], "2 more": [3.0]})


def test_throughput__only_the_last_intervals(counters, clock):
    for _ in range(20):
        counters.event(TOPIC, batch())
        clock.now += 2
    begins, rates = counters.throughput(7)
    assert begins == [clock.now - 2 * k for k in (5, 4, 3, 2, 1)]
    assert rates["tau"] == [2.5] * 5


def test_colours__one_for_each_named_feature_and_one_for_the_rest():
    assert len(set(COLOURS)) == len(COLOURS) == 8


def get(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read().decode()


def test_page__on_a_scheduler_that_runs_already(tmp_path, threads_of_dask):
    with (
        threads_of_dask(1) as cluster,
        Client(cluster) as client,
    ):
        base = f"http://127.0.0.1:{cluster.scheduler.http_server.port}"
        for _ in range(2):
            add_page(client, by_value=True)
        page = get(f"{base}/oectflow")
        assert "<title>Dask Diagnostic UI</title>" in page
        assert "Bokeh" in page
        # Every page of Dask leads to ours, once.
        assert get(f"{base}/workers").count('href="oectflow"') == 1
        served = cluster.scheduler.http_application.applications
        assert [path for app in served for path in app.app_paths].count("/oectflow") == 1


def test_page__scheduler_with_another_python():
    add_page(None, by_value=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A cluster of processes, and experiments that it can extract."""
    folder = tmp_path_factory.mktemp("run")
    simulate_lab(folder / "instrument", 3, steps=6, cycles=5)
    report = ingest(folder / "instrument", folder / "raw", workers=1)
    assert not report.failed
    with connect("local", n_workers=1, memory="2 GiB", dashboard_port=0) as client:
        yield client, folder


def test_page__in_chromium_during_a_run(run, tmp_path):
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    client, folder = run
    text = "Bokeh.documents.map(d => JSON.stringify(d.to_json())).join()"
    with Browser(tmp_path / "profile") as browser:
        browser.open(client.dashboard_link.replace("/status", "/oectflow"))
        browser.wait_for("window.Bokeh !== undefined && Bokeh.documents.length === 1")
        browser.wait_for(f"{text}.includes('No run has begun')")
        worker = threading.Thread(
            target=extract,
            args=(folder / "raw", "all", tmp_path / "out"),
            kwargs={"client": client, "granularity": "step", "progress": False},
        )
        worker.start()
        browser.wait_for(f"{text}.includes('running') || {text}.includes('done')")
        worker.join()
        finished = " && ".join(
            f"{text}.includes({word!r})" for word in ("steps / s", "time (UTC)", "peak_current")
        )
        browser.wait_for(finished)
        browser.wait_for(f"{text}.includes('<b>3</b> experiments: <b>3</b> done')")
        browser.wait_for(f"{text}.includes('<b>18</b> of 18 computed')")
        names = sorted(path.stem for path in (tmp_path / "out").glob("*.parquet"))
        assert len(names) == 3
        for name in names:
            browser.wait_for(f"{text}.includes({name!r})")
        # What is drawn, not only what the page knows: three rows that end with 100 %.
        browser.wait_for(f"{SHOWN}.split('100 %').length === 4")
        assert "running" not in browser.evaluate(SHOWN)
        browser.screenshot(tmp_path / "page.png")
        assert browser.errors == []
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_task_stream__shows_features(run, tmp_path):
    client, folder = run
    with get_task_stream(client) as stream:
        extract(
            folder / "raw", "all", tmp_path, client=client, granularity="experiment", progress=False
        )
    names = {key_split(task["key"]) for task in stream.data}
    assert {"write", "derive"} <= names
    assert any("peak_current" in name or "cycle_peaks" in name for name in names), names
