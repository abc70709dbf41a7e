from __future__ import annotations

import errno
import itertools
import json
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
import xxhash

from oectflow.errors import NotAnExperiment, UnreadableFile
from oectflow.pipeline.inputs.experiment import Experiment, FileIdentity

KINDS = ("regular_serial", "regular_parallel_writer", "ragged_ptype_serial")
STORED = {"compression": "gzip", "shuffle": True, "fletcher32": True}


def write_table(group: h5py.Group, columns: dict[str, Any]) -> None:
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    length = len(next(iter(arrays.values())))
    dtype = [
        (name, h5py.string_dtype() if a.dtype.kind == "U" else a.dtype)
        for name, a in arrays.items()
    ]
    table = np.empty(length, dtype)
    for name, values in arrays.items():
        table[name] = values
    group["step_info_table"] = table


def write_experiment(
    path: Path,
    transfer: Sequence[tuple[Any, Any]] = (),
    transient: Sequence[Any] = (),
    *,
    chunks: Any = None,
    ranges: bool = True,
    columns: dict[str, Any] | None = None,
    **attributes: Any,
) -> Path:
    with h5py.File(path, "w") as file:
        attributes = {"format_version": "2.0_direct_new_storage", "test_id": "test_1"} | attributes
        file.attrs.update(attributes)
        if transfer:
            data = np.full((len(transfer), 2, max(len(vg) for vg, _ in transfer)), np.nan)
            for row, (vg, current) in zip(data, transfer, strict=True):
                row[0, : len(vg)], row[1, : len(vg)] = vg, current
            group = file.create_group("transfer")
            group.create_dataset("measurement_data", data=data, chunks=chunks or True, **STORED)
            write_table(
                group,
                {"step_index": np.arange(len(transfer)), "type": ["transfer"] * len(transfer)},
            )
        if transient:
            lengths = [len(current) for current in transient]
            edges = np.concatenate([[0], np.cumsum(lengths)])
            current = np.concatenate(transient)
            times = np.concatenate([np.arange(n) * 1e-3 for n in lengths])
            data = np.stack([np.arange(len(current)) * 1e-3, times, current])
            group = file.create_group("transient")
            group.create_dataset("measurement_data", data=data, chunks=chunks or True, **STORED)
            table = {"step_index": np.arange(len(transient))} | (columns or {})
            if ranges:
                table |= {"start_data_index": edges[:-1], "end_data_index": edges[1:]}
            write_table(group, table)
    return path


def traces(lengths: Sequence[int], seed: int = 1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=n) for n in lengths]


def sweeps(lengths: Sequence[int], seed: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (np.linspace(0, 1, n), current)
        for n, current in zip(lengths, traces(lengths, seed), strict=True)
    ]


@pytest.fixture(params=KINDS)
def real(request, shared_data, expected):
    about = expected[request.param]
    return Experiment(shared_data / "oect_infra" / about["file"]), about


# --- the files that users have ------------------------------------------------------------------


def test_attributes__real_files(real):
    experiment, about = real
    given = about["layout"]["attrs"]
    assert experiment.attributes == given
    assert {type(experiment.attributes[name]) for name in given} <= {str, int, float, bool}
    assert experiment.format_version == given["format_version"]
    assert experiment.experiment_id == given["test_id"]
    assert (experiment.chip_id, experiment.device_id) == (given["chip_id"], given["device_number"])


def test_layout__real_files(real):
    experiment, about = real
    assert experiment.sources == ("transfer", "transient")
    for source in experiment.sources:
        stored = about["layout"][f"{source}/measurement_data"]
        layout = experiment.layout(source)
        n_steps = about["layout"][f"{source}/step_info_table"]["shape"][0]
        assert layout.n_steps == experiment.n_steps(source) == n_steps
        if source == "transfer":
            assert layout.lengths.tolist() == [stored["shape"][2]] * n_steps
            assert layout.nbytes_per_sample == 16
        else:
            assert layout.lengths.tolist() == about["loader_lengths"]["transient"]
            assert layout.nbytes_per_sample == 24


