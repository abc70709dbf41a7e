"""What was planned for a run and what became of it, as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from oectflow.errors import ConfigError
from oectflow.pipeline.execution.events import Overheads


@dataclass
class FeaturePlan:
    """What was planned for a feature and what became of it, over the whole run.

    Attributes
    ----------
    feature
        Its name.
    timed
        Whether its cost was known from a measurement.
    n_steps, n_tasks
        Steps to compute, and batches that they were divided into.
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
    """What is to be done, how, and why.

    Attributes
    ----------
    n_todo, n_unchanged
        Experiments to compute, and those of which everything is there.
    unusable
        Why experiments cannot be used, a reason for each.
    features
        What is planned for each feature, and what it took.
    dropped
        What cannot stay of earlier results, a line for each feature.
    damaged
        Results of earlier runs that were cut or changed, and are computed anew: file, place and
        remedy.
    ways
        How the work is done, in this order: ``"inline"`` (one step after the other in this
        process), ``"threads"`` (of this process), ``"cluster"``.
    overheads
        Of the cluster or threads, as measured; None where they were not asked.
    batch_seconds
        Length of a batch; None where the caller has chosen it, or nothing is divided.
    alone_seconds, predicted_seconds, actual_seconds
        Wall time of one process alone, and as planned, None as long as costs are unknown; and of
        the run, None before it.
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
            Nothing is to be computed of the experiment, or the plan is that of a run which is over.
        """
        if self.graph_of is None:
            raise ConfigError(
                f"dask_graph({experiment!r}): this run is over; oectflow.plan(...) has the graphs "
                "of what is still to be done"
            )
        return self.graph_of(experiment)

    def visualize(self, experiment: str, filename: str = "graph.svg", **options: Any) -> Any:
        """Draw the Dask graph of an experiment; the picture is returned, too, for a notebook.

        Parameters
        ----------
        experiment
            Its id.  Choose one of few steps, or a ``granularity`` of many: there is a node for each
            task.
        filename
            Where to write the picture; its ending says which kind.
        **options
            As ``dask.visualize`` takes them, e.g. ``engine="cytoscape"``.

        Raises
        ------
        ConfigError
            As :meth:`dask_graph`; or what draws is not installed.
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
        """Add a way, unless it is the one that was taken last."""
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
