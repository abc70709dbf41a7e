"""Translation of an expression's text into a program, from a whitelist of syntax and functions."""

from __future__ import annotations

import ast
import math
import numbers
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from oectflow.errors import ExpressionError, did_you_mean
from oectflow.pipeline.features.functions import CONSTANTS, FUNCTIONS, METHODS, STATIC, Function
from oectflow.pipeline.features.programs import Program

MAX_LENGTH = 2000
MAX_DEPTH = 60
MAX_NODES = 400

_BINARY = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "power",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
    ast.And: "logical_and",
    ast.Or: "logical_or",
}
_UNARY = {
    ast.USub: "negative",
    ast.UAdd: "positive",
    ast.Invert: "invert",
    ast.Not: "logical_not",
}
_MODULES = ("np", "numpy")


def short_text(text: str) -> str:
    """Return text for a message, at most 80 characters of it."""
    text = " ".join(text.split())
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


class Parsed(NamedTuple):
    """What a text means: its program, the names of its inputs, and the numbers put into it."""

    program: Program
    inputs: tuple[str, ...]
    params: dict[str, float | int]
    is_elementwise: bool


def parse_text(text: str, inputs: tuple[str, ...], params: dict[str, Any]) -> Parsed:
    """Translate a text of bounded length.

    Parameters
    ----------
    text
        At most :data:`MAX_LENGTH` characters.
    inputs
        Names of the inputs; empty to take them from the text.
    params
        Values of further arguments.

    Raises
    ------
    ExpressionError
        The text holds something that is not on the list.
    """
    builder = _Builder(text, inputs, params)
    program = builder.build()
    if not builder.inputs:
        raise ExpressionError("it uses no feature")
    return Parsed(program, builder.inputs, builder.params, builder.is_elementwise)


