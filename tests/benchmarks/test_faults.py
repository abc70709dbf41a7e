"""The fault scenarios of benchmarks/faults.py, small: nothing is lost, whatever dies or fills.

What tests/pipeline/execution/test_faults.py has (poison, a scheduler that dies, a full disk) is not
repeated here; these need whole processes, or go on after the fault.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client

import oectflow as of

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def faults():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import faults

        yield faults
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def place(faults, tmp_path):
    return faults.Place(faults.write_lab(tmp_path / "raw", 4), tmp_path, seed=1)


@pytest.fixture(scope="module")
def client(faults) -> Iterator[Client]:
    with of.connect("local", n_workers=2, memory=faults.MEMORY, dashboard_port=0) as client:
        yield client


def assert_nothing_lost(outcome):
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    assert not outcome.wrong, "\n".join([*outcome.wrong, "after:", *outcome.done])


def test_workers_killed_at_random(faults, place, client):
    outcome = faults.killed_workers(place, client, kills=3)
    assert_nothing_lost(outcome)
    assert sum("a worker killed" in line for line in outcome.done) == 3


def test_client_killed__its_cluster_ends_and_the_run_goes_on(faults, place):
    assert_nothing_lost(faults.killed_client(place))


def test_worker_beyond_its_memory__only_the_greedy_step_is_given_up(faults, place, client):

    def allow_failures(n, dask_scheduler):
        before = dask_scheduler.allowed_failures
        dask_scheduler.allowed_failures = n
        return before

    # That three more workers may die before their task is blamed, would only take longer.
    before = client.run_on_scheduler(allow_failures, n=0)
    try:
        assert_nothing_lost(faults.bad_step(place, client, "greedy"))
    finally:
        client.run_on_scheduler(allow_failures, n=before)


def test_full_disk__with_room_the_run_goes_on(faults, place):
    assert_nothing_lost(faults.full_disk(place))


def test_folder_removed__a_second_run_writes_everything(faults, place, client):
    assert_nothing_lost(faults.removed_folder(place, client))


# Bits that flip in results are looked at in tests/pipeline/outputs/test_damaged_results.py.
STORAGE = ("holes", "cuts", "names", "urls", "hostile", "writing", "swapped")


@pytest.mark.parametrize("name", STORAGE)
def test_damaged_and_hostile_files(faults, place, name):
    import faults_storage

    assert set(faults_storage.SCENARIOS) == {"flips", *STORAGE}
    assert_nothing_lost(faults_storage.SCENARIOS[name](place))


def test_damaged_and_hostile_files__silence_is_seen(faults, place):
    """A file that is refused with other words than expected, or not at all, is found out."""
    import faults_storage

    faults_storage.bad_file(place, "whole")
    outcome = faults.Outcome("none")
    faults_storage.need_refused(place, outcome, {"whole.h5": "is not stored"})
    assert outcome.wrong == ["whole.h5: no word about it"]


def test_check__sees_what_is_missing_different_or_left_over(faults, place):
    """The comparison itself must be able to fail."""
    of.extract(place.raw, faults.features(), place.out, progress=False)
    expected = faults.contents(place.out)
    (place.out / "test_00.parquet").unlink()
    (place.out / "test_01.parquet").write_bytes((place.out / "test_02.parquet").read_bytes())
    (place.out / ".test_03.parquet.0123.tmp").touch()
    outcome = faults.Outcome("none")
    faults.check(place, expected, outcome)
    assert outcome.wrong == [
        "test_00 is missing",
        "test_01 differs",
        ".test_03.parquet.0123.tmp is left over",
    ]
