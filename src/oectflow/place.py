"""Places: files and folders of this machine, or of an object store, as a URL names them.

Whoever takes a place from a user turns it into a path with :func:`place`.  What lies on this
machine is a :class:`pathlib.Path` and nothing else; what lies in a store is a :class:`RemotePath`,
which does of that class's work what we need: names, stat, list, read, put, delete.  What it does
not do, it has not, and it is no path to anything else, so that nothing falls back on the disk of
this machine.
"""

from __future__ import annotations

import errno
import fnmatch
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, Any, NoReturn, cast

from oectflow import object_store
from oectflow.errors import OectflowError
from oectflow.object_store import PACKAGES, WHOLE, Info, Span

# Two letters at least: C:/ is a disk.  A Path has lost one of the slashes.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+")
_EXPECTED = "expected a path of this machine, or s3://, gs://, abfs://, file:// or memory://"


def is_url(text: object) -> bool:
    """Whether a text or path is a URL."""
    if isinstance(text, RemotePath):
        return True
    return isinstance(text, str | os.PathLike) and bool(_URL.match(os.fspath(text)))


def place(text: str | os.PathLike[str], error: type[OectflowError] = OectflowError) -> Path:
    """Return the path of a place; what begins with ``~`` and ``file://`` is of this machine.

    Raises
    ------
    OectflowError
        As ``error``: a URL of another kind, without a bucket, with credentials or options in it, or
        of a store whose package is not installed.
    """
    if isinstance(text, RemotePath):
        return cast("Path", text)
    found = _URL.match(os.fspath(text))
    if found is None:
        return Path(text).expanduser()
    protocol, rest = found[1].lower(), os.fspath(text)[found.end() :]
    if protocol == "file":
        return Path("/" + rest)
    if protocol not in PACKAGES:
        raise error(f"{protocol}://…: no such place; {_EXPECTED}")
    if re.match(r"[^/]*:[^/]*@", rest) or re.search(r"\?[^/]*=", rest):
        raise error(
            f"{protocol}://…: there are credentials or options in this URL; they would stand in "
            "results and messages. Put them into the environment of all who read and write, such "
            "as AWS_ACCESS_KEY_ID"
        )
    if not rest.strip("/"):
        raise error(f"{protocol}://: names no bucket, expected {protocol}://bucket/folder")
    if missing := object_store.what_to_install(protocol):
        package = PACKAGES[protocol]
        extra = "oectflow[cloud]" if package == "s3fs" else missing
        raise error(f"{protocol}://…: needs the package {missing}; pip install '{extra}'")
    return cast("Path", RemotePath(f"{protocol}:", rest.strip("/")))


def as_remote(path: os.PathLike[str]) -> RemotePath | None:
    """Return the path of an object as such, None for one of this machine."""
    return path if isinstance(path, RemotePath) else None


def is_remote(path: os.PathLike[str]) -> bool:
    """Whether a path lies in an object store."""
    return isinstance(path, RemotePath)


def snapshot(folder: Path) -> Path:
    """Return a folder of a store that knows all its objects as they are now, by one listing.

    What is made from it by ``/`` is asked for no more.  A folder of this machine is returned as it
    is.
    """
    remote = as_remote(folder)
    return folder if remote is None else cast("Path", remote.with_listing())


def walk_objects(folder: Path) -> list[Path]:
    """Return all objects below a folder of a store, each with what the store says of it."""
    remote = cast("RemotePath", folder).with_listing()
    return [cast("Path", path) for path in remote.below()]


def fetch_ahead(paths: Iterable[Path]) -> None:
    """Read small objects together that will be read one by one, as far as they are known."""
    remote = [path for path in map(as_remote, paths) if path is not None]
    object_store.fetch_ahead(
        (path.protocol, path.key, path.known) for path in remote if path.known is not None
    )


class RemoteStatus:
    """What ``stat`` returns of an object, as far as there is anything to say."""

    def __init__(self, about: Info) -> None:
        self.st_mode = (stat.S_IFDIR if about.is_folder else stat.S_IFREG) | 0o666
        self.st_size = about.size
        self.st_mtime_ns = self.st_ctime_ns = about.mtime_ns
        self.etag = about.etag


