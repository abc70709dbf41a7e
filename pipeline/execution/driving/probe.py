"""Measure the overheads of a cluster with empty batches."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from distributed import Client

from oectflow.pipeline.execution.driving.scheduler import scheduler_lost
from oectflow.pipeline.execution.events import Overheads

#: Empty batches in one measurement of what another batch costs; with more workers, one for each.
_BATCHES = 16
#: Round trips that are timed.  The shortest counts: whatever disturbs them makes them longer.
_TRIPS = 2
#: About how many round trips a full measurement takes.
TRIPS_OF_ALL = 12


class ClusterProbe:
    """Measures the cost of batches on a cluster with empty ones.

    Parameters
    ----------
    client
        Client of the cluster.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def threads(self) -> Mapping[str, int]:
        """Return the threads of all workers.

        Raises
        ------
        ClusterError
            The client is closed.
        """
        if self._client.status == "closed":
            # What Dask raises then is about its inner life.
            raise scheduler_lost()
        threads: Mapping[str, int] = self._client.nthreads()
        return threads

    def expected(self, threads: Mapping[Any, int]) -> int:
        """Return how many tasks such workers can run at once, now or when there is work."""
        adaptive = getattr(self._client.cluster, "_adaptive", None)
        to_come = adaptive.maximum if adaptive is not None else 1
        return max(sum(threads.values()), int(to_come) if math.isfinite(to_come) else 1)

    def round_trip(self) -> float:
        """Return the shortest time in s from submitting an empty task to having its result."""
        trips = []
        for _ in range(_TRIPS):
            begin = time.perf_counter()
            self._client.submit(_nothing, key=_key()).result()
            trips.append(time.perf_counter() - begin)
        return min(trips)

    def measure(self, threads: Mapping[str, int], known: Overheads) -> Overheads | None:
        """Measure everything.

        Parameters
        ----------
        threads
            Of all workers.
        known
            Known values: a round trip, and the number of workers.

        Returns
        -------
        None if every worker is busy: a measurement would only show how long its work takes.
        """
        processing = self._client.processing()
        idle = {name: threads[name] for name in threads if not processing.get(name, True)}
        everybody = len(idle) == len(threads)
        if not idle:
            return None
        # The first tasks of a connection take longer than all others.
        trip = min(known.round_trip, self.round_trip())
        return _measure(self._client, idle, everybody, trip, known.n_workers)


def _measure(
    client: Client, idle: Mapping[str, int], everybody: bool, trip: float, n_workers: int
) -> Overheads:
    per_worker = _per_batch(client, _BATCHES, trip, list(idle)[:1])
    # Long against the turns in which processes get a core.
    seconds = TRIPS_OF_ALL / 2 * trip
    begin = time.perf_counter()
    futures = [
        client.submit(_share_of_core, seconds, key=_key(), **_on([address]))
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
    client.gather(client.map(_nothing, range(n), key=[_key() for _ in range(n)], **_on(workers)))
    return _of_each(time.perf_counter() - begin, n, trip)


def _of_each(seconds: float, n: int, trip: float) -> float:
    """Return the time of one of ``n`` batches, of which the first took a round trip, in s."""
    # Where many return as quickly as one, they are still not free.
    return max(seconds - trip, trip / n) / n


def _on(workers: Sequence[str] | None) -> dict[str, Any]:
    """Return Dask's options for tasks of some workers, or of any.

    A task of a worker that leaves meanwhile would wait for it without an end, and the run with it.
    """
    return {} if workers is None else {"workers": list(workers), "allow_other_workers": True}


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
