"""Which columns of a table belong together, where several measurements stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oectflow.pipeline.inputs.readers.headings import Heading

#: What a measurement is plotted against; several dependent columns may share them.
ABSCISSAS = ("Vg", "Vd", "time", "frequency", "Vdc")


@dataclass
class Group:
    """Columns of one measurement: quantity -> column, columns to keep beside it, its values."""

    columns: dict[str, int] = field(default_factory=dict)
    others: list[int] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)


def column_groups(headings: Sequence[Heading]) -> list[Group]:
    """Return the column groups that stand side by side."""
    assumed = [i for i, heading in enumerate(headings) if heading.assumed and not heading.values]
    sure = any(heading.quantity == "Id" and not heading.assumed for heading in headings)
    keep = set() if sure or len(assumed) > 1 else set(assumed)
    known = [
        i
        for i, heading in enumerate(headings)
        if heading.quantity and (i not in assumed or i in keep)
    ]
    measured = {headings[i].quantity for i in known if not headings[i].nominal}
    known = [i for i in known if not headings[i].nominal or headings[i].quantity not in measured]
    names = [str(headings[i].quantity) for i in known]
    groups: list[Group] = []
    for block in _blocks(names) if names else []:
        groups += _groups_of_block([known[k] for k in block], headings)
    for i in range(len(headings)):
        if groups and not any(i in group.columns.values() for group in groups):
            # A column that no kind knows belongs to what stands before it.
            before = [g for g in groups if min(g.columns.values()) <= i]
            nearest = max(
                before or groups[:1],
                key=lambda g: max((c for c in g.columns.values() if c < i), default=-1),
            )
            nearest.others.append(i)
    return groups


def _blocks(names: list[str]) -> list[list[int]]:
    """Return which columns stand together, by a sequence that repeats or by their abscissas."""
    n = len(names)
    if len(set(names)) == n:
        return [list(range(n))]
    for period in range(2, n // 2 + 1):
        one = names[:period]
        if n % period == 0 and names == one * (n // period) and len(set(one)) == period:
            return [list(range(a, a + period)) for a in range(0, n, period)]
    blocks: list[list[int]] = [[]]
    for i, name in enumerate(names):
        if name in ABSCISSAS and i and names[i - 1] not in ABSCISSAS:
            # Vg after Time, Id is its gate, unless it stands there already or heads more columns.
            again = any(names[k] == name for k in blocks[-1])
            if again or not all(later in ABSCISSAS for later in names[i:]):
                blocks.append([])
        blocks[-1].append(i)
    return blocks


def _groups_of_block(block: list[int], headings: Sequence[Heading]) -> list[Group]:
    shared: dict[str, int] = {}
    others: list[int] = []
    for i in block:
        name = str(headings[i].quantity)
        if name in ABSCISSAS and name not in shared:
            shared[name] = i
        elif name in ABSCISSAS:
            others.append(i)
    dependents = [i for i in block if headings[i].quantity not in ABSCISSAS]
    groups: list[Group] = []
    count: dict[str, int] = {}
    by_values: dict[tuple[tuple[str, float], ...], Group] = {}
    for i in dependents:
        name = str(headings[i].quantity)
        values = dict(headings[i].values)
        key = tuple(sorted(values.items()))
        group = by_values.get(key) if values else None
        if group is None and not values:
            number = count.get(name, 0)
            count[name] = number + 1
            group = groups[number] if number < len(groups) else None
        if group is None or name in group.columns:
            group = Group(dict(shared), values=values)
            groups.append(group)
            by_values[key] = group
        group.columns[name] = i
    groups = groups or [Group(dict(shared))]
    groups[0].others += others
    return groups
