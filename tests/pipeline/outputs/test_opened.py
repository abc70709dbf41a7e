"""Exported files, opened by the programs for which they are: LibreOffice and GNU Octave."""

from __future__ import annotations

import csv
import shutil
import subprocess

import numpy as np
import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

SOFFICE, OCTAVE = shutil.which("soffice"), shutil.which("octave-cli")
needs_soffice = pytest.mark.skipif(SOFFICE is None, reason="LibreOffice Calc is not installed")
needs_octave = pytest.mark.skipif(OCTAVE is None, reason="GNU Octave is not installed")
FEATURES = {
    "gm": {"extractor": "transfer.gm_max", "input": "transfer"},
    "tau": {"extractor": "transient.tau_on_off", "input": "transient"},
}
#: Fields divided by commas, text in quotes, UTF-8, full precision, and all sheets.
ALL_SHEETS = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "raw").mkdir()
    for k in range(2):
        simulate_device(
            k, n_transfer=3, n_transient=2, n_points=21, n_cycles=4, test_id=f"t{k}",
            chip_id="=1+1" if k else "C6 µé", device_number=f"0{k}",
        ).write(folder / "raw" / f"{k}.h5")  # fmt: skip
    assert of.extract(folder / "raw", FEATURES, folder / "out", progress=False).ok
    of.mark(folder / "out", experiment="t0", step=1, feature="gm")
    return folder / "out"


@pytest.fixture(scope="module")
def results(out):
    return of.open_results(out).load()


def convert(path, into, *options):
    """Open a file in LibreOffice, with a profile of its own, and save it as something else."""
    command = [
        SOFFICE, "--headless", f"-env:UserInstallation=file://{path.parent}/profile",
        *options, "--convert-to", into, "--outdir", path.parent / "converted", path,
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return path.parent / "converted"


def rows_of(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


@needs_soffice
def test_libreoffice_has_the_numbers_of_a_workbook(out, results, tmp_path):
    folder = convert(of.export(out, tmp_path / "book.xlsx"), ALL_SHEETS)
    assert {path.name for path in folder.iterdir()} == {
        f"book-{name}.csv" for name in ("experiments", "steps", "cycles", "columns")
    }
    heads, units, *rows = rows_of(folder / "book-steps.csv")
    assert units[heads.index("gm")] == "S"
    assert [row[0] for row in rows] == ["t0"] * 3 + ["t1"] * 3
    # Text stays text: no formula is computed, no zero lost.
    assert {(row[1], row[2]) for row in rows} == {("C6 µé", "00"), ("'=1+1", "01")}
    for row in rows:
        one = results.gm.sel(experiment=row[0]).isel(step=int(row[3]))
        # It writes 15 digits.
        value = float(row[heads.index("gm")] or "nan")
        np.testing.assert_allclose(value, float(one), rtol=1e-14)
    assert rows[1][heads.index("gm_status")] == "marked"
    heads, _, *rows = rows_of(folder / "book-cycles.csv")
    on = [float(row[heads.index("tau_on")] or "nan") for row in rows if row[0] == "t1"]
    kept = results.tau.sel(experiment="t1", phase="on").values[:2].ravel()
    np.testing.assert_allclose(on, kept, rtol=1e-14)


@needs_soffice
def test_libreoffice_shows_the_colours(out, tmp_path):
    folder = convert(of.export(out, tmp_path / "book.xlsx"), "fods")
    # Violet is what is marked as bad.
    assert 'fo:background-color="#d9c3e6"' in (folder / "book.fods").read_text(encoding="utf-8")


@needs_soffice
def test_a_decimal_comma_is_one_in_germany(out, results, tmp_path):
    path = of.export(out, tmp_path / "steps.csv", decimal=",")
    # Semicolons, UTF-8, German.
    folder = convert(path, ALL_SHEETS, "--infilter=CSV:59,34,76,1,,1031,false,true")
    heads, *rows = rows_of(next(folder.glob("*.csv")))
    found = [float(row[heads.index("gm (S)")] or "nan") for row in rows]
    np.testing.assert_allclose(found, results.gm.values.ravel(), rtol=1e-14)


@needs_octave
def test_octave_has_the_numbers_of_a_mat_file(out, results, tmp_path):
    of.export(out, tmp_path / "all.mat")
    (tmp_path / "read.m").write_text(
        "s = load('all.mat');\n"
        "printf('%d ', size(s.data.tau)); printf('\\n');\n"
        "printf('%s ', s.dims.tau{:}); printf('\\n');\n"
        "printf('%s %s\\n', s.units.tau, s.units.gm);\n"
        "printf('%s ', s.words.gm_status{s.data.gm_status'}); printf('\\n');\n"
        "printf('%s ', s.coords.experiment{:}); printf('\\n');\n"
        "printf('%.17g ', s.data.gm'); printf('\\n');\n"
        "printf('%.17g ', s.data.tau(2, 1, :, 1)); printf('\\n');\n"
    )
    said = subprocess.run(
        [OCTAVE, "--no-init-file", "--no-history", "--quiet", "read.m"],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "error: load" not in said.stderr, said.stderr
    shape, dims, units, words, names, gm, tau = said.stdout.splitlines()
    assert tuple(map(int, shape.split())) == results.tau.shape
    assert dims.split() == list(results.tau.dims)
    assert units == "s S"
    assert words.split() == results.gm_status.values.ravel().tolist()
    assert names.split() == ["t0", "t1"]
    # To the last bit.
    np.testing.assert_array_equal(list(map(float, gm.split())), results.gm.values.ravel())
    own = results.tau.isel(experiment=1, step=0).sel(phase="on").values
    np.testing.assert_array_equal(list(map(float, tau.split())), own)
