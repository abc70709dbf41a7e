"""Access to a cluster: TLS certificates from one word, or from files.

Anyone who reaches the port of a Dask scheduler can run code as the user who started it, even from
another account of the same machine.  Therefore, clusters started by this package ask for a
certificate, unless this is turned off.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask
from distributed import Security

from oectflow.errors import ClusterError, did_you_mean

_FILES = ("ca_file", "cert", "key")


def temporary_certificates(security: Any) -> Security | None:
    """Return the TLS settings of a cluster that is about to be started.

    Parameters
    ----------
    security
        None or True makes a certificate that is kept in memory and disappears with the cluster;
        False means no TLS; otherwise as in :func:`given_certificates`.

    Raises
    ------
    ClusterError
        The package that makes certificates is missing, or the files are not given correctly.
    """
    if security is False:
        return None
    if security is None or security is True:
        try:
            return Security.temporary()
        except ImportError as error:
            raise ClusterError(
                "TLS between the workers needs the package cryptography; pip install cryptography, "
                "or say security=False on a machine that nobody else uses"
            ) from error
    return given_certificates(security)


def given_certificates(security: Any) -> Security | None:
    """Return the TLS settings for a cluster whose certificates exist.

    Parameters
    ----------
    security
        A ``distributed.Security``; the paths ``{"ca_file": …, "cert": …, "key": …}``; None takes
        them from Dask's configuration, ``distributed.comm.tls``, if it has them.

    Raises
    ------
    ClusterError
        Something else was given, a path is missing, or there is no file.
    """
    if isinstance(security, Security):
        return security
    if security is None:
        configured = dask.config.get("distributed.comm.tls.ca-file", None)
        return Security(require_encryption=True) if configured else None
    if not isinstance(security, Mapping):
        raise ClusterError(
            f"security={security!r}: this needs certificates that exist; give "
            "{'ca_file': …, 'cert': …, 'key': …} or a distributed.Security"
        )
    for name in security:
        if name not in _FILES:
            raise ClusterError(f"security: unknown entry {name!r}{did_you_mean(name, _FILES)}")
    paths = {name: str(Path(path).expanduser()) for name, path in security.items()}
    for name in _FILES:
        if name not in paths:
            raise ClusterError(f"security: {name!r} is missing; expected {', '.join(_FILES)}")
        if not Path(paths[name]).is_file():
            raise ClusterError(f"security: {name}: there is no file {paths[name]}")
    return _from_files(paths)


def written_certificates(security: Security, folder: Path) -> Security:
    """Write certificates from memory to files that only this account can read.

    Parameters
    ----------
    security
        From :func:`temporary_certificates`: one certificate for all.
    folder
        An existing folder that only this account can enter.

    Returns
    -------
    The same certificates, as paths.
    """
    contents = {
        "ca_file": security.tls_ca_file,
        "cert": security.tls_client_cert,
        "key": security.tls_client_key,
    }
    for name, text in contents.items():
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(text)
    return _from_files({name: str(folder / f"{name}.pem") for name in contents})


def main(arguments: Sequence[str]) -> None:
    """Write a certificate into a new folder: ``python -m oectflow.cluster.security tls/``."""
    if len(arguments) != 1:
        raise SystemExit("say the name of a new folder, e.g. tls/")
    folder = Path(arguments[0])
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SystemExit(f"{folder}: {error.strerror}; say the name of a new folder") from error
    made = temporary_certificates(None)
    assert made is not None
    written_certificates(made, folder)


def _from_files(paths: Mapping[str, str]) -> Security:
    return Security(
        require_encryption=True,
        tls_ca_file=paths["ca_file"],
        **{f"tls_{role}_cert": paths["cert"] for role in ("client", "scheduler", "worker")},
        **{f"tls_{role}_key": paths["key"] for role in ("client", "scheduler", "worker")},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
