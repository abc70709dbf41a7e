"""Fingerprints change with the numbers, and with nothing else."""

from __future__ import annotations

import ast
import dataclasses
import enum
import fractions
import functools
import importlib
import linecache
import logging
import re
import sys
import textwrap
import threading
from types import ModuleType

import numba
import numpy as np
import pytest

from oectflow.extractors.base import BaseExtractor
from oectflow.extractors.decay import DecayTime
from oectflow.extractors.fingerprint import (
    code_fingerprint,
    cost_fingerprint,
    definition_fingerprint,
)
from oectflow.extractors.source_code import normalised
from oectflow.extractors.tau import TauOnOff
from oectflow.extractors.transfer import GmMax, Von
from oectflow.extractors.transient import Cycles, PeakCurrent

BUILT_IN = [GmMax, Von, Cycles, DecayTime, PeakCurrent, TauOnOff]


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
    assert len(prints) == len(BUILT_IN)
    assert len({definition_fingerprint(cls()) for cls in BUILT_IN}) == len(BUILT_IN)


def test_code__of_a_release_is_kept_by_the_next(monkeypatch):
    """Written down, as they stand in result files: for a version, they never change."""
    monkeypatch.setattr(GmMax, "version", 1)
    monkeypatch.setattr(Cycles, "version", 1)
    assert definition_fingerprint(GmMax()) == "6e99b97f0fbb4ce6cfaa36395bc95577"
    assert definition_fingerprint(Cycles({"n_cycles": 7})) == "8efb8646b14c372243320822019a3fcc"


def test_code__source_of_ours_does_not_count(monkeypatch):
    """What changes numbers is declared, and held against ``golden.json``."""
    before = definition_fingerprint(GmMax())
    monkeypatch.setattr(GmMax, "columns", lambda self, batch, params: {})
    assert definition_fingerprint(GmMax()) == before


def test_params__a_new_option_keeps_results(monkeypatch):
    class WithOption(GmMax.Params):
        sharpness: float = 1.0

    before = definition_fingerprint(GmMax({"direction": "reverse"}))
    monkeypatch.setattr(GmMax, "Params", WithOption)
    assert GmMax().params["sharpness"] == 1.0
    assert definition_fingerprint(GmMax({"direction": "reverse"})) == before
    assert definition_fingerprint(GmMax({"direction": "reverse", "sharpness": 2.0})) != before


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


def test_notebook__base_of_ours_counts_by_its_version(monkeypatch):
    mine = defined(
        "Mine",
        """
        from oectflow.extractors.transfer import GmMax

        class Mine(GmMax):
            version = 1

            def extract_single_step(self, step_data, params):
                return super().extract_single_step(step_data, params)
        """,
    )
    before = code_fingerprint(mine)
    assert code_fingerprint(mine) == before
    monkeypatch.setattr(GmMax, "version", GmMax.version + 1)
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
    assert normalised(ast.parse(source)) == ("def f(x):\n    pass\n\nclass C:\n    y = 1")


# What an extractor of a user depends on -----------------------------------------------------------


def printed(source, **names):
    """Return two fingerprints of the class ``Mine`` in some source, with other names each time."""
    (name, values) = next(iter(names.items()))
    prints = []
    for value in values:
        sys.modules.pop("notebook_of_a_user", None)
        module = sys.modules.setdefault("notebook_of_a_user", ModuleType("notebook_of_a_user"))
        setattr(module, name, value)
        prints.append(code_fingerprint(defined("Mine", source)))
    return prints


USES = """
from oectflow.extractors.base import BaseExtractor

class Mine(BaseExtractor):
    source = "transfer"

    def extract_single_step(self, step_data, params):
        return float(thing(step_data["Id"]))
"""
READS = USES.replace('thing(step_data["Id"])', 'thing.limit * step_data["Id"].max()')


def scaled(factor):
    def scale(x):
        return factor * x.max()

    return scale


def by_default(factor):
    def scale(x, factor=factor):
        return factor * x.max()

    return scale


def nested(factor):
    inner = scaled(factor)
    return lambda x: inner(x) + 1


def compiled(*, fastmath):
    return numba.njit(fastmath=fastmath)(_total)


def _total(x):
    return x.sum()


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return self.factor * x.max()


@dataclasses.dataclass(frozen=True)
class Settings:
    limit: float


class Level(enum.Enum):
    LOW = 1
    HIGH = 2

    @property
    def limit(self):
        return self.value


@pytest.mark.parametrize(
    "make",
    [
        scaled,
        by_default,
        nested,
        Scale,
        lambda factor: functools.partial(np.quantile, q=factor / 10),
        lambda factor: Scale(factor).__call__,
        lambda factor: functools.lru_cache(scaled(factor)),
        lambda factor: [np.max, np.min][int(factor) - 1],
        lambda factor: compiled(fastmath=factor > 1),
        lambda factor: np.array([0.0, factor]).take,
    ],
)
def test_user__follows_what_it_calls(make):
    one, again, other = printed(USES, thing=[make(1.0), make(1.0), make(2.0)])
    assert one == again != other


