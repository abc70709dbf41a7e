"""``postprocessing`` of a configuration: normalising and filtering, as further derived features.

A step adds a feature and leaves its target as it was, so the measured value with its unit is never
lost.  The name says what was done: ``gm_max_zscore``, ``gm_max_filtered``.  Steps on one target
follow each other: filtering and then normalising ``gm_max`` gives ``gm_max_filtered`` and
``gm_max_filtered_zscore``.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from oectflow.config_file import shorten
from oectflow.errors import ConfigError, did_you_mean
from oectflow.pipeline.features.config import PostProcessing

# Where the values do not differ, NumPy's standard deviation may be an ulp instead of 0; the range
# is exactly 0 and is what decides.
_NORMALIZE = {
    "minmax": (
        "lambda x, low, high: (x - x.min(axis=0))"
        " / np.where(np.ptp(x, axis=0) == 0, 1, np.ptp(x, axis=0)) * (high - low) + low"
    ),
    "zscore": (
        "lambda x: (x - x.mean(axis=0)) / np.where(np.ptp(x, axis=0) == 0, 1, x.std(axis=0))"
    ),
    "robust": (
        "lambda x: (x - np.median(x, axis=0)) / np.where("
        "np.percentile(x, 75, axis=0) == np.percentile(x, 25, axis=0), 1,"
        " np.percentile(x, 75, axis=0) - np.percentile(x, 25, axis=0))"
    ),
    "l2": (
        "lambda x: x / np.sqrt(np.where((x**2).sum(axis=-1, keepdims=True) == 0, 1,"
        " (x**2).sum(axis=-1, keepdims=True)))"
    ),
}
_OUTLIERS = {
    "iqr": (
        "(x >= np.percentile(x, 25, axis=0)"
        " - k * (np.percentile(x, 75, axis=0) - np.percentile(x, 25, axis=0)))"
        " & (x <= np.percentile(x, 75, axis=0)"
        " + k * (np.percentile(x, 75, axis=0) - np.percentile(x, 25, axis=0)))"
    ),
    "zscore": "np.abs(x - x.mean(axis=0)) <= k * x.std(axis=0)",
}


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Normalize(_Options):
    """Parameters of ``normalize``: along the steps, NaN skipped; ``l2`` works along each row."""

    method: Literal["minmax", "zscore", "robust", "l2"] = "minmax"
    feature_range: tuple[float, float] = (0.0, 1.0)


class Filter(_Options):
    """Parameters of ``filter``: outliers become NaN.

    Outliers lie more than ``outlier_threshold`` interquartile ranges outside the quartiles
    (``iqr``, 1.5 by default), or as many standard deviations away from the mean (``zscore``, which
    has no default: 1.5 would drop one in eight of normally distributed values).
    """

    remove_outliers: Literal[True] = True
    outlier_method: Literal["iqr", "zscore"] = "iqr"
    outlier_threshold: float | None = Field(None, ge=0)


class Transform(NamedTuple):
    """A derived feature of one variable: how its name ends, its expression and the parameters."""

    suffix: str
    func: str
    params: dict[str, float]
    keeps_unit: bool
    description: str


def transform(step: PostProcessing) -> Transform:
    """Return what a postprocessing step does, as an expression of one variable.

    Parameters
    ----------
    step
        Type and parameters; the target is not looked at.

    Raises
    ------
    ConfigError
        A parameter is unknown or impossible.
    """
    if step.type == "normalize":
        normalize = _checked(Normalize, step.params)
        low, high = normalize.feature_range
        params = {"low": low, "high": high} if normalize.method == "minmax" else {}
        func = _NORMALIZE[normalize.method]
        return Transform(normalize.method, func, params, False, f"{normalize.method}-normalised")
    outliers = _checked(Filter, step.params)
    method, threshold = outliers.outlier_method, outliers.outlier_threshold
    if threshold is None:
        if method == "zscore":
            raise ConfigError(
                "params: outlier_method 'zscore' needs an outlier_threshold, such as 3"
            )
        threshold = 1.5
    func = f"lambda x, k: x[{_OUTLIERS[method]}]"
    description = f"without outliers ({method}, threshold {threshold:g})"
    return Transform("filtered", func, {"k": threshold}, True, description)


Options = TypeVar("Options", bound=_Options)


def _checked(model: type[Options], params: dict[str, Any]) -> Options:
    for name in params:
        if name not in model.model_fields:
            raise ConfigError(f"unknown parameter {name!r}{did_you_mean(name, model.model_fields)}")
    try:
        return model(**params)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"params.{where}: {first['msg'].lower()}, found {shorten(first['input'])}"
        ) from None
