"""What happens in a run, as it is told to whoever decides, to the progress bar and the dashboard.

Everything here is plain data.  Workers announce ``BatchDone`` as a message of Dask's, everything
else is noticed by the loop that drives the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: What a measured speed-up may be worth less than it seemed.
LEAST_MARGIN = 0.1
#: A batch is long enough when handing it out costs 1 % of it, and the dispatcher, which serves
#: all workers in turn, is busy for at most half of the time.
_OVERHEAD_SHARE = 0.01
_DISPATCHER_SHARE = 0.5
#: Where a batch was computed: in a process that was started for it and may die.
CHILD = "child"


@dataclass(frozen=True)
class Overheads:
    """What it costs to let others work.

    Attributes
    ----------
    round_trip
        From handing out one empty batch to having its result, in s.
    per_batch
        One more batch among many, in s: the time between two batches that the dispatcher sends.
    per_worker
        One more batch for the worker that gets it, in s.
    n_workers
        Batches that run at the same time.
    effective
        How many workers' work they do together: less than ``n_workers`` where these share cores
        with each other or with somebody else.
    spread
        Relative uncertainty of ``effective``.
    start
        Before the first batch: the start of a cluster, in s; 0 where it runs.
    """

    round_trip: float
    per_batch: float
    per_worker: float
    n_workers: int
    effective: float
    spread: float = LEAST_MARGIN
    start: float = 0.0

    @property
    def enough(self) -> float:
        """Length of a batch beyond which a longer one gains nothing, in s."""
        return max(
            self.per_worker / _OVERHEAD_SHARE,
            self.n_workers * self.per_batch / _DISPATCHER_SHARE,
        )


@dataclass(frozen=True)
class Begun:
    """The run begins."""


@dataclass(frozen=True)
class Measured:
    """What a cluster costs.

    Attributes
    ----------
    overheads
        As measured; None where there is too little to do for it to be asked, or nothing new.
    """

    overheads: Overheads | None


@dataclass(frozen=True)
class Connected:
    """A cluster is there that was started for this run.

    Attributes
    ----------
    seconds
        How long that took.
    """

    seconds: float


@dataclass(frozen=True)
class WorkersSeen:
    """Somebody has looked at the workers.

    Attributes
    ----------
    n_workers
        Batches that run at the same time.
    total_bytes, least_bytes
        Memory of all of them, and for one batch of the one that has least; 0 without a limit.
    tight
        Whether one of them is short of memory.
    others
        Whether some have come or gone since somebody has looked last.
    """

    n_workers: int
    total_bytes: float = 0.0
    least_bytes: float = 0.0
    tight: bool = False
    others: bool = False


@dataclass(frozen=True)
class BatchDone:
    """A batch was computed.

    Attributes
    ----------
    index
        Of its experiment in the run.
    source, start, stop
        Its steps.
    seconds
        Time by feature, in s.
    reading
        What it took to read the steps, in s; 0 where another task has read them.
    n_bytes, n_errors
        Of its results.
    where
        The process that has computed it: the address of a worker, ``""`` for the one that drives
        the run, or :data:`CHILD`.
    crashed
        Features that have ended the process, or would have taken all memory.
    """

    index: int
    source: str
    start: int
    stop: int
    seconds: Mapping[str, float]
    reading: float = 0.0
    n_bytes: int = 0
    n_errors: int = 0
    where: str = ""
    crashed: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether it was computed in the process that drives the run, or in a child of it."""
        return self.where in ("", CHILD)

    @property
    def n_steps(self) -> int:
        """How many steps."""
        return self.stop - self.start

    def message(self, experiment_id: str) -> dict[str, Any]:
        """Return it as the progress bar and the dashboard count it."""
        return vars(self) | {
            "kind": "batch",
            "experiment_id": experiment_id,
            "features": tuple(self.seconds),
            "n_steps": self.n_steps,
            "n_logical": self.n_steps * len(self.seconds),
            "seconds": sum(self.seconds.values()),
            "seconds_by_feature": dict(self.seconds),
            "bytes": self.n_bytes,
        }

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> BatchDone:
        """Return what a message tells."""
        told = {name: message[name] for name in cls.__dataclass_fields__}
        return cls(**told | {"seconds": message["seconds_by_feature"]})


@dataclass(frozen=True)
class Killed:
    """A task has ended its workers, or was waiting on some that died.

    Attributes
    ----------
    index
        Of the experiment.
    key
        Of the task, see :mod:`~oectflow.pipeline.execution.driving.graph`.
    """

    index: int
    key: tuple[str, str, int, int]


@dataclass(frozen=True)
class Ended:
    """An experiment is over, in one way or another.

    Attributes
    ----------
    index
        Which.
    n_rows, n_bytes
        Of its results: rows, and bytes as arrays.
    seconds
        Time by feature, in s.
    reading, finishing
        Time for reading, and for putting together and writing, in s.
    """

    index: int
    n_rows: int = 0
    n_bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    reading: float = 0.0
    finishing: float = 0.0


@dataclass(frozen=True)
class Waited:
    """The time that was asked for is over."""


Event = Begun | Measured | Connected | WorkersSeen | BatchDone | Killed | Ended | Waited
