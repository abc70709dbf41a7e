"""Which files are meant: through links, in capital letters, each once; and no URLs."""

import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

import oectflow as of
from oectflow.errors import CatalogError, InputError, OectflowError, OutputError
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.find import find_experiments
from oectflow.pipeline.inputs.simulate import simulate_device

PEAK = {"peak": {"extractor": "transient.peak_current", "input": "transient"}}


@pytest.fixture
def lab(tmp_path):
    """Three files: plain, in capital letters, and behind a link that also leads in a circle."""
    raw, nas = tmp_path / "raw", tmp_path / "nas"
    raw.mkdir()
    nas.mkdir()
    for i, path in enumerate((raw / "a-test_0.h5", raw / "b-test_1.H5", nas / "c-test_2.HDF5")):
        simulate_device(
            i, n_transfer=1, n_transient=2, n_points=21, n_cycles=3, test_id=f"test_{i}"
        ).write(path)
    (raw / "week2").symlink_to(nas)
    (nas / "back").symlink_to(raw)
    return tmp_path


def test_linked_folders_and_capital_letters(lab):
    assert [p.name for p in find_experiments(lab / "raw")] == [
        "a-test_0.h5", "b-test_1.H5", "c-test_2.HDF5",
    ]  # fmt: skip
    report = of.extract(lab / "raw", PEAK, lab / "out", progress=False)
    assert report.counts == {"done": 3}


def test_what_is_reached_twice_is_found_once_under_its_own_name(lab):
    (lab / "a").symlink_to(lab / "raw")
    found = find_experiments(lab)
    assert found == [lab / "nas/c-test_2.HDF5", lab / "raw/a-test_0.h5", lab / "raw/b-test_1.H5"]


def test_repack_takes_them_too(lab):
    pytest.importorskip("hdf5plugin")
    report = of.repack(lab / "raw", lab / "new", workers=1)
    assert [record.status for record in report.records] == ["written"] * 3


def test_a_scan_takes_them_too(lab):
    with Catalog(lab / "c.db") as catalog:
        report = catalog.scan(lab / "raw")
        assert report.counts["added"] == 2
        assert report.n_unmatched == 1
        assert catalog.scan(lab / "raw").counts["unchanged"] == 2


@pytest.mark.parametrize("replaced", [False, True])
def test_a_catalog_that_is_deleted_while_open(lab, replaced):
    with Catalog(lab / "c.db") as catalog:
        catalog.scan(lab / "raw")
        (lab / "c.db").rename(lab / "gone.db")
        if replaced:
            Catalog(lab / "c.db").close()
        with pytest.raises(CatalogError, match="deleted or replaced while it was open"):
            catalog.scan(lab / "raw")
        with pytest.raises(CatalogError, match="deleted or replaced"):
            catalog.search()


@pytest.mark.parametrize("place", ["ftp://host/out", "https://host/out", Path("hdfs://bucket/out")])
def test_urls_of_no_store_are_refused(lab, place, monkeypatch):
    monkeypatch.chdir(lab)
    for call, kind in [
        (lambda: of.extract(lab / "raw", PEAK, place, progress=False), OectflowError),
        (lambda: of.plan(lab / "raw", PEAK, place), OectflowError),
        (lambda: of.extract(place, PEAK, lab / "out", progress=False), InputError),
        (lambda: of.repack(lab / "raw", place), InputError),
        (lambda: of.repack(place, lab / "new"), InputError),
        (lambda: of.open_results(place), OutputError),
    ]:
        with pytest.raises(kind, match="no such place; expected a path of this machine, or s3://"):
            call()
    assert not [p for p in lab.iterdir() if ":" in p.name]


def with_table(path, change):
    with h5py.File(path, "r+") as file:
        table = file["transient/step_info_table"][()]
        n = file["transient/measurement_data"].shape[1]
        change(table, n)
        file["transient/step_info_table"][...] = table


def overlapping(table, n):
    table["start_data_index"][1] -= 10


def leaving_out(table, n):
    table["end_data_index"][0] -= 7


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (overlapping, "1 steps overlap with others, first steps 0 and 1 by 10 samples"),
        (leaving_out, "7 of .* samples belong to no step"),
        (lambda table, n: None, None),
    ],
)
def test_step_tables_that_overlap_or_leave_samples_out(lab, change, words):
    path = lab / "raw" / "a-test_0.h5"
    with_table(path, change)
    report = of.extract(path, PEAK, lab / "out", progress=False)
    (record,) = report.experiments
    assert len(record.warnings) == (words is not None)
    if words:
        assert re.search(words, report.summary())


def test_what_overlaps_is_counted_as_by_hand(lab):
    rng = np.random.default_rng(3)
    path = lab / "raw" / "a-test_0.h5"
    for _ in range(20):
        edges = np.sort(rng.integers(0, 300, (2, 2)), axis=1)

        def change(table, n, edges=edges):
            table["start_data_index"], table["end_data_index"] = edges[:, 0], edges[:, 1]

        with_table(path, change)
        with h5py.File(path) as file:
            n = file["transient/measurement_data"].shape[1]
        count = np.zeros(n, int)
        for start, stop in edges:
            count[start:stop] += 1
        told = " ".join(of.Experiment(path).oddities())
        assert (f"{(count == 0).sum():,} of {n:,} samples" in told) == bool((count == 0).any())
        assert (f"by {(count == 2).sum():,} samples" in told) == bool((count == 2).any())


def test_a_folder_that_cannot_be_listed_hides_no_other(lab):
    if os.getuid() == 0:
        pytest.skip("root may list everything")
    (lab / "nas").chmod(0)
    assert len(find_experiments(lab / "raw")) == 2
