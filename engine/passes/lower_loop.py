"""From a group of nodes to a loop: elements, reductions along one axis, what is to be watched."""

from collections.abc import Collection, Sequence

from ..ir import Node, UnfusableError
from ..kernel import Elements
from ..leaves import Constant
from ..loop import Access, Loop, LoopOutput, values_below
from ..order import postorder
from ..scalar import Axis, Scalar, below
from ..types import BOOL, FLOAT64, Shape
from .watches import watches_of

# Chains of rearrangements beyond this are stored in between: lowering recurses on them.
_LONGEST_CHAIN = 16


def squeezed(shape: Shape) -> Shape:
    """The lengths other than 1."""
    return tuple(length for length in shape if length != 1)


def affine(index: Scalar) -> tuple[int, dict[Axis, int]] | None:
    """An index as a constant and whole steps of axes; None if it is anything else."""
    if index.op == "constant":
        return int(index.attribute), {}
    if index.op == "axis":
        return 0, {index.attribute: 1}
    if index.op not in ("add", "subtract", "multiply", "negative"):
        return None
    sides = [affine(each) for each in index.args]
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return None
    if index.op == "negative":
        return _combined(known[0], -1, (0, {}), 0)
    left, right = known
    if index.op == "multiply":
        if left[1] and right[1]:
            return None
        return _combined(left, right[0], (0, {}), 0) if not right[1] else _combined(right, left[0], (0, {}), 0)
    return _combined(left, 1, right, 1 if index.op == "add" else -1)


def _combined(
    left: tuple[int, dict[Axis, int]], times: int, right: tuple[int, dict[Axis, int]], other: int
) -> tuple[int, dict[Axis, int]]:
    steps = {axis: step * times for axis, step in left[1].items()}
    for axis, step in right[1].items():
        steps[axis] = steps.get(axis, 0) + step * other
    return left[0] * times + right[0] * other, {axis: step for axis, step in steps.items() if step}


class Views:
    """Rearrangements as loops see them: index arithmetic on a stored array, or not.

    What one does is asked by lowering it once: nothing here knows an operator.
    """

    def __init__(self) -> None:
        self._loads: dict[Node, tuple[Scalar, list[Axis]] | None] = {}
        self._chain: dict[Node, int] = {}
        self._positions: dict[Node, bool] = {}
        self._sizes: dict[Node, int] = {}

    def _load(self, node: Node) -> tuple[Scalar, list[Axis]] | None:
        """The one load that the rearrangement is, and the axes that it was lowered at."""
        if node not in self._loads:
            self._loads[node] = self._lowered(node)
        return self._loads[node]

    def _lowered(self, node: Node) -> tuple[Scalar, list[Axis]] | None:
        if node.role != "rearrangement" or node.guards or len(node.operands) != 1 or 0 in node.shape:
            return None
        elements = Elements(lambda each: each is not node)
        axes = [elements.new_axis("v", length) for length in node.shape]
        try:
            element = elements.element(node, [elements.index(axis) for axis in axes])
        except UnfusableError:
            return None
        return (element, axes) if element.op == "load" and all(map(affine, element.args)) else None

    def is_plain(self, node: Node) -> bool:
        """Whether an element of it is an element of its operand at affine indices."""
        if self._load(node) is None:
            return False
        if node not in self._chain:
            (operand,) = node.operands
            self._chain[node] = 1 + self._chain.get(operand, 0)
        return self._chain[node] <= _LONGEST_CHAIN

    def is_positions(self, node: Node) -> bool:
        """Whether it is cheap arithmetic of positions alone, which nobody needs to store."""
        if node not in self._positions:
            if not node.operands:
                self._positions[node] = node.role == "pointwise"
            else:
                is_cheap = (node.role == "pointwise" and not node.wide) or self.is_plain(node)
                size = 1 + sum(self._sizes.get(operand, 0) for operand in node.operands)
                self._sizes[node] = size
                self._positions[node] = (
                    is_cheap
                    and size <= _LONGEST_CHAIN
                    and not keeps_digits(node)
                    and all(
                        (each.role == "leaf" and not each.shape) or self.is_positions(each) for each in node.operands
                    )
                )
        return self._positions[node]

    def keeps_rows(self, node: Node) -> bool:
        """Whether only axes of length 1 come and go: the same elements in the same order."""
        found = self._load(node)
        if found is None:
            return False
        load, axes = found
        wanted = [axis for axis in axes if axis.length != 1]
        return [each.attribute if each.op == "axis" else None for each in load.args if not each.is_constant] == wanted


def keeps_digits(node: Node) -> bool:
    """Whether it takes a float of the call in Python's precision, which a load would round to its type."""
    weak = [each for each in node.operands if each.type.weak and not isinstance(each, Constant)]
    return node.dtype == FLOAT64 and bool(weak)


