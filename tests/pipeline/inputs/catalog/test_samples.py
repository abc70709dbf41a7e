"""Samples in a catalog: from raw files and from a table, and searching by them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import h5py
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text

from oectflow.errors import CatalogError, ConfigError
from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.inputs.catalog import Catalog
from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.inputs.samples import read_samples

Make = Callable[..., Path]


def give_sample(path: Path, **attributes: object) -> Path:
    with h5py.File(path, "r+") as file:
        file.create_group("sample").attrs.update(attributes)
    an_hour_ago = path.stat().st_mtime - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    return path


def devices(path: Path, *rows: str) -> Path:
    head = "chip_id,device_id,W (µm),semiconductor,age (d),batch"
    path.write_text("\n".join([head, *rows]), encoding="utf-8")
    return path


def found(catalog: Catalog, **filters: Any) -> list[str]:
    return sorted(catalog.search(**filters).test_ids)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return devices(
        tmp_path / "devices.csv", "#1,1,100,p(g2T-TT),3,7", "#1,2,200,PEDOT:PSS,5,8", "*,*,,,,9"
    )


def test_a_scan_takes_what_the_files_say(catalog: Catalog, raw: Path, make_file: Make) -> None:
    give_sample(make_file(1), W=1e-4, ink="blue", age=3.0, unit_age="d")
    make_file(2)
    assert catalog.scan(raw).ok
    assert catalog.get("test_1").sample == {
        "W": 1e-4,
        "ink": "blue",
        "age": 3.0,
        "units": {"age": "d"},
    }
    assert catalog.get("test_2").sample == {}
    assert found(catalog, W=1e-4) == ["test_1"]
    assert found(catalog, ink="blue", age=(2, 4)) == ["test_1"]
    frame = catalog.search(order_by="test_id", order_desc=False).to_frame(sample=True)
    assert frame.sample_ink.fillna("").tolist() == ["blue", ""]
    assert frame.sample_W[0] == 1e-4


def test_search_by_a_table(catalog: Catalog, raw: Path, make_file: Make, table: Path) -> None:
    for number in (1, 2, 3):
        make_file(number)
    catalog.scan(raw)
    report = catalog.set_samples(table)
    assert (report.n_described, report.n_unknown, report.contradictions) == (3, 0, [])
    for filters, expected in (
        ({"W": 100 / 1e6}, [1]),
        ({"W": 1e-4}, [1]),
        ({"W": "0.1 mm"}, [1]),
        ({"W": [1e-4, "200 µm"]}, [1, 2]),
        ({"W": ("50 µm", None)}, [1, 2]),
        ({"W": (None, 1.5e-4)}, [1]),
        ({"W": (1e-4, 2e-4)}, [1, 2]),
        ({"W": 1.01e-4}, []),
        ({"semiconductor": "p(g2T-TT)"}, [1]),
        ({"semiconductor": ["p(g2T-TT)", "PEDOT:PSS"], "age": (4, None)}, [2]),
        ({"batch": 9}, [3]),
        ({"batch": "7", "chip_id": "#1"}, [1]),
        ({"L": 1e-5}, []),
        ({"W": None}, [1, 2, 3]),
    ):
        assert found(catalog, **filters) == [f"test_{number}" for number in expected], filters
    assert found(catalog, W=1e-4, limit=1) == ["test_1"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"W": "wide"}, "W='wide': .*expected a number"),
        ({"W": "5 V"}, "'V' is no unit of W"),
        ({"W": "5"}, "has no unit"),
        ({"W": (1, 2, 3)}, "a range is"),
        ({"W": 100}, "W=100 m is impossible"),
        ({"semiconductor": ("a", "b")}, "a range is of two numbers"),
        ({"semiconductor": True}, "expected a number, a text"),
        ({"semicondutor": "a"}, "did you mean 'semiconductor'"),
    ],
)
def test_wrong_filters_are_named(catalog: Catalog, filters: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        catalog.search(**filters)


def test_the_table_is_kept_for_later_scans(
    catalog: Catalog, url: str, raw: Path, make_file: Make, table: Path
) -> None:
    assert catalog.samples is None
    catalog.set_samples(table)
    make_file(1)
    catalog.scan(raw)
    assert found(catalog, W=1e-4) == ["test_1"]
    with Catalog(url) as again:
        assert again.samples is not None
        assert again.samples.of("#1", 2) == read_samples(table).of("#1", 2)
    catalog.set_samples({"W": 3e-4, "u_W": "5 %"})
    assert found(catalog, W=3e-4) == ["test_1"]
    assert catalog.samples.of(1, 1)["u_W"] == pytest.approx(1.5e-5)
    assert catalog.set_samples(None).n_unknown == 1
    assert catalog.get("test_1").sample == {}


def test_a_wrong_table_changes_nothing(catalog: Catalog, table: Path, tmp_path: Path) -> None:
    catalog.set_samples(table)
    with pytest.raises(ConfigError, match="W=0 µm is impossible"):
        catalog.set_samples(devices(tmp_path / "other.csv", "#1,1,0,,,"))
    assert catalog.samples is not None
    assert catalog.samples.of("#1", 1)["W"] == 1e-4


def test_contradictions_are_said(
    catalog: Catalog, raw: Path, make_file: Make, table: Path, tmp_path: Path
) -> None:
    give_sample(make_file(1), W=5e-4)
    catalog.scan(raw)
    report = catalog.set_samples(table)
    message = f"W: the file says 0.0005 m, {table}, line 2 says 0.0001 m; the file counts"
    assert report.contradictions == [("test_1", message)]
    assert f"test_1: {message}" in str(report)
    assert catalog.get("test_1").sample["W"] == 5e-4
    # A later scan says it, too, and so does one of rows that contradict each other.
    give_sample(make_file(2), W=6e-4)
    assert "W: the file says 0.0006 m" in str(catalog.scan(raw))
    crossed = devices(tmp_path / "crossed.csv", "#1,*,100,,,", "*,3,200,,,")
    catalog.set_samples(crossed)
    make_file(3)
    assert "line 3 says 0.0002 m; correct one of them" in str(catalog.scan(raw))
    # What is known of the file does not go with the table.
    catalog.set_samples(None)
    assert catalog.get("test_1").sample == {"W": 5e-4}


def test_a_changed_file_is_completed_again(
    catalog: Catalog, raw: Path, make_file: Make, table: Path
) -> None:
    path = make_file(1)
    catalog.scan(raw)
    catalog.set_samples(table)
    give_sample(path, semiconductor="P3HT")
    catalog.scan(raw)
    sample = catalog.get("test_1").sample
    assert (sample["semiconductor"], sample["W"]) == ("P3HT", 1e-4)


def test_results_tell_of_experiments_that_were_never_scanned(
    catalog: Catalog, make_file: Make, table: Path, tmp_path: Path
) -> None:
    features = {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}
    extract(make_file(1), features, tmp_path / "out", samples=table, progress=False)
    catalog.sync_features(tmp_path / "out")
    assert found(catalog, W=1e-4, has_features="gm") == ["test_1"]


def test_backup_and_vacuum(
    catalog: Catalog, raw: Path, make_file: Make, table: Path, tmp_path: Path
) -> None:
    make_file(1)
    catalog.scan(raw)
    catalog.set_samples({"W": 7e-4})
    catalog.set_samples(table)
    with Catalog(catalog.backup(tmp_path / "copy.db")) as copy:
        assert found(copy, W=1e-4) == ["test_1"]
        assert copy.samples is not None
        copy.vacuum()
        with copy._store.read() as connection:
            assert connection.scalar(text("SELECT count(*) FROM samples")) == 1
            assert connection.scalar(text("SELECT count(*) FROM sample_values")) == 4
        assert copy.validate().ok


def test_a_catalog_of_the_first_schema_is_taken_along(
    tmp_path: Path, raw: Path, make_file: Make, table: Path
) -> None:
    path = tmp_path / "old.db"
    make_file(1)
    with Catalog(path) as catalog:
        catalog.scan(raw)
    # Put the experiment into a database as the first version made it.
    old = tmp_path / "first.db"
    config = Config()
    folder = files("oectflow.pipeline.inputs.catalog") / "migrations"
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    with Catalog(old):
        pass
    old.unlink()
    mark = sqlite3.connect(old)
    mark.execute("PRAGMA application_id = 0x6F656374")
    mark.close()
    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(text(f"ATTACH '{path}' AS new"))
        for name in ("workflows", "experiments", "raw_files"):
            rows = connection.execute(text(f"PRAGMA main.table_info({name})"))
            columns = ", ".join(row.name for row in rows)
            connection.execute(
                text(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM new.{name}")
            )
    engine.dispose()
    with Catalog(old) as catalog:
        assert catalog.get("test_1").sample == {}
        catalog.set_samples(table)
        assert found(catalog, W=1e-4) == ["test_1"]
        assert catalog.validate().ok
        assert isinstance(catalog.get("test_1").open(), Experiment)
