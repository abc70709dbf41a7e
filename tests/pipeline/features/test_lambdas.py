"""The text of functions, as it stands in their source."""

from __future__ import annotations

import ast
import linecache
import os

import numpy as np
import pytest

from oectflow.errors import ConfigError
from oectflow.pipeline.features.expressions import Expression
from oectflow.pipeline.features.lambdas import function_text

FACTOR = 3.0

# fmt: off
TWO = (lambda x: x + 1), (lambda x: x + 2)
ACROSS = dict(  # noqa: C408 - as notebooks write calls
    func=lambda gm, current: (
        gm
        / (current + 1e-10)
    ),
    input=["a", "b"],
)["func"]
# fmt: on


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda x: x / 2, "lambda x: x / 2"),
        (TWO[0], "lambda x: x + 1"),
        (TWO[1], "lambda x: x + 2"),
        (ACROSS, "lambda gm, current: gm / (current + 1e-10)"),
        (lambda x: np.log10(x), "lambda x: np.log10(x)"),
        (np.log10, "np.log10"),
        (np.nanmean, "np.nanmean"),
    ],
)
def test_function_text(function, text):
    assert function_text(function) == text


def test_function_text__means_the_same():
    x = np.linspace(1, 2, 7)
    values = Expression.parse(function_text(ACROSS), ["a", "b"]).evaluate([x, x**2])
    np.testing.assert_array_equal(values, ACROSS(x, x**2))


def test_function_text__nowhere_to_be_found():
    with pytest.raises(ConfigError, match="the source of the lambda cannot be found"):
        function_text(eval("lambda x: x + 4"))


def test_function_text__file_has_changed_since(tmp_path):
    path = tmp_path / "cell.py"
    path.write_text("f = lambda x: x + 1\n")
    names = {}
    exec(compile(path.read_text(), path, "exec"), names)
    assert function_text(names["f"]) == "lambda x: x + 1"
    path.write_text("f = lambda x: x + 2\n")
    linecache.checkcache(str(path))
    os.utime(path, (0, 0))
    with pytest.raises(ConfigError, match="cannot be found"):
        function_text(names["f"])


def test_function_text__in_a_notebook_a_statement_is_compiled_by_itself(tmp_path):
    path = tmp_path / "cell.py"
    path.write_text("import numpy as np\nf = lambda x: np.sqrt(x)\n")
    names = {}
    for statement in ast.parse(path.read_text()).body:
        exec(compile(ast.Module([statement], []), path, "exec"), names)
    assert function_text(names["f"]) == "lambda x: np.sqrt(x)"


def test_function_text__variables_of_the_place():
    inner = 2.0
    with pytest.raises(ConfigError, match="uses inner, which a file does not have"):
        function_text(lambda x: inner * x)
    # A variable of the module is found out when the text is read.
    with pytest.raises(ConfigError, match="FACTOR"):
        Expression.parse(function_text(lambda x: FACTOR * x), ["x"])


@pytest.mark.parametrize("function", [test_function_text, len, np.random.default_rng])
def test_function_text__other_functions(function):
    with pytest.raises(ConfigError, match="cannot be written to a file; give func as text"):
        function_text(function)
