"""The report: what it says, that it needs nothing else, and what a browser makes of it."""

from __future__ import annotations

import base64
import csv
import io
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from distributed import Client
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import oectflow as of
from oectflow.pipeline.inputs.simulate import damage, simulate_device
from oectflow.pipeline.outputs.html import pictures
from oectflow.pipeline.outputs.html.summary import FeatureSummary
from oectflow.pipeline.outputs.plots.axes import COLOURS, widened
from tests.cluster.browser import Browser, find_chromium

TAU = {"extractor": "transient.tau_on_off", "input": "transient"}
FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer", "description": "<gm> & more"},
    "Von": {"extractor": "transfer.Von", "input": "transfer", "params": {"device_type": "P"}},
    "point": {"extractor": "transfer.Von_coords", "input": "transfer"},
    "tau": TAU,
    "bad": {"extractor": "transfer.fails_in_reports", "input": "transfer"},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Raw folder, results of two devices, and the report of the run, in which one file failed."""

    # Here, and so known to workers: they have no module of the name of this one.
    @of.register("transfer.fails_in_reports")
    class Fails(of.BaseExtractor):
        source = "transfer"

        def extract_single_step(self, step_data, params):
            raise ValueError("broken on purpose")

    folder = tmp_path_factory.mktemp("lab")
    (folder / "raw").mkdir()
    for i in range(3):
        device = simulate_device(
            i, n_transfer=3, n_transient=3, n_cycles=4, device_number=str(i), test_id=f"sample-{i}",
            chip_id="chip",
        )  # fmt: skip
        device.write(folder / "raw" / f"{i}.h5")
    damage(folder / "raw" / "2.h5")
    run = of.extract(folder / "raw", FEATURES, folder / "out", progress=False)
    return folder / "raw", folder / "out", run


@pytest.fixture
def one_feature(lab):
    """One feature of one device: what takes no time to draw."""
    return of.open_results(lab[1]).isel(experiment=[0])[["gm", "gm_status"]]


class Page(HTMLParser):
    """Everything in a page that points somewhere, and its text."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.images, self.words, self.attrs = set(), [], [], [], {}
        self.sources = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.attrs.setdefault(tag, attrs)
        if "id" in attrs:
            assert attrs["id"] not in self.ids
            self.ids.add(attrs["id"])
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        self.sources += [attrs[key] for key in ("src", "href") if key in attrs]

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page(lab, tmp_path_factory):
    raw, out, run = lab
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert of.report(out, path, raw=raw, run=run, title="A & B", progress=False) == path
    return path


def test_report__needs_nothing_else(page):
    read = Page(page)
    assert all(source.startswith(("data:", "#")) for source in read.sources)
    # Nothing is fetched by the style or by a script either.
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|<script", text)
    assert {link[1:] for link in read.links if link[0] == "#"} <= read.ids
    assert read.attrs["html"] == {"lang": "en"}
    assert "A & B" in read.words


def test_report__says_what_was_done_and_what_failed_and_why(page, lab):
    raw, out, run = lab
    read = Page(page)
    (damaged,) = [record for record in run.failed if not record.out_path]
    for word in (
        "sample-0", "sample-1", damaged.reason.replace(f"{raw}/", ""), out.name,
        "<gm> & more", "XXH3-128", "numpy",
        "device_type = P", "max |dId/dVg| along one branch.", "broken on purpose",
        "the extractor raised; the column 'problems' of this row says why",
    ):  # fmt: skip
        assert word in read.text, word
    assert "2 with failed steps" in read.text
    assert "1 without results" in read.text


def test_report__every_picture_says_what_it_shows(page):
    read = Page(page)
    assert all(len(image["alt"]) > 20 for image in read.images)
    alts = " ".join(image["alt"] for image in read.images)
    for word in ("Transfer curves of sample-1", "fits and residuals", "Map of chips: tau on",
                 "tau off of sample-0 by step and cycle", "Steps per second"):  # fmt: skip
        assert word in alts, word
    # A point in V and A is not drawn on one axis.
    assert "point" not in alts
    for image in read.images:
        png = base64.b64decode(image["src"].partition(",")[2])
        assert png.startswith(b"\x89PNG")
        assert int.from_bytes(png[16:20]) == int(image["width"])


