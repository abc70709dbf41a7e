"""One file, five lines, no cluster: ``fit_tau`` and ``features``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from oectflow.errors import InputError, OutputError, RunFailed
from oectflow.pipeline.inputs.one_source import as_experiments
from oectflow.pipeline.outputs.fit_report import fit_report
from oectflow.pipeline.outputs.trouble import Flag, lines, sum_up

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

    from oectflow.pipeline.inputs.experiment import Experiment

#: What is shown of a feature beside its value and status, where it has it.
_COMPANIONS = ("stderr", "r_squared")
#: Near 1, where four digits would not tell a good fit from a perfect one.
_FORMATS = {"r_squared": "{:.5f}".format}


@dataclass
class Held:
    """Steps of an experiment, kept in memory because the raw file was temporary."""

    experiment_id: str
    steps: Mapping[str, Sequence[dict[str, Any]]]

    @property
    def sources(self) -> tuple[str, ...]:
        """Kinds of measurement in the experiment."""
        return tuple(self.steps)

    def n_steps(self, source: str) -> int:
        """Return the number of steps of a kind."""
        return len(self.steps.get(source, ()))

    def step(self, source: str, index: int) -> dict[str, Any]:
        """Return one step."""
        return self.steps[source][index]


class FeatureTable:
    """Features of one measurement: a table with a row per value, and pictures of it.

    Parameters
    ----------
    experiment
        The measured experiment.
    results
        Its features in memory, as :func:`oectflow.open_results` returns them.
    names
        The features, in their order.
    flags
        Every status word of a feature except ``ok``, with the number of values.

    Attributes
    ----------
    experiment, results, flags
        As given.
    frame
        The table, a pandas DataFrame: ``feature``, ``step``, ``cycle`` (missing if a feature has
        none), ``entry`` (``on``, ``forward``, …), ``value``, ``unit``, ``stderr``, ``r_squared``
        and ``status`` in words.  Values that do not exist (``absent``) have no row.
    """

    def __init__(
        self, experiment: Held, results: xr.Dataset, names: Sequence[str], flags: Sequence[Flag]
    ) -> None:
        self.experiment = experiment
        self.results = results
        self.flags = flags
        self._names = tuple(names)
        self.frame = _frame(results.isel(experiment=0), self._names)

    def plot(self, feature: str | None = None, **options: Any) -> Axes:
        """Draw a feature, by default the first.

        Parameters
        ----------
        feature
            Its name.  Time constants are drawn with the measured current and the fits.
        **options
            Options of :func:`oectflow.plot_transient` (``step``, ``cycles``) for time constants, of
            :func:`oectflow.plot_transfer` for features of transfer curves, and of
            :func:`oectflow.plot_feature` for all others.

        Raises
        ------
        OutputError
            There is no such feature.
        """
        from oectflow.pipeline.outputs.plots import plot_feature, plot_transfer, plot_transient

        name = self._names[0] if feature is None else feature
        if f"{name}_window_start" in self.results:
            options.setdefault("cycles", range(min(3, self.results.sizes["cycle"])))
            step = options.pop("step", 0)
            return plot_transient(self.experiment, self.results, step, feature=name, **options)
        alone = self.results.sizes["step"] == 1
        if alone and self.experiment.n_steps("transfer") and feature is None:
            return plot_transfer(self.experiment, **options)
        return plot_feature(self.results, name, **options)

    def fit_report(
        self, step: int = 0, cycles: Sequence[int] = (0,), feature: str | None = None
    ) -> str:
        """Return fits as text: values with standard errors, correlations, R² and window.

        Parameters
        ----------
        step, cycles
            Which steps and cycles, from 0.
        feature
            A feature computed by ``transient.tau_on_off``; by default the first one.

        Raises
        ------
        OutputError
            There is no such feature.
        """
        fitted = [name for name in self._names if f"{name}_window_start" in self.results]
        if feature is None and not fitted:
            raise OutputError("nothing was fitted; compute 'transient_tau'")
        name = feature or fitted[0]
        return fit_report(self.experiment, self.results, step, feature=name, cycles=cycles)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        text = self.frame.to_string(
            index=False, max_rows=20, na_rep="", float_format="%.4g", formatters=_FORMATS
        )
        return "\n".join([text, *lines(sum_up([(self.experiment.experiment_id, self.flags)]))])

    def _repr_html_(self) -> str:
        html: str = self.frame.to_html(
            index=False, max_rows=20, na_rep="", float_format="%.4g".__mod__, formatters=_FORMATS
        )
        return html


def features(
    source: Any,
    features: Any = "all",
    *,
    columns: Mapping[str, str] | None = None,
    period: float | None = None,
    kind: str | None = None,
) -> FeatureTable:
    """Compute features of one measurement in this process.  You need no folder and no cluster.

    Parameters
    ----------
    source
        A file (raw HDF5, CSV, Excel, …: every format that :func:`oectflow.inspect` knows), a pandas
        DataFrame, an Experiment, or arrays by kind: ``{"transient": {"time": t, "Id": i}}``.
    features
        Name of a bundled feature set, path of a YAML or JSON file, dict, or a :class:`FeatureSet`.
    columns
        Heading for each quantity, if the headings do not show it:
        ``{"time": "Zeit", "Id": "Kanal 2 (mA)"}``.
    period
        Gate period of transients in s, if it is not known otherwise.
    kind
        Kind of measurement; by default found from the columns.

    Returns
    -------
    A table with one row per value, and with words in place of status codes.  ``.plot()`` draws it,
    ``.frame`` is a DataFrame, ``.results`` is an xarray Dataset.

    Raises
    ------
    InputError
        The source cannot be read; the message says what was seen.
    ConfigError
        The features or an argument are wrong.

    Examples
    --------
    >>> import oectflow as of
    >>> table = of.features("pulses.csv", "transient_tau", period=0.2)
    >>> table.frame[["cycle", "entry", "status"]].head(3)
       cycle entry status
    0      0    on     ok
    1      1    on     ok
    2      1   off     ok
    """
    from oectflow.pipeline.execution.driving.run import extract_here
    from oectflow.pipeline.features.feature_list import FeatureList
    from oectflow.pipeline.outputs.results import open_results

    wanted = FeatureList.load(features)
    with (
        as_experiments(source, columns=columns, period=period, kind=kind) as (experiment,),
        TemporaryDirectory(prefix="oectflow-features-") as folder,
    ):
        report = extract_here(experiment, wanted, Path(folder))
        (record,) = report.experiments
        if not record.out_path:
            raise RunFailed(record.reason)
        results = open_results(folder).load()
        held = _held(experiment)
    return FeatureTable(held, results, list(wanted.features), record.flags)


def fit_tau(
    time: ArrayLike,
    current: ArrayLike,
    *,
    period: float | None = None,
    gate: ArrayLike | None = None,
    **params: Any,
) -> FeatureTable:
    """Fit the time constants of switching on and off of one transient.

    Parameters
    ----------
    time, current
        Time in s and drain current in A, of the same length.
    period
        Gate period in s; by default found from the gate voltage or the current.
    gate
        Gate voltage in V for each sample, if it was recorded.
    **params
        Parameters of ``transient.tau_on_off``: ``window="best_r2"``, ``polarity="negative"``, …

    Returns
    -------
    As :func:`oectflow.features`: tau of every cycle and phase with its standard error, R² and
    status; ``.plot()`` and ``.fit_report()``.

    Raises
    ------
    InputError
        Time and current are not numbers, or differ in length.
    ConfigError
        A parameter is wrong.

    Examples
    --------
    >>> import numpy as np, oectflow as of
    >>> t = np.arange(0, 1, 1e-3)
    >>> Id = 1e-3 * np.where(t % 0.2 < 0.1, 1 - np.exp(-(t % 0.2) / 0.01),
    ...                      np.exp(-(t % 0.2 - 0.1) / 0.02))
    >>> figure = of.fit_tau(t, Id, period=0.2).plot()
    """
    arrays = {"time": _line(time, "time"), "Id": _line(current, "current")}
    if gate is not None:
        arrays["Vg"] = _line(gate, "gate")
    for name, array in arrays.items():
        if len(array) != len(arrays["time"]):
            raise InputError(
                f"time has {len(arrays['time']):,} samples, {name} has {len(array):,}; expected "
                "the same number"
            )
    wanted = {"tau": {"extractor": "transient.tau_on_off", "input": "transient", "params": params}}
    return features({"transient": arrays}, wanted, period=period)


def _line(values: ArrayLike, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: expected numbers ({error})") from None
    if array.ndim != 1 or not array.size:
        raise InputError(f"{name} has shape {array.shape}, expected one dimension and samples")
    return array


def _held(experiment: Experiment) -> Held:
    steps = {
        source: [experiment.step(source, i) for i in range(experiment.n_steps(source))]
        for source in experiment.sources
    }
    return Held(experiment.experiment_id, steps)


def _frame(one: xr.Dataset, names: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    columns = ["feature", "step", "cycle", "entry", "value", "unit", *_COMPANIONS, "status"]
    rows: list[dict[str, Any]] = []
    for name in names:
        value, status = one[name], one[f"{name}_status"].broadcast_like(one[name])
        labelled = [dim for dim in value.dims if value[dim].dtype.kind == "U"]
        beside = {
            word: one[f"{name}_{word}"].broadcast_like(value).transpose(*value.dims).values
            for word in _COMPANIONS
            if f"{name}_{word}" in one
        }
        words = status.transpose(*value.dims).values
        units = str(value.attrs.get("units", "")).split(", ")
        for place in np.ndindex(value.shape):
            if words[place] == "absent":
                continue
            at = dict(zip(value.dims, place, strict=True))
            label = [str(value[dim].values[at[dim]]) for dim in labelled]
            # Of a point (Vg, Id) each entry has a unit of its own.
            unit = units[at[labelled[-1]]] if labelled and len(units) > 1 else units[0]
            others = [
                f"{dim} {k}" for dim, k in at.items() if dim not in ("step", "cycle", *labelled)
            ]
            rows.append(
                {
                    "feature": name,
                    "step": at["step"],
                    "cycle": at.get("cycle"),
                    "entry": " ".join([*label, *others]),
                    "value": float(value.values[place]),
                    "unit": unit,
                    **{word: float(array[place]) for word, array in beside.items()},
                    "status": str(words[place]),
                }
            )
    frame = pd.DataFrame(rows, columns=columns).astype({"cycle": "Int64"})
    empty = [name for name in ("cycle", *_COMPANIONS) if frame[name].isna().all()]
    return frame.drop(columns=empty)
