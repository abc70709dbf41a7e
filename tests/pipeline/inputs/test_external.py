"""Raw files whose data lie in other files: taken where that is allowed, and then all of them."""

import os
import shutil

import h5py
import numpy as np
import pytest

import oectflow as of
from oectflow.errors import UnreadableFile
from oectflow.pipeline.cli.app import main
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs.sink import read_table

PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}
NAME = "transient/measurement_data"


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / "raw" / "whole.h5"
    path.parent.mkdir()
    device = simulate_device(2, n_transfer=2, n_transient=3, n_points=21, n_cycles=3, test_id="a")
    device.write(path)
    return path


def storage(file, other):
    data = file[NAME][()]
    del file[NAME]
    other.write_bytes(data.tobytes())
    file.create_dataset(NAME, data.shape, "f8", external=[(str(other), 0, data.nbytes)])


def storage_in_two(file, other):
    data = file[NAME][()].tobytes()
    shape = file[NAME].shape
    del file[NAME]
    parts = [(other, 0, 4096), (other.with_suffix(".2"), 7, len(data) - 4096)]
    other.write_bytes(data[:4096])
    parts[1][0].write_bytes(bytes(7) + data[4096:])
    file.create_dataset(NAME, shape, "f8", external=[(str(p), a, n) for p, a, n in parts])


def link(file, other):
    shutil.copy(file.filename, other)
    del file["transient"]
    file["transient"] = h5py.ExternalLink(str(other), "/transient")


def link_beside(file, other):
    beside = other.parent / "raw" / "beside.bin"
    shutil.copy(file.filename, beside)
    del file["transient"]
    file["transient"] = h5py.ExternalLink("beside.bin", "/transient")


def link_to_link(file, other):
    end = other.with_suffix(".end")
    shutil.copy(file.filename, end)
    with h5py.File(other, "w") as between:
        between["there"] = h5py.ExternalLink(str(end), "/transient")
    del file["transient"]
    file["transient"] = h5py.ExternalLink(str(other), "/there")


def virtual(file, other, **options):
    data = file[NAME][()]
    half = data.shape[1] // 2
    layout = h5py.VirtualLayout(data.shape, "f8")
    for part in (slice(0, half), slice(half, None)):
        with h5py.File(other, "a") as source:
            name = f"from {part.start}"
            source.create_dataset(name, data=data[:, part], **options)
            layout[:, part] = h5py.VirtualSource(source[name])
    del file[NAME]
    file.create_virtual_dataset(NAME, layout)


WAYS = [storage, storage_in_two, link, link_beside, link_to_link, virtual]


@pytest.fixture
def made(whole, tmp_path):
    """Return a function that writes the file that names another one."""

    def make(way, **options):
        path = shutil.copy(whole, whole.with_name("names.h5"))
        with h5py.File(path, "r+") as file:
            way(file, tmp_path / "other.bin", **options)
        return path

    return make


@pytest.mark.parametrize("way", WAYS)
def test_what_lies_elsewhere_is_read_and_belongs_to_the_file(whole, made, tmp_path, way):
    truth = of.Experiment(whole).step("transient", 1)
    path = made(way)
    with pytest.raises(UnreadableFile, match=r"allow_external=True \(--allow-external\)"):
        of.Experiment(path)
    experiment = of.Experiment(path, allow_external=True)
    step = experiment.step("transient", 1)
    np.testing.assert_array_equal(step["drain_current"], truth["drain_current"])
    others = [other for other, *_ in experiment.identity.others]
    assert others
    assert str(path) not in others
    digests = {experiment.content_hash()}
    for other in others:
        with open(other, "ab") as file:  # noqa: PTH123
            file.write(b"x")
        with pytest.raises(UnreadableFile, match="changed since its metadata was read"):
            experiment.step("transient", 0)
        digests.add(of.Experiment(path, allow_external=True).content_hash())
    assert len(digests) == len(others) + 1


@pytest.mark.parametrize("way", WAYS)
def test_a_change_of_the_target_is_a_change_of_the_raw_file(made, tmp_path, way):
    path = made(way)
    out = tmp_path / "out"
    options = {"allow_external": True, "progress": False}
    assert not of.extract(path, PEAK, out, progress=False).ok
    assert of.extract(path, PEAK, out, **options).ok
    before = read_table(out / "a.parquet")
    assert of.extract(path, PEAK, out, **options).counts == {"unchanged": 1}
    assert of.plan(path, PEAK, out, allow_external=True).n_unchanged == 1
    # The file itself stays as it is, and so does the size of the other.
    for other, *_ in of.Experiment(path, allow_external=True).identity.others:
        if h5py.is_hdf5(other):
            with h5py.File(other, "r+") as file:
                for name in ("from 0", NAME):
                    if name in file:
                        file[name][2] *= 2
        else:
            with open(other, "r+b") as file:  # noqa: PTH123
                values = np.frombuffer(file.read()[-64:], np.float64) * 2
                file.seek(-64, os.SEEK_END)
                file.write(values.tobytes())
    assert of.extract(path, PEAK, out, **options).counts == {"done": 1}
    assert not read_table(out / "a.parquet").equals(before)
    assert of.extract(path, PEAK, out, verify="content", **options).counts == {"unchanged": 1}