def lower_loop(lead: Shape, inner: int, outputs: Sequence[Node], members: Collection[Node], views: Views) -> Loop:
    """The loop that computes ``outputs``.

    Args:
        lead: Lengths of the axes of rows, none of them 1.
        inner: Length of a row.
        outputs: Members that are needed elsewhere: in shape (lead, inner) or (lead), but for axes of length 1.
        members: The nodes to be computed inside.
        views: What is known of rearrangements.

    Raises:
        UnfusableError: If no such loop computes them.
    """
    inside = set(members)

    def is_stored(node: Node) -> bool:
        if node in inside:
            return False
        return not views.is_positions(node) and not views.is_plain(node)

    elements = Elements(is_stored)
    rows = tuple(elements.new_axis("o", length) for length in lead)
    along = elements.new_axis("i", inner)
    made = [_output(elements, node, rows, along) for node in outputs]
    plain, trusted = _Canonical(elements, rows, along).rewrite([output.value for output in made])
    made = [output._replace(value=value) for output, value in zip(made, plain, strict=True)]
    scalars = values_below(plain)
    accesses = {load: _access(load, rows, along) for load in scalars if load.op == "load"}
    inputs = tuple(dict.fromkeys(load.attribute for load in accesses))
    return Loop(
        rows,
        along,
        tuple(made),
        _members(outputs, inputs),
        inputs,
        accesses,
        watches_of(scalars, trusted),
        elements,
    )


def _output(elements: Elements, node: Node, rows: tuple[Axis, ...], along: Axis) -> LoopOutput:
    lengths = tuple(axis.length for axis in rows)
    wanted = squeezed(node.shape)
    if wanted not in (lengths, (*lengths, *squeezed((along.length,)))):
        raise UnfusableError(f"{node.name} {node.type} is neither a row nor a number of one")
    remaining = iter((*rows, along))
    axes = tuple(None if length == 1 else next(remaining) for length in node.shape)
    at = [elements.constant(0) if axis is None else elements.index(axis) for axis in axes]
    return LoopOutput(node, axes, elements.element(node, at))


def _members(outputs: Sequence[Node], inputs: Sequence[Node]) -> tuple[Node, ...]:
    """What lies between inputs and outputs, constants among it."""
    return tuple(postorder(outputs, lambda node: node.operands, set(inputs)))


def _access(load: Scalar, rows: tuple[Axis, ...], along: Axis) -> Access:
    found = [affine(index) for index in load.args]
    known = [each for each in found if each is not None]
    if len(known) < len(found) or any(not steps.keys() <= {*rows, along} for _, steps in known):
        raise UnfusableError(f"an index into {load.attribute.type} that is not linear in the loop's axes")
    return Access(tuple(offset for offset, _ in known), tuple(steps for _, steps in known))


class _Canonical:
    """Rewrites expressions so that every reduction is a sum or maximum along the one inner axis."""

    def __init__(self, elements: Elements, rows: tuple[Axis, ...], along: Axis) -> None:
        self.elements, self.along = elements, along
        self._own = {*rows, along}
        self.trusted: set[Scalar] = set()
        # Of a logarithm of a sum of exponentials: the exponents, the shift, the sum.
        self._parts: dict[Scalar, tuple[Scalar, Scalar, Scalar]] = {}
        self._memo: dict[Scalar, Scalar] = {}

    def rewrite(self, roots: list[Scalar]) -> tuple[list[Scalar], set[Scalar]]:
        """The new roots, and scalars that need no watch."""
        for scalar in below(roots):
            self._memo[scalar] = self._rewritten(scalar)
        return [self._memo[root] for root in roots], self.trusted

    def _rewritten(self, scalar: Scalar) -> Scalar:
        elements = self.elements
        if scalar.op == "axis":
            axis = scalar.attribute
            is_along = axis.length == self.along.length and axis not in self._own
            return elements.index(self.along) if is_along else scalar
        args = tuple(self._memo[each] for each in scalar.args)
        if scalar.op == "reduce":
            return self._reduction(scalar, args[0])
        if scalar.op == "exp" and args[0].op == "subtract" and args[0].args[1] in self._parts:
            exponents, shift, total = self._parts[args[0].args[1]]
            if args[0].args[0] is exponents:
                weight = self._trusted("exp", exponents.dtype, elements.subtract(exponents, shift))
                return elements.apply("safe_divide", scalar.dtype, weight, total)
        rebuilt = scalar if args == scalar.args else elements.rebuild(scalar, args)
        elements.descends(rebuilt, scalar)
        return rebuilt

    def _reduction(self, scalar: Scalar, body: Scalar) -> Scalar:
        elements = self.elements
        kind, bound = scalar.attribute
        foreign = {axis for axis in scalar.args[0].axes if axis is self.along or axis not in self._own}
        if bound.length != self.along.length or not foreign <= {bound}:
            raise UnfusableError(f"a {kind} along another axis than the rows")
        if kind in ("sum", "max"):
            found = elements.make("reduce", (body,), scalar.dtype, (kind, self.along))
            elements.descends(found, scalar)
            return found
        if kind != "lse":
            raise UnfusableError(f"a {kind} in a loop")
        peak = self._trust(elements.make("reduce", (body,), body.dtype, ("peak", self.along)))
        nothing = elements.apply("equal", BOOL, peak, elements.constant(float("-inf"), body.dtype))
        shift = self._trusted("where", body.dtype, nothing, elements.constant(0.0, body.dtype), peak)
        weight = self._trusted("exp", body.dtype, self._trust(elements.subtract(body, shift)))
        total = self._trust(elements.make("reduce", (weight,), body.dtype, ("sum", self.along)))
        result = elements.add(shift, self._trusted("log", body.dtype, total))
        self._parts[result] = body, shift, total
        return result

    def _trusted(self, op: str, dtype: object, *args: Scalar) -> Scalar:
        return self._trust(self.elements.apply(op, dtype, *args))  # type: ignore[arg-type]

    def _trust(self, scalar: Scalar) -> Scalar:
        self.trusted.add(scalar)
        return scalar
