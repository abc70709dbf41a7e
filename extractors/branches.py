"""What features of transfer sweeps have in common: branches, directions and status words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from oectflow.extractors.base import ERROR, OK, BaseExtractor, Columns, Params, Variable
from oectflow.extractors.kernels import judge, sweep_errors, sweep_noise, tangents
from oectflow.measurement import Batch

GRADIENTS = {
    "auto": sweep_errors.AUTO,
    "two_sided_mean": sweep_errors.TWO_SIDED_MEAN,
    "second_order": sweep_errors.SECOND_ORDER,
}
DIRECTIONS = ("forward", "reverse")
SPLIT = (
    "The sweep is split at the turning point, the first point at the voltage farthest from the "
    "first one; it belongs to both branches, unless the current steps there from one to the other; "
    "a one-way sweep is forward. Points of the same voltage are merged."
)
SLOPE = (
    "Derivative at inner points: mean of both slopes while the spacing is even, else "
    "numpy.gradient(Id, Vg); gradient='two_sided_mean' or 'second_order' choose one. smooth=n: "
    "slope of the parabola fitted by least squares to n neighbouring points."
)


def _letter(value: Any) -> Any:
    """Return text in capitals, except "auto", and anything else as it is."""
    return value.upper() if isinstance(value, str) and value != "auto" else value


#: Charge carriers.  They decide only the sign of the slope of log10 |Id|.
DeviceType = Annotated[Literal["auto", "N", "P"], BeforeValidator(_letter)]
#: How "auto" chooses them (in :func:`.sweeps.growth`), and what it says if it cannot.
GROWTH = (
    "device_type auto is, for each branch, N where every point of its largest |Id| is at a higher "
    "Vg than every point of its smallest |Id|, P where every one is at a lower Vg"
)
NO_GROWTH = (
    "the branch has its largest |Id| on both sides of its smallest, or the other way round: "
    "give device_type"
)
Gradient = Literal["auto", "two_sided_mean", "second_order"]
Direction = Literal["forward", "reverse", "both"]


class SlopeParams(Params):
    """How slopes along a branch are computed."""

    #: Formula of the derivative at inner points; "auto" is the first one if the spacing is even.
    gradient: Gradient = "auto"
    #: Number of points, odd, of a window: the slope is that of the parabola fitted to the window
    #: by least squares (Savitzky and Golay).  More points mean less noise and flatter maxima.
    #: None: no windows.
    smooth: int | None = Field(None, ge=5, le=201)

    @field_validator("smooth")
    @classmethod
    def _can_be_a_window(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value % 2 == 0:
            raise ValueError(f"expected an odd number of points, such as {value + 1}")
        if value is not None and info.data.get("gradient", "auto") != "auto":
            raise ValueError("'smooth' has a formula of its own; leave out 'gradient' or 'smooth'")
        return value


def formula_of(params: Mapping[str, Any]) -> int:
    """Return the formula that :func:`.sweeps.derivative` takes, from :class:`SlopeParams`."""
    return params["smooth"] or GRADIENTS[params["gradient"]]


class DirectionParams(Params):
    """Parameters of a number per branch."""

    #: Branch of the sweep.
    direction: Direction = "forward"


#: Faults of a branch, by the codes of :mod:`.kernels.judge`.
JUDGED = {
    judge.OVERFLOW: "overflow",
    judge.OUTLIER: "outlier",
    judge.CLIPPED: "clipped",
    judge.JUMP: "jump",
    judge.NOISE: "noise",
    judge.LOOPS: "several_loops",
    judge.IMPLAUSIBLE: "implausible",
}
LEFT_OUT = {
    "overflow": "readings without a number, or with the instrument's mark for too much, are left "
    "out; the value is that of the others, none where it lies beside the gap",
    "outlier": "single points, off by far more than noise where no device bends like that, are "
    "left out; the value is that of the others, none where it lies beside the gap",
}
UNSOUND = {
    "clipped": "the current ends abruptly in a plateau of equal values, as at a compliance",
    "jump": "the current steps where the curve before and behind does not; no value",
    "noise": "the branch is noise about a constant: no response to the gate; no value",
    "several_loops": "the turning voltage is passed more than once: not one way back; no value",
    "implausible": "|Vg| above 200 V, or |Id| above 0.1 A (where W, L and d are known, above what "
    "a channel of 1e6 S/m carries at Vd), as of another unit; no value",
}
NOISY = {
    "noisy": "it is no more than what noise alone may come to, or an offset that is not excluded: "
    "a loop that does not close, a current less noisy than it should be, or of the other sign"
}
WORDS = {
    "edge": "the extreme lies on the first or last point of the branch, or beside one that may be "
    "cut off: it may be beyond",
    "too_few": "fewer than three different gate voltages in the branch, or fewer than 'smooth'",
    "no_data": "no point of the step has a finite Vg and Id",
    "flat": "the current does not change along the branch (or stays below 1e-12 A, for Von)",
    **NOISY,
    **LEFT_OUT,
    **UNSOUND,
}


#: A spacing larger than this many typical ones is a gap.
_GAP = 1.5
#: If the geometry of the device is unknown, a larger |Id|, in A, is taken to be in another unit:
#: vertical transistors reach 0.08 A.
_MOST_CURRENT = 0.1
#: If the geometry is known: no channel conducts better than this, in S/m; the best polymers reach
#: some 1e5.
_MOST_CONDUCTIVITY = 1e6
_GEOMETRY = ("W", "L", "d")


@dataclass(frozen=True)
class Branches:
    """The branches of many sweeps, without repeated voltages, and what is wrong with them.

    Attributes
    ----------
    x, y, log, sigma, gate
        Gate voltage (V), drain current (A), its decimal logarithm, the standard deviation of its
        noise (A) and the magnitude of the gate current (A), for all branches of all steps.  The
        last has shape (0,) if no gate current was recorded.
    first, count
        Start and number of points of the forward and the reverse branch.  Shape (S, 2).
    verdict
        Codes of :mod:`.kernels.judge`.  Shape (S, 2).
    doubt
        Share by which the current may jump without being noticed.  Shape (S, 2).
    noise, classes
        The noise of each sweep, as in :func:`.kernels.sweep_noise.deviation`.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    log: NDArray[np.float64]
    sigma: NDArray[np.float64]
    gate: NDArray[np.float64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    verdict: NDArray[np.int8]
    doubt: NDArray[np.float64]
    noise: NDArray[np.float64]
    classes: NDArray[np.int64]
    _kept: dict[Hashable, tuple[NDArray[Any], ...]] = field(default_factory=dict)

    def once(
        self, key: Hashable, compute: Callable[[], tuple[NDArray[Any], ...]]
    ) -> tuple[NDArray[Any], ...]:
        """Return arrays that several features share; they are computed once.  Copy what you change.

        Parameters
        ----------
        key
            What is computed, and how.
        compute
            Returns them.
        """
        if key not in self._kept:
            self._kept[key] = compute()
        return self._kept[key]

    def tangents(self, branch: int, *, root: bool, formula: int) -> tuple[NDArray[Any], ...]:
        """Return the tangents of a branch of every step: lines, the steepest one, and its status.

        Parameters
        ----------
        branch
            0 for the forward, 1 for the reverse one.
        root, formula
            Whether the tangents belong to the root of the current, and how slopes are computed.

        Returns
        -------
        What :func:`.kernels.tangents.sweep_tangents` fills in.
        """

        def compute() -> tuple[NDArray[Any], ...]:
            steps = len(self.count)
            lines, about = np.empty((4, self.x.size)), np.empty((steps, 2))
            best = np.empty(steps, np.int64)
            tangents.sweep_tangents(
                self.x,
                self.y,
                self.sigma,
                self.first,
                self.count,
                self.classes,
                branch,
                root,
                formula,
                lines,
                best,
                about,
            )
            return lines, best, about

        return self.once(("tangents", branch, root, formula), compute)

    def beside_gap(self, at: NDArray[np.float64], branch: int) -> NDArray[np.bool_]:
        """Return whether a voltage lies beside a point that was left out of its branch.

        Parameters
        ----------
        at
            Voltages (V), NaN if there is none.  Shape (S,).
        branch
            0 for the forward, 1 for the reverse one.
        """
        beside = np.zeros(at.shape, np.bool_)
        verdict = self.verdict[:, branch]
        left_out = (verdict == judge.OVERFLOW) | (verdict == judge.OUTLIER)
        for step in np.flatnonzero(left_out & np.isfinite(at)):
            begin = self.first[step, branch]
            x = self.x[begin : begin + self.count[step, branch]]
            spacing = np.abs(np.diff(x))
            if not spacing.size:
                continue
            wide = np.flatnonzero(spacing > _GAP * np.median(spacing))
            low, high = np.minimum(x[wide], x[wide + 1]), np.maximum(x[wide], x[wide + 1])
            beside[step] = ((low <= at[step]) & (at[step] <= high)).any()
        return beside


class _Last(threading.local):
    """The branches that a thread split last: all features of a batch need the same branches."""

    content: tuple[bytes, ...] = ()
    branches: Branches | None = None


_last = _Last()


def most_current(batch: Batch) -> NDArray[np.float64]:
    """Return the |Id| that no device of the batch can carry, in A.  Shape (S,)."""
    W, L, d = (float(batch.sample.get(name, np.nan)) for name in _GEOMETRY)
    conductance = _MOST_CONDUCTIVITY * W * d / L if L > 0 else np.nan
    if not np.isfinite(conductance):
        return np.full(len(batch), _MOST_CURRENT)
    drain = np.abs(np.asarray(batch.values.get("Vd", np.full(len(batch), np.nan)), np.float64))
    # An unknown voltage is no more than a volt, in water.
    return conductance * np.where(drain > 0, drain, 1.0)


def branches_of(batch: Batch) -> Branches:
    """Split all sweeps of a batch and judge them."""
    names = [name for name in ("Vg", "Id", "Ig") if name in batch.arrays]
    arrays = [np.ascontiguousarray(batch.arrays[name], np.float64) for name in names]
    # Compared by content: the caller may have put other numbers into the same arrays.
    most = most_current(batch)
    content = tuple(xxhash.xxh3_128_digest(array.data) for array in (batch.offsets, most, *arrays))
    if _last.branches is not None and _last.content == content:
        return _last.branches
    n = len(batch)
    size = len(arrays[0]) + n
    found = Branches(
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size if len(arrays) > 2 else 0),
        np.empty((n, 2), np.int64),
        np.empty((n, 2), np.int64),
        np.empty((n, 2), np.int8),
        np.empty((n, 2)),
        np.empty((n, 5, sweep_noise.CLASSES)),
        np.empty(n, np.int64),
    )
    judge.judge_sweeps(
        arrays[0],
        arrays[1],
        arrays[2] if len(arrays) > 2 else np.empty(0),
        batch.offsets,
        most,
        found.x,
        found.y,
        found.log,
        found.sigma,
        found.gate,
        found.first,
        found.count,
        found.verdict,
        found.doubt,
        found.noise,
        found.classes,
    )
    _last.content = content
    _last.branches = found
    return found


