"""Objects of a store (S3, Google, Azure, or this process's memory): the few requests that we make.

A store is asked through fsspec and the package of its protocol, which sign, retry with growing
pauses, and take credentials from the environment of the process that asks; nothing of that passes
through here.  An object is replaced whole, and its ETag says which version one has.
"""

from __future__ import annotations

import asyncio
import bisect
import errno
import importlib.metadata
import importlib.util
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import xxhash

_T = TypeVar("_T")

#: The package that each protocol needs.
PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs",
    "az": "adlfs", "memory": "fsspec",
}  # fmt: skip
#: Year and month of the first release of all of them that puts an object only if there is none.
_OLDEST = (2024, 12)
#: Objects up to this size are fetched in one request, in bytes: at 60 ms for a request and 100 MB/s
#: a second request costs as much as 6 MB.
WHOLE = 6 * 2**20
#: Ranges that lie so near each other are read together, by requests for at most so much, in bytes:
#: each request has a connection of its own, of some 90 MB/s, and waits for 60 ms first.
_GAP, _BLOCK = 512 * 2**10, 2 * 2**20
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


def what_to_install(protocol: str) -> str:
    """Return what a protocol needs and is not installed, as pip takes it; ``""`` if all is there.

    Older packages take no notice of the condition of :func:`put_if_absent`.
    """
    package = PACKAGES[protocol]
    wanted = f"{package}>={_OLDEST[0]}.{_OLDEST[1]}"
    if importlib.util.find_spec(package) is None:
        return wanted
    year, month, *_ = importlib.metadata.version(package).split(".")
    return "" if (int(year), int(month)) >= _OLDEST else wanted


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
    """Read ranges of one version of an object, by few requests at the same time.

    Raises
    ------
    OSError
        The object is gone, was replaced (ESTALE), or cannot be read.
    """
    if _elsewhere is not None:
        return _elsewhere(spans)
    together = [(0, about.size)] if about.size <= WHOLE else _merged(spans)
    pieces = [_divided(*span) for span in together]
    parts = iter(_fetched(protocol, name, about, list(itertools.chain(*pieces))))
    content = {
        start: b"".join(itertools.islice(parts, len(own)))
        for (start, _), own in zip(together, pieces, strict=True)
    }
    begins = sorted(content)
    found = []
    for start, stop in spans:
        begin = begins[bisect.bisect_right(begins, start) - 1]
        found.append(content[begin][start - begin : stop - begin])
    return found


def read_elsewhere(reader: Callable[[Sequence[Span]], list[bytes]]) -> None:
    """From now on, let another process read ranges, which has connections and credentials."""
    global _elsewhere
    _elsewhere = reader


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1] + _GAP:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def _divided(start: int, stop: int) -> list[Span]:
    """Divide a range into the fewest pieces of about the same size that are no longer than that."""
    n = -(-(stop - start) // _BLOCK)
    edges = [start + i * (stop - start) // n for i in range(n + 1)] if n else []
    return list(itertools.pairwise(edges))


def _fetched(protocol: str, name: str, about: Info, pieces: Sequence[Span]) -> list[bytes]:
    """Return pieces of one version, each by a request of its own."""
    store = _store(protocol)
    on_s3 = PACKAGES[protocol] == "s3fs"
    try:
        with _asking(protocol, name):
            if on_s3:
                from fsspec.asyn import sync

                parts: list[bytes] = sync(store.loop, _matching, store, name, about.etag, pieces)
            else:
                starts, stops = [start for start, _ in pieces], [stop for _, stop in pieces]
                parts = store.cat_ranges([name] * len(pieces), starts, stops, on_error="raise")
    except OSError as error:
        # It is another version, or was shorter than the range.
        if error.errno == errno.EINVAL:
            verify(protocol, name, about)
        raise
    whole = all(
        len(part) == stop - start for part, (start, stop) in zip(parts, pieces, strict=True)
    )
    if not (on_s3 and pieces and whole):
        verify(protocol, name, about)
    if not whole:
        raise OSError(errno.EIO, "the store sent less than it has", _url(protocol, name))
    return parts


async def _matching(store: Any, name: str, etag: str, pieces: Sequence[Span]) -> list[bytes]:
    """Ask S3 for pieces of an object if it is of one version; fsspec has no word for this."""
    from s3fs.core import S3_RETRYABLE_ERRORS

    bucket, key, _ = store.split_path(name)

    async def one(start: int, stop: int) -> bytes:
        wanted = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": f'"{etag}"'}
        attempts = 0
        while True:
            answer = await store._call_s3("get_object", Bucket=bucket, Key=key, **wanted)
            try:
                async with answer["Body"] as body:
                    if answer["ETag"].strip('"') != etag:
                        # Not every server of S3's kind knows of conditions.
                        raise OSError(errno.EINVAL, "another version was sent")
                    return bytes(await body.read())
            except S3_RETRYABLE_ERRORS:
                # The call repeats itself; what it returns does not.
                attempts += 1
                if attempts == store.retries:
                    raise
            await asyncio.sleep(0.1 * 2**attempts)

    return await asyncio.gather(*(one(*piece) for piece in pieces))


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
        _contents.put((protocol, name, about.etag), content)
    return content


def fetch_ahead(wanted: Iterable[tuple[str, str, Info]]) -> None:
    """Read small objects together that will be read one by one; what fails, fails then."""
    todo = [one for one in wanted if 0 < one[2].size <= WHOLE and not _contents.has(*one)]
    if len(todo) > 1:
        do_together(lambda one: read_whole(*one), todo)


def do_together(do: Callable[[_T], object], todo: Sequence[_T]) -> None:
    """Ask for several things at the same time; what fails will fail again when it is needed."""

    def one(what: _T) -> None:
        with suppress(OSError):
            do(what)

    with ThreadPoolExecutor(min(_TOGETHER, max(1, len(todo)))) as pool:
        list(pool.map(one, todo))


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
    settings: dict[str, Any] = {}
    if PACKAGES[protocol] == "s3fs":
        theirs = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        settings["config_kwargs"] = {"max_pool_connections": _TOGETHER} | theirs
    return fsspec.filesystem(protocol, use_listings_cache=False, **settings)


def _forget(protocol: str) -> None:
    """Let the next request look for credentials again: somebody may have set them meanwhile."""
    type(_store(protocol)).clear_instance_cache()


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
    # Google's ETag changes with the metadata, too, its generation with the content only.
    etag = next((said[key] for key in ("ETag", "generation", "etag") if said.get(key)), None)
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
        _forget(protocol)
        reason = f"the store refuses it with the credentials of this process ({_words(error)})"
        raise PermissionError(errno.EACCES, reason, url) from None
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "exists", url) from None
    except Exception as error:  # noqa: BLE001 - every package has errors of its own
        reason = f"the store did not do it ({type(error).__name__}: {_words(error)})"
        if "credentials" in reason.lower():
            _forget(protocol)
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
_elsewhere: Callable[[Sequence[Span]], list[bytes]] | None = None
