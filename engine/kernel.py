"""The kernel language's elements: what one element of a value is, as a function of its indices.

`Node.lower` writes an operator's element in terms of its operands' elements. Scalars are interned by their
`Elements`, which lives as long as one compilation.
"""

import math
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from .intervals import bounds_inside, widest_interval
from .ir import Node, UnfusableError
from .leaves import Constant
from .lengths import Length
from .scalar import Axis, Scalar, below
from .types import BOOL, INT64, UINT64, DType, Shape, is_float, is_integer

_NO_AXES: frozenset[Axis] = frozenset()


class Elements:
    """Makes interned scalars, and lowers nodes to them.

    Args:
        stored: Whether a node's value is an array by the time the kernel runs: then its element is a
            load. Everything else is lowered through its operator.
        clamps: Whether the kernel looks itself at indices that are not proven to lie inside.
        apart: Whether what operators are made through may be stored, too.
    """

    def __init__(self, stored: Callable[[Node], bool], *, clamps: bool = False, apart: bool = False) -> None:
        self._stored, self._clamps, self._apart = stored, clamps, apart
        self._table: dict[tuple[Any, ...], Scalar] = {}
        self._lowered: dict[tuple[Any, ...], Scalar] = {}
        self._counters: dict[str, int] = {}
        self._bound: dict[tuple[int, int], Axis] = {}
        # Which node a scalar is an element of: what may be stored instead of computed.
        self.origin: dict[Scalar, Node] = {}

    # --- making scalars

    def make(self, op: str, args: tuple[Scalar, ...], dtype: DType, attribute: Any = None) -> Scalar:
        """The one scalar of these."""
        key = (op, args, dtype.num, repr(attribute) if isinstance(attribute, (float, int)) else attribute)
        found = self._table.get(key)
        if found is None:
            axes = args[0].axes if args else _NO_AXES
            for each in args[1:]:
                if each.axes and each.axes is not axes:
                    axes = axes | each.axes
            if op == "axis":
                axes = frozenset((attribute,))
            elif op == "reduce":
                axes -= {attribute[1]}
            found = self._table[key] = Scalar(op, args, attribute, dtype, axes, len(self._table))
        return found

    def new_axis(self, prefix: str, length: int) -> Axis:
        """A fresh index variable."""
        number = self._counters[prefix] = self._counters.get(prefix, 0) + 1
        return Axis(f"{prefix}{number}", length)

    def constant(self, value: Any, dtype: DType = INT64) -> Scalar:
        """A number."""
        if is_float(dtype):
            value = float(value)
        elif isinstance(value, Length):  # a number of the code: the plan is for this one
            value = int(value)
        return self.make("constant", (), dtype, bool(value) if dtype == BOOL else value)

    def index(self, axis: Axis) -> Scalar:
        """The index variable as a number; of an axis of length 1 it is 0."""
        return self.constant(0) if axis.length == 1 else self.make("axis", (), INT64, axis)

    def length(self, length: int) -> Scalar:
        """The length of an axis as a number, whatever it is in a call."""
        return self.make("length", (), INT64, (length,))

    def apply(self, op: str, dtype: DType, *args: Scalar) -> Scalar:
        """An element-wise function, simplified where that is plain."""
        from_rules = _simplified(self, op, dtype, args)
        return self.make(op, args, dtype) if from_rules is None else from_rules

    def add(self, left: Scalar, right: Scalar) -> Scalar:
        """``left + right`` in the left one's type."""
        return self.apply("add", left.dtype, left, right)

    def subtract(self, left: Scalar, right: Scalar) -> Scalar:
        """``left - right`` in the left one's type."""
        return self.apply("subtract", left.dtype, left, right)

    def multiply(self, left: Scalar, right: Scalar) -> Scalar:
        """``left * right`` in the left one's type."""
        return self.apply("multiply", left.dtype, left, right)

    def reduce(self, kind: str, axis: Axis, body: Scalar) -> Scalar:
        """``sum``, ``max`` or ``lse`` (log of the sum of exponentials) of ``body`` over an axis.

        The bound axis is renamed by its length and the reductions inside, so that equal reductions
        are one scalar whatever their axes were called: the first of a length and a height gives the name.
        """
        key = (axis.length, 1 + body.height)
        bound = self._bound.get(key)
        if bound is None:
            bound = axis if axis not in self._bound.values() else self.new_axis("b", axis.length)
            self._bound[key] = bound
        if bound is not axis:
            (body,) = self.substitute([body], {self.index(axis): self.index(bound)})
        return self.make("reduce", (body,), body.dtype, (kind, bound))

    # --- lowering nodes

    def element(self, node: Node, at: Sequence[Scalar]) -> Scalar:
        """One element of ``node``, at these indices.

        Raises:
            UnfusableError: If an operator in it has no element that a kernel can compute.
        """
        at = tuple(at)
        key = (node, at)
        found = self._lowered.get(key)
        if found is None:
            if isinstance(node, Constant):
                found = self.constant(node.value, node.dtype)
            elif self._stored(node):
                found = self.make("load", at, node.dtype, node)
            else:
                found = self._own_element(node, at)
            self._lowered[key] = found
            if self.origin.get(found) is found.attribute and any(each.op == "inside" for each in found.args):
                self.origin[found] = node  # what picks elements of an array, rather than the array
            self.origin.setdefault(found, node)
        return found

    def is_part(self, node: Node) -> bool:
        """Whether what an operator is made through (`Node.components`) is stored."""
        return self._apart and self._stored(node)

    def part(self, node: Node, at: Sequence[Scalar]) -> Scalar:
        """One element of what an operator is made through (`Node.components`): computed, unless that one is stored."""
        return self.element(node, at) if self._apart else self._own_element(node, tuple(at))

    def _own_element(self, node: Node, at: tuple[Scalar, ...]) -> Scalar:
        try:
            found: Scalar = node.lower(self, at)
        except UnfusableError as reason:
            reason.node = reason.node or node
            raise
        return found

    def spread(self, node: Node, at: Sequence[Scalar]) -> Scalar:
        """An operand's element where the result's indices are ``at``: axes of length 1 broadcast."""
        ahead = len(at) - len(node.shape)
        zero = self.constant(0)
        return self.element(node, [zero if length == 1 else at[ahead + n] for n, length in enumerate(node.shape)])

    def gathered(self, node: Node, at: Sequence[Scalar]) -> Scalar:
        """An element at computed indices, negative ones counted from the end.

        Raises:
            UnfusableError: If an index may lie outside its axis, and nothing looks at it.
        """
        return self.element(node, self.inside(node.shape, at))

    def inside(self, shape: Shape, at: Sequence[Scalar]) -> list[Scalar]:
        """Computed indices into an array of this shape, negative ones counted from the end.

        Raises:
            UnfusableError: If one may lie outside its axis, and nothing looks at it.
        """
        inside = []
        for index, length in zip(at, shape, strict=True):
            if index.op == "load" and index.attribute.places_in() == length:
                inside.append(index)
                continue
            bounds = bounds_inside(index, length)
            if bounds is None:
                if not self._clamps or index.dtype == UINT64:  # whose largest values no kernel holds
                    raise UnfusableError(f"an index may lie outside its axis of {length} in {list(shape)}")
                inside.append(self.apply("inside", INT64, index, self.length(length)))
                continue
            if bounds[0] < 0:
                wrapped = self.add(index, self.constant(length, index.dtype))
                below_zero = self.apply("less", BOOL, index, self.constant(0, index.dtype))
                index = wrapped if bounds[1] < 0 else self.apply("where", index.dtype, below_zero, wrapped, index)
            inside.append(index if index.dtype == INT64 else self.apply("astype", INT64, index))
        return inside

    def over_segment(self, kind: str, node: Node, at: Sequence[Scalar]) -> Scalar:
        """The ``sum`` or ``max`` of a segment's rows, of an operator that has `Node.segments`.

        Raises:
            UnfusableError: Where the kernel does not go over the rows of that segment.
        """
        raise UnfusableError(f"{node.name}: a reduction of segments, outside of a loop over them")

    def reindexed(self, at: Sequence[Scalar], shape: Shape, other: Shape) -> list[Scalar]:
        """The indices into ``other`` of the element that lies at ``at`` in ``shape``, rows first."""
        zero = self.constant(0)
        if 0 in shape:  # nothing is there; an index that is looked at stays, to be found wrong
            looked_at = (index for index, length in zip(at, shape, strict=True) if length == 0 and index.op == "inside")
            return [next(looked_at, zero)] * len(other)
        have = [(index, length) for index, length in zip(at, shape, strict=True) if length != 1]
        want = [length for length in other if length != 1]
        found: list[Scalar] = []
        while have:
            group, lengths = [have.pop(0)], [want.pop(0)]
            if group[0][1] == lengths[0]:  # an axis that stays, whatever its length
                found.append(group[0][0])
                continue
            while (gap := math.prod(length for _, length in group) - math.prod(lengths)) != 0:
                if gap < 0:
                    group.append(have.pop(0))
                else:
                    lengths.append(want.pop(0))
            found += self._split(group, lengths)
        pieces = iter(found)
        return [zero if length == 1 else next(pieces) for length in other]

    def _split(self, group: list[tuple[Scalar, int]], lengths: list[int]) -> list[Scalar]:
        """One group of axes, together as long as the other group, taken apart anew."""
        if len(group) == len(lengths) == 1:
            return [group[0][0]]
        flat = self.constant(0)
        for index, length in group:
            flat = self.add(self.multiply(flat, self.constant(length)), index)
        pieces: list[Scalar] = []
        for number, length in enumerate(lengths):
            rest = math.prod(lengths[number + 1 :])
            piece = self.apply("floor_divide", INT64, flat, self.constant(rest))
            pieces.append(self.apply("remainder", INT64, piece, self.constant(length)) if number else piece)
        return pieces

    def substitute(self, roots: Sequence[Scalar], mapping: dict[Scalar, Scalar]) -> list[Scalar]:
        """The expressions with some scalars replaced."""
        memo = dict(mapping)
        # What was made before the first of those replaced cannot hold any.
        first = min([each.number for each in mapping], default=0)
        seen = {root for root in roots if root.number > first}
        stack = list(seen)
        while stack:
            for each in stack.pop().args:
                if each.number > first and each not in seen:
                    seen.add(each)
                    stack.append(each)
        for scalar in sorted(seen, key=attrgetter("number")):
            if scalar not in memo:
                args = tuple([memo.get(each, each) for each in scalar.args])
                new = memo[scalar] = scalar if args == scalar.args else self.rebuild(scalar, args)
                if new is not scalar:
                    self.descends(new, scalar)
        return [memo.get(root, root) for root in roots]

    def forget_lowered(self) -> None:
        """Lower nodes anew from here on: others are stored now."""
        self._lowered.clear()

    def descends(self, new: Scalar, old: Scalar) -> None:
        """``new`` is an element of the same node as ``old``, at other indices."""
        if old in self.origin:
            self.origin.setdefault(new, self.origin[old])

    def rebuild(self, scalar: Scalar, args: tuple[Scalar, ...]) -> Scalar:
        """The same operator on other arguments."""
        if scalar.op in ("load", "reduce"):
            return self.make(scalar.op, args, scalar.dtype, scalar.attribute)
        if scalar.attribute is not None:
            return self.make(scalar.op, args, scalar.dtype, scalar.attribute)
        return self.apply(scalar.op, scalar.dtype, *args)


