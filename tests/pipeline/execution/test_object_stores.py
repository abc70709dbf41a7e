"""Raw files and results in an object store: a real S3 server on loopback, and memory."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import fsspec
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import oectflow as of
from oectflow import object_store
from oectflow.errors import (
    IngestError,
    InputError,
    OectflowError,
    OutputError,
    StorageError,
    UnreadableFile,
)
from oectflow.object_store import Info
from oectflow.pipeline.execution.driving import lease
from oectflow.pipeline.execution.driving import run as run_module
from oectflow.pipeline.inputs import object_file
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.simulate import simulate_lab
from oectflow.place import RemotePath, place

pytest.importorskip("s3fs", reason="needs oectflow[cloud]")
pytest.importorskip("moto", reason="needs oectflow[test]")
from .object_server import KEY, SECRET, ObjectServer

FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
    "share": {"func": "gm / gm.max()", "input": "gm"},
}


@pytest.fixture(autouse=True)
def nobody_elses_cluster(monkeypatch):
    """Workers that other tests have left know nothing of this server."""
    monkeypatch.setattr(run_module, "_active_client", lambda: None)
    # What is opened as a Dask collection would be computed there, too.
    with dask.config.set(scheduler="threads"):
        yield


@pytest.fixture(scope="module")
def server():
    environment = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch, ObjectServer().running() as server:
        for name, value in (environment | {"AWS_ENDPOINT_URL": server.url}).items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", use_listings_cache=False).mkdir("lab")
        yield server


@pytest.fixture
def store(server):
    """The store, empty, and nothing of it in the memory of this process."""
    s3 = fsspec.filesystem("s3", use_listings_cache=False)
    if s3.find("lab"):
        s3.rm("lab", recursive=True)
        s3.mkdir("lab")
    forget()
    server.requests.clear()
    yield s3
    server.meddle = lambda method, path: None


def forget():
    """What another process would not have."""
    object_store._contents._kept.clear()
    object_file._indexes._kept.clear()
    object_file._chunks._kept.clear()
    object_file._saved.clear()


@pytest.fixture
def raw(lab, store):
    """Three raw files in the store, as on the disk."""
    for path in sorted(lab.iterdir()):
        store.put(str(path), f"lab/raw/{path.name}")
    return "s3://lab/raw/"


def run(raw, out, **options):
    return of.extract(raw, FEATURES, out, progress=False, **options)


def tables(fs, folder):
    """Return the columns of every result by its name."""
    return {
        path.rpartition("/")[2]: pq.read_table(fs.open(path)).to_pydict()
        for path in fs.find(folder)
        if path.endswith(".parquet")
    }


def local_tables(folder):
    return tables(fsspec.filesystem("file"), str(folder))


def bits(found):
    return json.dumps(found, sort_keys=True)


@pytest.mark.parametrize("where", ["here", "workers"])
def test_the_same_bits_as_on_a_disk_and_a_second_run_has_nothing_to_do(
    where, lab, raw, server, store, tmp_path
):
    run(lab, tmp_path / "out")
    server.requests.clear()
    if where == "here":
        report = run(raw, "s3://lab/out/")
        # Before anything is computed: once whole, and once whether it is still the same.
        for path in lab.iterdir():
            assert server.counts("GET", path.name) == 1
    else:
        with of.connect("local", n_workers=2, dashboard_port=0) as client:
            report = run(raw, "s3://lab/out/", client=client, granularity="experiment")
        assert "cluster" in report.plan.ways
    assert report.ok
    found = tables(store, "lab/out")
    assert bits(found) == bits(local_tables(tmp_path / "out"))
    # One put for each result, and no lock that stays.
    assert all(server.counts("PUT", name) == 1 for name in found)
    assert not store.find("lab/out/.oectflow.lock")

    server.requests.clear()
    again = run(raw, "s3://lab/out/")
    assert again.counts == {"unchanged": 3}
    assert not any(name.endswith((".h5", ".parquet")) for _, name in server.requests)


def test_results_are_opened_where_they_are(lab, raw, store, tmp_path):
    run(lab, tmp_path / "out")
    run(raw, "s3://lab/out")
    forget()
    there, here = of.open_results("s3://lab/out"), of.open_results(tmp_path / "out")
    assert there.identical(here.assign_attrs(there.attrs))
    frames = [of.results_frame(out).compute() for out in ("s3://lab/out", tmp_path / "out")]
    pd.testing.assert_frame_equal(*frames)
    assert of.problems_frame("s3://lab/out").equals(of.problems_frame(tmp_path / "out"))
    one = of.open_results("s3://lab/out/test_0.parquet")
    assert one.sizes["experiment"] == 1
    with pytest.raises(OutputError, match="no such file or folder"):
        of.open_results("s3://lab/elsewhere")


def test_memory_is_a_store_of_this_process(lab):
    memory = fsspec.filesystem("memory")
    for path in lab.iterdir():
        memory.put(str(path), f"/lab/raw/{path.name}")
    try:
        report = run("memory://lab/raw", "memory://lab/out")
        assert report.ok
        assert of.open_results("memory://lab/out").sizes["experiment"] == 3
        assert run("memory://lab/raw/device*.h5", "memory://lab/out").counts == {"unchanged": 3}
    finally:
        memory.rm("/lab", recursive=True)


def test_a_file_url_is_a_path(lab, tmp_path):
    report = run(f"file://{lab}", f"file://{tmp_path}/out")
    assert report.ok
    assert sorted(p.name for p in (tmp_path / "out").glob("*.parquet")) == [
        "test_0.parquet", "test_1.parquet", "test_2.parquet",
    ]  # fmt: skip


# All that reads or writes raw files or results


def test_what_instruments_wrote_is_ingested_into_a_store(store, tmp_path):
    simulate_lab(tmp_path / "instrument", 2)
    here = of.ingest(tmp_path / "instrument", tmp_path / "raw", workers=1)
    there = of.ingest(tmp_path / "instrument", "s3://lab/raw", workers=2)
    assert not there.failed
    names = sorted(path.name for path in (tmp_path / "raw").glob("*.h5"))
    assert sorted(record.path.name for record in there.records) == names
    assert len(names) == len(here.records) == 2
    for name in names:
        assert_same(
            everything(Experiment(f"s3://lab/raw/{name}")),
            everything(Experiment(tmp_path / "raw" / name)),
        )
    again = of.ingest(tmp_path / "instrument", "s3://lab/raw", on_conflict="update", workers=1)
    assert {record.status for record in again.records} == {"skipped"}
    lost = of.ingest(tmp_path / "instrument", "s3://nobucket/raw", workers=1)
    assert {record.status for record in lost.records} == {"failed"}
    assert "no such bucket" in lost.records[0].reason
    with pytest.raises(IngestError, match="URLs are not supported here; copy the measurements"):
        of.ingest("s3://lab/instrument", tmp_path / "other")


def test_what_was_measured_is_written_into_a_store(store):
    Vg = np.linspace(0.2, -0.8, 51)
    of.write_experiment("s3://lab/raw/a1.h5", transfer=[{"Vg": Vg, "Id": 1e-3 * Vg**2, "Vd": -0.6}])
    np.testing.assert_array_equal(Experiment("s3://lab/raw/a1.h5").step("transfer", 0)["Vg"], Vg)
    with pytest.raises(InputError, match="exists"):
        of.write_experiment("s3://lab/raw/a1.h5", transfer=[{"Vg": Vg, "Id": Vg}])


@pytest.mark.parametrize("target", ["s3://lab/new", "disk"])
def test_repack_from_a_store(target, lab, raw, store, tmp_path):
    pytest.importorskip("hdf5plugin", reason="needs oectflow[repack]")
    target = target.replace("disk", str(tmp_path / "new"))
    report = of.repack(raw, target, workers=1)
    assert [record.status for record in report.records] == ["written"] * 3
    for path in lab.iterdir():
        assert_same(everything(Experiment(f"{target}/{path.name}")), everything(Experiment(path)))
    again = of.repack(raw, target, workers=1)
    assert [record.status for record in again.records] == ["skipped"] * 3
    with pytest.raises(InputError, match="no such bucket"):
        of.repack("s3://nobucket/raw", target)
    with pytest.raises(InputError, match="the folder of the files themselves"):
        of.repack(raw, raw)


def test_report_of_results_in_a_store(raw, store):
    pytest.importorskip("jinja2", reason="needs oectflow[report]")
    run(raw, "s3://lab/out")
    forget()
    written = of.report("s3://lab/out", "s3://lab/report.html", raw=raw, progress=False)
    page = store.cat_file("lab/report.html").decode()
    assert str(written) == "s3://lab/report.html"
    assert "test_0" in page


def test_the_command_line_takes_urls(raw, store, tmp_path, monkeypatch, capsys):
    pytest.importorskip("typer", reason="needs oectflow[cli]")
    from oectflow.pipeline.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "features.yaml").write_text(json.dumps({"features": [
        {"name": "gm", "extractor": "transfer.gm_max", "input": "transfer"}
    ]}))  # fmt: skip

    def said(*words):
        monkeypatch.setattr(sys, "argv", ["oectflow", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert not ended.value.code, printed
        return printed.out

    out = ("--out", "s3://lab/out")
    said("extract", raw, "-f", "features.yaml", *out, "--quiet")
    assert sorted(tables(store, "lab/out")) == [f"test_{i}.parquet" for i in range(3)]
    found = json.loads(said("status", raw, *out, "--json"))
    assert found["out"] == "s3://lab/out"
    assert found["unchanged"] == 3
    assert "3 experiments: 3 done" in said("status", *out, "--quiet")
    assert "test_1" in said("show", raw + "device1.h5")
    said("report", "s3://lab/out", "--out", "s3://lab/page.html", "--quiet")
    assert store.exists("lab/page.html")
    assert not [path for path in tmp_path.iterdir() if ":" in path.name]


@pytest.mark.parametrize(
    "call",
    [
        lambda out: of.watch(out, "raw", "features"),
        lambda out: of.watch("instrument", "raw", out),
        lambda out: of.mark(out, "bad", experiment="a"),
        lambda out: of.publish(out, "publication"),
        lambda out: of.export(out, out + ".xlsx"),
        lambda out: of.Catalog("catalog.db").scan(out),
        lambda out: of.Catalog("catalog.db").sync_features(out),
    ],
)
def test_what_needs_a_disk_says_so(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "instrument").mkdir()
    with pytest.raises(OectflowError, match="URLs are not supported here"):
        call("s3://lab/out")
    assert not [path for path in tmp_path.iterdir() if ":" in path.name]


# Large files


@pytest.fixture
def small_requests(monkeypatch):
    """Every file is large."""
    for module in (object_store, object_file, sys.modules["oectflow.place"]):
        monkeypatch.setattr(module, "WHOLE", 0)
    monkeypatch.setattr(object_file, "_BEGIN", 1000)
    monkeypatch.setattr(object_file, "_PIECE", 100)


def everything(experiment):
    return {
        source: experiment.batch(source, 0, experiment.n_steps(source))
        for source in experiment.sources
    }


def assert_same(one, other):
    assert one.keys() == other.keys()
    for source, batch in one.items():
        for name, array in batch.arrays.items():
            np.testing.assert_array_equal(array, other[source].arrays[name])


@pytest.mark.usefixtures("small_requests")
def test_a_large_file_is_read_by_ranges_and_its_index_is_kept(lab, raw, server, store, tmp_path):
    expected = everything(Experiment(lab / "device0.h5"))
    assert_same(everything(Experiment(raw + "device0.h5")), expected)
    first = server.counts("GET", "device0.h5")
    forget()
    run(raw, "s3://lab/out")
    assert bits(tables(store, "lab/out"))
    assert len(store.find("lab/out/.oectflow-index")) == 3

    # Another process, with the index: no request for what h5py reads to open the file.
    forget()
    path = place(raw + "device0.h5")
    assert object_file.load_index(path, place("s3://lab/out"))
    server.requests.clear()
    experiment = Experiment(path)
    assert server.counts("GET", "device0.h5") == 0
    assert_same(everything(experiment), expected)
    assert 0 < server.counts("GET", "device0.h5") < first

    # An index that was damaged is none.
    (stored,) = [
        name for name in store.find("lab/out/.oectflow-index")
        if name.endswith(object_file._name((str(path), path.about().etag)))
    ]  # fmt: skip
    store.pipe_file(stored, store.cat_file(stored)[:-1])
    forget()
    assert not object_file.load_index(path, place("s3://lab/out"))
    assert_same(everything(Experiment(path)), expected)


@pytest.mark.usefixtures("small_requests")
@pytest.mark.parametrize("chunk", [(1, 7), (3, 5)])
def test_all_nodes_of_an_index_are_fetched_together(chunk, server, store, tmp_path):
    path = tmp_path / "many.h5"
    data = np.random.default_rng(1).normal(size=(3, 10_000))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, chunks=chunk, compression="gzip")
        chunks = file["x"].id.get_num_chunks()
    store.put(str(path), "lab/many.h5")
    server.requests.clear()
    with object_file.open_object(place("s3://lab/many.h5")) as file:
        places = []
        file["x"].id.chunk_iter(places.append)
    assert len(places) == chunks
    # Nodes with 64 entries at most, of which HDF5 asks for one after the other.
    source = object_file.ObjectFile(place("s3://lab/many.h5"))
    n_nodes = sum(content.startswith(b"TREE\x01\x00") for _, content in source._index.items())
    assert n_nodes >= chunks / 64
    assert server.counts("GET") < 12 < n_nodes


@pytest.mark.usefixtures("small_requests")
def test_chunks_that_lie_together_are_one_request(server, store, tmp_path):
    path = tmp_path / "big.h5"
    data = np.random.default_rng(1).normal(size=(3, 5_000))
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=data, chunks=(1, 100), compression="gzip", shuffle=True)
    store.put(str(path), "lab/big.h5")
    with object_file.open_object(place("s3://lab/big.h5")) as file:
        file["x"].id.chunk_iter(lambda _: None)
        server.requests.clear()
        rows = object_file_rows(file["x"])
    for row, values in zip(data, rows, strict=True):
        np.testing.assert_array_equal(values, row[150:4_850])
    assert server.counts("GET") == 1


def object_file_rows(dataset):
    from oectflow.pipeline.inputs.chunks import read_rows

    return read_rows(dataset, [0, 1, 2], 150, 4_850)


# What goes wrong


@pytest.mark.parametrize("large", [False, True])
def test_a_file_that_is_replaced_meanwhile_gives_no_values(large, lab, raw, server, store, request):
    if large:
        request.getfixturevalue("small_requests")
    experiment = Experiment(raw + "device0.h5")
    if not large:
        object_store._contents._kept.clear()
    store.put(str(lab / "device1.h5"), "lab/raw/device0.h5")
    with pytest.raises(UnreadableFile, match=r"replaced while it was read|changed since"):
        everything(experiment)


def test_a_file_that_was_replaced_is_computed_again(lab, raw, store):
    run(raw, "s3://lab/out")
    with h5py.File(lab / "device0.h5", "r+") as file:
        # Of the same size, and perhaps within the same second.
        file["transfer/measurement_data"][0, 1, 3] *= 2
    store.put(str(lab / "device0.h5"), "lab/raw/device0.h5")
    report = run(raw, "s3://lab/out")
    assert report.counts == {"done": 1, "unchanged": 2}


def test_one_broken_file_never_stops_the_others(lab, raw, store):
    whole = store.cat_file("lab/raw/device1.h5")
    store.pipe_file("lab/raw/device1.h5", whole[: len(whole) // 2])
    store.pipe_file("lab/raw/empty.h5", b"")
    store.pipe_file("lab/raw/no.h5", b"no HDF5 at all")
    report = run(raw, "s3://lab/out")
    assert report.counts == {"done": 2, "failed": 3}
    reasons = "\n".join(record.reason for record in report.experiments)
    assert "s3://lab/raw/device1.h5: the metadata cannot be read: the file is truncated" in reasons
    assert "s3://lab/raw/empty.h5" in reasons
    assert "s3://lab/raw/no.h5" in reasons


def test_a_damaged_result_is_computed_again(lab, raw, store):
    run(raw, "s3://lab/out")
    before = tables(store, "lab/out")
    content = bytearray(store.cat_file("lab/out/test_1.parquet"))
    content[len(content) // 3] ^= 1
    store.pipe_file("lab/out/test_1.parquet", bytes(content))
    forget()
    report = run(raw, "s3://lab/out", verify="content")
    assert report.counts == {"done": 1, "unchanged": 2}
    assert bits(tables(store, "lab/out")) == bits(before)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_an_object_of_somebody_else_is_not_replaced(when, raw, server, store):
    put = threading.Event()

    def meddle(method, path):
        if method == "PUT" and path.endswith("test_0.parquet") and not put.is_set():
            put.set()
            store.pipe_file("lab/out/test_0.parquet", b"somebody else's")

    if when == "before":
        store.pipe_file("lab/out/test_0.parquet", b"somebody else's")
    else:
        server.meddle = meddle
    report = run(raw, "s3://lab/out")
    assert report.counts == {"done": 2, "failed": 1}
    assert "was not written by oectflow" in report.experiments[0].reason
    assert store.cat_file("lab/out/test_0.parquet") == b"somebody else's"


def test_no_bucket(lab, raw):
    with pytest.raises(InputError, match=r"s3://nobucket/raw: cannot be listed: .*no such bucket"):
        run("s3://nobucket/raw", "s3://lab/out")
    with pytest.raises(StorageError, match=r"s3://nobucket/out: .*no such bucket"):
        run(lab, "s3://nobucket/out")
    with pytest.raises(InputError, match="no HDF5 file"):
        run("s3://lab/elsewhere", "s3://lab/out")


@pytest.mark.parametrize("status", ["403 Forbidden", None])
def test_wrong_credentials_and_no_secret_in_any_message(status, lab, raw, server, monkeypatch):
    monkeypatch.setattr(fsspec.filesystem("s3", use_listings_cache=False).__class__, "retries", 1)
    if status:
        server.meddle = lambda method, path: status
    else:
        # The store repeats what it was sent.
        def refuse(self, *_, **__):
            raise PermissionError(f"SignatureDoesNotMatch for {SECRET} of {KEY}")

        monkeypatch.setattr(type(fsspec.filesystem("s3")), "find", refuse)
    with pytest.raises(InputError, match="refuses it with the credentials") as error:
        of.extract(raw, FEATURES, lab.parent / "out", progress=False)
    chain = [error.value, error.value.__cause__, error.value.__context__]
    text = "\n".join(map(str, chain))
    assert SECRET not in text
    assert KEY not in text


def test_credentials_that_are_set_later_are_used(raw, tmp_path):
    store = type(fsspec.filesystem("s3"))
    store.clear_instance_cache()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        # Nothing of this machine's, and nobody is asked.
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(InputError, match="no credentials in the environment"):
            run(raw, str(tmp_path / "out"))
    assert run(raw, str(tmp_path / "out")).ok


def test_nothing_of_the_credentials_is_in_results_or_in_what_workers_get(raw, server, store):
    run(raw, "s3://lab/out")
    for name in store.find("lab/out"):
        content = store.cat_file(name)
        assert SECRET.encode() not in content
        assert KEY.encode() not in content
    assert SECRET.encode() not in pickle.dumps(Experiment(raw + "device0.h5"))


def test_a_store_that_is_busy_is_asked_again(lab, raw, server, store):
    refused = []

    def busy(method, path):
        if method == "PUT" and path.endswith("test_0.parquet") and len(refused) < 2:
            refused.append(path)
            return "503 Service Unavailable"
        return None

    server.meddle = busy
    assert run(raw, "s3://lab/out").ok
    assert len(refused) == 2


KILLED = """
import os, signal, sys
import oectflow as of
from oectflow.place import RemotePath
put = RemotePath.put_if_absent
def put_and_die(self, content):
    n = put(self, content)
    if self.name.endswith(".parquet"):
        os.kill(os.getpid(), signal.SIGKILL)
    return n
