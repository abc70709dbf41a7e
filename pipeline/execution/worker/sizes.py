"""How much memory the things take that travel between tasks, as Dask's scheduler needs to know.

Without this, Dask sees some fifty bytes for every result, whatever it holds: where a task should
run, what to spill, and the memory on the dashboard would go by nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from dask.sizeof import sizeof
from numpy.typing import NDArray

from oectflow.measurement import Batch
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.build_table import DerivedStep, Extracted, Table
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.run_extractor import Steps
from oectflow.pipeline.outputs.sink import Problem

#: Problems whose text is looked at; there may be one for every step and feature.
_MOST = 100
#: An object with six attributes and a number, in bytes.
_OF_A_PROBLEM = 165


def _of_arrays(arrays: Iterable[NDArray[Any]]) -> int:
    """Return the bytes that arrays keep in memory; what several of them share counts once."""
    owners: dict[int, int] = {}
    for array in arrays:
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        # One that came over the network lies in a message, of which it is a part.
        owners[owner.__array_interface__["data"][0]] = owner.nbytes
    return sum(owners.values())


def _of_problems(problems: Sequence[Problem]) -> int:
    # Other texts than the message are shared by many.
    seen = problems[:_MOST]
    texts = sum(_OF_A_PROBLEM + sys.getsizeof(problem.message) for problem in seen)
    return texts * len(problems) // max(len(seen), 1)


def _of_mapping(mapping: Mapping[Any, Any]) -> int:
    entries = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in mapping.items())
    return sys.getsizeof(mapping) + entries


def size_of_batch(batch: Batch) -> int:
    """Return the bytes of the samples of some steps."""
    arrays = [*batch.arrays.values(), batch.offsets, *batch.values.values()]
    return _of_arrays(arrays) + _of_mapping(batch.sample)


def size_of_steps(steps: Steps) -> int:
    """Return the bytes of steps that were read."""
    return size_of_batch(steps.batch) + _of_mapping(steps.unreadable)


def size_of_extracted(part: Extracted) -> int:
    """Return the bytes of variables of some steps."""
    return _of_arrays(part.columns.values()) + _of_problems(part.problems)


def size_of_derived(step: DerivedStep) -> int:
    """Return the bytes of a derived feature at one step."""
    return _of_arrays(step.columns.values())


def size_of_table(table: Table) -> int:
    """Return the bytes of all variables of an experiment."""
    return _of_arrays(table.columns.values()) + _of_problems(table.problems)


def size_of_record(record: ExperimentRecord) -> int:
    """Return the bytes of what is told to the client of an experiment."""
    texts = {key: value for key, value in vars(record).items() if key != "problems"}
    return _of_mapping(texts) + _of_problems(record.problems)


def size_of_pickled_once(pickled: PickledOnce[Any]) -> int:
    """Return the bytes of a pickled value, as it travels."""
    return pickled.nbytes


for _kind, _size in {
    Batch: size_of_batch,
    Steps: size_of_steps,
    Extracted: size_of_extracted,
    DerivedStep: size_of_derived,
    Table: size_of_table,
    ExperimentRecord: size_of_record,
    PickledOnce: size_of_pickled_once,
}.items():
    sizeof.register(_kind, _size)
