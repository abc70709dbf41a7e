"""The index of a folder against the results themselves, opened as everybody opens them."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

import oectflow as of
from oectflow.errors import OutputError
from oectflow.pipeline.app import index as indexing
from oectflow.pipeline.app.index import NAME, open_index, refreshed
from oectflow.pipeline.app.summary import medians


def test_medians__as_numpy_has_them():
    random = np.random.default_rng(1)
    for n in range(1, 8):
        rows = random.normal(size=(50, n))
        rows[random.random(rows.shape) < 0.4] = np.nan
        for row, found in zip(rows, medians(rows), strict=True):
            known = row[np.isfinite(row)]
            np.testing.assert_equal(found, np.median(known) if len(known) else np.nan)
    assert medians(np.empty((0, 3))).shape == (0,)


def test_index__numbers_of_every_step(lab):
    index = open_index(lab.out)
    results = of.open_results(lab.out).load()
    assert [e.summary.experiment_id for e in index.entries] == ["A1", "A2", "B1", "B2"]
    assert [e.summary.chip_id for e in index.entries] == ["A", "A", "B", "B"]
    names = [column.name for column in index.columns]
    assert names == ["gm_max", "coords Vg", "coords Id", "tau on", "tau off"]
    assert [index.column(name).unit for name in names] == ["S", "V", "A", "s", "s"]
    assert index.fitted() == ["tau"]
    for number, entry in enumerate(index.entries):
        one = results.sel(experiment=entry.summary.experiment_id)
        n = entry.summary.n_rows
        for phase in ("on", "off"):
            column = index.column(f"tau {phase}")
            tau = one["tau"].sel(phase=phase).isel(step=slice(0, n))
            np.testing.assert_allclose(
                index.values(column)[index.rows(number)], tau.median("cycle"), rtol=1e-12
            )
            quality = one["tau_r_squared"].sel(phase=phase).isel(step=slice(0, n))
            np.testing.assert_array_equal(
                index.fits(column)[index.rows(number)], quality.min("cycle")
            )
            words = one["tau_status"].sel(phase=phase).isel(step=slice(0, n))
            np.testing.assert_array_equal(
                index.flagged(column)[index.rows(number)],
                (~words.isin(["ok", "absent"])).sum("cycle"),
            )
        for label in ("Vg", "Id"):
            np.testing.assert_array_equal(
                index.values(index.column(f"coords {label}"))[index.rows(number)],
                one["coords"].sel(quantity=label).isel(step=slice(0, n)),
            )


def same(one, other):
    assert [(e.path, e.stamp) for e in one.entries] == [(e.path, e.stamp) for e in other.entries]
    assert [e.summary.experiment_id for e in one.entries] == [
        e.summary.experiment_id for e in other.entries
    ]
    assert one.columns == other.columns
    np.testing.assert_array_equal(one.starts, other.starts)
    for column in one.columns:
        np.testing.assert_array_equal(one.values(column), other.values(column))
        np.testing.assert_array_equal(one.flagged(column), other.flagged(column))


def test_index__is_read_again_without_reading_results(lab, monkeypatch):
    first = open_index(lab.out)

    def fail(path):
        raise AssertionError(path)

    monkeypatch.setattr(indexing, "summarise", fail)
    same(first, open_index(lab.out))
    assert refreshed(first) is first


def test_index__reads_what_has_changed_only(lab, monkeypatch):
    first = open_index(lab.out)
    read = []
    real = indexing.summarise
    monkeypatch.setattr(indexing, "summarise", lambda path: read.append(path.name) or real(path))
    (lab.out / "A2.parquet").unlink()
    shutil.copy(lab.out / "B1.parquet", lab.out / "B1b.parquet")
    os.utime(lab.out / "B2.parquet", ns=(1, 1))
    now = refreshed(first)
    assert sorted(read) == ["B1b.parquet", "B2.parquet"]
    assert [e.path for e in now.entries] == [
        "A1.parquet", "B1.parquet", "B1b.parquet", "B2.parquet",
    ]  # fmt: skip
    (lab.out / NAME).unlink()
    same(now, open_index(lab.out))


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"\xff" * 1000])
def test_index__of_no_use_is_made_anew(lab, content):
    first = open_index(lab.out)
    whole = (lab.out / NAME).read_bytes()
    (lab.out / NAME).write_bytes(content)
    same(first, open_index(lab.out))
    (lab.out / NAME).write_bytes(whole[: len(whole) // 2])
    same(first, open_index(lab.out))


def test_index__a_result_that_cannot_be_read_is_named(lab):
    path = lab.out / "A2.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    index = open_index(lab.out)
    (bad,) = [e.summary for e in index.entries if e.summary.state == "failed"]
    assert bad.experiment_id == "A2"
    assert "A2.parquet" in bad.reason
    assert len(index) == 4
    assert bad.n_rows == 0


def test_index__says_how_far_it_is(lab):
    told = []
    open_index(lab.out, lambda done, n: told.append((done, n)))
    assert told == [(k, 4) for k in (1, 2, 3, 4)]
    open_index(lab.out, lambda done, n: told.append((done, n)))
    assert len(told) == 4


def test_index__folder_that_may_not_be_changed(lab, monkeypatch):
    def refuse(target, suffix=""):
        raise PermissionError(target)

    monkeypatch.setattr(indexing, "atomic_write", refuse)
    assert len(open_index(lab.out)) == 4
    assert not (lab.out / NAME).exists()


def test_index__nothing_there(tmp_path):
    with pytest.raises(OutputError, match="no results"):
        open_index(tmp_path)
    with pytest.raises(OutputError, match="no such folder"):
        open_index(tmp_path / "x")
