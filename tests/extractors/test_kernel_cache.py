"""Compiled kernels are kept apart by the source of what is compiled into them."""

from __future__ import annotations

import ast
import pkgutil
import sys
from pathlib import Path

import numba
from numba.core.dispatcher import Dispatcher

from oectflow.extractors import kernels
from oectflow.extractors.kernels import correlate, simd_fit, source_digests, sweeps


def test_source_digests__change_with_the_module_and_what_it_imports(tmp_path: Path):
    (tmp_path / "a.py").write_text("from oectflow.extractors.kernels.b import y")
    (tmp_path / "b.py").write_text("def f():\n    from . import (\n        c,\n    )\n")
    (tmp_path / "c.py").write_text("z = 1")
    (tmp_path / "d.py").write_text("import numpy")
    first = source_digests(tmp_path)
    assert [name for name in first if name != "d"] == ["c", "b", "a"]
    assert source_digests(tmp_path) == first
    (tmp_path / "c.py").write_text("z = 2")
    second = source_digests(tmp_path)
    assert {name for name in first if first[name] != second[name]} == {"a", "b", "c"}
    (tmp_path / "a.py").write_text("from oectflow.extractors.kernels.b import y, x")
    third = source_digests(tmp_path)
    assert {name for name in first if second[name] != third[name]} == {"a"}


def test_source_digests__find_the_imports_that_python_finds():
    folder = Path(kernels.__file__).parent
    for path in folder.glob("[!_]*.py"):
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.update(*(alias.name.split(".") for alias in node.names))
                found.update((getattr(node, "module", None) or "").split("."))
        assert found - {""} <= kernels._imports(path.read_bytes()), path.name


def test_cache__is_in_the_folder_of_the_digest():
    digests = source_digests(Path(kernels.__file__).parent)
    assert set(digests) == {info.name for info in pkgutil.iter_modules(kernels.__path__)}
    if not numba.config.DISABLE_JIT:
        for name, digest in digests.items():
            found = [
                k
                for k in vars(sys.modules[f"{kernels.__name__}.{name}"]).values()
                if isinstance(k, Dispatcher) and k.__module__.endswith(f".{name}")
            ]
            assert all(
                f"{name}-{digest}" in k.stats.cache_path for k in found if k.stats.cache_path
            )
        assert digests["sweeps"] in sweeps.sweep_extremes.stats.cache_path
        assert digests["simd_fit"] in simd_fit.fit_group.stats.cache_path


def test_fits__round_the_same_wherever_they_are_compiled_into():
    # With any of these flags, what is compiled into a function decides how its sums are rounded.
    for module in (simd_fit, correlate):
        kernels_of = [k for k in vars(module).values() if isinstance(k, Dispatcher)]
        assert kernels_of
        assert not any(kernel.targetoptions.get("fastmath") for kernel in kernels_of)
