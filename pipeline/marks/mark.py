"""What people write beside results: a mark, a window, the end of one, who wrote it when and why."""

from __future__ import annotations

import getpass
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from oectflow.config_file import shorten
from oectflow.errors import ParameterError

#: The label of what is left out; every other label is only shown.
BAD = "bad"
#: What is done with marked values: left out where they are bad, only named, or neither.
Treatment = Literal["exclude", "flag", "ignore"]
TREATMENTS = ("exclude", "flag", "ignore")

# A comma would divide a list of labels.
_Label = Annotated[str, Field(pattern=r"^[^\s,;\x00-\x1f]([^,;\x00-\x1f]{0,38}[^\s,;\x00-\x1f])?$")]
_Id = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
_Name = Annotated[str, Field(min_length=1, max_length=1000)]
_Words = Annotated[str, Field(max_length=2000)]
_Number = Annotated[int, Field(ge=0, lt=2**31)]


class _Entry(BaseModel):
    # A field of a later version may narrow what is meant, so that what is not known is refused.
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    who: _Words
    when: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")]
    reason: _Words = ""


class Mark(_Entry):
    """A label on an experiment, a device or a chip, or on a part of it.

    Attributes
    ----------
    id
        Of this mark, 32 hexadecimal digits; no two marks have the same.
    label
        ``"bad"``: the values are no use.  Anything else is only shown.
    experiment_id
        Of the experiment; or None, and ``chip_id`` names the chip, ``device_id`` the device on it.
    step, cycle
        Numbers as in the results, from 0; None means all.
    feature
        Name of the feature that is meant with all its companions; None means all.
    kind
        Kind of measurement, such as ``"transfer"``: there may be a step 3 of each; None means all.
    who, when, reason
        Who marked it, the time (UTC, ISO 8601), and why.
    """

    id: _Id
    label: _Label
    experiment_id: _Name | None = None
    chip_id: _Name | None = None
    device_id: _Name | None = None
    step: _Number | None = None
    cycle: _Number | None = None
    feature: _Name | None = None
    kind: _Name | None = None

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.experiment_id is None) == (self.chip_id is None):
            raise ValueError("name an experiment, or a chip, and not both")
        if self.device_id is not None and self.chip_id is None:
            raise ValueError("a device has a chip: name both")
        return self

    def is_of(self, identity: Mapping[str, Any]) -> bool:
        """Whether it is about an experiment with these ids."""
        if self.experiment_id is not None:
            return bool(self.experiment_id == identity["experiment_id"])
        return self.chip_id == identity["chip_id"] and self.device_id in (
            None,
            identity["device_id"],
        )

    @property
    def place(self) -> str:
        """What it is about, in words.

        >>> entry = dict(id="0" * 32, label="bad", who="Ada", when="2026-01-02T03:04:05+00:00")
        >>> Mark(**entry, chip_id="C7", device_id="2", step=3, feature="tau").place
        'chip C7, device 2, step 3, tau'
        """
        parts = [
            self.experiment_id,
            None if self.chip_id is None else f"chip {self.chip_id}",
            None if self.device_id is None else f"device {self.device_id}",
            self.kind,
            None if self.step is None else f"step {self.step}",
            None if self.cycle is None else f"cycle {self.cycle}",
            self.feature,
        ]
        return ", ".join(part for part in parts if part is not None)


class Window(_Entry):
    """The window in which the next run fits the time constant of one phase of a gate cycle.

    Attributes
    ----------
    id
        Of this choice, as a mark has one.
    experiment_id, step, cycle, phase
        Where: step and cycle as in the results, from 0.
    begin, end
        Of the window, in s from the first sample of the step.
    who, when, reason
        As of a mark.
    """

    id: _Id
    experiment_id: _Name
    step: _Number
    cycle: _Number
    phase: Literal["on", "off"]
    begin: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    end: Annotated[float, Field(allow_inf_nan=False)]

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if not self.begin < self.end:
            raise ValueError(f"begin={self.begin:g} s is not before end={self.end:g} s")
        return self

    @property
    def place(self) -> str:
        """What it is about, in words."""
        return f"{self.experiment_id}, step {self.step}, cycle {self.cycle}, {self.phase}"


class Undo(_Entry):
    """The end of a mark or window: it holds no longer, whichever of the two is read first."""

    undo: _Id


_E = TypeVar("_E", bound=_Entry)


def new_mark(label: str, **about: Any) -> Mark:
    """Return a mark of now with an id of its own.

    Parameters
    ----------
    label, about
        As :class:`Mark` has them.

    Raises
    ------
    ParameterError
        They are no mark; the message says which is wrong.
    """
    return _made(Mark, {"id": uuid.uuid4().hex, "label": label, **_signed(about)})


def new_window(**about: Any) -> Window:
    """Return a choice of now, with an id of its own; errors as of :func:`new_mark`."""
    return _made(Window, {"id": uuid.uuid4().hex, **_signed(about)})


def new_undo(mark_id: str, **about: Any) -> Undo:
    """Return the end of a mark or window."""
    return _made(Undo, {"undo": mark_id, **_signed(about)})


def _signed(about: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**about, "who": about.get("who") or user_name(), "when": now}


def _made(entry: type[_E], fields: dict[str, Any]) -> _E:
    try:
        return entry(**fields)
    except ValidationError as error:
        raise ParameterError(why_not(error)) from None


def why_not(error: ValidationError) -> str:
    """Return in one line what is wrong with an entry.

    >>> new_mark("a, b", experiment_id="a")
    Traceback (most recent call last):
    oectflow.errors.ParameterError: label='a, b': expected up to 40 characters without comma
    """
    said = []
    for one in error.errors(include_url=False):
        place = ".".join(map(str, one["loc"]))
        expected = (
            "expected up to 40 characters without comma"
            if place == "label"
            else one["msg"].removeprefix("Value error, ")
        )
        said.append(f"{place}={shorten(one['input'])}: {expected}" if place else expected)
    return "; ".join(said)


def user_name() -> str:
    """Return the name under which somebody is logged in, ``"unknown"`` where there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
