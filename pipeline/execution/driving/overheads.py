"""Measure what a cluster, or the threads of this process, need to do some work.

A measurement takes some round trips, so it is made once for each scheduler and process, and only
where there is enough work to gain by it.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import dask
import dask.threaded
from dask.system import CPU_COUNT
from distributed import Client

from oectflow.pipeline.execution.driving.scheduler import gone, scheduler_needed
from oectflow.pipeline.execution.planning.decide import LEAST_MARGIN, Decision, Overheads

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

_measured: dict[str, Overheads] = {}
#: When that was, and how long it took, in s.
_taken: dict[str, tuple[float, float]] = {}
_bounds: dict[str, Overheads] = {}
#: When a cluster was last measured, or a run has shown how much its workers do together, in s.
_seen: dict[str, float] = {}
#: Of every cluster, what was told last, and how long it took to ask for its workers, in s.
_last: WeakKeyDictionary[Client, tuple[Overheads, float]] = WeakKeyDictionary()
_lock = threading.Lock()
_clock = time.monotonic


@scheduler_needed(OSError)
def cluster_overheads(client: Client, seconds: float) -> Overheads:
    """Return what a cluster costs; measured where that is worth it, remembered in this process.

    Parameters
    ----------
    client
        Whose cluster.
    seconds
        What the work takes one process.  A full measurement takes some ten round trips.  Where
        these are not small against what the workers could save, one round trip is taken as the
        upper bound of everything, and all workers are believed to be effective.

    Raises
    ------
    ClusterError
        The scheduler is gone.
    """
    return _overheads(client, seconds, *_workers(client))


@scheduler_needed(OSError)
def overheads_if_worth_it(client: Client, seconds: float) -> Overheads | None:
    """Return the same, or None where a cluster could not be quicker at the very best.

    For little work the cluster is not asked again whether its workers are still those of before.
    """
    if client in _last:
        known, ping = _last[client]
        if seconds <= known.round_trip:
            return None
        if ping > _ASKING_SHARE * seconds:
            return known
    threads, ping = _workers(client)
    saved = seconds * (1 - 1 / _expected(client, threads))
    return _overheads(client, seconds, threads, ping) if saved > ping else None


def _workers(client: Client) -> tuple[Mapping[str, int], float]:
    """Return the threads of all workers, and how long it took to ask, in s."""
    begin = time.perf_counter()
    return client.nthreads(), time.perf_counter() - begin


def _overheads(
    client: Client, seconds: float, threads: Mapping[str, int], ping: float
) -> Overheads:
    n_workers = _expected(client, threads)
    if not threads:
        # Nothing can be measured before the first worker comes; no task is quicker than this.
        return Overheads(ping, ping, ping, n_workers, float(n_workers))
    identity = _identity(client, n_workers)
    with _lock:
        if _clock() - _seen.setdefault(identity, _clock()) > _VALID_SECONDS:
            _forget(identity)
        known = _measured.get(identity) or _bounds.get(identity)
        if known is None:
            trip = _round_trip(client)
            known = Overheads(trip, trip, trip, n_workers, float(n_workers))
            _bounds[identity] = known
            _seen[identity] = _clock()
        if identity not in _measured and _pays(known, seconds):
            # Who is computing something would only tell how long that takes.
            idle = {
                name: threads[name]
                for name, keys in client.processing().items()
                if name in threads and not keys
            }
            if idle:
                begin = time.perf_counter()
                known = _measure(client, idle, len(idle) == len(threads), known)
                _measured[identity] = known
                _taken[identity] = begin, time.perf_counter() - begin
                _seen[identity] = _clock()
        _last[client] = known, ping
        return known


def _forget(identity: str) -> None:
    _measured.pop(identity, None)
    _bounds.pop(identity, None)


def _pays(known: Overheads, seconds: float) -> bool:
    """Whether a full measurement takes little of what all workers could save."""
    saved = seconds * (1 - 1 / known.n_workers)
    return _TRIPS_OF_ALL * known.round_trip < MEASURING_SHARE * saved


@scheduler_needed(OSError)
def measured_again(client: Client, seconds: float) -> Overheads | None:
    """Measure a cluster anew whose workers seemed to do little together.

    Somebody else may have used their cores for just that moment.

    Parameters
    ----------
    client
        Whose cluster.
    seconds
        What the work takes one process.

    Returns
    -------
    None where the workers do all that they can, where it does not pay, or where it would take more
    than a small share of the time since the last measurement.
    """
    if client not in _last:
        return None
    known, _ = _last[client]
    identity = _identity(client, known.n_workers)
    if identity not in _taken or known.effective >= known.n_workers or not _pays(known, seconds):
        return None
    when, took = _taken[identity]
    if took > MEASURING_SHARE * (time.perf_counter() - when):
        return None
    with _lock:
        _forget(identity)
    return cluster_overheads(client, seconds)


@scheduler_needed(OSError)
def correct_effective(client: Client, decision: Decision, seconds: float) -> None:
    """Remember what a run has shown of how much work the workers do together.

    Parameters
    ----------
    client
        Whose cluster.
    decision
        What was decided.  Where not every worker had a batch, or most of the time was for handing
        them out, it shows nothing.
    seconds
        What it took.
    """
    identity = _identity(client, count_workers(client))
    with _lock:
        for known in (_measured, _bounds):
            old = known.get(identity)
            if old is None or decision.n_batches < old.n_workers:
                continue
            ideal = decision.alone / old.effective
            if not decision.divide or ideal < decision.predicted / 2:
                continue
            worked = max(seconds - (decision.predicted - ideal), ideal / old.n_workers)
            seen = min(max(decision.alone / worked, 1.0), float(old.n_workers))
            now = (old.effective + seen) / 2
            spread = max(LEAST_MARGIN, abs(now - old.effective) / old.effective)
            known[identity] = replace(old, effective=now, spread=spread)
            # However long ago it was measured, it has just been seen.
            _seen[identity] = _clock()


def _identity(client: Client, n_workers: int) -> str:
    """Return a name for a cluster and its workers: with others, the numbers are others."""
    return f"{client.id}/{n_workers}"


@scheduler_needed(OSError)
def count_workers(client: Client) -> int:
    """Return how many tasks run on a cluster at the same time, or will when there is work.

    Raises
    ------
    ClusterError
        The scheduler is gone.
    """
    if client.status == "closed":
        # What Dask raises then is about its inner life.
        raise gone()
    return _expected(client, client.nthreads())


def _expected(client: Client, threads: Mapping[str, int]) -> int:
    adaptive = getattr(client.cluster, "_adaptive", None)
    to_come = adaptive.maximum if adaptive is not None else 1
    return max(sum(threads.values()), int(to_come) if math.isfinite(to_come) else 1)


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


def thread_overheads() -> Overheads:
    """Return what the threads of this process cost; ``effective`` is only an upper bound.

    A round trip is taken as the upper bound of everything.  How much threads do together depends on
    how long an extractor holds the interpreter's lock, so it is learnt from what they have done.
    """
    return _thread_overheads(dask.config.get("num_workers", None) or CPU_COUNT)


@cache
def _thread_overheads(n_workers: int) -> Overheads:
    trips = []
    for _ in range(_TRIPS + 1):
        begin = time.perf_counter()
        dask.threaded.get({"nothing": (_nothing,)}, "nothing")
        trips.append(time.perf_counter() - begin)
    trip = min(trips)
    return Overheads(trip, trip, trip, n_workers, float(n_workers))
