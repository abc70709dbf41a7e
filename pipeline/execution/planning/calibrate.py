"""Which steps are computed first, in order to find out what features of unknown cost take.

Their results are kept, so that nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from oectflow.pipeline.execution.events import BatchDone
from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.ledger import Ledger
from oectflow.pipeline.execution.planning.work import Job

#: Where this process computes them, nobody else works: it may take this share of everything.
_SHARE = 0.01
#: Results that are known travel with the graph of their experiment; more of them than this would
#: delay it, in bytes.
_MOST_BYTES = 2**20
#: Blocks of a batch, for the first batch of every worker, the second, and all others.
_SIZES = (1, 2, 4)
#: Every worker gets two batches, so that none waits.
QUEUED = 2
#: With fewer blocks than this for each worker, or longer ones in s, none is computed together with
#: another: a few of them say enough, and the rest is better divided when their cost is known.
_FEW = 8
_LONG = 0.05


@dataclass
class Group:
    """Features that may share batches, and of which some have an unknown cost.

    Attributes
    ----------
    jobs
        The experiments that have all of them.
    source, block, features
        What they need, and which they are.
    unknown
        Those of unknown cost.
    n_sent, n_done
        Batches that were handed out, and that are done.
    n_blocks_done, seconds, n_bytes
        Blocks of these, what they took in s, and bytes of their results.
    """

    jobs: Sequence[Job]
    source: str
    block: int
    features: tuple[str, ...]
    unknown: set[str]
    n_sent: int = 0
    n_done: int = 0
    n_blocks_done: int = 0
    seconds: float = 0.0
    n_bytes: int = 0
    _at: int = 0
    _start: int = 0
    _seen: set[tuple[str, str]] = field(default_factory=set)

    @property
    def n_blocks(self) -> int:
        """How many blocks there are in all of its experiments."""
        return sum(-(-job.layouts[self.source].n_steps // self.block) for job in self.jobs)

    @property
    def block_seconds(self) -> float:
        """What a block has taken, in s; 0 before one is done."""
        return self.seconds / max(self.n_blocks_done, 1)

    @property
    def n_running(self) -> int:
        """Batches that were handed out and are not done."""
        return self.n_sent - self.n_done

    @property
    def job(self) -> Job | None:
        """The experiment of which the next block is; None where none is left."""
        while self._at < len(self.jobs):
            job = self.jobs[self._at]
            if self._start < job.layouts[self.source].n_steps:
                return job
            self._at, self._start = self._at + 1, 0
        return None

    def take(self, n_blocks: int, *, apart: bool = False) -> list[StepBatch]:
        """Hand out the next blocks of :attr:`job`, as one batch or as one for each feature."""
        assert self.job is not None
        stop = min(self._start + n_blocks * self.block, self.job.layouts[self.source].n_steps)
        groups = [(name,) for name in self.features] if apart else [self.features]
        batches = [StepBatch(self.source, self._start, stop, names) for names in groups]
        self._start = stop
        self.n_sent += len(batches)
        return batches

    def done(self, batch: BatchDone) -> bool:
        """Count a batch that is done; return whether its process had not computed any before."""
        self.n_done += 1
        self.n_blocks_done += -(-batch.n_steps // self.block)
        self.seconds += batch.reading + sum(batch.seconds.values())
        self.n_bytes += batch.n_bytes
        new = {(batch.where, name) for name in batch.seconds} - self._seen
        self._seen |= new
        if not new:
            self.unknown -= batch.seconds.keys()
        return bool(new)


class Calibration:
    """The features of a run whose cost is unknown.

    Parameters
    ----------
    jobs
        The experiments of the run, in order.
    ledger
        Knows what is known.
    """

    def __init__(self, jobs: Sequence[Job], ledger: Ledger) -> None:
        self._ledger = ledger
        self.groups: list[Group] = []
        asked: set[str] = set()
        # The first steps of an experiment that has grown are there already.
        jobs = [job for job in jobs if not job.first]
        for at, job in enumerate(jobs):
            unknown = set(ledger.unknown(job)) - asked
            if not unknown:
                continue
            for key, names in ledger.groups(job).items():
                if unknown.isdisjoint(names):
                    continue
                asked.update(names)
                alike = [one for one in jobs[at:] if ledger.groups(one).get(key) == names]
                self.groups.append(Group(alike, *key, tuple(names), unknown & set(names)))

    @property
    def is_over(self) -> bool:
        """Whether all costs are known, or nothing is left that could tell them."""
        return not any(map(_is_open, self.groups))

    def done(self, job: Job, batch: BatchDone) -> None:
        """Learn from a batch that is done."""
        for group in self.groups:
            if group.source == batch.source and set(batch.seconds) <= set(group.features):
                fresh = group.done(batch)
                samples = job.layouts[batch.source].samples(batch.start, batch.stop)
                self._ledger.costs.timed(batch, samples, fresh=fresh)
                return

    def divided(self, batch: StepBatch, n: int) -> None:
        """Count the parts of a batch that is handed out again instead of it."""
        for group in self.groups:
            if group.source == batch.source and set(batch.features) <= set(group.features):
                group.n_sent += n - 1

    def for_workers(self, n_workers: int) -> Iterable[tuple[Job, StepBatch]]:
        """Yield batches until every worker has enough of them, of all groups in turn."""
        n_free = QUEUED * n_workers - sum(group.n_running for group in self.groups)
        while n_free > 0:
            able = [group for group in self.groups if group.unknown and group.job is not None]
            if not able:
                return
            for group in able:
                job = group.job
                assert job is not None
                few = group.n_blocks < _FEW * n_workers or group.block_seconds > _LONG
                turn = min(group.n_sent // n_workers, len(_SIZES) - 1)
                apart = group.n_blocks < QUEUED * n_workers
                batches = group.take(1 if few else _SIZES[turn], apart=apart)
                yield from ((job, batch) for batch in batches)
                n_free -= len(batches)

    def for_this_process(self, trip: float, n_workers: int) -> tuple[Job, StepBatch] | None:
        """Return the next batch of a process that computes one after the other.

        One block, two, four, …, until that has taken as long as a round trip, or one percent of
        what all of them will take.

        Parameters
        ----------
        trip
            What a task takes to be handed out and come back, in s.
        n_workers
            How many may work together later.
        """
        for group in self.groups:
            if group.job is not group.jobs[0]:
                continue
            enough = max(trip, _SHARE * group.block_seconds * group.n_blocks / n_workers)
            if group.unknown or (group.seconds < enough and group.n_bytes < _MOST_BYTES):
                layout = group.jobs[0].layouts[group.source]
                a_step = max(layout.nbytes_per_sample * float(layout.lengths.mean()), 1.0)
                most = max(1, int(self._ledger.batch_bytes / a_step) // group.block)
                (batch,) = group.take(min(2**group.n_done, most))
                return group.jobs[0], batch
        return None


def _is_open(group: Group) -> bool:
    return bool(group.unknown) and (group.job is not None or group.n_running > 0)
