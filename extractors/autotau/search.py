"""Find the best window of each process; the same tasks whether or not there is an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from oectflow.errors import ParameterError
from oectflow.extractors.autotau.fits import OFF, ON, fit_windows, search_starts
from oectflow.extractors.autotau.trace import Trace
from oectflow.extractors.kernels import resampled, windows

#: Adjusted R2 needs more samples than parameters plus one.
MIN_LENGTH = 5


class Window(NamedTuple):
    """A window: first sample, number of samples, adjusted R2 of its fit."""

    start: int
    length: int
    r_squared_adj: float


def window_lengths(
    period: float, sample_step: float, share_min: float, share_max: float, step: int
) -> list[int]:
    """Return the window lengths to try, in samples.

    Raises
    ------
    ParameterError
        A parameter that leaves no window.
    """
    for name, value in (("period", period), ("sample_step", sample_step)):
        if not (np.isfinite(value) and value > 0.0):
            raise ParameterError(f"{name}={value!r}: expected a positive time in s")
    if not 0.0 < share_min <= share_max:
        raise ParameterError(
            f"window_scalar_min={share_min!r}, window_scalar_max={share_max!r}: "
            "expected shares of the period, 0 < min <= max"
        )
    if step < 1:
        raise ParameterError(f"window_points_step={step!r}: expected at least 1 sample")
    # 0.2 * 0.2 / 0.001 must give 40 although none of them is a binary fraction.
    shortest = max(MIN_LENGTH, int(share_min * period / sample_step + 1e-9))
    longest = max(shortest, int(share_max * period / sample_step + 1e-9))
    return list(range(shortest, longest + 1, step))


def best_of_length(trace: Trace, n: int, start_step: int, points: int) -> dict[str, Window | None]:
    """Return the best rise and the best decay among all windows of ``n`` samples.

    Parameters
    ----------
    trace
        The signal.
    n, start_step
        Length of the windows and distance of their starts, in samples.
    points
        Points to which a window is resampled before the fit; 0 fits the raw samples.

    Returns
    -------
    For ``"on"`` and ``"off"``: the first window with the largest adjusted R2 on the raw samples,
    None where no window holds the process.
    """
    best: dict[str, Window | None] = {ON: None, OFF: None}
    if points and not trace.clock.size:
        return best_resampled(trace, [n], start_step, points)
    for phase, starts in search_starts(trace, n, start_step, points).items():
        fits = fit_windows(trace, starts, n, phase, points)
        value = np.where(fits.status == "ok", fits.r_squared_adj, -np.inf)
        if starts.size and value.max() > 0.0:
            i = int(np.argmax(value))
            best[phase] = Window(int(starts[i]), n, float(value[i]))
    return best


def best_resampled(
    trace: Trace, lengths: Sequence[int], start_step: int, points: int
) -> dict[str, Window | None]:
    """Return the best windows of evenly spaced samples with resampling; see best_of_length."""
    at = np.array(lengths, np.int64)
    found = resampled.search_resampled(trace.signal, at, start_step, points)
    return {
        phase: Window(int(start), int(n), float(value)) if value > 0.0 else None
        for phase, (start, n, value) in zip((OFF, ON), found, strict=True)
    }


def _best_raw(
    trace: Trace, lengths: Sequence[int], start_step: int, points: int
) -> dict[str, Window | None]:
    """Return the best windows of evenly spaced samples without resampling."""
    at = np.array(lengths, np.int64)
    tables = windows.search_tables(at)
    found = windows.search_windows(trace.signal, 0, len(trace), start_step, at, tables, 0.0)
    best: dict[str, Window | None] = {ON: None, OFF: None}
    for phase, (start, n, _) in zip((OFF, ON), found, strict=True):
        if start >= 0:
            fits = fit_windows(trace, np.array([start]), int(n), phase, points)
            if fits.status[0] == "ok" and fits.r_squared_adj[0] > 0.0:
                best[phase] = Window(int(start), int(n), float(fits.r_squared_adj[0]))
    return best


def best_windows(
    trace: Trace, lengths: Sequence[int], start_step: int, points: int, executor: Any = None
) -> dict[str, Window | None]:
    """Return the best rise and the best decay among windows of many lengths.

    Ties go to the shorter window, then to the earlier one.

    Parameters
    ----------
    trace, start_step, points
        As in :func:`best_of_length`.
    lengths
        Increasing, in samples; those longer than the trace are left out.
    executor
        None, or anything with ``submit``: one task per length.
    """
    if start_step < 1:
        raise ParameterError(f"window_start_idx_step={start_step!r}: expected at least 1 sample")
    inside = [n for n in lengths if n <= len(trace)]
    if executor is None and inside and not trace.clock.size:
        # What one length has found spares the others most of their work.
        together = best_resampled if points else _best_raw
        return together(trace, inside, start_step, points)
    tasks = [(trace, n, start_step, points) for n in inside]
    best: dict[str, Window | None] = {ON: None, OFF: None}
    for found in run_tasks(executor, best_of_length, tasks):
        for phase, window in found.items():
            leader = best[phase]
            if window and (leader is None or window.r_squared_adj > leader.r_squared_adj):
                best[phase] = window
    return best


def run_tasks(
    executor: Any, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]
) -> list[Any]:
    """Call a function for every tuple of arguments, here or on an executor; results in order.

    Raises
    ------
    ParameterError
        The executor has no ``submit``.
    """
    if executor is None:
        return [function(*arguments) for arguments in tasks]
    if not callable(getattr(executor, "submit", None)):
        raise ParameterError(
            f"executor={executor!r} has no submit(); expected None, a pool of "
            "concurrent.futures, or client.get_executor() of a Dask client"
        )
    futures = [executor.submit(function, *arguments) for arguments in tasks]
    return [future.result() for future in futures]


@contextmanager
def threads(max_workers: int | None) -> Iterator[ThreadPoolExecutor | None]:
    """Yield a pool of ``max_workers`` threads; None where one is enough or none is asked for.

    Threads and not processes: the kernels release the interpreter's lock, and nothing is copied.
    """
    if max_workers is None or max_workers <= 1:
        yield None
        return
    with ThreadPoolExecutor(max_workers) as pool:
        yield pool
