"""Which versions of which packages a process has, and whether two processes agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from oectflow.errors import ClusterError

#: Results must not depend on which worker computed them, and pickles must be understood.
CHECKED_PACKAGES = ("oectflow", "dask", "distributed", "numba", "numpy", "scipy", "h5py", "pyarrow")


def version_probe() -> Callable[[Sequence[str]], dict[str, str | None]]:
    """Return a function that finds the installed versions, and ``"python"``."""

    # A nested function travels by value, so it also runs where oectflow cannot be imported.
    def installed(packages: Sequence[str]) -> dict[str, str | None]:
        import importlib.metadata
        import platform

        found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
        for package in packages:
            if package == "python":
                continue
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                found[package] = None
        return found

    return installed


installed_versions = version_probe()


def differences(ours: Mapping[str, str | None], found: Mapping[str, str | None]) -> str:
    """Return what differs, in words; ``""`` where nothing does."""
    return ", ".join(
        f"{name} {found[name]} (here {version})"
        for name, version in ours.items()
        if found[name] != version
    )


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
        table = differences(ours, found)
        if table:
            raise ClusterError(
                f"{spec}: worker {worker} has other versions: {table}; "
                "install the same ones on both sides"
            )
