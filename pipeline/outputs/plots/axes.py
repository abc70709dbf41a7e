"""Axes to draw into, colours that all eyes can tell apart, and numbers with SI prefixes."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.extras import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Okabe & Ito (2008), "Color universal design".
BLUE, ORANGE, GREEN, GREY, RED = "#0072B2", "#E69F00", "#009E73", "#999999", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", RED, "#F0E442", "black")

#: Scales span at least this share of the largest value.
_LEAST_SPAN = 0.1

#: Units that take a prefix as they stand, also per something: mV/decade.  The prefix of a squared
#: unit would mean something else.
_PREFIXED = re.compile(r"(A|V|S|s|F|Hz|Ω|W|C|J|m)(/[A-Za-z]+)?")


def need_matplotlib() -> None:
    """Raise an error that says what to install if matplotlib is missing, before data are read.

    Raises
    ------
    OectflowError
        matplotlib is not installed.
    """
    with extra("plot", "a plot"):
        import matplotlib.figure  # noqa: F401


def new_axes(ax: Axes | None, *, width: float = 7.0, height: float = 4.0) -> Axes:
    """Return the given axes, or the axes of a new figure (size in inches)."""
    if ax is not None:
        return ax
    from matplotlib.figure import Figure

    from oectflow.pipeline.outputs.plots.notebook import ShownAxes

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure.add_subplot(axes_class=ShownAxes)


def set_unit(axis: Any, unit: str) -> None:
    """Write the ticks of an axis with SI prefixes, or the unit after the label if none fits."""
    from matplotlib.ticker import EngFormatter, NullFormatter

    if _PREFIXED.fullmatch(unit):
        axis.set_major_formatter(EngFormatter(unit=unit))
        axis.set_minor_formatter(NullFormatter())
        return
    whole_ticks(axis)
    if unit:
        axis.set_label_text(f"{axis.get_label_text()} ({superscript(unit)})")


def whole_ticks(axis: Any) -> None:
    """Write ticks as full numbers, not as differences from an offset such as ``+1``."""
    from matplotlib.ticker import ScalarFormatter

    formatter = axis.get_major_formatter()
    if isinstance(formatter, ScalarFormatter):
        formatter.set_useOffset(False)


def with_prefix(largest: float, unit: str) -> tuple[float, str]:
    """Return one factor and prefixed unit for all numbers up to ``largest``: 1e-3 and ``mV``."""
    if not (_PREFIXED.fullmatch(unit) and largest > 0 and math.isfinite(largest)):
        return 1.0, superscript(unit)
    from matplotlib.ticker import EngFormatter

    known = EngFormatter.ENG_PREFIXES
    exponent = 3 * math.floor(math.log10(largest) / 3)
    exponent = min(max(exponent, min(known)), max(known))
    return 10.0**exponent, f"{known[exponent]}{unit}"


def widened(low: float, high: float, least: float = 0.0) -> tuple[float, float]:
    """Return limits of a scale on which small changes look small.

    Parameters
    ----------
    low, high
        The smallest and the largest value.
    least
        Span that is known to be no real difference, such as the spread of a device's own values.

    Returns
    -------
    The same limits, or limits around them that span at least a tenth of the largest magnitude, and
    ``least``.
    """
    wanted = max(_LEAST_SPAN * max(abs(low), abs(high)), least)
    if high - low >= wanted:
        return low, high
    middle = (low + high) / 2
    return middle - wanted / 2, middle + wanted / 2


def room_for_units(ax: Axes) -> None:
    """Put few ticks on the right axis, so that their units fit between them."""
    ax.locator_params(axis="x", nbins=6)


def count_axis(axis: Any) -> None:
    """Put the ticks of steps, cycles and devices on whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def with_unit(value: float, unit: str, digits: int = 3) -> str:
    """Return a number as text with three digits and an SI prefix: ``8.05 ms``."""
    if not np.isfinite(value):
        return "–"
    # Rounded first: 999.96 is 1.00 thousand.
    rounded = float(f"{value:.{digits - 1}e}")
    if _PREFIXED.fullmatch(unit):
        from matplotlib.ticker import EngFormatter

        places = digits - 1 - math.floor(math.log10(abs(rounded))) % 3 if rounded else 0
        return str(EngFormatter(unit=unit, places=max(places, 0))(rounded))
    text = f"{rounded:#.{digits}g}".rstrip(".") if rounded else "0"
    return f"{text} {superscript(unit)}".strip().replace("-", "−")


def superscript(unit: str) -> str:
    """Return a unit in its printed form: ``A^2`` as A²."""
    return unit.replace("^2", "²").replace("^3", "³").replace("ohm", "Ω")


def literal(text: object) -> str:
    """Return a user's text so that matplotlib does not read it as a formula or a hidden label."""
    words = str(text).replace("$", r"\$")
    return words if not words.startswith("_") else f"\u200b{words}"


def colour_bar(ax: Axes, mappable: Any, label: str, *, unit: str = "", pad: float = 0.02) -> Any:
    """Draw a colour bar beside axes, with SI prefixes."""
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    figure: Any = ax.get_figure()
    bar = figure.colorbar(mappable, ax=ax, label=label, pad=pad)
    if isinstance(mappable.norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    set_unit(bar.ax.yaxis, unit)
    return bar
