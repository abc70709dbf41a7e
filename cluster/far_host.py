"""The process of :mod:`oectflow.cluster.host` on a machine that is reached by SSH.

It is started as a module by :mod:`oectflow.cluster.ssh`, and ends with the connection.
Certificates come as text with the requests and stay in memory: no file holds a key.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import psutil
from distributed import Security
from distributed.comm import connect

from oectflow.cluster.host import Host, main
from oectflow.cluster.local import free_port, scratch_folder

#: Seconds in which a machine of the same network answers.
_ANSWER = 5.0


class FarHost(Host):
    """Starts and stops a scheduler and workers, and knows its machine."""

    async def describe(self) -> dict[str, Any]:
        """Return at which address SSH has reached this machine, and all that it has."""
        addresses = {
            name: [one.address for one in found if one.family in (socket.AF_INET, socket.AF_INET6)]
            for name, found in psutil.net_if_addrs().items()
        }
        # From sshd: the other end's address and port, then ours.
        here = os.environ.get("SSH_CONNECTION", "").split()
        return {
            "reached_at": here[2] if len(here) == 4 else None,
            "addresses": {name: found for name, found in addresses.items() if found},
        }

    async def reach(self, address: str, security: dict[str, Any] | None) -> None:
        """Connect to a scheduler, and raise what comes of it."""
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
        Nobody answers, or they do not trust each other.
    """
    comm = await connect(address, timeout=_ANSWER, **security.get_connection_args("client"))
    await comm.close()


def _own_folder(options: dict[str, Any]) -> dict[str, Any]:
    """Dask imports from its folder before it looks anywhere else: one that is ours."""
    return {"local_directory": str(scratch_folder())} | options


if __name__ == "__main__":
    main(FarHost())
