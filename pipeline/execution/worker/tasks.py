"""The functions that run inside workers, and what they hand to each other.

``read_steps`` → ``extract_features`` (→ ``derive_step``) → ``derive_features`` →
``write_experiment``; or ``extract_experiment``, which calls all of them.  Exceptions of extractors
are caught in ``run_extractor``; what escapes from here is a fault of the machine, not of the data.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import numpy as np
from distributed import get_worker

import oectflow.pipeline.execution.worker.sizes  # noqa: F401 # tells Dask how large results are
from oectflow.errors import InputError, UnreadableFile
from oectflow.extractors.base import BaseExtractor
from oectflow.measurement import Batch, get_kind
from oectflow.pipeline.execution.events import BatchDone
from oectflow.pipeline.execution.planning.work import ExperimentTask
from oectflow.pipeline.execution.report import ExperimentRecord
from oectflow.pipeline.execution.worker.build_table import (
    DerivedStep,
    Extracted,
    Table,
    add_derived,
    add_reused,
    build_table,
    describe,
    row_outcomes,
)
from oectflow.pipeline.execution.worker.grown_table import (
    digests_of,
    earlier_steps,
    joined_trails,
)
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.read_ahead import steps_of
from oectflow.pipeline.execution.worker.run_extractor import (
    Steps,
    run_extractor,
    step_seconds,
    value_columns,
)
from oectflow.pipeline.execution.worker.watch import renew_worker
from oectflow.pipeline.features.feature import column_name
from oectflow.pipeline.features.feature_list import FeatureList
from oectflow.pipeline.inputs.experiment import Experiment, FileIdentity
from oectflow.pipeline.inputs.guard import trust
from oectflow.pipeline.inputs.hdf5 import of_version
from oectflow.pipeline.inputs.object_file import load_index
from oectflow.pipeline.outputs.sink import Problem, Results, write_results
from oectflow.pipeline.outputs.trouble import flags_of
from oectflow.place import is_remote, place
from oectflow.result_metadata import definitions_folder

_VERSIONED = ("oectflow", "dask", "distributed", "h5py", "numba", "numpy", "pyarrow", "scipy")
_RECORDED_PROBLEMS = 20
#: Ends of the names of errors: isolated, a step has ended its process, or taken all memory.
_CRASHES = ("ProcessDied", "MemoryError")


@dataclass(frozen=True)
class NamedExtractor:
    """A feature to extract.

    Attributes
    ----------
    name
        Of the feature.
    extractors
        All of the run, by feature.
    """

    name: str
    extractors: PickledOnce[Mapping[str, BaseExtractor]]

    @property
    def extractor(self) -> BaseExtractor:
        """The one that computes it."""
        return self.extractors.value[self.name]


def named_extractors(extractors: Mapping[str, BaseExtractor]) -> dict[str, NamedExtractor]:
    """Return what tasks get of the extractors of a run, by feature."""
    # Together, as classes from one notebook share most of their code.
    pickled: PickledOnce[Mapping[str, BaseExtractor]] = PickledOnce(dict(extractors))
    return {name: NamedExtractor(name, pickled) for name in extractors}


def needed_arrays(specs: Iterable[NamedExtractor]) -> tuple[str, ...] | None:
    """Return the names of the arrays that some features use together, None for all."""
    needed: set[str] = set()
    for spec in specs:
        if spec.extractor.arrays is None:
            return None
        needed.update(spec.extractor.arrays)
    return tuple(sorted(needed))


def read_steps(
    task: ExperimentTask,
    source: str,
    start: int,
    stop: int,
    arrays: tuple[str, ...] | None = None,
) -> Steps:
    """Read a range of steps; where that fails, read them one by one and keep what can be read.

    ``arrays`` are the names of those to read, None for all.
    """
    try:
        path = place(task.path)
        # What is read of an object is of this version, or an error.
        if not is_remote(path) and not task.identity.is_of(path):
            raise UnreadableFile(
                f"{task.path}: changed since the run began; "
                "wait until it is complete, then run again"
            )
        experiment = _experiment(task.path, task.identity, task.out_path)
        batch = experiment.batch(source, start, stop, arrays)
    except InputError as error:
        if stop - start > 1:
            return _joined([read_steps(task, source, i, i + 1, arrays) for i in range(start, stop)])
        unknown = ("unknown",) if get_kind(source).gated else ()
        nothing = Batch({}, np.zeros(2, np.int64), {}, start, unknown)
        return Steps(source, nothing, {0: str(error)})
    return Steps(source, batch)


@lru_cache(maxsize=4)
def _experiment(path: str, identity: FileIdentity, out_path: str) -> Experiment:
    raw = of_version(place(path), identity)
    # Whoever planned the run has seen it.
    trust(raw, identity)
    if is_remote(raw):
        load_index(raw, definitions_folder(place(out_path)))
    # The metadata of a file serves all batches that are read from it.
    return Experiment(raw, allow_external=bool(identity.others))


def _joined(parts: Sequence[Steps]) -> Steps:
    """Put steps that were read one by one together; an unreadable step has no samples."""
    readable = next((part.batch for part in parts if not part.unreadable), parts[0].batch)
    batch = Batch(
        {
            name: np.concatenate([part.batch.arrays.get(name, np.empty(0)) for part in parts])
            for name in readable.arrays
        },
        np.cumsum([0, *(part.batch.offsets[-1] for part in parts)]).astype(np.int64),
        {
            name: np.concatenate([part.batch.values.get(name, [np.nan]) for part in parts])
            for name in readable.values
        },
        parts[0].batch.first_step,
        tuple(word for part in parts for word in part.batch.timing_source),
        readable.sample,
    )
    unreadable = {i: part.unreadable[0] for i, part in enumerate(parts) if part.unreadable}
    return Steps(parts[0].source, batch, unreadable)


def extract_features(
    task: ExperimentTask, specs: Sequence[NamedExtractor], steps: Steps
) -> Extracted:
    """Compute features of steps that were read, and announce it.

    Returns
    -------
    All variables of all these features; where an extractor raised, NaN, the status ``error`` and a
    problem.
    """
    extracted = _extracted(task, specs, steps)
    announce(task, extracted)
    return extracted


def read_and_extract(
    task: ExperimentTask, specs: Sequence[NamedExtractor], source: str, start: int, stop: int
) -> Extracted:
    """Read a range of steps and compute features of them in one task, and announce it."""
    ahead = is_remote(place(task.path))
    extracted = compute_batch(task, specs, source, start, stop, ahead=ahead)
    announce(task, extracted)
    return extracted


def compute_batch(
    task: ExperimentTask,
    specs: Sequence[NamedExtractor],
    source: str,
    start: int,
    stop: int,
    *,
    ahead: bool = False,
) -> Extracted:
    """Read a range of steps and compute features of them; ``ahead`` reads the next meanwhile."""
    begin = time.perf_counter()
    call = (task, specs, source, start, stop)
    steps = steps_of(read_and_extract, _read, *call) if ahead else _read(*call)
    reading = time.perf_counter() - begin
    return replace(_extracted(task, specs, steps), reading=reading)


def _read(
    task: ExperimentTask, specs: Sequence[NamedExtractor], source: str, start: int, stop: int
) -> Steps:
    return read_steps(task, source, start, stop, needed_arrays(specs))


def _extracted(task: ExperimentTask, specs: Sequence[NamedExtractor], steps: Steps) -> Extracted:
    steps = _writable(replace(steps, batch=replace(steps.batch, sample=task.known, memo={})))
    start, n_steps = steps.batch.first_step, len(steps.batch)
    digests = digests_of(steps)
    columns = value_columns(steps)
    problems: list[Problem] = []
    seconds = {}
    for spec in specs:
        begin = time.perf_counter()
        limit = step_seconds(spec.extractor, task.step_timeout)
        result, errors = run_extractor(spec.extractor, steps, limit)
        seconds[spec.name] = time.perf_counter() - begin
        columns |= {column_name(spec.name, name): array for name, array in result.items()}
        problems += [
            Problem(start + i, steps.source, spec.name, "error", *error)
            for i, error in errors.items()
        ]
    return Extracted(
        steps.source, start, start + n_steps, columns, tuple(problems), seconds, digests=digests
    )


def _writable(steps: Steps) -> Steps:
    # Arrays that come from another worker are read-only, and for those Numba would compile every
    # kernel a second time.
    if all(array.flags.writeable for array in steps.batch.arrays.values()):
        return steps
    # An array and its aliases are one object, and stay one.
    copies = {id(array): array.copy() for array in steps.batch.arrays.values()}
    arrays = {name: copies[id(array)] for name, array in steps.batch.arrays.items()}
    return replace(steps, batch=replace(steps.batch, arrays=arrays))


def announce(task: ExperimentTask, *parts: Extracted) -> None:
    """Tell the client and the dashboard that a batch was computed, from inside a worker."""
    try:
        worker = get_worker()
    except ValueError:
        # Whoever computes in a process of its own tells it there.
        return
    done = batch_done(task, parts, worker.address)
    worker.log_event(task.topic, done.message(task.experiment_id))
    renew_worker()


def batch_done(task: ExperimentTask, parts: Sequence[Extracted], where: str) -> BatchDone:
    """Return the event of a batch, of which the parts were computed one by one.

    Parameters
    ----------
    task
        Of the experiment.
    parts
        What was computed.
    where
        The process that has done it.
    """
    seconds: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        for name, took in part.seconds.items():
            seconds[name] += took
    problems = [problem for part in parts for problem in part.problems]
    return BatchDone(
        index=task.index,
        source=parts[0].source,
        start=min(part.start for part in parts),
        stop=max(part.stop for part in parts),
        seconds=dict(seconds),
        reading=sum(part.reading for part in parts),
        n_bytes=sum(array.nbytes for part in parts for array in part.columns.values()),
        n_errors=len(problems),
        where=where,
        crashed=tuple({p.feature: 0 for p in problems if p.error_type.endswith(_CRASHES)}),
    )


def hash_source(task: ExperimentTask, after: object = None) -> str:  # noqa: ARG001 - an order
    """Return the content hash of the raw file; ``""`` where it cannot be read or has changed.

    Parameters
    ----------
    task
        Names the file.
    after
        Whatever has to be there before.
    """
    try:
        path = place(task.path)
        digest = task.identity.content_hash(path)
        if task.identity.etag:
            # Whatever was read is of this version.
            return digest
        # What was put in its place meanwhile is not what the features are of.
        return digest if task.identity.is_of(path) else ""
    except (OSError, UnreadableFile):
        # Its steps are marked unreadable; without a hash the file is never taken for unchanged.
        return ""


def derive_step(
    pickled: PickledOnce[FeatureList],
    name: str,
    step: int,
    parts: Sequence[Extracted | DerivedStep],
) -> DerivedStep:
    """Compute a derived feature at one step."""
    columns = {key: array for part in parts for key, array in part.columns.items()}
    derived, failures = pickled.value.compute_derived(columns, [name])
    # Why it has no value is found out where all steps are there.
    return DerivedStep(name, step, {} if failures else derived.columns)


def derive_features(
    task: ExperimentTask,
    pickled: PickledOnce[FeatureList],
    parts: Sequence[Extracted | DerivedStep | Sequence[Extracted]],
) -> Table:
    """Put the parts of one experiment together and compute its derived features."""
    begin = time.perf_counter()
    features = pickled.value
    flat = [one for part in parts for one in (part if isinstance(part, Sequence) else [part])]
    extracted = [one for one in flat if isinstance(one, Extracted)]
    earlier = earlier_steps(place(task.out_path), features, task.first) if task.first else []
    table = build_table([*earlier, *extracted], features, task.n_steps)
    table = replace(table, trails=joined_trails(task.trails, extracted))
    if task.reused:
        table = add_reused(table, features, place(task.out_path), task.reused)
    steps = [one for one in flat if isinstance(one, DerivedStep)]
    table = add_derived(table, features, steps)
    return replace(table, finishing=time.perf_counter() - begin)


@cache
def software_versions() -> dict[str, str]:
    """Return the versions of packages that results depend on."""
    # Looked up in files, which for every experiment would take longer than to write it.
    return {name: importlib.metadata.version(name) for name in _VERSIONED}


def write_experiment(
    task: ExperimentTask, pickled: PickledOnce[FeatureList], table: Table, content_hash: str
) -> ExperimentRecord:
    """Write the Parquet file of one experiment.

    Returns
    -------
    A small record for the client.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    begin = time.perf_counter()
    features = pickled.value
    described = describe(table, features, task.known)
    identity = {
        "experiment_id": task.experiment_id,
        "chip_id": task.chip_id,
        "device_id": task.device_id,
    }
    metadata = {
        "config": features.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "expand_multidim": task.expand_multidim,
        "features": described,
        "identity": identity | {"sample": dict(task.sample)},
        "n_rows": table.n_rows,
        "source": {
            "path": task.path,
            "size": task.identity.size,
            "mtime_ns": task.identity.mtime_ns,
            "content_hash": content_hash,
            "n_steps": dict(task.n_steps),
            "trails": table.trails,
        }
        | ({"others": task.identity.others} if task.identity.others else {}),
        "versions": software_versions(),
        "warnings": list(task.warnings),
    }
    results = Results(
        identity | {"step_index": np.arange(table.n_rows)},
        table.columns,
        table.variables,
        table.owners,
        table.problems,
        metadata,
    )
    n_bytes = write_results(place(task.out_path), results, expand_multidim=task.expand_multidim)
    n_flagged, n_failed = row_outcomes(table)
    reason = ""
    if n_failed:
        first = table.problems[0]
        reason = (
            f"{task.path}: {n_failed} of {table.n_rows} steps; first step {first.step}, "
            f"{first.feature}: {first.message}"
        )
    record = ExperimentRecord(
        experiment_id=task.experiment_id,
        path=task.path,
        outcome="failed" if n_failed else "flagged" if n_flagged else "done",
        reason=reason,
        out_path=task.out_path,
        n_steps=table.n_rows,
        n_flagged=n_flagged,
        n_failed=n_failed,
        computed=tuple(name for name in described if name not in table.kept),
        reused=tuple(table.kept),
        dropped=task.dropped,
        kept_steps=task.first,
        n_bytes=n_bytes,
        seconds=table.seconds,
        reading=table.reading,
        finishing=table.finishing + time.perf_counter() - begin,
        n_bytes_in_memory=sum(array.nbytes for array in table.columns.values()),
        flags=flags_of(described, {name: v.statuses for name, v in table.variables.items()}),
        problems=table.problems[:_RECORDED_PROBLEMS],
        warnings=task.warnings,
        n_problems=len(table.problems),
        content_hash=content_hash,
    )
    try:
        worker = get_worker()
    except ValueError:
        return record
    worker.log_event(task.topic, written_message(record))
    return record


def finish_experiment(
    task: ExperimentTask, pickled: PickledOnce[FeatureList], parts: Sequence[Extracted]
) -> ExperimentRecord:
    """Put the parts of one experiment together, and write its Parquet file."""
    table = derive_features(task, pickled, parts)
    return write_experiment(task, pickled, table, hash_source(task))


def extract_experiment(
    task: ExperimentTask,
    pickled: PickledOnce[FeatureList],
    batches: Sequence[tuple[Sequence[NamedExtractor], str, int, int]],
) -> ExperimentRecord:
    """Compute all batches of one experiment, one after the other, and write its Parquet file."""
    parts = [read_and_extract(task, *batch) for batch in batches]
    return finish_experiment(task, pickled, parts)


def written_message(record: ExperimentRecord) -> dict[str, Any]:
    """Return what the dashboard counts of an experiment that is over."""
    return {
        "kind": "written",
        "experiment_id": record.experiment_id,
        "outcome": record.outcome,
        "n_steps": record.n_steps,
        "n_flagged": record.n_flagged,
        "n_failed": record.n_failed,
        "bytes": record.n_bytes,
    }
