"""Expressions: NumPy's numbers for what is allowed, a readable refusal for everything else."""

from __future__ import annotations

import pickle
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from oectflow.errors import ExpressionError
from oectflow.extractors.base import Variable
from oectflow.pipeline.features.expressions import Expression
from oectflow.pipeline.features.functions import BY_CANONICAL_NAME, FUNCTIONS, KEEPS_NAN, STATIC
from oectflow.pipeline.features.parsing import MAX_LENGTH

RNG = np.random.default_rng(20250804)
A = RNG.normal(size=7)
B = RNG.lognormal(size=7)
CYCLES = RNG.normal(size=(7, 5))
NAN = np.nan


def evaluate(text: str, *columns: Any, params: dict[str, Any] | None = None) -> NDArray[np.float64]:
    names = tuple("abc"[: len(columns)])
    return Expression.parse(text, names, params).evaluate(columns)


# What users have in their files, against NumPy itself.  The operations and their order are the
# same, and so must be every bit.
@pytest.mark.parametrize(
    "text",
    [
        "lambda a, b: (a - a.mean()) / a.std()",
        "lambda a, b: a / b",
        "lambda a, b: a - b",
        "a / (b + 1e-10)",
        "-a ** 2 + 3 * b // 2 - a % 0.3",
        "np.log10(np.abs(a)) + np.log(b) - np.log2(b) + np.exp(a) - np.sqrt(b) * np.sign(a)",
        "np.where(a > 0, a, -b)",
        "np.where((a > 0) & (b < 1) | ~(a != b) ^ (a <= 0), 1, 0)",
        "np.clip(a, -0.5, 0.5) + np.clip(b, None, 1) + b.clip(0.5, 2)",
        "numpy.maximum(a, b) - np.minimum(a, 0.1) + np.arctan2(a, b) + np.hypot(a, b)",
        "a - np.median(a) + np.percentile(b, 75) - np.quantile(b, 0.25) + np.ptp(a)",
        "(a - a.min()) / (a.max() - a.min())",
        "a * a.sum() + b.prod() - b.var() + a.std(ddof=1) + np.std(b, ddof=2)",
        "a.argmax() + b.argmin() + (a > 0).sum() + (a > 0).any() - (b > 0).all()",
        "np.cumsum(a) + a.cumprod() + np.gradient(b)",
        "np.diff(a, prepend=0)",
        "a / a[0] + b[-1]",
        "np.round(a, 2) + b.round(1) + np.floor(a) - np.ceil(b) + np.rint(a)",
        "np.pi * a + np.e",
        "np.nanmean(a) + np.nanstd(a) + np.nanmax(b) + np.nanpercentile(a, 10)",
        "np.isfinite(a) + np.nan_to_num(b)",
        "lambda a, b: np.abs(a)",
        "a.mean(keepdims=True) + b",
    ],
)
def test_evaluate__as_numpy(text: str) -> None:
    function = text if text.startswith("lambda") else f"lambda a, b: {text}"
    expected = eval(function, {"np": np, "numpy": np})(A, B)
    got = evaluate(text, A, B)
    assert got.dtype == np.float64
    assert_array_equal(got, np.broadcast_to(np.asarray(expected, float), A.shape))


@pytest.mark.parametrize(
    "text",
    [
        "lambda a: a.mean(axis=1)",
        "lambda a: np.mean(a, 1)",
        "lambda a: a.std(axis=1, ddof=1)",
        "lambda a: (a[:, 0] - a[:, -1]) / a[:, 0]",
        "a[:, 1:4]",
        "a[..., ::2].max(axis=-1)",
        "a - a.mean(axis=1, keepdims=True)",
        "(a - a.mean(axis=0)) / a.std(axis=0)",
        "np.median(a, axis=1) + np.percentile(a, 90, axis=1)",
        "np.diff(a, axis=1).std(axis=1)",
        "np.argmax(a, axis=1)",
        "np.cumsum(a, axis=1)[:, -1]",
        "np.gradient(a, axis=1)",
        "a / np.sqrt((a ** 2).sum(axis=1, keepdims=True))",
        "a[:, None, 0]",
        "a[:, np.newaxis, 1]",
    ],
)
def test_evaluate__per_cycle_as_numpy(text: str) -> None:
    function = text if text.startswith("lambda") else f"lambda a: {text}"
    expected = eval(function, {"np": np})(CYCLES)
    assert_array_equal(evaluate(text, CYCLES), np.asarray(expected, float))


