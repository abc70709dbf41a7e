"""Look through experiments in a notebook by name, step and cycle, or from flag to flag."""

from __future__ import annotations

import os
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.errors import OectflowError, OutputError
from oectflow.extras import extra
from oectflow.pipeline.inputs.find import Experiments, open_experiments
from oectflow.pipeline.outputs.plots import plot_curves, plot_transfer, plot_transient
from oectflow.pipeline.outputs.plots.axes import need_matplotlib, with_unit
from oectflow.pipeline.outputs.plots.choose import one_experiment, with_experiments
from oectflow.pipeline.outputs.trouble import GOOD

if TYPE_CHECKING:
    import xarray as xr

#: Experiment, step and cycle.
At = tuple[str, int, int]
#: Fits among which the worst ones are looked through.
_MOST_WORST = 1000


def browse(raw: Experiments, results: Any, *, feature: str = "tau") -> Any:
    """Show experiments one step at a time: sweep, transient with fits, and every feature.

    Parameters
    ----------
    raw
        Folder of raw files, one file, an Experiment, or several of them.
    results
        A Dataset from :func:`oectflow.open_results`, or the folder of results.
    feature
        Name of the feature computed by ``transient.tau_on_off`` whose fits are drawn.

    Returns
    -------
    An ipywidgets ``VBox``, shown as the last value of a notebook cell.  Its widgets ``experiment``,
    ``step`` and ``cycle`` may also be set by code; ``picture`` holds the PNG, ``table`` the
    features of the step.  The button ``next_flagged`` leads to the next value with a status word
    other than ``ok`` and ``absent``.  The button ``next_worst`` starts at the fit with the lowest
    R² and leads to the next better one.  If ipympl is installed, ``zoom`` shows the step with its
    tools for zooming and panning.

    Raises
    ------
    OectflowError
        ipywidgets or matplotlib is not installed.
    InputError
        No raw file can be used.
    OutputError
        None of the experiments is among the results.
    """
    need_matplotlib()
    with extra("notebook", "browse"):
        from oectflow.pipeline.outputs.browse_view import View
    return View(Pages(raw, results, feature))