def test_step_table__real_files(real):
    experiment, about = real
    for source in experiment.sources:
        rows = about["layout"][f"{source}/step_info_table"]["rows"]
        columns = about["layout"][f"{source}/step_info_table"]["attrs"]["columns"]
        table = experiment.step_table(source)
        assert list(table.columns) == columns
        assert table.to_numpy(object).tolist() == rows


def test_lengths__real_files(real):
    experiment, about = real
    for source, name in (("transfer", "Vg"), ("transient", "drain_current")):
        n_steps = experiment.n_steps(source)
        lengths = [len(experiment.step(source, i)[name]) for i in range(n_steps)]
        assert lengths == about["loader_lengths"][source]
        batch = experiment.batch(source, 0, n_steps)
        assert np.diff(batch.offsets).tolist() == lengths


def test_continuous_time__real_files(real):
    experiment, about = real
    for i, ends in enumerate(about["continuous_time_first_last"]):
        assert experiment.step("transient", i)["continuous_time"][[0, -1]].tolist() == ends


def test_samples__are_those_of_the_instrument(real, shared_data):
    experiment, about = real
    folder = "exp_001" if about["file"].endswith("deadbeef.h5") else "exp_000"
    table = experiment.step_table("transient")
    for i, name in enumerate(table["data_file"]):
        csv = np.genfromtxt(
            shared_data / "oect_infra" / "src" / folder / name, delimiter=",", names=True
        )
        step = experiment.step("transient", i)
        time, current = (csv[column] for column in csv.dtype.names)
        assert np.array_equal(step["original_time"], time)
        assert np.array_equal(step["drain_current"], current)


def test_timing__real_files(real):
    experiment, _ = real
    batch = experiment.batch("transient", 0, experiment.n_steps("transient"))
    table = experiment.step_table("transient")
    assert set(batch.timing_source) == {"step"}
    assert batch.values["sampling_interval"].tolist() == (table["param_timeStep"] / 1000).tolist()
    assert batch.values["gate_period"].tolist() == [0.1] * len(table)
    assert batch.values["duty_cycle"].tolist() == [0.5] * len(table)


def test_workflow__real_files(shared_data, expected):
    folder = shared_data / "oect_infra"
    experiment = Experiment(folder / expected["regular_serial"]["file"])
    source = folder / "src" / "exp_000"
    assert experiment.workflow == json.loads((source / "workflow.json").read_text())
    assert experiment.test_info == json.loads((source / "test_info.json").read_text())
    assert Experiment(folder / expected["regular_parallel_writer"]["file"]).workflow is None


def test_feature_file__is_not_an_experiment(shared_data):
    with pytest.raises(NotAnExperiment, match="computed features"):
        Experiment(shared_data / "oect_infra" / "regular_serial.v1_features.h5")


# --- formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version",
    [
        "2.0_new_storage",
        b"2.0_direct_new_storage",
        np.array("2.0_new_storage", h5py.string_dtype()),
        np.array(b"2.0_later_new_storage"),
    ],
)
def test_format_version__accepted(tmp_path, version):
    path = write_experiment(tmp_path / "a.h5", transient=traces([5]), format_version=version)
    assert Experiment(path).format_version.endswith("new_storage")


@pytest.mark.parametrize("version", ["1.0_new_storage", "2.0_batch", "", "2.1_new_storage"])
def test_format_version__refused(tmp_path, version):
    path = write_experiment(tmp_path / "a.h5", transient=traces([5]), format_version=version)
    with pytest.raises(NotAnExperiment, match=r"a\.h5.*expected a raw experiment"):
        Experiment(path)


def test_attributes__bytes_numbers_and_absent_ones(tmp_path):
    path = write_experiment(
        tmp_path / "stem.h5",
        transient=traces([5]),
        test_id="",
        chip_id=b"\xe8\x8a\xaf1",
        n=np.int32(3),
        x=np.float32(0.5),
        flag=np.True_,
        nothing=h5py.Empty("S1"),
    )
    experiment = Experiment(path)
    assert experiment.experiment_id == "stem"
    assert (experiment.chip_id, experiment.device_id) == ("芯1", "")
    assert [experiment.attributes[k] for k in ("n", "x", "flag", "nothing")] == [3, 0.5, True, ""]


