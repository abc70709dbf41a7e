"""The costs that runs have measured, in a file beside the results."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path

from oectflow.atomic_write import atomic_write
from oectflow.pipeline.execution.planning.costs import CostBook

_FILE = ".oectflow-costs.json"
#: What a file raises that holds something else.
_DAMAGE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, OSError)


def load_costs(folder: Path, fingerprints: Mapping[str, str]) -> CostBook:
    """Return the costs measured by runs into a folder; none if the file is missing or damaged.

    Parameters
    ----------
    folder
        Output folder.
    fingerprints
        As in :class:`CostBook`.
    """
    machine = f"{platform.node()}/{platform.machine()}"
    try:
        return CostBook(fingerprints, machine, json.loads((folder / _FILE).read_text()))
    except _DAMAGE:
        # A damaged book costs a new timing of a few steps, nothing else.
        return CostBook(fingerprints, machine)


def save_costs(book: CostBook, folder: Path) -> None:
    """Write the measured costs; if the folder cannot be written any more, the old file stays."""
    if not book.changed:
        return
    try:
        with atomic_write(folder / _FILE) as temporary:
            temporary.write_text(json.dumps(book.content, indent=1, sort_keys=True))
    except OSError:
        # Whoever called is about to report, or has reported, that the disk is full.
        return
