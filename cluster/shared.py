"""A scheduler that others use, too: its workers may lack our packages, even if they join later.

A worker that can run our tasks has a Dask resource named after our versions.  The tasks of our
client need this resource, so other workers never get one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from distributed import Client
from distributed.objects import SchedulerInfo

from oectflow.cluster.versions import CHECKED_PACKAGES, probe_expression, what_differs
from oectflow.errors import ClusterError


class NoWorkers(ClusterError):
    """A scheduler has no workers at the moment."""


def resource_for(versions: Mapping[str, str | None]) -> str:
    """Return the name of the resource of a worker with our versions."""
    told = json.dumps(versions, sort_keys=True).encode()
    return f"oectflow-{hashlib.blake2b(told, digest_size=4).hexdigest()}"


class SharedClient(Client):
    """A client that sees only workers with a resource, and runs its tasks only on them."""

    #: Its name; empty while all workers are seen.
    needed = ""

    def submit(self, *args: Any, **options: Any) -> Any:
        """As of Dask's client."""
        return super().submit(*args, **self._restricted(options))

    def map(self, *args: Any, **options: Any) -> Any:
        """As of Dask's client."""
        return super().map(*args, **self._restricted(options))

    def compute(self, *args: Any, **options: Any) -> Any:
        """As of Dask's client."""
        return super().compute(*args, **self._restricted(options))

    def persist(self, *args: Any, **options: Any) -> Any:
        """As of Dask's client."""
        return super().persist(*args, **self._restricted(options))

    def get(self, *args: Any, **options: Any) -> Any:
        """As of Dask's client."""
        return super().get(*args, **self._restricted(options))

    def scheduler_info(self, *args: Any, **options: Any) -> Any:
        """As of Dask's client, of the workers that can run our tasks."""
        known = super().scheduler_info(*args, **options)
        if not self.needed or "workers" not in known:
            return known
        able = {
            address: worker
            for address, worker in known["workers"].items()
            if self.needed in worker["resources"]
        }
        return SchedulerInfo(known | {"workers": able})

    def nthreads(self, *args: Any, **options: Any) -> Any:
        """As of Dask's client, of the workers that can run our tasks."""
        known = super().nthreads(*args, **options)
        if not self.needed:
            return known
        able = self.scheduler_info(n_workers=-1).get("workers", {})
        return {address: n for address, n in known.items() if address in able}

    def _restricted(self, options: dict[str, Any]) -> dict[str, Any]:
        if not self.needed:
            return options
        return options | {"resources": (options.get("resources") or {}) | {self.needed: 1}}


def find_able(
    client: Client,
    spec: str,
    ours: Mapping[str, str | None],
    answer: float,
    patience: float,
    tell: Callable[[str], None],
) -> list[str]:
    """Return the addresses of the workers that have our versions.

    Parameters
    ----------
    client, spec
        Client of the scheduler, and its address for messages.
    ours
        Version by package.
    answer, patience
        How long to wait for workers, in s, after others have answered, and while none has answered.
    tell
        Called with a text about workers that are left out.

    Raises
    ------
    ClusterError
        There are no workers, none has our versions, or none answers.
    """

    async def ask() -> dict[str, Any]:
        known = await client.scheduler.identity(n_workers=-1)
        code = probe_expression(CHECKED_PACKAGES)
        # One by one: one that is silent must not keep the answers of others.
        asked = {
            asyncio.ensure_future(
                client.run(eval, code, workers=[address], on_error="return")
            ): address
            for address in known["workers"]
        }
        found: dict[str, Any] = dict.fromkeys(known["workers"])
        waiting, begin = set(asked), time.monotonic()
        while waiting:
            left = (answer if any(map(_has_ours, found.values())) else patience) - (
                time.monotonic() - begin
            )
            if left <= 0:
                break
            done, waiting = await asyncio.wait(
                waiting, timeout=min(left, answer), return_when=asyncio.FIRST_COMPLETED
            )
            for one in done:
                address = asked[one]
                found[address] = one.exception() or one.result().get(address)
            if not done:
                tell(f"waits for the answer of {len(waiting)} busy workers")
        for one in waiting:
            one.cancel()
        return found

    def _has_ours(found: Any) -> bool:
        return isinstance(found, dict) and not what_differs(ours, found)

    found = asyncio.run_coroutine_threadsafe(ask(), client.loop.asyncio_loop).result()
    if not found:
        raise NoWorkers(f"{spec}: the scheduler has no workers; start some and connect again")
    unable = {
        address: what_differs(ours, one)
        if isinstance(one, dict)
        else f"does not answer ({one or 'it is busy'}); wait longer with timeout="
        for address, one in found.items()
        if not _has_ours(one)
    }
    able = [address for address in found if address not in unable]
    if unable:
        address, why = next(iter(unable.items()))
        others = f" ({len(unable) - 1} others are left out, too)" if len(unable) > 1 else ""
        if not able:
            raise ClusterError(f"{spec}: worker {address} {why}{others}")
        tell(f"{len(able)} of {len(found)} workers are used; worker {address} {why}{others}")
    return able
