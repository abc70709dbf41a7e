"""Cells of notebooks, run one after the other in a laboratory with a catalog."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numba
import platformdirs
import pytest
import yaml

from oectflow.extractors import base
from oectflow.pipeline.inputs.simulate import simulate_device
from oectflow.pipeline.manager.manager import UnifiedExperimentManager

CHIP = "#20250804008"
#: Import lines that change; nothing else does.
IMPORTS = {
    r"^import autotau_extractors$": "import oectflow",
    r"^from infra\.catalog\b": "from oectflow",
    r"^from infra\.experiment\b": "from oectflow",
    r"^from infra\.features_v2\.extractors\.base\b": "from oectflow.extractors.base",
    r"^from infra\.features_v2\b": "from oectflow",
    r"^from (infra\.)?oect_transfer\b": "from oectflow.extractors.oect_transfer",
    r"^from autotau\.core\.accelerated\b": "from oectflow.extractors.autotau.accelerated",
    r"^from autotau\.core\b": "from oectflow.extractors.autotau",
    r"^from autotau\b": "from oectflow.extractors.autotau",
}
RunCell = Callable[..., dict[str, Any]]
AskOld = Callable[..., Any]


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Extractors of a cell are forgotten after it."""
    monkeypatch.setattr(base, "_registry", dict(base._registry))


@pytest.fixture(scope="session")
def ask_old() -> AskOld:
    """Run a script in an environment of an old package, and return what it prints as JSON.

    The environment's Python is named by a variable; without it the test skips.
    """

    def ask(variable: str, package: str, script: str, *arguments: str) -> Any:
        if variable not in os.environ:
            pytest.skip(f"the environment variable {variable} names no Python with {package}")
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(
            [os.environ[variable], "-c", script, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.rpartition("ANSWER")[2])

    return ask


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ``catalog_config.yaml`` and ``data/raw``, in which the test runs."""
    monkeypatch.chdir(tmp_path)
    compiled = numba.config.CACHE_DIR or platformdirs.user_cache_path("oectflow") / "kernels"
    monkeypatch.setenv("NUMBA_CACHE_DIR", os.fspath(compiled))
    monkeypatch.setenv("HOME", str(tmp_path))
    raw = tmp_path / "data" / "raw"
    raw.mkdir(parents=True)
    for number in (2, 3):
        device = simulate_device(
            number,
            n_transfer=4,
            n_transient=3,
            n_points=41,
            n_cycles=4,
            period=0.06,
            tau_on=4e-3,
            tau_off=6e-3,
            chip_id=CHIP,
            device_number=str(number),
            test_id=f"test_{number}",
            created_at=datetime(2025, 8, 4) + timedelta(days=number),
        )
        device.write(raw / device.file_name)
    (tmp_path / "catalog_config.yaml").write_text(
        yaml.safe_dump({"database": {"path": "catalog.db"}})
    )
    return tmp_path


@pytest.fixture
def manager(lab: Path) -> Iterator[UnifiedExperimentManager]:
    """A manager whose catalog knows the files of the laboratory."""
    with UnifiedExperimentManager("catalog_config.yaml") as opened:
        opened.catalog.scan()
        yield opened


@pytest.fixture
def cell(manager: UnifiedExperimentManager, lab: Path) -> RunCell:
    """Run the text of a cell in one namespace, and return that."""
    names: dict[str, Any] = {}
    count = 0

    def run(text: str, **given: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        for old, new in IMPORTS.items():
            text = re.sub(old, new, text, flags=re.MULTILINE)
        # A file of its own, so that the source of a class or lambda can be read.
        path = lab / f"cell_{count}.py"
        path.write_text(text, encoding="utf-8")
        names.update(given)
        names.setdefault("__name__", f"cell_{count}")
        exec(compile(text, path, "exec"), names)
        return names

    return run


@pytest.fixture
def notebook(cell: RunCell) -> RunCell:
    """The same, after the cell with which most notebooks begin."""
    cell("""
import numpy as np
from infra.catalog import UnifiedExperimentManager
manager = UnifiedExperimentManager('catalog_config.yaml')
experiments = manager.search(chip_id="#20250804008")
exp = manager.get_experiment(chip_id="#20250804008", device_id="3")
""")
    return cell