def test_sources__absent_groups(tmp_path):
    experiment = Experiment(write_experiment(tmp_path / "a.h5", transient=traces([5, 6])))
    assert experiment.sources == ("transient",)
    assert experiment.n_steps("transfer") == experiment.layout("transfer").n_steps == 0
    assert experiment.layout("transfer").borders.tolist() == [0]
    assert len(experiment.step_table("transfer")) == 0
    batch = experiment.batch("transfer", 0, 0)
    assert (batch.arrays["Vg"].size, batch.offsets.tolist()) == (0, [0])
    assert Experiment(write_experiment(tmp_path / "b.h5")).sources == ()


def test_index_columns__absent(tmp_path):
    current = traces([7, 7, 9])
    path = write_experiment(tmp_path / "a.h5", transient=current, ranges=False)
    experiment = Experiment(path)
    assert experiment.layout("transient").lengths.tolist() == [7, 7, 9]
    assert np.array_equal(experiment.step("transient", 2)["drain_current"], current[2])


def test_index_columns__steps_without_data(tmp_path):
    # A step whose CSV could not be read has no range: NaN, or 0:0.
    path = write_experiment(
        tmp_path / "a.h5",
        transient=[np.arange(6.0)],
        ranges=False,
        columns={
            "step_index": [0, 1, 2, 3],
            "start_data_index": [0, np.nan, 2, 0],
            "end_data_index": [2, np.nan, 6, 0],
        },
    )
    experiment = Experiment(path)
    assert experiment.layout("transient").lengths.tolist() == [2, 0, 4, 0]
    batch = experiment.batch("transient", 0, 4)
    assert batch.offsets.tolist() == [0, 2, 2, 6, 6]
    assert batch.arrays["drain_current"].tolist() == [0, 1, 2, 3, 4, 5]
    assert experiment.step("transient", 1)["drain_current"].size == 0


def test_index_columns__gaps_and_another_order(tmp_path):
    path = write_experiment(
        tmp_path / "a.h5",
        transient=[np.arange(10.0)],
        ranges=False,
        columns={
            "step_index": [0, 1, 2],
            "start_data_index": [6, 1, 3],
            "end_data_index": [9, 3, 4],
        },
    )
    batch = Experiment(path).batch("transient", 0, 3)
    assert batch.offsets.tolist() == [0, 3, 5, 6]
    assert batch.arrays["drain_current"].tolist() == [6, 7, 8, 1, 2, 3]


def test_index_columns__another_order_without_gaps(tmp_path):
    path = write_experiment(
        tmp_path / "a.h5",
        transient=[np.arange(6.0)],
        ranges=False,
        columns={"step_index": [0, 1], "start_data_index": [4, 0], "end_data_index": [6, 4]},
    )
    batch = Experiment(path).batch("transient", 0, 2)
    assert batch.offsets.tolist() == [0, 2, 6]
    assert batch.arrays["drain_current"].tolist() == [4, 5, 0, 1, 2, 3]


def test_text__variable_length_and_cut_characters(tmp_path):
    path = write_experiment(
        tmp_path / "a.h5",
        transient=traces([4, 4]),
        columns={"type": ["transient", "瞬态"], "reason": np.array([b"ok", "正常".encode()[:5]])},
    )
    table = Experiment(path).step_table("transient")
    assert table["type"].tolist() == ["transient", "瞬态"]
    assert table["reason"].tolist() == ["ok", "正\ufffd"]


# --- steps and blocks ---------------------------------------------------------------------------


def test_transfer__padding_dropped_by_gate_voltage_only(tmp_path):
    vg = np.linspace(0, 1, 5)
    current = np.array([1.0, np.nan, 3.0, 4.0, 5.0])
    path = write_experiment(
        tmp_path / "a.h5", [(vg, current), (vg[:2], [7.0, 8.0]), (np.full(3, np.nan), np.zeros(3))]
    )
    experiment = Experiment(path)
    batch = experiment.batch("transfer", 0, 3)
    assert batch.offsets.tolist() == [0, 5, 7, 7]
    assert np.array_equal(experiment.step("transfer", 0)["Id"], current, equal_nan=True)
    assert experiment.step("transfer", 1)["Vg"].tolist() == vg[:2].tolist()
    assert experiment.step("transfer", 2)["Vg"].shape == (0,)


