"""The examples in docstrings run, in a folder that holds the files they name."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device

SOURCES = Path(inspect.getfile(of)).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _names() -> Iterator[str]:
    """Modules with examples; only those are imported to be looked at."""
    yield of.__name__
    for found in pkgutil.walk_packages(of.__path__, f"{of.__name__}."):
        source = found.module_finder.find_spec(found.name, None).loader.get_source(found.name)
        if ">>>" in source:
            yield found.name


EXAMPLES = [
    example
    for name in _names()
    for example in doctest.DocTestFinder().find(importlib.import_module(name))
    if example.examples
]


def _table(path: Path, **columns: np.ndarray) -> None:
    np.savetxt(
        path, np.column_stack([*columns.values()]), delimiter=",", header=",".join(columns),
        comments="",
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that an example names: raw files, results, tables, an instrument, a laboratory."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "raw").mkdir()
    (folder / "lab" / "raw").mkdir(parents=True)
    for number in (1, 2):
        device = simulate_device(
            number,
            n_transfer=2,
            n_transient=2,
            n_points=41,
            n_cycles=4,
            period=0.2,
            chip_id="#20250804008",
            device_number=str(number),
            test_id=f"test_{number}",
        )
        for raw in ("raw", "lab/raw"):
            device.write(folder / raw / device.file_name)
    device.write(folder / "test_2.h5")
    device.write_folder(folder / "instrument" / "test_2")
    pulses = device.transient_steps[0].arrays
    _table(folder / "pulses.csv", **{"time (s)": pulses["time"], "Id (A)": pulses["Id"]})
    sweeps = [
        np.concatenate([step.arrays[name] for step in device.transfer_steps])
        for name in ("Vg", "Id")
    ]
    _table(folder / "device_3.csv", **dict(zip(("Vg (V)", "Id (A)"), sweeps, strict=True)))
    of.extract(folder / "raw", "transient_tau", folder / "features", progress=False)
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example__gives_what_it_shows(
    example: doctest.DocTest, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(files, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    said: list[str] = []
    with warnings.catch_warnings():
        # A figure that is drawn in the background is not shown.
        warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
        doctest.DocTestRunner(optionflags=FLAGS).run(example, out=said.append)
    assert not said, "".join(said)


def test_examples__none_is_left_out() -> None:
    left_out = [
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if "doctest: +SKIP" in path.read_text(encoding="utf-8")
    ]
    assert not left_out, "what cannot run is prose or a literal block, which promises nothing"
    # Otherwise nothing would be tested, and nobody would see it.
    assert len(EXAMPLES) > 30
