"""The worst fits of a device: where to look first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from oectflow.pipeline.outputs.html.pictures import Picture, small_pictures
from oectflow.pipeline.outputs.plots.axes import BLUE, GREY, ORANGE, RED, with_prefix
from oectflow.pipeline.outputs.plots.transient import Fit, read_fits
from oectflow.pipeline.outputs.trouble import GOOD

if TYPE_CHECKING:
    import xarray as xr

    from oectflow.pipeline.inputs.experiment import Experiment

#: Fits that are shown of a device.
N_WORST = 10
#: Samples that are drawn of a fit, and what is seen beside its window, as a share of it.
_MOST_SAMPLES = 400
_BESIDE = 0.15
_COLOURS = {"on": BLUE, "off": ORANGE}


class Worst(NamedTuple):
    """A fit with a small R², and where it is."""

    step: int
    cycle: int
    phase: str
    status: str
    r_squared: float

    def __str__(self) -> str:
        word = "" if self.status in GOOD else f", {self.status}"
        place = f"step {self.step}, cycle {self.cycle}, {self.phase}"
        return f"{place}: R² {self.r_squared:.4f}{word}"


def worst_fits(one: xr.Dataset, fitted: str) -> list[Worst]:
    """Return the fits of one experiment with a value and the lowest R², the worst first.

    Fits without a value are counted as flags instead.  Fits marked as bad are left out.
    """
    name = f"{fitted}_r_squared"
    if name not in one or fitted not in one:
        return []
    order = ("step", "cycle", "phase")
    values = one[name].transpose(*order).values.astype(np.float64)
    words = one[f"{fitted}_status"].transpose(*order).values
    there = np.isfinite(values) & np.isfinite(one[fitted].transpose(*order).values)
    flat = np.where(there, values, np.inf).ravel()
    n = min(N_WORST, int(np.isfinite(flat).sum()))
    # Of 5,000 steps a full sort would take longer than all else.
    least = np.argpartition(flat, n - 1)[:n] if n else np.empty(0, int)
    phases = [str(phase) for phase in one["phase"].values]
    found = []
    for place in least[np.argsort(flat[least], kind="stable")].tolist():
        step, cycle, phase = (int(k) for k in np.unravel_index(place, values.shape))
        status = str(words[step, cycle, phase])
        found.append(Worst(step, cycle, phases[phase], status, float(flat[place])))
    return found


def of_worst(
    experiment: Experiment, one: xr.Dataset, fitted: str, worst: Sequence[Worst]
) -> Iterator[Picture]:
    """Draw fits of one experiment, each in a separate small picture."""
    name = experiment.experiment_id
    n_steps = experiment.n_steps("transient")
    drawn = [fit for fit in worst if fit.step < n_steps]

    def draw(ax: Any, place: Worst) -> None:
        fits = read_fits(one, name, place.step, fitted, [place.cycle])
        fit = next(fit for fit in fits if fit.phase == place.phase)
        interval = float(one["sampling_interval"].isel(step=place.step))
        current = experiment.step("transient", place.step)["drain_current"]
        _draw_fit(ax, fit, place, current, interval)

    alts = [f"Fit of {name}, {place}: drain current against time" for place in drawn]
    yield from small_pictures(drawn, draw, alts)


def _draw_fit(ax: Any, fit: Fit, place: Worst, current: Any, interval: float) -> None:
    title = f"step {place.step}, cycle {place.cycle}, {place.phase}: R² {place.r_squared:.4f}"
    good = place.status in GOOD
    # From the left edge of the picture on, where a step has four digits.
    ax.set_title(title, fontsize="small", loc="left", x=-0.28, color="black" if good else RED)
    if not (interval > 0 and np.isfinite(fit.start) and fit.duration > 0):
        ax.set_axis_off()
        return
    beside = _BESIDE * fit.duration
    first = max(0, round((fit.start - beside) / interval))
    last = min(len(current), round((fit.start + fit.duration + beside) / interval) + 1)
    time = np.arange(first, last) * interval - fit.start
    shown = np.asarray(current[first:last], np.float64)
    thin = max(1, len(time) // _MOST_SAMPLES)
    largest = float(np.nanmax(np.abs(shown), initial=0.0))
    factor, unit = with_prefix(largest, "A")
    per, of_time = with_prefix(fit.duration, "s")
    ax.plot(time[::thin] / per, shown[::thin] / factor, ".", color=GREY, markersize=2)
    ax.axvspan(0, fit.duration / per, color=_COLOURS[fit.phase], alpha=0.12, linewidth=0)
    t = np.linspace(0.0, fit.duration, 100)
    ax.plot(t / per, fit.current(t) / factor, color=_COLOURS[fit.phase], linewidth=1.5)
    ax.tick_params(labelsize="small")
    ax.locator_params(axis="both", nbins=4)
    ax.set_xlabel(f"time ({of_time})", fontsize="small", labelpad=1)
    # In the corner in which there is no current.
    rises = fit.current(t[-1:])[0] > fit.current(t[:1])[0]
    ax.text(
        0.97, 0.05 if rises else 0.95, unit if good else f"{place.status}\n{unit}",
        transform=ax.transAxes, ha="right", va="bottom" if rises else "top", fontsize="x-small",
        color="black" if good else RED,
    )  # fmt: skip
