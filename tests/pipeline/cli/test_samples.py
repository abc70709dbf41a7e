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


def test_a_catalog_knows_the_table_and_finds_by_it(oectflow, instrument, tmp_path):
    oectflow("ingest", instrument, "raw", "-q")
    table = devices(tmp_path / "devices.csv", "*;1;100;p(g2T-TT)", "*;2;200;PEDOT:PSS")
    answer = oectflow("scan", "raw", "--catalog", "c.db", "--samples", table, "-q")
    assert answer.status == 0, answer.err
    assert "samples: 2 experiments described, 1 not known" in answer.out
    for wanted, n in (
        (["W=100 µm"], 1),
        (["W=50 µm..0.3 mm"], 2),
        (["W=150 µm.."], 1),
        (["W=..1.5e-4"], 1),
        (["semiconductor=p(g2T-TT),PEDOT:PSS"], 2),
        (["W=100 µm", "semiconductor=PEDOT:PSS"], 0),
    ):
        options = [word for one in wanted for word in ("--sample", one)]
        answer = oectflow("search", "--catalog", "c.db", *options, "--json")
        assert len(answer.json) == n, wanted
    for wrong, said in (("W", "expected KEY=VALUE"), ("W=3 V", "'V' is no unit of W")):
        answer = oectflow("search", "--catalog", "c.db", "--sample", wrong)
        assert answer.status != 0
        assert said in answer.err
    answer = oectflow("search", "--catalog", "c.db", "--sample", "W=1 m", "--sample", "W=2 m")
    assert "stands twice" in answer.err
