"""Objects of a store (S3, Google, Azure, or this process's memory): the few requests that we make.

A store is asked through fsspec and the package of its protocol, which sign, retry with growing
pauses, and take credentials from the environment of the process that asks; nothing of that passes
through here.  An object is replaced whole, and its ETag says which version one has.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import xxhash

#: The package that each protocol needs.
PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs",
    "az": "adlfs", "memory": "fsspec",
}  # fmt: skip
#: Objects up to this size are fetched in one request, in bytes: at 60 ms for a request and 100 MB/s
#: a second request costs as much as 6 MB.
WHOLE = 6 * 2**20
#: Ranges that lie so near each other are one request, which takes at most so much, in bytes.
_GAP, _BLOCK = 512 * 2**10, 16 * 2**20
#: Contents that a process keeps, in bytes, and requests that are under way together.
_KEPT, _TOGETHER = 192 * 2**20, 32
#: Of a file system's settings and of the environment, what must be in no message.
_SECRET = ("key", "secret", "token", "password", "credential", "signature", "sas", "connection")

#: Start and end of a range of bytes.
Span = tuple[int, int]


@dataclass(frozen=True)
class Info:
    """What a store says of an object; a folder is what names of objects begin with.

    Size in bytes, time of the last change in ns, and the ETag, which is another one for another
    content.
    """

    size: int = 0
    mtime_ns: int = 0
    etag: str = ""
    is_folder: bool = False


def is_there(protocol: str) -> bool:
    """Whether the package of a protocol is installed."""
    return importlib.util.find_spec(PACKAGES[protocol]) is not None


def info(protocol: str, name: str) -> Info:
    """Ask for an object or a folder; FileNotFoundError without one."""
    store = _store(protocol)
    with _asking(protocol, name):
        return _info(store.info(name))


def list_objects(protocol: str, name: str) -> dict[str, Info]:
    """Return all objects below a folder, by their names; ``{}`` where there is none."""
    store = _store(protocol)
    with _asking(protocol, name):
        found = store.find(name, detail=True)
        return {key: _info(one) for key, one in found.items() if one["type"] == "file"}


def read_spans(protocol: str, name: str, about: Info, spans: Sequence[Span]) -> list[bytes]:
    """Read ranges of an object, by few requests at the same time.

    They are of one version if :func:`verify` finds that one afterwards.

    Raises
    ------
    OSError
        The object is gone, is shorter, or cannot be read.
    """
    from fsspec.utils import merge_offset_ranges

    store = _store(protocol)
    starts, stops = [s for s, _ in spans], [s for _, s in spans]
    with _asking(protocol, name):
        if about.size <= WHOLE:
            names, begins, ends = [name], [0], [about.size]
        else:
            names, begins, ends = merge_offset_ranges(
                [name] * len(spans), starts, stops, max_gap=_GAP, max_block=_BLOCK
            )
        parts = store.cat_ranges(names, begins, ends, on_error="raise") if about.size else [b""]
    for begin, end, part in zip(begins, ends, parts, strict=True):
        if len(part) != end - begin:
            # An object that was replaced by a shorter one is named as such.
            verify(protocol, name, about)
            raise OSError(errno.EIO, "the store sent less than it has", _url(protocol, name))
    found = []
    for start, stop in spans:
        i = max(i for i, begin in enumerate(begins) if begin <= start)
        found.append(bytes(parts[i][start - begins[i] : stop - begins[i]]))
    return found


def verify(protocol: str, name: str, about: Info) -> None:
    """Make sure that an object is still of one version; OSError (ESTALE) where it is not.

    Whatever was read of it before then is of that version, all of it.
    """
    if info(protocol, name).etag != about.etag:
        raise OSError(errno.ESTALE, "was replaced while it was read", _url(protocol, name))


def read_whole(protocol: str, name: str, about: Info) -> bytes:
    """Return one version of an object, from memory where this process has it; raises as above."""
    content = _contents.get((protocol, name, about.etag))
    if content is None:
        (content,) = read_spans(protocol, name, about, [(0, about.size)])
        verify(protocol, name, about)
        _contents.put((protocol, name, about.etag), content)
    return content


def fetch_ahead(wanted: Iterable[tuple[str, str, Info]]) -> None:
    """Read small objects together that will be read one by one; what fails, fails then."""
    todo = [one for one in wanted if 0 < one[2].size <= WHOLE and not _contents.has(*one)]

    def fetch(one: tuple[str, str, Info]) -> None:
        try:
            read_whole(*one)
        except OSError:
            return

    if len(todo) > 1:
        with ThreadPoolExecutor(min(_TOGETHER, len(todo))) as pool:
            list(pool.map(fetch, todo))


def put(protocol: str, name: str, content: bytes) -> None:
    """Write an object: it is there whole, or as it was; OSError."""
    store = _store(protocol)
    with _asking(protocol, name):
        store.pipe_file(name, content)


def put_if_absent(protocol: str, name: str, content: bytes) -> bool:
    """Write an object unless there is one, and say whether it was written; OSError."""
    store = _store(protocol)
    try:
        with _asking(protocol, name):
            store.pipe_file(name, content, mode="create")
    except OSError as error:
        # Stores say it in different words; a request that was repeated may have been ours.
        try:
            return bool(store.cat_file(name) == content)
        except Exception:  # noqa: BLE001 - the first error says what is wrong
            raise error from None
    return True


def delete(protocol: str, name: str) -> None:
    """Delete an object; FileNotFoundError, OSError."""
    store = _store(protocol)
    with _asking(protocol, name):
        store.rm_file(name)


def copy(protocol: str, name: str, other: str) -> None:
    """Copy an object within its store; OSError."""
    store = _store(protocol)
    with _asking(protocol, name):
        store.cp_file(name, other)


def _store(protocol: str) -> Any:
    import fsspec

    # One for each process; its settings are those of fsspec and of the environment.
    return fsspec.filesystem(protocol, use_listings_cache=False)


def _info(said: Mapping[str, Any]) -> Info:
    if said["type"] == "directory":
        return Info(is_folder=True)
    when = next(
        (said[key] for key in ("LastModified", "last_modified", "mtime", "created") if key in said),
        None,
    )
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    seconds = when.timestamp() if isinstance(when, datetime) else float(when or 0)
    ns = round(seconds * 1e6) * 1000
    etag = next((said[key] for key in ("ETag", "etag", "generation") if said.get(key)), None)
    if etag is None:
        etag = xxhash.xxh3_128_hexdigest(f"{said['size']} {ns}".encode())
    return Info(int(said["size"]), ns, str(etag).strip('"'))


def _url(protocol: str, name: str) -> str:
    return f"{protocol}://{name.lstrip('/')}"


@contextmanager
def _asking(protocol: str, name: str) -> Iterator[None]:
    """Turn whatever packages raise into OSError with a reason and without anybody's secrets."""
    url = _url(protocol, name)
    try:
        yield
    except FileNotFoundError as error:
        known = "bucket" in str(error).lower() or "container" in str(error).lower()
        reason = "there is no such bucket" if known else "there is no such object"
        raise FileNotFoundError(errno.ENOENT, reason, url) from None
    except PermissionError as error:
        reason = f"the store refuses it with the credentials of this process ({_words(error)})"
        raise PermissionError(errno.EACCES, reason, url) from None
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "exists", url) from None
    except Exception as error:  # noqa: BLE001 - every package has errors of its own
        reason = f"the store did not do it ({type(error).__name__}: {_words(error)})"
        if "credentials" in reason.lower():
            reason = f"no credentials in the environment of this process ({_words(error)})"
        raise OSError(getattr(error, "errno", None) or errno.EIO, reason, url) from None


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    settings: list[tuple[str, str]] = [(k, v) for k, v in os.environ.items() if len(v) > 5]
    for name, value in settings:
        if any(word in name.lower() for word in _SECRET):
            text = text.replace(value, "…")
    return text[:300]


class _Contents:
    """The contents of objects that were read last, by protocol, name and ETag."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, str, str]) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def has(self, protocol: str, name: str, about: Info) -> bool:
        return (protocol, name, about.etag) in self._kept

    def put(self, key: tuple[str, str, str], content: bytes) -> None:
        if len(content) > WHOLE:
            return
        with self._lock:
            self._size += len(content) - len(self._kept.pop(key, b""))
            self._kept[key] = content
            while self._size > _KEPT:
                self._size -= len(self._kept.popitem(last=False)[1])


_contents = _Contents()
