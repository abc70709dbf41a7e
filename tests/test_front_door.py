"""What a user imports, and the promises about it."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import oectflow as of
from oectflow import errors

ROOT = Path(__file__).resolve().parents[1]


def test_all__is_sorted_and_what_completion_shows():
    assert of.__all__ == sorted(of.__all__)
    assert set(of.__all__) <= set(dir(of))


def test_import__imports_nothing_heavy():
    heavy = ("numpy", "numba", "dask")
    code = f"import oectflow, sys; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_all__everything_is_documented():
    for name in of.__all__:
        assert inspect.getdoc(getattr(of, name)), name


@pytest.mark.parametrize("room", ["pipeline", "extractors", "cluster"])
def test_rooms__refuse_their_bare_names(room):
    run = subprocess.run(
        [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert f"import oectflow.{room}, not {room}" in run.stderr


def test_import__needs_neither_matplotlib_nor_xarray():
    # Workers import the package too, and each of these would cost every one of them memory.
    heavy = ("matplotlib", "xarray", "IPython", "ipywidgets")
    tasks = "oectflow.pipeline.execution.worker.tasks"
    code = f"import {tasks}, sys; print([m for m in {heavy} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_plots__without_matplotlib_say_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(of.OectflowError, match=r"pip install 'oectflow\[plot\]'"):
        of.plot_feature(None, "tau")


ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_errors__cross_processes(kind):
    error = kind("file.h5: what was wrong")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert issubclass(kind, of.OectflowError)


def test_errors__the_drawn_tree_is_the_real_one():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__)) | {"OectflowError"}
    assert drawn == {kind.__name__ for kind in ERRORS}


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("forwrd", ["forward", "reverse"], "; did you mean 'forward'?"),
        ("VON", ["Von", "gm"], "; did you mean 'Von'?"),
        ("xyz", ["a", "b"], "; known: a, b"),
        ("xyz", [], ""),
    ],
)
def test_did_you_mean(word, known, hint):
    assert errors.did_you_mean(word, known) == hint


def test_overview__names_every_extractor_with_its_unit():
    text = (ROOT / "docs" / "overview.md").read_text()
    for name in of.extractor_names():
        extractor = of.get_extractor(name)
        if type(extractor).__module__.startswith("oectflow."):
            assert f"| `{name}` | {extractor.unit or '1'} |" in text, name


def test_version__is_the_one_installed():
    assert importlib.metadata.version("oectflow") == of.__version__
