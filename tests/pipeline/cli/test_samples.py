"""Tables of devices on the command line."""

from __future__ import annotations

from pathlib import Path

from oectflow.pipeline.inputs.experiment import Experiment
from oectflow.pipeline.outputs.results import open_results

FEATURES = "name: mine\nfeatures:\n  - {name: gm, extractor: transfer.gm_max, input: transfer}\n"


def devices(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["chip_id;device_id;W [µm];semiconductor", *rows]), "utf-16")
    return path


def test_ingest_and_extract_take_a_table(oectflow, instrument, tmp_path):
    table = devices(tmp_path / "devices.csv", "*;*;100,5;p(g2T-TT)")
    answer = oectflow("ingest", instrument, "raw", "--samples", table, "-q")
    assert answer.status == 0, answer.err
    raw = sorted(Path("raw").glob("*.h5"))
    assert [Experiment(path).sample["W"] for path in raw] == [100.5 / 1e6] * 3
    Path("mine.yaml").write_text(FEATURES)
    other = devices(tmp_path / "other.csv", "*;1;200;", "*;*;;")
    answer = oectflow("extract", "raw", "-f", "mine.yaml", "-o", "out", "--samples", other, "-q")
    assert answer.status == 0, answer.err
    assert "W: the file says 0.0001005 m, " in answer.out
    assert open_results("out").sample_W.values.tolist() == [100.5 / 1e6] * 3


def test_a_wrong_table_is_one_line(oectflow, instrument, tmp_path):
    table = devices(tmp_path / "devices.csv", "*;*;wide;")
    for command in (["ingest", instrument, "raw"], ["extract", instrument]):
        answer = oectflow(*command, "--samples", table)
        assert answer.status != 0
        assert "line 2: 'W [µm]' is 'wide', expected a number" in answer.err