@pytest.mark.parametrize("name", ["np.log10", "numpy.abs", "np.nanmean", "abs", "np.cbrt"])
def test_evaluate__name_of_a_function(name: str) -> None:
    expected = eval(name, {"np": np, "numpy": np})(B)
    assert_array_equal(evaluate(name, B), np.broadcast_to(expected, B.shape))


def test_evaluate__every_function_is_numpys() -> None:
    integers = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert"}
    special = {
        "percentile": (B, 30.0),
        "quantile": (B, 0.3),
        "nanpercentile": (B, 30.0),
        "nanquantile": (B, 0.3),
        "where": (B, A, A + B),
        "clip": (A, -0.1, 0.1),
    }
    for name, function in FUNCTIONS.items():
        if name in ("first", "last", "drift"):
            continue
        numpys = np.absolute if name == "abs" else getattr(np, name)
        required = [p for p in function.signature.parameters.values() if p.default is p.empty]
        arguments = special.get(name, (A, B)[: len(required)])
        if name in integers:
            arguments = tuple(x > 0.5 for x in arguments)
            names = ["a > 0.5", "b > 0.5"][: len(arguments)]
            text, columns = f"np.{name}({', '.join(names)})", (A, B)[: len(arguments)]
        else:
            names = list("abc"[: len(arguments)])
            columns = tuple(np.broadcast_to(x, A.shape) for x in arguments)
            if name in special and name not in ("where", "clip"):
                names[1], columns = str(arguments[1]), columns[:1]
            text = f"np.{name}({', '.join(names)})"
        with np.errstate(all="ignore"):
            expected = np.asarray(numpys(*arguments), float)
        if name == "diff":
            text, expected = text.replace(")", ", prepend=0)"), np.diff(A, prepend=0)
        assert_array_equal(evaluate(text, *columns), np.broadcast_to(expected, A.shape), text)


# One failed step among good ones, and a cycle axis that is padded.
GAPPY = np.array([3.0, NAN, 1.0, 2.0, NAN])
PADDED = np.array([[4.0, 2.0, 1.0], [NAN, 5.0, NAN], [NAN, NAN, NAN]])


@pytest.mark.parametrize(
    "name",
    ["mean", "std", "var", "median", "min", "max", "sum", "prod", "argmin", "argmax"],
)
def test_evaluate__aggregates_skip_nan(name: str) -> None:
    numpys = getattr(np, f"nan{name}")
    function = f"np.{name}(a)"
    assert_array_equal(evaluate(function, GAPPY), np.full(5, numpys(GAPPY)))
    assert_array_equal(evaluate(f"np.nan{name}(a)", GAPPY), evaluate(function, GAPPY))
    got = evaluate(f"np.{name}(a, axis=1)", PADDED)
    assert_array_equal(got, [*numpys(PADDED[:2], axis=1), NAN])


def test_evaluate__a_failed_step_does_not_erase_the_normalisation() -> None:
    got = evaluate("lambda gm: (gm - gm.mean()) / gm.std()", GAPPY)
    expected = (GAPPY - 2) / np.sqrt(2 / 3)
    assert_array_equal(np.isnan(got), np.isnan(GAPPY))
    # Two roundings in std and one in the division, each at most half an ulp.
    np.testing.assert_allclose(got, expected, rtol=2 * np.finfo(float).eps)


def test_evaluate__first_and_last_are_not_nan() -> None:
    assert_array_equal(evaluate("first(a, axis=1)", PADDED), [4, 5, NAN])
    assert_array_equal(evaluate("last(a, axis=1)", PADDED), [1, 5, NAN])
    assert_array_equal(evaluate("last(a)", GAPPY), np.full(5, 2.0))
    assert_array_equal(evaluate("a.first()", GAPPY[1:]), np.full(4, 1.0))
    assert_array_equal(evaluate("a - last(a, axis=0)", PADDED), PADDED - [4, 5, 1])


