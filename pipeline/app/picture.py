"""Pictures for a paper: SVG, PDF and the data that are drawn, as CSV, in one zip."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from oectflow.cells import plain_cell
from oectflow.errors import OectflowError, OutputError
from oectflow.pipeline.app.desk import Filter
from oectflow.pipeline.app.shared import Shared
from oectflow.pipeline.outputs.plots import plot_feature, plot_transfer, plot_transient

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Experiments of which a picture shows trends one by one.
_MOST = 200
_CSV = ("panel", "line", "x", "y", "x_axis", "x_unit", "y_axis", "y_unit")


def picture(shared: Shared, about: Mapping[str, str]) -> tuple[str, bytes]:
    """Draw a view; return the name of the zip and its bytes.

    Parameters
    ----------
    shared
        Results, marks and raw files.
    about
        ``view="step"`` with ``experiment``, ``step``, ``cycle`` and ``feature``, or
        ``view="trends"`` with ``column`` and what experiments are chosen by.

    Raises
    ------
    OectflowError
        There is no such view, or it has nothing to draw.
    """
    views = {"step": _step, "trends": _trends}
    view = about.get("view", "")
    if view not in views:
        raise OutputError(f"view={view!r}: expected one of {', '.join(views)}")
    name, figure = views[view](shared, about)
    return name, _zipped(name, figure)


def _step(shared: Shared, about: Mapping[str, str]) -> tuple[str, Figure]:
    from matplotlib.figure import Figure

    from oectflow.pipeline.outputs.results import open_results

    desk = shared.new_desk()
    step, cycle = _number(about, "step"), _number(about, "cycle")
    wanted = about.get("experiment", "")
    numbers = [k for k, e in enumerate(desk.index.entries) if e.summary.experiment_id == wanted]
    if not numbers:
        raise OutputError(f"no results of experiment {wanted!r}")
    entry = desk.index.entries[numbers[0]]
    experiment = shared.raw.of(entry.summary)
    feature = about.get("feature", "")
    kinds = [kind for kind in ("transfer", "transient") if step < experiment.n_steps(kind)]
    if "transient" in kinds and not feature:
        kinds.remove("transient")
    if not kinds:
        raise OutputError(f"{wanted}: step {step} has neither a sweep nor a fitted trace")
    figure = Figure(figsize=(6.4 * len(kinds), 4.6), layout="constrained")
    axes = dict(zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0], strict=True))
    if "transfer" in axes:
        plot_transfer(experiment, axes["transfer"], steps=[step])
    if "transient" in axes:
        results = open_results(desk.index.folder / entry.path)
        plot_transient(
            experiment, results, step, axes["transient"], feature=feature, cycles=[cycle]
        )
    return f"{_safe(wanted)}_step{step}_cycle{cycle}", figure


def _trends(shared: Shared, about: Mapping[str, str]) -> tuple[str, Figure]:
    from oectflow.pipeline.outputs.results import open_results

    desk = shared.new_desk()
    desk.choose(Filter(about.get("text", ""), about.get("state", ""), about.get("mark", "")))
    column = desk.index.column(about.get("column", ""))
    if not len(desk.chosen):
        raise OutputError("no experiment is chosen to be drawn; choose one first")
    if len(desk.chosen) > _MOST:
        raise OutputError(
            f"{len(desk.chosen):,} experiments are chosen, and a picture shows up to {_MOST}; "
            "choose fewer by words, state or mark"
        )
    import xarray as xr
    from matplotlib.figure import Figure

    paths = [desk.index.folder / desk.index.entries[n].path for n in desk.chosen.tolist()]
    wanted = [column.feature, f"{column.feature}_status", f"{column.feature}_mark"]
    parts = []
    for path in paths:
        one = open_results(path)
        parts.append(one[[name for name in wanted if name in one]])
    results = xr.concat(parts, "experiment", join="outer", combine_attrs="drop_conflicts")
    variable = results[column.feature]
    labelled = [dim for dim in variable.dims if variable[dim].dtype.kind == "U"]
    selection: dict[str, Any] = {
        str(dim): str(variable[dim].values[place])
        for dim, place in zip(
            [dim for dim in labelled if dim != "experiment"], column.place, strict=True
        )
    }
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    plot_feature(results, column.feature, figure.subplots(), **selection)
    return _safe(f"{column.name}_over_steps"), figure


def _number(about: Mapping[str, str], name: str) -> int:
    text = about.get(name, "")
    if not text.isdecimal():
        raise OutputError(f"{name}={text!r}: expected a whole number from 0")
    return int(text)


def _safe(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in name)


def _zipped(name: str, figure: Figure) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for kind in ("svg", "pdf"):
            drawn = io.BytesIO()
            figure.savefig(drawn, format=kind)
            archive.writestr(f"{name}.{kind}", drawn.getvalue())
        archive.writestr(f"{name}.csv", as_csv(figure))
    return file.getvalue()


def as_csv(figure: Figure) -> str:
    """Return what a figure shows as CSV: a row for every point of every line, in SI units."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for panel, axes in enumerate(figure.axes, 1):
        for number, line in enumerate(axes.lines, 1):
            x, y = (np.atleast_1d(np.asarray(d, np.float64)) for d in line.get_data())
            label = str(line.get_label())
            label = label if not label.startswith("_") else f"line {number}"
            about = [*_axis(axes.xaxis), *_axis(axes.yaxis)]
            named = [panel, plain_cell(label)]
            rest = [*map(plain_cell, about)]
            writer.writerows([*named, *point, *rest] for point in _points(x, y))
    return text.getvalue()


def _points(along: Any, up: Any) -> Iterator[tuple[str, str]]:
    for pair in zip(along.tolist(), up.tolist(), strict=True):
        # No number is an empty field.
        x, y = ("" if value != value else repr(value) for value in pair)
        yield x, y


def _axis(axis: Any) -> tuple[str, str]:
    """Return the label of an axis and its unit; units stand in ticks, where they have prefixes."""
    label = str(axis.get_label_text())
    return label, str(getattr(axis.get_major_formatter(), "unit", ""))


def picture_handler() -> Any:
    """Return what answers a request for a picture."""
    from tornado.web import RequestHandler

    class PictureHandler(RequestHandler):
        """Draws a view and sends it as a zip."""

        def initialize(self, shared: Shared, auth: Any) -> None:
            self._shared, self._auth = shared, auth

        def get(self) -> None:
            if self._auth.get_user(self) is None:
                self._auth.get_login_url(self)
            given = {
                name: values[-1].decode(errors="replace")
                for name, values in self.request.query_arguments.items()
            }
            try:
                name, data = picture(self._shared, given)
            except OectflowError as error:
                self.set_status(404)
                self.set_header("Content-Type", "text/plain; charset=utf-8")
                self.finish(str(error))
                return
            self.set_header("Content-Type", "application/zip")
            self.set_header("Content-Disposition", f'attachment; filename="{name}.zip"')
            self.set_header("Cache-Control", "no-store")
            self.finish(data)

    return PictureHandler