class RemotePath:
    """An object of a store, or a folder of objects, with the methods of a path.

    Its parts are ``s3:``, the bucket, and the parts of the object's name.  It is no
    :class:`~pathlib.PurePath`: from one of those, ``Path(...)`` makes a path of this machine.
    """

    _listing: Mapping[str, Info] | None = None

    def __init__(self, *parts: str) -> None:
        self._path = PurePosixPath(*parts)

    def __str__(self) -> str:
        protocol, *names = self.parts
        return f"{protocol}//{'/'.join(names)}"

    def __repr__(self) -> str:
        return f"RemotePath({str(self)!r})"

    def __fspath__(self) -> str:
        raise TypeError(f"{self}: is no file of this machine")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other._path == self._path

    def __hash__(self) -> int:
        return hash(self._path)

    def __lt__(self, other: RemotePath) -> bool:
        return self._path < other._path

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_version, (self.parts, self.known)

    def __truediv__(self, name: str | PurePath) -> RemotePath:
        child = RemotePath(*self.parts, *PurePosixPath(name).parts)
        child._listing = self._listing
        return child

    @property
    def parts(self) -> tuple[str, ...]:  # noqa: D102
        return self._path.parts

    @property
    def name(self) -> str:  # noqa: D102
        return self._path.name

    @property
    def stem(self) -> str:  # noqa: D102
        return self._path.stem

    @property
    def suffix(self) -> str:  # noqa: D102
        return self._path.suffix

    @property
    def parent(self) -> RemotePath:  # noqa: D102
        return RemotePath(*self._path.parent.parts)

    @property
    def parents(self) -> Sequence[RemotePath]:  # noqa: D102
        return [RemotePath(*one.parts) for one in self._path.parents if len(one.parts) > 1]

    def with_name(self, name: str) -> RemotePath:  # noqa: D102
        return RemotePath(*self._path.with_name(name).parts)

    def with_suffix(self, suffix: str) -> RemotePath:  # noqa: D102
        return RemotePath(*self._path.with_suffix(suffix).parts)

    def relative_to(self, other: RemotePath) -> PurePosixPath:  # noqa: D102
        return self._path.relative_to(other._path)

    def is_relative_to(self, other: object) -> bool:  # noqa: D102
        return isinstance(other, RemotePath) and self._path.is_relative_to(other._path)

    @property
    def protocol(self) -> str:
        """How the store is spoken to, such as ``s3``."""
        return self.parts[0].rstrip(":")

    @property
    def key(self) -> str:
        """The name as fsspec has it: bucket and name of the object."""
        return ("/" if self.protocol == "memory" else "") + "/".join(self.parts[1:])

    def with_listing(self) -> RemotePath:
        """Return the same with a listing of all that is below it now."""
        path = RemotePath(*self.parts)
        path._listing = object_store.list_objects(self.protocol, self.key)
        return path

    def below(self) -> Iterator[RemotePath]:
        """Yield the objects below it, from its listing or a new one."""
        start = self.key.rstrip("/") + "/"
        listing = self._listing
        if listing is None:
            listing = object_store.list_objects(self.protocol, self.key)
        for key in sorted(listing):
            if key.startswith(start):
                path = RemotePath(self.parts[0], *key.strip("/").split("/"))
                path._listing = listing
                yield path

    @property
    def known(self) -> Info | None:
        """What its listing says of it, None where it says nothing."""
        return None if self._listing is None else self._listing.get(self.key)

    @cached_property
    def _asked(self) -> Info:
        return object_store.info(self.protocol, self.key)

    def about(self) -> Info:
        """Return what its listing says of it, or the store; FileNotFoundError, OSError."""
        if self._listing is None:
            return self._asked
        if self.known is not None:
            return self.known
        if next(self.below(), None) is not None:
            return Info(is_folder=True)
        raise FileNotFoundError(errno.ENOENT, "there is no such object", str(self))

    def of_version(self, about: Info) -> RemotePath:
        """Return the same in one version: what is read of another one is an error."""
        path = RemotePath(*self.parts)
        path._listing = {path.key: about}
        return path

    def fresh(self) -> RemotePath:
        """Return the same without what was said of it before."""
        return RemotePath(*self.parts)

    def stat(self) -> RemoteStatus:  # noqa: D102
        return RemoteStatus(self.about())

    def exists(self) -> bool:  # noqa: D102
        try:
            self.about()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:  # noqa: D102
        return self.exists() and self.about().is_folder

    def is_file(self) -> bool:  # noqa: D102
        return self.exists() and not self.about().is_folder

    def is_symlink(self) -> bool:  # noqa: D102
        return False

    def is_absolute(self) -> bool:  # noqa: D102
        return True

    def absolute(self) -> RemotePath:  # noqa: D102
        return self

    def expanduser(self) -> RemotePath:  # noqa: D102
        return self

    def resolve(self) -> RemotePath:  # noqa: D102
        return self

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a store has no folders, and a bucket is made by its owner."""

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """Yield the objects below it whose names are of a pattern without ``**``."""
        depth = len(self.parts) + pattern.count("/") + 1
        wanted = pattern.split("/")
        for path in self.below():
            own = path.parts[len(self.parts) :]
            if len(path.parts) == depth and all(map(_fits, own, wanted)):
                yield path

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what is right in it, folders too."""
        seen = set()
        for path in self.below():
            name = path.parts[len(self.parts)]
            if name not in seen:
                seen.add(name)
                yield self / name

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,  # noqa: ARG002 - as that of a Path
        encoding: str = "utf-8",
    ) -> IO[Any]:
        """Open one version of it for reading: a small one in memory, a large one by ranges."""
        if set(mode) - set("rbt"):
            raise OSError(errno.EROFS, "an object is put whole, not written in parts", str(self))
        about = self.about()
        if about.is_folder:
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(self))
        if about.size > WHOLE:
            raw: Any = io.BufferedReader(_Ranges(self, about), 2**20)
        else:
            raw = io.BytesIO(self.read_bytes())
        return cast("IO[Any]", raw if "b" in mode else io.TextIOWrapper(raw, encoding))

    def read_bytes(self) -> bytes:  # noqa: D102
        return object_store.read_whole(self.protocol, self.key, self.about())

    def read_text(self, encoding: str = "utf-8") -> str:  # noqa: D102
        return self.read_bytes().decode(encoding)

    def read_spans(self, spans: Sequence[Span]) -> list[bytes]:
        """Read ranges of bytes of one version, by few requests at the same time; OSError."""
        return object_store.read_spans(self.protocol, self.key, self.about(), spans)

    def write_bytes(self, content: bytes) -> int:  # noqa: D102
        object_store.put(self.protocol, self.key, content)
        return len(content)

    def put_if_absent(self, content: bytes) -> bool:
        """Write it unless there is one, and say whether it was written."""
        return object_store.put_if_absent(self.protocol, self.key, content)

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: D102
        try:
            object_store.delete(self.protocol, self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def replace(self, target: RemotePath) -> None:
        """Move it: it is copied, then deleted."""
        object_store.copy(self.protocol, self.key, target.key)
        self.unlink()

    def readlink(self) -> NoReturn:  # noqa: D102
        raise OSError(errno.EINVAL, "is no link", str(self))


def _of_version(parts: tuple[str, ...], about: Info | None) -> RemotePath:
    path = RemotePath(*parts)
    return path if about is None else path.of_version(about)


def _fits(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


class _Ranges(io.RawIOBase):
    """A large object as a file: each read is a request."""

    def __init__(self, path: RemotePath, about: Info) -> None:
        self._path, self._size, self._at = path, about.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        n = max(0, min(len(buffer), self._size - self._at))
        if n:
            (buffer[:n],) = self._path.read_spans([(self._at, self._at + n)])
        self._at += n
        return n
