"""From one word or address to a Dask client whose workers are ready."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from distributed import Client

from oectflow.cluster.local import start_local
from oectflow.cluster.plugins import WarmUp, warm_up
from oectflow.pipeline.errors import ClusterError, did_you_mean

#: Results must not depend on which worker computed them, and pickles must be understood.
CHECKED_PACKAGES = ("oectflow", "dask", "distributed", "numba", "numpy", "scipy", "h5py", "pyarrow")


def connect(
    spec: str = "local",
    *,
    n_workers: int | None = None,
    memory: str | int | None = None,
    dashboard_port: int = 8787,
    timeout: float = 30.0,
    kernels: str = "oectflow.extractors.warm",
) -> Client:
    """Return a Dask client whose workers have compiled the kernels.

    Parameters
    ----------
    spec
        ``"local"`` starts one worker process per core of this machine; an address such as
        ``"tcp://host:8786"`` uses a scheduler that runs already.
    n_workers, memory, dashboard_port
        For ``"local"``: number of worker processes, memory of all together (``"200 GiB"``), and
        port of the dashboard.
    timeout
        How long to wait for a scheduler that runs already, in s.
    kernels
        Module whose ``warm_up()`` compiles what the workers will call.

    Returns
    -------
    A client; close it (or use ``with``) to stop a cluster that was started here.

    Raises
    ------
    ClusterError
        Nobody answers at the address, or its workers lack oectflow or have other versions.

    Examples
    --------
    >>> import oectflow as of
    >>> with of.connect() as client:  # doctest: +SKIP
    ...     print(client.dashboard_link)
    """
    if spec == "local":
        # Compiled here first, every worker then loads the kernels from the cache on disk; else
        # they would all compile at the same time.
        warm_up(kernels)
        client = _OwningClient(start_local(n_workers, memory, dashboard_port))
    elif "://" in spec:
        given = {"n_workers": n_workers, "memory": memory}
        for name, value in given.items():
            if value is not None:
                raise ClusterError(
                    f"connect({spec!r}, {name}={value!r}): the cluster runs already; "
                    f"{name} is only for connect('local')"
                )
        try:
            client = Client(spec, timeout=timeout)
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"{spec}: no Dask scheduler answers within {timeout:g} s ({error}); "
                "is it running, and is the port open?"
            ) from error
        probe = _version_probe()
        try:
            check_versions(spec, probe(CHECKED_PACKAGES), client.run(probe, CHECKED_PACKAGES))
        except ClusterError:
            client.close()
            raise
    else:
        raise ClusterError(
            f"connect({spec!r}): give 'local' or an address such as 'tcp://host:8786'"
            f"{did_you_mean(spec, ['local'])}"
        )
    client.register_plugin(WarmUp(kernels))
    return client


class _OwningClient(Client):
    """A client that stops its cluster when it is closed."""

    def close(self, *args: Any, **kwargs: Any) -> Any:
        cluster = self.cluster
        result = super().close(*args, **kwargs)
        if cluster is not None:
            cluster.close()
        return result


def _version_probe() -> Callable[[Sequence[str]], dict[str, str | None]]:
    # A nested function travels by value, so it also runs where oectflow cannot be imported.
    def installed(packages: Sequence[str]) -> dict[str, str | None]:
        import importlib.metadata
        import platform

        found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
        for package in packages:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = None
        return found

    return installed


def check_versions(
    spec: str,
    ours: Mapping[str, str | None],
    theirs: Mapping[str, Mapping[str, str | None]],
) -> None:
    """Raise ClusterError unless every worker has our versions.

    Parameters
    ----------
    spec
        Address of the scheduler, for the message.
    ours, theirs
        Version by package, here and for each worker; None where a package is missing.
    """
    if not theirs:
        raise ClusterError(f"{spec}: the scheduler has no workers; start some and connect again")
    for worker, found in theirs.items():
        if found["oectflow"] is None:
            raise ClusterError(
                f"{spec}: worker {worker} cannot import oectflow; "
                f"pip install oectflow=={ours['oectflow']} in its environment"
            )
        different = [name for name, version in ours.items() if found[name] != version]
        if different:
            table = ", ".join(f"{name} {found[name]} (here {ours[name]})" for name in different)
            raise ClusterError(
                f"{spec}: worker {worker} has other versions: {table}; "
                "install the same ones on both sides"
            )
