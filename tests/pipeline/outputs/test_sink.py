"""Parquet files: what is written comes back, whole or not at all, and readable by everybody."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from oectflow.errors import OutputError
from oectflow.extractors.base import COMMON_STATUSES, Variable
from oectflow.pipeline.outputs import sink
from oectflow.pipeline.outputs.places import result_path
from oectflow.pipeline.outputs.sink import (
    Problem,
    Results,
    read_columns,
    read_metadata,
    read_problems,
    read_variables,
    write_results,
)

PHASES = {"phase": ("on", "off")}
VARIABLES = {
    "gm": Variable("S", "maximum transconductance"),
    "gm_status": Variable("", "", dtype="int8", statuses={**COMMON_STATUSES, "edge": "at edge"}),
    "peaks": Variable("A", "peaks", ("n_cycles",), ("cycle",)),
    "tau": Variable("s", "time constant", ("n_cycles", 2), ("cycle", "phase"), PHASES),
    "tau_status": Variable(
        "", "", ("n_cycles", 2), ("cycle", "phase"), PHASES, "int8", COMMON_STATUSES
    ),
    "matrix": Variable("1", "anything", (2, 3), ("row", "column")),
    "r2": Variable("", "float32", dtype="float32"),
}


def results(n_steps: int = 4, n_cycles: int = 3, name: str = "exp1", seed: int = 0) -> Results:
    rng = np.random.default_rng(seed)
    columns = {}
    for key, variable in VARIABLES.items():
        sizes = [n_cycles if size == "n_cycles" else size for size in variable.shape]
        if variable.statuses:
            columns[key] = rng.integers(0, len(variable.statuses), (n_steps, *sizes), np.int8)
        else:
            columns[key] = rng.normal(size=(n_steps, *sizes)).astype(variable.dtype)
            columns[key][:1] = np.nan
    return Results(
        {"experiment_id": name, "chip_id": "#1", "step_index": np.arange(n_steps)},
        columns,
        VARIABLES,
        {key: key.partition("_")[0] for key in VARIABLES},
        [
            Problem(step, "transfer", "gm", "error", "ValueError", "no")
            for step in range(1, n_steps)
        ],
        {
            "config": "mine",
            "created": "2026-01-02T03:04:05+00:00",
            "features": {"gm": {"fingerprint": "ab", "counts": {}}},
            "identity": {"experiment_id": name, "chip_id": "#1", "device_id": "1"},
            "n_rows": n_steps,
            "source": {
                "path": "raw.h5",
                "size": 1,
                "mtime_ns": 1,
                "content_hash": "ab",
                "n_steps": {"transfer": n_steps},
            },
        },
    )


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize("n_cycles", [0, 1, 3])
@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_write__comes_back_bit_for_bit(tmp_path, expand, n_cycles, n_steps):
    written = results(n_steps, n_cycles)
    path = tmp_path / "exp1.parquet"
    size = write_results(path, written, expand_multidim=expand)
    assert size == path.stat().st_size
    metadata = read_metadata(path)
    assert read_variables(metadata) == VARIABLES
    back = read_columns(path, list(VARIABLES), metadata)
    for name, column in written.columns.items():
        assert back[name].dtype == column.dtype
        np.testing.assert_array_equal(back[name], column)
    assert read_problems(path) == list(written.problems)
    assert metadata["features"] == {"gm": {"fingerprint": "ab", "counts": {}}}


def test_write__columns_and_units(tmp_path):
    path = tmp_path / "exp1.parquet"
    write_results(path, results())
    schema = pq.read_schema(path)
    assert schema.names == [
        "experiment_id", "chip_id", "step_index", "gm", "gm_status", "peaks", "tau_on", "tau_off",
        "tau_status_on", "tau_status_off", "matrix", "r2", "problems",
    ]  # fmt: skip
    assert schema.field("tau_on").type == pa.list_(pa.field("element", pa.float64()))
    about = json.loads(pq.read_metadata(path).metadata[b"oectflow"])
    units = {schema.names[i]: unit for unit, places in about["units"].items() for i in places}
    assert units == {
        name: VARIABLES[name.removesuffix("_on").removesuffix("_off")].unit
        for name in ("gm", "peaks", "tau_on", "tau_off", "matrix")
        if VARIABLES[name.removesuffix("_on").removesuffix("_off")].unit
    }
    assert units["tau_on"] == "s"


def test_write__expanded_columns(tmp_path):
    path = tmp_path / "exp1.parquet"
    write_results(path, results(n_cycles=2), expand_multidim=True)
    names = pq.read_schema(path).names
    assert [n for n in names if n.startswith("peaks")] == ["peaks_0", "peaks_1"]
    assert [f"tau_{k}" for k in range(4)] == [
        n for n in names if n.startswith("tau_") and n[4:].isdigit()
    ]


def test_write__everybody_reads_a_folder_as_one_table(tmp_path):
    written = [results(4, 3, "a"), results(2, 5, "b", seed=1)]
    for one in written:
        write_results(tmp_path / f"{one.identity['experiment_id']}.parquet", one)
    gm = np.concatenate([one.columns["gm"] for one in written])
    tau_on = [row for one in written for row in one.columns["tau"][..., 0].tolist()]
    pattern = str(tmp_path / "*.parquet")
    tables = [
        pd.read_parquet(tmp_path),
        pyarrow.dataset.dataset(tmp_path).to_table().to_pandas(),
        polars.read_parquet(pattern).to_pandas(),
        duckdb.sql(f"select * from '{pattern}'").df(),
    ]
    for table in tables:
        table = table.sort_values(["experiment_id", "step_index"])
        np.testing.assert_array_equal(table["gm"].to_numpy(), gm)
        for got, want in zip(table["tau_on"], tau_on, strict=True):
            np.testing.assert_array_equal(np.asarray(got, float), want)
        assert set(table["gm_status"].astype(str)) <= {*COMMON_STATUSES, "edge"}


def test_write__a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "exp1.parquet"
    write_results(path, results())
    before = path.read_bytes()

    def full(file, schema, **options):
        Path(file).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sink.pq, "ParquetWriter", full)
    with pytest.raises(OutputError, match=r"exp1\.parquet: cannot be written.*No space left"):
        write_results(path, results(seed=1))
    assert path.read_bytes() == before
    assert [p for p in tmp_path.iterdir() if not p.name.startswith("_definitions-")] == [path]


@pytest.mark.parametrize("content", [b"notes", None])
def test_write__never_overwrites_a_file_that_is_not_ours(tmp_path, content):
    path = tmp_path / "exp1.parquet"
    if content is None:
        pq.write_table(pa.table({"x": [1]}), path)
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="not written by oectflow"):
        write_results(path, results())
    assert path.read_bytes() == before


def test_read_metadata__newer_format(tmp_path, monkeypatch):
    path = tmp_path / "exp1.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(sink, "FORMAT", sink.FORMAT + 1)
        write_results(path, results())
    with pytest.raises(OutputError, match="upgrade oectflow"):
        read_metadata(path)


def test_result_path__no_surprises(tmp_path):
    assert result_path(tmp_path, "test_1").name == "test_1.parquet"
    assert result_path(tmp_path, "../a b:c").parent == tmp_path
    assert result_path(tmp_path, ".hidden").name == "_hidden.parquet"
