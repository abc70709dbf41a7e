"""The page of a feature is made from its extractor, and says all of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import oectflow as of
from oectflow.extractors.base import BaseExtractor

DOCS = Path(__file__).resolve().parents[1] / "docs"
BUILT_IN = [
    extractor
    for name in of.extractor_names()
    for extractor in [of.get_extractor(name)]
    if type(extractor).__module__.startswith("oectflow.")
]
each = pytest.mark.parametrize("extractor", BUILT_IN, ids=lambda extractor: extractor.name)


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """Return docs/_ext/feature_pages.py and what it imports, which belong to no package."""
    pytest.importorskip("sphinx")
    pytest.importorskip("matplotlib")
    for name in ("feature_pictures", "feature_pages"):
        spec = importlib.util.spec_from_file_location(name, DOCS / "_ext" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules["feature_pages"]


@each
def test_formula__can_be_drawn(extractor: BaseExtractor) -> None:
    latex2mathml = pytest.importorskip("docutils.utils.math.latex2mathml")
    assert "<math" in latex2mathml.tex2mathml(extractor.formula, as_block=True)


@each
def test_page__has_every_parameter_variable_and_status_word(
    extractor: BaseExtractor, pages: ModuleType
) -> None:
    text = pages.page(extractor, "picture.png")
    names = set(extractor.variables["status"].statuses)
    if extractor.Params is not None:
        meanings = pages.parameter_meanings(extractor.Params)
        for name in extractor.Params.model_fields:
            assert meanings.get(name), f"parameter {name} has no comment '#:' above it"
        names |= set(extractor.Params.model_fields)
    short = extractor.name.rpartition(".")[2]
    names |= {short if key == "value" else f"{short}_{key}" for key in extractor.variables}
    assert all(f"| `{name}` |" in text for name in names)
    assert extractor.formula in text


def test_page__says_which_bundled_sets_use_it(pages: ModuleType) -> None:
    uses = list(pages.bundled_uses("transient.tau_on_off"))
    assert uses == [
        "`all`: `tau`",
        "`stability`: `tau`",
        r"`transient_models`: `tau` (window='full\_phase')",
        "`transient_tau`: `tau`",
    ]


@pytest.mark.parametrize("name", ["transfer.Von", "transient.tau_on_off", "transient.dwt"])
def test_picture__is_drawn(name: str, pages: ModuleType, tmp_path: Path) -> None:
    pages.draw(of.get_extractor(name), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_picture__of_an_extractor_that_nobody_thought_of(pages: ModuleType, tmp_path: Path) -> None:
    class Odd(BaseExtractor):
        source = "transient"
        unit = "K/min"
        statuses = {"cold": "too cold"}  # noqa: RUF012 - a notebook user would write this

        @property
        def output_shape(self) -> tuple[int | str, ...]:
            return (2, 3)

        def extract_single_step(self, step_data: object, params: object) -> dict[str, object]:
            return {"value": [[1.0, float("nan"), 3.0]] * 2, "status": "cold"}

    pages.draw(Odd(), tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("max |Id| of a_b", r"max \|Id\| of a\_b"),
        ("the share ``fraction`` of 1*2", r"the share `fraction` of 1\*2"),
    ],
)
def test_prose__is_shown_as_it_is(text: str, markdown: str, pages: ModuleType) -> None:
    assert pages.prose(text) == markdown
