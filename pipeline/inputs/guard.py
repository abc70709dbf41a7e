"""Find out whether a new file hangs or kills the process that reads it.

HDF5 trusts its input: a few damaged bytes can make it loop for ever, or end the process, which may
be a notebook with hours of work.  A child process, which may die, therefore takes the first look at
a file: it reads the metadata and walks through the index of the chunks.  The child is kept for the
next file.  Starting it takes about 0.4 s; each file takes about as long as opening it once.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import h5py

from oectflow import object_store
from oectflow.errors import UnreadableFile
from oectflow.pipeline.inputs import object_file
from oectflow.pipeline.inputs.hdf5 import FileIdentity, of_version, open_file
from oectflow.place import as_remote, place

#: CPU time for one file, in s, and s more for each GB of it; opening one takes some milliseconds.
_CPU_S, _CPU_S_PER_GB = 6.0, 1.0
#: Bytes that the metadata of a file may take in memory.
_MEMORY = 4 * 2**30
#: Number of files whose answer is remembered.
_MOST = 100_000
#: If a disk does not answer for this long, in s, the file is not at fault.
_PATIENCE_S = 300.0
_INSIDE = "OECTFLOW_GUARD"

_seen: dict[tuple[str, FileIdentity], str] = {}
_lock = threading.Lock()


def trust(path: Path, identity: FileIdentity) -> None:
    """Record a file as checked already, in this process or another one."""
    _seen.setdefault((str(path), identity), "")


def look_first(path: Path, identity: FileIdentity, *, allow_external: bool = False) -> None:
    """Let a child process check a file that is new to this process.

    With ``allow_external`` it always checks: the identity does not cover the other files.

    Raises
    ------
    UnreadableFile
        The child died, or did not finish.
    """
    if not hasattr(os, "fork") or _INSIDE in os.environ:
        return
    key = str(path), identity
    with _lock:
        if allow_external and not identity.etag:
            reason = _child.look_at(path, identity.size, allow_external=True)
        else:
            if key not in _seen:
                if len(_seen) >= _MOST:
                    _seen.clear()
                _seen[key] = _looked_at(of_version(path, identity), identity)
            reason = _seen[key]
    if reason:
        raise UnreadableFile(f"{path}: {reason}; the file is damaged, copy or convert it again")


def _looked_at(path: Path, identity: FileIdentity) -> str:
    """Return the fate of a child that read a file; a file in a store is fetched once for both."""
    remote = as_remote(path)
    if remote is None:
        return _child.look_at(path, identity.size)
    try:
        source = object_file.ObjectFile(remote)
    except OSError:
        # The next reader gets the same error, and names it.
        return ""
    reason = _child.look_at(path, identity.size, source=source, identity=identity)
    source.keep_begun()
    return reason


class _Child:
    """The child process, and how to start another one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def look_at(
        self,
        path: Path,
        size: int,
        *,
        allow_external: bool = False,
        source: object_file.ObjectFile | None = None,
        identity: FileIdentity | None = None,
    ) -> str:
        """Return the fate of a child that read the file; ``""`` if it is alive.

        Of an object it is told the version, and gets from ``source`` what it asks for.
        """
        try:
            process = self._started()
        except OSError:
            # No process can be started: the file is read without a check.
            return ""
        request = {
            "path": str(path.absolute()),
            "seconds": _CPU_S + _CPU_S_PER_GB * size / 1e9,
            "allow_external": allow_external,
            "identity": None if identity is None else asdict(identity),
        }
        try:
            self._send(process, request)
            while True:
                assert process.stdout is not None
                if not select.select([process.stdout], [], [], _PATIENCE_S)[0]:
                    self.stop()
                    return f"reading its metadata did not end within {_PATIENCE_S:.0f} s"
                line = process.stdout.readline()
                answer = json.loads(line) if line else None
                if answer is None or "spans" not in answer:
                    break
                assert source is not None
                self._give(process, source, answer["spans"])
        except BrokenPipeError:
            answer = None
        except BaseException:
            # A late answer must not be taken for the answer to the next request.
            self.stop()
            raise
        if answer is not None:
            if source is not None:
                source.keep_index(answer["asked"])
            return str(answer["reason"])
        code = process.wait()
        self.stop()
        if code == -signal.SIGXCPU:
            return f"reading its metadata did not end within {request['seconds']:.0f} s of CPU time"
        if code < 0:
            return f"reading its metadata ended a process by {signal.Signals(-code).name}"
        return f"reading its metadata ended a process with exit status {code}"

    def stop(self) -> None:
        """End the child."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid():
            if self._process is not None:
                # It belongs to the process from which this one was forked.
                self._process.returncode = 0
            # Ctrl-C must not reach it, and its output is dropped; it ends with its input.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {_INSIDE: "1"},
                start_new_session=True,
            )
            self._owner = os.getpid()
            self._send(self._process, [str(Path(entry).absolute()) for entry in sys.path])
        return self._process

    def _give(
        self,
        process: subprocess.Popen[bytes],
        source: object_file.ObjectFile,
        spans: Sequence[Sequence[int]],
    ) -> None:
        """Send the child ranges of an object: how long they are, or null, and then their bytes."""
        try:
            parts = source.parts([(start, stop) for start, stop in spans])
        except OSError:
            self._send(process, None)
        else:
            self._send(process, [len(part) for part in parts], *parts)

    @staticmethod
    def _send(process: subprocess.Popen[bytes], message: object, *parts: bytes) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.writelines(parts)
        process.stdin.flush()


_child = _Child()
atexit.register(lambda: _child.stop() if _child else None)
_CODE = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    f"from {__name__} import serve; serve()"
)


def serve() -> None:
    """Check files, one per line of standard input."""
    import resource

    from oectflow.pipeline.inputs.experiment import Experiment

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: object) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def ask(spans: Sequence[tuple[int, int]]) -> list[bytes]:
        say({"spans": spans})
        lengths = json.loads(sys.stdin.buffer.readline())
        if lengths is None:
            raise OSError(errno.EIO, "cannot be read")
        return [sys.stdin.buffer.read(n) for n in lengths]

    object_store.read_elsewhere(ask)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime + request["seconds"]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        answer = ""
        asked: list[tuple[int, int]] = []
        try:
            path = place(request["path"])
            if request["identity"]:
                path = of_version(path, FileIdentity(**request["identity"]))
            experiment = Experiment(path, allow_external=request["allow_external"])
            _walk(path, experiment.sources)
            if request["identity"]:
                asked = object_file.asked_of(path)
        except MemoryError:
            answer = f"its metadata need more than {_MEMORY >> 30} GiB of memory"
        except Exception:  # noqa: BLE001 - the one who asked gets the same, and names it
            pass
        say({"reason": answer, "asked": asked})


def _walk(path: Path, sources: tuple[str, ...]) -> None:
    """Go through the index of the chunks of all samples, as reading them would, and read texts."""
    with open_file(path, "the metadata") as file:
        for text in file.get("raw", {}).values():
            # Not parsed: of 5,000 steps that takes as long as all else twice.
            if isinstance(text, h5py.Dataset):
                text[()]
        for source in sources:
            for dataset in file[source].values():
                if isinstance(dataset, h5py.Dataset):
                    if dataset.chunks:
                        dataset.id.chunk_iter(lambda _: None)
                    if dataset.size and (dataset.chunks or dataset.is_virtual):
                        object_file.fetch_chunks(dataset, [(0, 1)] * dataset.ndim)
                        dataset[tuple(slice(1) for _ in dataset.shape)]
