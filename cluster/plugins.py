"""What every worker needs before its first task."""

from __future__ import annotations

import importlib

from distributed import Worker, WorkerPlugin


def warm_up(module: str) -> None:
    """Import ``module`` and call its ``warm_up()``, which compiles or loads all kernels."""
    importlib.import_module(module).warm_up()


class WarmUp(WorkerPlugin):
    """Compile or load the kernels when a worker starts, not in the middle of its first task.

    Parameters
    ----------
    module
        Name of a module with a function ``warm_up()``.
    """

    name = "oectflow-warm-up"

    def __init__(self, module: str) -> None:
        self.module = module

    def setup(self, worker: Worker) -> None:  # noqa: ARG002 - the signature is Dask's
        """Called by Dask once in every worker, also in one that replaces a dead one."""
        warm_up(self.module)
