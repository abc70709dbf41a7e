"""Every kind of trouble has one state and one reason, wherever it is shown."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import h5py
import pytest

import oectflow as of
from oectflow.pipeline.cli.status import look_at
from oectflow.pipeline.inputs.simulate import damage, simulate_device
from oectflow.pipeline.outputs.states import RawFiles, results_without

#: No fit of noisy data reaches this R²: every tau is flagged.
FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "tau": {
        "extractor": "transient.tau_on_off",
        "input": "transient",
        "params": {"r_squared_threshold": 1.0},
    },
}


def write(raw: Path, name: str, **attributes: object) -> Path:
    path = raw / f"{name}.h5"
    simulate_device(
        3, n_transfer=1, n_transient=1, n_cycles=2, n_points=61, test_id=name, chip_id="c"
    ).write(path)
    with h5py.File(path, "r+") as file:
        file.attrs.update(attributes)
    return path


def make_trouble(raw: Path, out: Path) -> dict[str, tuple[str, str, str]]:
    """Make every kind of trouble; return state and reason by file, and what a run says."""
    raw.mkdir()
    for name in ("a_good", "e_old", "g_gone"):
        write(raw, name)
    of.extract(raw, FEATURES, out, progress=False)
    # A copy, under another name, of a file that counts.
    shutil.copy(raw / "a_good.h5", raw / "b_copy.h5")
    damage(write(raw, "c_damaged"))
    with h5py.File(write(raw, "d_empty"), "r+") as file:
        for group in ("transfer", "transient"):
            file.pop(group, None)
    (raw / "e_old.h5").rename(raw / "e_renamed.h5")
    write(raw, "f_running", status="in_progress")
    (raw / "g_gone.h5").unlink()
    flags = "tau: low_r2 "
    return {
        "a_good": ("flagged", flags, ""),
        "b_copy": ("failed", f"{raw / 'b_copy.h5'}: has the test_id 'a_good' of", ""),
        "c_damaged": ("failed", f"{raw / 'c_damaged.h5'}: ", ""),
        "d_empty": ("done", "it has no steps", "d_empty: it has no steps"),
        "e_renamed": ("flagged", flags, ""),
        "f_running": ("flagged", "was still running", "f_running: its test was still running"),
        "g_gone": ("flagged", "its raw file has vanished", ""),
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    raw, out = folder / "raw", folder / "out"
    expected = make_trouble(raw, out)
    report = of.extract(raw, FEATURES, out, progress=False)
    return raw, out, expected, report


def states_of(raw: Path, out: Path) -> dict[str, object]:
    looked = RawFiles(out)
    states = [look_at(path, looked, out, None) for path in sorted(raw.glob("*.h5"))]
    states += results_without(out, looked, {state.result for state in states})
    return {Path(s.raw).stem if s.raw else s.experiment_id: s for s in states}


def test_states__every_kind_of_trouble_once_and_with_its_reason(lab):
    raw, out, expected, _ = lab
    states = states_of(raw, out)
    assert states.keys() == expected.keys()
    for name, (state, reason, _) in expected.items():
        assert (name, states[name].state) == (name, state)
        assert reason in states[name].reason


def test_run__says_the_same_as_the_states(lab):
    raw, out, expected, report = lab
    records = {Path(record.path).stem: record for record in report.experiments}
    # Of a raw file that is gone, a run knows nothing.
    assert records.keys() == expected.keys() - {"g_gone"}
    text = str(report)
    for name, state in states_of(raw, out).items():
        if name == "g_gone":
            continue
        outcome = records[name].outcome
        # What an earlier run had computed is unchanged, and as it was.
        assert outcome == state.state or (
            outcome == "unchanged" and name in ("a_good", "e_renamed")
        )
        if state.state == "failed":
            assert records[name].reason == state.reason
        assert expected[name][2] in text


def test_report__says_the_same_as_the_states(lab, tmp_path):
    raw, out, _, run = lab
    page = of.report(out, tmp_path / "r.html", raw=raw, run=run, progress=False).read_text()
    text = html.unescape(re.sub(r"<[^>]*>", " ", page))
    for name in ("b_copy", "c_damaged"):
        # Without folders: a report is sent on.
        reason = states_of(raw, out)[name].reason.replace(f"{raw}/", "")
        assert text.count(reason) == 1
    assert "<b>2</b> without results" in page


def test_flags__are_summed_up_alike_in_all_places(lab, oectflow):
    raw, out, _, report = lab
    names = ["a_good", "e_old", "f_running"]
    status = of.open_results(out).load()["tau_status"]
    counts = [int((status.sel(experiment=name) == "low_r2").sum()) for name in names]
    trouble = next(one for one in report.troubles if one.word == "low_r2")
    assert (trouble.feature, trouble.n, min(counts) > 0) == ("tau", sum(counts), True)
    assert dict(trouble.experiments) == dict(zip(names, counts, strict=True))
    assert str(trouble) in str(report)
    answer = oectflow("status", raw, "--out", out)
    assert str(trouble) in answer.out
    # Two cannot be computed, however often a run is started.
    assert "2 cannot be computed as they are" in answer.out
    assert "oectflow extract" not in answer.out
    frame = report.problems_frame()
    flagged = frame[frame["status"] == "low_r2"]
    assert flagged["experiment_id"].tolist() == names
    assert flagged["n"].tolist() == counts
    assert set(flagged["feature"]) == {"tau"}
    assert flagged["step"].isna().all()
    assert flagged["message"].str.len().min() > 0
    assert sorted(frame.loc[frame["status"] == "failed", "experiment_id"]) == [
        "b_copy",
        "c_damaged",
    ]
    of_folder = of.problems_frame(out)
    low = of_folder[of_folder["status"] == "low_r2"]
    assert low["experiment_id"].tolist() == [*names, "g_gone"]
    document = oectflow("status", raw, "--out", out, "--json").json
    assert {one["word"] for one in document["trouble"]} == {one.word for one in report.troubles}
