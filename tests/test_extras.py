"""The packages of the base installation are enough to compute; of others the remedy is named."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from oectflow.errors import CatalogError, OectflowError
from oectflow.extras import extra

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names_of(requirements: list[str]) -> set[str]:
    """Return the distributions that requirements name, those of our own extras among them."""
    found: set[str] = set()
    for text in requirements:
        requirement = Requirement(text)
        if requirement.name == "oectflow":
            for name in requirement.extras:
                found |= names_of(EXTRAS[name])
        else:
            found.add(canonicalize_name(requirement.name))
    return found


BASE = names_of(PROJECT["dependencies"])
#: What Dask and ours bring along; the base has them, whether named or not.
BROUGHT = {"fsspec", "jinja2", "tornado", "setuptools"}
OPTIONAL = names_of([f"oectflow[{','.join(EXTRAS)}]"]) - BASE - BROUGHT

#: Nothing that only an extra installs can be imported.
WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {modules}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
MODULES = {
    module
    for module, distributions in packages_distributions().items()
    if {canonicalize_name(name) for name in distributions} & OPTIONAL
    and not {canonicalize_name(name) for name in distributions} & (BASE | BROUGHT)
}


def run_without(code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that has the packages of the base installation."""
    program = WITHOUT.format(modules=sorted(MODULES)) + code
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_base__reads_computes_and_opens(tmp_path):
    (tmp_path / "raw").mkdir()
    done = run_without(
        f"""
import oectflow as of
from oectflow.pipeline.inputs.simulate import simulate_device
from pathlib import Path

folder = Path({str(tmp_path)!r})
device = simulate_device(1, n_transfer=1, n_transient=1, n_cycles=3)
device.write(folder / "raw" / "a.h5")
report = of.extract(folder / "raw", "all", folder / "features")
assert report.ok, report
gm = of.results_frame(folder / "features")["gm_max_forward"].compute()
assert (gm > 0).all()
assert of.open_results(folder / "features").sizes["experiment"] == 1
print("optional:", sorted(set(sys.modules) & set({sorted(MODULES)!r})))
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("optional: []\n")


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("of.Catalog", "catalog"),
        ("of.UnifiedExperimentManager", "catalog"),
        ("of.app('features')", "app"),
        ("of.connect('slurm', cores=1, memory='1GB', n_workers=1)", "batch"),
        ("of.connect('kubernetes', image='one', n_workers=1)", "kubernetes"),
        ("of.watch('instrument', 'raw', 'features')", "watch"),
        ("of.report('features', 'report.html')", "plot"),
    ],
)
def test_missing_extra__is_named(tmp_path, code, name):
    done = run_without(
        f"""
import os
import oectflow as of

os.chdir({str(tmp_path)!r})
for folder in ("instrument", "raw", "features"):
    os.mkdir(folder)
try:
    {code}
except of.OectflowError as error:
    print(error)
"""
    )
    assert done.returncode == 0, done.stderr
    assert f"pip install 'oectflow[{name}]'" in done.stdout


def test_command__without_its_package_names_it():
    done = run_without("from oectflow.pipeline.cli import main\nmain()")
    assert done.returncode == 2
    assert done.stderr == (
        "oectflow: the command line needs the package typer: pip install 'oectflow[cli]'\n"
    )


def test_extras_that_messages_name__exist():
    named = set()
    for folder in ("cluster", "extractors", "pipeline", "src/oectflow", "docs"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".md"):
                text = path.read_text()
                named |= set(re.findall(r"\'oectflow\[(\w+)\]", text))
                named |= set(re.findall(r"\bextra\(\"(\w+)\"", text))
    assert "plot" in named
    assert named <= EXTRAS.keys()


def test_extra__names_package_and_remedy():
    with (
        pytest.raises(
            CatalogError,
            match=r"^a catalog needs the package nothing_of_this: pip .* 'oectflow\[catalog\]'$",
        ),
        extra("catalog", "a catalog", CatalogError),
    ):
        import nothing_of_this.at_all  # noqa: F401


def test_extra__lets_mistakes_of_ours_pass():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), extra("plot", "a plot"):
        import oectflow.no_such_module  # noqa: F401
    with pytest.raises(ZeroDivisionError), extra("plot", "a plot"):
        raise ZeroDivisionError
    assert not issubclass(ModuleNotFoundError, OectflowError)