def test_evaluate__drift_is_the_slope_of_numpys_straight_line() -> None:
    rng = np.random.default_rng(3)
    for scale, offset in ((1.0, 0.0), (1e-9, 1e-6), (1e-3, 5.0)):
        x = offset + scale * (rng.normal(size=(40, 60)) + rng.normal(size=(40, 1)) * np.arange(60))
        x[rng.random(x.shape) < 0.4] = NAN
        x[:20, 30:] = NAN
        for text, rows in (("drift(a, axis=1)", x), ("a.drift(axis=-1)", x)):
            got = evaluate(text, rows)
            for value, row in zip(got, rows, strict=True):
                k = np.flatnonzero(~np.isnan(row))
                want = np.polyfit(k - k.mean(), row[k], 1)[0]
                # Each value is rounded to eps max|x|, and a slope weighs them with
                # sum|dk| / sum dk^2 <= 1 / std(k); twice that for the two ways.
                bound = 4 * np.finfo(float).eps * np.abs(row[k]).max() / k.std()
                assert abs(value - want) <= bound + 1e-13 * abs(want)


def test_evaluate__drift_keeps_the_index_across_gaps() -> None:
    # 1 at index 0 and 5 at index 2: two per index, not four.
    assert_array_equal(evaluate("drift(a, axis=1)", np.array([[1.0, NAN, 5.0, NAN]])), [2])
    assert_array_equal(evaluate("drift(a, axis=1)", PADDED), [-1.5, NAN, NAN])
    # Along the steps: index 0, 2 and 3, whose mean is 5/3; sums of few short numbers.
    want = np.full(5, np.polyfit([0, 2, 3], [3, 1, 2], 1)[0])
    np.testing.assert_allclose(evaluate("drift(a)", GAPPY), want, rtol=1e-14)
    along = evaluate("a * 0 + drift(a, axis=0)", PADDED[:2])
    assert_array_equal(along, [[NAN, 3, NAN], [NAN, 3, NAN]])
    assert_array_equal(evaluate("a - a.drift(axis=1, keepdims=True)", PADDED)[0], [5.5, 3.5, 2.5])


def test_evaluate__running_functions_pass_over_nan() -> None:
    assert_array_equal(evaluate("np.cumsum(a)", GAPPY), [3, NAN, 4, 6, NAN])
    assert_array_equal(evaluate("np.cumprod(a)", GAPPY), [3, NAN, 3, 6, NAN])


def test_evaluate__any_and_all_skip_nan() -> None:
    assert_array_equal(evaluate("np.any(a)", np.array([NAN, 0.0])), [0, 0])
    assert_array_equal(evaluate("np.all(a)", np.array([NAN, 1.0])), [1, 1])


@pytest.mark.parametrize("values", [np.full(3, NAN), np.array([]), np.array([NAN])])
@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"any", "all", "isnan"}))
def test_evaluate__nothing_there_gives_no_warning(name: str, values: NDArray[np.float64]) -> None:
    function = FUNCTIONS[name]
    if function.kind == "elementwise" or name.endswith(("percentile", "quantile")):
        return
    assert_array_equal(
        evaluate(f"np.{name}(a)" if name not in ("diff", "nandiff") else "a", values),
        np.full(len(values), NAN),
    )


def test_evaluate__std_of_one_step_with_ddof_1() -> None:
    assert_array_equal(evaluate("a.std(ddof=1)", np.array([2.0])), [NAN])
    assert_array_equal(evaluate("a.std(ddof=1)", np.array([2.0, NAN])), [NAN, NAN])


def test_evaluate__division_by_zero_is_silent() -> None:
    a = np.array([1.0, 0.0, -1.0])
    assert_array_equal(evaluate("a / b", a, np.zeros(3)), [np.inf, NAN, -np.inf])
    assert_array_equal(evaluate("np.log10(a)", a), [0, -np.inf, NAN])


def test_evaluate__steps_are_aligned_not_last_axes() -> None:
    # Five steps with five cycles: NumPy would divide cycle k by the gm of step k.
    square = CYCLES[:5]
    expected = square / B[:5, np.newaxis]
    assert_array_equal(evaluate("a / b", square, B[:5]), expected)
    assert_array_equal(evaluate("a / b[:, None]", square, B[:5]), expected)
    assert_array_equal(
        evaluate("a - a.mean(axis=1)", square), square - square.mean(axis=1, keepdims=True)
    )
    with pytest.raises(ExpressionError, match="without steps"):
        evaluate("a + b.mean(axis=0)", B[:5], square)
    with pytest.raises(ExpressionError, match=r"shape \(5,\)"):
        evaluate("a.mean(axis=0)", square)


