"""Errors and warnings if the scheduler of a cluster is gone, or has no workers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from distributed import Client
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from oectflow.errors import ClusterError

logger = logging.getLogger(__name__)

#: A cluster without workers is looked at again after so many seconds before anything is said:
#: workers that have died are usually back by then.
_INTERVAL = 15.0


def scheduler_lost() -> ClusterError:
    """Return the error of a run whose scheduler no longer answers."""
    return ClusterError(
        "the Dask scheduler is gone; the files that were written are complete: "
        "connect again and repeat the call, it goes on from there"
    )


def workers_of(client: Client) -> Mapping[str, Mapping[str, Any]]:
    """Return what the scheduler knows about all workers, by address.

    Raises
    ------
    ClusterError
        The scheduler is gone.
    """
    known: Mapping[str, Any] = client.scheduler_info(n_workers=-1)
    if "workers" not in known:
        raise scheduler_lost()
    workers: Mapping[str, Mapping[str, Any]] = known["workers"]
    return workers


@contextmanager
def scheduler_needed(*also: type[Exception]) -> Iterator[None]:
    """Turn the errors of Dask whose scheduler does not answer into ClusterError.

    Parameters
    ----------
    also
        Further errors with this meaning, if nothing else can raise them: a connection that cannot
        be made is a plain OSError.

    Raises
    ------
    ClusterError
        The scheduler is gone.
    """
    try:
        yield
    except (FutureCancelledError, CommClosedError, *also) as error:
        raise scheduler_lost() from error


@contextmanager
def workers_watched(client: Client, see: Callable[[int], None]) -> Iterator[None]:
    """Look at the workers of a cluster now and then.

    A warning is logged while there are none, and once more when there are some again.  Tasks wait
    for workers without limit, because a batch system may start them in an hour.

    Parameters
    ----------
    client
        Client of the cluster.
    see
        Called with the number of cores that they have together.
    """
    over = threading.Event()

    def look() -> None:
        n_absent = 0
        while not over.wait(_INTERVAL):
            if client.status != "running":
                continue
            try:
                there = sum(client.nthreads().values())
            except (OSError, RuntimeError):  # the run itself meets this, too
                continue
            see(there)
            if there and n_absent >= 2:
                logger.warning("there are workers again: the run goes on")
            n_absent = 0 if there else n_absent + 1
            if n_absent == 2:
                logger.warning(
                    "no worker is connected to the scheduler at %s: the run waits for one; what "
                    "was written is complete, so it can also be interrupted and repeated later",
                    client.scheduler.address if client.scheduler else "?",
                )

    threading.Thread(target=look, name="oectflow workers watched", daemon=True).start()
    try:
        yield
    finally:
        over.set()
