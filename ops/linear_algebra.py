"""Products: matmul, einsum, tensordot, vecdot. Names and meaning: array API standard 2024.12, NumPy."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import EMPTY, Careful, Court, none_if_empty
from ..engine.errors import ShapeError
from ..engine.ir import Node, Values
from ..engine.labels import Axes, first_of, spread
from ..engine.threads import product
from ..engine.types import Shape, TensorType, broadcast, is_float
from .arithmetic import Add, Divide, Multiply, Subtract, row_factors
from .array import Array, ArrayLike, lift
from .casting import promoted
from .kinds import normalize_axes, normalize_axis, whole
from .reduction import Sum, sum
from .registry import public
from .shape import BroadcastTo, PermuteDims, Reshape, expand_dims, permute_dims
from .softmax import Softmax


class Matmul(Node):
    """``left @ right`` over the last two axes, the others broadcast.

    A term one of whose factors is hidden by a mask adds nothing, whatever the other factor holds.
    """

    role: ClassVar[str] = "contraction"

    left: Node
    right: Node

    def infer(self) -> TensorType:
        """``(…, n, k) @ (…, k, m)`` is ``(…, n, m)``."""
        left, right = self.left, self.right
        if left.shape[-1] != right.shape[-2]:
            raise ShapeError(
                f"matmul: {left.type} and {right.type} do not multiply: {left.shape[-1]} against {right.shape[-2]}"
            )
        batch = broadcast("matmul", left.shape[:-2], right.shape[:-2])
        return TensorType((*batch, left.shape[-2], right.shape[-1]), left.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """Rows from the left, columns from the right; what it does for each of, as the left calls it."""
        left, right = operands
        batch = self.shape[:-2]
        left_batch = spread(left[:-2], self.left.shape[:-2], batch)
        right_batch = spread(right[:-2], self.right.shape[:-2], batch)
        return (*map(first_of, left_batch, right_batch), left[-2], right[-1])

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """A sum of products over a new axis."""
        axis = kernel.new_axis("e", self.left.shape[-1])
        inner = kernel.index(axis)
        left = kernel.spread(self.left, [*at[:-2], at[-2], inner])
        right = kernel.spread(self.right, [*at[:-2], inner, at[-1]])
        return kernel.reduce("sum", axis, kernel.multiply(left, right))

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream @ x2.mT``, ``x1.mT @ upstream``."""
        return upstream @ Array(self.right).mT, Array(self.left).mT @ upstream

    def reference(self, left: Values, right: Values) -> Values:
        """NumPy's, in row blocks fixed by the shape; booleans: any of both."""
        if left.dtype.kind == "b":
            return np.asarray(np.matmul(left, right))
        return product(left, right)

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Terms with a hidden factor are left out; empty where all are; to blame for the others."""
        left, right = operands
        if all(side.hidden is None and side.blame is None for side in operands):
            return Careful(value)
        seen = [(side.hidden_zeros() == 0).astype(np.float64) for side in operands]
        visible = np.matmul(seen[0], seen[1])
        hidden = None
        if left.hidden is not None or right.hidden is not None:
            value = _visible_product(left, right).astype(value.dtype)
            if left.value.shape[-1]:
                hidden = none_if_empty(EMPTY * (visible == 0))
        return Careful(value, hidden, _visible_blame(left, right, seen))

    def hoist(self, uses: Mapping[Node, int]) -> Node | None:
        """``(r * P) @ V`` is ``r * (P @ V)`` for a factor r of rows, where the product is the smaller."""
        left, right = self.left, self.right
        if self.type.size < left.type.size:
            for rest, factor, divides in row_factors(left, _varies_along(-1), uses):
                return (Divide if divides else Multiply)(Matmul(rest, right), factor)
        if self.type.size < right.type.size:
            for rest, factor, divides in row_factors(right, _varies_along(-2), uses):
                return (Divide if divides else Multiply)(Matmul(left, rest), factor)
        return None

    def permuted(self, axes: tuple[int, ...]) -> Node | None:
        """A product's transpose is that of its transposed sides, exchanged."""
        count = len(axes)
        if axes != (*range(count - 2), count - 1, count - 2):
            return None
        lengths = [len(side.shape) for side in self.operands]
        sides = [
            PermuteDims(side, (*range(n - 2), n - 1, n - 2)) for side, n in zip(self.operands, lengths, strict=True)
        ]
        return Matmul(sides[1], sides[0])

    def simplify(self) -> Node | None:
        """One row times one column is a sum of products, and a batch axis that only broadcasting brings is dropped."""
        if self.shape[-2:] == (1, 1) and is_float(self.dtype):
            column = Reshape(self.right, (*self.right.shape[:-2], 1, self.right.shape[-2]))
            return Sum(Multiply(self.left, column), (len(self.shape) - 1,), True)
        stripped = [_without_spread_batch(side) for side in (self.left, self.right)]
        if stripped == [self.left, self.right]:
            return None
        candidate = Matmul(stripped[0], stripped[1])
        return candidate if candidate.type == self.type else None

    def distribute(self) -> Node | None:
        """``(P1 - c * P2) @ V`` is ``P1 @ V - c * (P2 @ V)`` for softmaxes: the gradient of each has its row's sum."""
        if not isinstance(self.left, Add | Subtract):
            return None
        terms = [_shares(each, self.left.shape) for each in self.left.operands]
        if None in terms:
            return None
        return type(self.left)(*(_weighed(term, self.right) for term in terms if term is not None))

    def divided(self, divisor: Node) -> Node | None:
        """``(e @ V) / r`` is ``(e / r) @ V`` for numbers r of rows, if e knows what that is."""
        if divisor.shape[-1:] != (1,) or isinstance(self.left, Matmul):
            return None
        weights = self.left.divided(divisor)
        return Matmul(weights, self.right) if weights is not None and weights.type == self.left.type else None


