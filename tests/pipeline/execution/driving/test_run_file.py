"""``_report.json``: what a run has done and why, and what it has cost."""

from __future__ import annotations

import json
import shutil

import pytest
from distributed import Client

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "Von": {"extractor": "transfer.Von", "input": "transfer"},
    "share": {"func": "gm / gm.max()", "input": "gm"},
}


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "raw").mkdir()
    for i in range(2):
        simulate_device(i, n_transfer=3, n_transient=0, n_points=31, test_id=f"t{i}").write(
            tmp_path / "raw" / f"{i}.h5"
        )
    return tmp_path


def run(lab, features=FEATURES, **options):
    return of.extract(lab / "raw", features, lab / "out", progress=False, **options)


def told(lab):
    return json.loads((lab / "out" / "_report.json").read_text())


def test_what_was_computed_and_why(lab):
    report = run(lab)
    content = told(lab)
    sizes = [path.stat().st_size for path in (lab / "raw").iterdir()]
    assert content["bytes"] == {"raw": sum(sizes), "results": report.n_bytes}
    assert content["outcomes"] == report.counts
    assert set(content["software"]) > {"python", "oectflow", "numba"}
    assert content["machines"]["cores"] >= 1
    assert content["core_seconds"]["held"] == report.core_seconds > 0
    assert set(content["core_seconds"]["computing"]) == {"gm", "Von"}
    first = content["experiments"]["t0"]
    assert first["computed"] == dict.fromkeys(FEATURES, "it was never computed")
    # A run that has nothing to do says nothing.
    before = (lab / "out" / "_report.json").stat().st_mtime_ns
    run(lab)
    assert (lab / "out" / "_report.json").stat().st_mtime_ns == before

    changed = FEATURES | {"gm": FEATURES["gm"] | {"params": {"direction": "reverse"}}}
    run(lab, changed)
    assert told(lab)["experiments"]["t0"] | {"content_hash": ""} == {
        "path": str(lab / "raw" / "0.h5"),
        "outcome": "done",
        "reason": "",
        "computed": {
            "gm": "its definition or its code has changed",
            "share": "its input 'gm' is computed anew",
        },
        "kept": ["Von"],
        "kept_steps": {},
        "dropped": {},
        "content_hash": "",
    }
    run(lab, changed, force=True)
    assert told(lab)["experiments"]["t1"]["computed"]["Von"] == "everything is computed anew"
    simulate_device(7, n_transfer=3, n_transient=0, n_points=33, test_id="t1").write(
        lab / "raw" / "1.h5"
    )
    run(lab, changed)
    assert told(lab)["experiments"].keys() == {"t1"}
    assert told(lab)["experiments"]["t1"]["computed"]["Von"] == "the raw file has changed"
    earlier = [json.loads(path.read_text()) for path in (lab / "out" / "_runs").iterdir()]
    assert len(earlier) == 3
    assert all(one["format"] == 1 for one in earlier)


def test_a_raw_file_that_cannot_be_read_is_told(lab):
    (lab / "raw" / "2.h5").write_bytes(b"nothing")
    run(lab)
    broken = told(lab)["experiments"]["2"]
    assert broken["outcome"] == "failed"
    assert "2.h5" in broken["reason"]


def test_a_damaged_report_stops_nothing(lab):
    run(lab)
    (lab / "out" / "_report.json").write_text("{")
    assert run(lab, force=True).ok
    assert (lab / "out" / "_runs" / "unknown.json").read_text() == "{"
    assert told(lab)["experiments"]


def test_where_it_cannot_be_written_the_results_stand(lab):
    (lab / "out" / "_report.json").mkdir(parents=True)
    with pytest.warns(RuntimeWarning, match="cannot be written .*results are complete"):
        assert run(lab).ok
    assert len(list((lab / "out").glob("*.parquet"))) == 2


def test_the_machines_of_a_cluster(lab, threads_of_dask):
    with (
        threads_of_dask(2) as cluster,
        Client(cluster) as client,
    ):
        run(lab, client=client)
    machines = told(lab)["machines"]
    assert machines["cluster"] == "LocalCluster"
    assert sum(machines["workers"].values()) == machines["cores"] == 2


def test_cost(lab):
    report = run(lab)
    hours = report.core_seconds / 3600
    words = report.cost(2.0).split()
    assert words[0] == "cost:"
    assert float(words[1]) == pytest.approx(2.0 * hours, rel=0.01)
    assert float(words[3]) == pytest.approx(hours, rel=0.01)
    assert float(words[5]) == pytest.approx(1e12 * 2.0 * hours / report.n_bytes_raw, rel=0.01)
    shutil.rmtree(lab / "out" / "_runs", ignore_errors=True)
    # Nothing was computed: nothing per TB.
    assert run(lab).cost(2.0).endswith("core-hours")
