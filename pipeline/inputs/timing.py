"""Sampling interval, gate period and duty cycle of transient steps, and where they come from.

Where the gate voltage was recorded, its edges tell period and duty cycle.  Else each is looked up,
in this order, in the step's own parameters, in the workflow that the instrument ran, and in the
measured trace; where none tells, it is NaN, never a default.

The declared sampling interval is the parameter ``timeStep`` (ms), from which ``continuous_time`` is
built.  Whether the recorded ``original_time`` agrees with it is for extractors to see
(:mod:`oectflow.extractors.kernels.clock`).  The gate period is ``topTime + bottomTime`` (ms), the
duty cycle ``topTime / (topTime + bottomTime)``: the share of the period in which the gate is high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oectflow.pipeline.inputs.gate_signal import square_wave
from oectflow.pipeline.inputs.periodicity import find_period
from oectflow.pipeline.inputs.step_table import VALUE_PREFIX, number, parameter_column

#: The numbers of a step that are found here.
TIMING = ("sampling_interval", "gate_period", "duty_cycle")

_PARAMETERS = ("timeStep", "topTime", "bottomTime")


@dataclass(frozen=True)
class Timing:
    """What is known of the timing of some transient steps.

    Attributes
    ----------
    sampling_interval, gate_period
        In s, NaN where unknown.  Shape (n_steps,).
    duty_cycle
        Share of the gate period in which the gate is high, NaN where unknown.  Shape (n_steps,).
    source
        Where the gate period is from, per step: ``"gate"``, ``"step"``, ``"workflow"``,
        ``"trace"`` or ``"unknown"``.
    """

    sampling_interval: NDArray[np.float64]
    gate_period: NDArray[np.float64]
    duty_cycle: NDArray[np.float64]
    source: tuple[str, ...]


def declared_timing(table: NDArray[Any], workflow: Callable[[], Any]) -> Timing:
    """Return the timing that the step table declares, or else the workflow.

    Parameters
    ----------
    table
        Rows of ``/transient/step_info_table``.
    workflow
        Called for the parsed ``/raw/workflow`` where the table does not tell all.  A step takes
        the parameters of the command that it ran, found by ``workflow_step_index``; where that is
        not certain, what all transient commands of the workflow have in common.

    Returns
    -------
    NaN and ``"unknown"`` where neither tells.  A parameter that is zero, negative or no number
    counts as missing; ``topTime`` and ``bottomTime`` count only together.
    """
    interval, top, bottom = _given(
        np.array([parameter_column(table, name) for name in _PARAMETERS])
    )
    source = np.where(np.isnan(top), "unknown", "step").astype(object)
    if np.isnan(interval).any() or np.isnan(top).any():
        commands = np.array([_timing_of(c) for c in _commands(table, workflow())]).T
        planned_interval, planned_top, planned_bottom = _given(commands)
        interval = np.where(np.isnan(interval), planned_interval, interval)
        planned = np.isnan(top) & ~np.isnan(planned_top)
        top, bottom = (
            np.where(planned, planned_top, top),
            np.where(planned, planned_bottom, bottom),
        )
        source[planned] = "workflow"
    timing = [interval / 1000, (top + bottom) / 1000, top / (top + bottom)]
    # What a reader worked out stands in columns of its own, in SI units.
    for i, name in enumerate(TIMING):
        if VALUE_PREFIX + name in (table.dtype.names or ()):
            own = table[VALUE_PREFIX + name]
            timing[i] = np.where(own > 0, own, timing[i])
            if name == "gate_period":
                source[own > 0] = "step"
    return Timing(timing[0], timing[1], timing[2], tuple(source))


def complete_from_trace(
    timing: Timing,
    original_time: NDArray[np.float64],
    drain_current: NDArray[np.float64],
    offsets: NDArray[np.int64],
    gate_voltage: NDArray[np.float64] | None = None,
) -> Timing:
    """Take from the recorded gate what it tells, and from the traces what was not declared.

    Parameters
    ----------
    timing
        What was declared.
    original_time, drain_current
        Samples of all steps, one after the other, in s and A.  Shape (n_samples,).
    offsets
        Step ``i`` is ``offsets[i]:offsets[i + 1]``.  Shape (n_steps + 1,).
    gate_voltage
        The same of the gate in V, NaN where it was not recorded; None for nowhere.

    Returns
    -------
    The same with the period and the duty cycle of the recorded gate where it is a square wave,
    whatever was declared; elsewhere, where these were NaN, with the interval of
    :func:`measured_interval` and the period of
    :func:`~oectflow.pipeline.inputs.periodicity.find_period`, in times as recorded.  The duty cycle
    remains NaN there: a current does not tell in which of its two phases the gate is high.
    """
    interval, period = timing.sampling_interval.copy(), timing.gate_period.copy()
    duty_cycle = timing.duty_cycle.copy()
    source = list(timing.source)
    for i in range(len(interval)):
        trace = slice(offsets[i], offsets[i + 1])
        if np.isnan(interval[i]):
            interval[i] = measured_interval(original_time[trace])
        if gate_voltage is not None:
            time = original_time[trace]
            if np.isnan(recorded_interval(time)):
                time = np.arange(time.size) * interval[i]
            gate = square_wave(gate_voltage[trace], time)
            if gate and np.isfinite(gate[0]):
                (period[i], duty_cycle[i]), source[i] = gate, "gate"
                continue
        # A period in samples is of no use without the interval between them.
        if np.isnan(period[i]) and not np.isnan(interval[i]):
            recorded = recorded_interval(original_time[trace])
            spacing = interval[i] if np.isnan(recorded) else recorded
            period[i] = find_period(drain_current[trace]) * spacing
            source[i] = "unknown" if np.isnan(period[i]) else "trace"
    return Timing(interval, period, duty_cycle, tuple(source))


def recorded_interval(time: NDArray[np.float64]) -> float:
    """Return the mean spacing of recorded times in s; NaN where they do not all increase."""
    if time.size < 2 or not (np.diff(time) > 0).all():
        return float("nan")
    return float(time[-1] - time[0]) / (time.size - 1)


def measured_interval(time: NDArray[np.float64]) -> float:
    """Return the spacing of uniformly spaced times.

    Parameters
    ----------
    time
        Measured times in s.  Shape (n_samples,).

    Returns
    -------
    The mean spacing in s; it averages out the rounding of the clock.  NaN where a spacing is
    nearer to none or to two of the usual ones than to one, as after a lost or doubled sample, or
    where a time is NaN.
    """
    steps = np.diff(time)
    if not steps.size:
        return float("nan")
    usual = float(np.median(steps))
    if not (usual > 0 and bool(np.all(np.abs(steps - usual) < usual / 2))):
        return float("nan")
    return float(time[-1] - time[0]) / steps.size


def _given(ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the parameters that can be, else NaN; rows as in ``_PARAMETERS``.  Shape (3, n)."""
    given = np.where(np.isfinite(ms) & (ms > 0), ms, np.nan)
    given[1:, np.isnan(given[1:]).any(axis=0)] = np.nan
    return given


