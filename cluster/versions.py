"""Versions of the packages of a process, and whether two processes agree."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence

from oectflow.errors import ClusterError

#: Results must not depend on which worker computed them, and pickles must be understood.
CHECKED_PACKAGES = ("oectflow", "dask", "distributed", "numba", "numpy", "scipy", "h5py", "pyarrow")


def installed_versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the versions of packages, and of ``"python"``; None if a package is missing.

    If oectflow cannot be imported, its version is a text with the reason.
    """
    import importlib
    import importlib.metadata
    import platform

    found: dict[str, str | None] = {"python": ".".join(platform.python_version_tuple()[:2])}
    for package in packages:
        if package == "python":
            continue
        try:
            found[package] = importlib.metadata.version(package)
            if package == "oectflow":
                importlib.import_module(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
        except Exception as error:  # noqa: BLE001 - a package that is broken raises anything
            found[package] = f"cannot be imported ({type(error).__name__}: {error})"
    return found


def probe_expression(packages: Sequence[str]) -> str:
    """Return an expression that another process evaluates to find its versions.

    It is text, because byte code works only in one version of Python, and a function only in
    processes that can import oectflow.
    """
    code = "from __future__ import annotations\n" + inspect.getsource(installed_versions)
    return f"(lambda it: exec({code!r}, it) or it['installed_versions']({tuple(packages)!r}))({{}})"


def differences(ours: Mapping[str, str | None], found: Mapping[str, str | None]) -> str:
    """Return the differences as text; ``""`` if there are none."""
    return ", ".join(
        f"{name} {found[name]} (here {version})"
        for name, version in ours.items()
        if found[name] != version
    )


def what_differs(ours: Mapping[str, str | None], found: Mapping[str, str | None]) -> str:
    """Return missing packages and other versions of a process, and what to do; ``""`` if none.

    Parameters
    ----------
    ours, found
        Version of each package, here and in the other process.
    """
    table = differences(ours, found)
    missing = [name for name in ours if found[name] is None]
    if missing:
        return f"has no {', '.join(missing)}; {_remedy(str(ours.get('oectflow')))}"
    if str(found.get("oectflow")).startswith("cannot"):
        return f"has an oectflow that {found['oectflow']}; install it anew there"
    return f"has other versions: {table}; install the same ones on both sides" if table else ""


def _remedy(version: str) -> str:
    if re.fullmatch(r"[\d.]+((a|b|rc)\d+)?", version):
        return f"pip install oectflow=={version} in its environment"
    # No index has what lies between two releases.
    return (
        f"install oectflow {version} in its environment: copy the checkout of this side there, "
        "its .git folder included, and pip install that folder"
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
        Version of each package, here and for each worker; None if a package is missing.
    """
    if not theirs:
        raise ClusterError(f"{spec}: the scheduler has no workers; start some and connect again")
    for worker, found in theirs.items():
        other = what_differs(ours, found)
        if other:
            raise ClusterError(f"{spec}: worker {worker} {other}")