class _Builder:
    """Translates one syntax tree, counting nodes and depth on the way."""

    def __init__(self, text: str, inputs: tuple[str, ...], params: dict[str, Any]) -> None:
        self.text = text.strip()
        self.inputs = inputs
        self.params = {name: _number(value, f"params.{name}") for name, value in params.items()}
        self.arguments: dict[str, int] = {}
        self.constants: dict[str, float | int] = dict(self.params)
        self.is_bare = False
        self.free: set[str] | None = None
        self.is_elementwise = True
        self.n_nodes = 0
        self.depth = 0

    def build(self) -> Program:
        tree = self.syntax_tree()
        function = self.function_name(tree)
        if isinstance(tree, ast.Lambda):
            self.bind_lambda(tree.args)
            return self.node(tree.body)
        if function and not (isinstance(tree, ast.Name) and tree.id in self.inputs):
            if not self.inputs:
                raise ExpressionError(f"{function.name} needs an input")
            positional: list[Program] = [("input", i) for i in range(len(self.inputs))]
            return self.call(function, positional, dict(self.params))
        # Numbered as they occur, so that the order under "input" is of no consequence.
        self.free = set(self.inputs) if self.inputs else None
        self.is_bare = True
        program = self.node(tree)
        self.inputs = tuple(self.arguments)
        return program

    def syntax_tree(self) -> ast.expr:
        try:
            with warnings.catch_warnings():
                # Python warns about text such as "1if x"; what we allow is decided here.
                warnings.simplefilter("ignore")
                return ast.parse(self.text, mode="eval").body
        except SyntaxError as error:
            where = f" at character {error.offset}" if error.offset else ""
            raise ExpressionError(f"no valid expression{where}: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise ExpressionError(f"no valid expression: {error or 'nested too deeply'}") from None

    def bind_lambda(self, args: ast.arguments) -> None:
        if args.vararg or args.kwarg:
            raise ExpressionError("*args and **kwargs are not allowed; name each argument")
        names = [arg.arg for arg in (*args.posonlyargs, *args.args)]
        defaults = dict(zip(reversed(names), reversed(args.defaults), strict=False))
        for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
            if default is not None:
                defaults[arg.arg] = default
        keyword_only = [arg.arg for arg in args.kwonlyargs]
        if not self.inputs:
            self.inputs = tuple(n for n in names if n not in self.params and n not in defaults)
        n_inputs = len(self.inputs)
        if len(names) < n_inputs:
            raise ExpressionError(
                f"the lambda takes {len(names)} inputs, but there are {n_inputs}: "
                f"{', '.join(self.inputs)}"
            )
        self.arguments = {name: i for i, name in enumerate(names[:n_inputs])}
        further = names[n_inputs:] + keyword_only
        for name in self.params:
            if name not in further:
                raise ExpressionError(
                    f"params.{name} is no argument of the lambda{did_you_mean(name, further)}"
                )
        for name in further:
            if name not in self.params and name not in defaults:
                raise ExpressionError(
                    f"argument {name!r} has no input and no value; add it to input or to params"
                )
        self.constants = {
            name: self.params[name] if name in self.params else self.constant(defaults[name])
            for name in further
        }

    def constant(self, tree: ast.expr) -> float | int:
        """Return a literal number, with or without a sign, or a parameter."""
        sign = 1
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            tree, sign = tree.operand, -1
        if isinstance(tree, ast.Name) and tree.id in self.constants:
            return sign * self.constants[tree.id]
        if isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float)):
            return sign * _number(tree.value, "number")
        raise self.refusal(tree, "a constant number is expected here")

    def refusal(self, tree: ast.AST, reason: str) -> ExpressionError:
        part = ast.get_source_segment(self.text, tree) if hasattr(tree, "lineno") else None
        kind = type(tree).__name__
        return ExpressionError(f"{short_text(part) if part else kind} is not allowed: {reason}")

    def node(self, tree: ast.expr) -> Program:
        self.n_nodes += 1
        self.depth += 1
        if self.n_nodes > MAX_NODES:
            raise ExpressionError(f"more than {MAX_NODES} parts; write an extractor instead")
        if self.depth > MAX_DEPTH:
            raise ExpressionError(f"nested more than {MAX_DEPTH} deep; write an extractor instead")
        translate = getattr(self, f"node_{type(tree).__name__}", None)
        if translate is None:
            raise self.refusal(
                tree,
                f"{type(tree).__name__} is none of arithmetic, comparison, call of a known "
                "function, x[index] and number",
            )
        program: Program = translate(tree)
        self.depth -= 1
        return program

    def node_Constant(self, tree: ast.Constant) -> Program:
        if not isinstance(tree.value, (int, float)):
            raise self.refusal(tree, "the only constants are real numbers, True and False")
        return ("number", float(_number(tree.value, "number")))

    def node_Name(self, tree: ast.Name) -> Program:
        if tree.id in self.arguments:
            return ("input", self.arguments[tree.id])
        if tree.id in self.constants:
            return ("number", float(self.constants[tree.id]))
        if self.is_free(tree.id):
            return ("input", self.arguments.setdefault(tree.id, len(self.arguments)))
        known = (*self.arguments, *self.constants, *(self.free or ()))
        raise ExpressionError(f"unknown name {tree.id!r}{did_you_mean(tree.id, known)}")

    def is_free(self, name: str) -> bool:
        """Say whether a name in a bare expression is that of a feature."""
        if self.free is not None:
            return name in self.free
        return self.is_bare and name not in FUNCTIONS and name not in _MODULES

    def node_Attribute(self, tree: ast.Attribute) -> Program:
        if not self.is_module(tree.value):
            raise self.refusal(tree, f"unknown attribute {tree.attr!r}{_near(tree.attr, METHODS)}")
        if tree.attr not in CONSTANTS:
            known = (*FUNCTIONS, *CONSTANTS)
            raise self.refusal(tree, f"unknown name {tree.attr!r}{_near(tree.attr, known)}")
        return ("number", CONSTANTS[tree.attr])

    def node_UnaryOp(self, tree: ast.UnaryOp) -> Program:
        if isinstance(tree.op, ast.USub) and isinstance(tree.operand, ast.Constant):
            kind, number = self.node(tree.operand)
            return (kind, -number)
        return _call(_UNARY[type(tree.op)], self.node(tree.operand))

    def node_BinOp(self, tree: ast.BinOp) -> Program:
        return self.operation(tree, tree.op, self.node(tree.left), self.node(tree.right))

    def node_BoolOp(self, tree: ast.BoolOp) -> Program:
        program = self.node(tree.values[0])
        for value in tree.values[1:]:
            program = self.operation(tree, tree.op, program, self.node(value))
        return program

    def node_Compare(self, tree: ast.Compare) -> Program:
        sides = [self.node(side) for side in (tree.left, *tree.comparators)]
        pairs = zip(tree.ops, sides[:-1], sides[1:], strict=True)
        result, *more = [self.operation(tree, op, a, b) for op, a, b in pairs]
        for other in more:
            result = _call("logical_and", result, other)
        return result

    def operation(self, tree: ast.AST, op: ast.AST, left: Program, right: Program) -> Program:
        if type(op) not in _BINARY:
            raise self.refusal(tree, f"there is no operator {type(op).__name__} for features")
        return _call(_BINARY[type(op)], left, right)

    def node_IfExp(self, tree: ast.IfExp) -> Program:
        return _call("where", self.node(tree.test), self.node(tree.body), self.node(tree.orelse))

    def node_Call(self, tree: ast.Call) -> Program:
        arguments = list(tree.args)
        function = self.function_name(tree.func)
        if function is None and isinstance(tree.func, ast.Attribute) and tree.func.attr in METHODS:
            function = FUNCTIONS[tree.func.attr]
            arguments.insert(0, tree.func.value)
        if function is None:
            name = getattr(tree.func, "attr", getattr(tree.func, "id", ""))
            hint = _near(name, FUNCTIONS)
            raise self.refusal(tree.func, f"it is no function for features{hint}")
        if isinstance(tree.func, ast.Name) and tree.func.id in ("min", "max") and arguments[1:]:
            raise self.refusal(
                tree, f"write np.{tree.func.id}imum(a, b) for the {tree.func.id} of two"
            )
        keywords: dict[str, Any] = {}
        for keyword in tree.keywords:
            if keyword.arg is None:
                raise self.refusal(tree, "** is not allowed")
            keywords[keyword.arg] = keyword.value
        return self.call(function, arguments, keywords)

    def call(
        self, function: Function, positional: Sequence[Any], keywords: Mapping[str, Any]
    ) -> Program:
        """Translate a call whose arguments are syntax trees, programs or numbers."""
        try:
            bound = function.signature.bind(*positional, **keywords)
        except TypeError as error:
            arguments = ", ".join(function.signature.parameters)
            raise ExpressionError(f"{function.name}({arguments}): {error}") from None
        bound.apply_defaults()
        translated: list[Program] = []
        options: list[tuple[str, Any]] = []
        for name, value in bound.arguments.items():
            if name in STATIC:
                options.append((name, self.option(name, value)))
            else:
                translated.append(self.argument(value))
        # The axes are known from the text, so it is known whether steps are mixed.
        axis = dict(options).get("axis")
        if function.kind != "elementwise" and (axis is None or axis < 1):
            self.is_elementwise = False
        return ("call", function.name, tuple(translated), tuple(options))

    def argument(self, value: Any) -> Program:
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            return ("none",)
        if isinstance(value, ast.expr):
            return self.node(value)
        return value if isinstance(value, tuple) else ("number", float(value))

    def option(self, name: str, value: Any) -> int | bool | None:
        if isinstance(value, ast.Constant) and (
            value.value is None or value.value in (True, False)
        ):
            number: Any = value.value
        else:
            number = self.constant(value) if isinstance(value, ast.expr) else value
        if isinstance(number, tuple):
            raise ExpressionError(
                f"{name} is a constant, and cannot be an input; name it in params"
            )
        if number is None and name == "axis":
            return None
        if name == "keepdims":
            return bool(number)
        if number is None or number != int(number) or abs(number) > 32:
            raise ExpressionError(f"{name}={number!r} is not a small whole number")
        return int(number)

    def node_Subscript(self, tree: ast.Subscript) -> Program:
        value = self.node(tree.value)
        if self.is_condition(tree.slice):
            return ("mask", value, self.node(tree.slice))
        parts = tree.slice.elts if isinstance(tree.slice, ast.Tuple) else [tree.slice]
        index = tuple(self.index(part) for part in parts)
        if not index or index[0] == "new":
            raise self.refusal(tree, "the first axis is the step; write x[:, None]")
        if index[0] != (None, None, None):
            self.is_elementwise = False
        return ("item", value, index)

    def is_condition(self, tree: ast.expr) -> bool:
        if isinstance(tree, ast.UnaryOp):
            return not isinstance(tree.op, ast.USub)
        if isinstance(tree, ast.Name):
            return tree.id not in self.constants
        return isinstance(tree, (ast.Compare, ast.BinOp, ast.BoolOp, ast.Call))

    def index(self, tree: ast.expr) -> Any:
        """Return a whole number, (start, stop, step), ``"..."`` or ``"new"`` for a new axis."""
        if isinstance(tree, ast.Slice):
            return tuple(
                None if part is None else self.whole(part)
                for part in (tree.lower, tree.upper, tree.step)
            )
        if isinstance(tree, ast.Constant) and tree.value is None:
            return "new"
        if isinstance(tree, ast.Constant) and tree.value is Ellipsis:
            return "..."
        if self.is_module(getattr(tree, "value", tree)) and getattr(tree, "attr", "") == "newaxis":
            return "new"
        return self.whole(tree)

    def whole(self, tree: ast.expr) -> int:
        number = self.constant(tree)
        if number != int(number) or abs(number) > 2**31:
            raise self.refusal(tree, "an index is a whole number")
        return int(number)

    def is_module(self, tree: ast.AST) -> bool:
        return isinstance(tree, ast.Name) and tree.id in _MODULES and not self.is_input(tree.id)

    def is_input(self, name: str) -> bool:
        return name in self.arguments or (self.free is not None and name in self.free)

    def function_name(self, tree: ast.expr) -> Function | None:
        if isinstance(tree, ast.Name) and not self.is_input(tree.id):
            return FUNCTIONS.get(tree.id)
        if isinstance(tree, ast.Attribute) and self.is_module(tree.value):
            return FUNCTIONS.get(tree.attr)
        return None


def _near(word: str, known: Iterable[str]) -> str:
    hint = did_you_mean(word, known)
    return hint if "did you mean" in hint else "; there are abs, log10, where, mean, std, …"


def _call(name: str, *arguments: Program) -> Program:
    return ("call", name, arguments, ())


def _number(value: Any, what: str) -> float | int:
    """Return a finite number; text such as ``1e-9`` is one, since YAML 1.1 reads it as text."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise ExpressionError(f"{what}={short_text(value)} is not a number") from None
    if isinstance(value, numbers.Integral):
        value = int(value)
    elif isinstance(value, numbers.Real):
        value = float(value)
    else:
        raise ExpressionError(f"{what}={short_text(str(value))} is not a number")
    number: float | int = value
    try:
        finite = math.isfinite(number)
    except OverflowError:
        finite = False
    if not finite:
        raise ExpressionError(f"{what} is too large; write np.inf or np.nan where you mean them")
    return number
