"""The functions that an expression over features may call.

Elementwise functions are NumPy's own.  Aggregates skip NaN, whatever their name: a step whose
extraction failed is NaN, and must not erase the mean, and with it the normalisation, of a whole
device.  Where every value is NaN, the result is NaN (also of ``sum``, where NumPy returns 0).

One number per step out of a value per cycle is ``median(tau_on, axis=1)``, or any other aggregate;
``drift`` is the change per cycle.  Cycles without a fit are NaN and so left out; those that have
one, but are flagged, are left out by ``tau_on[tau_status_on == 0]``, since 0 is the status ``ok``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Kind = Literal["elementwise", "aggregate", "running"]

#: Arguments that choose what is computed; they must be constants.
STATIC = frozenset({"axis", "ddof", "keepdims", "decimals"})


@dataclass(frozen=True)
class Function:
    """One function of the whitelist.

    Attributes
    ----------
    name
        Canonical name; ``nanmean`` and ``average`` are ``mean``.
    kind
        ``elementwise`` keeps the shape of its arguments; ``aggregate`` removes an axis, or all;
        ``running`` keeps the shape but mixes values along an axis.
    call
        What is called.
    signature
        Its arguments; those in :data:`STATIC` are constants.
    """

    name: str
    kind: Kind
    call: Callable[..., Any]
    signature: inspect.Signature

    def apply(self, values: Sequence[Array | None], options: Mapping[str, Any]) -> Array:
        """Call it with values for all arguments but the constant ones, in their order."""
        names = [name for name in self.signature.parameters if name not in STATIC]
        positional = []
        keywords = dict(options)
        for name, value in zip(names, values, strict=True):
            if self.signature.parameters[name].kind is inspect.Parameter.KEYWORD_ONLY:
                keywords[name] = value
            else:
                positional.append(value)
        return np.asarray(self.call(*positional, **keywords))


def _aggregate(
    function: Callable[..., Any],
    x: Array,
    axis: int | None,
    keepdims: bool,
    at_least: int = 1,
    **options: Any,
) -> Array:
    """Apply a NaN-skipping NumPy function; NaN where fewer than ``at_least`` values are there."""
    x = np.asarray(x, np.float64)
    count = np.sum(~np.isnan(x), axis=axis, keepdims=True)
    enough = count >= at_least
    size = x.size if axis is None else x.shape[axis]
    if x.size == 0 or size < at_least:
        result = np.full(count.shape, np.nan)
    else:
        # NumPy warns about all-NaN slices, or raises, so it never gets to see one.
        filled = np.where(enough, x, 0.0)
        result = np.where(enough, function(filled, axis=axis, keepdims=True, **options), np.nan)
    if keepdims:
        return result
    return result.reshape(()) if axis is None else result.squeeze(axis)


def mean(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Arithmetic mean of the values that are not NaN."""
    return _aggregate(np.nanmean, x, axis, keepdims)


def std(x: Array, axis: int | None = None, *, ddof: int = 0, keepdims: bool = False) -> Array:
    """Standard deviation, of the population unless ``ddof=1``."""
    return _aggregate(np.nanstd, x, axis, keepdims, max(ddof, 0) + 1, ddof=ddof)


def var(x: Array, axis: int | None = None, *, ddof: int = 0, keepdims: bool = False) -> Array:
    """Variance, of the population unless ``ddof=1``."""
    return _aggregate(np.nanvar, x, axis, keepdims, max(ddof, 0) + 1, ddof=ddof)


