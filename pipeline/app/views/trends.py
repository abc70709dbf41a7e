"""A feature over the steps of chosen experiments; a point leads to its step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, TapTool
from numpy.typing import NDArray

from oectflow.pipeline.app.desk import Trend
from oectflow.pipeline.app.summary import Column
from oectflow.pipeline.app.views.listen import when
from oectflow.pipeline.app.views.look import Colours, label_axis, new_figure, paint

#: Experiments of which points are drawn; of all others there are bands.
MOST_EXPERIMENTS = 20
_POINTS = ("step", "value", "experiment", "number", "colour", "fill")


class TrendView:
    """The figure of trends.

    Parameters
    ----------
    on_point
        Called with the number of the experiment and the step that were clicked.
    """

    def __init__(self, on_point: Callable[[int, int], None]) -> None:
        self._on_point = on_point
        self._colours: Colours | None = None
        plot = new_figure("", height=330, tools="pan,wheel_zoom,box_zoom,reset,tap")
        plot.xaxis.axis_label = "step"
        plot.xaxis.axis_label_text_font_style = "normal"
        plot.xaxis.ticker.min_interval = 1
        self._band = ColumnDataSource({"step": [], "low": [], "middle": [], "high": []})
        self._area = plot.varea(
            "step", "low", "high", source=self._band, fill_alpha=0.18,
            legend_label="10 to 90 % of all chosen",
        )  # fmt: skip
        self._middle = plot.line(
            "step", "middle", source=self._band, line_width=2.5, line_dash="dashed",
            legend_label="their median",
        )  # fmt: skip
        self._lines = ColumnDataSource({"xs": [], "ys": [], "colour": []})
        plot.multi_line("xs", "ys", source=self._lines, line_color="colour", line_alpha=0.6)
        self.points = ColumnDataSource({name: [] for name in _POINTS}, name="trend-points")
        self._dots = plot.scatter(
            "step", "value", source=self.points, size=7, line_color="colour", fill_color="fill",
            line_width=1.5, nonselection_alpha=1.0,
        )  # fmt: skip
        tips = [("", "@experiment"), ("step", "@step")]
        plot.add_tools(HoverTool(renderers=[self._dots], tooltips=tips))
        plot.select_one(TapTool).renderers = [self._dots]
        when(self.points.selected, "indices", self._tapped)
        legend = plot.legend[0]
        plot.add_layout(legend, "below")
        legend.orientation = "horizontal"
        legend.label_text_font_size = "11px"
        plot.min_border_left = 78
        self.plot = plot

    def show(
        self,
        column: Column,
        trends: Sequence[Trend],
        names: Sequence[str],
        bands: NDArray[np.float64],
    ) -> None:
        """Draw a column.

        Parameters
        ----------
        column
            Which one.
        trends, names
            Of the experiments whose points are drawn.
        bands
            Percentiles of all chosen experiments, shape (3, n_steps).
        """
        from oectflow.pipeline.outputs.plots.axes import COLOURS

        label_axis(self.plot.yaxis[0], column.name, column.unit)
        low, middle, high = bands
        self._band.data = {
            "step": np.arange(len(middle)), "low": low, "middle": middle, "high": high,
        }  # fmt: skip
        # Yellow and black are not seen on either ground.
        colours = [COLOURS[k % 6] for k in range(len(trends))]
        self._lines.data = {
            "xs": [trend.steps for trend in trends],
            "ys": [trend.values for trend in trends],
            "colour": colours,
        }
        points: dict[str, list[Any]] = {name: [] for name in _POINTS}
        hollow = self._colours.ground if self._colours else "white"
        for trend, name, colour in zip(trends, names, colours, strict=True):
            there = np.flatnonzero(np.isfinite(trend.values))
            points["step"] += trend.steps[there].tolist()
            points["value"] += trend.values[there].tolist()
            points["experiment"] += [name] * len(there)
            points["number"] += [trend.experiment] * len(there)
            points["colour"] += [colour] * len(there)
            points["fill"] += [hollow if trend.flagged[k] else colour for k in there]
        self.points.selected.indices = []
        self.points.data = points

    def paint(self, colours: Colours) -> None:
        """Give the figure the colours of a light."""
        self._colours = colours
        paint(self.plot, colours)
        self._area.glyph.fill_color = colours.samples
        self._middle.glyph.line_color = colours.text

    def _tapped(self, chosen: Sequence[int]) -> None:
        if chosen:
            data = self.points.data
            self._on_point(int(data["number"][chosen[0]]), int(data["step"][chosen[0]]))
