"""The kernel language's elements: what one element of a value is, as a function of its indices.

`Node.lower` writes an operator's element in terms of its operands' elements. The operators of this
language are a closed set, so the passes behind it never ask which operator a graph had: constants,
axes (index variables), loads from arrays, element-wise functions, and reductions over an axis.
Scalars are interned by their `Elements`, which lives as long as one compilation.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from .ir import Node, UnfusableError
from .leaves import Constant
from .types import BOOL, INT64, DType, Shape, is_float, is_integer


class Axis:
    """An index variable that runs over ``range(length)``. Two axes are never the same by their names."""

    __slots__ = ("length", "name")

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length

    def __repr__(self) -> str:
        return self.name


class Scalar:
    """An expression for one element: ``op`` on ``args``, with the axes that it varies over."""

    __slots__ = ("args", "attribute", "axes", "dtype", "height", "number", "op")

    def __init__(
        self, op: str, args: "tuple[Scalar, ...]", attribute: Any, dtype: DType, axes: frozenset[Axis], number: int
    ) -> None:
        self.op, self.args, self.attribute = op, args, attribute
        self.dtype, self.axes, self.number = dtype, axes, number
        self.height = 0  # of reductions: how many are nested in it

    @property
    def is_constant(self) -> bool:
        """Whether it is a number of the program."""
        return self.op == "constant"

    def __repr__(self) -> str:
        return show(self)


def show(scalar: Scalar, depth: int = 6) -> str:
    """``exp(sub(load(q, i, d), 0.5))``: nested, what lies deeper as ``…``."""
    if scalar.op == "constant":
        return repr(scalar.attribute)
    if scalar.op == "axis":
        return str(scalar.attribute)
    if depth == 0:
        return "…"
    inner = ", ".join(show(each, depth - 1) for each in scalar.args)
    if scalar.op == "load":
        return f"%{scalar.attribute.name}[{inner}]"
    if scalar.op == "reduce":
        kind, axis = scalar.attribute
        return f"{kind}[{axis}]({inner})"
    return f"{scalar.op}({inner})"


def below(roots: Sequence[Scalar]) -> list[Scalar]:
    """All scalars of an expression, each once, arguments first."""
    order: list[Scalar] = []
    seen: set[Scalar] = set()
    stack = [(root, False) for root in reversed(roots)]
    while stack:
        scalar, done = stack.pop()
        if done:
            order.append(scalar)
        elif scalar not in seen:
            seen.add(scalar)
            stack.append((scalar, True))
            stack.extend((each, False) for each in reversed(scalar.args) if each not in seen)
    return order


class Elements:
    """Makes interned scalars, and lowers nodes to them.

    Args:
        stored: Whether a node's value is an array by the time the kernel runs: then its element is a
            load. Everything else is lowered through its operator.
    """

    def __init__(self, stored: Callable[[Node], bool]) -> None:
        self._stored = stored
        self._table: dict[tuple[Any, ...], Scalar] = {}
        self._lowered: dict[tuple[Any, ...], Scalar] = {}
        self._counters: dict[str, int] = {}
        self._bound: dict[tuple[int, int], Axis] = {}
        # Which node a scalar is an element of: what may be stored instead of computed.
        self.origin: dict[Scalar, Node] = {}

    # --- making scalars

    def make(self, op: str, args: tuple[Scalar, ...], dtype: DType, attribute: Any = None) -> Scalar:
        """The one scalar of these."""
        key = (op, args, dtype.num, repr(attribute) if isinstance(attribute, float | int) else attribute)
        found = self._table.get(key)
        if found is None:
            axes = frozenset().union(*(each.axes for each in args))
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
        return self.make("constant", (), dtype, bool(value) if dtype == BOOL else value)

    def index(self, axis: Axis) -> Scalar:
        """The index variable as a number; of an axis of length 1 it is 0."""
        return self.constant(0) if axis.length == 1 else self.make("axis", (), INT64, axis)

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
        are one scalar whatever their axes were called.
        """
        height = 1 + max((each.height for each in below([body]) if each.op == "reduce"), default=0)
        bound = self._bound.setdefault((axis.length, height), Axis(f"{kind[0]}{len(self._bound)}", axis.length))
        (renamed,) = self.substitute([body], {self.index(axis): self.index(bound)})
        found = self.make("reduce", (renamed,), body.dtype, (kind, bound))
        found.height = height
        return found

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
                found = node.lower(self, at)
            self._lowered[key] = found
            self.origin.setdefault(found, node)
        return found

    def spread(self, node: Node, at: Sequence[Scalar]) -> Scalar:
        """An operand's element where the result's indices are ``at``: axes of length 1 broadcast."""
        ahead = len(at) - len(node.shape)
        zero = self.constant(0)
        return self.element(node, [zero if length == 1 else at[ahead + n] for n, length in enumerate(node.shape)])

    def gathered(self, node: Node, at: Sequence[Scalar]) -> Scalar:
        """An element at computed indices, negative ones counted from the end.

        Raises:
            UnfusableError: If an index may lie outside its axis.
        """
        inside = []
        for index, length in zip(at, node.shape, strict=True):
            bounds = interval(index)
            if bounds is None or bounds[0] < -length or bounds[1] >= length:
                raise UnfusableError(f"an index into {node.type} may lie outside its axis of {length}")
            if bounds[0] < 0:
                wrapped = self.add(index, self.constant(length, index.dtype))
                below_zero = self.apply("less", BOOL, index, self.constant(0, index.dtype))
                index = wrapped if bounds[1] < 0 else self.apply("where", index.dtype, below_zero, wrapped, index)
            inside.append(index if index.dtype == INT64 else self.apply("astype", INT64, index))
        return self.element(node, inside)

    def reindexed(self, at: Sequence[Scalar], shape: Shape, other: Shape) -> list[Scalar]:
        """The indices into ``other`` of the element that lies at ``at`` in ``shape``, rows first."""
        zero = self.constant(0)
        if 0 in shape:
            return [zero] * len(other)
        have = [(index, length) for index, length in zip(at, shape, strict=True) if length != 1]
        want = [length for length in other if length != 1]
        found: list[Scalar] = []
        while have:
            group, lengths = [have.pop(0)], [want.pop(0)]
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
        for scalar in below(roots):
            if scalar not in memo:
                args = tuple(memo[each] for each in scalar.args)
                memo[scalar] = scalar if args == scalar.args else self.rebuild(scalar, args)
                self.descends(memo[scalar], scalar)
        return [memo[root] for root in roots]

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
    if op == "where" and args[1] is args[2]:
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
        return right
    if value == 1 and op in ("multiply", "floor_divide"):
        return left
    if value == 1 and op == "remainder":
        return elements.constant(0, left.dtype)
    if op in ("floor_divide", "remainder"):
        return _divided(elements, op, left, value)
    return None


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


