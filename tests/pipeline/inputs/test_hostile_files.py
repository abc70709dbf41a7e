"""Files that hang or kill who reads them, or point elsewhere: one failed experiment each."""

import shutil
import threading

import h5py
import numpy as np
import pytest

import oectflow as of
from oectflow.errors import UnreadableFile
from oectflow.pipeline.inputs import guard
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_device

PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}


@pytest.fixture
def device(tmp_path):
    path = tmp_path / "raw" / "device.h5"
    path.parent.mkdir()
    simulate_device(2, n_transfer=2, n_transient=3, n_points=21, n_cycles=3).write(path)
    return path


def run(device, n_failed=1):
    """Extract the folder of a bad file that has a good one beside it."""
    good = device.parent / "good.h5"
    simulate_device(3, n_transfer=2, n_transient=3, n_points=21, test_id="good").write(good)
    report = of.extract(device.parent, PEAK, device.parent.parent / "out", progress=False)
    assert report.counts == {"done": 1, "failed": n_failed}
    return report.failed[0].reason


def test_metadata_without_an_end(shared_data, device):
    shutil.copy(shared_data / "faults" / "02-endless-attributes" / "swap-35.h5", device)
    assert "did not end within 6 s of CPU time" in run(device)
    # Nobody waits a second time.
    with pytest.raises(UnreadableFile, match="did not end"):
        Experiment(device)


@pytest.fixture
def deadly(monkeypatch):
    """A child that dies of every file whose name says so."""
    code = (
        "import os, oectflow.pipeline.inputs.experiment as e; init = e.Experiment.__init__\n"
        "def deadly(self, path, **options):\n"
        "    if 'deadly' in str(path): os.kill(os.getpid(), {})\n"
        "    init(self, path, **options)\n"
        "e.Experiment.__init__ = deadly\n"
    )
    head, tail = guard._CODE.split("; ", 2)[0:2], guard._CODE.split("; ", 2)[2]
    monkeypatch.setattr(guard, "_child", guard._Child())
    yield lambda n: monkeypatch.setattr(guard, "_CODE", "\n".join([*head, code.format(n), tail]))
    guard._child.stop()


@pytest.mark.parametrize(("number", "word"), [(11, "SIGSEGV"), (9, "SIGKILL"), (6, "SIGABRT")])
def test_a_file_that_kills_its_reader_is_one_failed_experiment(device, deadly, number, word):
    deadly(number)
    device = device.rename(device.with_name("deadly.h5"))
    reason = run(device)
    assert f"ended a process by {word}" in reason
    assert str(device) in reason


def test_the_child_is_kept_and_started_again_after_its_death(device, deadly):
    deadly(11)
    Experiment(device)
    first = guard._child._process
    other = shutil.copy(device, device.with_name("other.h5"))
    Experiment(other)
    assert guard._child._process is first
    with pytest.raises(UnreadableFile, match="SIGSEGV"):
        Experiment(shutil.copy(device, device.with_name("deadly.h5")))
    third = shutil.copy(device, device.with_name("third.h5"))
    assert Experiment(third).sources == ("transfer", "transient")
    assert guard._child._process not in (first, None)


def test_a_file_that_was_seen_is_not_looked_at_again(device, monkeypatch):
    Experiment(device)
    monkeypatch.setattr(guard, "_child", None)
    assert Experiment(device).sources == ("transfer", "transient")


def test_many_threads_share_one_child(device):
    paths = [shutil.copy(device, device.with_name(f"{i}.h5")) for i in range(8)]
    seen = []
    threads = [threading.Thread(target=lambda p=p: seen.append(Experiment(p))) for p in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8


def test_without_a_process_to_be_had_files_are_read(device, monkeypatch):
    def none(*args, **options):
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(guard, "_child", guard._Child())
    monkeypatch.setattr(guard.subprocess, "Popen", none)
    assert Experiment(device).sources == ("transfer", "transient")


@pytest.mark.parametrize(
    "name",
    ["03-segfault-in-callers-process/virtual_cyclic", "09-external-data/virtual_missing_source"],
)
def test_virtual_datasets(shared_data, device, name):
    shutil.copy(shared_data / "faults" / f"{name}.h5", device)
    assert "/transient/measurement_data is a virtual dataset" in run(device)


def external_storage(file, secret):
    data = file["transient/measurement_data"][()]
    del file["transient/measurement_data"]
    secret.write_bytes(data.tobytes())
    file["transient"].create_dataset(
        "measurement_data", data.shape, "f8", external=[(str(secret), 0, data.nbytes)]
    )


def external_link(file, secret):
    shutil.copy(file.filename, secret)
    del file["transient"]
    file["transient"] = h5py.ExternalLink(str(secret), "/transient")


def soft_link_through_an_external_one(file, secret):
    external_link(file, secret)
    file.move("transient", "elsewhere")
    file["transient"] = h5py.SoftLink("/elsewhere")


def linked_json(file, secret):
    shutil.copy(file.filename, secret)
    del file["raw/json"]
    file["raw/json"] = h5py.ExternalLink(str(secret), "/raw/json")


def virtual(file, secret):
    data = file["transient/measurement_data"][()]
    with h5py.File(secret, "w") as other:
        other["x"] = data
    layout = h5py.VirtualLayout(data.shape, "f8")
    layout[...] = h5py.VirtualSource(str(secret), "x", data.shape)
    del file["transient/measurement_data"]
    file["transient"].create_virtual_dataset("measurement_data", layout)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (external_storage, "/transient/measurement_data is stored in 1 other file"),
        (external_link, "/transient is a link to"),
        (soft_link_through_an_external_one, "/elsewhere is a link to"),
        (linked_json, "/raw/json is a link to"),
        (virtual, "/transient/measurement_data is a virtual dataset"),
    ],
)
def test_data_that_lie_elsewhere_are_refused(device, change, words):
    with h5py.File(device, "r+") as file:
        change(file, device.parent.parent / "secret.bin")
    assert words in run(device)


def test_links_within_a_file(device):
    truth = Experiment(device).step("transient", 0)["drain_current"]
    with h5py.File(device, "r+") as file:
        file.move("transient", "measured")
        file["transient"] = h5py.SoftLink("/measured")
        file["measured/itself"] = file["measured"]
    np.testing.assert_array_equal(Experiment(device).step("transient", 0)["drain_current"], truth)
