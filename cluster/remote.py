"""Clusters on other machines, by SSH or on Kubernetes."""

from __future__ import annotations

import importlib
import secrets
from collections.abc import Sequence
from typing import Any

import dask
from distributed import SSHCluster
from distributed.deploy.cluster import Cluster

from oectflow.cluster.local import LOOPBACK
from oectflow.cluster.security import given_certificates
from oectflow.cluster.settings import DASK_CONFIG, WORKER_ENVIRONMENT, as_environment
from oectflow.errors import ClusterError


def start_ssh(
    hosts: Sequence[str] = (),
    n_workers: int | None = None,
    memory: str | None = None,
    dashboard_port: int = 8787,
    dashboard_host: str = LOOPBACK,
    security: Any = None,
    **options: Any,
) -> Cluster:
    """Start a scheduler and workers on machines that are reached by SSH.

    Parameters
    ----------
    hosts
        The first runs the scheduler, all others run workers; a machine may be named twice.
    n_workers
        Number of single-threaded worker processes on each of them.
    memory
        Memory of one worker, e.g. ``"4 GiB"``.
    dashboard_port, dashboard_host
        Where the dashboard listens on the first machine.
    security
        Certificates that exist under the same paths on all machines; by default none, so that
        everybody who reaches the first machine can run code under your name.
    **options
        Arguments of ``distributed.SSHCluster``, e.g. ``connect_options``, ``remote_python``.

    Raises
    ------
    ClusterError
        An option is missing or refused, or a machine cannot be reached.
    """
    if len(hosts) < 2 or isinstance(hosts, str):
        raise ClusterError(
            f"connect('ssh', hosts={hosts!r}): expected the scheduler's machine, then the workers'"
        )
    if n_workers is None:
        raise ClusterError("connect('ssh'): say how many workers each machine has, n_workers=48")
    certificates = given_certificates(security)
    worker_options = {"nthreads": 1, "n_workers": n_workers, "env": WORKER_ENVIRONMENT}
    if memory is not None:
        worker_options["memory_limit"] = memory
    scheduler_options: dict[str, Any] = {
        "dashboard": True,
        "dashboard_address": f"{dashboard_host}:{dashboard_port}",
    }
    if certificates is not None:
        files = {
            "require_encryption": True,
            "tls_ca_file": certificates.tls_ca_file,
            "tls_scheduler_cert": certificates.tls_scheduler_cert,
            "tls_scheduler_key": certificates.tls_scheduler_key,
            "tls_worker_cert": certificates.tls_worker_cert,
            "tls_worker_key": certificates.tls_worker_key,
        }
        worker_options |= {"security": files, "protocol": "tls://"}
        scheduler_options |= {"security": files, "protocol": "tls://"}
        options["security"] = certificates
    try:
        # SSHCluster hands the configuration on to the other machines.
        # The scratch folder of each machine has a name that no other account can know: Dask imports
        # from there before it looks anywhere else.
        scratch = f"/tmp/oectflow-{secrets.token_hex(16)}"
        with dask.config.set(DASK_CONFIG | {"temporary-directory": scratch}):
            return SSHCluster(
                list(hosts),
                worker_options=worker_options | options.pop("worker_options", {}),
                scheduler_options=scheduler_options | options.pop("scheduler_options", {}),
                **options,
            )
    except ImportError as error:
        raise ClusterError(
            "connect('ssh') needs the package asyncssh; pip install 'oectflow[ssh]'"
        ) from error
    except (OSError, RuntimeError, TypeError) as error:
        raise ClusterError(f"connect('ssh', hosts={list(hosts)!r}): {error}") from error


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
