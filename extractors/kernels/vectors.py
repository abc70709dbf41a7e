"""Vectors of the processor, for loops that the compiler does not turn into vector instructions.

A vector holds :data:`WIDTH` or :data:`WIDE` numbers of float64 beside each other.  ``+``, ``-``,
``*`` and ``/`` work on all of them; :func:`load` and :func:`store` read and write neighbouring
items of an array without looking whether they lie in it.  :data:`WIDTH` fills one register of AVX2.
:data:`WIDE` fills four: where a loop is one long chain of dependent operations, the four keep the
processor busy.

:func:`fma` rounds once, on every machine and in whatever a function is compiled into, so the bits
of a result stay the same.  (Where the processor cannot, it is slow.)

With ``NUMBA_DISABLE_JIT=1`` the same functions work on NumPy arrays; :func:`fma` rounds twice then.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, types
from numba.core.errors import TypingError
from numba.core.types.containers import UniTuple
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

#: Numbers in a vector of :func:`load` and of :func:`load_wide`.
WIDTH, WIDE = 4, 16


class Vector(types.Type):
    """Numba's type of a vector of ``width`` numbers."""

    def __init__(self, width):
        super().__init__(f"Vector({width})")
        self.width = width
        self.llvm = ir.VectorType(ir.DoubleType(), width)


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is what LLVM calls one."""

    def __init__(self, manager, of):
        super().__init__(manager, of, of.llvm)


NARROW_VECTOR, WIDE_VECTOR = Vector(WIDTH), Vector(WIDE)


def _operate(operation, instruction):
    @type_callable(operation)
    def type_of(_context):
        return lambda a, b: a if isinstance(a, Vector) and a == b else None

    @lower_builtin(operation, Vector, Vector)
    def compile_it(_context, builder, _signature, operands):
        return getattr(builder, instruction)(*operands)


_operate(operator.add, "fadd")
_operate(operator.sub, "fsub")
_operate(operator.mul, "fmul")
_operate(operator.truediv, "fdiv")


def _pointer(context, builder, vector, signature, array, index):
    data = context.make_array(signature.args[0])(context, builder, array).data
    index = context.cast(builder, index, signature.args[1], types.intp)
    return builder.bitcast(builder.gep(data, [index]), vector.llvm.as_pointer())


def _refuse_gaps(array):
    if array.layout != "C":
        raise TypingError("a vector is read from and written to neighbouring items: layout C")


def _loader(vector):
    def typed(_context, array, index):
        _refuse_gaps(array)

        def build(context, builder, signature, given):
            where = _pointer(context, builder, vector, signature, *given)
            # Arrays are aligned to their items only.
            return builder.load(where, align=8)

        return vector(array, index), build

    return typed


def _filled(vector, x, context, builder, kind):
    none = ir.Constant(vector.llvm, ir.Undefined)
    value = context.cast(builder, x, kind, types.float64)
    first = builder.insert_element(none, value, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.width), [0] * vector.width)
    return builder.shuffle_vector(first, none, zeros)


def _splat(_context, x):
    def build(context, builder, _signature, given):
        return _filled(NARROW_VECTOR, given[0], context, builder, x)

    return NARROW_VECTOR(x), build


def _like(_context, vector, x):
    def build(context, builder, _signature, given):
        return _filled(vector, given[1], context, builder, x)

    return vector(vector, x), build


def _store(_context, array, index, vector):
    _refuse_gaps(array)

    def build(context, builder, signature, given):
        array, index, value = given
        where = _pointer(context, builder, vector, signature, array, index)
        builder.store(value, where, align=8)
        return context.get_dummy_value()

    return types.none(array, index, vector), build


def _fma(_context, a, b, c):
    def build(_context, builder, _signature, given):
        kind = ir.FunctionType(a.llvm, [a.llvm] * 3)
        name = f"llvm.fma.v{a.width}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)

    return a(a, b, c), build


def _where_less(_context, a, b, x, y):
    def build(_context, builder, _signature, given):
        return builder.select(builder.fcmp_ordered("<", given[0], given[1]), given[2], given[3])

    return a(a, b, x, y), build


def _folded(sign):
    def typed(_context, vector):
        def build(_context, builder, _signature, given):
            numbers = [
                builder.extract_element(given[0], ir.IntType(32)(i)) for i in range(vector.width)
            ]
            # In pairs, and pairs of pairs: a chain would wait for each of its links.
            while len(numbers) > 1:
                numbers = [
                    builder.select(builder.fcmp_ordered(sign, a, b), a, b)
                    for a, b in zip(numbers[::2], numbers[1::2], strict=True)
                ]
            return numbers[0]

        return types.float64(vector), build

    return typed


def _transpose(_context, a, b, c, d):
    def build(context, builder, signature, given):
        def mix(left, right, *take):
            mask = ir.Constant(ir.VectorType(ir.IntType(32), 4), take)
            return builder.shuffle_vector(left, right, mask)

        a, b, c, d = given
        even_ab, odd_ab = mix(a, b, 0, 4, 2, 6), mix(a, b, 1, 5, 3, 7)
        even_cd, odd_cd = mix(c, d, 0, 4, 2, 6), mix(c, d, 1, 5, 3, 7)
        columns = (
            mix(even_ab, even_cd, 0, 1, 4, 5),
            mix(odd_ab, odd_cd, 0, 1, 4, 5),
            mix(even_ab, even_cd, 2, 3, 6, 7),
            mix(odd_ab, odd_cd, 2, 3, 6, 7),
        )
        return context.make_tuple(builder, signature.return_type, columns)

    return UniTuple(a, 4)(a, b, c, d), build


if config.DISABLE_JIT:

    def load(array, index):
        """Return the numbers of an array from an index on."""
        return array[index : index + WIDTH].copy()

    def load_wide(array, index):
        """Return the numbers of an array from an index on, in a wide vector."""
        return array[index : index + WIDE].copy()

    def splat(x):
        """Return a vector of equal numbers."""
        return np.full(WIDTH, float(x))

    def like(vector, x):
        """Return a vector of equal numbers, as wide as another one."""
        return np.full(vector.size, float(x))

    def store(array, index, vector):
        """Write a vector into an array, from an index on."""
        array[index : index + vector.size] = vector

    def fma(a, b, c):
        """Return ``a * b + c``, rounded once."""
        return a * b + c

    def where_less(a, b, x, y):
        """Return, number by number, ``x`` where ``a < b`` and else ``y``."""
        return np.where(a < b, x, y)

    def least(vector):
        """Return the least number of a vector, none of which is NaN."""
        return vector.min()

    def largest(vector):
        """Return the largest number of a vector, none of which is NaN."""
        return vector.max()

    def transpose(a, b, c, d):
        """Return the columns of a matrix of four rows."""
        return tuple(np.column_stack([a, b, c, d]))

else:
    load = intrinsic(_loader(NARROW_VECTOR))
    load_wide = intrinsic(_loader(WIDE_VECTOR))
    splat = intrinsic(_splat)
    like = intrinsic(_like)
    store = intrinsic(_store)
    fma = intrinsic(_fma)
    where_less = intrinsic(_where_less)
    least = intrinsic(_folded("<"))
    largest = intrinsic(_folded(">"))
    transpose = intrinsic(_transpose)
