"""Comparisons on the command line."""

from __future__ import annotations

import pytest

from oectflow.pipeline.execution.driving.run import extract
from oectflow.pipeline.inputs.simulate import simulate_device


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "raw").mkdir()
    for k in range(6):
        simulate_device(
            k, n_transfer=4, n_transient=0, n_points=21, test_id=f"t{k}",
            chip_id=f"C{k % 3}", device_number=str(k),
        ).write(folder / "raw" / f"{k}.h5")  # fmt: skip
    gm = {"gm": {"extractor": "transfer.gm_max", "input": "transfer"}}
    assert extract(folder / "raw", gm, folder / "features", progress=False).ok
    return folder / "features"


def test_groups(oectflow, features, tmp_path):
    out = tmp_path / "g.svg"
    answer = oectflow("compare", "gm", "--by", "chip_id", "-r", features, "-o", out)
    assert answer.status == 0, answer.err
    for word in ("C0", "C2 − C1", "estimate (S)", "devices", "few: two units only"):
        assert word in answer.out
    assert out.read_text().startswith("<?xml")
    found = oectflow("compare", "gm", "--by", "chip_id", "-r", features, "--json").json
    assert found["n_devices"] == [2, 2, 2]
    assert found["attrs"]["label"] == "gm"


def test_before_and_after(oectflow, features):
    answer = oectflow("compare", "gm", "--before", "0-1", "--after", "2,3", "-r", features)
    assert answer.status == 0, answer.err
    assert "after − before" in answer.out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["gm"], "expected by="),
        (["gm", "--by", "chip"], "did you mean 'chip_id'"),
        (["gm", "--by", "chip_id", "--select", "on"], "expected AXIS=ENTRY"),
        (["gm", "--by", "chip_id", "-o", "x.docx"], "expected a name that ends in"),
        (["gm", "--by", "chip_id", "-o", "x.png", "--style", "pie"], "style='pie'"),
        (["gm", "--before", "x", "--after", "1"], "--before x: expected numbers"),
    ],
)
def test_mistakes_are_one_line(oectflow, features, options, why):
    answer = oectflow("compare", *options, "-r", features)
    assert answer.status == 2
    assert why in answer.err
