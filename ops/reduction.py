"""Reductions: many elements into one. Names and meaning: array API standard 2024.12.

Sums and products of floats accumulate in float64 and are rounded once.
"""

import builtins
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court
from ..engine.errors import ShapeError
from ..engine.ir import Node, Values
from ..engine.labels import Axes
from ..engine.leaves import Constant
from ..engine.types import BOOL, INT64, UINT64, DType, Shape, TensorType, as_dtype, is_float
from .arithmetic import Add, Divide, Multiply, Subtract, row_factors
from .array import Array, ArrayLike, lift
from .casting import cast
from .centering import centered
from .kinds import AlongAxis, Reduction, flag, line_maximum, normalize_axes, normalize_axis, reduced_shape
from .registry import public
from .selection import where
from .shape import BroadcastTo, PermuteDims, Reshape

# Sums of two that are taken apart in search of products that are there: each doubles what is looked at.
_MOST_TAKEN_APART = 16


def spread(array: Array, reduction: Reduction) -> Array:
    """What a reduction has made of several elements, once for each of them."""
    shape = reduction.operand.shape
    kept = reduced_shape(shape, reduction.axes, True)
    return Array(BroadcastTo(Reshape(array.node, kept), shape))


class Accumulation(Reduction):
    """A sum or product: small integers and booleans accumulate in 64 bits."""

    wide = True

    def result_dtype(self, dtype: DType) -> DType:
        """Floats keep their type; booleans and signed integers give int64, unsigned ones uint64."""
        if is_float(dtype):
            return dtype
        return UINT64 if dtype.kind == "u" else INT64


class Sum(Accumulation):
    """The sum; 0 of nothing."""

    kernel_kind: ClassVar[str | None] = "sum"

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, to every element."""
        return (spread(upstream, self),)

    def reference(self, x: Values) -> Values:
        """NumPy's, in the widest type of the kind."""
        wide = None if x.dtype.kind == "f" else self.dtype
        return np.asarray(np.sum(x, axis=self.axes, keepdims=self.keepdims, dtype=wide))

    def adds_to(self, kernel: Any, at: Sequence[Any]) -> Sequence[Any] | None:
        """The same place along the axes that stay."""
        zero = kernel.constant(0)
        places = [zero if axis in self.axes else index for axis, index in enumerate(at)]
        return [each for axis, each in enumerate(places) if self.keepdims or axis not in self.axes]

    def hoist(self, uses: Mapping[Node, int]) -> Node | None:
        """``sum(r * x)`` is ``r * sum(x)`` for a factor r that does not vary along the summed axes."""
        if self.type.size >= self.operand.type.size:
            return None
        for rest, factor, divides in row_factors(self.operand, self._varies, uses):
            scale = factor
            if factor.shape and not self.keepdims:
                ahead = (1,) * (len(rest.shape) - len(factor.shape)) + factor.shape
                scale = Reshape(factor, reduced_shape(ahead, self.axes, False))
            return (Divide if divides else Multiply)(Sum(rest, self.axes, self.keepdims), scale)
        return None

    def permuted(self, axes: tuple[int, ...]) -> Node | None:
        """A sum of products over batch axes takes them transposed."""
        count = len(axes)
        moves = axes == (*range(count - 2), count - 1, count - 2) and not {count - 2, count - 1} & {*self.axes}
        if not moves or not self.keepdims or self.operand.role != "contraction":
            return None
        return Sum(PermuteDims(self.operand, axes), self.axes, True)

    def split(self, axis: int, other: int) -> Node | None:
        """``sum(sum(x, axis), …)``; along one of both, what is left are sums over axes before them: of the batch."""
        pair = [each for each in (axis, other) if each in self.axes]
        if not pair or len(self.axes) == 1 or not is_float(self.dtype):
            return None
        if len(pair) == 1 and builtins.any(each > pair[0] for each in self.axes):
            return None
        first = pair[0]
        others = tuple(each if each < first else each - 1 for each in self.axes if each != first)
        total: Node = Sum(Sum(self.operand, (first,), False), others, False)
        return Reshape(total, self.shape) if self.keepdims else total

    def center(self) -> Node | None:
        """``sum(D X)`` is ``sum(D (X - sum(P X)))`` for gradients D of scores: what D's lines add up to is 0."""
        return centered(self) if is_float(self.dtype) else None

    def exchange(self, present: Collection[Node]) -> Node | None:
        """``sum_j P_ij (A @ B.mT)_ij`` is ``sum_d A_id (P @ B)_id``, where the product ``P @ B`` is there.

        P may be a product of factors, and the sum one over terms of which each is of this form.
        """
        axis = len(self.operand.shape) - 1
        if self.axes != (axis,) or not is_float(self.dtype):
            return None
        return self._exchanged(_factors(self.operand), present, iter(range(_MOST_TAKEN_APART)))

    def _exchanged(self, factors: list[Node], present: Collection[Node], left: Iterator[int]) -> Node | None:
        """The sum over a product of these factors; as many sums among them are taken apart as are ``left``."""
        for place, factor in enumerate(factors):
            others = factors[:place] + factors[place + 1 :]
            if factor.role == "contraction" and factor.shape == self.operand.shape:
                found = self._through(factor, others, present)
                if found is not None:
                    return found
            elif isinstance(factor, Add | Subtract) and _both_of(factor, self.operand.shape):
                if next(left, None) is None:
                    return None
                sides: list[Node] = []
                for side in factor.operands:
                    found = self._exchanged([*others, *_factors(side)], present, left)
                    if found is None:
                        break
                    sides.append(found)
                else:
                    return type(factor)(*sides)
        return None

    def _through(self, product: Node, others: list[Node], present: Collection[Node]) -> Node | None:
        left, right = product.operands
        for there in present:
            weights, values = there.operands
            if _transposed(values) is not right and values is not _transposed(right):
                continue
            rest = list(others)
            if _take_all(rest, _factors(weights)):
                total: Node = Sum(Multiply(left, there), (len(there.shape) - 1,), self.keepdims)
                if total.shape != self.shape:
                    continue
                for factor in rest:  # numbers, which every term is multiplied by
                    total = Multiply(total, factor)
                return total
        return None

    def _varies(self, factor: Node) -> bool:
        missing = len(self.operand.shape) - len(factor.shape)
        return builtins.any(axis >= missing and factor.shape[axis - missing] != 1 for axis in self.axes)

    def simplify(self) -> Node | None:
        """A sum of sums is one sum; a sum over no axis is no sum."""
        inner = self.operand
        if not self.axes and inner.dtype == self.dtype and not inner.type.weak:
            return inner
        if isinstance(inner, Sum) and self.keepdims and inner.keepdims:
            return Sum(inner.operand, tuple(sorted({*self.axes, *inner.axes})), True)
        return None


