"""One step: its sweep, its trace with fits and residuals, and a window that follows the hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from bokeh.models import BoxAnnotation, ColumnDataSource, Range1d, TapTool
from numpy.typing import NDArray

from oectflow.pipeline.app.step_data import Curve, Trace, curve_of, residuals_of
from oectflow.pipeline.app.views.listen import when
from oectflow.pipeline.app.views.look import Colours, label_axis, new_figure, paint, si_ticks
from oectflow.pipeline.outputs.plots.transfer import Branch
from oectflow.pipeline.outputs.plots.transient import PHASES, Fit

_XY = ("x", "y")
#: Room beside the curves, as a share of their height.
_MARGIN = 0.06


def _source(*names: str) -> ColumnDataSource:
    return ColumnDataSource({name: [] for name in names})


class StepView:
    """The figures of one step.

    Parameters
    ----------
    on_window
        Called with phase, begin and end (s) of a window while it is dragged.
    on_cycle
        Called with the cycle that was clicked.

    Attributes
    ----------
    sweep, other, trace, rest, quality
        Figures: transfer sweep, another kind of measurement, trace, residuals, R² by cycle.
    windows
        The box of each phase.
    """

    def __init__(
        self,
        on_window: Callable[[str, float, float], None],
        on_cycle: Callable[[int], None],
    ) -> None:
        self._on_window, self._on_cycle = on_window, on_cycle
        self._quiet = False
        self._make_sweep()
        self._make_other()
        self._make_trace()
        self._make_quality()
        self.figures = (self.sweep, self.other, self.trace, self.rest, self.quality)

    def _make_sweep(self) -> None:
        plot = new_figure("transfer", height=330, tools="pan,wheel_zoom,box_zoom,reset,hover")
        plot.x_range, plot.y_range = Range1d(0, 1), Range1d(0, 1)
        label_axis(plot.xaxis[0], "gate voltage Vg", "V")
        label_axis(plot.yaxis[0], "drain current Id", "A")
        self._branches = {name: _source(*_XY) for name in ("forward", "reverse")}
        for name, source in self._branches.items():
            dash = "solid" if name == "forward" else "dashed"
            plot.line(*_XY, source=source, line_width=2, line_dash=dash, legend_label=name)
        self._points = {name: _source(*_XY) for name in ("gm max", "Von")}
        for (name, source), marker in zip(
            self._points.items(), ("circle", "triangle"), strict=True
        ):
            plot.scatter(
                *_XY, source=source, marker=marker, size=9, line_width=2, legend_label=name
            )
        _legend_below(plot)
        self.sweep = plot

    def _make_other(self) -> None:
        self.other = new_figure("", height=330, tools="pan,wheel_zoom,box_zoom,reset,hover")
        self._curve = _source(*_XY)
        self.other.line(*_XY, source=self._curve, line_width=2)
        self.other.visible = False

    def _make_trace(self) -> None:
        plot = new_figure(
            "transient", height=330, tools="xpan,xwheel_zoom,box_zoom,reset", name="trace-plot"
        )
        plot.x_range, plot.y_range = Range1d(0, 1), Range1d(0, 1)
        label_axis(plot.yaxis[0], "drain current Id", "A")
        plot.xaxis.major_label_text_font_size = "0px"
        self.samples = _source(*_XY)
        plot.scatter(
            *_XY, source=self.samples, size=4, line_width=0, legend_label="measured", name="samples"
        )
        self.fits = {phase: _source(*_XY) for phase in PHASES}
        self._live = {phase: _source(*_XY) for phase in PHASES}
        self.windows: dict[str, BoxAnnotation] = {}
        for phase in PHASES:
            plot.line(
                *_XY, source=self.fits[phase], line_width=2.5, legend_label=f"fit, {phase}",
                name=phase,
            )  # fmt: skip
            plot.line(
                *_XY,
                source=self._live[phase],
                line_width=2.5,
                line_dash=[6, 3],
                name=f"{phase} by hand",
            )
            box = BoxAnnotation(
                fill_alpha=0.13, line_alpha=0.6, line_width=1, editable=True, resizable="x",
                movable="x", visible=False, name=phase, left=0.0, right=1.0,
            )  # fmt: skip
            for side in ("left", "right"):
                when(box, side, partial(self._dragged, phase))
            plot.add_layout(box)
            self.windows[phase] = box
        _legend_below(plot)
        rest = new_figure("", height=150, tools="", x_range=plot.x_range)
        rest.y_range = Range1d(-1, 1)
        label_axis(rest.xaxis[0], "time from the begin of the step", "s")
        label_axis(rest.yaxis[0], "residual", "A")
        rest.yaxis.ticker.desired_num_ticks = 3
        self.residuals = {phase: _source(*_XY) for phase in PHASES}
        for phase in PHASES:
            rest.scatter(*_XY, source=self.residuals[phase], size=4, line_width=0, name=phase)
        # The axes of both begin at one place.
        plot.min_border_left = rest.min_border_left = 78
        self.trace, self.rest = plot, rest

    def _make_quality(self) -> None:
        plot = new_figure("by cycle: click one to see it", height=150, tools="xpan,reset")
        plot.x_range, plot.y_range = Range1d(-0.5, 1), Range1d(0, 1)
        plot.xaxis.axis_label, plot.yaxis.axis_label = "cycle", "1 − R²"
        for axis in plot.axis:
            axis.axis_label_text_font_style = "normal"
        plot.xaxis.ticker.min_interval = 1
        plot.yaxis.ticker.desired_num_ticks = 3
        plot.yaxis.formatter = si_ticks("")
        self._cycles = {phase: _source("x", "y", "size") for phase in PHASES}
        for phase, source in self._cycles.items():
            plot.scatter("x", "y", source=source, size="size", name=phase, nonselection_alpha=1.0)
            when(source.selected, "indices", partial(self._tapped, source))
        plot.add_tools(TapTool())
        plot.min_border_left = 78
        self.quality = plot

    # -- what is shown

    def show_sweep(self, branches: Sequence[Branch], title: str) -> None:
        """Draw a transfer sweep; without branches the title says why there is none."""
        self.sweep.title.text = title
        for name, source in self._branches.items():
            one = next((branch for branch in branches if branch.direction == name), None)
            source.data = _xy((), ()) if one is None else _xy(one.Vg, one.Id)
        for name, source in self._points.items():
            points = [b.gm_max if name == "gm max" else b.Von for b in branches]
            points = [point for point in points if np.isfinite(point).all()]
            source.data = _xy([point[0] for point in points], [point[1] for point in points])
        _fit_range(self.sweep.x_range, *(b.Vg for b in branches))
        _fit_range(self.sweep.y_range, *(b.Id for b in branches))

    def show_curve(self, curve: Curve | None) -> None:
        """Draw a step of another kind of measurement, where there is one."""
        self.other.visible = curve is not None
        if curve is not None:
            self.other.title.text = curve.kind
            label_axis(self.other.xaxis[0], curve.x_name, curve.x_unit)
            label_axis(self.other.yaxis[0], curve.y_name, curve.y_unit)
            self._curve.data = _xy(curve.x, curve.y)

    def show_trace(
        self, trace: Trace | None, fits: Sequence[Fit], cycle: int, title: str, *, drag: bool
    ) -> None:
        """Draw a cycle of a trace with its fits.

        Parameters
        ----------
        trace
            None where there is none.
        fits
            Those of all cycles.
        cycle
            Which one is shown.
        title
            What stands above.
        drag
            Whether windows may be dragged.
        """
        shown = [fit for fit in fits if fit.cycle == cycle]
        self.trace.title.text = title
        if trace is None:
            self.samples.data = _xy((), ())
        else:
            low, high = trace.span(cycle, shown)
            x, y, every = trace.between(low, high)
            self.samples.data = _xy(x, y)
            if every > 1:
                self.trace.title.text = f"{title}; one of {every} samples is drawn"
            _fit_range(self.trace.x_range, np.array([low, high]))
            _fit_range(self.trace.y_range, y)
        self._quiet = True
        try:
            for phase in PHASES:
                fit = next((fit for fit in shown if fit.phase == phase), None)
                self._show_fit(phase, fit, trace, drag=drag)
                self._live[phase].data = _xy((), ())
        finally:
            self._quiet = False
        self._show_quality(fits, cycle)

    def _show_fit(self, phase: str, fit: Fit | None, trace: Trace | None, *, drag: bool) -> None:
        box = self.windows[phase]
        there = fit is not None and trace is not None and np.isfinite(fit.start)
        box.visible = bool(there and fit is not None and fit.status != "absent")
        box.editable = drag
        self.fits[phase].data = _xy((), ())
        self.residuals[phase].data = _xy((), ())
        if fit is None or trace is None or not box.visible:
            return
        box.left, box.right = float(fit.start), float(fit.start + fit.duration)
        if np.isfinite(fit.tau):
            self.fits[phase].data = _xy(*curve_of(fit))
        self._show_residuals(fit, trace)

    def _show_residuals(self, fit: Fit, trace: Trace) -> None:
        low, high = fit.start, fit.start + fit.duration
        x, y, _ = trace.between(low, high)
        self.residuals[fit.phase].data = _xy(*residuals_of(fit, x, y))
        shown = [np.asarray(source.data["y"]) for source in self.residuals.values()]
        most = max((float(np.abs(y).max()) for y in shown if len(y)), default=0.0) or 1.0
        self.rest.y_range.start, self.rest.y_range.end = -1.2 * most, 1.2 * most

    def show_live(self, fit: Fit, trace: Trace) -> None:
        """Draw the fit of a window that is dragged, beside the one of the results."""
        good = np.isfinite(fit.tau)
        self._live[fit.phase].data = _xy(*curve_of(fit)) if good else _xy((), ())
        self._show_residuals(fit, trace)

    def _show_quality(self, fits: Sequence[Fit], cycle: int) -> None:
        worst = []
        for phase, source in self._cycles.items():
            own = [fit for fit in fits if fit.phase == phase and np.isfinite(fit.r_squared)]
            rest = [max(1.0 - fit.r_squared, 0.0) for fit in own]
            worst += rest
            source.selected.indices = []
            source.data = {
                "x": [fit.cycle for fit in own],
                "y": rest,
                "size": [13 if fit.cycle == cycle else 6 for fit in own],
            }
        n_cycles = max((fit.cycle for fit in fits), default=0) + 1
        self.quality.x_range.start, self.quality.x_range.end = -0.7, n_cycles - 0.3
        self.quality.y_range.start = 0
        self.quality.y_range.end = 1.2 * max(worst, default=0.0) or 1.0
        self.quality.visible = bool(worst)

    def paint(self, colours: Colours) -> None:
        """Give all figures the colours of a light."""
        for plot in self.figures:
            paint(plot, colours)
        for renderer in self.sweep.renderers:
            renderer.glyph.line_color = colours.on
            if hasattr(renderer.glyph, "fill_color"):
                renderer.glyph.fill_color = colours.ground
        self.other.renderers[0].glyph.line_color = colours.on
        by_phase = {"on": colours.on, "off": colours.off}
        for plot in (self.trace, self.rest, self.quality):
            for renderer in plot.renderers:
                colour = by_phase.get((renderer.name or "").split(" ")[0], colours.samples)
                if "by hand" in (renderer.name or ""):
                    colour = colours.wrong
                for part in ("line_color", "fill_color"):
                    if hasattr(renderer.glyph, part):
                        setattr(renderer.glyph, part, colour)
        for phase, box in self.windows.items():
            box.fill_color = box.line_color = by_phase[phase]

    # -- what the browser says

    def _dragged(self, phase: str, _: float) -> None:
        box = self.windows[phase]
        if not self._quiet and box.visible and box.right > box.left:
            self._on_window(phase, float(box.left), float(box.right))

    def _tapped(self, source: ColumnDataSource, chosen: Sequence[int]) -> None:
        if chosen:
            self._on_cycle(int(source.data["x"][chosen[0]]))


def _xy(x: Any, y: Any) -> dict[str, NDArray[np.float64]]:
    return {"x": np.asarray(x, np.float64), "y": np.asarray(y, np.float64)}


def _fit_range(range_: Any, *values: NDArray[np.float64]) -> None:
    """Show all of some numbers."""
    parts = [one[np.isfinite(one)] for one in values if len(one)]
    every = np.concatenate(parts) if parts else np.empty(0)
    if not every.size:
        return
    low, high = float(every.min()), float(every.max())
    room = _MARGIN * (high - low) or abs(high) / 10 or 1.0
    range_.update(start=low - room, end=high + room, reset_start=low - room, reset_end=high + room)


def _legend_below(plot: Any) -> None:
    legend = plot.legend[0]
    plot.add_layout(legend, "below")
    legend.orientation = "horizontal"
    legend.label_text_font_size = "11px"
    legend.spacing, legend.padding, legend.margin = 8, 2, 0
    legend.glyph_width = 16
