"""Run one extractor over many steps, turning every exception into a status and a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from oectflow.extractors.base import ERROR, BaseExtractor, Columns, Variable, missing, stack_steps
from oectflow.measurement import Batch

#: Per-step numbers of a transient that are written beside the features.
TIMING: dict[str, Variable] = {
    "sampling_interval": Variable("s", "time between two samples of the transient"),
    "gate_period": Variable("s", "duration of one gate cycle"),
    "duty_cycle": Variable("", "share of the gate period in which the gate is on"),
    "timing_source": Variable(
        "",
        "where the gate period was found",
        dtype="int8",
        statuses={
            "unknown": "no gate period was found",
            "absent": "there is no such transient step",
            "step": "in the parameters of the step",
            "workflow": "in the workflow",
            "trace": "in the measured current, by autocorrelation",
            "caller": "given by the caller",
        },
    ),
}


@dataclass(frozen=True)
class Steps:
    """Steps that were read.

    Attributes
    ----------
    source
        ``"transfer"`` or ``"transient"``.
    batch
        The samples; an unreadable step has none.
    timing_source
        For each step of a transient, a word of ``TIMING["timing_source"]``.
    unreadable
        Index in the batch -> why the step could not be read.
    """

    source: str
    batch: Batch
    timing_source: tuple[str, ...] = ()
    unreadable: Mapping[int, str] = field(default_factory=dict)


def evaluate(extractor: BaseExtractor, steps: Steps) -> tuple[Columns, dict[int, tuple[str, str]]]:
    """Compute the variables of one extractor for all steps.

    Returns
    -------
    The extractor's variables, first axis the step; and for each step that failed, its index in the
    batch -> the exception's class name and message.  A failed step has NaN and the status
    ``error``; the others are not touched by it.
    """
    errors = {i: ("UnreadableFile", message) for i, message in steps.unreadable.items()}
    # What other features of the same task use must not change the numbers of this one.
    batch = steps.batch
    if extractor.arrays is not None:
        own = {name: batch.arrays[name] for name in extractor.arrays if name in batch.arrays}
        batch = replace(batch, arrays=own)
    columns: Columns | None = None
    if extractor.extract_batch is not None:
        try:
            columns = extractor.extract_batch(batch, extractor.params)
        except Exception:  # noqa: BLE001
            # The loop below meets the same exception again, in the step that is to blame.
            columns = None
    if columns is None:
        rows = []
        for i in range(len(batch)):
            row = None
            if i not in errors:
                try:
                    row = extractor.extract_step(batch.step(i))
                except Exception as error:  # noqa: BLE001
                    errors[i] = (type(error).__name__, str(error) or repr(error))
            rows.append(_no_result(extractor) if row is None else row)
        columns = stack_steps(extractor.variables, rows)
    for name, variable in extractor.variables.items():
        columns[name][list(errors)] = ERROR if name == "status" else missing(variable)
    return columns, errors


def _no_result(extractor: BaseExtractor) -> dict[str, Any]:
    # An axis of unknown length gets one entry, so that the failure has a place to stand in.
    return {
        name: np.full(
            [1 if isinstance(size, str) else size for size in variable.shape],
            missing(variable),
            variable.dtype,
        )
        for name, variable in extractor.variables.items()
    }


def timing_columns(steps: Steps) -> Columns:
    """Return the sampling interval, gate period, duty cycle and their origin for each step."""
    words = list(TIMING["timing_source"].statuses)
    unknown = np.full(len(steps.batch), np.nan)
    columns: Columns = {
        name: steps.batch.values.get(name, unknown) for name in TIMING if name != "timing_source"
    }
    columns["timing_source"] = np.array([words.index(w) for w in steps.timing_source], np.int8)
    return columns
