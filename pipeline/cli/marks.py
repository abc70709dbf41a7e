"""``marks``: mark results, choose windows, undo that, list what was marked and chosen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from oectflow.errors import ConfigError
from oectflow.pipeline.cli.extract import default_out
from oectflow.pipeline.cli.output import AsJson, emit_json, say, show, table
from oectflow.pipeline.cli.place import CatalogOption

if TYPE_CHECKING:
    import pandas as pd

_RANGE = re.compile(r"(\d+)(?:-(\d+))?")
#: Digits of an id that tell marks apart.
_DIGITS = 8

Results = Annotated[
    Path | None,
    typer.Option(
        "--results",
        "-r",
        help="Folder that extract has written; by default the one of the configuration, else "
        "'features'.",
    ),
]
Reason = Annotated[str, typer.Option(help="Why.")]
Who = Annotated[str | None, typer.Option(help="By whom; by default the name of the account.")]


def add(
    label: Annotated[
        str,
        typer.Argument(
            help="'bad': reports and statistics leave it out.  Anything else, such as 'check', is "
            "only shown."
        ),
    ],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Id of the experiment.")
    ] = None,
    chip_id: Annotated[
        str | None, typer.Option("--chip-id", "--chip", help="Instead: the chip.")
    ] = None,
    device_id: Annotated[
        str | None, typer.Option("--device-id", "--device", help="The device on that chip.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="Steps, from 0: 3 or 3-5 or 1,3-5.", metavar="N,N-N")
    ] = None,
    cycle: Annotated[
        str | None, typer.Option(help="Gate cycles, from 0, likewise.", metavar="N,N-N")
    ] = None,
    feature: Annotated[str | None, typer.Option(help="The only feature that is meant.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="The only kind of measurement: transfer, transient, …")
    ] = None,
    reason: Reason = "",
    who: Who = None,
    results: Results = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Mark an experiment, a device or a chip, or some of its steps and cycles.

    What was computed stays as it is: marks stand in a folder _marks beside the results, and hold
    when these are extracted again.
    """
    from oectflow.pipeline.outputs.marking import mark

    ids = mark(
        results or default_out(catalog),
        label,
        experiment=experiment,
        chip_id=chip_id,
        device_id=device_id,
        step=numbers("--step", step),
        cycle=numbers("--cycle", cycle),
        feature=feature,
        kind=kind,
        reason=reason,
        who=who,
    )
    if as_json:
        emit_json({"label": label, "ids": ids})
    else:
        shown = ", ".join(one[:_DIGITS] for one in ids)
        say(f"{len(ids)} mark{'' if len(ids) == 1 else 's'} {label}: {shown}")


def window(
    experiment: Annotated[str, typer.Argument(help="Id of the experiment.")],
    begin: Annotated[float, typer.Argument(help="Begin, in s from the step's first sample.")],
    end: Annotated[float, typer.Argument(help="End, likewise; a sample there is left out.")],
    step: Annotated[int, typer.Option(help="Step, from 0.")],
    cycle: Annotated[int, typer.Option(help="Gate cycle, from 0.")],
    phase: Annotated[Literal["on", "off"], typer.Option(help="Phase of the gate.")],
    reason: Reason = "",
    who: Who = None,
    results: Results = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Choose the window in which the next run fits the time constant of one phase of a cycle.

    The results stay as they are until extract runs again.
    """
    from oectflow.pipeline.outputs.window_choice import set_window

    made = set_window(
        results or default_out(catalog),
        experiment,
        step=step,
        cycle=cycle,
        phase=phase,
        begin=begin,
        end=end,
        reason=reason,
        who=who,
    )
    if as_json:
        emit_json({"id": made})
    else:
        say(f"window {made[:_DIGITS]}; run extract again to use it")


def undo(
    ids: Annotated[
        list[str],
        typer.Argument(
            help="Ids of marks or windows, or their first digits, as 'list' and 'windows' show "
            "them."
        ),
    ],
    reason: Reason = "",
    who: Who = None,
    results: Results = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Undo marks and choices of windows; they stay in the history."""
    from oectflow.pipeline.outputs.marking import unmark

    unmark(results or default_out(catalog), ids, reason=reason, who=who)
    if as_json:
        emit_json({"undone": ids})
    else:
        say(f"undone: {', '.join(ids)}")


def list_marks(
    history: Annotated[bool, typer.Option(help="Also those that were undone.")] = False,
    results: Results = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """List the marks of results."""
    from oectflow.pipeline.outputs.marking import marks

    folder = results or default_out(catalog)
    _show(marks(folder, history=history), f"{folder}: no marks", as_json=as_json)


def list_windows(
    results: Results = None, catalog: CatalogOption = None, as_json: AsJson = False
) -> None:
    """List the windows that were chosen, and whether the results were computed with them."""
    from oectflow.pipeline.outputs.window_choice import windows

    folder = results or default_out(catalog)
    _show(windows(folder), f"{folder}: no windows were chosen", as_json=as_json)


def _show(found: pd.DataFrame, without: str, *, as_json: bool) -> None:
    plain = found.astype(object).where(found.notna(), None)
    rows = plain.to_dict("records")
    if as_json:
        emit_json(rows)
        return
    if not rows:
        say(without)
        return
    unused = [name for name in plain if all(row[name] in (None, "") for row in rows)]
    titles = [str(name) for name in plain if name not in unused]
    shown = [{**row, "id": row["id"][:_DIGITS]} for row in rows]
    show(table(titles, ([row[title] for title in titles] for row in shown)))


def numbers(option: str, text: str | None) -> list[int] | None:
    """Return the numbers that are meant: ``1,3-5``.

    >>> numbers("--step", "1,3-5")
    [1, 3, 4, 5]
    """
    if text is None:
        return None
    numbers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + 100_000:
            raise ConfigError(f"{option} {text}: expected numbers such as 3, 3-5 or 1,3-5")
        numbers += range(first, last + 1)
    return numbers
