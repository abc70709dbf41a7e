"""How a feature changes over the steps of an experiment: models, half-life, forecast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from oectflow.errors import OutputError, ParameterError
from oectflow.pipeline.statistics import ageing_fit
from oectflow.pipeline.statistics.ageing_fit import FEWEST, Fit, fit_series
from oectflow.pipeline.statistics.ageing_models import MODELS
from oectflow.pipeline.statistics.points import choose, get_variable, good_values, words

STEP = "step"
#: Residuals whose neighbours are more alike are no noise.
DRIFT = 0.85
SERIES_WORDS = {
    "ok": "the models are fitted",
    "too_few": f"fewer than {FEWEST} steps have a value with the status ok; no value",
    "no_order": "the ages do not increase from step to step; no value",
    "no_fit": "no model can be fitted: all values are 0, or the numbers are too large; no value",
    "drift": "no model describes the series: its residuals go their own way (autocorrelation above "
    "0.85); intervals are too short",
}
HALF_WORDS = {
    "ok": "the value is the answer",
    "beyond": "the half-life is more than twice the age that was measured: it rests on the model",
    "no_decay": "the values fall no more than by chance (95 %): there is a lower end only",
    "rises": "the values move away from 0: there is no half-life",
    "no_fit": "the model cannot be fitted to the series, see 'status'",
}
_REFERENCE = (
    "Hurvich & Tsai (1989), Biometrika 76, 297 (AICc); Burnham & Anderson (2002), Model Selection "
    "and Multimodel Inference (weights)"
)
_NAMES = [model.name for model in MODELS]


class _Series(NamedTuple):
    """Values of one experiment (and of one entry along other axes) by age."""

    entry: tuple[int, ...]
    age: NDArray[np.float64]
    y: NDArray[np.float64]
    word: str


def fit_degradation(
    results: xr.Dataset, feature: str, against: str = STEP, **selection: Any
) -> xr.Dataset:
    """Fit four models to the decline of a feature with age, and show which one fits best.

    Age starts at the first step that has a value; there, each model is ``a``.  The models are
    ``a (1 - k x)``, ``a exp(-k x)``, ``a (1 + x / x1)^-b`` where x1 is the distance between two
    steps, and ``a exp(-(k x)^beta)``.  The noise of neighbouring steps may be correlated
    (first-order autoregression).  AICc compares the models: Hurvich & Tsai (1989), Biometrika 76,
    297.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it.
    feature
        Name of a variable with the axis ``step``; steps whose status is not ``ok`` are left out.
    against
        ``"step"``, or the variable that contains the age of each step.
    selection
        Entries along other axes, such as ``phase="on"``.

    Returns
    -------
    The axes are those of the feature except ``step``, and ``model`` (``linear``, ``exponential``,
    ``power``, ``stretched``).

    - ``half_life`` with ``_low`` and ``_high`` of its 95 % interval, given the model, and
      ``_status``; in the unit of the age
    - ``start`` (``a``) with ``_stderr``, ``rate`` (k), ``exponent`` (b or beta); ``noise``
    - ``aicc`` and ``weight``: how likely each model is the best of the four
    - ``best``, its name; ``autocorrelation`` of neighbouring steps; ``steps``, how many were used;
      ``status``

    Raises
    ------
    OutputError
        There is no such variable, or it has no axis ``step``.
    """
    values, ages, unit = _chosen(results, feature, against, selection)
    about = str(values.attrs.get("units", ""))
    frame = values.isel({STEP: 0}, drop=True)
    shape = (*frame.shape, len(MODELS))
    names = ("half_life", "half_life_low", "half_life_high", "start", "start_stderr", "rate",
             "exponent", "noise", "aicc", "weight")  # fmt: skip
    number = {name: np.full(shape, np.nan) for name in names}
    half_words = np.full(shape, "no_fit", "<U8")
    best, status = np.full(frame.shape, "", "<U11"), np.full(frame.shape, "ok", "<U8")
    alike, steps = np.full(frame.shape, np.nan), np.zeros(frame.shape, np.int64)
    for series in _each(values, ages):
        at = series.entry
        steps[at], status[at] = series.y.size, series.word
        if series.word != "ok":
            continue
        fits, alike[at] = fit_series(series.age, series.y)
        if not fits:
            status[at] = "no_fit"
            continue
        best[at] = min(fits, key=lambda fit: fit.aicc).model.name
        if alike[at] > DRIFT:
            status[at] = "drift"
        for fit, weight in zip(fits, ageing_fit.weights(fits), strict=True):
            here = (*at, _NAMES.index(fit.model.name))
            found = _numbers(fit) | {"weight": weight}
            for name, value in found.items():
                number[name][here] = value
            half_words[here] = _half_word(fit, series.age[-1])
    dims = (*frame.dims, "model")
    said = {
        "half_life": (unit, "age at which half of 'start' is left"),
        "half_life_low": (unit, "lower end of the 95 % interval, given the model"),
        "half_life_high": (unit, "upper end of the 95 % interval, given the model"),
        "start": (about, "value of the model at the first step, a"),
        "start_stderr": (about, "standard error of 'start'"),
        "rate": (f"1/{unit}" if unit else "", "k of the model; NaN for the power law"),
        "exponent": ("", "b of the power law, beta of the stretched exponential"),
        "noise": (about, "standard deviation of a value about the model"),
        "aicc": ("", "Akaike's information criterion, corrected; the smallest is best"),
        "weight": ("", "Akaike weight: how likely the model is the best of the four"),
    }
    formulas = "; ".join(f"{model.name}: {model.formula}" for model in MODELS)
    data: dict[str, Any] = {
        name: (dims, number[name], {"units": units, "description": text})
        for name, (units, text) in said.items()
    }
    data |= {
        "half_life_status": (dims, half_words, words("how to read the half-life", HALF_WORDS)),
        "best": (frame.dims, best, {"units": "", "description": "model with the smallest AICc"}),
        "autocorrelation": (
            frame.dims, alike,
            {"units": "", "description": "of the noise of neighbouring steps"},
        ),
        "steps": (frame.dims, steps, {"units": "", "description": "steps that were used"}),
        "status": (frame.dims, status, words("what became of the series", SERIES_WORDS)),
    }  # fmt: skip
    attrs = {"feature": feature, "against": against, "formula": formulas, "reference": _REFERENCE}
    return xr.Dataset(data, {**_coordinates(frame), "model": _NAMES}, attrs)


def forecast_degradation(
    results: xr.Dataset, feature: str, at: ArrayLike, against: str = STEP, **selection: Any
) -> xr.Dataset:
    """Forecast the values of a feature at later ages.

    The forecast averages the models of :func:`fit_degradation` by their weights.  Where the models
    differ, the interval is longer (Burnham & Anderson (2002)).  It is the interval for a single
    value measured at that age.

    Parameters
    ----------
    results, feature, against, selection
        As for :func:`fit_degradation`.
    at
        Steps, or values of ``against``, not before the first one that was used.  Shape (n,).

    Returns
    -------
    ``forecast`` with ``_low`` and ``_high`` of the 95 % interval, in the unit of the feature, and
    ``status``.  The axes are those of the feature except ``step``, and ``at``.

    Raises
    ------
    OutputError
        As for :func:`fit_degradation`.
    ParameterError
        ``at`` is not a row of numbers.
    """
    where = np.atleast_1d(np.asarray(at, float))
    if where.ndim != 1 or not np.isfinite(where).all():
        raise ParameterError(f"at={at!r}: expected a row of finite numbers")
    values, ages, unit = _chosen(results, feature, against, selection)
    frame = values.isel({STEP: 0}, drop=True)
    found = np.full((3, *frame.shape, where.size), np.nan)
    status = np.full(frame.shape, "ok", "<U8")
    begins = _first_ages(values, ages)
    for series in _each(values, ages):
        at_index = series.entry
        status[at_index] = series.word
        if series.word != "ok":
            continue
        fits, alike = fit_series(series.age, series.y)
        if not fits:
            status[at_index] = "no_fit"
            continue
        if alike > DRIFT:
            status[at_index] = "drift"
        age = where - begins[at_index]
        later = age >= 0.0
        found[(slice(None), *at_index, later)] = ageing_fit.forecast(fits, age[later])
    about = str(values.attrs.get("units", ""))
    dims = (*frame.dims, "at")
    said = ("expected value", "lower end of the 95 % interval", "upper end of the 95 % interval")
    data: dict[str, Any] = {
        name: (dims, part, {"units": about, "description": text})
        for name, part, text in zip(
            ("forecast", "forecast_low", "forecast_high"), found, said, strict=True
        )
    }
    data["status"] = (frame.dims, status, words("what became of the series", SERIES_WORDS))
    coords = {**_coordinates(frame), "at": ("at", where, {"units": unit})}
    return xr.Dataset(data, coords, {"feature": feature, "against": against})


def _chosen(
    results: xr.Dataset, feature: str, against: str, selection: dict[str, Any]
) -> tuple[xr.DataArray, xr.DataArray, str]:
    """Return the good values, ``step`` first, the age of each, and the unit of ages."""
    remedy = "compute it, or name one that is there"
    values, _ = good_values(results, feature, remedy)
    values = choose(values, feature, selection)
    if STEP not in values.dims:
        raise OutputError(f"{feature!r} has no axis 'step': there is nothing to follow")
    if values.dtype.kind not in "fiu":
        raise OutputError(
            f"{feature!r} holds words, not numbers; name the feature that it belongs to"
        )
    values = values.transpose(STEP, ...)
    if against == STEP:
        numbers = values[STEP].values if STEP in values.coords else np.arange(values.sizes[STEP])
        ages, unit = xr.DataArray(numbers.astype(float), dims=STEP), "step"
    else:
        ages = get_variable(results, against, "name 'step', or one with the age of each step")
        unit = str(ages.attrs.get("units", ""))
        if STEP not in ages.dims or not set(ages.dims) <= set(values.dims):
            raise OutputError(
                f"against={against!r}: expected one age for each step, axes of {values.dims}; "
                f"it has {ages.dims}"
            )
    ages = ages.broadcast_like(values).transpose(*values.dims)
    return values.load(), ages.load(), unit


def _each(values: xr.DataArray, ages: xr.DataArray) -> Iterator[_Series]:
    """Return every series, its steps without a value left out, ages from the first one."""
    for index in np.ndindex(values.shape[1:]):
        y = values.values[(slice(None), *index)].astype(float)
        age = ages.values[(slice(None), *index)]
        use = np.isfinite(y) & np.isfinite(age)
        y, age = y[use], age[use]
        word = "ok"
        if y.size < FEWEST:
            word = "too_few"
        elif not (np.diff(age) > 0.0).all():
            word = "no_order"
        elif not 1e-150 < np.abs(y).max() < 1e150:
            word = "no_fit"
        yield _Series(index, age - age[0] if y.size else age, y, word)


def _first_ages(values: xr.DataArray, ages: xr.DataArray) -> NDArray[np.float64]:
    return np.asarray(ages.where(values.notnull()).min(STEP).values)


def _numbers(fit: Fit) -> dict[str, float]:
    half, low, high = fit.half_life()
    rate = exponent = np.nan
    if fit.model.name == "power":
        exponent = fit.shape[0]
    elif fit.model.name == "stretched":
        exponent = fit.shape[1]
        rate = np.sign(fit.shape[0]) * abs(fit.shape[0]) ** (1.0 / exponent) / fit.span
    else:
        rate = fit.shape[0] / fit.span
    return {
        "half_life": half,
        "half_life_low": low,
        "half_life_high": high,
        "start": fit.start,
        "start_stderr": float(np.sqrt(fit.covariance[0, 0])),
        "rate": float(rate),
        "exponent": float(exponent),
        "noise": fit.noise,
        "aicc": fit.aicc,
    }


def _half_word(fit: Fit, measured: float) -> str:
    half, _, high = fit.half_life()
    if np.isnan(high):
        return "rises"
    if np.isnan(half):
        return "no_decay"
    return "beyond" if half > 2.0 * measured else "ok"


def _coordinates(frame: xr.DataArray) -> dict[Any, Any]:
    return {name: one for name, one in frame.coords.items() if name != STEP}
