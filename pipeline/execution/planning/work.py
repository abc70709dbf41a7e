"""What is to be done: experiments, and the features that are missing of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from oectflow.pipeline.inputs.experiment import FileIdentity
from oectflow.pipeline.inputs.step_digests import Trails
from oectflow.pipeline.inputs.step_layout import Layout

StepTimeoutOption = float | Literal["auto"] | None


@dataclass(frozen=True)
class ExperimentTask:
    """What the tasks of one experiment have to know about it.

    Attributes
    ----------
    path, identity
        The raw file, and its size and modification time when the run was planned.
    out_path
        The Parquet file to write.
    experiment_id, chip_id, device_id, n_steps
        From the raw file; the number of steps by source.
    reused
        Features whose columns are taken over from the present ``out_path``.
    expand_multidim
        Write ``name_0``, ``name_1``, … instead of lists.
    topic
        Where progress is announced.
    index
        Position of the experiment in the run.
    sample
        What is known of the device, by the raw file and the table of samples.
    known
        The same with what was chosen by hand: what extractors may get to know.
    warnings
        What the results should say beside the numbers.
    dropped
        Features of the present ``out_path`` that are neither taken over nor computed, and why.
    step_timeout
        As in :func:`oectflow.extract`.
    first
        By feature, how many of its first steps are taken over from the present ``out_path``, since
        the raw file has only grown behind them.
    trails
        What proves that; see :mod:`oectflow.pipeline.inputs.step_digests`.
    """

    path: str
    identity: FileIdentity
    out_path: str
    experiment_id: str
    chip_id: str
    device_id: str
    n_steps: Mapping[str, int]
    reused: tuple[str, ...]
    expand_multidim: bool
    topic: str
    index: int = 0
    sample: Mapping[str, Any] = field(default_factory=dict)
    known: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    step_timeout: StepTimeoutOption = None
    first: Mapping[str, int] = field(default_factory=dict)
    trails: Trails = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Rows of its results: the largest of the numbers of steps."""
        return max(self.n_steps.values(), default=0)


@dataclass(frozen=True)
class Job:
    """One experiment of which something is to be computed.

    Attributes
    ----------
    index
        Its position among the experiments of the run.
    task
        What its tasks have to know.
    layouts
        Its steps by source.
    missing
        Extracted features to compute.
    damage
        What is wrong with its result of an earlier run, which is replaced.
    first
        By feature, the first step to compute, where it is not 0.
    why
        By feature, why it is computed.
    """

    index: int
    task: ExperimentTask
    layouts: Mapping[str, Layout]
    missing: tuple[str, ...]
    damage: str = ""
    first: Mapping[str, int] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)

    def samples(self, source: str) -> float:
        """Return the samples of a typical step."""
        layout = self.layouts[source]
        return layout.samples() / max(layout.n_steps, 1)

    @property
    def n_sample_bytes(self) -> float:
        """Bytes of all its samples in memory."""
        return float(sum(x.nbytes_per_sample * x.samples() for x in self.layouts.values()))


@dataclass(frozen=True)
class Trait:
    """What a plan has to know of an extracted feature.

    Attributes
    ----------
    source
        The measurements that it needs.
    block
        Its batches begin at multiples of so many steps.
    trusted
        Whether it may run in the process of the notebook: it comes with the package, or has
        computed something before without ending its process.
    crashed
        Whether it has ever ended the process that computed it.
    """

    source: str
    block: int = 1
    trusted: bool = True
    crashed: bool = False


def n_logical(job: Job, traits: Mapping[str, Trait]) -> int:
    """Return the number of logical tasks (feature, step) of an experiment."""
    return sum(
        job.layouts[traits[name].source].n_steps - job.first.get(name, 0)
        for name in job.missing
        if traits[name].source in job.layouts
    )