def _shares(node: Node, shape: Shape) -> tuple[Node, Node | None] | None:
    """A softmax along the last axis and what each of its rows is multiplied by, of a product of this shape."""
    factor: Node | None = None
    while isinstance(node, Multiply):
        found = [(one, other) for one, other in (node.operands, node.operands[::-1]) if other.shape[-1:] in ((), (1,))]
        if len(found) != 1:
            return None
        node, other = found[0]
        factor = other if factor is None else Multiply(factor, other)
    if not isinstance(node, Softmax) or node.axis != len(shape) - 1 or node.shape != shape:
        return None
    return node, factor


def _weighed(term: tuple[Node, Node | None], values: Node) -> Node:
    weights, factor = term
    product = Matmul(weights, values)
    return product if factor is None else Multiply(factor, product)


def _varies_along(axis: int) -> Callable[[Node], bool]:
    return lambda node: len(node.shape) >= -axis and node.shape[axis] != 1


def _without_spread_batch(node: Node) -> Node:
    if isinstance(node, BroadcastTo) and len(node.operand.shape) >= 2 and node.operand.shape[-2:] == node.shape[-2:]:
        return node.operand
    return node


def _visible_product(left: Careful, right: Careful) -> Values:
    """The product without hidden terms. Only terms that are not finite need to be told apart."""
    values = left.contribution(), right.contribution()
    bad_left, bad_right = (~np.isfinite(value) for value in values)
    depth = bad_left.any(axis=tuple(range(bad_left.ndim - 1))) | _any_row(bad_right)
    clean = [np.where(bad, 0, value) for bad, value in zip((bad_left, bad_right), values, strict=True)]
    clean[0] = np.where(depth, 0, clean[0])
    result: Values = np.matmul(clean[0], clean[1])
    hidden_left, hidden_right = left.hidden_zeros(), right.hidden_zeros()
    # Where a whole side is hidden, as a cache's tail is, there is nothing to tell apart.
    seen = (hidden_left == 0).any(axis=tuple(range(hidden_left.ndim - 1))) & _any_row(hidden_right == 0)
    for place in np.flatnonzero(depth & seen):
        term = values[0][..., :, place, None] * values[1][..., place, None, :]
        unseen = (hidden_left[..., :, place, None] > 0) | (hidden_right[..., place, None, :] > 0)
        result = result + np.where(unseen, 0, term)
    return result


def _any_row(bad: Values) -> Values:
    moved = np.moveaxis(bad, -2, -1)
    return np.asarray(moved.any(axis=tuple(range(moved.ndim - 1))))


def _visible_blame(left: Careful, right: Careful, seen: list[Values]) -> Any:
    blame: Any = None
    numbers = {int(n) for side in (left, right) if side.blame is not None for n in np.unique(side.blame) if n}
    for number in sorted(numbers, reverse=True):
        guilty = [(side.full_blame() == number) & (here > 0) for side, here in zip((left, right), seen, strict=True)]
        terms = np.matmul(guilty[0].astype(float), seen[1]) + np.matmul(seen[0], guilty[1].astype(float))
        blame = np.where(terms > 0, np.int32(number), np.int32(0) if blame is None else blame)
    return blame