def test_evaluate__logic_works_element_by_element() -> None:
    a = np.array([-1.0, 0.2, 0.7, 3.0, NAN])
    assert_array_equal(evaluate("0 < a < 1", a), [0, 1, 1, 0, 0])
    assert_array_equal(evaluate("a > 0 and a < 1", a), [0, 1, 1, 0, 0])
    assert_array_equal(evaluate("not (a > 0 or a < -2)", a), [1, 0, 0, 0, 1])
    assert_array_equal(evaluate("a if a > 0 else -a", a), [1, 0.2, 0.7, 3, NAN])


def test_evaluate__condition_as_index_keeps_the_length() -> None:
    assert_array_equal(evaluate("a[a > 1]", GAPPY), [3, NAN, NAN, 2, NAN])
    assert_array_equal(evaluate("a[~(a > 1)].mean() + 0 * a", GAPPY), [1, NAN, 1, 1, NAN])
    assert_array_equal(evaluate("a[b > 2]", CYCLES[:3], np.arange(3.0)), np.full((3, 5), NAN))
    with pytest.raises(ExpressionError, match="condition"):
        evaluate("a[b]", A, B)


def test_evaluate__huge_power_is_inf_at_once() -> None:
    assert_array_equal(evaluate("a * 0 + 9**9**9**9", np.ones(2)), [np.inf, np.inf])


def test_evaluate__no_intermediate_outgrows_the_inputs() -> None:
    n = 100_000  # an outer product would take 80 GB
    with pytest.raises(ExpressionError, match="larger than any input"):
        evaluate("(a[:, None] * a[::-1]).sum(axis=1)", np.ones(n))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("np.percentile(a, a)", "one number q"),
        ("np.quantile(a, a)", "one number q"),
        ("np.diff(a, prepend=a)", "one number"),
        ("np.mean(None) + a", "mean of None"),
        ("np.add(a, None)", "NoneType"),
        ("a[c > 0]", "more values than x"),
        ("a.mean(axis=1)", r"1 axis \(0 is the step\)"),
        ("a[:, 0]", "2 indices for an array of 1"),
        ("np.cumsum(c)", "needs axis=0"),
        ("drift(c)", "needs axis=0"),
        ("~a", "invert"),
        ("np.diff(a)", r"shape \(6,\), not one value for each of 7"),
        ("np.percentile(a, 101)", "range"),
    ],
)
def test_evaluate__shapes_and_types_that_do_not_fit(text: str, reason: str) -> None:
    expression = Expression.parse(text)
    with pytest.raises(ExpressionError, match=reason):
        expression.evaluate([{"a": A, "c": CYCLES}[name] for name in expression.inputs])


def test_evaluate__different_numbers_of_steps() -> None:
    with pytest.raises(ExpressionError, match=r"numbers of steps.*\(7,\).*\(3,\)"):
        evaluate("a + b", A, B[:3])


def test_evaluate__never_returns_its_input() -> None:
    column = np.ones(3)
    result = evaluate("a", column)
    result[:] = 0
    assert_array_equal(column, np.ones(3))


def test_parse__arguments_are_bound_by_position() -> None:
    expression = Expression.parse("lambda x, y: x - y", ("late", "early"))
    assert expression.inputs == ("late", "early")
    assert_array_equal(expression.evaluate([A, B]), A - B)


def test_parse__a_bare_expression_goes_by_name() -> None:
    expression = Expression.parse("b - a", ("a", "b", "a", "unused"))
    assert expression.inputs == ("b", "a")
    assert_array_equal(expression.evaluate([B, A]), B - A)


def test_parse__a_function_needs_an_input() -> None:
    with pytest.raises(ExpressionError, match="log10 needs an input"):
        Expression.parse("np.log10")


def test_parse__inputs_follow_from_the_text() -> None:
    assert Expression.parse("gm_r / gm_f - gm_r").inputs == ("gm_r", "gm_f")
    assert Expression.parse("lambda gm, k=2: gm * k").inputs == ("gm",)


def test_parse__an_input_may_be_called_like_a_function() -> None:
    assert_array_equal(Expression.parse("max - 1", ("max",)).evaluate([A]), A - 1)
    assert_array_equal(
        Expression.parse("lambda np: np.mean() + np", ()).evaluate([A]), A.mean() + A
    )


