"""Tables: experiments, what is looked through, and marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    DataTable,
    HTMLTemplateFormatter,
    TableColumn,
)

from oectflow.pipeline.app.views.look import table_sheet

#: Text of a user is shown as text, whatever stands in it.
_TEXT = '<span title="<%- value %>"><%- value %></span>'
_NUMBER = '<div style="text-align:right"><%- value %></div>'


class Table:
    """Rows of which some are chosen.

    Parameters
    ----------
    columns
        Title of each column (also the name of its data), and its width in pixels; a width below 0
        is that of a number, which stands to the right.
    height
        In pixels.
    name
        Of the model, by which a page finds it.

    Attributes
    ----------
    source, view
        Its data and the model to be placed.
    """

    def __init__(self, columns: Mapping[str, int], *, height: int, name: str) -> None:
        self.titles = list(columns)
        self.source = ColumnDataSource({title: [] for title in columns}, name=f"{name}-rows")
        self.view = DataTable(
            source=self.source,
            columns=[
                TableColumn(
                    field=title,
                    title=title,
                    width=abs(width),
                    sortable=False,
                    formatter=HTMLTemplateFormatter(template=_NUMBER if width < 0 else _TEXT),
                )
                for title, width in columns.items()
            ],
            index_position=None,
            height=height,
            sizing_mode="stretch_width",
            autosize_mode="none" if len(columns) > 5 else "fit_columns",
            stylesheets=[table_sheet()],
            selectable=True,
            name=name,
        )
        # Bokeh draws a table anew only where the number of its rows is another one.
        self.source.js_on_change(
            "data", CustomJS(args={"view": self.view.view}, code="view.change.emit()")
        )

    def show(self, rows: Sequence[Sequence[Any]]) -> None:
        """Show rows, none of them chosen."""
        self.source.selected.indices = []
        self.source.data = {title: [row[i] for row in rows] for i, title in enumerate(self.titles)}

    @property
    def chosen(self) -> list[int]:
        """The rows that are chosen."""
        return sorted(self.source.selected.indices)

    def choose(self, rows: Sequence[int]) -> None:
        """Choose rows."""
        self.source.selected.indices = list(rows)
