"""How the page looks, by day and by night: colours, style sheets, ticks with SI prefixes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bokeh.models import CustomJSTickFormatter, Div, InlineStyleSheet
from bokeh.plotting import figure

from oectflow.pipeline.outputs.plots.axes import superscript


@dataclass(frozen=True)
class Colours:
    """Colours of one light; those of data are Okabe & Ito's, lighter on a dark ground."""

    ground: str
    text: str
    faint: str
    grid: str
    samples: str
    on: str
    off: str
    wrong: str


DAY = Colours(
    "#ffffff", "#1d2125", "#5b6570", "#e4e7ea", "#7d858c", "#0072B2", "#B86E00", "#C24400"
)
NIGHT = Colours(
    "#16191d", "#e6e8ea", "#a5adb5", "#30363c", "#9aa2aa", "#56B4E9", "#E69F00", "#FF7B3D"
)

_WIDGETS = """
:host { color: inherit; }
.bk-input, .bk-input-group select, select.bk-input, textarea.bk-input {
    background-color: var(--ground); color: var(--text); border-color: var(--line);
}
.bk-input::placeholder { color: var(--faint); opacity: 1; }
.bk-input-group > label, label, .bk-label { color: var(--text); }
.bk-btn { background-color: var(--raised); color: var(--text); border-color: var(--line); }
.bk-btn:hover, .bk-btn:focus { background-color: var(--line); }
.bk-btn.bk-active { background-color: var(--line); }
.bk-input:focus, .bk-btn:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
"""
_TABLES = """
.slick-header-columns, .slick-header-column.ui-state-default, .slick-header {
    background: var(--raised); color: var(--text); border-color: var(--line);
}
.slick-header-column { border-right: 1px solid var(--line); font-weight: 600; }
.slick-row, .slick-cell { background: var(--ground); color: var(--text); }
.slick-cell { border-color: var(--line); padding-left: 5px; }
.slick-row.odd .slick-cell { background: var(--stripe); }
.slick-row .slick-cell.selected, .slick-row.odd .slick-cell.selected {
    background: var(--chosen); color: var(--text);
}
.slick-viewport, .slick-pane { background: var(--ground); }
:host { border: 1px solid var(--line); }
"""


_TEXT = """
:host { color: inherit; }
h1 { font-size: 20px; margin: 0; } h2 { font-size: 17px; margin: 0; } p { margin: 2px 0 6px; }
a { color: var(--accent); }
mark { background: var(--chosen); color: var(--text); padding: 0 5px; border-radius: 3px; }
.wrong { color: var(--wrong); font-weight: 600; }
summary { cursor: pointer; color: var(--faint); }
.features { border-collapse: collapse; width: 100%; font-size: 13px; }
.features th, .features td { text-align: left; padding: 1px 8px 1px 0; }
.features tbody th { font-weight: 400; overflow-wrap: anywhere; }
.features td { white-space: nowrap; }
.watched { border-collapse: collapse; font-size: 13px; }
.watched th, .watched td { text-align: left; padding: 1px 10px 1px 0; vertical-align: top; }
.watched th { font-weight: 400; }
.features tr, .watched tr { border-bottom: 1px solid var(--line); }
"""


def new_text() -> Div:
    """Return a place for words, empty at first."""
    sheet = InlineStyleSheet(css=_TEXT)
    return Div(text="", sizing_mode="stretch_width", stylesheets=[sheet])


def widget_sheet() -> InlineStyleSheet:
    """Return the style of buttons and inputs; colours are variables of the page."""
    return InlineStyleSheet(css=_WIDGETS)


def table_sheet() -> InlineStyleSheet:
    """Return the style of tables."""
    return InlineStyleSheet(css=_TABLES)


def si_ticks(unit: str) -> CustomJSTickFormatter:
    """Return ticks with SI prefixes, ``2.5 mA``; of units that take none, the number alone."""
    return CustomJSTickFormatter(code=_ticks_of(unit))


def _ticks_of(unit: str) -> str:
    # What stands in a result file is text, and never code.
    return f"const unit = {json.dumps(superscript(unit))}\n{_SI}"


_SI = r"""
const prefixed = /^(A|V|S|s|F|Hz|Ω|W|C|J|m)(\/[A-Za-z]+)?$/.test(unit)
const plain = v => String(Number(v.toPrecision(5))).replace('-', '−')
if (!prefixed) return plain(tick)
if (tick === 0) return '0 ' + unit
const largest = Math.max(...ticks.map(Math.abs), Math.abs(tick))
const power = Math.min(3, Math.max(-5, Math.floor(Math.log10(largest) / 3 + 1e-9)))
const prefix = ['f', 'p', 'n', 'µ', 'm', '', 'k', 'M', 'G'][power + 5]
return plain(tick / 10 ** (3 * power)) + ' ' + prefix + unit
"""


def new_figure(title: str, *, height: int, **options: Any) -> Any:
    """Return a figure that is as wide as there is room."""
    plot = figure(title=title, height=height, sizing_mode="stretch_width", min_width=280, **options)
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.title.text_font_size = "13px"
    # Their labels, with units, stand beside one another also on a phone.
    plot.xaxis.ticker.desired_num_ticks = 3
    return plot


def label_axis(axis: Any, words: str, unit: str) -> None:
    """Name an axis; its unit stands in the ticks, or where it takes no prefix behind the name."""
    prefixed = unit.split("/")[0] in ("A", "V", "S", "s", "F", "Hz", "Ω", "ohm", "W", "C", "J", "m")
    axis.axis_label = words if prefixed or not unit else f"{words} ({superscript(unit)})"
    axis.axis_label_text_font_style = "normal"
    if isinstance(axis.formatter, CustomJSTickFormatter):
        # A new one would have Bokeh look through all models of the page.
        axis.formatter.code = _ticks_of(unit)
    else:
        axis.formatter = si_ticks(unit)


def paint(plot: Any, colours: Colours) -> None:
    """Give a figure the colours of a light."""
    plot.background_fill_color = colours.ground
    plot.border_fill_color = colours.ground
    plot.outline_line_color = colours.grid
    plot.title.text_color = colours.text
    for axis in plot.axis:
        axis.axis_label_text_color = colours.text
        axis.major_label_text_color = colours.text
        axis.axis_line_color = colours.faint
        axis.major_tick_line_color = colours.faint
        axis.minor_tick_line_color = None
    for grid in plot.grid:
        grid.grid_line_color = colours.grid
    for legend in plot.legend:
        legend.background_fill_color = colours.ground
        legend.background_fill_alpha = 0.8
        legend.border_line_color = colours.grid
        legend.label_text_color = colours.text