def test_report__summary_as_csv(page, lab):
    read = Page(page)
    (uri,) = [link for link in read.links if link.startswith("data:text/csv")]
    text = base64.b64decode(uri.partition(",")[2]).decode()
    rows = {
        (row["experiment_id"], row["feature"], row["entry"]): row
        for row in csv.DictReader(io.StringIO(text))
    }
    assert len(rows) == 2 * (1 + 1 + 2 + 2 + 1)
    results = of.open_results(lab[1]).load()
    tau = results["tau"].sel(experiment="sample-1", phase="off").values
    row = rows["sample-1", "tau", "off"]
    assert row["unit"] == "s"
    assert int(row["n_values"]) == np.isfinite(tau).sum()
    # Written with as many digits as it takes to read the same number again.
    assert float(row["median"]) == np.nanmedian(tau)
    np.testing.assert_allclose(float(row["p90"]), np.nanquantile(tau, 0.9), rtol=1e-14)
    assert float(row["first"]) == tau[np.isfinite(tau)][0]
    assert rows["sample-0", "point", "Id"]["unit"] == "A"
    bad = rows["sample-0", "bad", ""]
    assert (bad["n_values"], bad["n_flagged"], bad["median"]) == ("0", "3", "")


def test_report__from_the_results_alone(one_feature, tmp_path):
    read = Page(of.report(one_feature, tmp_path / "one.html", progress=False))
    assert "1 experiment with results" in read.text
    assert "sample-1" not in read.text
    assert not any("Transfer curves" in image["alt"] for image in read.images)


def test_report__raw_steps_that_cannot_be_read_are_said(lab, one_feature, tmp_path, monkeypatch):
    raw, *_ = lab

    def broken(experiment, device_type):
        raise of.InputError(f"{experiment.path}: damaged")

    monkeypatch.setattr(pictures, "of_sweeps", broken)
    read = Page(of.report(one_feature, tmp_path / "r.html", raw=raw, progress=False))
    assert "no picture" in read.text
    assert "0.h5: damaged" in read.text


def test_report__drawn_by_workers_is_the_same(one_feature, tmp_path, threads_of_dask):
    with (
        threads_of_dask(1) as cluster,
        Client(cluster) as client,
    ):
        there = of.report(one_feature, tmp_path / "a.html", client=client, progress=False)
    here = of.report(one_feature, tmp_path / "b.html", progress=False)
    assert Page(there).images == Page(here).images


def test_picture__keeps_the_colours_of_thin_lines():
    figure = Figure(figsize=(10, 8))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.imshow(np.linspace(0, 1, 256)[:, None], aspect="auto", cmap="viridis", extent=(-1, 1, 0, 9))
    for i, colour in enumerate(COLOURS):
        ax.plot([0.1, 1], [i + 0.5, i + 0.5], color=colour, linewidth=3)
    png = pictures.take(figure, "", "").png
    drawn = (255 * matplotlib.image.imread(io.BytesIO(png))[..., :3]).reshape(-1, 3)
    for colour in COLOURS:
        wanted = 255 * np.array(to_rgb(colour))
        # Nearest colour of the picture, in levels of 255.
        assert np.abs(drawn - wanted).max(axis=1).min() < 24, colour


