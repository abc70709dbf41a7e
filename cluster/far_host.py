"""The process of :mod:`oectflow.cluster.host` on a machine reached by SSH.

It is started as a module by :mod:`oectflow.cluster.ssh`, and ends with the connection.
Certificates come as text with the requests and stay in memory: no file holds a key.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from typing import Any

import platformdirs
import psutil
from distributed import Security
from distributed.comm import connect

from oectflow.cluster.host import Host, main
from oectflow.cluster.local import free_port, scratch_folder

#: Seconds in which a machine of the same network answers.
_ANSWER = 5.0


class FarHost(Host):
    """Starts and stops a scheduler and workers, and describes its machine."""

    async def describe(self) -> dict[str, Any]:
        """Return the address that SSH has reached, all addresses of this machine, and its disk."""
        addresses = {
            name: [one.address for one in found if one.family in (socket.AF_INET, socket.AF_INET6)]
            for name, found in psutil.net_if_addrs().items()
        }
        # From sshd: the other end's address and port, then ours.
        here = os.environ.get("SSH_CONNECTION", "").split()
        return {
            "reached_at": here[2] if len(here) == 4 else None,
            "addresses": {name: found for name, found in addresses.items() if found},
            "machine": socket.gethostname(),
            "kernels": _mark(),
        }

    async def keep_kernels_apart(self) -> None:
        """Compile into a folder of this machine's own, before the first worker.

        Machines that write into the same folder of a network disk can damage each other's index.
        """
        os.environ["NUMBA_CACHE_DIR"] = str(
            platformdirs.user_cache_path("oectflow") / f"numba-{socket.gethostname()}"
        )

    async def reach(self, address: str, security: dict[str, Any] | None) -> None:
        """Connect to a scheduler, and raise the error if this fails."""
        await knock(address, Security(**security or {}))

    async def start_scheduler(
        self, options: dict[str, Any], remove_at_end: str | None = None
    ) -> str:
        """Start the scheduler and return its address."""
        host, _, port = options["dashboard_address"].rpartition(":")
        options["dashboard_address"] = f"{host}:{free_port(int(port), host)}"
        return await super().start_scheduler(_own_folder(options), remove_at_end)

    async def start_worker(
        self, name: int | str, scheduler: str, options: dict[str, Any]
    ) -> str | None:
        """Start a worker process under a nanny, and return the worker's address."""
        return await super().start_worker(name, scheduler, _own_folder(options))


async def knock(address: str, security: Security) -> None:
    """Connect to an address of Dask and hang up.

    Raises
    ------
    OSError
        Nothing answers, or the two sides do not trust each other.
    """
    comm = await connect(address, timeout=_ANSWER, **security.get_connection_args("client"))
    await comm.close()


def _mark() -> str | None:
    """Return what stands in a file beside the compiled kernels: the same where they are the same.

    None where somebody has said where they are, or nothing can be written there.
    """
    if "NUMBA_CACHE_DIR" in os.environ:
        return None
    mark = platformdirs.user_cache_path("oectflow") / "kernels" / "whose"
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = mark.with_name(f"whose-{secrets.token_hex(8)}")
        own.write_text(own.name)
        # Of several machines one is the first, and no other finds half of a file.
        with contextlib.suppress(FileExistsError):
            mark.hardlink_to(own)
        own.unlink()
        return mark.read_text()
    except OSError:  # a disk that is full or only to be read holds no kernels, either
        return None


def _own_folder(options: dict[str, Any]) -> dict[str, Any]:
    """Dask imports from its folder before it looks anywhere else: one that is ours."""
    return {"local_directory": str(scratch_folder())} | options


if __name__ == "__main__":
    main(FarHost())
