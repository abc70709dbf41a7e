"""Axes that show their figure in a notebook, without pyplot."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.axes import Axes


class ShownAxes(Axes):
    """Axes of a figure unknown to pyplot; a notebook shows them as the last value of a cell."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(ax: Axes, dpi: float = 100) -> bytes:
    """Return the whole figure of some axes as a PNG file."""
    file = io.BytesIO()
    figure: Any = ax.get_figure()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()
