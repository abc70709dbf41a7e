"""Buttons and inputs of the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.models import Button, CheckboxGroup, Select, TextInput

from oectflow.pipeline.app.desk import ORDERS, SCOPES, Desk
from oectflow.pipeline.app.views.look import widget_sheet
from oectflow.pipeline.marks.mark import user_name


def _new(kind: Any, **options: Any) -> Any:
    return kind(stylesheets=[widget_sheet()], sizing_mode="stretch_width", **options)


class Controls:
    """What the visitor sets.

    Parameters
    ----------
    desk
        Whose experiments and features there are.

    Attributes
    ----------
    text, state, with_mark
        Which experiments.
    order, feature, hide
        What is looked through.
    back, on, before, after
        The place before and the next one, the cycle before and the next one.
    bad, check, own, label, scope, reason, who, undo
        Marks.
    keep
        Keeps a window that was dragged.
    column
        Of the trends.
    """

    def __init__(self, desk: Desk) -> None:
        self.text = _new(
            TextInput, title="experiments", placeholder="words, or name=value: chip=C7"
        )
        states = [("", "any"), *((word, word) for word in ("done", "flagged", "failed"))]
        self.state = _new(Select, title="state", options=states, value="")
        self.with_mark = _new(Select, title="mark", value="")
        self.set_marks(desk.labels())
        self.order = _new(Select, title=" ", options=list(ORDERS), value=desk.order)
        features = list(dict.fromkeys(column.feature for column in desk.index.columns))
        self.feature = _new(Select, title="feature", options=features, value=desk.feature)
        self.hide = _new(CheckboxGroup, labels=["hide marked"])
        self.back = _new(Button, label="◀ previous (p)")
        self.on = _new(Button, label="next (n) ▶")
        self.before = _new(Button, label="← cycle")
        self.after = _new(Button, label="cycle →")
        self.bad = _new(Button, label="bad (b)")
        self.check = _new(Button, label="check (c)")
        self.label = _new(TextInput, title="own word", placeholder="drift")
        self.own = _new(Button, label="mark so (o)")
        self.scope = _new(Select, title="what", options=list(SCOPES), value=SCOPES[0])
        self.keep = _new(Button, label="keep this window (w)", visible=False)
        self.reason = _new(TextInput, title="why", placeholder="bubble in the gate")
        self.who = _new(TextInput, title="who", value=user_name())
        self.undo = _new(Button, label="undo (u)")
        names = [column.name for column in desk.index.columns]
        shown = next((n for n in names if n.startswith(f"{desk.feature} ")), "")
        self.column = _new(Select, title="feature over steps", options=names,
            value=shown or next(iter(names), ""),
        )  # fmt: skip

    def set_marks(self, labels: Sequence[str]) -> None:
        """Offer these labels to choose experiments by."""
        options = [("", "any"), ("-", "none"), *((label, label) for label in labels)]
        if self.with_mark.options != options:
            self.with_mark.options = options