def _factors(node: Node) -> list[Node]:
    """The factors of a product."""
    found: list[Node] = []
    stack = [node]
    while stack:
        each = stack.pop()
        if isinstance(each, Multiply):
            stack += [each.right, each.left]
        else:
            found.append(each)
    return found


def _take_all(factors: list[Node], wanted: Sequence[Node]) -> bool:
    """Take these out of a list of factors; whether they were all there, and nothing but numbers is left."""
    for each in wanted:
        if each not in factors:
            return False
        factors.remove(each)
    return builtins.all(isinstance(each, Constant) for each in factors)


def _transposed(node: Node) -> Node:
    """The last two axes exchanged, without doing it twice."""
    axes = (*range(len(node.shape) - 2), len(node.shape) - 1, len(node.shape) - 2)
    if isinstance(node, PermuteDims) and node.axes == axes:
        return node.operand
    return PermuteDims(node, axes)


def _both_of(node: Node, shape: Shape) -> bool:
    """Whether both sides of a sum have this shape: then each may be summed for itself."""
    return builtins.all(side.shape == shape for side in node.operands)


class Prod(Accumulation):
    """The product; 1 of nothing."""

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream times the product of the other elements."""
        x, axes = Array(self.operand), self.axes
        zeros = sum((x == 0).astype(self.dtype), axes, keepdims=True)
        others = where(x == 0, 1.0, x)
        product = prod(others, axes, keepdims=True)
        rest = where(zeros == 0, product / others, where((zeros == 1) & (x == 0), product, 0.0))
        return (spread(upstream, self) * rest,)

    def reference(self, x: Values) -> Values:
        """NumPy's, in the widest type of the kind."""
        wide = None if x.dtype.kind == "f" else self.dtype
        return np.asarray(np.prod(x, axis=self.axes, keepdims=self.keepdims, dtype=wide))


class Extremum(Reduction):
    """The largest or smallest; NaN if any is. Nothing has none."""

    def infer(self) -> TensorType:
        """Raises ShapeError for an empty axis."""
        if builtins.any(self.operand.shape[axis] == 0 for axis in self.axes):
            raise ShapeError(f"{self.name}: no {self.name} of nothing: {self.operand.type} over axes {self.axes}")
        return super().infer()

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """The upstream, to the largest or smallest; equal shares to equals."""
        x = Array(self.operand)
        taken = where(x == spread(Array(self), self), 1.0, 0.0).astype(self.dtype)
        return (spread(upstream, self) * (taken / sum(taken, self.axes, keepdims=True)),)


class Max(Extremum):
    """The largest."""

    kernel_kind: ClassVar[str | None] = "max"

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.max(x, axis=self.axes, keepdims=self.keepdims))


