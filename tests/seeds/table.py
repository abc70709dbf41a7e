"""The calls of calls.yaml; run it, and their table is written into docs/howto/oect-infra.md."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import yaml

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "howto" / "oect-infra.md"
BEGIN, END = "<!-- calls -->\n", "<!-- end of calls -->\n"


@dataclass(frozen=True)
class Call:
    """One call; calls.yaml says what its parts are."""

    group: str
    call: str
    code: str = ""
    check: str = "True"
    now: str = "works"
    raises: str = ""


def read_calls() -> list[Call]:
    """Return all calls."""
    groups = yaml.safe_load((HERE / "calls.yaml").read_text(encoding="utf-8"))
    return [Call(group, **entry) for group, entries in groups.items() for entry in entries]


def page() -> str:
    """Return the page with the table as it has to be."""
    lines = []
    for group, calls in groupby(read_calls(), lambda call: call.group):
        lines += [f"### {group}", "", "| call | now |", "|---|---|"]
        # A call with words of its own around it has its own quotes.
        lines += [
            f"| {one.call if '`' in one.call else f'`{one.call}`'} | {one.now} |" for one in calls
        ]
        lines.append("")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
