"""The machine and the packages beside which something was published."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from typing import Any

from llvmlite import binding

import oectflow

#: Of packages with these versions the results are known to be these.
REQUIREMENTS = "requirements.txt"


def environment(computed_with: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return what is known of this machine, and the versions that computed the results."""
    versions: dict[str, set[str]] = {}
    for one in computed_with:
        for name, version in one.items():
            versions.setdefault(name, set()).add(version)
    return {
        "oectflow": oectflow.__version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": platform.system(),
        "machine": platform.machine(),
        # Which instructions there are decides on the last bits of sums.
        "processor": binding.get_host_cpu_name(),
        "results_computed_with": {name: sorted(found) for name, found in versions.items()},
    }


def requirements() -> str:
    """Return the packages that are installed here, as pip takes them."""
    lines: dict[str, str] = {}
    for one in distributions():
        name, version = one.name, one.version
        origin = json.loads(one.read_text("direct_url.json") or "{}")
        line = f"{name}=={version}"
        if "dir_info" in origin:
            # Its path would tell of this machine, and is of no use on another one.
            line = f"# {line} (from a folder)"
        lines.setdefault(name.casefold(), line)
    return "".join(f"{lines[name]}\n" for name in sorted(lines))
