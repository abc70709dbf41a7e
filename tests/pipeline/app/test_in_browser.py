"""The page in a real browser: the ten worst fits, three marked cycles, a dragged window, undo."""

from __future__ import annotations

import pytest

import oectflow as of
from oectflow.pipeline.app.server import AppServer

from ...cluster.browser import Browser, find_chromium

#: The model of a name, and a list of all elements within shadow roots.
TOOLS = """
window.model = name => Bokeh.documents[0].get_model_by_name(name)
window.all = (node = document.body) =>
    [node, ...[...(node.shadowRoot ? node.shadowRoot.children : []), ...node.children].flatMap(all)]
window.rows = name => [...model(name).data['R²']].map(Number)
window.row_of = (table, k) => {
    const view = Bokeh.index.find_one(model(table))
    const row = all(view.el).filter(e => e.classList.contains('slick-row'))
    const box = row.sort((a, b) => a.offsetTop - b.offsetTop)[k].getBoundingClientRect()
    return [box.left + 60, box.top + box.height / 2]
}
window.edge_of = (phase) => {
    const plot = Bokeh.index.find_one(model('trace-plot'))
    const box = model('trace-plot').center.find(m => m.name === phase)
    const at = plot.frame.x_scale.compute(box.right)
    const canvas = plot.canvas_view.el.getBoundingClientRect()
    return [canvas.left + at, canvas.top + plot.frame.bbox.vcenter]
}
"""