class SweepExtractor(BaseExtractor):
    """A feature of a transfer sweep; subclasses compute its columns.

    Attributes
    ----------
    clipped_stands
        Whether a sweep whose largest current is cut off keeps its value, as a lower bound.
    """

    source = "transfer"
    version = 7
    sample_keys: ClassVar[tuple[str, ...]] = _GEOMETRY
    clipped_stands: ClassVar[bool] = False
    #: True for a feature that needs both branches.
    whole: ClassVar[bool] = False

    @property
    def arrays(self) -> tuple[str, ...] | None:
        """Both axes of the sweep, and the gate current: an off current may be leakage."""
        return ("Vg", "Id", "Ig")

    def judged(
        self,
        status: NDArray[np.int8],
        verdict: NDArray[np.int8],
        numbers: Sequence[NDArray[np.float64]],
    ) -> None:
        """Enter the faults of a branch into its status, and remove the values that they void.

        Parameters
        ----------
        status
            Codes of the status words, changed in place; ``absent`` is kept.
        verdict
            Codes of :mod:`.kernels.judge`, of the same shape.
        numbers
            Values and errors of that shape, or with one more axis; changed in place.
        """
        if not verdict.any():
            return
        words = list(self.variables["status"].statuses)
        nothing = [words.index(word) for word in ("absent", "no_data", "too_few") if word in words]
        for code, word in JUDGED.items():
            here = verdict == code
            if not here.any():
                continue
            if code in (judge.OVERFLOW, judge.OUTLIER):
                here &= status == OK
            else:
                here &= ~np.isin(status, nothing)
                if word == "clipped":
                    # A branch that has no value for another reason keeps that word.
                    first = numbers[0]
                    none = np.isnan(first.reshape(*status.shape, -1)).all(axis=-1)
                    here &= ~none | (status == OK)
                if not (word == "clipped" and self.clipped_stands):
                    for array in numbers:
                        array[here] = np.nan
            status[here] = words.index(word)

    def extract_batch(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute the feature of many sweeps, with the same bits as one by one.

        Returns
        -------
        All :attr:`variables`; the first axis is the step.
        """
        return self.columns(batch, params)

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute all variables of many sweeps."""
        raise NotImplementedError


def drain_voltages(batch: Batch) -> NDArray[np.float64]:
    """Return Vd of every step (V): that of the step, else that of the sample, else NaN."""
    drain = np.asarray(batch.values.get("Vd", np.full(len(batch), np.nan)), np.float64)
    return np.where(np.isnan(drain), float(batch.sample.get("Vd", np.nan)), drain)


class PerBranch(SweepExtractor):
    """One number per branch.  Subclasses have the parameter ``direction``.

    Attributes
    ----------
    companions
        Further numbers per branch: name -> unit and description.
    """

    companions: ClassVar[Mapping[str, tuple[str, str]]] = {}

    @property
    def output_shape(self) -> tuple[int | str, ...]:
        """Forward and reverse for ``direction="both"``, else a single number."""
        return (2,) if self.params["direction"] == "both" else ()

    @property
    def output_dims(self) -> tuple[str, ...]:
        """The sweep direction, if both are wanted."""
        return ("direction",) if self.output_shape else ()

    @property
    def output_labels(self) -> Mapping[str, tuple[str, ...]]:
        """The two directions."""
        return {"direction": DIRECTIONS} if self.output_shape else {}

    @property
    def variables(self) -> dict[str, Variable]:
        """The value, its status and its standard error, all per direction."""
        both = super().variables
        axes = (self.output_shape, self.output_dims, self.output_labels)
        status = both["status"]
        both["status"] = Variable("", status.description, *axes, "int8", status.statuses)
        both["stderr"] = Variable(self.unit, "standard error by the noise of the sweep", *axes)
        for name, (unit, description) in self.companions.items():
            both[name] = Variable(unit, description, *axes)
        return both

    def one_branch(
        self, batch: Batch, params: Mapping[str, Any], branch: int
    ) -> tuple[NDArray[Any], ...]:
        """Return value, standard error, status and companions of one branch, shape (S,) each."""
        raise NotImplementedError

    def columns(self, batch: Batch, params: Mapping[str, Any]) -> Columns:
        """Compute the branches that ``direction`` asks for."""
        wanted = DIRECTIONS if params["direction"] == "both" else (params["direction"],)
        parts = []
        for direction in wanted:
            branch = DIRECTIONS.index(direction)
            value, error, status, *more = self.one_branch(batch, params, branch)
            self.judged(status, branches_of(batch).verdict[:, branch], (value, error, *more))
            parts.append((value, status, error, *more))
        names = ("value", "status", "stderr", *self.companions)
        if len(parts) == 1:
            return dict(zip(names, parts[0], strict=True))
        return dict(
            zip(names, (np.stack(both, axis=1) for both in zip(*parts, strict=True)), strict=True)
        )


def status_table(codes: Mapping[int, str], words: list[str]) -> NDArray[np.int8]:
    """Return the array that turns the codes of a kernel into status codes.

    Parameters
    ----------
    codes
        Code of the kernel -> word.
    words
        All words of the extractor, in their order.
    """
    # A code without a word would be a mistake of ours, and must not become "ok".
    table = np.full(max(codes) + 1, ERROR, np.int8)
    for code, word in codes.items():
        table[code] = words.index(word)
    return table
