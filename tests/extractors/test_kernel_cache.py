"""Compiled kernels are kept apart by the source of all kernels."""

from __future__ import annotations

from pathlib import Path

import numba
from numba.core.dispatcher import Dispatcher

from oectflow.extractors import kernels
from oectflow.extractors.kernels import correlate, simd_fit, source_digest, sweeps


def test_source_digest__changes_with_any_file(tmp_path: Path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    first = source_digest(tmp_path)
    assert source_digest(tmp_path) == first
    (tmp_path / "b.py").write_text("y = 2")
    assert source_digest(tmp_path) != first
    (tmp_path / "b.py").write_text("y = 1")
    assert source_digest(tmp_path) == first


def test_cache__is_in_the_folder_of_the_digest():
    digest = source_digest(Path(kernels.__file__).parent)
    if not numba.config.DISABLE_JIT:
        assert digest in sweeps.sweep_extremes.stats.cache_path
    assert digest not in (numba.config.CACHE_DIR or "")


def test_fits__round_the_same_wherever_they_are_compiled_into():
    # With any of these flags, what is compiled into a function decides how its sums are rounded.
    for module in (simd_fit, correlate):
        kernels_of = [k for k in vars(module).values() if isinstance(k, Dispatcher)]
        assert kernels_of
        assert not any(kernel.targetoptions.get("fastmath") for kernel in kernels_of)
