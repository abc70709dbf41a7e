"""Fingerprints change with the numbers, and with nothing else."""

from __future__ import annotations

import ast
import linecache
import sys
import textwrap
from types import ModuleType

import numpy as np
import pytest

from oectflow.extractors import fingerprint
from oectflow.extractors.base import BaseExtractor
from oectflow.extractors.decay import DecayTime
from oectflow.extractors.fingerprint import code_fingerprint, definition_fingerprint
from oectflow.extractors.tau import TauOnOff
from oectflow.extractors.transfer import GmMax, Von
from oectflow.extractors.transient import Cycles, PeakCurrent

BUILT_IN = [GmMax, Von, Cycles, DecayTime, PeakCurrent, TauOnOff]


@pytest.fixture
def edited(monkeypatch):
    """Return a function that makes a module of ours appear with another source."""
    read = fingerprint._read
    changes = {}

    def forget():
        fingerprint._imports.cache_clear()
        fingerprint._module_source.cache_clear()

    def edit(module, old, new):
        source = read(module)
        assert old in source
        changes[module] = source.replace(old, new)
        forget()

    monkeypatch.setattr(fingerprint, "_read", lambda name: changes.get(name) or read(name))
    forget()
    yield edit
    forget()


def defined(name, source, *, file=None, where="notebook_of_a_user"):
    """Run source as a notebook does, and return the class or function ``name``."""
    module = sys.modules.setdefault(where, ModuleType(where))
    source = textwrap.dedent(source)
    file = file or f"<cell {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), vars(module))
    return vars(module)[name]


@pytest.fixture(autouse=True)
def no_notebook():
    yield
    sys.modules.pop("notebook_of_a_user", None)


# Built-in extractors ------------------------------------------------------------------------------


def test_code__is_32_digits_and_differs():
    prints = {code_fingerprint(cls) for cls in BUILT_IN}
    assert all(len(p) == 32 and int(p, 16) >= 0 for p in prints)
    # Classes of one module share their code; their names are in the definition.
    assert len(prints) == 4
    assert len({definition_fingerprint(cls()) for cls in BUILT_IN}) == len(BUILT_IN)


@pytest.mark.parametrize(
    ("module", "old", "new", "changes"),
    [
        ("kernels.sweeps", "CURRENT_FLOOR = 1e-12", "CURRENT_FLOOR = 2e-12", {GmMax, Von}),
        ("kernels.sweeps", "return turn + 1, same", "return turn + 2, same", {GmMax, Von}),
        ("kernels.peaks", "found = 0", "found = 1", {GmMax, Von, Cycles, PeakCurrent}),
        ("kernels.gate", "TOLERANCE = 0.5", "TOLERANCE = 0.25", set(BUILT_IN)),
        ("kernels.exponential", "F_MIN = 10.0", "F_MIN = 9.0", {DecayTime, TauOnOff}),
        ("decay", "_LONGEST_DECAY = 1e6", "_LONGEST_DECAY = 1e7", {DecayTime}),
        ("kernels.sweeps", "#: How a branch ended.", "#: How it ended.", set()),
        ("kernels.sweeps", '"""Find the extreme of one branch', '"""Seek the extreme of', set()),
        ("transfer", '"""Largest transconductance of a', '"""The largest gm of a', set()),
        ("base", "OK, ABSENT, ERROR = range(3)", "OK, ABSENT, ERROR = 0, 1, 2", set()),
    ],
)
def test_code__changes_where_the_numbers_may(edited, module, old, new, changes):
    before = {cls: code_fingerprint(cls) for cls in BUILT_IN}
    edited(f"oectflow.extractors.{module}", old, new)
    assert {cls for cls in BUILT_IN if code_fingerprint(cls) != before[cls]} == changes


def test_code__follows_every_import_of_ours():
    """Held against what Python has really loaded into the modules."""
    for cls in BUILT_IN:
        found = fingerprint._with_imports({cls.__module__})
        for name in found:
            if hasattr(sys.modules[name], "__path__"):
                # A package has its modules as attributes, whether it imports them or not.
                continue
            for value in vars(sys.modules[name]).values():
                home = value.__name__ if isinstance(value, ModuleType) else None
                home = home or getattr(value, "__module__", None) or ""
                if home.startswith("oectflow.extractors."):
                    assert home in found | {"oectflow.extractors.base"}, (name, value)


def test_code__version_is_part(monkeypatch):
    before = code_fingerprint(GmMax)
    monkeypatch.setattr(GmMax, "version", GmMax.version + 1)
    assert code_fingerprint(GmMax) != before


def test_code__same_in_another_process(tmp_path):
    import subprocess

    script = (
        "from oectflow.extractors import get_extractor\n"
        "from oectflow.extractors.fingerprint import definition_fingerprint\n"
        "print(definition_fingerprint(get_extractor('transfer.gm_max', {'direction': 'both'})))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert told.stdout.strip() == definition_fingerprint(GmMax({"direction": "both"}))


# Parameters ---------------------------------------------------------------------------------------


class Anything(BaseExtractor):
    name = "transfer.anything"
    source = "transfer"

    def extract_single_step(self, step_data, params):
        return 0.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, True),
        ({"a": (1, 2)}, {"a": [1, 2]}, True),
        ({"a": np.float64(0.5)}, {"a": 0.5}, True),
        ({"a": np.array([1.0, 2.0])}, {"a": [1.0, 2.0]}, True),
        ({"a": np.nan}, {"a": float("nan")}, True),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 0.0}, {"a": -0.0}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": None}, {}, False),
        ({"a": [1, [2]]}, {"a": [[1], 2]}, False),
    ],
)
def test_params__canonical(one, other, same):
    prints = [definition_fingerprint(Anything(params)) for params in (one, other)]
    assert (prints[0] == prints[1]) == same