def _simplified(elements: Elements, op: str, dtype: DType, args: tuple[Scalar, ...]) -> Scalar | None:
    """Index arithmetic and neutral elements; None where nothing is plain."""
    if op in ("add", "subtract", "multiply", "floor_divide", "remainder") and is_integer(dtype):
        return _simplified_index(elements, op, args)
    if op in ("equal", "not_equal"):
        return _congruent(elements, op, args)
    if op == "where" and args[1] is args[2] and not _loads(args[0]):
        return args[1]
    if op == "where" and args[0].is_constant:
        return args[1] if args[0].attribute else args[2]
    if not is_float(dtype) or len(args) != 2:
        return None
    left, right = args
    if op == "multiply":
        for one, other in ((left, right), (right, left)):
            if one.is_constant and one.attribute == 1:
                return other
        if left.is_constant and right.is_constant:
            return elements.constant(left.attribute * right.attribute, dtype)
    if op in ("add", "subtract") and right.is_constant and right.attribute == 0:
        return left
    if op == "add" and left.is_constant and left.attribute == 0:
        return right
    return None


def _congruent(elements: Elements, op: str, args: tuple[Scalar, ...]) -> Scalar | None:
    """``(a - b) % n == 0`` is ``a % n == b % n``, where each side is a number of rows or of columns alone."""
    left, right = args
    if left.op != "remainder" or left.args[0].op != "subtract" or not right.is_constant or right.attribute != 0:
        return None
    difference, divisor = left.args
    one, other = difference.args
    bounds = widest_interval(difference)
    if bounds is None or max(map(abs, bounds)) >> 62 or not one.axes or not other.axes or one.axes & other.axes:
        return None
    sides = [elements.apply("remainder", left.dtype, each, divisor) for each in (one, other)]
    return elements.apply(op, BOOL, *sides)


