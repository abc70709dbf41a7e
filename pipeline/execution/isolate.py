"""Steps that killed a worker are computed in a process of their own, which may die.

The worker starts a child and collects what it sends.  If the child dies, the first logical task
that has not come back is to blame.  It is recorded, and another child goes on behind it.  So one
poisonous step costs one child, and nothing else.

:func:`child` is what runs there: work comes in on standard input, results go out on standard
output, both pickled.
"""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence

import cloudpickle
import numpy as np
import psutil
from distributed import get_worker

from oectflow.measurement import Batch
from oectflow.pipeline.execution.assemble import Extracted
from oectflow.pipeline.execution.evaluate import Steps, evaluate
from oectflow.pipeline.execution.tasks import (
    ExperimentTask,
    FeatureSpec,
    announce,
    extract_features,
    needed_arrays,
    read_steps,
)
from oectflow.pipeline.features.feature import column_name
from oectflow.pipeline.outputs.sink import Problem

#: Memory a child may take, as a share of what is free when it starts; on a worker that has a limit,
#: no more than that.
_MEMORY_SHARE = 0.5


def extract_isolated(
    task: ExperimentTask, specs: Sequence[FeatureSpec], source: str, start: int, stop: int
) -> list[Extracted]:
    """Compute features of steps in child processes, each logical task on its own.

    Returns
    -------
    One result per logical task (or block of steps, where a feature carries something from step to
    step).  One that ended its process has NaN, the status ``error`` and a problem that says how the
    process died.
    """
    todo = [
        (first, min(first + block, stop), spec)
        for spec in specs
        for block in [spec.extractor.steps_per_block(spec.extractor.params)]
        for first in range(start, stop, block)
    ]
    most = worker_memory()
    results: list[Extracted] = []
    while len(results) < len(todo):
        rest = todo[len(results) :]
        done, reason = _run_child(task, rest, source, most)
        results += done
        if len(done) < len(rest):
            results.append(_given_up(source, *rest[len(done)], reason))
    for result in results:
        announce(task, result)
    return results


def worker_memory() -> int | None:
    """Return the memory limit of the worker that runs this task, in bytes; None without one.

    A step that needs more would have ended that worker, too.
    """
    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:
        return None
    return int(limit) if limit else None


def _run_child(
    task: ExperimentTask,
    todo: Sequence[tuple[int, int, FeatureSpec]],
    source: str,
    most: int | None,
) -> tuple[list[Extracted], str]:
    """Run one child; return what it finished, and how it died if it did not finish all."""
    command = [sys.executable, "-c", f"from {__name__} import child; child()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(cloudpickle.dumps((task, todo, source, most)))
            process.stdin.close()
        except BrokenPipeError:
            # It died before it had read everything; the reason is told below.
            pass
        done = []
        while True:
            try:
                done.append(pickle.load(process.stdout))
            except (EOFError, pickle.UnpicklingError):
                break
    return done, _cause(process.returncode)


def _cause(returncode: int) -> str:
    if returncode < 0:
        how = f"was ended by {signal.Signals(-returncode).name}"
    else:
        how = f"ended with exit status {returncode}"
    return f"the process that computed it {how}; computed alone, it would do so again"


def _given_up(source: str, start: int, stop: int, spec: FeatureSpec, reason: str) -> Extracted:
    n_steps = stop - start
    nothing = Steps(
        source,
        Batch({}, np.zeros(n_steps + 1, np.int64), {}, start),
        dict.fromkeys(range(n_steps), reason),
    )
    columns, _ = evaluate(spec.extractor, nothing)
    return Extracted(
        source,
        start,
        stop,
        {column_name(spec.name, name): array for name, array in columns.items()},
        tuple(
            Problem(step, source, spec.name, "error", "ProcessDied", reason)
            for step in range(start, stop)
        ),
        {spec.name: 0.0},
    )


def child() -> None:
    """Compute what comes in on standard input, one logical task after the other."""
    # Whatever an extractor prints must not get between the results.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task, todo, source, most = pickle.load(sys.stdin.buffer)
    # An extractor that allocates without end gets a MemoryError, which is recorded, before it
    # takes the machine's memory.
    share = int(_MEMORY_SHARE * psutil.virtual_memory().available)
    limit = psutil.Process().memory_info().vms + (share if most is None else min(share, most))
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for start, stop, spec in todo:
        steps = read_steps(task, source, start, stop, needed_arrays([spec]))
        result = extract_features(task, (spec,), steps)
        pickle.dump(result, out)
        out.flush()
