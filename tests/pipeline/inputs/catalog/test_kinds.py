"""The catalog knows which kinds of measurement an experiment has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alembic import command
from sqlalchemy import text

import oectflow as of
from oectflow.errors import CatalogError
from oectflow.measurement import Measurement, Step
from oectflow.pipeline.inputs.catalog import store as store_module
from oectflow.pipeline.inputs.raw_format import write_measurement

CURVE = {"Vd": np.arange(3.0), "Id": np.arange(3.0)}
SWEEP = {"Vg": np.arange(3.0), "Id": np.arange(3.0)}


@pytest.fixture
def catalog(url: str, tmp_path: Path) -> of.Catalog:
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, steps in {
        "test_both": [Step("output", CURVE)] * 4 + [Step("transfer", SWEEP)],
        "test_sweep": [Step("transfer", SWEEP)] * 2,
        "test_none": [],
    }.items():
        attributes = {"test_id": name, "chip_id": "c", "device_number": "1"}
        write_measurement(raw / f"x-{name}.h5", Measurement(attributes, steps))
    catalog = of.Catalog(url)
    catalog.scan(raw)
    return catalog


def test_search__by_kind(catalog: of.Catalog) -> None:
    def found(kind: object) -> list[str]:
        return sorted(catalog.search(kind=kind).test_ids)

    assert found("output") == ["test_both"]
    assert found("transfer") == ["test_both", "test_sweep"]
    assert found(["output", "transient"]) == ["test_both"]
    assert found("impedance") == []
    with pytest.raises(CatalogError, match="did you mean 'output'"):
        found("outputs")


def test_entry__counts_the_steps_of_each_kind(catalog: of.Catalog) -> None:
    entry = catalog.get("test_both")
    assert entry.n_steps == {"output": 4, "transfer": 1}
    assert entry.total_steps == 5
    assert catalog.get("test_none").n_steps == {}
    frame = catalog.search(order_by="test_id", order_desc=False).to_frame()
    assert frame["output_steps"].tolist() == [4, 0, 0]


def test_migration__files_of_before_have_the_two_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.db"
    upgrade = command.upgrade
    with monkeypatch.context() as old:
        old.setattr(command, "upgrade", lambda config, _: upgrade(config, "0002"))
        old.setattr(store_module, "SCHEMA_VERSION", "0002")
        store = store_module.Store(path)
        with store.write() as connection:
            for name, transfer, transient in (("test_a", 3, 0), ("test_b", 3, 2), ("test_c", 0, 0)):
                connection.execute(
                    text(
                        "INSERT INTO experiments (test_id, chip_id, device_id, status, "
                        "device_type, file_state, total_steps, transfer_steps, transient_steps, "
                        "search_text, description, total_data_points) VALUES (:name, '', '', "
                        "'unknown', 'unknown', 'missing', 0, :transfer, :transient, '', '', 0)"
                    ),
                    {"name": name, "transfer": transfer, "transient": transient},
                )
                connection.execute(
                    text(
                        "INSERT INTO raw_files (experiment_id, path, size, mtime_ns, scanned_ns, "
                        "problem) SELECT id, '', 0, 0, 0, '' FROM experiments WHERE test_id = :name"
                    ),
                    {"name": name},
                )
        store.close()
    catalog = of.Catalog(path)
    counts = {entry.test_id: entry.n_steps for entry in catalog.search()}
    assert counts == {
        "test_a": {"transfer": 3},
        "test_b": {"transfer": 3, "transient": 2},
        "test_c": {},
    }
