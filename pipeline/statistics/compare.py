"""Compare groups of devices: batches, chips, electrolytes, before and after."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from oectflow.errors import OutputError, ParameterError
from oectflow.pipeline.statistics.groups import Group, groups_of, steps_of, values_of
from oectflow.pipeline.statistics.points import words
from oectflow.pipeline.statistics.resampling import (
    Draws,
    Units,
    draw,
    hedges,
    holm,
    standard_error,
    units_of,
    welch_freedom,
)

#: Units of a level of which fewer say little.
_FEW = 3
_GROUP_WORDS = {
    "ok": "the value is the answer",
    "no_value": "no device of the group has a value with the status ok",
    "one_value": "there is a single value: no interval",
    "one_device": "the group is one device: the interval is that of its further steps, or cycles",
    "one_chip": "the group is one chip: the interval is that of further devices on this chip",
    "few": "two units only: the interval is as wide as that makes it",
}
_PAIR_WORDS = {
    "ok": "the value is the answer",
    "no_value": "a group has no value, or a single one, or nothing scatters: no test",
    "shared": "devices are in both groups, which are not independent: see paired=True",
    "one_device": "a group is one device: what differs may be the devices",
    "one_chip": "a group is one chip: what differs may be the chips",
    "few": "a group has two units only: the test has little power",
    "shared_chips": "chips are in both groups: the interval is rather too wide",
}
_LEVEL_WORDS = {
    "chip": "chips",
    "device": "devices of one chip",
    "step": "steps of one device",
    "cycle": "cycles of one step",
    "none": "there is one value",
}


def compare(
    results: xr.Dataset,
    feature: str,
    by: str | None = None,
    *,
    paired: bool = False,
    before: slice | Sequence[int] | None = None,
    after: slice | Sequence[int] | None = None,
    log: bool = False,
    n_draws: int = 2000,
    seed: int = 0,
    **selection: Any,
) -> xr.Dataset:
    """Compare a feature between groups of devices, or before and after on the same devices.

    The value of a step is the mean of its cycles, the value of a device is the mean of its steps,
    and the value of a group is the mean of its devices.  Standard errors come from a hierarchical
    bootstrap that resamples whole chips, with their devices, steps and cycles.  If a group has only
    one chip, it resamples the devices; if it has only one device, the steps.  Intervals use
    Student's t with the degrees of freedom of these units; tests are Welch's.

    Parameters
    ----------
    results
        A Dataset from :func:`oectflow.open_results`, or a part of it.  Only values with the status
        ``ok`` count.
    feature
        Name of a variable.
    by
        Column that defines the groups: ``"chip_id"``, ``"device_id"``, or a property of the
        samples, such as ``"batch"``.
    paired
        The same devices were measured in each group; compare the differences of each device.
    before, after
        In place of ``by``: the steps to compare on each device, such as ``slice(0, 5)``.
    log
        Compare logarithms: geometric means and ratios, for values that vary by factors.
    n_draws, seed
        Number of draws and seed of the bootstrap.
    selection
        Entries along other axes, such as ``phase="on"``.

    Returns
    -------
    Per ``group``: ``estimate`` with ``_stderr``, ``_low`` and ``_high`` (95 %), ``sd`` between
    devices, ``n_chips``, ``n_devices``, ``n_steps``, ``n_values``, ``n_without`` (devices without a
    good value), the ``level`` that was resampled, and ``status``.  Per ``pair`` of groups:
    ``difference``, second minus first (with ``log``: ``ratio``), with the same companions;
    ``effect_size`` (Hedges' g between devices) with its interval; ``p_value``, and ``p_corrected``
    for the number of pairs (Holm); ``n_pairs``, and ``pair_status``.  ``p_all``: probability of
    such groups if there is no difference between them (Alexander & Govern (1994), J. Educ. Stat.
    19, 91; three groups or more).  Per ``device``: ``device_value``, ``device_group``,
    ``device_chip``, ``device_name``.  Experiments that belong to no group are in
    ``attrs["left_out"]``.

    Raises
    ------
    OutputError
        There is no such feature, column, axis or entry, or there are fewer than two groups.
    ParameterError
        Both or neither of ``by`` and ``before``/``after`` are given, or a number is impossible.
    """
    if (by is None) == (before is None or after is None) or (before is None) != (after is None):
        raise ParameterError("expected by='…', or before=… and after=…, and not both")
    if not isinstance(n_draws, int | np.integer) or n_draws < 100:
        raise ParameterError(f"n_draws={n_draws!r}: expected a whole number from 100 on")
    left_out: list[str] = []
    if by is not None:
        groups, values, left_out = groups_of(results, feature, by, selection, log=log)
    else:
        values = values_of(results, feature, selection, log=log)
        assert before is not None
        assert after is not None
        groups = [steps_of(values, "before", before), steps_of(values, "after", after)]
        paired = True
    if len(groups) < 2:
        named = f", {groups[0].name!r}" if groups else ""
        raise OutputError(f"by={by!r}: {len(groups)} group{named}; expected two at least")
    rng = np.random.default_rng(seed)
    unit = str(values.attrs.get("units", ""))
    scale = "geometric mean" if log else "mean"
    pairs = [
        _pair(a, b, n_draws, rng, paired=paired, by_chip=by == "chip_id")
        for a, b in itertools.combinations(groups, 2)
    ]
    names = [(a.name, b.name) for a, b in itertools.combinations(groups, 2)]
    found = xr.Dataset(
        _columns(
            [estimate(group, n_draws, rng, by_chip=by == "chip_id") for group in groups], "group"
        ),
        {"group": [group.name for group in groups]},
    )
    found = found.merge(
        xr.Dataset(
            _columns(pairs, "pair"),
            {
                "pair": [f"{b} − {a}" if not log else f"{b} / {a}" for a, b in names],
                "first": ("pair", [a for a, _ in names]),
                "second": ("pair", [b for _, b in names]),
            },
        )
    ).merge(_devices(groups))
    found["p_corrected"] = ("pair", holm(found["p_value"].values))
    found["p_all"] = ((), math.nan if paired else _all_alike(groups))
    if log:
        found = _back(found)
    for name, (text, own) in _described(scale, unit, log=log).items():
        if name in found:
            found[name].attrs.update({"units": own, "description": text})
    found["status"].attrs = words("how to read the estimate", _GROUP_WORDS)
    found["pair_status"].attrs = words("how to read the difference", _PAIR_WORDS)
    found["level"].attrs = words("what was drawn again", _LEVEL_WORDS)
    label = " ".join([feature, *map(str, selection.values())])
    return found.assign_attrs(
        feature=feature, label=label, units=unit, by=by or "before and after", paired=int(paired),
        log=int(log), left_out=", ".join(left_out),
        reference="Davison & Hinkley (1997), Bootstrap Methods and their Application, section 3.8",
    )  # fmt: skip


def estimate(
    group: Group, n_draws: int, rng: np.random.Generator, *, by_chip: bool
) -> dict[str, Any]:
    """Return the result of :func:`compare` for one group."""
    devices = group.devices
    about = {
        "n_chips": len({one.chip for one in devices}),
        "n_devices": len(devices),
        "n_steps": sum(len(one.steps) for one in devices),
        "n_values": sum(len(step) for one in devices for step in one.cycles),
        "n_without": group.n_without,
    }
    if not devices:
        nothing = dict.fromkeys(_interval("estimate", math.nan, math.nan, 0), math.nan)
        return nothing | about | {"sd": math.nan, "level": "none", "status": "no_value"}
    units = units_of(devices)
    error = standard_error(draw(units, n_draws, rng))
    means = [one.mean for one in devices]
    status = _level_word(units, by_chip=by_chip)
    return {
        **_interval("estimate", float(np.mean(means)), error, units.freedom),
        "sd": float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
        **about,
        "level": units.level,
        "status": status or ("few" if units.freedom + 1 < _FEW else "ok"),
    }


def _level_word(units: Units, *, by_chip: bool) -> str:
    """Return the word of a group that says nothing of others of its kind, ``""`` where it does."""
    if units.level == "none":
        return "one_value"
    if units.level in ("step", "cycle"):
        return "one_device"
    return "one_chip" if units.level == "device" and not by_chip else ""


def _pair(
    a: Group, b: Group, n_draws: int, rng: np.random.Generator, *, paired: bool, by_chip: bool
) -> dict[str, Any]:
    return (
        _matched(a, b, n_draws, rng)
        if paired
        else _independent(a, b, n_draws, rng, by_chip=by_chip)
    )


def _independent(
    a: Group, b: Group, n_draws: int, rng: np.random.Generator, *, by_chip: bool
) -> dict[str, Any]:
    if not (a.devices and b.devices):
        return _no_test(math.nan, 0)
    units = [units_of(group.devices) for group in (a, b)]
    draws = [draw(one, n_draws, rng) for one in units]
    errors = [standard_error(one) for one in draws]
    first, second = (float(np.mean([d.mean for d in group.devices])) for group in (a, b))
    if not (math.isfinite(sum(errors)) and max(errors) > 0):
        return _no_test(second - first, 0)
    freedom = welch_freedom(errors, [one.freedom for one in units])
    levels = [_level_word(one, by_chip=by_chip) for one in units]
    chips = [{one.chip for one in group.devices} for group in (a, b)]
    keys = [{one.key for one in group.devices} for group in (a, b)]
    conditions = {
        "shared": bool(keys[0] & keys[1]),
        "one_device": "one_device" in levels,
        "one_chip": "one_chip" in levels and chips[0] != chips[1],
        "few": min(one.freedom for one in units) + 1 < _FEW,
        "shared_chips": bool(chips[0] & chips[1]) and units[0].level == units[1].level == "chip",
    }
    status = next((word for word, holds in conditions.items() if holds), "ok")
    numbers = [len(group.devices) for group in (a, b)]
    return {
        **_tested(second - first, math.hypot(*errors), freedom),
        **_effect(second - first, [a, b], draws[1].mean - draws[0].mean, draws, freedom, numbers),
        "n_pairs": 0,
        "pair_status": status,
    }


def _matched(a: Group, b: Group, n_draws: int, rng: np.random.Generator) -> dict[str, Any]:
    later = {one.key: one for one in b.devices}
    both = [(one, later[one.key]) for one in a.devices if one.key in later]
    if not both:
        return _no_test(math.nan, 0)
    differences = [two.mean - one.mean for one, two in both]
    units = units_of([one for one, _ in both], differences)
    draws = draw(units, n_draws, rng)
    error = standard_error(draws)
    difference = float(np.mean(differences))
    if not error > 0:
        return _no_test(difference, len(both))
    word = _level_word(units, by_chip=False)
    groups = [
        Group(a.name, [one for one, _ in both], 0),
        Group(b.name, [two for _, two in both], 0),
    ]
    return {
        **_tested(difference, error, units.freedom),
        **_effect(difference, groups, draws.mean, [draws], units.freedom, [len(both)] * 2),
        "n_pairs": len(both),
        "pair_status": word or ("few" if units.freedom + 1 < _FEW else "ok"),
    }


def _no_test(difference: float, n_pairs: int) -> dict[str, Any]:
    return {
        **_interval("difference", difference, math.nan, 0),
        "p_value": math.nan,
        **dict.fromkeys(("effect_size", "effect_size_low", "effect_size_high"), math.nan),
        "n_pairs": n_pairs,
        "pair_status": "no_value",
    }


def _tested(difference: float, error: float, freedom: float) -> dict[str, float]:
    p_value = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return {**_interval("difference", difference, error, freedom), "p_value": p_value}


def _effect(
    difference: float,
    groups: Sequence[Group],
    drawn: Any,
    draws: Sequence[Draws],
    freedom: float,
    numbers: Sequence[int],
) -> dict[str, float]:
    """Return the difference in standard deviations between devices, and its interval."""
    none = dict.fromkeys(("effect_size", "effect_size_low", "effect_size_high"), math.nan)
    if min(numbers) < 2:
        return none
    variances = [float(np.var([d.mean for d in group.devices], ddof=1)) for group in groups]
    if not sum(variances) > 0:
        return none
    size = float(hedges(difference, variances, numbers))
    # On pairs the standard deviations are those of both, which pairs leave as they are.
    again = [one.variance for one in draws] if len(draws) == 2 else variances
    sizes = np.asarray(hedges(drawn, again, numbers))
    # Of a sample that is one chip over and over nothing is known of the scatter.
    sizes = sizes[np.isfinite(sizes)]
    low, high = np.percentile(sizes, (16, 84)) if sizes.size else (math.nan, math.nan)
    # Half the middle 68 %: few samples in which nearly nothing scatters would rule a standard one.
    error = (high - low) / 2 * max(one.widening for one in draws)
    reach = float(stats.t.ppf(0.975, freedom)) * error
    return {
        "effect_size": size,
        "effect_size_low": size - reach,
        "effect_size_high": size + reach,
    }


def _interval(name: str, value: float, error: float, freedom: float) -> dict[str, float]:
    reach = float(stats.t.ppf(0.975, freedom)) * error if freedom else math.nan
    return {
        name: value,
        f"{name}_stderr": error,
        f"{name}_low": value - reach,
        f"{name}_high": value + reach,
    }


def _all_alike(groups: Sequence[Group]) -> float:
    """Return the probability of groups that differ as much, NaN where it is not known."""
    if len(groups) < 3 or not all(group.devices for group in groups):
        return math.nan
    samples = []
    for group in groups:
        units = units_of(group.devices)
        samples.append(units.middle + units.total / units.n)
        if units.freedom < 1 or not samples[-1].std() > 0:
            return math.nan
    return float(stats.alexandergovern(*samples).pvalue)


def _columns(rows: Sequence[Mapping[str, Any]], dim: str) -> dict[str, tuple[str, list[Any]]]:
    return {name: (dim, [row[name] for row in rows]) for name in rows[0]}


def _devices(groups: Sequence[Group]) -> xr.Dataset:
    rows = [(group.name, one) for group in groups for one in group.devices]
    return xr.Dataset(
        {
            "device_value": ("device", [one.mean for _, one in rows]),
            "device_group": ("device", [name for name, _ in rows]),
            "device_chip": ("device", [one.chip for _, one in rows]),
            "device_name": ("device", [one.device for _, one in rows]),
        }
    )


def _back(found: xr.Dataset) -> xr.Dataset:
    """Return geometric means and ratios in place of logarithms."""
    for name in map(str, list(found)):
        if name in ("estimate_stderr", "difference_stderr"):
            continue
        if name.startswith(("estimate", "difference")) or name in ("sd", "device_value"):
            found[name] = np.exp(found[name])
    renamed = {n: str(n).replace("difference", "ratio") for n in found if "difference" in str(n)}
    return found.rename(renamed)


def _described(scale: str, unit: str, *, log: bool) -> dict[str, tuple[str, str]]:
    low, high = "lower end of the 95 % interval", "upper end of the 95 % interval"
    own = "" if log else unit
    of_log = " of its logarithm" if log else ""
    return {
        "estimate": (f"{scale} of the devices", unit),
        "estimate_stderr": (f"standard error of estimate{of_log}", own),
        "estimate_low": (low, unit),
        "estimate_high": (high, unit),
        "sd": (
            "factor of one standard deviation between devices"
            if log
            else "standard deviation between devices",
            own,
        ),
        "difference": ("mean of the second group less that of the first", unit),
        "difference_stderr": ("standard error of difference", unit),
        "difference_low": (low, unit),
        "difference_high": (high, unit),
        "ratio": ("geometric mean of the second group over that of the first", ""),
        "ratio_stderr": ("standard error of the logarithm of ratio", ""),
        "ratio_low": (low, ""),
        "ratio_high": (high, ""),
        "effect_size": ("Hedges' g: the difference in standard deviations between devices", ""),
        "effect_size_low": (low, ""),
        "effect_size_high": (high, ""),
        "p_value": ("probability of such a difference between groups that are alike", ""),
        "p_corrected": ("p_value corrected for the number of pairs (Holm)", ""),
        "p_all": ("probability of such groups if all are alike", ""),
        "n_chips": ("chips", ""),
        "n_devices": ("devices with a value", ""),
        "n_steps": ("steps with a value", ""),
        "n_values": ("values", ""),
        "n_without": ("devices without a good value", ""),
        "n_pairs": ("devices in both groups", ""),
        "device_value": (f"{scale} of a device", unit),
        "device_group": ("group of a device", ""),
        "device_chip": ("chip of a device", ""),
        "device_name": ("id of a device on its chip", ""),
    }
