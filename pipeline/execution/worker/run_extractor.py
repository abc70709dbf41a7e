"""Run one extractor over many steps, turning every exception into a status and a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from oectflow.extractors.base import ERROR, BaseExtractor, Columns, Variable, missing, stack_steps
from oectflow.extractors.chosen_windows import sample_of_step
from oectflow.extractors.pinning import is_built_in
from oectflow.measurement import Batch, get_kind
from oectflow.pipeline.execution.planning.work import StepTimeoutOption
from oectflow.pipeline.execution.worker.children import collect, serve
from oectflow.pipeline.execution.worker.watch import STEP_SECONDS, Stuck, Watched, left_behind

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
        "gate": "in the edges of the recorded gate voltage",
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


def run_extractor(
    extractor: BaseExtractor, steps: Steps, seconds: float | None = None
) -> tuple[Columns, dict[int, tuple[str, str]]]:
    """Compute the variables of one extractor for all steps.

    Parameters
    ----------
    extractor, steps
        What to compute, and of what.
    seconds
        How long a step may take, None as long as it likes.

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
    if extractor.takes_all_steps and errors:
        # Of all steps nothing can be said where one is missing.
        columns = _failed(extractor, batch, errors, next(iter(errors.values())))
    elif seconds is None:
        columns = _evaluate(extractor, batch, errors, _unwatched)
    else:
        try:
            with Watched(seconds) as watched:
                columns = _evaluate(extractor, batch, errors, watched.call)
        except Stuck as stuck:
            left_behind(f"{extractor.name}: a step {stuck}")
            if extractor.takes_all_steps:
                columns = _failed(extractor, batch, errors, _described(stuck))
            else:
                columns = _in_children(extractor, batch, errors, seconds)
    if errors:
        for name, variable in extractor.variables.items():
            # What several features share can only be read.
            columns[name] = np.require(columns[name], requirements="W")
            columns[name][list(errors)] = ERROR if name == "status" else missing(variable)
    return columns, errors


#: Calls a function that computes so many steps.
_Call = Callable[[Callable[[], Any], int], Any]


def _unwatched(function: Callable[[], Any], n_steps: int) -> Any:
    del n_steps
    return function()


def _evaluate(
    extractor: BaseExtractor, batch: Batch, errors: dict[int, tuple[str, str]], call: _Call
) -> Columns:
    if extractor.extract_batch is not None:
        try:
            columns: Columns = call(
                lambda: extractor.check_batch(_all_at_once(extractor, batch), len(batch)),
                len(batch),
            )
            return columns
        except Stuck:
            raise
        except Exception as error:  # noqa: BLE001
            # The loop below meets the same fault again, in the step that is to blame.
            if extractor.takes_all_steps:
                return _failed(extractor, batch, errors, _described(error))
    rows = [_no_result(extractor)] * len(batch)
    for i in range(len(batch)):
        if i not in errors:
            try:
                rows[i] = call(lambda i=i: extractor.extract_step(_step(batch, i)), 1)  # type: ignore[misc]
            except Stuck:
                raise
            except Exception as error:  # noqa: BLE001
                errors[i] = _described(error)
    return stack_steps(extractor.variables, rows)


def _step(batch: Batch, i: int) -> dict[str, Any]:
    return batch.step(i) | {"sample": sample_of_step(batch.sample, batch.first_step + i)}


def _failed(
    extractor: BaseExtractor,
    batch: Batch,
    errors: dict[int, tuple[str, str]],
    why: tuple[str, str],
) -> Columns:
    """Return nothing for every step, all of them with one error."""
    errors.update(dict.fromkeys(range(len(batch)), why))
    return stack_steps(extractor.variables, [_no_result(extractor)] * len(batch))


def _all_at_once(extractor: BaseExtractor, batch: Batch) -> Columns:
    assert extractor.extract_batch is not None
    return extractor.extract_batch(batch, extractor.params)


def _described(error: BaseException) -> tuple[str, str]:
    return type(error).__name__, str(error) or repr(error)


def step_seconds(extractor: BaseExtractor, step_timeout: StepTimeoutOption) -> float | None:
    """Return how long a step of an extractor may take, in s; None as long as it likes.

    With ``"auto"`` that is for what is not part of the package, which nobody has looked at.
    """
    if step_timeout == "auto":
        return None if is_built_in(type(extractor)) else STEP_SECONDS
    return step_timeout


def _in_children(
    extractor: BaseExtractor,
    batch: Batch,
    errors: dict[int, tuple[str, str]],
    seconds: float,
) -> Columns:
    """Compute step by step in processes that are killed where a step takes too long."""
    rows = [_no_result(extractor)] * len(batch)
    errors_of_children = {i: error for i, error in errors.items() if error[0] == "UnreadableFile"}
    errors.clear()
    errors.update(errors_of_children)
    todo = [i for i in range(len(batch)) if i not in errors]
    while todo:
        done, cause = collect(f"{__name__}:child", (extractor, batch, todo), [seconds] * len(todo))
        for i, (row, error) in zip(todo, done, strict=False):
            if error is None:
                rows[i] = row
            else:
                errors[i] = error
        todo = todo[len(done) :]
        if cause is not None and todo:
            errors[todo.pop(0)] = cause
    return stack_steps(extractor.variables, rows)


def child() -> None:
    """Compute steps that come in, one after the other."""
    serve(_rows)


def _rows(
    work: tuple[BaseExtractor, Batch, Sequence[int]],
) -> Iterator[tuple[dict[str, Any] | None, tuple[str, str] | None]]:
    extractor, batch, todo = work
    for i in todo:
        try:
            yield extractor.extract_step(_step(batch, i)), None
        except BaseException as error:  # noqa: BLE001 - a step that ends the process, too
            yield None, _described(error)


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