def test_parse__params() -> None:
    assert_array_equal(evaluate("lambda a, k, m=1: k * a + m", A, params={"k": 2}), 2 * A + 1)
    assert_array_equal(
        evaluate("lambda a, m=1, *, k=5: k * a + m", A, params={"m": "1e-9"}), 5 * A + 1e-9
    )
    assert_array_equal(evaluate("a * k", A, params={"k": 3}), A * 3)
    assert_array_equal(
        evaluate("np.percentile", A, params={"q": 90}), np.full(7, np.percentile(A, 90))
    )
    assert_array_equal(evaluate("np.mean", CYCLES, params={"axis": 1}), CYCLES.mean(axis=1))
    assert_array_equal(
        evaluate("lambda a, i, ax: a[:, i] + a.mean(axis=ax)", CYCLES, params={"i": 2, "ax": 1}),
        CYCLES[:, 2] + CYCLES.mean(axis=1),
    )


@pytest.mark.parametrize(
    ("text", "params", "reason"),
    [
        ("lambda a, k: a * k", {}, "'k' has no input and no value"),
        (
            "lambda a, threshold: a",
            {"treshold": 1},
            "params.treshold is no argument of the lambda; did you mean 'threshold'",
        ),
        ("lambda a: a", {"a": 1}, "params.a is no argument"),
        ("lambda: 1", {}, "takes 0 inputs, but there are 1: a"),
        ("lambda *a: 1", {}, r"\*args"),
        ("lambda a, k: a * k", {"k": "many"}, "params.k='many' is not a number"),
        ("lambda a, k: a * k", {"k": [1, 2]}, "is not a number"),
        ("lambda a, k: a * k", {"k": float("inf")}, "too large"),
        ("np.mean", {"axes": 1}, "mean"),
    ],
)
def test_parse__wrong_params(text: str, params: dict[str, Any], reason: str) -> None:
    with pytest.raises(ExpressionError, match=reason):
        Expression.parse(text, ("a",), params)


@pytest.mark.parametrize(
    ("text", "elementwise"),
    [
        ("a / b", True),
        ("np.where(a > 0, a, np.nan)", True),
        ("a.mean(axis=1)", True),
        ("a[:, -1] - first(a, axis=1)", True),
        ("a[a > 0]", True),
        ("a - a.mean()", False),
        ("a[a > np.median(a)]", False),
        ("a.mean(axis=0)", False),
        ("a.mean(axis=-1)", False),
        ("a / a[0]", False),
        ("a[..., 0]", False),
        ("np.cumsum(a)", False),
        ("np.diff(a, prepend=0)", False),
        ("np.nanmean", False),
        ("np.log10", True),
    ],
)
def test_parse__is_elementwise(text: str, elementwise: bool) -> None:
    inputs = ("a", "b") if "b" in text.replace("np.abs", "") else ("a",)
    assert Expression.parse(text, inputs).is_elementwise is elementwise


@given(
    st.sampled_from(
        [
            "a / b",
            "c.mean(axis=1) * a",
            "c / a",
            "c[:, 1:] - c[:, :-1]",
            "a if a > b else b",
            "last(c, axis=1)",
            "np.diff(c, axis=1).std(axis=1)",
            "c[c > 0].sum(axis=1)",
        ]
    ),
    st.integers(1, 6),
)
def test_is_elementwise__means_steps_can_be_computed_apart(text: str, cut: int) -> None:
    expression = Expression.parse(text)
    assert expression.is_elementwise
    columns = [{"a": A, "b": B, "c": CYCLES}[name] for name in expression.inputs]
    parts = [expression.evaluate([x[s] for x in columns]) for s in (slice(cut), slice(cut, None))]
    assert_array_equal(np.concatenate(parts), expression.evaluate(columns))


@pytest.mark.parametrize("name", sorted(KEEPS_NAN))
def test_keeps_nan__wherever_it_stands(name: str) -> None:
    function = BY_CANONICAL_NAME[name]
    n = len([one for one in function.signature.parameters if one not in STATIC])
    options = {"decimals": 0} if name == "round" else {}
    others = np.array([-np.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, np.inf, NAN])
    with np.errstate(all="ignore"):
        for at in range(n):
            arguments = [np.full(10, NAN) if i == at else others for i in range(n)]
            assert np.isnan(function.apply(arguments, options)).all()


SCALAR, ENTRIES = Variable("A", ""), Variable("A", "", (2,), ("phase",))
BY_CYCLE = Variable("A", "", ("n_cycles",), ("cycle",))
CODES = Variable("", "", ("n_cycles",), ("cycle",), dtype="int8")


