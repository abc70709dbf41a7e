"""``_report.json`` beside the results: what a run has done, on which machines, and why.

The file belongs to the last run that had something to do; earlier ones are in ``_runs``.  Readers
of a folder of Parquet files skip names that begin with an underscore.
"""

from __future__ import annotations

import json
import platform
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from distributed import Client

from oectflow.atomic_write import atomic_write
from oectflow.pipeline.execution.driving.scheduler import workers_of
from oectflow.pipeline.execution.report import ExperimentRecord, RunReport
from oectflow.pipeline.execution.worker.tasks import software_versions

NAME = "_report.json"
EARLIER = "_runs"
_FORMAT = 1


def machines_of(client: Client | None, n_threads: int) -> dict[str, Any]:
    """Return where a run computes: its machines, their workers, and all cores that it holds.

    Parameters
    ----------
    client
        The cluster; None for this process alone.
    n_threads
        Cores of this process, if it computes.
    """
    here = {"client": platform.node(), "system": platform.platform()}
    if client is None:
        return here | {"cluster": None, "workers": {}, "cores": n_threads}
    workers = workers_of(client).values()
    return here | {
        "cluster": type(client.cluster).__name__ if client.cluster else client.scheduler.address,
        "workers": dict(Counter(worker["host"] for worker in workers)),
        "cores": sum(worker["nthreads"] for worker in workers),
    }


def write_run_file(
    folder: Path,
    report: RunReport,
    began: datetime,
    looking: float,
    machines: Mapping[str, Any],
    why: Mapping[str, Mapping[str, str]],
) -> None:
    """Write what a run has done; a run that had nothing to do writes no file.

    The results are complete by then.  If the file cannot be written, a warning says so.

    Parameters
    ----------
    folder
        Of the results.
    report
        The run.
    began, looking
        When the run began (UTC), and how long it took to find the work, in s.
    machines
        From :func:`machines_of`.
    why
        For each experiment, the features to compute, and why.
    """
    records = [record for record in report.experiments if record.outcome != "unchanged"]
    if not records:
        return
    worked = Counter[str]()
    for record in records:
        worked.update(record.seconds)
    content = {
        "format": _FORMAT,
        "began": began.isoformat(timespec="seconds"),
        "seconds": {"all": report.seconds, "looking": looking},
        "core_seconds": {
            "held": report.core_seconds,
            "reading": sum(record.reading for record in records),
            "computing": dict(worked),
            "finishing": sum(record.finishing for record in records),
        },
        "bytes": {"raw": report.n_bytes_raw, "results": sum(record.n_bytes for record in records)},
        "machines": dict(machines),
        "software": {"python": platform.python_version(), **software_versions()},
        "ways": list(report.plan.ways),
        "features": [asdict(row) for row in report.plan.features],
        "outcomes": report.counts,
        "experiments": {
            record.experiment_id: _told(record, why.get(record.experiment_id, {}))
            for record in records
        },
    }
    target = folder / NAME
    try:
        _put_aside(target)
        with atomic_write(target) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=str))
    except OSError as error:
        reason = (
            f"{target}: cannot be written ({error.strerror or error}); the results are complete"
        )
        warnings.warn(reason, RuntimeWarning, stacklevel=4)


def _told(record: ExperimentRecord, why: Mapping[str, str]) -> dict[str, Any]:
    return {
        "path": record.path,
        "outcome": record.outcome,
        "reason": record.reason,
        "computed": {name: why.get(name, "") for name in record.computed},
        "kept": list(record.reused),
        "kept_steps": dict(record.kept_steps),
        "dropped": dict(record.dropped),
        "content_hash": record.content_hash,
    }


def _put_aside(target: Path) -> None:
    """Move the file of the run before to where the earlier ones are, under the time it began."""
    try:
        text = target.read_text()
    except FileNotFoundError:
        return
    try:
        began = datetime.fromisoformat(json.loads(text)["began"])
        stem = began.strftime("%Y-%m-%dT%H-%M-%SZ")
    except (ValueError, KeyError, TypeError):
        # Nobody can read it; a run should not fail for that.
        stem = "unknown"
    earlier = target.parent / EARLIER
    earlier.mkdir(exist_ok=True)
    number = 1
    while (place := earlier / f"{stem}{f'-{number}' * (number > 1)}.json").exists():
        number += 1
    target.replace(place)
