"""The lock of a folder in an object store, where objects outlive the process that made them.

A lock is an object that is put only if there is no object with its name.  Its holder puts it again
every few seconds.  If it is not put again for a while, or its process has gone from this machine,
the lock is dead.  A process that takes over puts the next number, which only one process can do.
It withdraws if there is a lock that was not dead when it looked.
"""

from __future__ import annotations

import contextlib
import json
import platform
import threading
import uuid
from collections.abc import Iterator

import psutil

from oectflow.errors import OutputError, StorageError
from oectflow.place import RemotePath

#: How often a holder gives a sign of life, and after what silence it is taken for dead, in s.
_BEAT_S, _LEASE_S = 15.0, 90.0


@contextlib.contextmanager
def only_one_with(lock: RemotePath) -> Iterator[None]:
    """Hold a lock while the context lasts.

    Parameters
    ----------
    lock
        Folder of the lock's objects, inside the locked folder.

    Raises
    ------
    OutputError
        Another process holds it.
    StorageError
        The store cannot be written.
    """
    try:
        content = _who_we_are()
        own = _taken(lock, content)
    except OSError as error:
        folder = lock.parent
        raise StorageError(f"{folder}: cannot be written ({error.strerror or error})") from error
    ended = threading.Event()
    beat = threading.Thread(target=_give_signs, args=(own, content, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        # A lock that stays is dead as soon as this process is.
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)


def _taken(lock: RemotePath, content: bytes) -> RemotePath:
    there = _numbered(lock)
    dead = []
    for number, other in there.items():
        who = _holder(other)
        if who is not None and _is_alive(lock, other, who):
            raise _refused(lock, who)
        dead.append(number)
    own = lock / f"{max(there, default=0) + 1:09d}"
    if not own.put_if_absent(content):
        raise _refused(lock, _holder(own) or {})
    others = [other for number, other in _numbered(lock).items() if number not in dead]
    if rivals := [other for other in others if other != own]:
        own.unlink(missing_ok=True)
        raise _refused(lock, _holder(rivals[0]) or {})
    for number in dead:
        there[number].unlink(missing_ok=True)
    return own


def _numbered(lock: RemotePath) -> dict[int, RemotePath]:
    found = lock.with_listing().below()
    return {int(path.name): path for path in found if path.name.isdecimal()}


def _who_we_are() -> bytes:
    me = psutil.Process()
    who = {"host": platform.node(), "pid": me.pid, "began": me.create_time()}
    return json.dumps(who | {"token": uuid.uuid4().hex}).encode()


def _holder(lock: RemotePath) -> dict[str, object] | None:
    """Return who holds a lock, None where it was given back meanwhile."""
    try:
        return dict(json.loads(lock.fresh().read_bytes()))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def _is_alive(lock: RemotePath, other: RemotePath, who: dict[str, object]) -> bool:
    if who.get("host") == platform.node() and isinstance(who.get("pid"), int):
        try:
            there = psutil.Process(int(str(who["pid"])))
            return abs(there.create_time() - float(str(who["began"]))) < 1
        except psutil.NoSuchProcess:
            return False
    # The clock of the store is the one that all have in common.
    probe = lock / f"now-{uuid.uuid4().hex}"
    probe.write_bytes(b"")
    now = probe.about().mtime_ns
    probe.unlink(missing_ok=True)
    return now - other.about().mtime_ns < _LEASE_S * 1e9


def _refused(lock: RemotePath, who: dict[str, object]) -> OutputError:
    return OutputError(
        f"{lock.parent}: another run is writing here, process {who.get('pid', 'unknown')} on "
        f"{who.get('host', 'another machine')}; wait for it, or choose another folder.  One that "
        f"has died is forgotten after {_LEASE_S:.0f} s"
    )


def _give_signs(own: RemotePath, content: bytes, ended: threading.Event) -> None:
    while not ended.wait(_BEAT_S):
        # A store that does not answer for a while is named by whoever writes results.
        with contextlib.suppress(OSError):
            own.write_bytes(content)