@pytest.mark.parametrize(
    ("text", "inputs", "stepwise"),
    [
        ("np.nan_to_num(a) + 1", [SCALAR], True),
        ("a.mean(axis=1)", [ENTRIES], True),
        ("a - a.mean()", [SCALAR], False),
        ("a / b", [BY_CYCLE, SCALAR], True),
        ("np.log10(a) ** 2 - 3 * a", [BY_CYCLE], True),
        ("a ** 0", [BY_CYCLE], False),
        ("2 ** a", [BY_CYCLE], False),
        ("np.nan_to_num(a)", [BY_CYCLE], False),
        ("a > 1", [BY_CYCLE], False),
        ("a.mean(axis=1)", [BY_CYCLE], False),
        ("a[:, -1]", [BY_CYCLE], False),
        ("a + 1", [CODES], False),
    ],
)
def test_is_stepwise(text: str, inputs: list[Variable], stepwise: bool) -> None:
    assert Expression.parse(text, tuple("ab"[: len(inputs)])).is_stepwise(inputs) is stepwise


def test_program__names_of_arguments_and_functions_do_not_count() -> None:
    same = ["lambda x: x.mean()", "lambda gm:  np.nanmean( gm )", "np.average"]
    programs = {repr(Expression.parse(text, ("gm",)).program) for text in same}
    assert len(programs) == 1
    other = Expression.parse("lambda x: x.mean(axis=0)", ("gm",)).program
    assert repr(other) not in programs


def test_expression__pickles() -> None:
    expression = Expression.parse("lambda a, k: a * k + np.nan", ("gm",), {"k": 2})
    copy = pickle.loads(pickle.dumps(expression))
    assert copy == expression
    assert repr(copy.program) == repr(expression.program)
    assert str(copy) == "lambda a, k: a * k + np.nan"


REFUSED = {
    "__import__('os').system('true')": "__import__",
    "().__class__.__bases__[0].__subclasses__()": "__subclasses__",
    "a.__class__": "__class__",
    "a.__class__.__mro__": "__mro__",
    "np.__loader__": "__loader__",
    "np.load('x')": "np.load",
    "np.lib.format": "np.lib",
    "np.random.rand()": "np.random.rand",
    "a.tofile('x')": "tofile",
    "a.T": "'T'",
    "a.data": "data",
    "[x for x in a]": "ListComp",
    "{x for x in a}": "SetComp",
    "sum(x for x in a)": "GeneratorExp",
    "f'{a}'": "JoinedStr",
    "'text'": "constants",
    "a + 'text'": "constants",
    "b'bytes'": "constants",
    "2j * a": "constants",
    "(y := a)": "NamedExpr",
    "lambda x: lambda y: x": "Lambda",
    "(lambda x: x)(a)": "function",
    "a if a else (yield)": "Yield",
    "await a": "Await",
    "[a, a]": "List",
    "{'a': a}": "Dict",
    "(a, a)": "Tuple",
    "a @ a": "MatMult",
    "a << 2": "LShift",
    "a is a": "Is",
    "a in a": "In",
    "*a,": "no valid",
    "eval('1')": "eval",
    "open('x')": "open",
    "getattr(a, 'x')": "getattr",
    "gmm / a": "gmm",
    "np.men(a)": "'mean'",
    "a.maen()": "'mean'",
    "np.mean()": "missing a required argument",
    "np.mean(a, out=a)": "out",
    "np.log10(a, a)": "too many",
    "np.mean(a, axis=a)": "constant number",
    "np.mean(a, axis=1.5)": "whole number",
    "np.mean(a, axis=10**9)": "constant number",
    "np.mean(*a)": "Starred",
    "np.mean(**a)": r"\*\*",
    "max(a, 0)": "np.maximum",
    "np": "no feature|unknown name",
    "1 + 1": "uses no feature",
    "": "no valid expression",
    "import os": "no valid expression",
    "a; a": "no valid expression",
    "a = 1": "no valid expression",
    "a\x00": "no valid expression",
    "1" + "0" * 400 + " * a": "too large",
    "1e999 * a": "too large",
    "a[None]": "first axis is the step",
    "a['x']": "constant number",
    "a[1.5]": "whole number",
    "a[b:]": "constant number",
    "~" * 100 + "a": "deep",
    "+".join(f"({'+'.join('a' * 20)})" for _ in range(20)): "more than 400 parts",
    "+".join("a" * 500): "deep|parts",
    "np.add(" * 70 + "a" + ", a)" * 70: "deep|nested",
    "(" * 300 + "a" + ")" * 300: "no valid expression",
    "-" * 1900 + "a": "deep|nested",
    "a" + "[0]" * 600: "deep|nested",
    "a" + ".mean()" * 280: "deep|nested",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:30])