def test_transient__nan_kept(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=[np.full(4, np.nan), np.arange(3.0)])
    step = Experiment(path).step("transient", 0)
    assert np.isnan(step["drain_current"]).all()
    assert len(step["drain_current"]) == 4
    assert math.isnan(step["gate_period"])


def test_block__every_range_equals_its_steps(tmp_path):
    transfer, transient = sweeps([9, 4, 7]), traces([30, 5, 12, 1])
    experiment = Experiment(write_experiment(tmp_path / "a.h5", transfer, transient))
    for source, originals in (("transfer", [s[1] for s in transfer]), ("transient", transient)):
        name = "Id" if source == "transfer" else "drain_current"
        n_steps = len(originals)
        for start, stop in itertools.combinations(range(n_steps + 1), 2):
            batch = experiment.batch(source, start, stop)
            assert batch.first_step == start
            assert batch.offsets.dtype == np.int64
            for i in range(start, stop):
                part = slice(*batch.offsets[i - start : i - start + 2])
                assert batch.arrays[name][part].tobytes() == originals[i].tobytes()
                step = experiment.step(source, i)
                for key, values in batch.arrays.items():
                    assert values.dtype == np.float64
                    assert values[part].tobytes() == step[key].tobytes()
                for key, values in batch.values.items():
                    assert np.array_equal(values[i - start], step[key], equal_nan=True)


def test_block__float32_and_integers_become_float64(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=traces([4]))
    with h5py.File(path, "a") as file:
        data = file["transient/measurement_data"][()]
        del file["transient/measurement_data"]
        file["transient/measurement_data"] = data.astype(np.float32)
    current = Experiment(path).step("transient", 0)["drain_current"]
    assert current.dtype == np.float64
    assert np.array_equal(current, data[2].astype(np.float32))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (0, 4), (2, 1)])
def test_block__impossible_range(tmp_path, start, stop):
    experiment = Experiment(write_experiment(tmp_path / "a.h5", transient=traces([3, 3, 3])))
    with pytest.raises(IndexError, match="3 steps"):
        experiment.batch("transient", start, stop)


def test_step__index_and_source(tmp_path):
    current = traces([3, 4])
    experiment = Experiment(write_experiment(tmp_path / "a.h5", transient=current))
    assert np.array_equal(experiment.step("transient", -1)["drain_current"], current[1])
    for index in (2, -3):
        with pytest.raises(IndexError, match="2 steps"):
            experiment.step("transient", index)
    with pytest.raises(ValueError, match="did you mean 'transfer'"):
        experiment.n_steps("transfr")


# --- chunks -------------------------------------------------------------------------------------


