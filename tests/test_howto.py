"""What how-to pages show of their code is what the code prints."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np

from oectflow.extractors import base, tau, transfer
from oectflow.extractors.kernels import endings

HOWTO = Path(__file__).resolve().parents[1] / "docs" / "howto"


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"```(\w+)\n(.*?)```", (HOWTO / page).read_text(), re.DOTALL)


def printed(code: str, names: dict[str, object]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "page", "exec"), names)
    return said.getvalue()


def test_figure_of_merit__is_that_of_the_page(monkeypatch):
    monkeypatch.setattr(base, "_registry", dict(base._registry))
    (_, definition), (_, check), (_, answer), *_ = blocks("figure-of-merit.md")
    exec(compile(definition, "page", "exec"), {**vars(transfer)})
    assert printed(check, {}) == answer
    assert np.isnan(
        base.get_extractor("transfer.gm_efficiency").extract_step(
            {"Vg": np.empty(0), "Id": np.empty(0)}
        )["value"]
    )


def test_wrong_status_word__is_found_as_on_the_page(monkeypatch):
    (_, example), (_, wrong), (_, meanings), (_, meant), *_ = blocks("status-word.md")
    names: dict[str, object] = {}
    assert printed(example, names) == wrong.replace("no_period", "absent")
    assert printed(meanings, names) == meant
    # The mistake of the page.
    table = tau._STATUS_OF_CODE.copy()
    table[endings.ABSENT] = table[endings.NO_PERIOD]
    monkeypatch.setattr(tau, "_STATUS_OF_CODE", table)
    assert printed(example, {}) == wrong