@pytest.mark.parametrize(
    "make",
    [
        Settings,
        lambda limit: type("Limits", (), {"limit": limit, "__module__": __name__}),
        lambda limit: Level(int(limit)),
    ],
)
def test_user__follows_what_it_reads(make):
    one, again, other = printed(READS, thing=[make(1.0), make(1.0), make(2.0)])
    assert one == again != other


@pytest.mark.parametrize(
    "value",
    [
        np.random.default_rng(0),
        iter([1, 2]),
        np.poly1d([1.0, 2.0]),
        threading.Lock(),
    ],
)
def test_user__what_cannot_be_pinned_is_computed_anew(value):
    assert printed(READS, thing=[value, value]) == [None, None]


@pytest.mark.parametrize("call", ["eval('1.0')", "globals()['hidden']", "open('x').read()"])
def test_user__what_can_reach_anything_is_computed_anew(call):
    text = USES.replace('thing(step_data["Id"])', call)
    assert printed(text, hidden=[1.0, 1.0]) == [None, None]
    mine = defined("Mine", text)()
    assert definition_fingerprint(mine) != definition_fingerprint(mine)
    assert code_fingerprint(type(mine)) is None
    assert cost_fingerprint(mine, None) == cost_fingerprint(mine, None)


@pytest.mark.parametrize(
    ("one", "other", "changes"),
    [
        (logging.getLogger("a"), logging.getLogger("a"), False),
        (re.compile("a"), re.compile("b"), True),
        (np.float32(1.0), np.float64(1.0), True),
        (frozenset({"a", "b", "c"}), frozenset({"c", "b", "a"}), False),
        ({"a": 1, "b": [1.0, {2}]}, {"a": 1, "b": [1.0, {3}]}, True),
        (fractions.Fraction(1, 3), fractions.Fraction(2, 3), True),
        ((1, np.arange(3)), (1, np.arange(3.0)), True),
    ],
)
def test_user__constants(one, other, changes):
    before, after = printed(READS, thing=[one, other])
    assert (before != after) == changes
    assert printed(READS, thing=[one]) == [before]


def test_user__closure_of_the_class_itself():
    source = """
    from oectflow.extractors.base import BaseExtractor

    def define(limit):
        class Mine(BaseExtractor):
            source = "transfer"

            def extract_single_step(self, step_data, params):
                return float((step_data["Id"] > limit).sum())

        return Mine

    Mine = define(level)
    """
    one, again, other = printed(source, level=[1e-4, 1e-4, 6e-4])
    assert one == again != other


def test_user__module_of_the_user_counts_as_far_as_it_is_used():
    used = USES.replace("thing(", "tools.used(")
    make = """
    FACTOR = 2.0

    def used(x):
        return FACTOR * x.max()

    def unused(x):
        return x.min()
    """

    def tools(source):
        sys.modules.pop("tools_of_a_user", None)
        defined("used", source, where="tools_of_a_user")
        return sys.modules.pop("tools_of_a_user")

    texts = [make, make, make.replace("2.0", "3.0"), make.replace("x.min()", "x.mean()")]
    prints = printed(used, tools=[tools(text) for text in texts])
    assert prints[0] == prints[1] == prints[3] != prints[2]


def test_user__import_within_a_method(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = USES.replace("        return", "        from my_tools import thing\n        return")
    prints = []
    for factor in (1.0, 2.0):
        (tmp_path / "my_tools.py").write_text(f"def thing(x):\n    return {factor} * x.max()\n")
        importlib.invalidate_caches()
        linecache.clearcache()
        sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
        prints += printed(source, nothing=[None])
        sys.dont_write_bytecode = before
        sys.modules.pop("my_tools")
    assert prints[0] != prints[1]


def test_user__installed_packages_count_by_version(monkeypatch):
    before, again = printed(USES.replace("thing(", "np.max("), np=[np, np])
    monkeypatch.setattr(np, "__version__", "99")
    (after,) = printed(USES.replace("thing(", "np.max("), np=[np])
    assert before == again != after


@pytest.mark.parametrize("name", ["transfer.gm_max", "transfer.Von"])
def test_user__extractor_of_ours_within_another(monkeypatch, name):
    source = USES.replace("thing(", f"get_extractor({name!r}).extract_step(")
    source = "from oectflow.extractors import get_extractor\n" + source
    before, again = printed(source, nothing=[None, None])
    monkeypatch.setattr(GmMax, "version", GmMax.version + 1)
    (after,) = printed(source, nothing=[None])
    assert before == again
    assert (after != before) == (name == "transfer.gm_max")


def test_user__source_that_was_edited_since_is_not_believed():
    mine = defined("Mine", CELL, file="<edited>")
    before = code_fingerprint(mine)
    edited = CELL.replace("x.max()", "x.min()")
    linecache.cache["<edited>"] = (len(edited), None, edited.splitlines(keepends=True), "<edited>")
    still = code_fingerprint(mine)
    now = code_fingerprint(defined("Mine", edited, file="<edited>"))
    assert len({before, still, now}) == 3
