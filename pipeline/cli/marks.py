"""``marks``: mark results and choose windows, undo this, and list marks and windows."""

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
        help="Folder that extract has written; by default the one in the configuration, else "
        "'features'.",
    ),
]
Reason = Annotated[str, typer.Option(help="The reason.")]
Who = Annotated[str | None, typer.Option(help="Your name; by default the name of the account.")]


def add(
    label: Annotated[
        str,
        typer.Argument(
            help="'bad': reports and statistics leave the result out.  Any other word, such as "
            "'check', is only shown."
        ),
    ],
    experiment: Annotated[
        str | None, typer.Option("--experiment", "-e", help="Id of the experiment.")
    ] = None,
    chip_id: Annotated[
        str | None,
        typer.Option("--chip-id", "--chip", help="The chip, instead of an experiment."),
    ] = None,
    device_id: Annotated[
        str | None, typer.Option("--device-id", "--device", help="The device on that chip.")
    ] = None,
    step: Annotated[
        str | None, typer.Option(help="Steps, from 0: 3 or 3-5 or 1,3-5.", metavar="N,N-N")
    ] = None,
    cycle: Annotated[
        str | None,
        typer.Option(help="Gate cycles, from 0: 3 or 3-5 or 1,3-5.", metavar="N,N-N"),
    ] = None,
    feature: Annotated[str | None, typer.Option(help="Mark only this feature.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Mark only this kind of measurement: transfer, transient, …"),
    ] = None,
    reason: Reason = "",
    who: Who = None,
    results: Results = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Mark an experiment, a device or a chip, or some of its steps and cycles.

    The results are not changed.  Marks are kept in a folder _marks beside the results, and stay
    valid when the results are extracted again.
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
    begin: Annotated[float, typer.Argument(help="Begin, in s after the step's first sample.")],
    end: Annotated[float, typer.Argument(help="End, counted the same way; not included.")],
    step: Annotated[int, typer.Option(help="Step, from 0.")],
    cycle: Annotated[int, typer.Option(help="Gate cycle, from 0.")],
    phase: Annotated[Literal["on", "off"], typer.Option(help="Phase of the gate.")],
    reason: Reason = "",
    who: Who = None,
    results: Results = None,
    catalog: CatalogOption = None,
    as_json: AsJson = False,
) -> None:
    """Choose the window for the fit of the time constant of one phase of a cycle.

    The window takes effect when you run extract again; until then, the results do not change.
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
            help="Ids of marks or windows, as 'list' and 'windows' show them; the first digits are "
            "enough."
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
    history: Annotated[bool, typer.Option(help="Show marks that were undone, too.")] = False,
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
    """List the chosen windows, and show whether the results were computed with them."""
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
    """Return the numbers that a text such as ``1,3-5`` means.

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
