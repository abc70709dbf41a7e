"""``features``: what there is, and mistakes with their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from oectflow.pipeline.features.check import check_config
from oectflow.pipeline.features.config import list_bundled


def test_list_and_show(oectflow) -> None:
    answer = oectflow("features", "list")
    assert answer.status == 0
    assert "v2_transfer_basic" in answer.out
    assert "transient.tau_on_off" in answer.out
    document = oectflow("features", "list", "--json").json
    assert document["extractors"]["transient.tau_on_off"]["unit"] == "s"
    assert document["feature_sets"]["transient_tau"] == ["tau"]
    answer = oectflow("features", "show", "transient_tau")
    assert (answer.status, "transient.tau_on_off" in answer.out) == (0, True)
    assert "tau" in oectflow("features", "show", "transient_tau", "--json").json["features"]


MISTAKES: list[tuple[str, int | None, str]] = [
    ("  - {name: a, extractr: x, input: transfer}", 3, "did you mean 'extractor'"),
    ("  - name: a\n    extractor: transfer.gm_mx", 4, "did you mean 'transfer.gm_max'"),
    (
        "  - name: a\n    extractor: transfer.Von\n    params:\n      direction: up",
        5,
        "direction='up'",
    ),
    ("  - name: a\n    func: __import__('os')", 4, "not allowed"),
    ("  - {name: a, func: gm * 2}\n  - {name: b, func: a + c}", 4, "unknown input 'c'"),
    ("  - {name: a, func: b}\n  - {name: b, func: a}", 3, "a → b → a"),
    ("  - name: gm\n    extractor: transfer.gm_max", 3, "two features of this name"),
    ("  - {name: a, func: gm, input: [{}]}", 3, "found an empty mapping"),
    ("colour: red", 3, "unknown key 'colour'"),
    ("data_type: tranfer", 3, "did you mean 'transfer'?"),
    ("postprocessing:\n  - {type: normalise, target: gm}", 4, "'normalize' or 'filter'"),
    ("features: []", None, "line 3: key 'features' stands twice"),
    ("  - [", None, "line 4"),
]


@pytest.mark.parametrize(("text", "line", "message"), MISTAKES)
def test_validate__names_line_place_and_remedy(
    oectflow, tmp_path: Path, text: str, line: int | None, message: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"features:\n  - {{name: gm, extractor: transfer.gm_max}}\n{text}\n")
    mistakes = check_config(path)
    assert any(m.line == line and message in m.text for m in mistakes), mistakes
    answer = oectflow("features", "validate", "mine.yaml")
    assert answer.status == 2
    assert (f"mine.yaml:{line}: " if line else "mine.yaml: ") in answer.out
    document = oectflow("features", "validate", "mine.yaml", "--json").json
    assert document["ok"] is False
    assert [m["line"] for m in document["mistakes"]] == [m.line for m in mistakes]


def test_validate__all_mistakes_at_once(oectflow, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "features:\n"
        "  - {name: a, extractor: transfer.gm_mx}\n"
        "  - {name: b, extractor: transfer.Von, params: {directon: both}}\n"
        "  - {name: c, func: a.b.c}\n"
    )
    assert [m.line for m in check_config(path)] == [2, 3, 4]


def test_validate__json(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"features": [\n {"name": "a",\n  "extractor": "transfer.gm_mx"}]}')
    assert [m.line for m in check_config(path)] == [3]
    # Tabs are no YAML: the mistake is still named.
    path.write_text('{"features": [\n\t{"name": "a",\n\t"extractor": "transfer.gm_mx"}]}')
    (mistake,) = check_config(path)
    assert "did you mean 'transfer.gm_max'" in mistake.text


@pytest.mark.parametrize("name", list_bundled())
def test_validate__what_comes_with_it_is_right(oectflow, tmp_path: Path, name: str) -> None:
    import oectflow.pipeline.features.config as module

    path = Path(module.__file__).parent / "bundled" / f"{name}.yaml"
    answer = oectflow("features", "validate", path)
    assert (answer.status, "is right" in answer.out) == (0, True)


def test_validate__no_such_file(oectflow) -> None:
    answer = oectflow("features", "validate", "gone.yaml")
    assert answer.status == 2
    assert "there is no such file" in answer.out
