"""The widgets of :func:`oectflow.browse`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets

if TYPE_CHECKING:
    from oectflow.pipeline.outputs.browse import Pages


class View(ipywidgets.VBox):  # type: ignore[misc] # ipywidgets has no types
    """Sliders, the picture of one step, and the table of its features.

    Parameters
    ----------
    pages
        What there is to see.

    Attributes
    ----------
    experiment, step, cycle
        The sliders; setting ``value`` shows that step.
    picture
        PNG of the sweep and of the transient.
    table
        Features of the step, as HTML.
    """

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        wide = ipywidgets.Layout(width="46em")
        names = list(pages.experiments)
        self.experiment = ipywidgets.SelectionSlider(
            options=names,
            description="experiment",
            continuous_update=False,
            # Ids are longer than the room that sliders have for a value.
            readout=False,
            layout=ipywidgets.Layout(width="38em"),
        )
        self._name = ipywidgets.Label()
        self.step = ipywidgets.IntSlider(
            description="step", min=0, max=0, continuous_update=False, layout=wide
        )
        self.cycle = ipywidgets.IntSlider(
            description="cycle", min=0, max=0, continuous_update=False, layout=wide
        )
        self.picture = ipywidgets.Image(format="png")
        self.table = ipywidgets.HTML()
        self._shown: tuple[Any, ...] = ()
        self._choose()
        self.experiment.observe(self._choose, "value")
        for slider in (self.step, self.cycle):
            slider.observe(self._show, "value")
        left_out = ipywidgets.HTML(
            f"raw files that cannot be used: {len(pages.unreadable)}" if pages.unreadable else ""
        )
        first = ipywidgets.HBox([self.experiment, self._name])
        super().__init__([first, self.step, self.cycle, left_out, self.picture, self.table])

    def _choose(self, _: Any = None) -> None:
        self._name.value = self.experiment.value
        n_steps, n_cycles = self._pages.sizes(self.experiment.value)
        # A lower limit may move a slider, which then shows its step by itself.
        self.step.max, self.cycle.max = n_steps - 1, n_cycles - 1
        self._show()

    def _show(self, _: Any = None) -> None:
        wanted = (self.experiment.value, self.step.value, self.cycle.value)
        if wanted != self._shown:
            self._shown = wanted
            self.picture.value = self._pages.picture(*wanted)
            self.table.value = self._pages.table(*wanted)
