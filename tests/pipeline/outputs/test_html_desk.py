"""Marks, statistics over devices and worst fits in the report."""

from __future__ import annotations

import re

import numpy as np
import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.html.worst import N_WORST, worst_fits

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
    "mean_tau": {"func": "tau_on.mean(axis=1)", "input": "tau_on"},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "raw").mkdir()
    for k in range(3):
        simulate_device(
            k, n_transfer=4, n_transient=4, n_points=21, n_cycles=5, chip_id="C7" if k else "C6",
            test_id=f"t{k}", device_number=str(k),
        ).write(folder / "raw" / f"{k}.h5")  # fmt: skip
    out = folder / "out"
    assert of.extract(folder / "raw", FEATURES, out, progress=False).ok
    of.mark(out, experiment="t0", step=[1], kind="transient", reason="<slipped>", who="Ada")
    of.mark(out, "check", chip_id="C7", device_id="1", feature="gm", who="Grace")
    of.mark(out, experiment="t1", step=2, cycle=3, who="Ada")
    of.set_window(
        out, "t2", step=1, cycle=2, phase="on", begin=0.41, end=0.47, reason="ringing", who="Ada"
    )
    assert of.extract(folder / "raw", FEATURES, out, progress=False).ok
    return folder


@pytest.fixture(scope="module")
def page(lab):
    path = of.report(lab / "out", lab / "report.html", raw=lab / "raw", progress=False)
    return path.read_text(encoding="utf-8")


def section(page, name):
    return re.search(rf'<section id="{name}">(.*?)</section>', page, re.DOTALL)[1]


def rows(text):
    """The cells of a table, row by row, without tags."""
    found = re.findall(r"<tr><td.*?</tr>", text, re.DOTALL)
    cells = [re.split(r"<td[^>]*>", row)[1:] for row in found]
    return [[" ".join(re.sub("<[^>]+>", "", cell).split()) for cell in row] for row in cells]


def test_marks_say_how_many_values_they_are_about(page):
    found = {(row[0], row[1], row[2]): row for row in rows(section(page, "marks"))}
    (bad,) = (row for key, row in found.items() if key[:2] == ("t0", "bad"))
    assert re.fullmatch(r"\d+ of 2 features", bad[3])
    assert bad[4:6] == ["&lt;slipped&gt;", "Ada"]
    check = found["t1", "check", "chip C7, device 1, gm"]
    assert check[3] == "4 of 1 feature"
    (cycle,) = (row for key, row in found.items() if key[:2] == ("t1", "bad"))
    assert cycle[3] == "2 of 1 feature"
    (window,) = (row for key, row in found.items() if key[1] == "window")
    assert window[2:5] == ["t2, step 1, cycle 2, on, 0.41 to 0.47 s", "", "ringing"]


def test_marks_are_counted_as_the_results_have_them(lab, page):
    kept, all_ = of.open_results(lab / "out").load(), of.open_results(lab / "out", marks="ignore")
    n = sum(
        int((kept[f"{name}_status"].sel(experiment="t0") == "marked").sum())
        for name in ("gm", "tau", "mean_tau")
    )
    (bad,) = (row for row in rows(section(page, "marks")) if row[:2] == ["t0", "bad"])
    assert bad[3] == f"{n} of 2 features"
    assert not (all_.tau_status == "marked").any()


def test_statistics_are_those_of_compare(lab, page):
    found = of.open_results(lab / "out").load()
    table = {row[0]: row for row in rows(section(page, "statistics"))}
    assert table.keys() == {"gm", "tau on", "tau off", "mean_tau"}
    means = [float(np.nanmean(found.gm.isel(experiment=k))) for k in range(3)]
    value, unit = table["gm"][1].split()
    factor = {"S": 1, "mS": 1e-3, "µS": 1e-6}[unit]
    assert float(value) * factor == pytest.approx(np.mean(means), rel=5e-3)
    value, unit = table["gm"][2].split()
    factor = {"S": 1, "mS": 1e-3, "µS": 1e-6}[unit]
    assert float(value) * factor == pytest.approx(np.std(means, ddof=1), rel=5e-3)
    assert table["gm"][4:8] == ["2", "3", "12", "12"]
    assert table["gm"][8] == "further chips, of two only"
    by_chip = rows(section(page, "feature-gm"))
    assert [row[0] for row in by_chip] == ["chip C6", "chip C7"]
    assert [row[5] for row in by_chip] == ["1", "2"]
    assert by_chip[0][8] == "further steps of this device"


def test_worst_fits_are_the_worst(lab):
    one = of.open_results(lab / "out").sel(experiment="t1").load()
    # One of which nothing came is no fit.
    lost = one.tau_r_squared.argmin(...)
    one["tau"][lost] = np.nan
    found = worst_fits(one, "tau")
    everything = [
        (float(one.tau_r_squared.sel(phase=phase)[step, cycle]), step, cycle, phase)
        for step in range(4)
        for cycle in range(5)
        for phase in ("on", "off")
        if np.isfinite(one.tau.sel(phase=phase)[step, cycle])
    ]
    known = sorted(entry for entry in everything if np.isfinite(entry[0]))
    assert [(fit.r_squared, fit.step, fit.cycle, fit.phase) for fit in found] == known[:N_WORST]
    assert (2, 3) not in {(fit.step, fit.cycle) for fit in worst_fits(one, "tau")}
    few = one.isel(step=[0])
    assert len(worst_fits(few, "tau")) == min(10, int(np.isfinite(few.tau).sum()))
    assert worst_fits(one.where(False), "tau") == []
    assert worst_fits(one.drop_vars("tau_r_squared"), "tau") == []


def test_worst_fits_are_shown(lab, page, tmp_path):
    for k in range(3):
        device = re.search(rf'id="device-{k + 1}">(.*?)</section>', page, re.DOTALL)[1]
        alts = re.findall(rf'alt="Fit of t{k}, (step \d, cycle \d, \w+: R² [^"]*)', device)
        assert len(alts) == N_WORST
    path = of.report(lab / "out", tmp_path / "plain.html", progress=False)
    words = path.read_text(encoding="utf-8")
    assert 'alt="Fit of' not in words
    listed = re.findall(r"<li>(step \d, cycle \d, \w+: R² [\d.]+)", words)
    assert len(listed) == 3 * N_WORST


def test_one_device_alone(lab, tmp_path):
    one = of.open_results(lab / "out").sel(experiment=["t0"])[["gm", "gm_status"]]
    path = of.report(one, tmp_path / "one.html", progress=False)
    words = path.read_text(encoding="utf-8")
    (row,) = rows(section(words, "statistics"))
    assert row[4:8] == ["1", "1", "4", "4"]
    assert row[2] == "–"
    assert rows(section(words, "feature-gm")) == []
