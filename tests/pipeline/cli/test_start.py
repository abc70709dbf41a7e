"""``init`` and ``demo``."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import pytest

from oectflow.pipeline.inputs.catalog import load_catalog_config
from oectflow.pipeline.inputs.simulate import simulate_device


def test_demo__refuses_a_folder_with_other_things(oectflow, tmp_path: Path) -> None:
    (tmp_path / "mine/raw").mkdir(parents=True)
    answer = oectflow("demo", "mine")
    assert answer.status == 2
    assert "is not a demo of oectflow" in answer.err


def test_init__makes_what_the_next_commands_need(oectflow, tmp_path: Path) -> None:
    answer = oectflow("init", "lab", "--raw", "/nowhere/../tmp", "--database", "my.db")
    assert answer.status == 0, answer.err
    config = load_catalog_config(tmp_path / "lab/catalog_config.yaml")
    assert config.roots.raw_data == "/nowhere/../tmp"
    assert config.database.path == "my.db"
    assert (tmp_path / "lab/data/features_v2").is_dir()
    for step in ("cd lab", "oectflow ingest", "oectflow scan", "oectflow extract"):
        assert step in answer.out


def test_init__never_overwrites(oectflow, tmp_path: Path) -> None:
    path = tmp_path / "catalog_config.yaml"
    path.write_text("mine")
    answer = oectflow("init")
    assert answer.status == 2
    assert "catalog_config.yaml: exists" in answer.err
    assert path.read_text() == "mine"
    # Nor does it leave folders behind.
    assert list(tmp_path.iterdir()) == [path]


def test_init__folder_that_cannot_be_made(oectflow, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = oectflow("init", "file/lab")
    assert answer.status == 2
    assert "cannot be made" in answer.err


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    """One transient of three cycles, with headings that nobody knows."""
    step = simulate_device(5, n_transfer=1, n_transient=1, n_cycles=3).transient_steps[0]
    columns = (step.arrays["time"].tolist(), step.arrays["Id"].tolist())
    lines = [f"{t!r},{current!r}" for t, current in zip(*columns, strict=True)]
    (tmp_path / "my.csv").write_text("\n".join(["clock,probe 2", *lines]))
    return tmp_path / "my.csv"


def test_import__a_table_and_a_picture_of_one_file(oectflow, csv: Path) -> None:
    options = ("--time", "clock", "--id", "probe 2", "--period", "0.2", "-f", "transient_tau")
    answer = oectflow("import", csv, *options, "--plot", "--out", "kept/my.h5")
    assert answer.status == 0
    assert "r_squared" in answer.out
    assert "[[step 0, cycle 0, on]]" in answer.out
    assert matplotlib.image.imread(csv.with_name("my.png")).ndim == 3
    taus = [row["value"] for row in oectflow("import", csv, *options, "--json").json["features"]]
    of_raw = oectflow("import", csv.parent / "kept/my.h5", "-f", "transient_tau", "--json").json
    assert [row["value"] for row in of_raw["features"]] == taus
    assert oectflow("extract", "kept", "-f", "transient_tau", "-o", "out").status == 0
    answer = oectflow("import", csv, *options, "--out", "kept/my.h5")
    assert (answer.status, "exists; choose another name" in answer.err) == (2, True)


def test_import__what_it_does_not_know_is_named_with_the_option(oectflow, csv: Path) -> None:
    answer = oectflow("import", csv)
    assert answer.status == 2
    assert "--time, --id" in answer.err


def test_extract__of_a_text_file_says_what_to_call(oectflow, csv: Path) -> None:
    answer = oectflow("extract", csv)
    assert answer.status == 1
    assert f"oectflow import {csv}" in answer.out


def test_interrupted__one_line_and_130(oectflow, csv: Path, monkeypatch) -> None:
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("oectflow.pipeline.execution.driving.run.extract_lazily", stop)
    answer = oectflow("extract", csv)
    assert answer.status == 130
    assert answer.err.splitlines() == [
        "stopped: the files that were written are complete, and the same command goes on with the "
        "rest"
    ]
