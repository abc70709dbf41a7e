"""Measure what a cluster needs to do some work.

A measurement takes some round trips, so it is made once for each cluster and process, and only
where there is enough work to gain by it.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary, ref

from distributed import Client

from oectflow.pipeline.execution.driving.scheduler import scheduler_lost, scheduler_needed
from oectflow.pipeline.execution.events import LEAST_MARGIN, Overheads
from oectflow.pipeline.execution.planning.decide import Decision

#: Empty batches in one measurement of what another batch costs; with more workers, one for each.
_BATCHES = 16
#: Round trips that are timed.  The shortest counts: whatever disturbs them makes them longer.
_TRIPS = 2
#: About how many round trips a full measurement takes, and what it may cost of the time that the
#: workers could save.
_TRIPS_OF_ALL = 12
MEASURING_SHARE = 0.05
#: The workers are not asked for again where that would take more than this share of the work.
_ASKING_SHARE = 0.01
#: After so many seconds, somebody else may be using the machines, or nobody any more.
_VALID_SECONDS = 300.0


@dataclass
class _Known:
    """What is known of a cluster with a certain number of workers.

    ``complete`` unless it is one round trip, as the upper bound of everything; ``seen`` is when it
    was measured, or a run has shown it; ``taken`` when the full measurement began and how long it
    took, in s.
    """

    overheads: Overheads
    seen: float
    complete: bool = False
    taken: tuple[float, float] | None = None


class ClusterMeter:
    """Measures a cluster, and remembers what it has found.

    Parameters
    ----------
    client
        Whose cluster.
    clock
        Tells the time, in s.
    """

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        # A meter is found by its client, and must not keep it.
        self._client = ref(client)
        self._clock = clock
        # By number of workers: with others, the numbers are others.
        self._known: dict[int, _Known] = {}
        # What was told last, and how long it took to ask for the workers, in s.
        self._last: tuple[Overheads, float] | None = None

    @property
    def client(self) -> Client:
        """The client; whoever asks has it."""
        client = self._client()
        assert client is not None
        return client

    @scheduler_needed(OSError)
    def overheads(self, seconds: float) -> Overheads:
        """Return what the cluster costs; measured where that is worth it.

        Parameters
        ----------
        seconds
            What the work takes one process.  A full measurement takes some ten round trips.  Where
            these are not small against what the workers could save, one round trip is taken as the
            upper bound of everything, and all workers are believed to be effective.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        """
        return self._overheads(seconds, *self._workers())

    @scheduler_needed(OSError)
    def overheads_if_worth_it(self, seconds: float) -> Overheads | None:
        """Return the same, or None where the cluster could not be quicker at the very best.

        For little work it is not asked again whether its workers are still those of before.
        """
        if self._last is not None:
            known, ping = self._last
            if seconds <= known.round_trip:
                return None
            if ping > _ASKING_SHARE * seconds:
                return known
        threads, ping = self._workers()
        saved = seconds * (1 - 1 / self.expected(threads))
        return self._overheads(seconds, threads, ping) if saved > ping else None

    @scheduler_needed(OSError)
    def measured_again(self, seconds: float) -> Overheads | None:
        """Measure a cluster anew whose workers seemed to do little together.

        Somebody else may have used their cores for just that moment.

        Parameters
        ----------
        seconds
            What the work takes one process.

        Returns
        -------
        None where the workers do all that they can, where it does not pay, or where it would take
        more than a small share of the time since the last measurement.
        """
        if self._last is None:
            return None
        told, _ = self._last
        known = self._known.get(told.n_workers)
        if known is None or known.taken is None or told.effective >= told.n_workers:
            return None
        when, took = known.taken
        if not _pays(told, seconds) or took > MEASURING_SHARE * (self._clock() - when):
            return None
        del self._known[told.n_workers]
        return self.overheads(seconds)

    @scheduler_needed(OSError)
    def correct(self, decision: Decision, seconds: float) -> None:
        """Remember what a run has shown of how much work the workers do together.

        Parameters
        ----------
        decision
            What was decided.  Where not every worker had a batch, or most of the time was for
            handing them out, it shows nothing.
        seconds
            What it took.
        """
        known = self._known.get(self.count_workers())
        if known is None or decision.n_batches < known.overheads.n_workers:
            return
        old = known.overheads
        ideal = decision.alone / old.effective
        if not decision.divide or ideal < decision.predicted / 2:
            return
        worked = max(seconds - (decision.predicted - ideal), ideal / old.n_workers)
        seen = min(max(decision.alone / worked, 1.0), float(old.n_workers))
        now = (old.effective + seen) / 2
        spread = max(LEAST_MARGIN, abs(now - old.effective) / old.effective)
        known.overheads = replace(old, effective=now, spread=spread)
        # However long ago it was measured, it has just been seen.
        known.seen = self._clock()

    @scheduler_needed(OSError)
    def count_workers(self) -> int:
        """Return how many tasks run at the same time, or will when there is work.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        """
        if self.client.status == "closed":
            # What Dask raises then is about its inner life.
            raise scheduler_lost()
        return self.expected(self.client.nthreads())

    def remember(self, overheads: Overheads, *, complete: bool = True) -> _Known:
        """Take overheads for those of the cluster from now on.

        Parameters
        ----------
        overheads
            As measured.
        complete
            False where they are only upper bounds.
        """
        known = self._known[overheads.n_workers] = _Known(overheads, self._clock(), complete)
        self._last = None
        return known

    def _workers(self) -> tuple[Mapping[str, int], float]:
        """Return the threads of all workers, and how long it took to ask, in s."""
        begin = time.perf_counter()
        return self.client.nthreads(), time.perf_counter() - begin

    def expected(self, threads: Mapping[Any, int]) -> int:
        """Return how many tasks such workers run at the same time, or will when there is work."""
        adaptive = getattr(self.client.cluster, "_adaptive", None)
        to_come = adaptive.maximum if adaptive is not None else 1
        return max(sum(threads.values()), int(to_come) if math.isfinite(to_come) else 1)

    def _overheads(self, seconds: float, threads: Mapping[str, int], ping: float) -> Overheads:
        n_workers = self.expected(threads)
        if not threads:
            # Nothing can be measured before the first worker comes; no task is quicker than this.
            return Overheads(ping, ping, ping, n_workers, float(n_workers))
        known = self._known.get(n_workers)
        if known is None or self._clock() - known.seen > _VALID_SECONDS:
            trip = _round_trip(self.client)
            bound = Overheads(trip, trip, trip, n_workers, float(n_workers))
            known = self.remember(bound, complete=False)
        if not known.complete and _pays(known.overheads, seconds):
            # Who is computing something would only tell how long that takes.
            idle = {
                name: threads[name]
                for name, keys in self.client.processing().items()
                if name in threads and not keys
            }
            if idle:
                begin = self._clock()
                everybody = len(idle) == len(threads)
                known = self.remember(_measure(self.client, idle, everybody, known.overheads))
                known.taken = begin, known.seen - begin
        self._last = known.overheads, ping
        return known.overheads


_meters: WeakKeyDictionary[Client, ClusterMeter] = WeakKeyDictionary()


def meter_of(client: Client) -> ClusterMeter:
    """Return the meter of a cluster; what it has found counts for all runs of this process."""
    return _meters.setdefault(client, ClusterMeter(client))


def _pays(known: Overheads, seconds: float) -> bool:
    """Whether a full measurement takes little of what all workers could save."""
    saved = seconds * (1 - 1 / known.n_workers)
    return _TRIPS_OF_ALL * known.round_trip < MEASURING_SHARE * saved


def _round_trip(client: Client) -> float:
    """Return the shortest time in s from submitting an empty task to having its result."""
    trips = []
    for _ in range(_TRIPS):
        begin = time.perf_counter()
        client.submit(_nothing, key=_key()).result()
        trips.append(time.perf_counter() - begin)
    return min(trips)


def _measure(
    client: Client, idle: Mapping[str, int], everybody: bool, known: Overheads
) -> Overheads:
    # The first tasks of a connection take longer than all others.
    trip, n_workers = min(known.round_trip, _round_trip(client)), known.n_workers
    per_worker = _per_batch(client, _BATCHES, trip, list(idle)[:1])
    # Long against the turns in which processes get a core.
    seconds = _TRIPS_OF_ALL / 2 * trip
    begin = time.perf_counter()
    futures = [
        client.submit(_share_of_core, seconds, key=_key(), workers=[address])
        for address, n in idle.items()
        for _ in range(n)
    ]
    effective = n_workers * float(sum(client.gather(futures))) / len(futures)
    handing_out = time.perf_counter() - begin - seconds
    if len(futures) < _BATCHES:
        # To choose from a list takes the scheduler longer.
        chosen = None if everybody else list(idle)
        per_batch = _per_batch(client, _BATCHES, trip, chosen)
    else:
        per_batch = _of_each(handing_out, len(futures), trip)
    return Overheads(trip, per_batch, per_worker, n_workers, max(1.0, effective))


def _per_batch(client: Client, n: int, trip: float, workers: Sequence[str] | None) -> float:
    begin = time.perf_counter()
    client.gather(client.map(_nothing, range(n), key=[_key() for _ in range(n)], workers=workers))
    return _of_each(time.perf_counter() - begin, n, trip)


def _of_each(seconds: float, n: int, trip: float) -> float:
    """Return the time of one of ``n`` batches, of which the first took a round trip, in s."""
    # Where many return as quickly as one, they are still not free.
    return max(seconds - trip, trip / n) / n


def _key() -> str:
    # The dashboard cuts off eight hexadecimal digits.
    return f"measure_overhead-{uuid.uuid4().hex[:8]}"


def _nothing(*_: Any) -> None:
    """Stand for an empty batch."""


def _share_of_core(seconds: float) -> float:
    """Compute for ``seconds``, and return the share of a core that was given for it."""
    begin, cpu = time.perf_counter(), time.thread_time()
    while (elapsed := time.perf_counter() - begin) < seconds:
        pass
    return (time.thread_time() - cpu) / elapsed