def median(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Median of the values that are not NaN."""
    return _aggregate(np.nanmedian, x, axis, keepdims)


def minimum_of(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Least value."""
    return _aggregate(np.nanmin, x, axis, keepdims)


def maximum_of(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Greatest value."""
    return _aggregate(np.nanmax, x, axis, keepdims)


def ptp(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Greatest minus least value."""
    greatest = maximum_of(x, axis, keepdims=keepdims)
    return np.asarray(greatest - minimum_of(x, axis, keepdims=keepdims))


def total(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Sum of the values that are not NaN; of booleans, how many are true."""
    return _aggregate(np.nansum, x, axis, keepdims)


def prod(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Product of the values that are not NaN."""
    return _aggregate(np.nanprod, x, axis, keepdims)


def argmin(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Index of the least value."""
    return _aggregate(np.nanargmin, x, axis, keepdims)


def argmax(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Index of the greatest value."""
    return _aggregate(np.nanargmax, x, axis, keepdims)


def quantile(x: Array, q: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Quantile with linear interpolation, ``q`` one number from 0 to 1."""
    if np.ndim(q):
        raise ValueError(f"quantile needs one number q, not an array of shape {np.shape(q)}")
    return _aggregate(np.nanquantile, x, axis, keepdims, q=float(q))


def percentile(x: Array, q: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Percentile with linear interpolation, ``q`` one number from 0 to 100."""
    if np.ndim(q):
        raise ValueError(f"percentile needs one number q, not an array of shape {np.shape(q)}")
    return _aggregate(np.nanpercentile, x, axis, keepdims, q=float(q))


def any_of(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Whether any value is true; NaN counts as false."""
    return np.asarray(np.any(np.where(np.isnan(x), False, x), axis=axis, keepdims=keepdims))


def all_of(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Whether all values are true; NaN counts as true."""
    return np.asarray(np.all(np.where(np.isnan(x), True, x), axis=axis, keepdims=keepdims))


def first(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """First value that is not NaN."""
    return _aggregate(_at_end, x, axis, keepdims, end=0)


def last(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Last value that is not NaN, such as that of the last cycle in a padded row."""
    return _aggregate(_at_end, x, axis, keepdims, end=-1)


def _at_end(x: Array, *, axis: int | None, keepdims: Literal[True], end: int) -> Array:
    assert keepdims
    rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, -1)
    there = ~np.isnan(rows)
    index = there.argmax(-1) if end == 0 else rows.shape[-1] - 1 - there[..., ::-1].argmax(-1)
    found = np.take_along_axis(rows, index[..., np.newaxis], -1)
    return found.reshape((1,) * x.ndim) if axis is None else np.moveaxis(found, -1, axis)


def drift(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Array:
    """Slope per index along an axis, such as per cycle: a straight line by least squares.

    Values that are NaN are left out and the others keep their index; NaN where fewer than two are
    there.
    """
    if axis is None:
        axis = _only_axis(x)
    return _aggregate(_slope, x, axis, keepdims, at_least=2)


def _slope(x: Array, *, axis: int, keepdims: Literal[True]) -> Array:
    assert keepdims
    rows = np.moveaxis(x, axis, -1)
    there = ~np.isnan(rows)
    count = there.sum(axis=-1, keepdims=True)
    index = np.broadcast_to(np.arange(rows.shape[-1], dtype=np.float64), rows.shape)

    def centred(values: Array) -> Array:
        mean = np.where(there, values, 0.0).sum(axis=-1, keepdims=True) / count
        return np.where(there, values - mean, 0.0)

    k = centred(index)
    spread = (k * k).sum(axis=-1, keepdims=True)
    # Rows of fewer than two values have no spread; their result is not looked at.
    slope = (k * centred(rows)).sum(axis=-1, keepdims=True) / np.where(spread > 0, spread, 1.0)
    return np.moveaxis(slope, -1, axis)


def _only_axis(x: Array) -> int:
    if np.ndim(x) != 1:
        raise ValueError(f"an array of {np.ndim(x)} dimensions needs axis=0 (steps) or axis=1")
    return 0


def _running(function: Callable[..., Any], x: Array, axis: int | None) -> Array:
    return np.asarray(function(x, axis=_only_axis(x) if axis is None else axis))


def cumsum(x: Array, axis: int | None = None) -> Array:
    """Cumulative sum that passes over NaN and leaves it NaN where it stands."""
    x = np.asarray(x, np.float64)
    return np.where(np.isnan(x), np.nan, _running(np.nancumsum, x, axis))


def cumprod(x: Array, axis: int | None = None) -> Array:
    """Cumulative product that passes over NaN and leaves it NaN where it stands."""
    x = np.asarray(x, np.float64)
    return np.where(np.isnan(x), np.nan, _running(np.nancumprod, x, axis))


def gradient(x: Array, *, axis: int | None = None) -> Array:
    """Central differences per index, one-sided at both ends; NaN for fewer than two steps."""
    x = np.asarray(x, np.float64)
    if x.shape[axis or 0] < 2:
        return np.full(x.shape, np.nan)
    return _running(np.gradient, x, axis)


def diff(x: Array, axis: int | None = None, *, prepend: Array | None = None) -> Array:
    """Differences of neighbours: one fewer, unless ``prepend`` (a number) stands before them."""
    x = np.asarray(x, np.float64)
    if prepend is None:
        return _running(np.diff, x, axis)
    if np.ndim(prepend):
        raise ValueError(f"diff: prepend is one number, not an array of shape {prepend.shape}")
    return _running(lambda values, axis: np.diff(values, axis=axis, prepend=prepend), x, axis)


def clip(x: Array, a_min: Array | None = None, a_max: Array | None = None) -> Array:
    """Limit values to an interval; None is no limit."""
    return np.asarray(np.clip(x, a_min, a_max))


def nan_to_num(x: Array, *, nan: Array | float = 0.0) -> Array:
    """Replace NaN by a number."""
    return np.where(np.isnan(x), nan, x)


def round_to(x: Array, decimals: int = 0) -> Array:
    """Round to a number of decimals, halves to even."""
    return np.asarray(np.round(x, decimals))


def where(condition: Array, x: Array, y: Array) -> Array:
    """``x`` where the condition holds, else ``y``."""
    return np.where(condition, x, y)


_UFUNCS = (
    *("absolute", "fabs", "negative", "positive", "sign", "sqrt", "cbrt", "square", "reciprocal"),
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp", "power", "float_power"),
    *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "hypot", "degrees", "radians"),
    *("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "floor", "ceil", "trunc", "rint"),
    *("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod", "copysign"),
    *("maximum", "minimum", "fmax", "fmin", "isnan", "isinf", "isfinite", "signbit", "heaviside"),
    *("logical_and", "logical_or", "logical_xor", "logical_not"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "invert"),
    *("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
)
#: NaN wherever an argument is NaN.  Of a power only the base counts, unless the exponent is 0.
KEEPS_NAN = frozenset(
    (
        *("absolute", "fabs", "negative", "positive", "sign", "sqrt", "cbrt", "square"),
        *("reciprocal", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "logaddexp"),
        *("sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "degrees", "radians"),
        *("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh"),
        *("floor", "ceil", "trunc", "rint", "round", "clip"),
        *("add", "subtract", "multiply", "divide", "floor_divide", "remainder", "fmod"),
        *("maximum", "minimum"),
    )
)
_OWN: dict[Kind, dict[str, Callable[..., Array]]] = {
    "elementwise": {"clip": clip, "nan_to_num": nan_to_num, "round": round_to, "where": where},
    "aggregate": {
        "mean": mean,
        "std": std,
        "var": var,
        "median": median,
        "min": minimum_of,
        "max": maximum_of,
        "ptp": ptp,
        "sum": total,
        "prod": prod,
        "argmin": argmin,
        "argmax": argmax,
        "percentile": percentile,
        "quantile": quantile,
        "any": any_of,
        "all": all_of,
        "first": first,
        "last": last,
        "drift": drift,
    },
    "running": {"cumsum": cumsum, "cumprod": cumprod, "gradient": gradient, "diff": diff},
}
_SYNONYMS = {
    "abs": "absolute",
    "pow": "power",
    "mod": "remainder",
    "true_divide": "divide",
    "deg2rad": "radians",
    "rad2deg": "degrees",
    "around": "round",
    "amin": "min",
    "amax": "max",
    "average": "mean",
}


def _ufunc(name: str) -> Function:
    ufunc = getattr(np, name)
    kind = inspect.Parameter.POSITIONAL_ONLY
    arguments = [inspect.Parameter(f"x{i + 1}", kind) for i in range(ufunc.nin)]
    return Function(name, "elementwise", ufunc, inspect.Signature(arguments))


def _own(name: str, kind: Kind, call: Callable[..., Array]) -> Function:
    return Function(name, kind, call, inspect.signature(call))


#: By canonical name: what a parsed expression refers to.
BY_CANONICAL_NAME: dict[str, Function] = {name: _ufunc(name) for name in _UFUNCS} | {
    name: _own(name, kind, call) for kind, calls in _OWN.items() for name, call in calls.items()
}

#: By every name that a user may write.
FUNCTIONS: dict[str, Function] = BY_CANONICAL_NAME | {
    synonym: BY_CANONICAL_NAME[name]
    for synonym, name in (
        *_SYNONYMS.items(),
        *((f"nan{name}", name) for name in BY_CANONICAL_NAME if hasattr(np, f"nan{name}")),
    )
}

#: What may be called as a method of an array, as in ``gm.mean()``.
METHODS: frozenset[str] = frozenset(
    name for name, function in FUNCTIONS.items() if function.kind != "elementwise"
) | {"round", "clip"}

CONSTANTS: dict[str, float] = {"nan": np.nan, "inf": np.inf, "pi": np.pi, "e": np.e}
