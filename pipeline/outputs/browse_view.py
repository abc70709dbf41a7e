"""The widgets of :func:`oectflow.browse`."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING, Any

import ipywidgets

if TYPE_CHECKING:
    from oectflow.pipeline.outputs.browse import Pages

#: Names that the list shows at once.
_MOST_ROWS = 6


class View(ipywidgets.VBox):  # type: ignore[misc] # ipywidgets has no types
    """A list of experiments, sliders, the picture of one step, and the table of its features.

    Parameters
    ----------
    pages
        What there is to see.

    Attributes
    ----------
    experiment, step, cycle
        The list and the sliders; setting ``value`` shows that step.
    next_flagged, next_worst
        Buttons that lead to the next flagged value, and to the next better fit from the worst on.
    zoom
        Shows the step in a figure of ipympl, whose tools zoom and pan.
    message
        What the buttons have found.
    picture
        PNG of the sweep and of the transient.
    table
        Features of the step, as HTML.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        wide = ipywidgets.Layout(width="46em")
        names = list(pages.experiments)
        self.experiment = ipywidgets.Select(
            options=names,
            description="experiment",
            rows=min(len(names), _MOST_ROWS),
            layout=wide,
        )
        self.step = ipywidgets.IntSlider(
            description="step", min=0, max=0, continuous_update=False, layout=wide
        )
        self.cycle = ipywidgets.IntSlider(
            description="cycle", min=0, max=0, continuous_update=False, layout=wide
        )
        self.next_flagged = ipywidgets.Button(description="next flagged")
        self.next_worst = ipywidgets.Button(description="next worst R²")
        there = importlib.util.find_spec("ipympl") is not None
        self.zoom = ipywidgets.ToggleButton(
            description="zoom",
            disabled=not there,
            tooltip="" if there else "needs ipympl: pip install 'oectflow[notebook]'",
        )
        self.message = ipywidgets.Label()
        self.picture = ipywidgets.Image(format="png")
        self._canvas = ipywidgets.VBox()
        self.table = ipywidgets.HTML()
        self._shown: tuple[Any, ...] = ()
        self._moving = False
        self._choose()
        self.experiment.observe(self._choose, "value")
        for slider in (self.step, self.cycle):
            slider.observe(self._show, "value")
        self.zoom.observe(self._show, "value")
        self.next_flagged.on_click(self._to_flagged)
        self.next_worst.on_click(self._to_worst)
        left_out = ipywidgets.HTML(
            f"raw files that cannot be used: {len(pages.unreadable)}" if pages.unreadable else ""
        )
        buttons = ipywidgets.HBox([self.next_flagged, self.next_worst, self.zoom, self.message])
        super().__init__(
            [
                self.experiment, self.step, self.cycle, buttons, left_out,
                self.picture, self._canvas, self.table,
            ]
        )  # fmt: skip

    def _choose(self, _: Any = None) -> None:
        n_steps, n_cycles = self._pages.sizes(self.experiment.value)
        # A lower limit may move a slider, which then shows its step by itself.
        self.step.max, self.cycle.max = n_steps - 1, n_cycles - 1
        self._show()

    def _show(self, _: Any = None) -> None:
        wanted = (*self._at(), self.zoom.value)
        if wanted == self._shown or self._moving:
            return
        self._shown = wanted
        zoomed = self.zoom.value
        self._canvas.children = [_canvas(self._pages.figure(*self._at()))] if zoomed else []
        self.picture.layout.display = "none" if zoomed else None
        if not zoomed:
            self.picture.value = self._pages.picture(*self._at())
        self.table.value = self._pages.table(*self._at())

    def _at(self) -> tuple[str, int, int]:
        return self.experiment.value, self.step.value, self.cycle.value

    def _to_flagged(self, _: Any) -> None:
        place = self._pages.next_flagged(self._at())
        self.message.value = "" if place else "nothing is flagged"
        if place:
            self._go(*place)

    def _to_worst(self, _: Any) -> None:
        found = self._pages.next_worst(self._at())
        self.message.value = found[1] if found else "there are no fits"
        if found:
            self._go(*found[0])

    def _go(self, name: str, step: int, cycle: int) -> None:
        # Drawn once, when all three stand.
        self._moving = True
        try:
            self.experiment.value = name
            self.step.value, self.cycle.value = step, cycle
        finally:
            self._moving = False
        self._show()


def _canvas(figure: Any) -> Any:
    """Return a figure as a widget with tools; nothing is registered with pyplot."""
    from ipympl.backend_nbagg import Canvas, FigureManager

    with warnings.catch_warnings():
        # ipympl hands an argument to traitlets that these do not know.
        warnings.simplefilter("ignore", DeprecationWarning)
        canvas = Canvas(figure)
        return FigureManager(canvas, 0).canvas
