"""Many devices, or a whole run, in one picture."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from oectflow.errors import OectflowError
from oectflow.pipeline.outputs.plots.axes import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    colour_bar,
    literal,
    need_matplotlib,
    new_axes,
    set_unit,
    widened,
    with_prefix,
    with_unit,
)
from oectflow.pipeline.outputs.plots.choose import choose

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_OUTCOMES = {"done": BLUE, "flagged": ORANGE, "failed": RED}
#: Rows between two chips, in rows of devices.
_GAP = 0.25
#: Tiles side by side, unless the caller wants more.
_MOST_COLUMNS = 12
#: Of more rows than this each is low, with its words in one line.
_MOST_HIGH_ROWS = 16
#: Characters of a line that fit into a tile.
_WIDTH_OF_TILE = 9
#: Colours are on a logarithmic scale where the values span more than this factor.
_DECADE = 10


class Record(Protocol):
    """The part of an experiment's record in a run that a picture needs."""

    experiment_id: str
    outcome: str
    n_steps: int
    finished: float


class Run(Protocol):
    """The part of a run's report that a picture needs."""

    @property
    def experiments(self) -> Sequence[Any]:
        """A record for each experiment."""

    @property
    def seconds(self) -> float:
        """Wall time of the run."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of experiments by outcome."""


class Tile(NamedTuple):
    """A device on the map of a chip: its place, its values and whether one is flagged.

    Attributes
    ----------
    value, deviation, n
        Median, standard deviation (NaN for fewer than two values) and number of its values.
    """

    chip: str
    device: str
    row: float
    column: int
    value: float
    deviation: float
    n: int
    flagged: bool

    def words(self, unit: str, *, low: bool) -> str:
        """Return the text of the tile; in one line if rows are low."""
        name, value = f"device {literal(self.device)}", with_unit(self.value, unit)
        if low or not self.n:
            return (": " if low else "\n").join((name, value))
        factor, _ = with_prefix(abs(float(f"{self.value:.2e}")), unit)
        # In the unit of the line above.
        error = [f"± {with_unit(self.deviation / factor, '', 2)}"] if self.n > 1 else []
        return "\n".join((name, value, *error, f"n = {self.n:,}"))


def plot_chip(
    results: xr.Dataset,
    feature: str,
    ax: Axes | None = None,
    *,
    columns: int | None = None,
    **selection: Any,
) -> Axes:
    """Draw a map of chips: one tile per device, coloured by a feature.

    Parameters
    ----------
    results
        Results of the devices.
    feature
        Name of a variable.
    ax
        Where to draw; by default a new figure.
    columns
        Number of tiles side by side.  The devices of a chip fill row after row, in the order of
        their numbers.  By default, the largest chip fits in one row, or a single chip makes a
        square; at most twelve.
    selection
        Entries along axes, such as ``phase="on"`` or ``step=0``.  The tile is the median over the
        remaining steps and cycles, and over repeated experiments of a device.

    Returns
    -------
    The axes.  A tile shows device, median, standard deviation and number of values (with more than
    16 rows, only device and median).  A dot in its corner means that one of its values has a status
    word other than ``ok`` and ``absent``.  The colours span at least a tenth of the largest value,
    and at least the spread within a device, so devices that hardly differ look alike.

    Raises
    ------
    OutputError
        There is no such variable or entry, or you must choose one entry of an axis.
    """
    need_matplotlib()
    chosen = choose(results, feature, selection)
    tiles, chips = _tiles(chosen.values, chosen.flagged, columns)
    n_rows = max(tile.row for tile in tiles) + 1
    n_columns = max(tile.column for tile in tiles) + 1
    low = n_rows > _MOST_HIGH_ROWS
    height = (0.3 if low else 0.85) * max(n_rows, 2)
    ax = new_axes(ax, width=2.2 + 0.95 * max(n_columns, 3), height=1.0 + height)
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Rectangle

    numbers = np.array([tile.value for tile in tiles])
    finite = numbers[np.isfinite(numbers)]
    scale: Any = Normalize(0, 1)
    if finite.size:
        # One standard deviation to either side.
        own = 2 * _median(np.array([tile.deviation for tile in tiles]))
        scale = Normalize(*widened(finite.min(), finite.max(), own if own > 0 else 0.0))
    if finite.size and finite.min() > 0 and finite.max() > _DECADE * finite.min():
        scale = LogNorm(finite.min(), finite.max())
    map_: Any = ScalarMappable(scale, "viridis")
    words = [tile.words(chosen.unit, low=low) for tile in tiles]
    longest = max(len(line) for text in words for line in text.split("\n"))
    size = 5.8 if low else min(8.3, 8.3 * _WIDTH_OF_TILE / longest)
    for tile, text in zip(tiles, words, strict=True):
        known = math.isfinite(tile.value)
        colour = map_.to_rgba(tile.value) if known else "#dddddd"
        ax.add_patch(Rectangle((tile.column - 0.46, tile.row - 0.44), 0.92, 0.88, facecolor=colour))
        # Relative luminance (ITU-R BT.709): dark words on light tiles.
        light = not known or float(np.dot(colour[:3], (0.2126, 0.7152, 0.0722))) > 0.4
        ax.text(
            tile.column,
            tile.row,
            text,
            ha="center",
            va="center",
            fontsize=size,
            color="black" if light else "white",
        )
        if tile.flagged:
            ax.plot(tile.column + 0.4, tile.row - 0.36, "o", color=RED, mec="white", markersize=6)
    ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(n_rows - 0.5, -0.5))
    ax.set_xticks([])
    ax.set_yticks(list(chips.values()), [literal(chip) for chip in chips])
    ax.tick_params(left=False)
    ax.spines[:].set_visible(False)
    ax.set_title(chosen.description, fontsize="medium", wrap=True)
    notes = []
    if not low and any(tile.n > 1 for tile in tiles):
        notes.append("median ± standard deviation of the n values of a device")
    if any(tile.flagged for tile in tiles):
        notes.append("dot: some values flagged")
    ax.set_xlabel("\n".join(notes), fontsize="small")
    colour_bar(ax, map_, chosen.label, unit=chosen.unit)
    return ax