def chunks_read(lengths, chunk, start, stop):
    """Every chunk of one row that the samples of these steps touch, sample by sample."""
    edges = np.concatenate([[0], np.cumsum(lengths)])
    return {sample // chunk for sample in range(edges[start], edges[stop])}


@pytest.mark.parametrize(
    ("lengths", "chunk"),
    [
        ([10] * 12, 40),
        ([10] * 12, 10),
        ([10] * 12, 25),
        ([7, 3, 10, 20, 1, 19, 40, 5, 5, 5, 5], 20),
        ([100, 100], 30),
        ([5, 0, 5, 0, 10], 10),
    ],
)
def test_borders__transient(tmp_path, lengths, chunk):
    path = write_experiment(tmp_path / "a.h5", transient=traces(lengths), chunks=(1, chunk))
    borders = Experiment(path).layout("transient").borders.tolist()
    n_steps = len(lengths)
    assert borders == sorted(set(borders))
    assert (borders[0], borders[-1]) == (0, n_steps)
    starts = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    wanted = {0, n_steps}
    for edge in range(0, sum(lengths), chunk):
        wanted.add(next((i for i in range(n_steps) if starts[i] >= edge), n_steps))
    assert set(borders) == wanted
    batches = [chunks_read(lengths, chunk, a, b) for a, b in itertools.pairwise(borders)]
    for i, (one, other) in enumerate(itertools.pairwise(batches), start=1):
        shared = one & other
        # Neighbours share at most one chunk, and none where the step begins with it.
        assert len(shared) <= 1
        if starts[borders[i]] % chunk == 0:
            assert not shared


def test_borders__aligned_batches_read_every_chunk_once(tmp_path):
    lengths = [10] * 24
    path = write_experiment(tmp_path / "a.h5", transient=traces(lengths), chunks=(1, 40))
    borders = Experiment(path).layout("transient").borders
    assert borders.tolist() == [0, 4, 8, 12, 16, 20, 24]
    read = [chunks_read(lengths, 40, a, b) for a, b in itertools.pairwise(borders)]
    assert sum(map(len, read)) == len(set().union(*read)) == 6


def test_borders__steps_without_data(tmp_path):
    path = write_experiment(
        tmp_path / "a.h5",
        transient=[np.arange(40.0)],
        chunks=(1, 10),
        ranges=False,
        columns={
            "step_index": range(5),
            "start_data_index": [0, 10, 0, 20, 30],
            "end_data_index": [10, 20, 0, 30, 40],
        },
    )
    assert Experiment(path).layout("transient").borders.tolist() == [0, 1, 3, 4, 5]


def test_borders__transfer(tmp_path):
    path = write_experiment(tmp_path / "a.h5", sweeps([4, 4, 4]), chunks=(2, 2, 4))
    assert Experiment(path).layout("transfer").borders.tolist() == [0, 2, 3]


def test_borders__stored_in_one_piece(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=traces([4, 4, 4]))
    with h5py.File(path, "a") as file:
        data = file["transient/measurement_data"][()]
        del file["transient/measurement_data"]
        file["transient/measurement_data"] = data
    assert Experiment(path).layout("transient").borders.tolist() == [0, 1, 2, 3]


# --- identity, pickle, handles ------------------------------------------------------------------


def test_content_hash(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=[np.zeros(10)])
    with path.open("ab") as file:
        file.write(bytes(3 * 2**20 + 1))
    experiment = Experiment(path)
    assert experiment.content_hash() == xxhash.xxh3_128_hexdigest(path.read_bytes())
    assert experiment.identity == FileIdentity(path.stat().st_size, path.stat().st_mtime_ns)


def test_pickle__small_and_complete(tmp_path):
    current = traces([5000, 5000])
    experiment = Experiment(write_experiment(tmp_path / "a.h5", transient=current))
    assert experiment.workflow is None
    data = pickle.dumps(experiment)
    # Metadata of two steps; the samples alone would be 240,000 bytes.
    assert len(data) < 10_000
    copy = pickle.loads(data)
    assert "workflow" not in copy.__dict__
    assert copy.identity == experiment.identity
    assert np.array_equal(copy.step("transient", 1)["drain_current"], current[1])


def test_handles__none_left_open(tmp_path):
    path = write_experiment(tmp_path / "a.h5", sweeps([3, 3, 3]), traces([3]))
    experiment = Experiment(path)
    experiment.batch("transient", 0, 1)
    experiment.step("transfer", 0)
    assert experiment.workflow is None
    experiment.content_hash()
    experiment.to_xarray()
    assert str(path) not in {file.path for file in psutil.Process().open_files()}
    with h5py.File(path, "a") as file:
        file.attrs["later"] = 1


def test_changed_file__is_not_mixed_with_old_metadata(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=traces([3, 3]))
    experiment = Experiment(path)
    write_experiment(path, transient=traces([30, 30]))
    with pytest.raises(UnreadableFile, match="changed since"):
        experiment.batch("transient", 0, 1)


def test_read_only_folder(tmp_path):
    folder = tmp_path / "readonly"
    folder.mkdir()
    path = write_experiment(folder / "a.h5", transient=traces([3]))
    path.chmod(0o444)
    folder.chmod(0o555)
    try:
        assert len(Experiment(path).step("transient", 0)["drain_current"]) == 3
        assert [file.name for file in folder.iterdir()] == ["a.h5"]
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EROFS, errno.EACCES])
def test_locks__file_system_has_none(tmp_path, monkeypatch, code):
    path = write_experiment(tmp_path / "a.h5", transient=traces([3]))
    original = h5py.File
    asked = []

    def without_locks(name, mode, locking=None):
        asked.append(locking)
        if locking is not False:
            raise OSError(code, f"Unable to open file (unable to lock file, errno = {code})")
        return original(name, mode, locking=locking)

    monkeypatch.setattr(h5py, "File", without_locks)
    assert Experiment(path).n_steps("transient") == 1
    assert asked == [None, False]


