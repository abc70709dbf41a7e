"""Make a process ready for tasks: kernels loaded, and everything imported that tasks need.

Otherwise the first task of every worker would take a fraction of a second longer, and what was
learnt from it would be wrong.
"""

from __future__ import annotations

from oectflow.extractors import warm
from oectflow.pipeline.execution.worker import tasks


def warm_up() -> None:
    """Compile or load every kernel, and look up what is written into every result."""
    warm.warm_up()
    tasks.software_versions()
