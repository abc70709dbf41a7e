"""The page ``/oectflow`` on the Dask dashboard: experiments, throughput and batch sizes.

The client registers the plugin that counts, so every scheduler gets the page, even one that was
already running.  The plugin is sent by value, so the scheduler needs no oectflow.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

import cloudpickle
from distributed import Client, Scheduler, SchedulerPlugin

from oectflow.cluster import counters as counters_module
from oectflow.cluster import dask_internals
from oectflow.cluster.counters import RunCounters

logger = logging.getLogger(__name__)

PAGE = "oectflow"

_UPDATE_MILLISECONDS = 1000
#: Runs that are told about, the last ones.
_RUNS = 3

#: Okabe & Ito's colours, which people with any colour vision tell apart; grey is the rest.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")

#: A word and a sign for each state, so that nothing depends on colour.
STATES = {
    "waiting": "· waiting",
    "running": "▶ running",
    "done": "✓ done",
    "flagged": "⚑ flagged",
    "failed": "✗ failed",
}


class RunPage(SchedulerPlugin):
    """Counts the events of runs in the scheduler, and serves the page.

    Parameters
    ----------
    sources
        Kinds of measurement; the scheduler does not need to know them.
    """

    name = "oectflow-page"
    #: A second client that connects keeps what has been counted.
    idempotent = True

    def __init__(self, sources: tuple[str, ...]) -> None:
        self.counters = RunCounters(sources=sources)

    async def start(self, scheduler: Scheduler) -> None:
        """Called by Dask when the plugin is registered."""
        add_route(scheduler, self.counters)

    def log_event(self, topic: str, msg: Any) -> None:
        """Called by Dask for every event that a worker or client has logged."""
        self.counters.event(topic, msg)


def add_page(client: Client, by_value: bool) -> None:
    """Add the page to the scheduler of a client, unless it is already there.

    A scheduler without a dashboard, or with another version of Python, gets no page.

    Parameters
    ----------
    client
        Connected.
    by_value
        Whether the scheduler can run byte code of this Python.
    """
    if not by_value:
        logger.info("no page /%s: the scheduler runs another version of Python", PAGE)
        return
    # Not at the top: this module goes to schedulers without oectflow.
    from oectflow.measurement import kinds

    modules = (counters_module, dask_internals, __import__(__name__, fromlist=["*"]))
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        client.register_plugin(RunPage(tuple(kinds())))
    except Exception as error:  # noqa: BLE001 - a run needs no page, whatever the scheduler says
        logger.info("no page /%s: %s", PAGE, error)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def add_route(scheduler: Scheduler, counters: RunCounters) -> None:
    """Serve the page beside the pages of Dask, and add it to their menu."""
    pages = dask_internals.dashboard_pages(scheduler)
    if not pages or any(path.endswith(f"/{PAGE}") for app in pages for path in app.app_paths):
        return

    def fill(doc: Any) -> Callable[[], None]:
        page = Page(counters)
        page.update()
        doc.title = "oectflow"
        doc.add_root(page.root)
        return page.update

    dask_internals.new_page(scheduler, PAGE, fill, _UPDATE_MILLISECONDS)


class Page:
    """The page of one visitor.

    Parameters
    ----------
    counters
        Counters to show.
    """

    def __init__(self, counters: RunCounters) -> None:
        from bokeh.layouts import column, row
        from bokeh.models import ColumnDataSource, Div

        self.counters = counters
        self.summary = Div(sizing_mode="stretch_width", styles={"font-size": "14px"})
        self.rows = ColumnDataSource({name: [] for name, *_ in _COLUMNS})
        self.rates = ColumnDataSource({"time": []})
        self.dots = {
            source: ColumnDataSource({n: [] for n in ("time", "n_steps", "seconds", "features")})
            for source in counters.sources
        }
        self.throughput = self._throughput()
        self._shown: list[str] = []
        self.root = column(
            self.summary,
            row(self.throughput, self._batch_sizes(), sizing_mode="stretch_width"),
            self._table(),
            sizing_mode="stretch_width",
        )

    def update(self) -> None:
        """Show the present state."""
        counters = self.counters
        begins, rates = counters.throughput(len(COLOURS) - 1)
        now = sum(series[-1] for series in rates.values()) if begins else 0.0
        lines = [self._line(run) for run in reversed(counters.runs)][:_RUNS]
        lines = lines or ["No run has begun on this cluster."]
        rate = f"<b>{now:,.0f}</b> steps per second, each feature of a step counted."
        self.summary.text = "<br>".join([*lines, rate])
        self.rows.data = {
            name: [value(row) for row in counters.newest_first()] for name, _, _, value in _COLUMNS
        }
        for source, dots in self.dots.items():
            chosen = [dot for dot in counters.dots if dot.source == source]
            dots.data = {
                "time": [1e3 * dot.ended for dot in chosen],
                "n_steps": [dot.n_steps for dot in chosen],
                "seconds": [dot.seconds for dot in chosen],
                "features": [dot.features for dot in chosen],
            }
        if list(rates) != self._shown:
            self._name_features(list(rates))
        half = counters.bin_seconds / 2
        self.rates.data = {"time": [1e3 * (t + half) for t in begins], **rates}

    def _line(self, run: str) -> str:
        """Say how a run stands."""
        totals = self.counters.runs[run]
        n_open, n_over = self.counters.n_open(run), totals.outcomes.total()
        waiting = totals.n_experiments - n_open - n_over
        words = [
            f"<b>{totals.outcomes[word]:,}</b> {word}" for word in ("done", "flagged", "failed")
        ]
        words.append(f"<b>{n_open:,}</b> given to workers")
        words += [f"<b>{waiting:,}</b> not yet"] if waiting > 0 else []
        of = f" of {totals.n_steps:,}" if totals.n_steps else ""
        return (
            f"Run {run}: <b>{max(totals.n_experiments, n_open + n_over):,}</b> experiments: "
            f"{', '.join(words)}. Steps: <b>{self.counters.steps_done(run):,}</b>{of} computed, "
            f"<b>{totals.n_errors:,}</b> errors."
        )

    def _throughput(self) -> Any:
        from bokeh.models import Legend

        plot = _figure("Steps per second, by feature", "steps / s")
        plot.y_range.start = 0
        plot.add_layout(Legend(label_text_font_size="11px", spacing=0), "right")
        return plot

    def _name_features(self, names: list[str]) -> None:
        """Draw the bars anew: one feature more, or another order."""
        self.throughput.renderers = []
        self.throughput.legend[0].items = []
        self.rates.data = {"time": [], **{name: [] for name in names}}
        if names:
            self.throughput.vbar_stack(
                names,
                x="time",
                width=1e3 * self.counters.bin_seconds,
                line_width=0,
                source=self.rates,
                color=COLOURS[: len(names)],
                legend_label=names,
                fill_alpha=0.9,
            )
            # The first in the legend is the one on top.
            self.throughput.legend[0].items = self.throughput.legend[0].items[::-1]
        self._shown = names

    def _batch_sizes(self) -> Any:
        from bokeh.models import HoverTool

        plot = _figure("Batch sizes in use", "steps per batch", y_axis_type="log")
        marks = itertools.cycle(("triangle", "square", "circle", "diamond"))
        colours = itertools.cycle(COLOURS)
        for mark, colour, (source, dots) in zip(marks, colours, self.dots.items(), strict=False):
            plot.scatter(
                x="time",
                y="n_steps",
                source=dots,
                marker=mark,
                size=7,
                fill_alpha=0.6,
                line_alpha=0.8,
                color=colour,
                legend_label=source,
            )
        plot.add_layout(plot.legend[0], "right")
        # The largest batches all have the same size, and must not be cut by the frame.
        plot.y_range.range_padding = 0.2
        tips = [("batch", "@n_steps steps, @seconds{0.000} s"), ("features", "@features")]
        plot.add_tools(HoverTool(tooltips=tips))
        return plot

    def _table(self) -> Any:
        from bokeh.models import (
            CustomJS,
            DataTable,
            HTMLTemplateFormatter,
            NumberFormatter,
            TableColumn,
        )

        bar = HTMLTemplateFormatter(
            template='<div title="<%= value %> %" style="background:linear-gradient(to right,'
            '#56B4E9 <%= value %>%,#eeeeee <%= value %>%);padding-left:4px"><%= value %> %</div>'
        )
        formatters = {
            "text": HTMLTemplateFormatter(
                template="<span title='<%- value %>'><%- value %></span>"
            ),
            "bar": bar,
            "count": NumberFormatter(format="0,0", text_align="right"),
            "decimal": NumberFormatter(format="0,0.00", text_align="right"),
        }
        columns = [
            TableColumn(
                field=name,
                title=name,
                formatter=formatters[kind],
                width=width,
            )
            for name, kind, width, _ in _COLUMNS
        ]
        table = DataTable(
            source=self.rows,
            columns=columns,
            index_position=None,
            height=420,
            sizing_mode="stretch_width",
        )
        # Bokeh draws a table anew only where the number of its rows is another one.
        self.rows.js_on_change(
            "data", CustomJS(args={"view": table.view}, code="view.change.emit()")
        )
        return table


def _figure(title: str, unit: str, **options: Any) -> Any:
    from bokeh.plotting import figure

    plot = figure(
        title=title,
        x_axis_type="datetime",
        height=280,
        sizing_mode="stretch_width",
        tools="xpan,xwheel_zoom,reset",
        **options,
    )
    plot.xaxis.axis_label = "time (UTC)"
    plot.yaxis.axis_label = unit
    return plot


#: Title (also the field's name), how it looks, its width, and its value.
_COLUMNS: tuple[tuple[str, str, int, Any], ...] = (
    ("experiment", "text", 220, lambda row: row.experiment_id),
    ("run", "text", 80, lambda row: row.run),
    ("state", "text", 80, lambda row: STATES.get(row.state, row.state)),
    (
        "progress",
        "bar",
        90,
        lambda row: row.per_cent,
    ),
    ("steps done", "count", 80, lambda row: int(row.steps_done)),
    ("steps", "count", 70, lambda row: row.n_steps),
    ("flagged", "count", 70, lambda row: row.n_flagged),
    ("failed", "count", 70, lambda row: row.n_failed),
    ("errors", "count", 70, lambda row: row.n_errors),
    ("compute (s)", "decimal", 90, lambda row: row.seconds),
    ("computed (MB)", "decimal", 90, lambda row: row.bytes_computed / 1e6),
    ("written (MB)", "decimal", 90, lambda row: row.bytes_written / 1e6),
)
