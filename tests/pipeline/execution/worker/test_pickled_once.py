"""What travels to the workers is unpickled there, once, and nowhere on the way."""

from __future__ import annotations

import pickle
import threading

import cloudpickle
import pytest

from oectflow.extractors.base import get_extractor
from oectflow.pipeline.execution.worker.pickled_once import PickledOnce
from oectflow.pipeline.execution.worker.tasks import named_extractors


class Counted:
    """Counts in files how often it was pickled and unpickled, in whatever process."""

    def __init__(self, folder):
        self.folder = folder

    def __getstate__(self):
        count(self.folder / "pickled")
        return self.folder

    def __setstate__(self, folder):
        count(folder / "unpickled")
        self.folder = folder


def count(path):
    with path.open("a") as file:
        file.write("x")


def counts(folder):
    files = (folder / "pickled", folder / "unpickled")
    return [len(file.read_text()) if file.exists() else 0 for file in files]


def test_sealed__is_pickled_once_and_not_opened_on_the_way(tmp_path):
    pickled = PickledOnce(Counted(tmp_path))
    assert pickled.value.folder == tmp_path
    assert counts(tmp_path) == [0, 0]
    arrived = pickled
    # From the client to the scheduler, and from there to a worker.
    for _ in range(2):
        arrived = pickle.loads(cloudpickle.dumps(arrived))
    again = pickle.loads(pickle.dumps(pickled))
    assert counts(tmp_path) == [1, 0]
    assert arrived.value is again.value
    assert arrived.value.folder == tmp_path
    assert counts(tmp_path) == [1, 1]


def test_sealed__what_cannot_be_pickled_says_so():
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(PickledOnce(threading.Lock()))


def test_feature_specs__keep_their_extractors():
    names = ("tau_on_off", "peak_current")
    extractors = {name: get_extractor(f"transient.{name}") for name in names}
    specs = named_extractors(extractors)
    arrived = pickle.loads(pickle.dumps(tuple(specs.values())))
    for spec, name in zip(arrived, names, strict=True):
        assert spec.name == name
        assert type(spec.extractor) is type(extractors[name])
        assert spec.extractor.params == extractors[name].params