def test_locks__another_process_is_writing(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=traces([3]))
    code = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"open\n"
        try:
            with pytest.raises(UnreadableFile, match="is being written by another process"):
                Experiment(path)
        finally:
            writer.communicate(b"\n")
    assert Experiment(path).n_steps("transient") == 1


# --- damage -------------------------------------------------------------------------------------


def test_damage__no_file_a_folder_no_permission(tmp_path):
    with pytest.raises(UnreadableFile, match="there is no such file"):
        Experiment(tmp_path / "none.h5")
    with pytest.raises(UnreadableFile, match="is a folder"):
        Experiment(tmp_path)
    path = write_experiment(tmp_path / "a.h5", transient=traces([3]))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(UnreadableFile, match="no permission"):
        Experiment(path)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file is empty"), (b"Vg,Id\n0,1\n" * 99, "no HDF5 file")]
)
def test_damage__not_hdf5(tmp_path, content, reason):
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=rf"a\.h5.*{reason}.*copy or convert"):
        Experiment(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.999])
def test_damage__truncated(tmp_path, share):
    path = write_experiment(tmp_path / "a.h5", transient=traces([500]))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableFile, match=r"a\.h5: .*truncated"):
        Experiment(path)


@pytest.mark.parametrize("name", ["measurement_data", "step_info_table"])
@pytest.mark.parametrize("source", ["transfer", "transient"])
def test_damage__missing_dataset(tmp_path, source, name):
    path = write_experiment(tmp_path / "a.h5", sweeps([3, 3, 3]), traces([3]))
    with h5py.File(path, "a") as file:
        del file[source][name]
    with pytest.raises(UnreadableFile, match=rf"a\.h5.*no dataset /{source}/{name}.*again"):
        Experiment(path)


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("transient", np.zeros((2, 3))),
        ("transient", np.zeros(3)),
        ("transient", np.array([[b"x"]] * 3)),
        ("transfer", np.zeros((2, 2, 3))),
        ("transfer", np.zeros((3, 3, 3))),
    ],
)
def test_damage__wrong_shape(tmp_path, source, data):
    path = write_experiment(tmp_path / "a.h5", sweeps([3, 3, 3]), traces([3]))
    with h5py.File(path, "a") as file:
        del file[source]["measurement_data"]
        file[source]["measurement_data"] = data
    with pytest.raises(UnreadableFile, match=rf"/{source}/measurement_data is .*expected numbers"):
        Experiment(path)


@pytest.mark.parametrize(("start", "stop"), [(0, 99), (-1, 2), (2, 1), (0, np.inf)])
def test_damage__step_beyond_the_data(tmp_path, start, stop):
    path = write_experiment(
        tmp_path / "a.h5",
        transient=traces([3]),
        ranges=False,
        columns={"start_data_index": [start], "end_data_index": [stop]},
    )
    with pytest.raises(UnreadableFile, match=r"puts step 0 at samples .*there are 3"):
        Experiment(path)


def test_damage__table_without_columns(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=traces([3]))
    with h5py.File(path, "a") as file:
        del file["transient/step_info_table"]
        file["transient/step_info_table"] = np.arange(3)
    with pytest.raises(UnreadableFile, match="expected one record per step"):
        Experiment(path)


