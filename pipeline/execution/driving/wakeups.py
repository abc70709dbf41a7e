"""Messages to the loop of a run, besides events: finished experiments, and failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Future

from oectflow.pipeline.execution.events import BatchDone
from oectflow.pipeline.execution.report import ExperimentRecord


@dataclass(frozen=True)
class Over:
    """An experiment is written."""

    index: int
    record: ExperimentRecord


@dataclass(frozen=True)
class Failed:
    """A part of an experiment could not be computed or written."""

    index: int
    error: BaseException


@dataclass(frozen=True)
class FutureDone:
    """A future of the cluster is done, with any outcome."""

    index: int
    future: Future


@dataclass(frozen=True)
class Announced:
    """A worker has announced something."""

    message: Mapping[str, Any]


Wakeup = BatchDone | Over | Failed | FutureDone | Announced
