"""Where the workers' time goes during a run, and how much memory everything takes."""

from __future__ import annotations

import threading
from typing import Any, Self

import psutil
from distributed import Client

_SAMPLING_S = 1.0


class PeakMemory:
    """Watch the proportional set size of this process and of all its descendants.

    Attributes
    ----------
    peaks
        Largest sums seen, in bytes: ``client``, this process; ``cluster``, all others.
    """

    def __init__(self) -> None:
        self.peaks = {"client": 0, "cluster": 0}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(_SAMPLING_S):
            sums = {"client": _pss(me), "cluster": sum(map(_pss, me.children(recursive=True)))}
            for name, value in sums.items():
                self.peaks[name] = max(self.peaks[name], value)


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0


def cpu_seconds() -> float:
    """Return the CPU time of this process, its living descendants and its dead children."""
    me = psutil.Process()
    dead = me.cpu_times()
    times = (process.cpu_times() for process in (me, *me.children(recursive=True)))
    return sum((one.user + one.system for one in times), dead.children_user + dead.children_system)


class Shares:
    """Take the time of the parts of a run in the workers, from now on.

    Parameters
    ----------
    client
        Of a cluster whose workers are single-threaded.
    """

    def __init__(self, client: Client) -> None:
        # Functions of a script reach the workers by value only where they stand inside another.
        def install() -> None:
            import time
            from types import SimpleNamespace

            import deflate

            from oectflow.pipeline.execution.worker import tasks
            from oectflow.pipeline.inputs import chunks
            from oectflow.pipeline.inputs.experiment import Experiment

            spent: dict[str, float] = {}

            def timed(name: str, call: Any) -> Any:
                original = getattr(call, "original", call)
                spent[name] = 0.0

                def wrapped(*args: Any, **options: Any) -> Any:
                    begin = time.perf_counter()
                    result = original(*args, **options)
                    spent[name] += time.perf_counter() - begin
                    return result

                wrapped.original = original  # type: ignore[attr-defined]
                return wrapped

            inflate = timed("inflate", deflate.zlib_decompress)
            chunks.deflate = SimpleNamespace(
                zlib_decompress=inflate, DeflateError=deflate.DeflateError, spent=spent
            )
            Experiment.batch = timed("read", Experiment.batch)
            for name, function in {
                "digests, columns": "compute_batch",
                "fit": "run_extractor",
                "hash": "hash_source",
                "derive": "derive_features",
                "write": "write_experiment",
            }.items():
                setattr(tasks, function, timed(name, getattr(tasks, function)))

        self._client = client
        client.run(install)

    def of(self, wall: float, workers: int) -> dict[str, float]:
        """Return shares of the workers' wall time since the beginning; they add up to 1."""

        def spent() -> dict[str, float]:
            from oectflow.pipeline.inputs import chunks

            return dict(chunks.deflate.spent)

        took: dict[str, float] = {}
        for one in self._client.run(spent).values():
            for name, seconds in one.items():
                took[name] = took.get(name, 0.0) + seconds
        # Each of these holds the ones that are taken off.
        took["digests, columns"] -= took["read"] + took["fit"]
        took["read"] -= took["inflate"]
        total = wall * workers
        took["Dask, transfer, waiting"] = total - sum(took.values())
        return {name: seconds / total for name, seconds in took.items()}
