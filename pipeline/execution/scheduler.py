"""What to say when the scheduler of a cluster does not answer any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError

from oectflow.pipeline.errors import ClusterError


def gone() -> ClusterError:
    """Return the error of a run whose scheduler does not answer any more."""
    return ClusterError(
        "the Dask scheduler is gone; the files that were written are complete: "
        "connect again and repeat the call, it goes on from there"
    )


@contextmanager
def scheduler_needed(*also: type[Exception]) -> Iterator[None]:
    """Let what Dask raises where its scheduler does not answer end as ClusterError.

    Parameters
    ----------
    also
        Further errors that mean this, where nothing else can raise them: a connection that cannot
        be made is a plain OSError.

    Raises
    ------
    ClusterError
        The scheduler is gone.
    """
    try:
        yield
    except (FutureCancelledError, CommClosedError, *also) as error:
        raise gone() from error
