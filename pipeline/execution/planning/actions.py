"""What is to be done next in a run, as plain data; whoever drives it knows how."""

from __future__ import annotations

from dataclasses import dataclass

from oectflow.pipeline.execution.planning.batches import StepBatch
from oectflow.pipeline.execution.planning.decide import Decision


@dataclass(frozen=True)
class Submit:
    """Hand batches of an experiment to the cluster.

    Attributes
    ----------
    index
        The experiment.
    batches
        To be computed.
    whole
        Whether these, and those that were handed out before, are all: its results are put together
        and written as soon as they are there.
    isolated
        Of the batches, those that run in a process of their own.
    hash_last
        Whether the raw file is hashed after everything else.
    as_one
        Whether all of it is one task, which also writes the results.
    """

    index: int
    batches: tuple[StepBatch, ...]
    whole: bool = True
    isolated: frozenset[StepBatch] = frozenset()
    hash_last: bool = False
    as_one: bool = False


@dataclass(frozen=True)
class RunHere:
    """Compute batches of an experiment in this process.

    Attributes
    ----------
    index, batches, whole, isolated
        As in :class:`Submit`.
    together
        Whether one follows the other, in one thread.
    """

    index: int
    batches: tuple[StepBatch, ...]
    whole: bool = True
    isolated: frozenset[StepBatch] = frozenset()
    together: bool = True


@dataclass(frozen=True)
class Measure:
    """Find out what the cluster costs, and tell it by ``Measured``.

    Attributes
    ----------
    seconds
        What the work takes one process.
    needed
        Whether an answer is needed, however little the work is.
    again
        Whether to measure anew what has seemed busy.
    """

    seconds: float
    needed: bool = False
    again: bool = False


@dataclass(frozen=True)
class Look:
    """Look at the workers, and tell it by ``WorkersSeen``."""


@dataclass(frozen=True)
class Connect:
    """Start the cluster, and tell it by ``Connected``."""


@dataclass(frozen=True)
class Wake:
    """Tell by ``Waited`` that some seconds are over."""

    seconds: float


@dataclass(frozen=True)
class Correct:
    """Remember what a cluster has shown: what was decided, and what it took, in s."""

    decision: Decision
    seconds: float


@dataclass(frozen=True)
class GiveUp:
    """Record an experiment as failed, with the last error of its tasks."""

    index: int


@dataclass(frozen=True)
class Stop:
    """Everything is done."""


Action = Submit | RunHere | Measure | Look | Connect | Wake | Correct | GiveUp | Stop
