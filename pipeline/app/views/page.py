"""The page of one visitor: what is chosen, looked through, shown and marked."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any
from urllib.parse import urlencode

from bokeh.layouts import column
from bokeh.models import CustomJS, TextInput

from oectflow.errors import OectflowError, OutputError
from oectflow.pipeline.app.desk import MOST_PLACES, Filter, Place
from oectflow.pipeline.app.live_fit import LiveFit, can_be_dragged
from oectflow.pipeline.app.shared import Shared
from oectflow.pipeline.app.step_data import (
    Trace,
    read_curves,
    read_fits,
    read_sweep,
    read_trace,
    windowed_feature,
)
from oectflow.pipeline.app.views import words
from oectflow.pipeline.app.views.controls import Controls
from oectflow.pipeline.app.views.listen import when
from oectflow.pipeline.app.views.look import DAY, NIGHT, Colours, new_text
from oectflow.pipeline.app.views.step import StepView
from oectflow.pipeline.app.views.tables import Table
from oectflow.pipeline.app.views.trends import MOST_EXPERIMENTS, TrendView
from oectflow.pipeline.outputs.plots.transient import Fit
from oectflow.pipeline.watching.status import read_status

#: Rows that a table shows of more.
_MOST_ROWS = 300
#: Milliseconds between looks for results and marks of others.
_NEWS = 5000

#: What a browser tells: whether it is night there, and which key was pressed outside of inputs.
_LISTEN = """
const tell = said => { bus.value = JSON.stringify({...said, at: Math.random()}) }
const night = window.matchMedia('(prefers-color-scheme: dark)')
tell({night: night.matches})
night.addEventListener('change', e => tell({night: e.matches}))
document.addEventListener('keydown', e => {
    if (e.ctrlKey || e.metaKey || e.altKey) return
    if (['INPUT', 'TEXTAREA', 'SELECT'].includes(e.composedPath()[0].tagName)) return
    if (!keys.includes(e.key)) return
    e.preventDefault()
    tell({key: e.key})
})
"""


class Page:
    """What one visitor sees and does.

    Parameters
    ----------
    shared
        What all visitors have in common.
    token, name
        What links to pictures carry, and how it is called there.

    Attributes
    ----------
    desk
        What is chosen.
    roots
        The models to be placed, by their names.
    """

    def __init__(self, shared: Shared, token: str, name: str = "token") -> None:
        self._shared, self._credentials = shared, {name: token}
        self.desk = shared.new_desk()
        self._sample = words.sample_columns(self.desk.index)
        self._shown: Place | None = None
        self._trace: Trace | None = None
        self._fits: list[Fit] = []
        self._live: LiveFit | None = None
        self._busy = False
        self.dragged: Fit | None = None
        self._make()
        self._connect()
        self._safely(self._show_watcher)
        self.show_filtered()

    def _make(self) -> None:
        sample = dict.fromkeys(self._sample, 90)
        self.head = new_text()
        self.head.text = words.heading(self.desk)
        self.watch = new_text()
        self.message = new_text()
        self.bus = TextInput(visible=False, name="bus")
        self.controls = Controls(self.desk)
        self.experiments = Table(
            {"experiment": 150, "chip": 85, "device": 52, **sample, "steps": -48, "state": 75,
             "flagged": -58, "marks": 80},
            height=300, name="experiments",
        )  # fmt: skip
        self.places = Table(
            {"nr.": -34, "experiment": 160, "step": -42, "cycle": 56, "R²": -70, "status": 100,
             "marks": 80},
            height=300, name="places",
        )  # fmt: skip
        self.step_head = new_text()
        self.fit_words = new_text()
        self.table = new_text()
        self.links = new_text()
        self.step = StepView(self._window_dragged, self._to_cycle)
        self.trends = TrendView(self._to_step)
        self.trend_words, self.trend_links = new_text(), new_text()
        c = self.controls
        self.roots = {
            "head": column(self.head, self.bus, sizing_mode="stretch_width"),
            "watch": self.watch,
            "message": self.message,
            "text": c.text, "state": c.state, "mark": c.with_mark,
            "experiments": self.experiments.view,
            "order": c.order, "feature": c.feature, "hide": c.hide,
            "places": self.places.view,
            "step_head": self.step_head,
            "back": c.back, "on": c.on, "before": c.before, "after": c.after,
            "sweep": column(self.step.sweep, self.step.other, sizing_mode="stretch_width"),
            "trace": column(
                self.step.trace, self.step.rest, self.step.quality, sizing_mode="stretch_width"
            ),
            "fit_words": self.fit_words, "keep": c.keep,
            "bad": c.bad, "check": c.check, "label": c.label, "own": c.own, "scope": c.scope,
            "reason": c.reason, "who": c.who, "undo": c.undo,
            "features": self.table, "links": self.links,
            "column": c.column, "trend_words": self.trend_words, "trends": self.trends.plot,
            "trend_links": self.trend_links,
        }  # fmt: skip
        for name, model in self.roots.items():
            model.name = name
        self.paint(DAY)

    def _connect(self) -> None:
        c = self.controls
        when(self.bus, "value", self._told)
        self._when(c.text, "value", self._filter)
        self._when(c.state, "value", self._filter)
        self._when(c.with_mark, "value", self._filter)
        self._when(c.order, "value", self._line_up)
        self._when(c.feature, "value", self._line_up)
        self._when(c.hide, "active", self._line_up)
        self._when(c.column, "value", self.show_trends)
        self._when(self.experiments.source.selected, "indices", self._experiment_chosen)
        self._when(self.places.source.selected, "indices", self._place_chosen)
        for button, key in (
            (c.back, "p"), (c.on, "n"), (c.before, "ArrowLeft"), (c.after, "ArrowRight"),
            (c.bad, "b"), (c.check, "c"), (c.own, "o"), (c.undo, "u"), (c.keep, "w"),
        ):  # fmt: skip
            button.on_click(partial(self.press, key))

    def _when(self, model: Any, name: str, act: Callable[[], None]) -> None:
        """Act when a property of a model becomes another one; what goes wrong is a message."""
        when(model, name, lambda _: self._safely(act))

    def add_to(self, doc: Any) -> None:
        """Put the page into a document of Bokeh."""
        # Or Bokeh would look through all models at each.
        with doc.models.freeze():
            for model in self.roots.values():
                doc.add_root(model)
        args = {"bus": self.bus, "keys": list(self._keys())}
        doc.js_on_event("document_ready", CustomJS(args=args, code=_LISTEN))
        doc.add_periodic_callback(self.look_for_news, _NEWS)

    # -- what is shown

    def show_filtered(self) -> None:
        """Show the chosen experiments, what is looked through among them, and their trends."""
        self._show_experiments()
        self._show_places()
        self.show_step(self.desk.here)
        self.show_trends()

    def _show_watcher(self) -> None:
        text = words.watcher(read_status(self._shared.folder))
        if text != self.watch.text:
            self.watch.text = text

    def _show_experiments(self) -> None:
        rows = self.desk.chosen[:_MOST_ROWS].tolist()
        self.experiments.show(
            [words.experiment_row(self.desk, number, self._sample) for number in rows]
        )
        n = len(self.desk.chosen)
        of = f"; the first {_MOST_ROWS} of them are listed" if n > _MOST_ROWS else ""
        self.controls.text.title = f"{n:,} of {len(self.desk.index):,} experiments{of}"

    def _show_places(self) -> None:
        self._busy = True
        try:
            queue = self.desk.queue[:_MOST_ROWS]
            self.places.show([words.place_row(self.desk, k, p) for k, p in enumerate(queue)])
            if queue:
                self.places.choose([self.desk.position])
        finally:
            self._busy = False
        n, listed = self.desk.n_places, len(self.desk.queue)
        self.controls.order.title = (
            f"the {listed} worst fits of {n:,} steps"
            if self.desk.order == "worst fits"
            else f"the first {min(listed, MOST_PLACES):,} of {n:,} steps"
        )

    def show_step(self, place: Place | None) -> None:
        """Show a step and a cycle in it; None where nothing is left to show."""
        self.dragged = None
        self.controls.keep.visible = False
        if place is None:
            self._shown = None
            self.step_head.text = "<p>nothing to look through here</p>"
            return
        step_changed = self._shown is None or (
            (place.experiment, place.step) != (self._shown.experiment, self._shown.step)
        )
        self._shown = place
        summary = self.desk.index.entries[place.experiment].summary
        marked = self.desk.marked(place)
        self.step_head.text = words.step_title(summary, place, marked)
        result = self.desk.result(place.experiment)
        feature = windowed_feature(result, self.desk.feature)
        if step_changed:
            self._fits = read_fits(result, feature, place.step) if feature else []
            self._read_raw(place, feature)
        drag = self._live is not None
        title = f"transient, step {place.step}, cycle {place.cycle}"
        title = title if self._trace else f"no transient step {place.step} to draw"
        self.step.show_trace(self._trace, self._fits, place.cycle, title, drag=drag)
        self._say_fits(place.cycle)
        self.table.text = words.features_table(result, place.step, place.cycle)
        self.links.text = self._link(
            "this step", view="step", experiment=summary.experiment_id, step=place.step,
            cycle=place.cycle, feature=feature,
        )  # fmt: skip

    def _read_raw(self, place: Place, feature: str) -> None:
        summary = self.desk.index.entries[place.experiment].summary
        result = self.desk.result(place.experiment)
        self._trace, self._live = None, None
        try:
            experiment = self._shared.raw.of(summary)
            self._trace = read_trace(experiment, result, place.step)
            sweep = read_sweep(experiment, place.step)
            curves = read_curves(experiment, place.step)
            if self._trace is not None and feature and can_be_dragged(result, feature):
                data = experiment.step("transient", place.step)
                self._live = LiveFit(result, feature, data)
        except OectflowError as error:
            self.step.show_sweep([], "no raw file")
            self.step.show_curve(None)
            self.say(str(error), wrong=True)
            return
        title = f"transfer, step {place.step}" if sweep else f"no transfer step {place.step}"
        self.step.show_sweep(sweep, title)
        self.step.show_curve(curves[0] if curves else None)

    def _say_fits(self, cycle: int, live: Fit | None = None) -> None:
        shown = [fit for fit in self._fits if fit.cycle == cycle and fit.status != "absent"]
        lines = [words.fit_line(fit) for fit in shown]
        if self._shown is not None:
            lines += map(words.window_line, self.desk.windows(self._shown))
        if live is not None:
            lines.append(f"<b>by hand</b>, {words.fit_line(live)}")
        elif self._live is not None and shown:
            lines.append("<i>drag a window, or one of its sides: its fit follows</i>")
        self.fit_words.text = "<br>".join(lines)

    def show_trends(self) -> None:
        """Show the chosen column over the steps."""
        name = self.controls.column.value
        if not name:
            return
        described = self.desk.index.column(name)
        trends = self.desk.trends(described, MOST_EXPERIMENTS)
        names = [self.desk.index.entries[t.experiment].summary.experiment_id for t in trends]
        n = len(self.desk.chosen)
        points = f"; points of {len(trends)}" if n > len(trends) else ""
        median = ", median of cycles" if described.per_cycle else ""
        title = (
            f"{n:,} experiments{median}{points}; hollow: flagged or marked; click a point to see it"
        )
        self.trends.show(described, trends, names, self.desk.bands(described))
        self.trend_words.text = f"<p>{escape(title)}</p>"
        self.trend_links.text = self._link(
            "these trends", view="trends", column=name, text=self.desk.filter.text,
            state=self.desk.filter.state, mark=self.desk.filter.mark,
        )  # fmt: skip

    def _link(self, what: str, **about: Any) -> str:
        url = "picture.zip?" + urlencode({**about, **self._credentials})
        return (
            f'<a href="{escape(url)}" download>Picture of {what}</a> '
            "<small>(zip: SVG, PDF, and the data as CSV)</small>"
        )

    def paint(self, colours: Colours) -> None:
        """Give all figures the colours of a light."""
        self.step.paint(colours)
        self.trends.paint(colours)

    def say(self, text: str, *, wrong: bool = False) -> None:
        """Show a message."""
        kind = "wrong" if wrong else "said"
        self.message.text = f'<p class="{kind}">{escape(text)}</p>' if text else ""

    # -- what the visitor does

    def _told(self, text: str) -> None:
        said = json.loads(text)
        if "night" in said:
            self.paint(NIGHT if said["night"] else DAY)
            self._safely(self.show_trends)
        if "key" in said:
            self.press(str(said["key"]))

    def press(self, key: str) -> None:
        """Do what a key does; what goes wrong is a message."""
        self._safely(self._keys().get(key, lambda: None))

    def _keys(self) -> dict[str, Callable[[], None]]:
        return {
            "n": lambda: self._go(1), "j": lambda: self._go(1), "ArrowDown": lambda: self._go(1),
            "p": lambda: self._go(-1), "k": lambda: self._go(-1), "ArrowUp": lambda: self._go(-1),
            "ArrowRight": lambda: self._cycle(1), "ArrowLeft": lambda: self._cycle(-1),
            "b": lambda: self._mark("bad"), "c": lambda: self._mark("check"),
            "o": lambda: self._mark(self.controls.label.value.strip()), "u": self._undo,
            "w": self._keep_window,
        }  # fmt: skip

    def _safely(self, act: Callable[[], None]) -> None:
        if self._busy:
            return
        try:
            self.say("")
            act()
        except OectflowError as error:
            self.say(str(error), wrong=True)

    def _filter(self) -> None:
        c = self.controls
        self.desk.choose(Filter(c.text.value.strip(), c.state.value, c.with_mark.value))
        self.show_filtered()

    def _line_up(self) -> None:
        c = self.controls
        self.desk.look_through(c.order.value, c.feature.value, bool(c.hide.active))
        self._shown = None
        self._show_places()
        self.show_step(self.desk.here)

    def _go(self, by: int) -> None:
        self.desk.go(by)
        self._busy = True
        try:
            self.places.choose([self.desk.position] if self.desk.queue else [])
        finally:
            self._busy = False
        self.show_step(self.desk.here)

    def _cycle(self, by: int) -> None:
        if self._shown is not None:
            n_cycles = max((fit.cycle for fit in self._fits), default=0) + 1
            self._to_cycle(min(max(self._shown.cycle + by, 0), n_cycles - 1))

    def _to_cycle(self, cycle: int) -> None:
        if self._shown is not None:
            self.show_step(Place(self._shown.experiment, self._shown.step, cycle))

    def _to_step(self, number: int, step: int) -> None:
        self._safely(lambda: self.show_step(Place(number, step)))

    def _experiment_chosen(self) -> None:
        rows = self.experiments.chosen
        if rows:
            self.show_step(Place(int(self.desk.chosen[rows[-1]]), 0))

    def _place_chosen(self) -> None:
        rows = self.places.chosen
        if rows:
            self.desk.position = rows[-1]
            self.show_step(self.desk.here)

    def _targets(self) -> list[Place]:
        """Return what a mark is about: the chosen rows, or what is shown where that is another."""
        rows = self.places.chosen
        if len(rows) > 1:
            return [self.desk.queue[row] for row in rows]
        return [self._shown] if self._shown is not None else []

    def _mark(self, label: str) -> None:
        c = self.controls
        made = self.desk.mark(
            label,
            self._targets(),
            c.scope.value,
            reason=c.reason.value.strip(),
            who=c.who.value.strip() or None,
        )
        self._marks_changed()
        n = f"{len(made)} marks" if len(made) > 1 else "1 mark"
        self.say(f"{n} {label}; u undoes that")

    def _undo(self) -> None:
        ids = self.desk.undo(who=self.controls.who.value.strip() or None)
        self._marks_changed()
        self.say(f"undone: {len(ids)}" if ids else "nothing was marked here that could be undone")

    def _keep_window(self) -> None:
        if self.dragged is None or self._shown is None:
            raise OutputError("there is no dragged window to keep; drag one first")
        c, fit = self.controls, self.dragged
        self.desk.keep_window(
            self._shown,
            fit.phase,
            fit.start,
            fit.start + fit.duration,
            reason=c.reason.value.strip(),
            who=c.who.value.strip() or None,
        )
        self.show_step(self._shown)
        self.say("1 window kept for the next run; u undoes that")

    def _marks_changed(self) -> None:
        """Show marks where they stand; places and choices stay as they are."""
        chosen = self.places.chosen
        self.controls.set_marks(self.desk.labels())
        self._busy = True
        try:
            queue = self.desk.queue[:_MOST_ROWS]
            self.places.show([words.place_row(self.desk, k, p) for k, p in enumerate(queue)])
            self.places.choose(chosen)
            chosen = self.experiments.chosen
            self._show_experiments()
            self.experiments.choose(chosen)
        finally:
            self._busy = False
        if self._shown is not None:
            summary = self.desk.index.entries[self._shown.experiment].summary
            marked = self.desk.marked(self._shown)
            self.step_head.text = words.step_title(summary, self._shown, marked)
            self._say_fits(self._shown.cycle)
        self.show_trends()

    def _window_dragged(self, phase: str, start: float, stop: float) -> None:
        if self._live is None or self._trace is None or self._shown is None:
            return
        fit = self._live.fit(self._shown.cycle, phase, start, stop)
        self.dragged = fit
        self.controls.keep.visible = True
        self.step.show_live(fit, self._trace)
        self._say_fits(self._shown.cycle, fit)

    def look_for_news(self) -> None:
        """Take over results and marks that have come meanwhile, and what a watcher says."""
        try:
            self._show_watcher()
            changed = self.desk.refresh(self._shared.index)
        except OectflowError as error:
            self.say(str(error), wrong=True)
            return
        if not changed:
            return
        self.head.text = words.heading(self.desk)
        self.controls.set_marks(self.desk.labels())
        self._show_experiments()
        self._show_places()
        self.show_trends()
