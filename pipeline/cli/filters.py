"""The filters of a catalog search as options, shared by the commands that take them."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_type_hints

import typer

from oectflow.errors import CatalogError

_PANEL = "Filters: which experiments of the catalog"
#: Apart, since a second name of an option takes the room of what it means from all others.
_EITHER = "Filters: with or without"
_RANGE = re.compile(r"(.*?)\.\.(.*)", re.DOTALL)


def _option(help_: str, *names: str, panel: str = _PANEL, metavar: str = "TEXT") -> Any:
    return typer.Option(*names, help=help_, rich_help_panel=panel, metavar=metavar)


Words = list[str] | None


@dataclass(frozen=True)
class Filters:
    """The filters that an experiment must match; None and empty lists are ignored."""

    test_id: Annotated[Words, _option("Test id; given several times: any of them.")] = None
    chip_id: Annotated[Words, _option("Chip.", "--chip-id", "--chip")] = None
    device_id: Annotated[Words, _option("Device on its chip.", "--device-id", "--device")] = None
    batch_id: Annotated[Words, _option("Batch.", "--batch-id", "--batch")] = None
    status: Annotated[Words, _option("State of the measurement, such as completed.")] = None
    device_type: Annotated[Words, _option("N, P or unknown.")] = None
    file_state: Annotated[
        Words, _option("State of the raw file: present, missing, unreadable or unscanned.")
    ] = None
    has_features: Annotated[
        Words,
        _option("Has this feature; given several times: has all of them; 'any': has at least one."),
    ] = None
    missing_features: Annotated[
        Words,
        _option("Lacks this feature; given several times: lacks one of them; 'all': has none."),
    ] = None
    kind: Annotated[
        Words, _option("Has steps of this kind of measurement: transfer, output, transient, …")
    ] = None
    has_transfer_data: Annotated[
        bool | None,
        _option(
            "Has transfer steps.",
            "--has-transfer-data/--no-transfer-data",
            panel=_EITHER,
            metavar="",
        ),
    ] = None
    has_transient_data: Annotated[
        bool | None,
        _option(
            "Has transient steps.",
            "--has-transient-data/--no-transient-data",
            panel=_EITHER,
            metavar="",
        ),
    ] = None
    created_after: Annotated[
        str | None, _option("Begun on this date (2025-08-15) or time, or later.", metavar="DATE")
    ] = None
    created_before: Annotated[
        str | None, _option("Begun before this date or time.", metavar="DATE")
    ] = None
    completed_after: Annotated[
        str | None, _option("Ended on this date or time, or later.", metavar="DATE")
    ] = None
    completed_before: Annotated[
        str | None, _option("Ended before this date or time.", metavar="DATE")
    ] = None
    min_completion: Annotated[
        float | None, _option("At least this many % complete.", metavar="N")
    ] = None
    max_completion: Annotated[
        float | None, _option("At most this many % complete.", metavar="N")
    ] = None
    min_steps: Annotated[int | None, _option("At least this many steps.", metavar="N")] = None
    max_steps: Annotated[int | None, _option("At most this many steps.", metavar="N")] = None
    text_search: Annotated[
        str | None,
        _option("Part of the chip, the description or the test id.", "--text-search", "--text"),
    ] = None
    workflow: Annotated[
        Words,
        _option(
            "Parameter of the workflow: step_1_2_param_cycles=25, =5,25,50 for one of several "
            "values, =5..50 for a range, =5.. for an open range.  Given several times: all must "
            "match.",
            metavar="KEY=…",
        ),
    ] = None
    sample: Annotated[
        Words,
        _option(
            "Property of the device: semiconductor=PEDOT:PSS, 'W=100 µm', 'L=5 µm..20 µm'.  "
            "Given several times: all must match.",
            metavar="KEY=…",
        ),
    ] = None

    def wanted(self) -> dict[str, Any]:
        """Return the filters as ``Catalog.search`` takes them.

        Raises
        ------
        CatalogError
            A workflow or sample filter cannot be understood, or is given twice.
        """
        found: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or value == [] or field.name in ("workflow", "sample"):
                continue
            found[field.name] = value
        if found.get("has_features") == ["any"]:
            found["has_features"] = True
        if found.get("missing_features") == ["all"]:
            found["missing_features"] = True
        for text in self.workflow or ():
            key, value = parse_workflow(text)
            if key in found:
                raise CatalogError(f"--workflow {key} stands twice; write {key}=A,B or =MIN..MAX")
            found[key] = value
        for text in self.sample or ():
            key, value = parse_sample(text)
            if key in found:
                raise CatalogError(f"--sample {key} stands twice; write {key}=A,B or =MIN..MAX")
            found[key] = value
        return found


def takes_filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Replace the parameter ``filters`` of a command by the options of :class:`Filters`."""
    hints = get_type_hints(Filters, include_extras=True)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(Filters)
    ]
    signature = inspect.signature(command, eval_str=True)
    others = [p for p in signature.parameters.values() if p.name != "filters"]
    own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in others]

    def with_options(**given: Any) -> Any:
        chosen = {option.name: given.pop(option.name) for option in options}
        return command(filters=Filters(**chosen), **given)

    with_options.__name__ = command.__name__
    with_options.__doc__ = command.__doc__
    with_options.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own, *options]
    )
    with_options.__annotations__ = {p.name: p.annotation for p in (*own, *options)}
    return with_options


def parse_workflow(text: str) -> tuple[str, Any]:
    """Return the name and the value of a workflow filter.

    Parameters
    ----------
    text
        ``key=value``, ``key=min..max`` (either end may be missing) or ``key=a,b,c``.  The key may
        be written without ``workflow_``.  A value is a number, ``true``, ``false``, ``null``, or a
        text.  A value in double quotes is always a text.

    Raises
    ------
    CatalogError
        The text has none of these forms.
    """
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not key:
        raise CatalogError(
            f"--workflow {text}: expected KEY=VALUE, KEY=MIN..MAX or KEY=A,B, "
            "such as step_1_2_param_cycles=5..50"
        )
    name = key if key.startswith("workflow_") else f"workflow_{key}"
    ends = None if value.startswith('"') else _RANGE.fullmatch(value)
    if ends:
        return name, (_end(text, ends[1]), _end(text, ends[2]))
    if value.startswith('"'):
        return name, [_scalar(value)]
    return name, [_scalar(part) for part in value.split(",")]


def parse_sample(text: str) -> tuple[str, Any]:
    """Return the name and the value of a filter for samples.

    Parameters
    ----------
    text
        As for :func:`parse_workflow`; numbers may have a unit.

    Raises
    ------
    CatalogError
        The text has none of these forms.
    """
    key, sign, value = (part.strip() for part in text.partition("="))
    if not sign or not key or not value:
        raise CatalogError(
            f"--sample {text}: expected KEY=VALUE, KEY=MIN..MAX or KEY=A,B, such as 'W=100 µm'"
        )
    ends = None if value.startswith('"') else _RANGE.fullmatch(value)
    if ends:
        return key, tuple(_scalar(end) if end.strip() else None for end in ends.groups())
    if value.startswith('"'):
        return key, [_scalar(value)]
    return key, [_scalar(part) for part in value.split(",")]


def _end(text: str, value: str) -> float | None:
    if not value.strip():
        return None
    number = _scalar(value)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise CatalogError(f"--workflow {text}: {value!r} is no number; a range is MIN..MAX")
    return number


def _scalar(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text.strip()
    return text.strip() if isinstance(value, list | dict) else value