def _timing_of(command: Mapping[str, Any]) -> tuple[float, ...]:
    params = command.get("params")
    if not isinstance(params, Mapping):
        params = {}
    return tuple(number(params.get(name)) for name in _PARAMETERS)


def _commands(table: NDArray[Any], workflow: Any) -> list[Mapping[str, Any]]:
    """Return the transient command that each step ran, ``{}`` where that is not certain."""
    nodes = _nodes(workflow)
    every = list(_transient_commands(nodes))
    same = {tuple(_given(np.array([_timing_of(c)]).T)[:, 0].tolist()) for c in every}
    # NaN differs from itself; text does not.
    common = every[0] if len({repr(timing) for timing in same}) == 1 else {}
    names = table.dtype.names or ()
    if not {"workflow_step_index", "workflow_total_steps"} <= set(names):
        return [common] * len(table)
    total = sum(map(_n_executions, nodes))
    found = []
    for index, of in zip(
        table["workflow_step_index"].tolist(), table["workflow_total_steps"].tolist(), strict=True
    ):
        command = _command_at(nodes, int(index) - 1) if of == total and index >= 1 else {}
        found.append(command if command.get("type") == "transient" else common)
    return found


def _nodes(tree: Any) -> list[Mapping[str, Any]]:
    """Return the nodes of one level of a workflow: a list of them, or a single one."""
    level = tree if isinstance(tree, list) else [tree]
    return [node for node in level if isinstance(node, Mapping)]


def _transient_commands(nodes: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for node in nodes:
        if node.get("type") == "transient":
            yield node
        yield from _transient_commands(_nodes(node.get("steps")))


def _n_executions(node: Mapping[str, Any]) -> int:
    """Return how many commands a node executes: one, or those of a loop in all its iterations."""
    if node.get("type") != "loop":
        return 1
    iterations = number(node.get("iterations"))
    if not iterations >= 1 or np.isinf(iterations):
        return 0
    return int(iterations) * sum(map(_n_executions, _nodes(node.get("steps"))))


def _command_at(nodes: list[Mapping[str, Any]], index: int) -> Mapping[str, Any]:
    """Return the command that is executed as number ``index``, from 0; ``{}`` beyond the end."""
    for node in nodes:
        n = _n_executions(node)
        if index < n:
            if node.get("type") != "loop":
                return node
            inner = _nodes(node.get("steps"))
            return _command_at(inner, index % sum(map(_n_executions, inner)))
        index -= n
    return {}
