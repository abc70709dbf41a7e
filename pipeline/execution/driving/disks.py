"""Check that workers see raw files and the folder of results, before anything is computed."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from distributed import Client

from oectflow.cluster.processes import ProcessCluster
from oectflow.errors import ClusterError, OectflowError, StorageError
from oectflow.pipeline.execution.driving.scheduler import scheduler_needed, workers_of
from oectflow.place import as_remote, place

#: Of so many folders one raw file is looked for.
_MOST_FOLDERS = 100


def check_disks(client: Client, folder: Path, raw: Iterable[tuple[str, int]]) -> None:
    """Let a worker of every machine look for raw files, and for a new file among the results.

    Parameters
    ----------
    client
        The cluster.  Without workers, nothing is known yet.  Workers that ``connect("local")`` has
        started on this machine need not be asked.
    folder
        Where results will be written.
    raw
        Path and size in bytes of every raw file.  Workers look for one file of each folder.

    Raises
    ------
    ClusterError
        A machine does not see the same files; the message names the machine and the files.
    StorageError
        The folder cannot be written from this machine.
    """
    # Workers have working folders of their own.
    mark = folder.absolute() / f".oectflow-{uuid.uuid4().hex}.tmp"
    try:
        mark.write_bytes(b"")
    except OSError as error:
        raise StorageError(f"{mark}: cannot be written ({error.strerror or error})") from error
    try:
        if isinstance(client.cluster, ProcessCluster):
            return
        workers = workers_of(client)
        one_of_each = list({info["host"]: address for address, info in workers.items()}.values())
        if not one_of_each:
            return
        sizes = dict(list(_one_per_folder(raw).items())[:_MOST_FOLDERS])
        with scheduler_needed(OSError):
            found = client.run(look, str(mark), sizes, workers=one_of_each, on_error="return")
    finally:
        mark.unlink(missing_ok=True)
    for address, answer in found.items():
        if isinstance(answer, OSError):
            # It has gone meanwhile: its job is over, say.  Others do its work.
            continue
        if isinstance(answer, Exception):
            raise ClusterError(
                f"worker {address} cannot run our tasks ({type(answer).__name__}: {answer}); "
                "install oectflow there, or use the client of oectflow.connect, which leaves it out"
            ) from answer
        machine, unseen = answer
        if unseen:
            more = f" (and {len(unseen) - 1} more)" if len(unseen) > 1 else ""
            raise ClusterError(
                f"worker {address} on {machine}: {unseen[0]}{more}; raw files and results must be "
                "on a disk that all machines of the cluster see, under the same path"
            )


def _one_per_folder(raw: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    firsts: dict[str, tuple[str, int]] = {}
    for path, size in raw:
        firsts.setdefault(os.path.dirname(path), (path, size))  # noqa: PTH120 - of 100,000 files
    return dict(firsts.values())


def look(mark: str, sizes: Mapping[str, int]) -> tuple[str, Sequence[str]]:
    """Return the name of this machine, and a text about the files that it does not see.

    Parameters
    ----------
    mark
        A file in the folder of results.
    sizes
        Raw files, and their sizes in bytes.
    """
    unseen = []
    for path, size in {mark: 0, **sizes}.items():
        where = os.path.dirname(mark) if path == mark else path  # noqa: PTH120
        what = "the folder of results" if path == mark else "the raw file"
        try:
            there = place(path).stat().st_size
        except (OSError, OectflowError) as error:
            why = getattr(error, "strerror", None) or error
            unseen.append(f"it does not see {what} {where} ({why})")
            continue
        if there != size:
            unseen.append(f"it sees another file {where}: {there:,} bytes, here {size:,}")
        elif path == mark and not _may_write(mark, where):
            unseen.append(f"it may not write into the folder of results {where}")
    return platform.node(), unseen


def _may_write(mark: str, folder: str) -> bool:
    remote = as_remote(place(mark))
    if remote is None:
        return os.access(folder, os.W_OK | os.X_OK)
    # A store only says so when it is tried.
    probe = remote.parent / f"{remote.name}-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)
    except OSError:
        return False
    return True
