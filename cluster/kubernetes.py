"""A scheduler and workers as pods of Kubernetes."""

from __future__ import annotations

import importlib
from typing import Any

from distributed.deploy.cluster import Cluster

from oectflow.cluster.settings import DASK_CONFIG, WORKER_ENVIRONMENT, as_environment
from oectflow.errors import ClusterError


def start_kubernetes(
    n_workers: int | None = None,
    memory: str | None = None,
    security: Any = None,
    **options: Any,
) -> Cluster:
    """Start a scheduler and workers as pods, through the operator of dask-kubernetes.

    Parameters
    ----------
    n_workers
        Number of worker pods; each is one single-threaded process.
    memory
        Memory of one worker, in the notation of Kubernetes, e.g. ``"4Gi"``.
    security
        Must be None or False: inside a Kubernetes cluster, who may reach the scheduler is set by
        network policies.
    **options
        Arguments of ``dask_kubernetes.operator.KubeCluster``, e.g. ``name``, ``image``,
        ``namespace``, ``resources``.

    Raises
    ------
    ClusterError
        dask-kubernetes is missing, or an option is refused.
    """
    if security not in (None, False):
        raise ClusterError(
            "connect('kubernetes'): security= is not available; restrict the scheduler's port "
            "with a network policy"
        )
    try:
        operator = importlib.import_module("dask_kubernetes.operator")
    except ImportError as error:
        raise ClusterError(
            "connect('kubernetes') needs the package dask-kubernetes; "
            "pip install 'oectflow[kubernetes]'"
        ) from error
    environment = WORKER_ENVIRONMENT | as_environment(DASK_CONFIG) | options.pop("env", {})
    if memory is not None:
        options.setdefault(
            "resources", {"requests": {"memory": memory, "cpu": "1"}, "limits": {"memory": memory}}
        )
    options.setdefault("name", "oectflow")
    options.setdefault("worker_command", ["dask-worker", "--nthreads", "1"])
    try:
        return operator.KubeCluster(n_workers=n_workers, env=environment, **options)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise ClusterError(f"connect('kubernetes'): {error}") from error
