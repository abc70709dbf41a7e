"""When to measure the overheads of a cluster, and how long to trust the result.

A measurement takes some round trips, so it is made once for each client, and only if there is
enough work to make it worthwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from distributed import Client

from oectflow.pipeline.execution.driving.probe import TRIPS_OF_ALL, ClusterProbe
from oectflow.pipeline.execution.driving.scheduler import scheduler_needed
from oectflow.pipeline.execution.events import LEAST_MARGIN, Overheads
from oectflow.pipeline.execution.planning.decide import Decision

#: What a full measurement may cost of the time that the workers could save.
MEASURING_SHARE = 0.05
#: The workers are not asked for again where that would take more than this share of the work.
_ASKING_SHARE = 0.01
#: After so many seconds, somebody else may be using the machines, or nobody any more.
_VALID_SECONDS = 300.0
#: Under which Dask's client keeps its meter.
_NAME = "oectflow-meter"


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
    """Knows the overheads of a cluster: measures them if this is worthwhile, and remembers them.

    Parameters
    ----------
    probe
        Measures.
    clock
        Tells the time, in s.
    """

    def __init__(self, probe: ClusterProbe, clock: Callable[[], float] = time.perf_counter) -> None:
        self._probe = probe
        self._clock = clock
        # By number of workers: with others, the numbers are others.
        self._known: dict[int, _Known] = {}
        # What was told last, and how long it took to ask for the workers, in s.
        self._last: tuple[Overheads, float] | None = None

    @scheduler_needed(OSError)
    def overheads(self, seconds: float) -> Overheads:
        """Return the overheads of the cluster; measure them if this is worthwhile.

        Parameters
        ----------
        seconds
            Time that one process needs for the work.  A full measurement takes some ten round
            trips.  If these are not short compared with the time that the workers could save, one
            round trip is taken as the upper bound of all overheads, and all workers are assumed to
            be effective.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        """
        return self._overheads(seconds, *self._workers())

    @scheduler_needed(OSError)
    def overheads_if_worth_it(self, seconds: float) -> Overheads | None:
        """Return the same, or None if the cluster could not be quicker even at best.

        For little work, it is not checked again whether the workers are still the same.
        """
        if self._last is not None:
            known, ping = self._last
            if seconds <= known.round_trip:
                return None
            if ping > _ASKING_SHARE * seconds:
                return known
        threads, ping = self._workers()
        saved = seconds * (1 - 1 / self._probe.expected(threads))
        return self._overheads(seconds, threads, ping) if saved > ping else None

    @scheduler_needed(OSError)
    def measured_again(self, seconds: float) -> Overheads | None:
        """Measure a cluster again if its workers seemed to be slow together.

        Another program may have used their cores at that moment.

        Parameters
        ----------
        seconds
            Time that one process needs for the work.

        Returns
        -------
        None if the workers do all that they can, if a measurement does not pay, or if it would take
        more than a small share of the time since the last one.
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
        """Remember what a run has shown about the joint speed of the workers.

        Parameters
        ----------
        decision
            The decision of the run.  If not every worker had a batch, or most of the time was spent
            on handing out batches, the run shows nothing.
        seconds
            Time that the run took.
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
        """Return how many tasks can run at the same time, now or when there is work.

        Raises
        ------
        ClusterError
            The scheduler is gone.
        """
        return self._probe.expected(self._probe.threads())

    def remember(self, overheads: Overheads, *, complete: bool = True) -> _Known:
        """Use these overheads for the cluster from now on.

        Parameters
        ----------
        overheads
            As measured.
        complete
            False if they are only upper bounds.
        """
        known = self._known[overheads.n_workers] = _Known(overheads, self._clock(), complete)
        self._last = None
        return known

    def _workers(self) -> tuple[Mapping[str, int], float]:
        """Return the threads of all workers, and how long it took to ask, in s."""
        begin = self._clock()
        return self._probe.threads(), self._clock() - begin

    def _overheads(self, seconds: float, threads: Mapping[str, int], ping: float) -> Overheads:
        n_workers = self._probe.expected(threads)
        if not threads:
            # Nothing can be measured before the first worker comes; no task is quicker than this.
            return Overheads(ping, ping, ping, n_workers, float(n_workers))
        known = self._known.get(n_workers)
        if known is None or self._clock() - known.seen > _VALID_SECONDS:
            trip = self._probe.round_trip()
            bound = Overheads(trip, trip, trip, n_workers, float(n_workers))
            known = self.remember(bound, complete=False)
        if not known.complete and _pays(known.overheads, seconds):
            begin = self._clock()
            measured = self._probe.measure(threads, known.overheads)
            if measured is not None:
                known = self.remember(measured)
                known.taken = begin, known.seen - begin
        self._last = known.overheads, ping
        return known.overheads


def meter_of(client: Client) -> ClusterMeter:
    """Return the meter of a cluster; its results are used by all runs of its client."""
    meter = client.extensions.get(_NAME)
    if meter is None:
        meter = client.extensions[_NAME] = ClusterMeter(ClusterProbe(client))
    assert isinstance(meter, ClusterMeter)
    return meter


def _pays(known: Overheads, seconds: float) -> bool:
    """Whether a full measurement takes little of what all workers could save."""
    saved = seconds * (1 - 1 / known.n_workers)
    return TRIPS_OF_ALL * known.round_trip < MEASURING_SHARE * saved
