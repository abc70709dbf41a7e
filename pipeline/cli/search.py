"""``search``: find experiments in the catalog."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from oectflow.pipeline.cli.filters import Filters, takes_filters
from oectflow.pipeline.cli.output import AsJson, cell, emit_json, note, say, show, table
from oectflow.pipeline.cli.place import CatalogOption, need_catalog

if TYPE_CHECKING:
    from oectflow.pipeline.inputs.catalog import SearchResult

_SHOWN = 50


@takes_filters
def search(
    filters: Filters,
    order_by: Annotated[str, typer.Option(help="Column to sort by.")] = "created_at",
    ascending: Annotated[
        bool, typer.Option("--ascending/--descending", help="Smallest or largest first.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(help=f"Show at most this many; by default all, but {_SHOWN} in a table."),
    ] = None,
    offset: Annotated[int, typer.Option(help="Skip this many.")] = 0,
    output: Annotated[
        Literal["table", "json", "csv"], typer.Option("--output", help="Output format.")
    ] = "table",
    as_json: AsJson = False,
    catalog: CatalogOption = None,
) -> None:
    """Find experiments by their properties; all filters must match.

    If a filter does not exist, or no experiment has the status, feature or parameter, the error
    names the nearest one.  JSON also has the workflow and the sample of each experiment.
    """
    with need_catalog(catalog).open() as opened:
        found = opened.search(
            **filters.wanted(),
            order_by=order_by,
            order_desc=not ascending,
            limit=limit,
            offset=offset,
        )
        if as_json or output == "json":
            _as_json(found)
        elif output == "csv":
            _as_csv(found)
        else:
            _as_table(found, len(found) if limit is not None else _SHOWN)


def _as_json(found: SearchResult) -> None:
    from oectflow.pipeline.inputs.catalog.entry import FRAME_COLUMNS

    names = (*FRAME_COLUMNS, "workflow", "sample")
    emit_json([{name: getattr(entry, name) for name in names} for entry in found])


def _as_csv(found: SearchResult) -> None:
    from oectflow.cells import plain_cell
    from oectflow.pipeline.inputs.catalog.entry import FRAME_COLUMNS

    # The csv module ends lines itself.
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(FRAME_COLUMNS)
    for entry in found:
        values = (getattr(entry, name) for name in FRAME_COLUMNS)
        writer.writerow("" if value is None else plain_cell(value) for value in values)


def _as_table(found: SearchResult, most: int) -> None:
    from oectflow.pipeline.inputs.catalog.entry import SHOWN_COLUMNS

    n = len(found)
    if not n:
        note("no experiment fits; leave out a filter, or scan again")
        return
    shown = found[: min(n, most)]
    names = ("id", *SHOWN_COLUMNS)
    show(table(names, ([cell(getattr(entry, name)) for name in names] for entry in shown)))
    more = f", the first {len(shown)} are shown; --limit shows more" if n > len(shown) else ""
    say(f"{n:,} experiment{'' if n == 1 else 's'}{more}")