def _simplified_index(elements: Elements, op: str, args: tuple[Scalar, ...]) -> Scalar | None:
    left, right = args
    if left.is_constant and right.is_constant and (right.attribute or op not in ("floor_divide", "remainder")):
        functions: dict[str, Callable[[int, int], int]] = {
            "add": lambda a, b: a + b,
            "subtract": lambda a, b: a - b,
            "multiply": lambda a, b: a * b,
            "floor_divide": lambda a, b: a // b,
            "remainder": lambda a, b: a % b,
        }
        return elements.constant(functions[op](left.attribute, right.attribute), left.dtype)
    if not right.is_constant:
        return right if op == "add" and left.is_constant and left.attribute == 0 else None
    value = right.attribute
    if value == 0 and op in ("add", "subtract"):
        return left
    if value == 0 and op == "multiply":
        return None if _loads(left) else right
    if value == 1 and op in ("multiply", "floor_divide"):
        return left
    if value == 1 and op == "remainder":
        return None if _loads(left) else elements.constant(0, left.dtype)
    if op in ("floor_divide", "remainder"):
        return _divided(elements, op, left, value)
    return None


def _loads(scalar: Scalar) -> bool:
    """Whether it needs arrays: an element gathered from outside one is an error, whatever becomes of it."""
    return any(each.op in ("load", "inside") for each in below([scalar]))


def _divided(elements: Elements, op: str, left: Scalar, divisor: int) -> Scalar | None:
    """``(a * n + b) // n`` is a and its remainder b, for an axis b shorter than n."""
    if left.op == "axis" and left.attribute.length <= divisor:
        return elements.constant(0, left.dtype) if op == "floor_divide" else left
    if left.op == "add":
        whole, rest = left.args
        times = whole.op == "multiply" and whole.args[1].is_constant and whole.args[1].attribute == divisor
        if times and rest.op == "axis" and rest.attribute.length <= divisor:
            return whole.args[0] if op == "floor_divide" else rest
    return None