class Pages:
    """The experiments to look at: those that have both a raw file and results.

    Parameters
    ----------
    raw, results, feature
        As in :func:`browse`.

    Attributes
    ----------
    experiments
        By experiment id, in the order of the results.
    results
        All results.
    unreadable
        Raw files that were left out, and why.
    """

    def __init__(self, raw: Experiments, results: Any, feature: str) -> None:
        if isinstance(results, str | os.PathLike):
            from oectflow.pipeline.outputs.results import open_results

            results = open_results(results)
        self.results: xr.Dataset = with_experiments(results)
        found, self.unreadable = open_experiments(raw)
        names = [str(name) for name in self.results["experiment"].values]
        self.experiments = {name: found[name] for name in names if name in found}
        if not self.experiments:
            raise OutputError(
                f"none of the {len(found)} raw experiments is among the {len(names)} results; "
                f"the first are {next(iter(found))!r} and {names[0]!r}"
            )
        self.feature = feature
        self._worst: list[tuple[float, At]] | None = None
        self._rank = -1

    def next_flagged(self, at: At) -> At | None:
        """Return the place of the next flagged value; after the last, the first; None without any.

        Parameters
        ----------
        at
            Experiment, step and cycle that are shown.
        """
        names = list(self.experiments)
        here = names.index(at[0])
        # The experiment that is shown comes first, and once more for what is before.
        for turn, name in enumerate([*names[here:], *names[: here + 1]]):
            places = self._flagged(name)
            if turn == 0:
                places = [place for place in places if place > at[1:]]
            if places:
                return name, *places[0]
        return None

    def next_worst(self, at: At) -> tuple[At, str] | None:
        """Return the place of the fit with the next better R² and a line on it; None without fits.

        Parameters
        ----------
        at
            Experiment, step and cycle that are shown.  If this is not the fit that was found last,
            the worst of all is next.
        """
        if self._worst is None:
            self._worst = self._find_worst()
        if not self._worst:
            return None
        goes_on = self._rank >= 0 and self._worst[self._rank][1] == at
        self._rank = (self._rank + 1) % len(self._worst) if goes_on else 0
        r_squared, place = self._worst[self._rank]
        return place, f"R² {r_squared:.4f}, number {self._rank + 1} from the worst"

    def _flagged(self, name: str) -> list[tuple[int, int]]:
        """Return steps and cycles of an experiment with a flagged value, in their order."""
        one = one_experiment(self.results, name)
        found: set[tuple[int, int]] = set()
        for key, variable in one.data_vars.items():
            if not str(key).endswith("_status"):
                continue
            flagged = ~variable.load().isin(GOOD)
            others = [dim for dim in flagged.dims if dim not in ("step", "cycle")]
            flagged = flagged.any(others)
            if "cycle" in flagged.dims:
                where = flagged.transpose("step", "cycle").values
                found.update(zip(*map(np.ndarray.tolist, np.nonzero(where)), strict=True))
            else:
                found.update((step, 0) for step in np.flatnonzero(flagged.values).tolist())
        n_steps, n_cycles = self.sizes(name)
        return sorted({(s, min(c, n_cycles - 1)) for s, c in found if s < n_steps})

    def _find_worst(self) -> list[tuple[float, At]]:
        """Return the cycles with the worst fits: the least R² of their phases, the worst first."""
        name = f"{self.feature}_r_squared"
        if name not in self.results:
            return []
        found: list[tuple[float, At]] = []
        # One experiment at a time: all of them may be more than fits into memory.
        for experiment in self.experiments:
            values = one_experiment(self.results, experiment)[name].load()
            least = values.min("phase").transpose("step", "cycle").values.astype(np.float64)
            flat = least.ravel()
            order = np.argsort(flat)[:_MOST_WORST]
            found += [
                (float(flat[i]), (experiment, *divmod(i, least.shape[1])))
                for i in order[np.isfinite(flat[order])].tolist()
            ]
        return sorted(found)[:_MOST_WORST]

    def sizes(self, name: str) -> tuple[int, int]:
        """Return the numbers of steps and gate cycles of an experiment, each at least 1."""
        experiment = self.experiments[name]
        n_steps = max((experiment.n_steps(source) for source in experiment.sources), default=0)
        if self.feature not in self.results:
            return max(1, n_steps), 1
        one = one_experiment(self.results, name)
        status = one[f"{self.feature}_status"]
        present = (status != "absent").any([dim for dim in status.dims if dim != "cycle"])
        used = np.flatnonzero(present.values)
        return max(1, n_steps), int(used[-1]) + 1 if len(used) else 1

    def picture(self, name: str, step: int, cycle: int) -> bytes:
        """Return sweep and transient of one step as PNG."""
        import io

        file = io.BytesIO()
        self.figure(name, step, cycle).savefig(file, format="png", dpi=90)
        return file.getvalue()

    def figure(self, name: str, step: int, cycle: int) -> Any:
        """Return sweep and transient of one step as a figure."""
        from matplotlib.figure import Figure

        experiment = self.experiments[name]
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        others = [name for name in experiment.sources if name not in ("transfer", "transient")]
        left, right, *rest = figure.subplots(
            1, 2 + len(others), width_ratios=(1, 1.25, *[1] * len(others))
        )
        for ax, source in zip(rest, others, strict=True):
            if step < experiment.n_steps(source):
                plot_curves(experiment, source, ax, steps=[step])
            else:
                _say(ax, f"no {source} step {step}")
        if step < experiment.n_steps("transfer"):
            plot_transfer(experiment, left, steps=[step])
            left.set_title(f"transfer, step {step}", fontsize="medium")
        else:
            _say(left, f"no transfer step {step}")
        if step >= experiment.n_steps("transient"):
            _say(right, f"no transient step {step}")
        elif self.feature not in self.results:
            _say(right, f"no feature {self.feature!r} in these results")
        else:
            try:
                plot_transient(
                    experiment, self.results, step, right, feature=self.feature, cycles=[cycle]
                )
                right.set_title(f"transient, step {step}, cycle {cycle}", fontsize="medium")
            except OectflowError as error:
                _say(right, str(error))
        return figure

    def table(self, name: str, step: int, cycle: int) -> str:
        """Return the features of one step, those per cycle of one cycle, as an HTML table."""
        one = one_experiment(self.results, name).isel(step=step)
        features = [
            str(key)
            for key, variable in one.data_vars.items()
            if variable.attrs.get("feature") == key and f"{key}_status" in one
        ]
        r_squared = f"{self.feature}_r_squared" if self.feature in features else ""
        wanted = [key for name in features for key in (name, f"{name}_status")]
        one = one[wanted + [r_squared] * (r_squared in one)]
        r_squared = r_squared if r_squared in one else ""
        if "cycle" in one.dims:
            one = one.isel(cycle=min(cycle, one.sizes["cycle"] - 1))
        one = one.load()
        rows = "".join(_rows(one[key], one[f"{key}_status"], key) for key in features)
        if r_squared:
            rows += _rows(one[r_squared], one[f"{self.feature}_status"], f"R² of {self.feature}")
        return (
            "<table><thead><tr><th>feature<th>value<th>status</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def _rows(value: xr.DataArray, status: xr.DataArray, name: str) -> str:
    """Return a table row for every number of a feature."""
    labels = [dim for dim in value.dims if dim in value.coords]
    flat = value.stack(entry=labels) if labels else value.expand_dims("entry")
    words = status.broadcast_like(value)
    words = words.stack(entry=labels) if labels else words.expand_dims("entry")
    unit = str(value.attrs.get("units", ""))
    rows = []
    for i in range(flat.sizes["entry"]):
        one, word = flat.isel(entry=i), str(words.isel(entry=i).item())
        entry = " ".join(str(one[dim].item()) for dim in labels)
        # Of a point (Vg, Id) each entry has a unit of its own.
        units = unit.split(", ")
        own = units[i] if len(units) == flat.sizes["entry"] else unit
        shown = escape(with_unit(float(one), own))
        bold = f"<b>{escape(word)}</b>" if word not in GOOD else escape(word)
        rows.append(f"<tr><td>{escape(f'{name} {entry}')}<td>{shown}<td>{bold}</tr>")
    return "".join(rows)


def _say(ax: Any, text: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
