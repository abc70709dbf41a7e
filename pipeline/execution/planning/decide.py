"""Whether work is worth dividing, and into how many batches: from measured numbers alone.

The model is a dispatcher that hands out one batch after the other to workers that share the cores
of their machines.  All numbers are measured
(:mod:`~oectflow.pipeline.execution.driving.overheads`,
:mod:`~oectflow.pipeline.execution.planning.costs`), so that the same rules hold for threads, for
two processes and for a cluster.  Everything here is pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from oectflow.pipeline.execution.events import LEAST_MARGIN, Overheads

#: Tasks of an experiment that is divided, beside its batches: to hash the raw file, to put the
#: table together, to write it.
_CHORES = 3
#: Tasks of an experiment that is divided in two.
_LEAST = 2 + _CHORES
#: A whole experiment may also take as long as the dispatcher needs for so many rounds of all
#: workers.  If its worker is lost, all of it is computed again.
_ROUNDS = 20
#: Standard deviation of the cost of a step, as a share of the mean; only how evenly the last
#: batches end depends on it.
VARIATION = 0.5


@dataclass(frozen=True)
class Decision:
    """What to do with some work.

    Attributes
    ----------
    divide
        Whether others shall do it.
    n_batches, batch_seconds
        Number of batches and their length in s, if it is divided.
    predicted, alone
        Wall time as decided, and of one process alone, in s.
    """

    divide: bool
    n_batches: int
    batch_seconds: float
    predicted: float
    alone: float


def wall_seconds(
    seconds: float,
    n_items: int,
    n_batches: int,
    overheads: Overheads,
    n_experiments: int = 0,
    writing: float = 0.0,
) -> float:
    """Return how long work takes if it is divided into equal batches.

    Parameters
    ----------
    seconds
        What it takes one process alone.
    n_items
        Parts that cannot be divided.
    n_batches
        Number of batches, at most ``n_items``.
    overheads
        Of those who work.
    n_experiments, writing
        How many results are written at the end, each by one worker, and what that takes one
        process, in s.
    """
    at_once = min(n_batches, overheads.n_workers)
    rounds = math.ceil(n_batches / at_once)
    # Where two processes have one core and a half, each of them is slower.
    slower = at_once / min(at_once, max(1.0, overheads.effective))
    batch = seconds / n_batches * slower + overheads.per_worker
    # With a batch for each experiment, or fewer, each is one task.
    chores = _CHORES if n_batches > n_experiments else 0
    n_tasks = max(n_batches, n_experiments) + chores * n_experiments
    dispatched = n_tasks * overheads.per_batch + batch
    worked = (at_once + chores * min(n_experiments, 1)) * overheads.per_batch + rounds * batch
    written = writing / max(1.0, min(n_experiments, overheads.effective))
    # Expected maximum of sums of costs that vary: of the workers, the last one counts.
    items = n_items / n_batches * rounds
    late = math.sqrt(2 * math.log(at_once) * items) * VARIATION * seconds / n_items * slower
    return overheads.start + overheads.round_trip + max(dispatched, worked) + late + written


def decide(
    seconds: float,
    n_items: int,
    overheads: Overheads,
    n_experiments: int = 0,
    writing: float = 0.0,
) -> Decision:
    """Choose between doing work alone and dividing it.

    Parameters
    ----------
    seconds
        What it takes one process alone.
    n_items
        Parts that cannot be divided.
    overheads
        Of those who could work.
    n_experiments, writing
        How many results are written at the end, each by one worker, and what that takes one
        process, in s.

    Returns
    -------
    Divided only if that is faster by more than the uncertainty of the measured speed-up.
    """
    if n_items < 1 or seconds <= 0:
        return Decision(False, max(n_items, 0), 0.0, writing, writing)
    w = overheads.n_workers
    # With a dispatcher that is the bottleneck, the best number is the root, below that of workers.
    root = math.sqrt(seconds / max(overheads.per_batch, seconds / n_items**2))
    wanted = {*range(1, 9), *(k * w for k in (1, 2, 3, 4, 6, 8, 16)), math.ceil(root)}
    least = math.ceil(seconds / overheads.enough) if overheads.enough else n_items
    # Batches that go round evenly: otherwise shorter ones seem better only because they do.
    least = w * math.ceil(least / w) if least > w else least
    numbers = {min(n_items, max(n, least)) for n in wanted}
    longest = max(_LEAST * overheads.enough, _ROUNDS * w * overheads.per_batch)
    if w <= n_experiments <= n_items and seconds <= n_experiments * longest:
        # To divide an experiment makes so many tasks of it that these are shorter than is enough,
        # or more than the dispatcher can hand out.
        numbers.add(n_experiments)
    predicted, n_batches = min(
        (wall_seconds(seconds, n_items, n, overheads, n_experiments, writing), n)
        for n in sorted(numbers)
    )
    alone = seconds + writing
    divide = predicted * (1 + max(overheads.spread, LEAST_MARGIN)) < alone
    return Decision(divide, n_batches, seconds / n_batches, predicted if divide else alone, alone)
