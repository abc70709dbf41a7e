"""The phases of a step, if fits of all of them decide where its cycles begin."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oectflow.extractors.base import Columns
from oectflow.extractors.kernels import clock
from oectflow.extractors.tau import TauOnOff, decide_phases
from oectflow.extractors.timing import gate_timing
from oectflow.measurement import Batch


@lru_cache(16)
def whole_phases(cycles: int | None, period: float | None, sample_rate: float | None) -> TauOnOff:
    """Return the extractor that fits the whole phases of up to this many cycles."""
    return TauOnOff(
        {
            "window": "full_phase",
            "max_cycles": cycles,
            "min_swing": 0.0,
            "period": period,
            "sample_rate": sample_rate,
        }
    )


def phases_by_fit(
    step: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[int, NDArray[np.int64]]:
    """Find the phases of a step as :class:`.tau.TauOnOff` does.

    Parameters
    ----------
    step
        A step as for :meth:`.tau.TauOnOff.extract_step`.
    params
        ``period`` in s and ``sample_rate`` in Hz; None takes the values of the step.

    Returns
    -------
    A code of :data:`.timing.CYCLES_FROM`; begin and end of on and off in every cycle, in samples,
    equal if there is no such phase.  Shape (n_cycles, 2, 2).
    """
    tau = whole_phases(None, params["period"], params["sample_rate"])
    found = tau.extract_step(step)
    interval, period = gate_timing(step, 1, params)
    recorded = np.require(step.get("original_time", np.empty(0)), np.float64, ["C", "W"])
    t, dt, _ = clock.step_clock(recorded, interval[0], period[0])
    n_samples = len(step["drain_current"])
    return int(found["cycles_from"]), in_samples(found, t, dt, n_samples)


def in_samples(
    found: Mapping[str, NDArray[Any]], t: NDArray[np.float64], dt: float, n_samples: int
) -> NDArray[np.int64]:
    """Return begin and end of the windows of a step, in samples; equal if there is none.

    Parameters
    ----------
    found
        ``window_start`` and ``window_duration`` in s, of one shape.
    t, dt
        Result of :func:`.clock.step_clock`: times in intervals, or shape (0,); interval in s.
    n_samples
        Number of samples of the step.

    Returns
    -------
    An array of the shape of the windows, with a last axis (begin, end).
    """
    edges = _edges(found, dt)
    return np.searchsorted(t, edges) if t.size else _even_samples(edges, n_samples)


def _edges(found: Mapping[str, NDArray[Any]], dt: Any) -> NDArray[np.float64]:
    begin, span = found["window_start"], found["window_duration"].astype(np.float64)
    # A quarter of an interval on either side, for rounding.
    edges = np.stack([begin / dt - 0.25, (begin + span) / dt - 0.75], axis=-1)
    edges[np.isnan(begin)] = 0.0
    return edges


def _even_samples(edges: NDArray[np.float64], n_samples: Any) -> NDArray[np.int64]:
    # The samples of an even clock are at 0, 1, 2, ...
    return np.clip(np.ceil(edges), 0, n_samples).astype(np.int64)


class StepPhases(NamedTuple):
    """The phases of one step of a batch.

    Attributes
    ----------
    step
        Index in the batch.
    samples
        Its samples among those of the batch.
    t
        Times of the samples in intervals, shape (n_samples,), or shape (0,) if they are even.
    interval
        In s.
    spans
        From :func:`in_samples`.  Shape (n_cycles, 2, 2).
    """

    step: int
    samples: slice
    t: NDArray[np.float64]
    interval: float
    spans: NDArray[np.int64]


class BatchPhases(NamedTuple):
    """The phases of the steps of a batch.

    Attributes
    ----------
    fits
        The result of :func:`whole_phases`, which several features share: it can only be read.
    steps
        Where the phases of each step are, in samples.
    """

    fits: Mapping[str, NDArray[Any]]
    steps: tuple[StepPhases, ...]


def phases_of(batch: Batch, params: Mapping[str, Any]) -> BatchPhases:
    """Find the phases of a batch, once for all features that ask for them.

    Parameters
    ----------
    batch
        Some steps.
    params
        ``max_cycles``; ``period`` in s and ``sample_rate`` in Hz, where None takes the values of
        the steps.
    """
    tau = whole_phases(params["max_cycles"], params["period"], params["sample_rate"])

    def find() -> BatchPhases:
        fits = tau.extract_batch(batch, tau.params)
        for values in fits.values():
            values.flags.writeable = False
        return BatchPhases(fits, tuple(_phases_of_steps(batch, params, fits)))

    return batch.once("phases", (tau, *decide_phases(batch)), find)


def _phases_of_steps(
    batch: Batch, params: Mapping[str, Any], found: Columns
) -> Iterator[StepPhases]:
    interval, period = gate_timing(batch.values, len(batch), params)
    unknown = np.full(int(batch.offsets[-1]), np.nan)
    recorded = np.require(batch.arrays.get("original_time", unknown), np.float64, ["C", "W"])
    clocks = [
        clock.step_clock(recorded[a:b], interval[step], period[step])
        for step, (a, b) in enumerate(itertools.pairwise(batch.offsets))
    ]
    seconds = np.array([dt for _, dt, _ in clocks]).reshape(-1, 1, 1)
    edges = _edges(found, seconds)
    even = _even_samples(edges, np.diff(batch.offsets).reshape(-1, 1, 1, 1))
    for step, (t, dt, _) in enumerate(clocks):
        spans = np.searchsorted(t, edges[step]) if t.size else even[step]
        yield StepPhases(step, slice(*batch.offsets[step : step + 2]), t, dt, spans)
