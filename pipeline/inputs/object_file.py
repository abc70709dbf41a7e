"""HDF5 in an object store, read by few requests.

A small object is fetched whole.  Of a large one, HDF5 reads its metadata in many small pieces here
and there, each of which would be a request: the begin is fetched at once, so are all nodes of an
index of chunks as soon as the node above names them, and whatever HDF5 has asked for is kept.
These pieces are the file's index: a run puts them beside its costs, and whoever has them needs no
request to open the file.  Samples are fetched by :func:`fetch_chunks`, all chunks of a batch
together.

Every range is of the version that the path names, or an error.
"""

from __future__ import annotations

import bisect
import contextlib
import io
import itertools
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, cast
from weakref import WeakValueDictionary

import h5py
import xxhash

from oectflow.atomic_write import atomic_write
from oectflow.object_store import WHOLE, do_together
from oectflow.place import RemotePath, as_remote

#: Where indexes stand in a folder of results.
FOLDER = ".oectflow-index"
#: What is fetched at the begin of a large file, and at least with any other piece, in bytes: a
#: request takes as long as 5 MB.
_BEGIN, _PIECE = 2 * 2**20, 256 * 2**10
#: More than the index of any file, in bytes; of a file that is not in chunks, all reads look alike.
_LARGEST = 32 * 2**20
_NODE = b"TREE\x01"
_Value = TypeVar("_Value")


class Pieces:
    """Pieces of one version of a file, by where they begin."""

    def __init__(self) -> None:
        self.size = 0
        self._starts: list[int] = []
        self._content: dict[int, bytes] = {}

    def add(self, start: int, content: bytes) -> None:
        """Keep a piece; of two with one begin, the longer."""
        before = self._content.get(start)
        more = len(content) - len(before or b"")
        if more > 0:
            self._content[start] = content
            self.size += more
        if more > 0 and before is None:
            bisect.insort(self._starts, start)

    def find(self, start: int, n: int) -> bytes | None:
        """Return ``n`` bytes from one piece, None where no piece has them all."""
        i = bisect.bisect_right(self._starts, start)
        # A long piece may begin before some short ones.
        for begin in reversed(self._starts[max(0, i - 8) : i]):
            content = self._content[begin]
            if start + n <= begin + len(content):
                return content[start - begin : start - begin + n]
        return None

    def items(self) -> list[tuple[int, bytes]]:
        """Return begin and content of each."""
        return [(start, self._content[start]) for start in self._starts]