def test_command_line(made, tmp_path, capsys, monkeypatch):
    run = ["oectflow", "extract", str(made(link)), "-f", "transient_tau", "-o", "out", "-q"]
    monkeypatch.chdir(tmp_path)
    statuses = []
    for more in ([], ["--allow-external"], ["--allow-external", "--dry-run"], ["--dry-run"]):
        monkeypatch.setattr("sys.argv", [*run, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        statuses.append(ended.value.code)
    assert statuses == [1, 0, 0, 1]
    assert "(--allow-external)" in capsys.readouterr().out


def short(file, other):
    storage(file, other)
    os.truncate(other, other.stat().st_size - 1)


def gone(file, other):
    virtual(file, other)
    other.unlink()


def no_dataset(file, other):
    virtual(file, other)
    with h5py.File(other, "r+") as source:
        source.move("from 0", "renamed")


def link_to_nothing(file, other):
    link(file, other)
    with h5py.File(other, "r+") as source:
        del source["transient"]


def holes(file, other):
    virtual(file, other)
    with h5py.File(other, "r+") as source:
        shape = source["from 0"].shape
        del source["from 0"]
        source.create_dataset("from 0", shape, "f8", chunks=(1, 64))[0] = 1.0


def never_written(file, other):
    virtual(file, other)
    with h5py.File(other, "r+") as source:
        shape = source["from 0"].shape
        del source["from 0"]
        source.create_dataset("from 0", shape, "f8")


def smaller(file, other):
    virtual(file, other)
    with h5py.File(other, "r+") as source:
        data = source["from 0"][:, :-1]
        del source["from 0"]
        source["from 0"] = data


def part(file, other):
    virtual(file, other)
    layout = h5py.VirtualLayout(file[NAME].shape, "f8")
    with h5py.File(other, "r") as source:
        layout[:, : source["from 0"].shape[1]] = h5py.VirtualSource(source["from 0"])
    del file[NAME]
    file.create_virtual_dataset(NAME, layout)


def twice(file, other):
    virtual(file, other)
    layout = h5py.VirtualLayout(file[NAME].shape, "f8")
    with h5py.File(other, "r") as source:
        for _ in range(2):
            layout[:, : source["from 0"].shape[1]] = h5py.VirtualSource(source["from 0"])
    del file[NAME]
    file.create_virtual_dataset(NAME, layout)


def of_virtual(file, other):
    layout = h5py.VirtualLayout(file[NAME].shape, "f8")
    layout[...] = h5py.VirtualSource(file[NAME])
    file.move(NAME, "real")
    file.create_virtual_dataset("between", layout)
    layout = h5py.VirtualLayout(file["real"].shape, "f8")
    layout[...] = h5py.VirtualSource(".", "between", file["real"].shape)
    file.create_virtual_dataset(NAME, layout)


def relative(file, other):
    data = file[NAME][()]
    del file[NAME]
    file.create_dataset(NAME, data.shape, "f8", external=[("other.bin", 0, data.nbytes)])


@pytest.mark.parametrize(
    ("way", "words"),
    [
        (short, "bytes, expected"),
        (gone, "but there is no file"),
        (no_dataset, "but there is no such dataset"),
        (link_to_nothing, "/transient is a link to '/transient', which is not there"),
        (holes, "chunks are stored"),
        (never_written, "nothing was ever stored"),
        (smaller, "which has the shape"),
        (part, "expected a source for each value"),
        (twice, "expected a source for each value"),
        (of_virtual, "virtual dataset"),
        (relative, "expected an absolute path"),
    ],
)
def test_what_is_missing_elsewhere_is_refused(made, way, words):
    with pytest.raises(UnreadableFile, match=words):
        of.Experiment(made(way), allow_external=True)


def test_a_virtual_dataset_of_this_file(whole, made):
    def own(file, other):
        file.move(NAME, "real")
        layout = h5py.VirtualLayout(file["real"].shape, "f8")
        layout[...] = h5py.VirtualSource(".", "real", file["real"].shape)
        file.create_virtual_dataset(NAME, layout)

    experiment = of.Experiment(made(own), allow_external=True)
    assert experiment.identity.others == ()
    truth = of.Experiment(whole).step("transient", 0)["drain_current"]
    np.testing.assert_array_equal(experiment.step("transient", 0)["drain_current"], truth)


def test_cycles_end(shared_data, tmp_path):
    path = tmp_path / "cyclic.h5"
    shutil.copy(shared_data / "faults" / "03-segfault-in-callers-process/virtual_cyclic.h5", path)
    with pytest.raises(UnreadableFile, match="virtual dataset itself"):
        of.Experiment(path, allow_external=True)


def test_a_soft_link_that_leads_nowhere_is_named(whole):
    with h5py.File(whole, "r+") as file:
        file.move("transient", "measured")
        file["transient"] = h5py.SoftLink("/missing")
    with pytest.raises(UnreadableFile, match="/transient is a link to '/missing', which is not"):
        of.Experiment(whole)
