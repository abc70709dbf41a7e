"""The examples of docs/autotau.md, and the public list."""

import doctest
from pathlib import Path

from oectflow.extractors import autotau
from oectflow.extractors.autotau.fits import STATUSES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "autotau.md"


def test_docs__examples_run():
    results = doctest.testfile(str(PAGE), module_relative=False)
    assert results.failed == 0
    assert results.attempted > 30


def test_docs__every_status_is_explained():
    page = PAGE.read_text(encoding="utf-8")
    assert [word for word in STATUSES if f"| `{word}` |" not in page] == []


def test_public_list__complete():
    assert len(set(autotau.__all__)) == len(autotau.__all__)
    assert {
        "TauFitter", "AutoTauFitter", "CyclesAutoTauFitter", "ParallelAutoTauFitter",
        "ParallelCyclesAutoTauFitter", "WindowFinder", "CyclesTauFitter",
        "ParallelCyclesTauFitter",
    } <= set(autotau.__all__)  # fmt: skip