def test_damage__one_flipped_bit(tmp_path):
    lengths = [100] * 6
    current = traces(lengths)
    path = write_experiment(tmp_path / "a.h5", transient=current, chunks=(1, 200))
    with h5py.File(path, "r") as file:
        chunks = file["transient/measurement_data"].id
        info = next(
            chunks.get_chunk_info(i)
            for i in range(chunks.get_num_chunks())
            if chunks.get_chunk_info(i).chunk_offset == (2, 200)
        )
    content = bytearray(path.read_bytes())
    content[info.byte_offset + info.size // 2] ^= 1
    path.write_bytes(content)
    experiment = Experiment(path)
    for i in (0, 1, 4, 5):
        assert np.array_equal(experiment.step("transient", i)["drain_current"], current[i])
    for i in (2, 3):
        with pytest.raises(
            UnreadableFile, match=rf"a\.h5: /transient/measurement_data, step {i}, .*checksum"
        ):
            experiment.step("transient", i)
    with pytest.raises(UnreadableFile, match=r"steps 1:5, cannot be read.*copy or convert"):
        experiment.batch("transient", 1, 5)


def test_damage__text_is_not_json(tmp_path):
    path = write_experiment(tmp_path / "a.h5", transient=traces([3]))
    with h5py.File(path, "a") as file:
        file["raw/workflow"] = "[{"
        file["raw/json"] = ""
    experiment = Experiment(path)
    assert experiment.test_info is None
    with pytest.raises(UnreadableFile, match="/raw/workflow cannot be read"):
        assert experiment.workflow


@pytest.mark.parametrize("seed", range(3))
def test_damage__flipped_bits_never_escape_as_other_errors(tmp_path, seed):
    # Bits within the stored samples only: a changed file structure can crash HDF5 itself.
    path = write_experiment(tmp_path / "a.h5", sweeps([50, 40, 30]), traces([400, 300]))
    with h5py.File(path, "r") as file:
        places = [
            range(info.byte_offset, info.byte_offset + info.size)
            for source in ("transfer", "transient")
            for data in [file[source]["measurement_data"].id]
            for info in map(data.get_chunk_info, range(data.get_num_chunks()))
        ]
    original = path.read_bytes()
    rng = np.random.default_rng(seed)
    for place in rng.permutation(np.concatenate(places))[:15]:
        content = bytearray(original)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
        experiment = Experiment(path)
        failures = []
        for source in experiment.sources:
            try:
                experiment.batch(source, 0, experiment.n_steps(source))
            except UnreadableFile as error:
                failures.append(str(error))
        assert len(failures) == 1
        assert "measurement_data" in failures[0]


# --- exploring ----------------------------------------------------------------------------------


def test_to_xarray__labels_units_and_padding(tmp_path):
    transfer, transient = sweeps([5, 3, 4]), traces([6, 8])
    path = write_experiment(tmp_path / "a.h5", transfer, transient, chip_id="c")
    tree = Experiment(path).to_xarray()
    assert tree.attrs["chip_id"] == "c"
    assert tree["transfer"].sizes == {"step": 3, "point": 5}
    assert tree["transient"].sizes == {"step": 2, "sample": 8}
    assert tree["transfer/Id"].attrs["units"] == "A"
    assert tree["transient/original_time"].attrs["units"] == "s"
    assert tree["transient"].coords["timing_source"].values.tolist() == ["unknown"] * 2
    for i, (vg, current) in enumerate(transfer):
        assert np.array_equal(tree["transfer/Vg"][i, : len(vg)], vg)
        assert np.array_equal(tree["transfer/Id"][i, : len(vg)], current)
        assert np.isnan(tree["transfer/Id"][i, len(vg) :]).all()
    for i, current in enumerate(transient):
        assert np.array_equal(tree["transient/drain_current"][i, : len(current)], current)
        assert np.isnan(tree["transient/drain_current"][i, len(current) :]).all()


def test_repr__names_what_is_there(tmp_path):
    path = write_experiment(
        tmp_path / "a.h5", sweeps([5, 3, 4]), traces([1500]), test_id="test_<1>", device_number="7"
    )
    text = repr(Experiment(path))
    for part in ("test_<1>", str(path), "7", "3 steps of up to 5 points", "1 step of 1,500 samp"):
        assert part in text
    page = Experiment(path)._repr_html_()
    assert "test_&lt;1&gt;" in page
    assert "<1>" not in page
    assert "no steps" in repr(Experiment(write_experiment(tmp_path / "b.h5")))