RemotePath.put_if_absent = put_and_die
of.extract(sys.argv[1], {features!r}, sys.argv[2], progress=False)
"""


def test_a_run_that_was_killed_goes_on_where_it_stopped(lab, raw, store, tmp_path):
    run(lab, tmp_path / "out")
    code = KILLED.replace("{features!r}", repr(FEATURES))
    process = subprocess.run([sys.executable, "-c", code, raw, "s3://lab/out"], check=False)
    assert process.returncode == -signal.SIGKILL
    # The lock is there, and its process is not.
    assert len(store.find("lab/out/.oectflow.lock")) == 1
    assert len(tables(store, "lab/out")) == 1
    report = run(raw, "s3://lab/out")
    assert report.counts == {"done": 2, "unchanged": 1}
    assert bits(tables(store, "lab/out")) == bits(local_tables(tmp_path / "out"))


# The lock


def test_one_run_at_a_time(lab, raw, store):
    lock = place("s3://lab/out/.oectflow.lock")
    with (
        lease.only_one_with(lock),
        pytest.raises(OutputError, match=f"another run is writing here, process {os.getpid()}"),
    ):
        run(raw, "s3://lab/out")
    assert run(raw, "s3://lab/out").ok


def test_of_many_at_once_one_holds_the_lock(store):
    lock = place("s3://lab/out/.oectflow.lock")
    held, most = [], []
    together = threading.Barrier(8)

    def hold(_):
        together.wait()
        try:
            with lease.only_one_with(lock):
                held.append(1)
                most.append(len(held))
                held.pop()
                return 1
        except OutputError:
            return 0

    with ThreadPoolExecutor(8) as pool:
        n = sum(pool.map(hold, range(8)))
    assert set(most) <= {1}
    assert n == len(most)
    assert not store.find("lab/out/.oectflow.lock")


def test_a_lock_of_another_machine_holds_as_long_as_it_gives_signs(store, monkeypatch):
    lock = place("s3://lab/out/.oectflow.lock")
    other = json.dumps({"host": "elsewhere", "pid": 1, "began": 0.0})
    store.pipe_file("lab/out/.oectflow.lock/000000004", other.encode())
    with pytest.raises(OutputError, match="process 1 on elsewhere"), lease.only_one_with(lock):
        pass
    monkeypatch.setattr(lease, "_LEASE_S", -1.0)
    with lease.only_one_with(lock):
        assert [p.rpartition("/")[2] for p in store.find("lab/out/.oectflow.lock")] == ["000000005"]


def test_a_holder_gives_signs(store, monkeypatch):
    monkeypatch.setattr(lease, "_BEAT_S", 0.001)
    signs = threading.Semaphore(0)
    put = RemotePath.write_bytes

    def counted(self, content):
        signs.release()
        return put(self, content)

    monkeypatch.setattr(RemotePath, "write_bytes", counted)
    with lease.only_one_with(place("s3://lab/out/.oectflow.lock")):
        assert all(signs.acquire(timeout=60) for _ in range(3))


def test_put_if_absent(store):
    path = place("s3://lab/once")
    assert path.put_if_absent(b"one")
    assert not path.put_if_absent(b"other")
    assert store.cat_file("lab/once") == b"one"
    # The answer to a request that was repeated.
    assert path.put_if_absent(b"one")


# Places


def test_what_a_place_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert place("~/raw") == tmp_path / "raw"
    assert place("file:///tmp/raw") == place("/tmp/raw")
    assert isinstance(place("C:/raw"), type(tmp_path))
    path = place("s3://lab/raw//a b#1.h5")
    assert str(path) == "s3://lab/raw/a b#1.h5"
    assert (path.name, path.stem, path.suffix, str(path.parent)) == (
        "a b#1.h5", "a b#1", ".h5", "s3://lab/raw",
    )  # fmt: skip
    assert place(str(path)) == path == place(path.absolute())
    assert str(place("s3://lab/out") / "a.parquet") == "s3://lab/out/a.parquet"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://host/raw", "no such place; expected a path of this machine, or s3://"),
        ("s3://", "names no bucket"),
        (f"s3://{KEY}:{SECRET}@lab/raw", "credentials or options in this URL"),
        (f"abfs://lab/raw?sig={SECRET}", "credentials or options in this URL"),
    ],
)
def test_places_that_are_none(url, words):
    with pytest.raises(InputError, match=words) as error:
        place(url, InputError)
    assert SECRET not in str(error.value)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"needs the package s3fs>=2024.12; pip install 'oectflow\[cloud\]'"
    ):
        place("s3://lab/raw", InputError)
    with pytest.raises(InputError, match=r"pip install 'gcsfs>=2024.12'"):
        place("gs://lab/raw", InputError)


def test_no_place_of_a_store_is_taken_for_a_file_of_this_machine(tmp_path):
    path = place("s3://lab/raw/a.h5")
    words = "is no file of this machine"
    # From Python 3.13 on, pathlib says it in words of its own.
    of_pathlib = "not 'RemotePath'" if sys.version_info >= (3, 13) else words
    for make, said in ((Path, of_pathlib), (tmp_path.joinpath, of_pathlib), (h5py.File, words)):
        with pytest.raises(TypeError, match=said):
            make(path)
    with pytest.raises(TypeError, match="is no file of this machine"):
        os.fspath(path)
    with pytest.raises(TypeError, match="is no file of this machine"):
        open(path)  # noqa: PTH123, SIM115
    with pytest.raises(OSError, match="put whole"):
        path.open("wb")


def test_a_version_stays_the_same_on_another_machine():
    path = place("s3://lab/raw/a.h5").of_version(Info(7, 5, "abc"))
    again = pickle.loads(pickle.dumps(path))
    assert again == path
    assert again.stat().st_size == 7
    assert again.about().etag == "abc"
