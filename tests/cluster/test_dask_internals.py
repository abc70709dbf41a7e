"""What we use of Dask although it is private is there, or its name and the version are said."""

import ast
import importlib
import inspect
from pathlib import Path

import dask
import distributed
import pytest

ROOT = Path(__file__).resolve().parents[2]
HOW = f"dask {dask.__version__}, distributed {distributed.__version__}"
#: Module, name, and parameters that we give or methods that we take the place of.
USED = [
    ("dask._task_spec", "Task", ("key", "func", "_data_producer")),
    ("dask._task_spec", "TaskRef", ("key",)),
    ("dask._task_spec", "List", ("args",)),
    ("distributed.core", "Status.closed", ()),
    ("distributed.core", "Status.running", ()),
    ("distributed.deploy.spec", "ProcessInterface.start", ()),
    ("distributed.deploy.spec", "SpecCluster", ("workers", "scheduler", "worker", "security")),
    ("distributed.deploy.spec", "SpecCluster._close", ()),
    ("distributed.deploy.cluster", "Cluster._update_worker_status", ("op", "msg")),
    ("distributed", "Adaptive", ("cluster", "interval", "wait_count", "worker_key")),
    ("distributed", "Adaptive.safe_target", ()),
    ("distributed.dashboard.components.scheduler", "BOKEH_THEME", ()),
    ("distributed.dashboard.components.scheduler", "env.get_template", ()),
    ("distributed.dashboard.core", "BokehApplication", ("prefix", "template_variables")),
    ("distributed.dashboard.scheduler", "template_variables", ("scheduler",)),
]  # fmt: skip


@pytest.mark.parametrize(("module", "name", "parameters"), USED)
def test_dask__has_what_we_use(module, name, parameters):
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part, None)
        assert found is not None, f"{HOW} have no {module}.{name}: see cluster/dask_internals.py"
    if parameters:
        taken = inspect.signature(found).parameters
        gone = {one for one in parameters if one not in taken}
        assert not gone, f"{module}.{name} of {HOW} takes no {gone}: see cluster/dask_internals.py"


def test_private_names_of_dask__stand_in_one_module():
    private = ("dask._", "distributed.deploy.spec", "distributed.dashboard", "distributed.http")
    found = []
    for folder in ("cluster", "extractors", "pipeline", "src/oectflow"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                module = node.module if isinstance(node, ast.ImportFrom) else None
                if module and module.startswith(private):
                    found.append(path.relative_to(ROOT).as_posix())
    assert set(found) == {"cluster/dask_internals.py"}
