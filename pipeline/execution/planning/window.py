"""What is handed out of a run and not written yet.

Whoever decides asks with every event, of which a large run has 100,000: what is asked for is kept
as sums, however many experiments are under way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.work import Job


@dataclass
class Entry:
    """An experiment of which something was handed out.

    ``left`` counts batches that are not done, ``here`` those of them that this process computes;
    ``whole`` says that all of it was handed out.  Both ``left`` and ``whole`` are changed by the
    window.  ``divided`` have come from a batch that killed a worker, ``isolated`` have killed one
    although they were divided.  ``as_one`` says that one task computes and writes it.
    """

    job: Job
    batches: list[StepBatch] = field(default_factory=list)
    left: int = 0
    here: int = 0
    on_cluster: bool = False
    whole: bool = False
    divided: set[StepBatch] = field(default_factory=set)
    isolated: set[StepBatch] = field(default_factory=set)
    attempts: int = 0
    as_one: bool = False

    @property
    def n_tasks(self) -> int:
        """How much there is to do of it, if all was handed out: to be written is a task, too."""
        return max(1, 0 if self.as_one else self.left) if self.whole else 0


class Window:
    """The experiments that are under way, in the order in which they have entered."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._n_tasks = 0
        #: Of how many everything was handed out.
        self.n_whole = 0
        #: Rows of results, and bytes of samples, of all that are under way.
        self.n_rows, self.n_bytes = 0, 0.0

    def find(self, index: int) -> Entry | None:
        """Return an experiment; None where nothing of it is under way."""
        return self._entries.get(index)

    def entries(self) -> Iterable[Entry]:
        """Return all of them."""
        return self._entries.values()

    def enter(self, job: Job) -> Entry:
        """Return an experiment, which is under way from now on."""
        if job.index not in self._entries:
            self._entries[job.index] = Entry(job)
            self._weigh(job, 1)
        return self._entries[job.index]

    def leave(self, index: int) -> Entry:
        """Take out an experiment that is over."""
        entry = self._entries.pop(index)
        self._weigh(entry.job, -1)
        self._count(entry, -1)
        return entry

    def change(self, entry: Entry, left: int, *, whole: bool, as_one: bool = False) -> None:
        """Say how many batches of an experiment are left, and whether that is all of it."""
        self._count(entry, -1)
        entry.left, entry.whole, entry.as_one = max(0, left), whole, as_one
        self._count(entry, 1)

    @property
    def n_tasks_behind_first(self) -> int:
        """Tasks that are left when the first experiment is written, which is next."""
        first = next((entry for entry in self._entries.values() if entry.whole), None)
        return self._n_tasks - (first.n_tasks if first else 0)

    def _count(self, entry: Entry, sign: int) -> None:
        self._n_tasks += sign * entry.n_tasks
        self.n_whole += sign * entry.whole

    def _weigh(self, job: Job, sign: int) -> None:
        self.n_rows += sign * job.task.n_rows
        self.n_bytes += sign * job.n_sample_bytes
