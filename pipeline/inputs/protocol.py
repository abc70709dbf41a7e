"""What an instrument was told to do, in the words of its ``test_info.json`` and ``workflow.json``.

Its units are ms and mV, and whole numbers are written as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Parameters = Mapping[str, Mapping[str, Any]]


def transfer_parameters(sign: int, Vg: NDArray[np.float64], interval_s: float) -> dict[str, Any]:
    """Return the settings of a sweep there and back over the gate voltages ``Vg`` (V)."""
    turn = (len(Vg) - 1) // 2
    return {
        "isSweep": 1,
        "timeStep": _plain(1000 * interval_s),
        "sourceVoltage": 0,
        "drainVoltage": 100 * sign,
        "gateVoltageStart": _plain(1000 * Vg[0]),
        "gateVoltageEnd": _plain(1000 * Vg[turn]),
        "gateVoltageStep": _plain(1000 * abs(Vg[turn] - Vg[0]) / turn),
    }


def transient_parameters(
    sign: int, sample_rate: float, period: float, duty_cycle: float, n_cycles: int
) -> dict[str, Any]:
    """Return the settings of a gate square wave: ``period`` in s, ``sample_rate`` in Hz."""
    return {
        "timeStep": _plain(1000 / sample_rate),
        "sourceVoltage": 0,
        "drainVoltage": 100 * sign,
        "bottomTime": _plain(1000 * period * (1 - duty_cycle)),
        "topTime": _plain(1000 * period * duty_cycle),
        "gateVoltageBottom": 0,
        "gateVoltageTop": 600 * sign,
        "cycles": n_cycles,
    }


def _plain(value: float) -> float:
    tidy = round(float(value), 9)
    return int(tidy) if tidy == int(tidy) else tidy


def step_entries(
    counts: Mapping[str, int], parameters: Parameters, begin: datetime
) -> list[dict[str, Any]]:
    """Return one ``steps`` entry per measurement, a minute each, kinds in turn.

    Parameters
    ----------
    counts
        Number of steps of each kind.
    parameters
        Settings of each kind.
    begin
        When the first step started.
    """
    entries: list[dict[str, Any]] = []
    for times, kinds in _loops(counts):
        for turn in range(1, times + 1):
            for kind in kinds:
                number = len(entries) + 1
                start = begin + timedelta(minutes=len(entries))
                loop = {"type": "loop", "parent": None, "total": times, "current": turn}
                entry = {
                    "type": kind,
                    "start_time": start.isoformat(),
                    "end_time": (start + timedelta(minutes=1)).isoformat(),
                    "reason": "completed",
                    "data_file": f"{number}_{kind}.csv",
                    "parameters": dict(parameters[kind]),
                    "workflow_info": {
                        "step_index": number,
                        "total_steps": sum(counts.values()),
                        "path_readable": f"loop {turn}/{times} > {kind}",
                        "iteration_info": loop,
                    },
                }
                entries.append(entry)
    return entries


def workflow(counts: Mapping[str, int], parameters: Parameters) -> list[dict[str, Any]]:
    """Return the loops that lead to :func:`step_entries`."""
    return [
        {
            "id": f"loop-{number}",
            "type": "loop",
            "iterations": times,
            "steps": [
                {"id": kind, "type": kind, "command_id": i, "params": dict(parameters[kind])}
                for i, kind in enumerate(kinds, 1)
            ],
        }
        for number, (times, kinds) in enumerate(_loops(counts), 1)
    ]


def _loops(counts: Mapping[str, int]) -> list[tuple[int, list[str]]]:
    """Return how often to repeat which kinds: all in turn, then what is left of the others."""
    both = min(counts.values())
    loops = [(both, list(counts)), *((count - both, [kind]) for kind, count in counts.items())]
    return [(times, kinds) for times, kinds in loops if times]
