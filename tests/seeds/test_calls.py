"""Every call of the table in docs/howto/oect-infra.md does what the table says."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oectflow.pipeline.inputs.simulate import simulate_device

START = """
from infra.experiment import Experiment
from infra.features_v2 import FeatureSet
experiment = Experiment(exp.file_path)
"""


def _load_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "seeds_table", Path(__file__).with_name("table.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


table = _load_table()


@pytest.fixture
def instrument(lab: Path) -> None:
    """A folder of the instrument's."""
    device = simulate_device(
        7, n_transfer=4, n_transient=1, n_points=41, n_cycles=2, test_id="test_7"
    )
    device.write_folder(lab / "instrument" / "run")


@pytest.mark.parametrize("call", table.read_calls(), ids=lambda call: call.call)
def test_call(call: Any, notebook: Any, instrument: None) -> None:
    pytest.importorskip("matplotlib").use("agg")
    notebook(START)
    if call.raises:
        with pytest.raises(Exception, match=call.raises):
            notebook(call.code)
        return
    names = notebook(f"{call.code}\nchecked = ({call.check})\n")
    assert names["checked"]


def test_the_page_is_the_table_of_these_calls() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "python tests/seeds/table.py"
