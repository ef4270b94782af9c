"""Programs that are one native step and nothing else: those can be entered directly."""

from collections.abc import Sequence
from typing import NamedTuple

from .ir import Node
from .leaves import Leaf
from .loop import Loop
from .passes.fuse import Step
from .passes.fused import Fused
from .passes.lower_loop import Views
from .scalar import below
from .segment_loop import SegmentLoop
from .types import FLOAT32, FLOAT64

# Functions that NumPy and a loop round alike.
# fmt: off
_EXACT = frozenset({
    "abs", "add", "astype", "axis", "constant", "divide", "equal", "greater", "greater_equal", "less", "less_equal",
    "load", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative",
    "not_equal", "positive", "reduce", "sqrt", "square", "subtract", "where",
})
# fmt: on


class SingleStep(NamedTuple):
    """The step, and for each result which of the step's outputs it is.

    A result may have other axes than the output, such as heads in one axis and not in groups: the same elements in
    the same order.
    """

    step: Fused | Loop
    places: tuple[int, ...]


def single_step(steps: Sequence[Step], roots: Sequence[Node]) -> SingleStep | None:
    """The one native step that makes all results, each of its own output; None if more is to be done."""
    native = [step for step in steps if not isinstance(step, Node)]
    if len(native) != 1:
        return None
    (step,) = native
    if isinstance(step, SegmentLoop):  # whose rows are found out in Python
        return None
    views, seen, sources = Views(), set[Node](), []
    for root in roots:
        while root not in step.nodes and not isinstance(root, Leaf) and _keeps_order(root, views):
            seen.add(root)
            (root,) = root.operands
        sources.append(root)
    others = [each for each in steps if isinstance(each, Node) and not isinstance(each, Leaf) and each not in seen]
    if others or len(set(sources)) != len(sources) or not set(sources) <= set(step.nodes):
        return None
    return SingleStep(step, tuple(map(step.nodes.index, sources)))


def _keeps_order(node: Node, views: Views) -> bool:
    """Whether it holds the operand's elements in the same order."""
    return node.keeps_order or views.keeps_rows(node)


def rounds_as_numpy(loop: Loop) -> bool:
    """Whether a loop gives what NumPy gives, to the bit: what little work NumPy does, a loop may do as well then.

    Sums of float32 are rounded once, from float64, whatever the order of their terms; products that are added
    may be rounded once with the sum.
    """
    scalars = loop.scalars
    sums = [scalar for scalar in scalars if scalar.op in ("add", "subtract") and scalar.dtype == FLOAT32]
    return all(scalar.op in _EXACT and scalar.dtype != FLOAT64 for scalar in scalars) and not any(
        each.op in ("multiply", "square") and each.dtype == FLOAT32 for each in below(sums)
    )