def test_report__appears_whole_or_not_at_all(one_feature, tmp_path, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("before")

    def fails(*_):
        raise RuntimeError("in the middle")

    monkeypatch.setattr(pictures, "of_device", fails)
    with pytest.raises(RuntimeError, match="in the middle"):
        of.report(one_feature, out, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert out.read_text() == "before"


def test_report__places_that_cannot_be_written_and_folders_without_results(one_feature, tmp_path):
    with pytest.raises(of.OutputError, match="no such file or folder"):
        of.report(tmp_path / "nothing")
    with pytest.raises(of.OutputError, match="cannot be written"):
        of.report(one_feature, tmp_path / "no" / "report.html", progress=False)


def test_report__in_chromium(page, tmp_path):
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    with Browser(tmp_path / "profile") as browser:
        browser.command("Network.enable")
        # Whatever the page would fetch from elsewhere fails.
        browser.command(
            "Network.emulateNetworkConditions",
            offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1,
        )  # fmt: skip
        browser.open(page.as_uri())
        browser.wait_for("document.readyState === 'complete' && document.images.length > 0")
        assert browser.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        # The page is not wider than the window.
        assert browser.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        browser.evaluate("document.querySelector('#problems a[href=\"#device-2\"]').click()")
        browser.wait_for("location.hash === '#device-2'")
        browser.wait_for(
            "Math.abs(document.getElementById('device-2').getBoundingClientRect().top) < 50"
        )
        browser.evaluate("document.querySelector('#device-2 a[href=\"#feature-tau\"]').click()")
        browser.wait_for("location.hash === '#feature-tau'")
        printed = browser.command("Page.printToPDF")["data"]
        assert base64.b64decode(printed).startswith(b"%PDF")
        assert browser.errors == []


def test_panels__a_change_of_a_per_cent_does_not_fill_the_axes():
    low, high = widened(1.0, 1.01)
    assert high - low == pytest.approx(0.101)
    assert (low + high) / 2 == pytest.approx(1.005)
    assert widened(1.0, 2.0) == (1.0, 2.0)
    assert widened(-1e-3, 1e-3, 0.5) == (-0.25, 0.25)


def drawn_in_a_panel(values, unit, name="f", entries=({},)):
    """Small axes of one feature of one experiment."""
    values = np.asarray(values, float)[None]
    labels = list(entries[0])
    dims = ["experiment", "step", *labels]
    coordinates = {
        "experiment": ["e"], "chip_id": ("experiment", ["c"]), "device_id": ("experiment", ["1"]),
        **{label: [entry[label] for entry in entries] for label in labels},
    }  # fmt: skip
    one = xr.Dataset({name: (dims, values, {"units": unit})}, coordinates)
    feature = FeatureSummary(name, unit, "", "", "", "", entries=list(entries))
    ax = Figure(figsize=(2.6, 1.9)).add_axes((0.2, 0.2, 0.7, 0.6))
    pictures._draw_steps(ax, one, feature)
    ax.figure.draw_without_rendering()
    return ax


def test_panels__whole_labels():
    ax = drawn_in_a_panel([0.1180, 0.1181, 0.1179], "V/decade", "subthreshold_swing")
    assert ax.get_title("left") == "subthreshold_swing (mV/decade)"
    assert ax.yaxis.get_offset_text().get_text() == ""
    texts = [text for text in ax.get_yticklabels() if text.get_text()]
    # Nothing reaches beyond the picture.
    assert all(text.get_window_extent().x0 >= 0 for text in texts)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [118.0, 118.1, 117.9])
    # Decades apart: each tick has its prefix, and the title no unit.
    ax = drawn_in_a_panel([1e-9, 1e-3], "A")
    assert (ax.get_yscale(), ax.get_title("left")) == ("log", "f")
    assert drawn_in_a_panel([1e-9, 1e-3], "A^2").get_title("left") == "f (A²)"
    ax = drawn_in_a_panel([[1.0, 2.0], [3.0, 4.0]], "s", "tau", [{"phase": "on"}, {"phase": "off"}])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["on", "off"]
    assert not ax.get_legend().get_window_extent().overlaps(ax.bbox)


def test_panels__one_picture_each_and_none_of_what_was_not_measured(lab):
    results = of.open_results(lab[1]).isel(experiment=0)
    absent = results["gm"].copy(data=np.full(results["gm"].shape, np.nan))
    word = results["gm_status"].copy(data=np.full(results["gm"].shape, "absent"))
    one = results.assign(none=absent, none_status=word).load()
    features = [
        FeatureSummary(n, one[n].units, "", "", "", "", entries=[{}]) for n in ("gm", "none")
    ]
    (small,) = pictures.of_steps(one, features)
    assert small.alt == "gm of sample-0 against the step"
    assert (small.width, small.height) == (260, 190)


def test_fits__are_those_around_the_flag(lab, monkeypatch):
    raw, out, _ = lab
    one = of.open_results(out).sel(experiment="sample-0").load()
    one["tau_status"][{"step": 2, "cycle": 3, "phase": 0}] = "low_r2"
    asked = {}
    draw = pictures.plot_transient
    monkeypatch.setattr(
        pictures, "plot_transient",
        lambda *args, **options: asked.update(options, step=args[2]) or draw(*args, **options),
    )  # fmt: skip
    (picture,) = pictures.of_fits(of.Experiment(raw / "0.h5"), one, "tau")
    assert asked["step"] == 2
    # Four cycles: the last three.
    assert list(asked["cycles"]) == [1, 2, 3]
    assert "cycles 1 to 3" in picture.caption
