"""What we rely on of stores that no test can start: answers in the words of gcsfs and adlfs.

``info`` of these classes has the keys, and puts and errors the meaning, that both packages have in
their code of 2026.8.  It is no proof that they do so.
"""

from __future__ import annotations

import itertools
import sys
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from fsspec.spec import AbstractFileSystem

from oectflow import object_store
from oectflow.errors import InputError, OutputError
from oectflow.pipeline.execution.driving import lease
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.place import place


class Bucket(AbstractFileSystem):
    """Objects by name: content, number of the version, and when it was put."""

    cachable = False
    objects: ClassVar[dict[str, tuple[bytes, int, datetime]]] = {}
    versions = itertools.count(1)

    def info(self, path, **_):
        name = self._strip_protocol(path)
        if name in self.objects:
            content, version, when = self.objects[name]
            return {"name": name, "size": len(content), "type": "file"} | self.said(version, when)
        if any(other.startswith(f"{name}/") for other in self.objects):
            return {"name": name, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def find(self, path, detail=False, **_):
        start = self._strip_protocol(path).rstrip("/") + "/"
        names = [name for name in sorted(self.objects) if name.startswith(start)]
        return {name: self.info(name) for name in names} if detail else names

    def cat_file(self, path, start=None, end=None, **_):
        self.info(path)
        return self.objects[self._strip_protocol(path)][0][start:end]

    def pipe_file(self, path, value, mode="overwrite", **_):
        name = self._strip_protocol(path)
        if mode == "create" and name in self.objects:
            raise FileExistsError(path)
        self.objects[name] = bytes(value), next(self.versions), datetime.now(UTC)

    def rm_file(self, path):
        self.info(path)
        del self.objects[self._strip_protocol(path)]


class Google(Bucket):
    protocol = "gs"

    def said(self, version, when):
        # A change of the metadata gives another ETag, and this one changes all the time.
        etag = f"CL{next(self.versions)}="
        return {"generation": str(version), "etag": etag, "mtime": when, "ctime": when}


class Azure(Bucket):
    protocol = "abfs"

    def said(self, version, when):
        return {"etag": f'"0x8D{version:X}"', "last_modified": when, "metadata": None}


@pytest.fixture(params=[Google, Azure])
def store(request, monkeypatch):
    kind = request.param
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, kind.protocol, kind)
    monkeypatch.setattr(object_store, "what_to_install", lambda protocol: "")
    object_store._contents._kept.clear()
    Bucket.objects.clear()
    return f"{kind.protocol}://lab"


def filled(store, lab):
    for path in lab.iterdir():
        place(f"{store}/raw/{path.name}").write_bytes(path.read_bytes())
    return f"{store}/raw"


def test_raw_files_are_found_and_read(store, lab):
    raw = filled(store, lab)
    found = sorted(place(raw).glob("*.h5"))
    assert [path.name for path in found] == sorted(path.name for path in lab.iterdir())
    there, here = Experiment(found[0]), Experiment(lab / found[0].name)
    for source in here.sources:
        one, other = (e.batch(source, 0, e.n_steps(source)) for e in (there, here))
        for name, array in other.arrays.items():
            assert one.arrays[name].tobytes() == array.tobytes()
    # The same version, asked again.
    assert Experiment(found[0]).identity == there.identity


@pytest.mark.parametrize("large", [False, True])
def test_another_version_is_not_read(store, large, monkeypatch):
    if large:
        monkeypatch.setattr(object_store, "WHOLE", 0)
    path = place(f"{store}/a")
    path.write_bytes(b"one")
    known = path.of_version(path.about())
    assert known.read_spans([(0, 3)]) == [b"one"]
    path.write_bytes(b"two")
    with pytest.raises(OSError, match="was replaced while it was read"):
        known.read_spans([(0, 3)])


def test_a_lock_is_of_one(store):
    lock = place(f"{store}/out/.oectflow.lock")
    with (
        lease.only_one_with(lock),
        pytest.raises(OutputError, match="another run is writing here"),
        lease.only_one_with(lock),
    ):
        pass
    with lease.only_one_with(lock):
        pass
    assert not Bucket.objects


def test_an_object_is_put_only_if_there_is_none(store):
    path = place(f"{store}/once")
    assert path.put_if_absent(b"one")
    assert not path.put_if_absent(b"other")
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize(("version", "old"), [("2024.10.0", True), ("2024.12.0", False)])
def test_a_package_without_conditional_puts_is_refused(version, old, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    if old:
        with pytest.raises(InputError, match=r"pip install 'adlfs>=2024.12'"):
            place("abfs://lab/raw", InputError)
    else:
        assert str(place("abfs://lab/raw", InputError)) == "abfs://lab/raw"
