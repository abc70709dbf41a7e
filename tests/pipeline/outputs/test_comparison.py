"""Pictures and tables of groups of devices."""

from __future__ import annotations

import csv
import math
import shutil
import subprocess

import numpy as np
import openpyxl
import pandas as pd
import pytest
import xarray as xr

import oectflow as of
from oectflow.errors import OutputError, ParameterError, StorageError


@pytest.fixture
def results():
    rng = np.random.default_rng(1)
    values = 1e-3 * (2 + rng.standard_normal((12, 3)) / 10)
    values[6:] += 1e-3
    return xr.Dataset(
        {
            "gm_max": (("experiment", "step"), values, {"units": "S"}),
            "tau": (
                ("experiment", "step", "phase"),
                np.stack([values, 2 * values], axis=2),
                {"units": "s"},
            ),
        },
        {
            "experiment": [f"e{k}" for k in range(12)],
            "chip_id": ("experiment", [f"c{k // 2}" for k in range(12)]),
            "device_id": ("experiment", [str(k) for k in range(12)]),
            "sample_batch": ("experiment", ["=1+1"] * 6 + ["B_2 & 50 %"] * 6),
            "phase": ["on", "off"],
        },
    )


def test_strip_and_box(results):
    found = of.compare(results, "gm_max", "batch")
    for style in ("strip", "box"):
        ax = of.plot_comparison(found, style=style)
        points = np.concatenate([line.get_ydata() for line in ax.lines if line.get_marker() == "o"])
        assert set(found["device_value"].values) <= set(points)
        labels = [tick.get_text() for tick in ax.get_xticklabels()]
        assert labels == ["=1+1\nn = 6", "B_2 & 50 %\nn = 6"]
        assert ax.get_ylabel() == "gm_max"
        ax.figure.canvas.draw()
    bars = [line.get_ydata().tolist() for line in of.plot_comparison(found).lines]
    for k in range(2):
        assert [float(found[f"estimate_{end}"][k]) for end in ("low", "high")] in bars


def test_forest(results):
    found = of.compare(results, "gm_max", "batch")
    ax = of.plot_comparison(found, style="forest")
    drawn = [line.get_xdata() for line in ax.lines]
    low, high = float(found["difference_low"][0]), float(found["difference_high"][0])
    assert any(list(x) == [low, high] for x in drawn)
    (words,) = (tick.get_text() for tick in ax.child_axes[0].get_yticklabels())
    assert (
        words
        == f"g = {float(found['effect_size'][0]):.2f}, p = {float(found['p_corrected'][0]):.2g}"
    )
    ax.figure.canvas.draw()
    logs = of.plot_comparison(of.compare(results, "gm_max", "chip_id", log=True), style="forest")
    assert logs.get_xscale() == "log"
    assert "few" in logs.get_title(loc="left")
    logs.figure.canvas.draw()


def test_pictures_of_little(results):
    for one in (
        of.compare(results.isel(experiment=[0, 1, 6]), "gm_max", "batch"),
        of.compare(results.where(results["sample_batch"] == "=1+1"), "gm_max", "batch"),
        of.compare(results, "gm_max", before=[0], after=[2], log=True),
    ):
        for style in ("strip", "box", "forest"):
            of.plot_comparison(one, style=style).figure.canvas.draw()
    with pytest.raises(ParameterError, match="did you mean 'forest'"):
        of.plot_comparison(one, style="forrest")


def test_table(results, tmp_path):
    wanted = {"gm_max": {}, "tau": {"phase": "off"}}
    frame = of.comparison_table(results, wanted, "batch", tmp_path / "t.csv")
    own = results["gm_max"].mean("step").values[:6]
    assert frame[("", "feature")].tolist() == ["gm_max", "tau off"]
    assert frame[("", "unit")].tolist() == ["S", "s"]
    assert frame[("=1+1", "mean")][0] == pytest.approx(own.mean())
    assert frame[("=1+1", "SD")][0] == pytest.approx(own.std(ddof=1))
    assert frame[("=1+1", "n")].tolist() == [6, 6]
    assert frame[("=1+1", "chips")].tolist() == [3, 3]
    with (tmp_path / "t.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[2] == "'=1+1 mean"
    assert float(rows[1]["B_2 & 50 % mean"]) == frame[("B_2 & 50 %", "mean")][1]
    of.comparison_table(results, wanted, "batch", tmp_path / "t.xlsx")
    (sheet,) = openpyxl.load_workbook(tmp_path / "t.xlsx").worksheets
    cells = [[cell.value for cell in row] for row in sheet]
    assert cells[0][2:6] == ["'=1+1 mean", "'=1+1 SD", "'=1+1 n", "'=1+1 chips"]
    assert cells[1][2] == frame[("=1+1", "mean")][0]
    assert {cell.data_type for row in sheet for cell in row} == {"s", "n"}
    pd.testing.assert_frame_equal(of.comparison_table(results, wanted, "batch"), frame)


def test_latex(results, tmp_path):
    results["gm_max"][:6] = 2.0e-3 + np.repeat([-1, 0, 1], 2)[:, None] * 1.25e-4
    results["gm_max"][6:] = math.nan
    results["gm_max"][6] = 3e-3
    of.comparison_table(results, "gm_max", "batch", tmp_path / "t.tex")
    text = (tmp_path / "t.tex").read_text()
    assert r" & =1+1 & B\_2 \& 50 \% \\" in text
    # SD of -1, -1, 0, 0, 1, 1 times 0.125 mS is 0.112 mS.
    assert r"gm\_max (mS) & $2.00 \pm 0.11$ ($n = 6$) & $3.00$ ($n = 1$) \\" in text
    if shutil.which("pdflatex"):
        (tmp_path / "d.tex").write_text(
            r"\documentclass{article}\usepackage{booktabs,textcomp}\begin{document}"
            f"{text}\\end{{document}}"
        )
        subprocess.run(
            ["pdflatex", "-interaction=batchmode", "-halt-on-error", "d.tex"],
            cwd=tmp_path, check=True, capture_output=True,
        )  # fmt: skip


def test_mistakes_of_tables(results, tmp_path):
    with pytest.raises(OutputError, match=r"did you mean '\.csv'"):
        of.comparison_table(results, "gm_max", "batch", tmp_path / "t.csvv")
    with pytest.raises(StorageError, match="cannot be written"):
        of.comparison_table(results, "gm_max", "batch", tmp_path / "nowhere" / "t.csv")
    with pytest.raises(OutputError, match="choose one of"):
        of.comparison_table(results, "tau", "batch")
    assert list(tmp_path.iterdir()) == []
