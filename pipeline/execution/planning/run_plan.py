"""The plan of a run and its outcome, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from oectflow.errors import ConfigError
from oectflow.pipeline.execution.events import Overheads


@dataclass
class FeaturePlan:
    """The plan for a feature and its outcome, over the whole run.

    Attributes
    ----------
    feature
        Its name.
    timed
        Whether its cost was known from a measurement.
    n_steps, n_tasks
        Number of steps to compute, and of the batches that they were divided into.
    predicted_seconds, actual_seconds
        Worker time.
    """

    feature: str
    timed: bool = False
    n_steps: int = 0
    n_tasks: int = 0
    predicted_seconds: float = 0.0
    actual_seconds: float = 0.0


@dataclass(repr=False)
class RunPlan:
    """What a run will do, how, and why.

    Attributes
    ----------
    n_todo, n_unchanged
        Number of experiments to compute, and of those that are already complete.
    unusable
        Experiments that cannot be used, each with the reason.
    features
        The plan for each feature, and the time that it took.
    dropped
        Earlier results that cannot be kept, one line for each feature.
    damaged
        Results of earlier runs that were cut or changed and are computed again: file, place and
        remedy.
    ways
        How the work is done, in this order: ``"inline"`` (one step after the other in this
        process), ``"threads"`` (of this process), ``"cluster"``.
    overheads
        Measured overheads of the cluster or threads; None if they were not measured.
    batch_seconds
        Length of a batch; None if the caller has chosen it, or nothing is divided.
    alone_seconds, predicted_seconds, actual_seconds
        Wall time of one process alone, wall time as planned, and wall time of the run.  The first
        two are None as long as costs are unknown, the last is None before the run.
    graph_of
        Builds the graph of an experiment; None once the run is over.
    """

    n_todo: int = 0
    n_unchanged: int = 0
    unusable: Sequence[str] = ()
    features: Sequence[FeaturePlan] = ()
    dropped: Sequence[str] = ()
    damaged: Sequence[str] = ()
    ways: list[str] = field(default_factory=list)
    overheads: Overheads | None = None
    batch_seconds: float | None = None
    alone_seconds: float | None = None
    predicted_seconds: float | None = None
    actual_seconds: float | None = None
    graph_of: Callable[[str], Any] | None = None

    def dask_graph(self, experiment: str) -> Any:
        """Return the Dask graph of an experiment, as a cluster would get it.

        Parameters
        ----------
        experiment
            Its id.

        Returns
        -------
        A ``dask.delayed.Delayed``: ``dict(graph.dask)`` has a task for every key, and
        ``graph.compute()`` would run it and write the results.

        Raises
        ------
        ConfigError
            The experiment has nothing to compute, or the run of this plan is over.
        """
        if self.graph_of is None:
            raise ConfigError(
                f"dask_graph({experiment!r}): this run is over; oectflow.plan(...) has the graphs "
                "of what is still to be done"
            )
        return self.graph_of(experiment)

    def visualize(self, experiment: str, filename: str = "graph.svg", **options: Any) -> Any:
        """Draw the Dask graph of an experiment; also return the picture, for a notebook.

        Parameters
        ----------
        experiment
            Its id.  The graph has a node for each task, so choose an experiment with few steps, or
            a ``granularity`` of many steps.
        filename
            Where to write the picture; the ending of the name decides the format.
        **options
            Options of ``dask.visualize``, e.g. ``engine="cytoscape"``.

        Raises
        ------
        ConfigError
            As for :meth:`dask_graph`; or no drawing software is installed.
        """
        graph = self.dask_graph(experiment)
        try:
            return graph.visualize(filename=filename, **options)
        except (ImportError, RuntimeError) as error:
            raise ConfigError(
                f"visualize({experiment!r}): {error}; pip install graphviz, and install the "
                "program dot (apt install graphviz), or pip install ipycytoscape and give "
                "engine='cytoscape'"
            ) from error

    def take(self, way: str) -> None:
        """Add a way, unless it was also the last one."""
        if self.ways[-1:] != [way]:
            self.ways.append(way)

    def explain(self) -> str:
        """Return the plan as text: what, how and why, and a table with a row per feature."""
        lines = [
            f"{self.n_todo} experiments to compute, {self.n_unchanged} unchanged, "
            f"{len(self.unusable)} cannot be used",
            *(f"cannot be used: {reason}" for reason in self.unusable),
            *self.dropped,
            *(f"damaged: {damage}" for damage in self.damaged),
        ]
        if not self.n_todo:
            return "\n".join(lines)
        batch = f", batches of {_time(self.batch_seconds)}" if self.batch_seconds else ""
        lines.append(f"way: {', then '.join(self.ways) or 'not decided yet'}{batch}")
        if self.overheads is not None:
            o = self.overheads
            start = f"start {_time(o.start)}, " if o.start else ""
            lines.append(
                f"measured: {start}round trip {_time(o.round_trip)}, one more batch "
                f"{_time(o.per_batch)}, {o.n_workers} workers do the work of {o.effective:.2g}"
            )
        lines.append(
            f"time: one process alone {_time(self.alone_seconds)}, "
            f"predicted {_time(self.predicted_seconds)}, "
            f"actual {_time(self.actual_seconds)}"
        )
        lines.append(
            f"{'feature':24} {'steps':>8} {'tasks':>7} {'steps/task':>10} "
            f"{'per step':>10} {'predicted':>10} {'actual':>10}"
        )
        for row in self.features:
            known = row.actual_seconds or (row.predicted_seconds if row.timed else None)
            per_step = known / row.n_steps if known is not None and row.n_steps else None
            predicted = _time(row.predicted_seconds if row.timed else None)
            lines.append(
                f"{row.feature:24} {row.n_steps:8,} {row.n_tasks:7,} "
                f"{row.n_steps / max(1, row.n_tasks):10.1f} {_time(per_step):>10} "
                f"{predicted:>10} "
                f"{_time(row.actual_seconds or None):>10}"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.explain()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.explain())}</pre>"


def _time(seconds: float | None) -> str:
    """Return a time in the unit that suits it, ``-`` for none.

    >>> [_time(t) for t in (None, 0.0, 4.2e-6, 3e-3, 12.345)]
    ['-', '0 s', '4.2 µs', '3 ms', '12.3 s']
    """
    if seconds is None:
        return "-"
    if seconds >= 1 or not seconds:
        return f"{seconds:.3g} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 1e-3 else f"{1e6 * seconds:.3g} µs"