def test_params__declared_types_and_defaults_are_filled_in():
    assert definition_fingerprint(Cycles()) == definition_fingerprint(
        Cycles({"n_cycles": 100, "method": "peak_per_period"})
    )
    assert definition_fingerprint(Cycles({"period": 1})) == definition_fingerprint(
        Cycles({"period": 1.0})
    )
    assert definition_fingerprint(Von({"device_type": "p"})) == definition_fingerprint(
        Von({"device_type": "P"})
    )
    assert definition_fingerprint(Von({"device_type": "P"})) != definition_fingerprint(Von())


@pytest.mark.parametrize("cls", BUILT_IN)
def test_params__default_has_the_type_that_is_declared(cls):
    """Else a default given explicitly would count as another definition."""
    left_out = cls().params
    given = cls(left_out).params
    assert definition_fingerprint(cls(left_out)) == definition_fingerprint(cls())
    assert {k: type(v) for k, v in given.items()} == {k: type(v) for k, v in left_out.items()}


# Extractors of users ------------------------------------------------------------------------------

CELL = '''
from oectflow.extractors.base import BaseExtractor
import numpy as np

FACTOR = 2.0
WEIGHTS = np.array([1.0, 2.0])

def helper(x):
    """Help."""
    return FACTOR * deeper(x)

def deeper(x):
    return x.max()  # the largest

def unused(x):
    return x

class Mine(BaseExtractor):
    """Mine."""

    source = "transfer"

    def extract_single_step(self, step_data, params):
        """Compute."""
        return helper(step_data["Id"]) * WEIGHTS[0]
'''


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ('step_data["Id"]', 'step_data["Vg"]', True),
        ("FACTOR = 2.0", "FACTOR = 3.0", True),
        ("[1.0, 2.0]", "[1.5, 2.0]", True),
        ("x.max()", "x.min()", True),
        ('source = "transfer"', 'source = "transfer"\n    version = 2', True),
        ("  # the largest", "", False),
        ('"""Compute."""', '"""Do it."""', False),
        ('"""Help."""', "", False),
        ("    return x\n", "    return 2 * x\n", False),
        ("import numpy as np", "import numpy as np\n\n\n", False),
    ],
)
def test_notebook__class_and_what_it_names(old, new, changes):
    assert old in CELL
    before = code_fingerprint(defined("Mine", CELL))
    sys.modules.pop("notebook_of_a_user")
    after = code_fingerprint(defined("Mine", CELL.replace(old, new)))
    assert (before != after) == changes


def test_notebook__does_not_depend_on_the_cell():
    one = code_fingerprint(defined("Mine", CELL))
    assert code_fingerprint(defined("Mine", "# first\n\n" + CELL)) == one


def test_notebook__functions_that_call_each_other():
    source = """
    from oectflow.extractors.base import BaseExtractor

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    class Mine(BaseExtractor):
        source = "transfer"

        def extract_single_step(self, step_data, params):
            return float(even(step_data["Id"].size))
    """
    prints = [
        code_fingerprint(defined("Mine", text))
        for text in (source, source.replace("n != 0", "n > 0"), source)
    ]
    assert prints[0] == prints[2] != prints[1]


def test_notebook__class_without_methods():
    source = """
    from oectflow.extractors.transfer import GmMax

    class Mine(GmMax):
        quantity = 0
    """
    prints = [
        code_fingerprint(defined("Mine", text))
        for text in (source, source.replace("= 0", "= 1"), source)
    ]
    assert prints[0] == prints[2] != prints[1]


def test_notebook__base_of_ours_is_part(edited):
    mine = defined(
        "Mine",
        """
        from oectflow.extractors.transfer import GmMax

        class Mine(GmMax):
            def extract_single_step(self, step_data, params):
                return super().extract_single_step(step_data, params)
        """,
    )
    before = code_fingerprint(mine)
    edited("oectflow.extractors.kernels.sweeps", "EVEN = 1e-3", "EVEN = 1e-2")
    assert code_fingerprint(mine) != before


def test_kernel_of_a_user__is_part():
    source = """
    import numba
    from oectflow.extractors.base import BaseExtractor

    @numba.njit
    def kernel(x):
        return x.sum()

    class Mine(BaseExtractor):
        source = "transfer"

        def extract_single_step(self, step_data, params):
            return kernel(step_data["Id"])
    """
    prints = [
        code_fingerprint(defined("Mine", text))
        for text in (source, source.replace("x.sum()", "x.mean()"), source)
    ]
    assert prints[0] == prints[2] != prints[1]


def test_no_source__the_compiled_code_counts():
    def forgotten(source):
        made = defined("Mine", source, file="<gone>")
        del linecache.cache["<gone>"]
        return code_fingerprint(made)

    one = forgotten(CELL)
    assert forgotten("\n\n" + CELL) == one
    assert forgotten(CELL.replace('["Id"]', '["Vg"]')) != one
    assert forgotten(CELL.replace("    def ext", "    gain = 2.0\n\n    def ext")) != one


def test_normalised__is_the_same_program():
    source = 'def f(x):\n    """Doc."""\n\n\nclass C:\n    "Doc."\n\n    y = 1  # why\n'
    assert fingerprint._normalised(ast.parse(source)) == (
        "def f(x):\n    pass\n\nclass C:\n    y = 1"
    )