def test_parse__refused(text: str) -> None:
    inputs = () if text in ("1 + 1", "np") else ("a",)
    with pytest.raises(ExpressionError, match=REFUSED[text]) as caught:
        Expression.parse(text, inputs)
    message = str(caught.value)
    assert message.startswith("expression ")
    assert len(message) < 500


def test_parse__long_text_is_refused_before_it_is_read() -> None:
    text = "a + " * (10_000_000 // 4) + "a"
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError, match=f"at most {MAX_LENGTH}"):
            Expression.parse(text, ("a",))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Parsing would take hundreds of MB; the message shows 40 characters.
    assert peak < 100_000


@pytest.mark.parametrize("value", [None, 3, b"a", ["a"]])
def test_parse__not_text(value: Any) -> None:
    with pytest.raises(ExpressionError, match="is text, not"):
        Expression.parse(value, ("a",))


TOKENS = [
    *("a", "c", "np", "numpy", "mean", "log10", "where", "x", "lambda", "if", "else", "and", "not"),
    *(".", ",", "(", ")", "[", "]", "[:, 0]", ":", "+", "-", "*", "**", "/", "//", "%", "@", "<"),
    *("==", "&", "|", "~", "is", "in", "1", "0.5", "1e400", "9" * 50, "2j", "'s'", "None", "True"),
    *("...", "__class__", "__import__", "axis=1", "axis=", "keepdims=True", "=", ":=", "*a", "**a"),
    *("np.nan", ".mean()", ".std(axis=1)", "np.diff(", "np.cumsum(a)", "for", "yield", "\n", "\\"),
    *("f'{a}'", "\x00", "τ", "1if", "0x", "'\\d'"),
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=12), st.sampled_from(["", " "]))
def test_parse__any_text_is_read_or_refused(tokens: list[str], glue: str) -> None:
    text = glue.join(tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            expression = Expression.parse(text, ("a", "c"))
            result = expression.evaluate([A, CYCLES])
        except ExpressionError as error:
            assert str(error).startswith("expression ")  # noqa: PT017
            return
    assert result.shape[0] == len(A)
    assert result.dtype == np.float64


# Grammar of what is allowed, so that deep and odd combinations are evaluated, not only refused.
def _nodes(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    unary = [
        "-{}",
        "np.abs({})",
        "({}).mean()",
        "({})[0]",
        "({})[:, 0]",
        "np.median({}, axis=1)",
        "np.cumsum({})",
        "({})[::-1]",
        "np.diff({}, axis=1)",
        "({})[({}) > 0]",
        "last({})",
        "np.percentile({}, 30, axis=0)",
        "({}).std(axis=-1, ddof=1)",
        "({}).argmax(axis=1)",
        "np.gradient({})",
        "({})[:, None]",
        "np.round({}, 2)",
        "not ({})",
        "np.max({})",
    ]
    binary = [
        "({}) + ({})",
        "({}) / ({})",
        "({}) ** ({})",
        "np.where({}, {}, 0)",
        "({}) < ({})",
        "(({}) > 0) & (({}) < 1)",
        "np.maximum({}, {})",
        "({}) if ({}) else 1",
    ]
    return st.one_of(
        st.builds(lambda f, x: f.replace("{}", x), st.sampled_from(unary), children),
        st.builds(lambda f, x, y: f.format(x, y), st.sampled_from(binary), children, children),
    )


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "c", "1", "0.5", "np.nan"]), _nodes, max_leaves=6
)


@settings(max_examples=300, deadline=None)
@given(EXPRESSIONS, st.sampled_from([0, 1, 2, 5]), st.sampled_from([0, 1, 3, 5]), st.booleans())
def test_evaluate__steps_or_a_reason(text: str, n: int, k: int, gaps: bool) -> None:
    a, b, c = A[:n].copy(), B[:n].copy(), CYCLES[:n, :k].copy()
    if gaps:
        a[:1] = b[-1:] = c[:, -1:] = c[:1] = NAN
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = Expression.parse(text, ("a", "b", "c")).evaluate([a, b, c])
        except ExpressionError as error:
            assert str(error).startswith("expression ")  # noqa: PT017
            return
    assert result.shape[0] == n
    assert result.dtype == np.float64
