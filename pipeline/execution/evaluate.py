"""Run one extractor over many steps, turning every exception into a status and a problem."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from oectflow.extractors.base import ERROR, BaseExtractor, Columns, Variable, missing, stack_steps
from oectflow.measurement import Batch, get_kind

#: Written beside the numbers of a trace under a gate square wave.
TIMING_SOURCE = Variable(
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
)
_PLACES = {
    "curve": "number of the curve among those of its file",
    "file_step": "step of the file in which the curve was found",
    "file_position": "point of that step at which the curve begins",
}


@dataclass(frozen=True)
class Steps:
    """Steps that were read.

    Attributes
    ----------
    source
        Their kind of measurement.
    batch
        The samples; an unreadable step has none.
    unreadable
        Index in the batch -> why the step could not be read.
    """

    source: str
    batch: Batch
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
    batch = replace(steps.batch, sample=used_sample(extractor, steps.batch.sample))
    if extractor.arrays is not None:
        own = {name: batch.arrays[name] for name in extractor.arrays if name in batch.arrays}
        batch = replace(batch, arrays=own)
    columns: Columns | None = None
    if extractor.extract_batch is not None:
        try:
            columns = extractor.extract_batch(batch, extractor.params)
            columns = extractor.check_batch(columns, len(batch))
        except Exception:  # noqa: BLE001
            # The loop below meets the same fault again, in the step that is to blame.
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


def used_sample(extractor: BaseExtractor, sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an extractor gets to know of a sample: what it has said that it uses."""
    return {key: sample[key] for key in extractor.sample_keys if key in sample}


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


def value_variables(source: str) -> dict[str, Variable]:
    """Return what the numbers of a kind's steps are, by their columns in results."""
    kind = get_kind(source)
    variables = {
        kind.column(value): Variable(value.unit, value.description) for value in kind.values
    }
    variables |= {f"{source}_{name}": Variable("", text) for name, text in _PLACES.items()}
    return variables | ({"timing_source": TIMING_SOURCE} if kind.gated else {})


def value_columns(steps: Steps) -> Columns:
    """Return the numbers of the steps, and where the gate period is from, by column."""
    kind, batch = get_kind(steps.source), steps.batch
    unknown = np.full(len(batch), np.nan)
    columns: Columns = {
        kind.column(value): batch.values.get(value.name, unknown) for value in kind.values
    }
    columns |= {
        f"{kind.name}_{name}": batch.values[name] for name in _PLACES if name in batch.values
    }
    if kind.gated:
        words = list(TIMING_SOURCE.statuses)
        codes = [words.index(word) for word in batch.timing_source]
        columns["timing_source"] = np.array(codes, np.int8)
    return columns
