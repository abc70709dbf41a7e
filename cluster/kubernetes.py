"""A scheduler and workers as pods of Kubernetes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from distributed.deploy.cluster import Cluster

from oectflow.cluster.settings import DASK_CONFIG, WORKER_ENVIRONMENT, as_environment
from oectflow.errors import ClusterError

_NAME = "oectflow"
#: What the user of the image may do: nothing but compute.  Its number is that of
#: cluster/deploy/Dockerfile.
_POD = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_SCHEDULER_MEMORY = "4Gi"


def start_kubernetes(
    n_workers: int | None = None,
    memory: str | None = None,
    security: Any = None,
    *,
    image: str | None = None,
    name: str = _NAME,
    volumes: Mapping[str, str] | None = None,
    scheduler_memory: str = _SCHEDULER_MEMORY,
    worker_command: Sequence[str] = ("dask", "worker", "--nthreads", "1"),
    resources: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
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
        Must be None or False: the operator's client can only talk to schedulers without TLS.
    image
        Image with the packages of this process; built from ``cluster/deploy/Dockerfile``.
    name
        Of the cluster.
    volumes
        For each volume claim, the path under which all pods see the volume.
    scheduler_memory
        Memory of the scheduler, which also gets one core.
    worker_command
        Command that a worker pod runs.
    resources
        Of one worker, instead of ``memory`` and a core.
    env
        Further environment variables of all pods.
    **options
        Arguments of ``dask_kubernetes.operator.KubeCluster``, e.g. ``namespace``.

    Raises
    ------
    ClusterError
        dask-kubernetes is missing, no image is given, or an option is not accepted.
    """
    if security not in (None, False):
        raise ClusterError(
            "connect('kubernetes'): security= is not available; restrict the scheduler's port "
            "with a network policy, or start a cluster with TLS from cluster/deploy/kubernetes and "
            "connect to its address"
        )
    try:
        operator = importlib.import_module("dask_kubernetes.operator")
    except ImportError as error:
        raise ClusterError(
            "connect('kubernetes') needs the package dask-kubernetes; "
            "pip install 'oectflow[kubernetes]'"
        ) from error
    if image is None and "custom_cluster_spec" not in options:
        raise ClusterError(
            "connect('kubernetes'): say image=, one with the packages that you have here; "
            "cluster/deploy/Dockerfile makes it"
        )
    if image is not None:
        options["custom_cluster_spec"] = cluster_spec(
            name,
            image,
            n_workers,
            worker_command,
            resources or one_core(memory),
            one_core(scheduler_memory),
            volumes or {},
            env or {},
        )
    try:
        return operator.KubeCluster(**options)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise ClusterError(f"connect('kubernetes'): {error}") from error


def one_core(memory: str | None) -> dict[str, Any]:
    """Return the resources of a pod with one core and all of its memory guaranteed."""
    if memory is None:
        return {"requests": {"cpu": "1"}}
    return {"requests": {"cpu": "1", "memory": memory}, "limits": {"memory": memory}}


def cluster_spec(
    name: str,
    image: str,
    n_workers: int | None,
    worker_command: Sequence[str],
    of_worker: Mapping[str, Any],
    of_scheduler: Mapping[str, Any],
    volumes: Mapping[str, str],
    env: Mapping[str, str],
) -> dict[str, Any]:
    """Return a ``DaskCluster`` for the operator.

    Parameters
    ----------
    name, image, n_workers, worker_command, volumes, env
        As of :func:`start_kubernetes`.
    of_worker, of_scheduler
        Requests and limits of a worker pod and of the scheduler pod.
    """
    environment = WORKER_ENVIRONMENT | as_environment(DASK_CONFIG) | dict(env)
    shared = {
        "image": image,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "securityContext": _CONTAINER,
        "volumeMounts": [{"name": claim, "mountPath": path} for claim, path in volumes.items()],
    }
    pod = {
        "securityContext": _POD,
        "volumes": [
            {"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in volumes
        ],
    }
    worker = shared | {
        "name": "worker",
        "args": [
            *worker_command,
            *("--name", "$(DASK_WORKER_NAME)", "--dashboard", "--dashboard-address", "8788"),
        ],
        "resources": dict(of_worker),
        "ports": [_port("http-dashboard", 8788)],
    }
    ports = {"tcp-comm": 8786, "http-dashboard": 8787}
    healthy = {"httpGet": {"port": "http-dashboard", "path": "/health"}}
    scheduler = shared | {
        "name": "scheduler",
        "args": ["dask", "scheduler", "--host", "0.0.0.0"],
        "resources": dict(of_scheduler),
        "ports": [_port(*one) for one in ports.items()],
        "readinessProbe": healthy | {"periodSeconds": 1},
        "livenessProbe": healthy | {"initialDelaySeconds": 30, "periodSeconds": 20},
    }
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [
            {"name": key, "protocol": "TCP", "port": port, "targetPort": key}
            for key, port in ports.items()
        ],
    }
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": name},
        "spec": {
            "worker": {
                "replicas": n_workers if n_workers is not None else 0,
                "spec": pod | {"containers": [worker]},
            },
            "scheduler": {"spec": pod | {"containers": [scheduler]}, "service": service},
        },
    }


def _port(name: str, port: int) -> dict[str, Any]:
    return {"name": name, "containerPort": port, "protocol": "TCP"}