def _operands(operation: str, *given: ArrayLike) -> list[Array]:
    arrays = promoted(operation, *(lift(each, operation) for each in given))
    for node in arrays:
        if not node.shape:
            sides = " and ".join(str(lift(each, operation).type) for each in given)
            raise ShapeError(f"{operation}: 0-d operands do not multiply: {sides}; use *")
    return [Array(node) for node in arrays]


@public("bmm", "mm")
def matmul(x1: ArrayLike, x2: ArrayLike, /) -> Array:
    """``x1 @ x2`` over the last two axes, the others broadcast; vectors as rows and columns.

    Integers multiply as integers, booleans as any-of-both. A term that a mask hides (``where(mask,
    weights, 0)``, a softmax of ``where(mask, scores, -inf)``) adds nothing, whatever stands there.

    Raises:
        ShapeError: If the inner lengths differ, or an operand has no axis.
    """
    left, right = _operands("matmul", x1, x2)
    rows = expand_dims(left, axis=0) if left.ndim == 1 else left
    columns = expand_dims(right, axis=1) if right.ndim == 1 else right
    result = Array(Matmul(rows.node, columns.node))
    if left.ndim == 1:
        result = result[..., 0, :]
    return result[..., 0] if right.ndim == 1 else result


@public()
def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Array:
    """The sum of products along ``axis``, the others broadcast.

    Raises:
        ShapeError: If the lengths along the axis differ.
    """
    left, right = _operands("vecdot", x1, x2)
    lengths = [side.shape[normalize_axis("vecdot", axis, side.ndim)] for side in (left, right)]
    if lengths[0] != lengths[1]:
        raise ShapeError(f"vecdot: {left.node.type} and {right.node.type} differ along axis {axis}: {lengths}")
    if axis >= 0 and left.ndim != right.ndim:
        raise ShapeError(f"vecdot: axis {axis} counted from the front of {left.node.type} and {right.node.type}")
    return sum(left * right, axis, dtype=left.dtype)


@public()
def tensordot(x1: ArrayLike, x2: ArrayLike, /, *, axes: Any = 2) -> Array:
    """The sum of products over the last ``axes`` axes of x1 and the first of x2, or over pairs of axes.

    Raises:
        ShapeError: If paired lengths differ.
    """
    left, right = (Array(node) for node in promoted("tensordot", lift(x1, "tensordot"), lift(x2, "tensordot")))
    if isinstance(axes, tuple | list):
        pairs = [list(side) if isinstance(side, tuple | list) else [side] for side in axes]
    else:
        count = whole("tensordot", "axes", axes)
        if not 0 <= count <= min(left.ndim, right.ndim):
            raise ShapeError(f"tensordot: {count} axes of {left.node.type} and {right.node.type}")
        pairs = [list(range(left.ndim - count, left.ndim)), list(range(count))]
    if len(pairs) != 2 or len(pairs[0]) != len(pairs[1]):
        raise ShapeError(f"tensordot: axes {axes!r} do not pair up")
    firsts = [normalize_axis("tensordot", axis, left.ndim) for axis in pairs[0]]
    seconds = [normalize_axis("tensordot", axis, right.ndim) for axis in pairs[1]]
    normalize_axes("tensordot", firsts, left.ndim), normalize_axes("tensordot", seconds, right.ndim)
    if [left.shape[axis] for axis in firsts] != [right.shape[axis] for axis in seconds]:
        raise ShapeError(f"tensordot: axes {firsts} of {left.node.type} and {seconds} of {right.node.type} differ")
    keep_left = [axis for axis in range(left.ndim) if axis not in firsts]
    keep_right = [axis for axis in range(right.ndim) if axis not in seconds]
    depth = int(np.prod([left.shape[axis] for axis in firsts], dtype=np.int64))
    outer_left = [left.shape[axis] for axis in keep_left]
    outer_right = [right.shape[axis] for axis in keep_right]
    rows = permute_dims(left, keep_left + firsts).reshape((int(np.prod(outer_left, dtype=np.int64)), depth))
    columns = permute_dims(right, seconds + keep_right).reshape((depth, int(np.prod(outer_right, dtype=np.int64))))
    return matmul(rows, columns).reshape((*outer_left, *outer_right))