def plot_run(report: Run, ax: Axes | None = None) -> Axes:
    """Draw the throughput of a run over time, and what failed.

    Parameters
    ----------
    report
        The report that :func:`oectflow.extract` returned.
    ax
        Where to draw; by default a new figure.

    Returns
    -------
    The axes: steps written per second, by the outcome of their experiment, against seconds since
    the start of the run.  The right axis shows all steps written until then.  Experiments that
    failed before they began, and those unchanged since an earlier run, are only in the title.

    Raises
    ------
    OectflowError
        The run did not write anything.
    """
    need_matplotlib()
    records: list[Record] = [
        record for record in report.experiments if math.isfinite(record.finished)
    ]
    if not records:
        raise OectflowError("the run wrote nothing, so there is no throughput to draw")
    ax = new_axes(ax)
    finished = np.array([record.finished for record in records])
    steps = np.array([record.n_steps for record in records])
    edges = np.linspace(0, max(report.seconds, finished.max()), min(40, len(records)) + 1)
    width = edges[1] - edges[0]
    below = np.zeros(len(edges) - 1)
    for outcome, colour in _OUTCOMES.items():
        chosen = np.array([record.outcome == outcome for record in records])
        if not chosen.any():
            continue
        rate = np.histogram(finished[chosen], edges, weights=steps[chosen])[0] / width
        ax.bar(
            edges[:-1], rate, width, bottom=below, align="edge", color=colour, alpha=0.75,
            label=f"{outcome} ({chosen.sum()})",
        )  # fmt: skip
        below += rate
    order = np.argsort(finished)
    total = ax.twinx()
    total.step(
        np.r_[0, finished[order]],
        np.r_[0, np.cumsum(steps[order])],
        where="post",
        color=GREY,
        linewidth=1.5,
    )
    total.set_ylabel("steps written (line)")
    total.set_ylim(bottom=0)
    words = ", ".join(f"{n} {word}" for word, n in sorted(report.counts.items()))
    ax.set_title(
        f"{len(report.experiments)} experiments: {words}; "
        f"{steps.sum():,} steps in {with_unit(report.seconds, 's')}",
        fontsize="medium",
        wrap=True,
    )
    ax.set(xlabel="time since the run began", ylabel="steps per second")
    set_unit(ax.xaxis, "s")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    return ax


def _tiles(
    values: xr.DataArray, flagged: xr.DataArray, columns: int | None
) -> tuple[list[Tile], dict[str, float]]:
    """Return the tiles, and the middle row of each chip."""
    devices: dict[str, dict[str, list[int]]] = {}
    for i in range(values.sizes["experiment"]):
        chip = str(values["chip_id"].values[i]) or "no chip"
        device = str(values["device_id"].values[i]) or str(values["experiment"].values[i])
        devices.setdefault(chip, {}).setdefault(device, []).append(i)
    most = max(len(chip) for chip in devices.values())
    if columns is None:
        columns = most if len(devices) > 1 else math.ceil(math.sqrt(most))
        columns = min(columns, _MOST_COLUMNS)
    tiles, middles = [], {}
    top = 0.0
    for chip in sorted(devices, key=_natural):
        for k, device in enumerate(sorted(devices[chip], key=_natural)):
            which = devices[chip][device]
            own = values.isel(experiment=which).values.astype(np.float64)
            own = own[np.isfinite(own)]
            row, column = divmod(k, columns)
            tiles.append(
                Tile(
                    chip,
                    device,
                    top + row,
                    column,
                    _median(own),
                    float(np.std(own, ddof=1)) if own.size > 1 else math.nan,
                    own.size,
                    bool(flagged.isel(experiment=which).any()),
                )
            )
        n_rows = -(-len(devices[chip]) // columns)
        middles[chip] = top + (n_rows - 1) / 2
        top += n_rows + _GAP
    return tiles, middles


def _median(values: NDArray[Any]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort device 10 behind device 9."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]
