"""Count the instructions of calls: a number that other work on the machine does not change."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console


def with_perf(script: str, calls: Mapping[str, Callable[[], Any]]) -> dict[str, int]:
    """Count with the processor's counters: the instructions of 21 calls less those of one."""
    counted = {}
    for name in calls:
        totals = []
        for times in (1, 21):
            command = ["perf", "stat", "-x,", "-e", "instructions:u", sys.executable, script]
            command += ["--call", name, "--times", str(times)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            line = next(x for x in done.stderr.splitlines() if "instructions" in x)
            if not line.split(",")[0].isdigit():
                raise ValueError(f"no hardware counters here, perf says {line.split(',')[0]}")
            totals.append(int(line.split(",")[0]))
        counted[name] = (totals[1] - totals[0]) // 20
    return counted


def with_callgrind(script: str) -> dict[str, int]:
    """Count in a simulated processor; minutes, and without AVX-512, which Valgrind lacks."""
    simulated = dict(os.environ)
    if platform.machine() == "x86_64":
        simulated |= {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
    command = [sys.executable, script, "--counted-calls"]
    # Compiled by the real processor, which leaves the kernels in Numba's cache.
    subprocess.run(command, env=simulated, capture_output=True, check=True)
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}"]
    done = subprocess.run(
        valgrind + command, env=simulated, capture_output=True, text=True, check=True
    )
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return result


def instructions_so_far() -> int:
    """Return what Callgrind has counted of the main thread; 0 where this is a real processor."""
    command = ["callgrind_control", "-e", str(os.getpid())]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    found = re.search(r"Th 1\s+([\d,]+)", said)
    return int(found[1].replace(",", "")) if found else 0


def print_counted_calls(calls: Mapping[str, Callable[[], Any]]) -> None:
    """Call everything between two questions to Callgrind, and print the differences."""
    counted = {}
    for name, call in calls.items():
        call()
        # To ask is work as well, 600,000 instructions give or take a third: hence five calls.
        marks = [instructions_so_far(), instructions_so_far()]
        for _ in range(5):
            call()
        marks.append(instructions_so_far())
        counted[name] = (marks[2] - 2 * marks[1] + marks[0]) // 5
    print(json.dumps(counted))


def count_instructions(
    script: str, calls: Mapping[str, Callable[[], Any]], console: Console
) -> dict[str, int]:
    """Count the instructions of one call of each, with perf or else with Callgrind.

    ``script --call NAME --times N`` makes N calls, and ``script --counted-calls`` ends in
    :func:`print_counted_calls`.
    """
    for name, count in (
        ("perf", lambda: with_perf(script, calls)),
        ("callgrind", lambda: with_callgrind(script)),
    ):
        try:
            counted = count()
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            console.print(f"instructions: not counted with {name}: {error}")
        else:
            console.print(f"instructions: counted with {name}")
            return counted
    return {}
