"""One point per device out of results, and the line through them at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from oectflow.errors import OutputError, did_you_mean
from oectflow.pipeline.statistics.york import Line, fit_line

EXPERIMENT = "experiment"
USED = "used"
#: What the word of a line means; the first that fits is given.
LINE_WORDS = {
    "ok": "the value is the answer",
    "too_few": "fewer devices than the line has parameters, and one more",
    "same": "all devices are the same along the horizontal axis: there is no slope",
    "no_slope": "the slope is not above 0 by more than its 95 % interval; no value",
    "unchecked": "the condition under which the line holds is not known for a device, see 'device'",
    "unweighted": "a standard error is not known: all devices count the same, and the errors "
    "follow from their scatter",
    "scattered": "the devices scatter more than their standard errors explain (1 % false alarms), "
    "which are made larger by that",
}


def get_variable(results: xr.Dataset, name: str, remedy: str) -> xr.DataArray:
    """Return a variable or coordinate of the results.

    Raises
    ------
    OutputError
        There is none; the message ends with the remedy.
    """
    if name in results.variables:
        return results[name]
    near = did_you_mean(name, map(str, results.variables))
    raise OutputError(
        f"no variable {name!r} in these results{near if '?' in near else ''}; {remedy}"
    )


def get_sample(results: xr.Dataset, name: str) -> xr.DataArray:
    """Return what is known of the devices, such as ``W``.

    Raises
    ------
    OutputError
        Nothing is known of any.
    """
    remedy = "extract with a table of devices: of.extract(…, samples='devices.csv')"
    return get_variable(results, f"sample_{name}", remedy)


def good_values(
    results: xr.Dataset, name: str, remedy: str
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Return a feature where its status is ``ok``, NaN elsewhere, and its standard error.

    What is marked as bad, or rests on it, is NaN, too.

    Raises
    ------
    OutputError
        The results do not have the feature.
    """
    values = get_variable(results, name, remedy)
    status = f"{values.attrs.get('feature', name)}_status"
    if status in results:
        values = values.where(results[status] == "ok").assign_attrs(values.attrs)
    mark = f"{values.attrs.get('feature', name)}_mark"
    if mark in results:
        # Also where the results were opened with marks="flag", in which bad values are there.
        bad = xr.apply_ufunc(np.vectorize(_has_bad, [bool]), results[mark].load())
        bad = bad.any([dim for dim in bad.dims if dim not in values.dims])
        values = values.where(~bad).assign_attrs(values.attrs)
    return values, results.get(f"{name}_stderr")


def _has_bad(labels: str) -> bool:
    return not {"bad", "partly bad"}.isdisjoint(labels.split(", "))


def choose(values: xr.DataArray, name: str, selection: Mapping[str, object]) -> xr.DataArray:
    """Return the entries selected along labelled axes.

    Raises
    ------
    OutputError
        There is no such axis or entry; the message names what there is.
    """
    for dim, entry in selection.items():
        if dim not in values.dims:
            near = did_you_mean(dim, map(str, values.dims))
            raise OutputError(f"{name!r} has no axis {dim!r}{near}")
        entries = values[dim].values.tolist()
        if entry not in entries:
            near = did_you_mean(str(entry), map(str, entries))
            raise OutputError(f"{name!r} has no {dim}={entry!r}{near}")
        values = values.sel({dim: entry}, drop=True)
    return values


def need_one_experiment_each(results: xr.Dataset) -> None:
    """Refuse results in which a device is there twice: its points would not be independent.

    Raises
    ------
    OutputError
        The message names a device.
    """
    if EXPERIMENT not in results.dims:
        raise OutputError(
            "these results have no axis 'experiment'; a line over devices needs those of several"
        )
    if not {"chip_id", "device_id"} <= set(results.coords):
        return
    names = list(zip(results["chip_id"].values, results["device_id"].values, strict=True))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        chip, device = twice[0]
        raise OutputError(
            f"device {device} of chip {chip} has {names.count(twice[0])} experiments here; select "
            "one of each device: results.sel(experiment=[…])"
        )


@dataclass(frozen=True)
class Points:
    """Points of devices.

    Attributes
    ----------
    x, y, u_x, u_y
        Coordinates and their standard errors, NaN where there is none; all with the axis
        ``experiment`` and the same others.
    device
        :data:`USED`, a word of ``unchecked``, or why a device is left out.
    unchecked
        Words of devices that are used although their condition is not known.
    """

    x: xr.DataArray
    y: xr.DataArray
    u_x: xr.DataArray
    u_y: xr.DataArray
    device: xr.DataArray
    unchecked: Sequence[str] = ()

    @classmethod
    def of(
        cls,
        x: xr.DataArray,
        y: xr.DataArray,
        u_x: xr.DataArray,
        u_y: xr.DataArray,
        device: xr.DataArray,
        *unchecked: str,
    ) -> Points:
        """Return points with the same axes, read into memory."""
        x, y, u_x, u_y, device = (part.load() for part in xr.broadcast(x, y, u_x, u_y, device))
        return cls(x, y, u_x, u_y, device, unchecked)


def choose_word(words: Mapping[str, xr.DataArray], like: xr.DataArray) -> xr.DataArray:
    """Return the first word whose condition holds, :data:`USED` where none does."""
    conditions = [
        xr.broadcast(where, like)[0].transpose(*like.dims).values for where in words.values()
    ]
    chosen = np.select(conditions, list(words), default=USED)
    return xr.DataArray(chosen, like.coords, like.dims)


