"""Look through experiments in a notebook: sliders for experiment, step and cycle."""

from __future__ import annotations

import os
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.errors import OectflowError, OutputError
from oectflow.pipeline.inputs.find import Experiments, open_experiments
from oectflow.pipeline.outputs.plots import plot_curves, plot_transfer, plot_transient
from oectflow.pipeline.outputs.plots.axes import need_matplotlib, with_unit
from oectflow.pipeline.outputs.plots.choose import one_experiment, with_experiments

if TYPE_CHECKING:
    import xarray as xr


def browse(raw: Experiments, results: Any, *, feature: str = "tau") -> Any:
    """Show experiments one step at a time: sweep, transient with fits, and every feature.

    Parameters
    ----------
    raw
        Folder of raw files, one file, an Experiment, or several of them.
    results
        What :func:`oectflow.open_results` returned, or the folder of results.
    feature
        Name of the feature computed by ``transient.tau_on_off`` whose fits are drawn.

    Returns
    -------
    An ipywidgets ``VBox``, shown as the last value of a notebook cell.  Its widgets
    ``experiment``, ``step`` and ``cycle`` may also be set by code; ``picture`` holds the PNG,
    ``table`` the features of the step.

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
    try:
        from oectflow.pipeline.outputs.browse_view import View
    except ModuleNotFoundError as error:
        raise OectflowError("browse needs ipywidgets: pip install 'oectflow[notebook]'") from error
    return View(Pages(raw, results, feature))


class Pages:
    """What there is to see: the experiments that have both a raw file and results.

    Parameters
    ----------
    raw, results, feature
        As in :func:`browse`.

    Attributes
    ----------
    experiments
        By experiment id, in the order of the results.
    results
        All of them.
    unreadable
        Why raw files were left out.
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

    def sizes(self, name: str) -> tuple[int, int]:
        """Return the numbers of steps and of gate cycles of an experiment, at least 1 each."""
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
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=90)
        return file.getvalue()

    def table(self, name: str, step: int, cycle: int) -> str:
        """Return the features of one step, those per cycle of one cycle, as an HTML table."""
        one = one_experiment(self.results, name).isel(step=step)
        features = [
            str(key)
            for key, variable in one.data_vars.items()
            if variable.attrs.get("feature") == key and f"{key}_status" in one
        ]
        one = one[[key for name in features for key in (name, f"{name}_status")]]
        if "cycle" in one.dims:
            one = one.isel(cycle=min(cycle, one.sizes["cycle"] - 1))
        one = one.load()
        rows = "".join(_rows(one[key], one[f"{key}_status"], key) for key in features)
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
        bold = f"<b>{escape(word)}</b>" if word not in ("ok", "absent") else escape(word)
        rows.append(f"<tr><td>{escape(f'{name} {entry}')}<td>{shown}<td>{bold}</tr>")
    return "".join(rows)


def _say(ax: Any, text: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", wrap=True)