Interval = tuple[int, int]


def interval(scalar: Scalar) -> Interval | None:
    """The least and the largest value that an integer expression can have, or None if nothing is known."""
    if scalar.op == "constant":
        return int(scalar.attribute), int(scalar.attribute)
    if scalar.op == "axis":
        return 0, scalar.attribute.length - 1
    if scalar.op == "load" or not is_integer(scalar.dtype):
        return None
    sides = [interval(each) for each in scalar.args]
    if scalar.op == "where":
        sides = sides[1:]
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return _partly_known(scalar, sides)
    rule = _RULES.get(scalar.op)
    return None if rule is None else rule(*known)


def _partly_known(scalar: Scalar, sides: list[Interval | None]) -> Interval | None:
    """A remainder is bounded by its divisor alone."""
    if scalar.op == "remainder" and sides[1] is not None and sides[1][0] > 0:
        return 0, sides[1][1] - 1
    return None


def _product(a: Interval, b: Interval) -> Interval:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


def _quotient(a: Interval, b: Interval) -> Interval | None:
    if b[0] <= 0:
        return None
    corners = [x // y for x in a for y in b]
    return min(corners), max(corners)


def _remainder(a: Interval, b: Interval) -> Interval | None:
    if b[0] <= 0:
        return None
    if a[0] >= 0 and a[1] < b[0]:
        return a
    return 0, b[1] - 1


def _magnitude(a: Interval) -> Interval:
    low = 0 if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))
    return low, max(abs(a[0]), abs(a[1]))


_RULES: dict[str, Callable[..., Interval | None]] = {
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "subtract": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "multiply": _product,
    "negative": lambda a: (-a[1], -a[0]),
    "abs": _magnitude,
    "minimum": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "maximum": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "where": lambda a, b: (min(a[0], b[0]), max(a[1], b[1])),
    "floor_divide": _quotient,
    "remainder": _remainder,
    "astype": lambda a: a,
}
