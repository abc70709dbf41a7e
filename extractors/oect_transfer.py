"""The classes of ``oect_transfer``: transfer curves and their points.

A script changes one line: ``from oect_transfer import Transfer`` becomes
``from oectflow.extractors.oect_transfer import Transfer``.  Properties, arguments and the shape of
what they hold are the same, and the numbers are, to rounding, where the definition is.  On purpose
other are:

* a point that does not exist is NaN, not 0 V and 0 A, which is a point of many curves;
* equal neighbouring voltages give NaN in ``gm`` instead of a difference divided by 1e-12 V, and no
  extremum is sought there;
* the logarithm of the current, of which ``Von`` is the steepest point, is not cut at 1e-12 A, below
  which a whole curve of a small device was constant; points without a current do not count;
* steps that are padded with NaN to the length of the longest end at their last sample: their
  turning point is their own, and NaN is never an extremum;
* a ``device_type`` that is neither ``"N"`` nor ``"P"`` is an error and not ``"P"``.

Dimension letters: S steps, n points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oectflow.errors import ParameterError, did_you_mean

Array = NDArray[np.float64]
DeviceType = Literal["N", "P"]
Place = tuple[float, tuple[float, float]]


@dataclass(frozen=True)
class Sequence:
    """An array of a sweep: all of it, and that of either direction."""

    raw: Array
    forward: Array
    reverse: Array


@dataclass(frozen=True)
class Point:
    """A value of a sweep and of either direction, each with (Vg, Id) where it is found."""

    raw: Place
    forward: Place
    reverse: Place


@dataclass(frozen=True)
class BatchSequence(Sequence):
    """The same of many steps.  Shape (S, n), NaN behind the end of shorter ones."""


@dataclass(frozen=True)
class BatchPoint:
    """Values of many steps, shape (S,), and (Vg, Id) where they are found, shape (S, 2)."""

    raw: Array
    forward: Array
    reverse: Array
    raw_coords: Array
    forward_coords: Array
    reverse_coords: Array


def check_type(device_type: str) -> DeviceType:
    """Return a type of device that there is."""
    if device_type in ("N", "n"):
        return "N"
    if device_type in ("P", "p"):
        return "P"
    raise ParameterError(f"device_type={device_type!r}{did_you_mean(device_type, ('N', 'P'))}")


def split(values: Array) -> Sequence:
    """Split an array at the turning point, which belongs to the forward direction."""
    turn = (len(values) - 1) // 2 + 1
    return Sequence(values, values[:turn], values[turn:])


def safe_diff(f: ArrayLike, x: ArrayLike) -> Array:
    """Return df/dx: the mean of the slopes to both neighbours, at an end that to the only one.

    Parameters
    ----------
    f, x
        Shape (n,).

    Returns
    -------
    Shape (n,); NaN beside equal ``x``, and where there is a single point.
    """
    y, at = np.asarray(f, np.float64), np.asarray(x, np.float64)
    if len(y) < 2:
        return np.full(len(y), np.nan)
    dx = np.diff(at)
    slopes = np.divide(np.diff(y), dx, out=np.full(len(dx), np.nan), where=dx != 0)
    return np.concatenate([slopes[:1], (slopes[:-1] + slopes[1:]) / 2, slopes[-1:]])


def log_slope(Id: Array, Vg: Array) -> Array:
    """Return the slope of log10 abs(Id) in decades per V, NaN beside points without a current."""
    magnitude = np.abs(Id)
    logs = np.log10(magnitude, out=np.full(len(magnitude), np.nan), where=magnitude > 0)
    return safe_diff(logs, Vg)


def place(values: Array, Vg: Array, Id: Array, *, lowest: bool) -> Place:
    """Return the extremum of some values and (Vg, Id) there, NaN where there is none."""
    if not np.isfinite(values).any():
        return np.nan, (np.nan, np.nan)
    at = int(np.nanargmin(values) if lowest else np.nanargmax(values))
    return float(values[at]), (float(Vg[at]), float(Id[at]))


class Transfer:
    """One transfer sweep.

    Parameters
    ----------
    x, y
        Gate voltage (V) and drain current (A).  Shape (n,), finite.
    device_type
        ``"N"``: Von is where the current rises most steeply; ``"P"``: where it falls so.

    Attributes
    ----------
    Vg, I
        :class:`Sequence`.  The first half, with the turning point, is forward.
    tp_idx
        Index of the turning point.

    Raises
    ------
    ParameterError
        The arrays are empty, not equally long, or not finite; or there is no such type.
    """

    def __init__(self, x: ArrayLike, y: ArrayLike, device_type: str = "N") -> None:
        Vg, Id = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if Vg.ndim != 1 or Vg.shape != Id.shape or not Vg.size:
            raise ParameterError(
                f"x has shape {Vg.shape} and y {Id.shape}; expected two arrays of shape (n,), n > 0"
            )
        if not (np.isfinite(Vg).all() and np.isfinite(Id).all()):
            raise ParameterError("x and y must be finite; BatchTransfer leaves NaN out")
        self.device_type = check_type(device_type)
        self.tp_idx = (len(Vg) - 1) // 2
        self.Vg = split(Vg)
        self.I = split(Id)

    @cached_property
    def gm(self) -> Sequence:
        """dId/dVg (S) of the sweep and of either direction by itself."""
        return Sequence(*(safe_diff(i, v) for i, v in self._parts()))

    def _parts(self) -> list[tuple[Array, Array]]:
        names = ("raw", "forward", "reverse")
        return [(getattr(self.I, name), getattr(self.Vg, name)) for name in names]

    def _point(self, values: Callable[[Array, Array], Array], *, lowest: bool = False) -> Point:
        return Point(*(place(values(i, v), v, i, lowest=lowest) for i, v in self._parts()))

    @cached_property
    def absgm_max(self) -> Point:
        """Largest abs(gm), in S."""
        return self._point(lambda i, v: np.abs(safe_diff(i, v)))

    @cached_property
    def gm_max(self) -> Point:
        """Largest gm, in S."""
        return self._point(safe_diff)

    @cached_property
    def gm_min(self) -> Point:
        """Smallest gm, in S."""
        return self._point(safe_diff, lowest=True)

    @cached_property
    def absI_max(self) -> Point:
        """Largest abs(Id), in A."""
        return self._point(lambda i, _: np.abs(i))

    @cached_property
    def I_max(self) -> Point:
        """Largest Id, in A."""
        return self._point(lambda i, _: i)

    @cached_property
    def absI_min(self) -> Point:
        """Smallest abs(Id), in A."""
        return self._point(lambda i, _: np.abs(i), lowest=True)

    @cached_property
    def I_min(self) -> Point:
        """Smallest Id, in A."""
        return self._point(lambda i, _: i, lowest=True)

    @cached_property
    def Von(self) -> Point:
        """Voltage at which log10 abs(Id) changes most steeply, in V."""
        steepest = self._point(log_slope, lowest=self.device_type == "P")
        sides = (steepest.raw, steepest.forward, steepest.reverse)
        return Point(*((at[0], at) for _, at in sides))

    safe_diff = staticmethod(safe_diff)


class BatchTransfer:
    """Many transfer sweeps, step by step as :class:`Transfer`.

    Parameters
    ----------
    data_3d
        Vg (V) and Id (A) of every step, as ``get_transfer_all_measurement()["measurement_data"]``:
        shape (S, 2, n), NaN behind the end of shorter steps.
    device_type
        As for :class:`Transfer`.

    Attributes
    ----------
    step_count, data_point_count
        S and n.
    tp_idx
        Index of the turning point of a step with n points.

    Raises
    ------
    ParameterError
        The array has another shape, or there is no such type.
    """

    def __init__(self, data_3d: ArrayLike, device_type: str = "N") -> None:
        data = np.asarray(data_3d, np.float64)
        if data.ndim != 3 or data.shape[1] != 2 or not data.size:
            raise ParameterError(
                f"data_3d has shape {data.shape}; expected (n_steps, 2, n_points), none of them 0"
            )
        self.data_3d = data
        self.device_type = check_type(device_type)
        self.step_count, _, self.data_point_count = data.shape
        self.tp_idx = (self.data_point_count - 1) // 2
        self._steps: list[Transfer | None] = []
        for Vg, Id in data:
            there = np.isfinite(Vg) & np.isfinite(Id)
            step = Transfer(Vg[there], Id[there], device_type) if there.any() else None
            self._steps.append(step)

    def _sequence(self, name: str) -> BatchSequence:
        rows = {}
        half = self.tp_idx + 1
        for side, n in (
            ("raw", self.data_point_count),
            ("forward", half),
            ("reverse", self.data_point_count - half),
        ):
            rows[side] = np.full((self.step_count, n), np.nan)
            for row, step in zip(rows[side], self._steps, strict=True):
                if step is not None:
                    values = getattr(getattr(step, name), side)
                    row[: len(values)] = values
        return BatchSequence(**rows)

    def _point(self, name: str) -> BatchPoint:
        values: dict[str, Array] = {}
        for side in ("raw", "forward", "reverse"):
            found = np.full((self.step_count, 3), np.nan)
            for row, step in zip(found, self._steps, strict=True):
                if step is not None:
                    value, (vg, current) = getattr(getattr(step, name), side)
                    row[:] = value, vg, current
            values[side], values[f"{side}_coords"] = found[:, 0], found[:, 1:]
        return BatchPoint(**values)

    def __getattr__(self, name: str) -> Any:
        if name in _SEQUENCES or name in _POINTS:
            made = self._sequence(name) if name in _SEQUENCES else self._point(name)
            setattr(self, name, made)
            return made
        raise AttributeError(f"BatchTransfer has no attribute {name!r}{did_you_mean(name, _ALL)}")

    def get_data_summary(self) -> dict[str, Any]:
        """Return shape, size and ranges of the data."""
        Vg, Id = self.data_3d[:, 0], self.data_3d[:, 1]
        return {
            "shape": self.data_3d.shape,
            "step_count": self.step_count,
            "data_point_count": self.data_point_count,
            "device_type": self.device_type,
            "turning_point_idx": self.tp_idx,
            "total_data_points": self.data_3d.size,
            "memory_size_mb": self.data_3d.nbytes / 2**20,
            "vg_global_range": (float(np.nanmin(Vg)), float(np.nanmax(Vg))),
            "id_global_range": (float(np.nanmin(Id)), float(np.nanmax(Id))),
        }


_SEQUENCES = ("Vg", "I", "gm")
_POINTS = (*("absgm_max", "gm_max", "gm_min", "absI_max", "I_max", "absI_min", "I_min", "Von"),)
_ALL = (*_SEQUENCES, *_POINTS)


def create_batch_transfer_from_experiment_data(
    transfer_data_3d: ArrayLike, device_type: str = "N"
) -> BatchTransfer:
    """Return a :class:`BatchTransfer`."""
    return BatchTransfer(transfer_data_3d, device_type)