def lines_through(
    points: Points, *, through_zero: bool
) -> tuple[NDArray[np.object_], xr.DataArray]:
    """Fit a line over the devices at every entry of the other axes.

    Returns
    -------
    The lines, None where there is none, and their words of :data:`LINE_WORDS`; without the axis
    ``experiment``.
    """
    of_devices = [name for name, one in points.y.coords.items() if EXPERIMENT in one.dims]
    frame = points.y.drop_vars(of_devices).isel({EXPERIMENT: 0})
    arrays = [
        one.transpose(EXPERIMENT, *frame.dims).values.reshape(one.sizes[EXPERIMENT], -1)
        for one in (points.x, points.y, points.u_x, points.u_y, points.device)
    ]
    found = np.empty(arrays[0].shape[1], object)
    words = np.empty(arrays[0].shape[1], "<U16")
    for k in range(found.size):
        x, y, u_x, u_y, device = (one[:, k] for one in arrays)
        use = np.isin(device, [USED, *points.unchecked])
        line, word = _one_line(x[use], y[use], u_x[use], u_y[use], through_zero)
        if word in ("ok", "unweighted", "scattered") and not (device[use] == USED).all():
            word = "unchecked"
        found[k], words[k] = line, word
    shape = frame.shape
    return found.reshape(shape), xr.DataArray(words.reshape(shape), frame.coords, frame.dims)


def _one_line(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    u_x: NDArray[np.float64],
    u_y: NDArray[np.float64],
    through_zero: bool,
) -> tuple[Line | None, str]:
    if x.size < (2 if through_zero else 3):
        return None, "too_few"
    weighted = bool((np.isfinite(u_x) & np.isfinite(u_y) & (np.hypot(u_x, u_y) > 0)).all())
    # In units of their own: squares of µm V and of nS have no room below 1e-308.
    scale_x, scale_y = np.abs(x).max() or 1.0, np.abs(y).max() or 1.0
    errors = (u_x / scale_x, u_y / scale_y) if weighted else (None, None)
    line = fit_line(x / scale_x, y / scale_y, *errors, through_zero=through_zero)
    if line is None:
        return None, "same"
    if not line.slope > line.reach * line.slope_stderr:
        return None, "no_slope"
    word = "scattered" if line.scattered else "ok" if weighted else "unweighted"
    return line.scaled(scale_x, scale_y), word


def columns(
    lines: NDArray[np.object_],
    like: xr.DataArray,
    name: str,
    number: str,
    unit: str,
    description: str,
    *,
    attrs: Mapping[str, str] | None = None,
    factor: float = 1.0,
) -> dict[str, xr.DataArray]:
    """Return a number of every line with its standard error and its 95 % interval.

    Parameters
    ----------
    lines, like
        As :func:`lines_through` returns them.
    name
        Of the variable.
    number
        Attribute of :class:`.Line`, whose standard error is ``<number>_stderr``.
    unit, description, attrs
        Of the variable; ``attrs`` are further ones.
    factor
        Multiplies the number.
    """
    value, error, reach = (
        _column(lines, like, one) for one in (number, f"{number}_stderr", "reach")
    )
    value, error = factor * value, factor * error
    about = {
        name: (value, {"description": description, **(attrs or {})}),
        f"{name}_stderr": (error, {"description": f"standard error of {name}"}),
        f"{name}_low": (value - reach * error, {"description": "lower end of the 95 % interval"}),
        f"{name}_high": (value + reach * error, {"description": "upper end of the 95 % interval"}),
    }
    return {key: one.assign_attrs(units=unit, **words) for key, (one, words) in about.items()}


def quality(
    lines: NDArray[np.object_], like: xr.DataArray, points: Points
) -> dict[str, xr.DataArray]:
    """Return how well the lines describe the points."""
    said = {
        "chi2": "sum of squared residuals in their standard errors; NaN where these are not known",
        "freedom": "degrees of freedom of chi2",
        "p_value": "probability of this chi2 or more if the standard errors are right",
    }
    found = {
        name: _column(lines, like, name).assign_attrs(units="", description=text)
        for name, text in said.items()
    }
    used = points.device.isin([USED, *points.unchecked]).sum(EXPERIMENT)
    found["devices"] = used.assign_attrs(units="", description="devices on the line")
    return found


def coordinates(
    points: Points, x: str, x_unit: str, y: str, y_unit: str
) -> dict[str, xr.DataArray]:
    """Return the points themselves, for pictures."""
    return {
        "device": points.device,
        "x": points.x.assign_attrs(units=x_unit, description=x),
        "x_stderr": points.u_x.assign_attrs(units=x_unit, description="standard error of x"),
        "y": points.y.assign_attrs(units=y_unit, description=y),
        "y_stderr": points.u_y.assign_attrs(units=y_unit, description="standard error of y"),
    }


def words(description: str, meanings: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes of a variable of words, as those of results have them."""
    said = "; ".join(f"{word}: {meaning}" for word, meaning in meanings.items())
    return {"units": "", "description": description, "words": said}


def squared_share(results: xr.Dataset, name: str) -> xr.DataArray:
    """Return the square of the relative standard uncertainty of a length of the sample."""
    size = results[f"sample_{name}"]
    share: xr.DataArray = (results.get(f"sample_u_{name}", xr.full_like(size, np.nan)) / size) ** 2
    return share


def or_unknown(error: xr.DataArray | None, like: xr.DataArray) -> xr.DataArray:
    """Return a standard error, NaN where there is none."""
    return xr.full_like(like, np.nan, dtype=float) if error is None else error


def _column(lines: NDArray[np.object_], like: xr.DataArray, name: str) -> xr.DataArray:
    values = [np.nan if line is None else float(getattr(line, name)) for line in lines.flat]
    return xr.DataArray(np.reshape(values, lines.shape), like.coords, like.dims)