class ObjectFile(io.RawIOBase):
    """One version of an object as a file for h5py."""

    def __init__(self, path: RemotePath) -> None:
        about = path.about()
        self.path, self.size, self._at = path, about.size, 0
        self.key = (str(path), about.etag)
        self._whole = path.read_bytes() if is_small(path) else None
        self._index = _indexes.get(self.key)
        self._fetched = _begun.get(self.key) or Pieces()
        self._samples, self._asked = Pieces(), Pieces()
        #: What a request raised, which HDF5 makes something else of.
        self.error: OSError | None = None
        self._name = f"object-{id(self)}"
        _open_files[self._name] = self

    def __repr__(self) -> str:
        # h5py takes it for the file's name, by which a dataset leads here.
        return self._name

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: D102
        self._at = offset + (0, self._at, self.size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:  # noqa: D102
        n = max(0, min(len(buffer), self.size - self._at))
        try:
            buffer[:n] = self._read(self._at, n)
        except OSError as error:
            self.error = error
            raise
        self._at += n
        return n

    def fetch(self, spans: Sequence[tuple[int, int]], *, keep: bool = True) -> None:
        """Fetch ranges of bytes together, for reads that follow.

        ``keep`` makes those reads part of the index.
        """
        pieces = self._fetched if keep else self._samples
        missing = [
            (start, stop)
            for start, stop in spans
            if self._whole is None and self._piece(start, stop - start) is None
        ]
        if missing:
            for (start, _), content in zip(missing, self.path.read_spans(missing), strict=True):
                pieces.add(start, content)

    def parts(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return ranges of bytes for another process that reads the file."""
        self.fetch(spans)
        return [self._piece(start, stop - start) or b"" for start, stop in spans]

    def keep_begun(self) -> None:
        """Keep what was fetched for whoever opens the file next."""
        _begun.put(self.key, self._fetched)

    def keep_index(self, spans: Sequence[tuple[int, int]] = ()) -> None:
        """Keep what HDF5 has asked for, here or as another process says."""
        for start, stop in spans:
            self._asked.add(start, self._piece(start, stop - start) or b"")
        if self._whole is not None or not self._asked.items():
            return
        kept = _indexes.get(self.key) or Pieces()
        for start, content in self._asked.items():
            if kept.size < _LARGEST and kept.find(start, len(content)) is None:
                kept.add(start, content)
        _indexes.put(self.key, kept)

    def _piece(self, start: int, n: int) -> bytes | None:
        if self._whole is not None:
            return self._whole[start : start + n]
        some = (self._samples, self._fetched, *([self._index] if self._index else ()))
        return next((found for one in some if (found := one.find(start, n)) is not None), None)

    def _read(self, start: int, n: int) -> bytes:
        if self._whole is not None:
            return self._whole[start : start + n]
        content = self._samples.find(start, n)
        if content is not None:
            return content
        content = self._piece(start, n)
        if content is None:
            stop = max(start + n, start + _PIECE if start else _BEGIN)
            self.fetch([(start, min(self.size, stop))])
            content = self._piece(start, n) or b""
        self._asked.add(start, content)
        if content.startswith(_NODE) and content[5] > 0:
            with contextlib.suppress(OSError):
                self.fetch(_nodes_below(content, self.size))
        return content


def look_ahead(paths: Iterable[Path]) -> None:
    """Fetch the begins of large files together, and the nodes of indexes that those name."""

    def fetch(path: RemotePath) -> None:
        source = ObjectFile(path)
        source.fetch([(0, min(_BEGIN, source.size))])
        source.keep_begun()
        begin = source.parts([(0, min(_BEGIN, source.size))])[0]
        nodes = (_node(begin, found.start()) for found in re.finditer(_NODE, begin))
        source.fetch([span for node in nodes for span in _nodes_below(node, source.size)])

    do_together(fetch, [path for path in map(as_remote, paths) if path and not is_small(path)])


def _node(content: bytes, at: int) -> bytes:
    """Return what looks like a node above others of an index of chunks of two axes, or nothing."""
    node = content[at : at + 24 + 64 * 8 + 65 * 32]
    n = int.from_bytes(node[6:8], "little")
    # The last offset of a chunk is within an element.
    inside = [node[24 + i * 40 + 24 : 24 + i * 40 + 32] for i in range(n)]
    looks_so = len(node) == 24 + 64 * 8 + 65 * 32 and node[5] > 0 and n <= 64
    return node if looks_so and not any(map(any, inside)) else b""


def _nodes_below(node: bytes, size: int) -> list[tuple[int, int]]:
    """Return where the nodes lie that a node of an index of chunks names.

    It is a guess for reading ahead: HDF5 reads the node itself, and what is wrong is not used.
    """
    # Signature, kind, level, number of entries, two neighbours; then keys and children in turn.
    n = int.from_bytes(node[6:8], "little")
    for most in (64, 32, 16, 128):
        width, rest = divmod(len(node) - 24 - 8 * most, most + 1)
        if rest == 0 and width in (24, 32, 40) and n <= most:
            break
    else:
        return []
    places = [24 + width + i * (width + 8) for i in range(n)]
    begins = [int.from_bytes(node[at : at + 8], "little") for at in places]
    return [(at, at + len(node)) for at in begins if 0 < at <= size - len(node)]


def is_small(path: RemotePath) -> bool:
    """Whether an object is fetched whole; what is in memory is not sent."""
    return path.about().size <= WHOLE or path.protocol == "memory"


def fetch_chunks(
    dataset: h5py.Dataset, *boxes: Sequence[tuple[int, int]], keep: bool = False
) -> None:
    """Fetch all chunks that have to do with boxes of a dataset, if it lies in an object.

    Parameters
    ----------
    dataset
        In chunks or not.
    *boxes
        Begin and end along each axis.
    keep
        Whether they are metadata.
    """
    if not _open_files or dataset.chunks is None:
        return
    source = _open_files.get(dataset.file.filename)
    if source is None or source._whole is not None:
        return
    key = (*source.key, dataset.name)
    places = _chunks.get(key)
    if places is None:
        places = dict[tuple[int, ...], tuple[int, int]]()
        dataset.id.chunk_iter(
            lambda chunk: places.__setitem__(
                chunk.chunk_offset, (chunk.byte_offset, chunk.byte_offset + chunk.size)
            )
        )
        _chunks.put(key, places)
    spans = set()
    for box in boxes:
        grid = [
            range(first // step * step, last, step)
            for (first, last), step in zip(box, dataset.chunks, strict=True)
        ]
        spans |= {places[at] for at in itertools.product(*grid) if at in places}
    source.fetch(sorted(spans), keep=keep)


@contextlib.contextmanager
def open_object(path: Path) -> Iterator[h5py.File]:
    """Open a raw file in a store for reading; what h5py raises, and OSError of the store."""
    source = ObjectFile(cast("RemotePath", path))
    try:
        with h5py.File(source, "r") as file:
            yield file
    except Exception as error:  # noqa: BLE001 - it is raised, or what caused it
        raise source.error or error from None
    finally:
        _open_files.pop(repr(source), None)
    source.keep_index()
    _begun.drop(source.key)


def index_of(path: Path, folder: Path) -> Path:
    """Return where the index of a file stands, or would stand, in a folder of results."""
    return folder / FOLDER / _name((str(path), cast("RemotePath", path).about().etag))


def save_index(path: Path, folder: Path) -> None:
    """Put the index of a large file into a folder of results, unless it is there; OSError."""
    remote = cast("RemotePath", path)
    key = (str(path), remote.about().etag)
    pieces = _indexes.get(key)
    target = index_of(path, folder)
    if pieces is None or is_small(remote) or target in _saved:
        return
    (folder / FOLDER).mkdir(exist_ok=True)
    with atomic_write(target) as temporary:
        temporary.write_bytes(packed(pieces))
    _saved.add(target)


def load_index(path: Path, folder: Path) -> bool:
    """Take the index of a file from a folder of results, and say whether one is there."""
    remote = cast("RemotePath", path)
    if is_small(remote):
        return False
    key = (str(path), remote.about().etag)
    source = index_of(path, folder)
    if source not in _saved and _indexes.get(key) is None:
        try:
            pieces = unpacked(source.read_bytes())
        except OSError:
            return False
        if pieces is None:
            return False
        _indexes.put(key, pieces)
        _saved.add(source)
    return source in _saved


def packed(pieces: Pieces) -> bytes:
    """Return pieces of a file as they are stored: a digest, where they lie, and their bytes."""
    items = pieces.items()
    places = json.dumps([[start, len(content)] for start, content in items]).encode()
    body = places + b"\n" + b"".join(content for _, content in items)
    return xxhash.xxh3_128_hexdigest(body).encode() + b"\n" + body


def unpacked(stored: bytes) -> Pieces | None:
    """Return the pieces again, None where they are not what was stored."""
    digest, _, body = stored.partition(b"\n")
    if xxhash.xxh3_128_hexdigest(body).encode() != digest:
        return None
    places, _, content = body.partition(b"\n")
    pieces, at = Pieces(), 0
    for start, n in json.loads(places):
        pieces.add(start, content[at : at + n])
        at += n
    return pieces


def asked_of(path: Path) -> list[tuple[int, int]]:
    """Return the ranges of a file that HDF5 has asked for in this process."""
    pieces = _indexes.get((str(path), cast("RemotePath", path).about().etag))
    return [] if pieces is None else [(at, at + len(one)) for at, one in pieces.items()]


def _name(key: tuple[str, str]) -> str:
    return xxhash.xxh3_128_hexdigest("\0".join(key).encode())


class _Last(Generic[_Value]):
    """The values that were used last."""

    def __init__(self, most: int = 256) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, ...], _Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...]) -> _Value | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[str, ...], value: _Value) -> None:
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def drop(self, key: tuple[str, ...]) -> None:
        with self._lock:
            self._kept.pop(key, None)


#: Of files of which a process keeps the index, what was fetched before they were opened, and the
#: places of chunks.
_indexes: _Last[Pieces] = _Last()
_begun: _Last[Pieces] = _Last(64)
_chunks: _Last[dict[tuple[int, ...], tuple[int, int]]] = _Last()
#: Indexes that are known to stand in a folder of results: of files that are no danger to HDF5.
_saved: set[Path] = set()
_open_files: WeakValueDictionary[str, ObjectFile] = WeakValueDictionary()