class Visitor:
    """A browser at the page."""

    def __init__(self, browser, url):
        self.browser = browser
        browser.command("Emulation.setDeviceMetricsOverride", width=1280, height=2600,
                        deviceScaleFactor=1, mobile=False)  # fmt: skip
        browser.open(url)
        self.wait("window.Bokeh !== undefined && Bokeh.documents.length === 1")
        browser.evaluate(TOOLS)
        self.wait("Bokeh.index.find_one(model('trace-plot')) !== null")
        self.wait("all().some(e => e.classList.contains('slick-row'))")

    def wait(self, expression):
        self.browser.wait_for(expression)

    def ask(self, expression):
        return self.browser.evaluate(expression)

    def mouse(self, kind, at, **more):
        self.browser.command(
            "Input.dispatchMouseEvent", type=kind, x=at[0], y=at[1], button="left",
            clickCount=1, buttons=0 if kind == "mouseReleased" else 1, **more,
        )  # fmt: skip

    def click(self, at, **more):
        self.mouse("mousePressed", at, **more)
        self.mouse("mouseReleased", at, **more)

    def press(self, key):
        text = {"Enter": "\r"}.get(key, key)
        self.browser.command("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        self.browser.command("Input.dispatchKeyEvent", type="keyUp", key=key)

    def drag(self, start, by):
        self.browser.command(
            "Input.dispatchMouseEvent", type="mouseMoved", x=start[0], y=start[1], buttons=0
        )
        self.mouse("mousePressed", start)
        for share in (0.25, 0.5, 0.75, 1.0):
            self.mouse("mouseMoved", (start[0] + share * by, start[1]))
        self.mouse("mouseReleased", (start[0] + by, start[1]))


@pytest.fixture
def visitor(lab, tmp_path):
    if find_chromium() is None:
        pytest.skip("no chromium on this machine")
    server = AppServer(lab.out, lab.raw)
    server.start()
    try:
        with Browser(tmp_path / "profile") as browser:
            yield Visitor(browser, server.url)
            assert browser.errors == []
    finally:
        server.stop()


def test_page__worst_fits_marks_a_dragged_window_and_undo(visitor, lab):
    results = of.open_results(lab.out).load()
    worst = results["tau_r_squared"].stack(fit=[...]).dropna("fit").sortby(
        results["tau_r_squared"].stack(fit=[...]).dropna("fit")
    )[:10]  # fmt: skip
    shown = visitor.ask("rows('places-rows').slice(0, 10)")
    assert shown == pytest.approx(worst.values.tolist(), abs=5e-6)

    # The second, and two more of other cycles.
    cycles = list(
        zip(
            visitor.ask("[...model('places-rows').data['experiment']]"),
            visitor.ask("[...model('places-rows').data['step']].map(Number)"),
            visitor.ask("[...model('places-rows').data['cycle']].map(parseFloat)"),
            strict=True,
        )
    )
    second = next(k for k in range(1, 10) if cycles[k] not in cycles[:k])
    third = next(k for k in range(second + 1, 10) if cycles[k] not in cycles[:k])
    visitor.click(visitor.ask("row_of('places', 0)"))
    for row in (second, third):
        visitor.click(visitor.ask(f"row_of('places', {row})"), modifiers=2)
    visitor.wait("model('places-rows').selected.indices.length === 3")
    visitor.ask("document.activeElement.blur()")
    visitor.press("b")
    visitor.wait("model('message').text.includes('3 marks bad')")
    marked = of.marks(lab.out)
    assert set(marked["label"]) == {"bad"}
    found = set(zip(marked["experiment_id"], marked["step"], marked["cycle"], strict=True))
    assert found == {cycles[k] for k in (0, second, third)}
    assert visitor.ask(f"model('places-rows').data['marks'][{second}]") == "bad"
    # Results are opened without them.
    name, step, cycle = cycles[0]
    one = of.open_results(lab.out)["tau_status"].sel(experiment=name).isel(step=step, cycle=cycle)
    assert "marked" in one.values

    before = visitor.ask("model('fit_words').text")
    assert "by hand" not in before
    visitor.drag(visitor.ask("edge_of('on')"), -80)
    visitor.wait("model('fit_words').text.includes('by hand')")
    assert visitor.ask("model('fit_words').text").startswith(before.split("<i>")[0])

    visitor.press("w")
    visitor.wait("model('message').text.includes('1 window kept')")
    (window,) = of.windows(lab.out).to_dict("records")
    place = (window["experiment_id"], window["step"], window["cycle"], window["phase"])
    shown = visitor.ask("model('places-rows').selected.indices.at(-1)")
    assert place == (*cycles[shown], "on")
    one = of.open_results(lab.out, marks="ignore").sel(experiment=window["experiment_id"])
    one = one.isel(step=window["step"], cycle=window["cycle"]).sel(phase="on")
    end = float(one["tau_window_start"] + one["tau_window_duration"])
    assert window["begin"] == pytest.approx(float(one["tau_window_start"]))
    assert window["begin"] < window["end"] < end - 0.01
    assert "chosen" in visitor.ask("model('fit_words').text")

    visitor.press("u")
    visitor.wait("model('message').text.includes('undone: 1')")
    assert of.windows(lab.out).empty
    assert "chosen" not in visitor.ask("model('fit_words').text")
    visitor.press("u")
    visitor.wait("model('message').text.includes('undone: 3')")
    assert of.marks(lab.out).empty
    assert len(of.marks(lab.out, history=True)) == 3


def test_page__keys_lead_through_cycles_and_places(visitor):
    title = "model('step_head').text"
    first = visitor.ask(title)
    visitor.press("n")
    visitor.wait(f"{title} !== {first!r}")
    second = visitor.ask(title)
    visitor.press("p")
    visitor.wait(f"{title} === {first!r}")
    assert second != first
    # What is typed is no command.
    visitor.ask(
        "all(Bokeh.index.find_one(model('text')).el).find(e => e.tagName === 'INPUT').focus()"
    )
    for letter in "b2":
        visitor.press(letter)
    visitor.press("Enter")
    visitor.ask("document.activeElement.blur()")
    visitor.wait("model('experiments-rows').data['experiment'].length === 1")
    assert visitor.ask("model('message').text") == ""
    assert visitor.ask("[...model('places-rows').data['experiment']][0]") == "B2"


def test_page__by_night_and_on_a_phone(visitor, tmp_path):
    ground = "model('trace-plot').background_fill_color"
    for night, colour in (("dark", "#16191d"), ("light", "#ffffff")):
        visitor.browser.command(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": night}],
        )
        visitor.wait(f"{ground} === {colour!r}")
    visitor.browser.command(
        "Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1,
        mobile=False,
    )  # fmt: skip
    # Nothing is wider than the phone; tables scroll by themselves.
    visitor.wait("document.documentElement.scrollWidth <= 390")
