"""Many small results take little space, and little to open."""

from __future__ import annotations

import os

import dask
import pyarrow as pa
import pyarrow.parquet as pq

from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.outputs import results as results_module
from oectflow.pipeline.outputs.results import open_results, results_frame


def small(folder):
    device = simulate_device(
        0, n_transfer=2, n_transient=2, n_points=41, n_cycles=4, period=0.06, test_id="t0"
    )
    extract(device.write(folder / "t0.h5"), "all", folder / "out", progress=False)
    return folder / "out" / "t0.parquet"


def test_small_result__has_few_bytes(tmp_path):
    """The set ``all`` has more than 140 columns; Parquet takes 140 bytes each."""
    # Arrow 17, the lowest, takes 50 bytes more than 26.
    each = 170 if int(pa.__version__.split(".")[0]) >= 26 else 210
    path = small(tmp_path)
    assert path.stat().st_size < each * pq.read_metadata(path).num_columns
    assert len(list(path.parent.glob("_definitions-*.json"))) == 1


def test_many_results__are_opened_without_a_task_for_each(tmp_path):
    one = small(tmp_path)
    for i in range(1, 50):
        os.link(one, one.with_name(f"t{i}.parquet"))
    files, _ = results_module._files(one.parent)
    assert len({id(file.described) for file in files}) == 1
    assert len({id(file.variables) for file in files}) == 1
    ds = open_results(one.parent)
    peak = ds["absI_max_raw"] if "absI_max_raw" in ds else ds[next(iter(ds))]
    assert peak.sizes["experiment"] == 50
    (layer,) = peak.data.dask.layers.values()
    assert not layer.is_materialized()
    # Only what is asked for is read.
    for path in one.parent.glob("t[1-9]*.parquet"):
        path.unlink()
    (graph,) = dask.optimize(peak.isel(experiment=0).data)
    assert graph.compute().shape == (2,)


def test_many_results__one_schema_is_read_for_all_that_say_the_same(tmp_path, monkeypatch):
    one = small(tmp_path)
    for i in range(1, 20):
        os.link(one, one.with_name(f"t{i}.parquet"))
    read = []
    schema = results_module._schema
    monkeypatch.setattr(results_module, "_schema", lambda path: read.append(path) or schema(path))
    assert results_frame(one.parent).npartitions == 20
    assert len(read) == 1