class Min(Extremum):
    """The smallest."""

    kernel_kind: ClassVar[str | None] = "max"
    kernel_negates: ClassVar[bool] = True

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.min(x, axis=self.axes, keepdims=self.keepdims))


class Truth(Reduction):
    """A boolean of many; NaN counts as true."""

    def result_dtype(self, dtype: DType) -> DType:
        """Boolean."""
        return BOOL


class AllTrue(Truth):
    """Whether all are true; so for nothing."""

    name: ClassVar[str] = "all"

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.all(x, axis=self.axes, keepdims=self.keepdims))


class AnyTrue(Truth):
    """Whether any is true; not so for nothing."""

    name: ClassVar[str] = "any"

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.any(x, axis=self.axes, keepdims=self.keepdims))


class ArgExtremum(AlongAxis):
    """The place along ``axis`` of the first largest or smallest; a NaN counts as either."""

    keepdims: bool

    def infer(self) -> TensorType:
        """int64. Raises ShapeError for an empty axis."""
        if self.operand.shape[self.axis] == 0:
            raise ShapeError(f"{self.name}: no place in nothing: {self.operand.type}, axis {self.axis}")
        return TensorType(reduced_shape(self.operand.shape, (self.axis,), self.keepdims), INT64)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Those that stay."""
        before, after = operands[0][: self.axis], operands[0][self.axis + 1 :]
        return (*before, None, *after) if self.keepdims else (*before, *after)

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """A place blames whom any element of its line blames."""
        blame = line_maximum(operands[0], self.axis)
        return Careful(value, None, None if blame is None else blame.reshape(value.shape))


class Argmax(ArgExtremum):
    """The place of the first largest."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.argmax(x, axis=self.axis, keepdims=self.keepdims))


class Argmin(ArgExtremum):
    """The place of the first smallest."""

    def reference(self, x: Values) -> Values:
        """NumPy's."""
        return np.asarray(np.argmin(x, axis=self.axis, keepdims=self.keepdims))


def _accumulate(cls: Any, x: ArrayLike, axis: Any, dtype: Any, keepdims: bool) -> Array:
    node = lift(x, cls.name)
    if dtype is not None:
        node = cast(node, as_dtype(dtype))
    result: Node = cls(node, normalize_axes(cls.name, axis, len(node.shape)), flag(cls.name, "keepdims", keepdims))
    return Array(result if dtype is None else cast(result, as_dtype(dtype)))


def _reduce(cls: Any, x: ArrayLike, axis: Any, keepdims: bool) -> Array:
    node = lift(x, cls.name)
    return Array(cls(node, normalize_axes(cls.name, axis, len(node.shape)), flag(cls.name, "keepdims", keepdims)))


@public()
def sum(x: ArrayLike, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """The sum along ``axis`` (one, several, or None for all); 0 of nothing.

    Booleans and signed integers give int64, unsigned ones uint64.
    """
    return _accumulate(Sum, x, axis, dtype, keepdims)


@public()
def prod(x: ArrayLike, axis: Any = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
    """The product along ``axis``; 1 of nothing. Types as `sum`."""
    return _accumulate(Prod, x, axis, dtype, keepdims)


@public("amax")
def max(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
    """The largest along ``axis``; NaN if any is.

    Raises:
        ShapeError: For an empty axis.
    """
    return _reduce(Max, x, axis, keepdims)


@public("amin")
def min(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
    """The smallest along ``axis``; NaN if any is.

    Raises:
        ShapeError: For an empty axis.
    """
    return _reduce(Min, x, axis, keepdims)


@public()
def all(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
    """Whether all along ``axis`` are true (not zero); so for nothing."""
    return _reduce(AllTrue, x, axis, keepdims)


@public()
def any(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
    """Whether any along ``axis`` is true (not zero); not so for nothing."""
    return _reduce(AnyTrue, x, axis, keepdims)


def _place(cls: Any, x: ArrayLike, axis: Any, keepdims: bool) -> Array:
    keepdims = flag(cls.name, "keepdims", keepdims)
    node = lift(x, cls.name)
    if axis is not None:
        return Array(cls(node, normalize_axis(cls.name, axis, len(node.shape)), keepdims))
    flat = Array(cls(Array(node).reshape(-1).node, 0, False))
    return flat.reshape((1,) * len(node.shape)) if keepdims else flat


@public()
def argmax(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
    """The place (int64) of the first largest along ``axis``, or in the flattened array.

    Raises:
        ShapeError: For an empty axis.
    """
    return _place(Argmax, x, axis, keepdims)


@public()
def argmin(x: ArrayLike, axis: Any = None, *, keepdims: bool = False) -> Array:
    """The place (int64) of the first smallest along ``axis``, or in the flattened array.

    Raises:
        ShapeError: For an empty axis.
    """
    return _place(Argmin, x, axis, keepdims)
