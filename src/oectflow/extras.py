"""What to install where a package is missing that not everybody needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oectflow.errors import OectflowError


@contextmanager
def extra(name: str, what: str, kind: type[OectflowError] = OectflowError) -> Iterator[None]:
    """Import optional packages within this: of one that is missing, its remedy is named.

    Parameters
    ----------
    name
        The extra that installs them.
    what
        What needs them, as the subject of a sentence in the singular.
    kind
        Of the error.

    Raises
    ------
    OectflowError
        Of that kind: a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or str(missing)).partition(".")[0]
        if package == "oectflow":
            raise
        raise kind(
            f"{what} needs the package {package}: pip install 'oectflow[{name}]'"
        ) from missing
