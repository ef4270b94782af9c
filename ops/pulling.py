"""Gradients of arrays: the reverse walk with the operators that it needs, addition and the undoing of broadcasting."""

from collections.abc import Sequence

from ..engine.autodiff import reverse
from ..engine.ir import Node
from ..engine.passes.simplify import normal_form
from .arithmetic import Add
from .array import Array
from .casting import cast
from .centering import vanishes
from .joining import adjoined
from .reduction import Sum
from .shape import Reshape


def pulled(outputs: Sequence[Node], seeds: Sequence[Array], wrt: Sequence[Node]) -> list[Array | None]:
    """The gradient of ``sum(output * seed)`` by each node of ``wrt``; None where nothing leads there.

    Args:
        outputs: What is differentiated.
        seeds: What arrives at each output, in its shape.
        wrt: By what: floats.
    """
    return reverse(normal_form(outputs, wrt), seeds, wrt, add=_sum, fit=fitted)


def _sum(left: Array, right: Array) -> Array:
    found = adjoined(left.node, right.node)
    return Array(Add(left.node, right.node) if found is None else found)


def fitted(part: Array, node: Node) -> Array | None:
    """A contribution, in a node's own shape and data type: summed along the axes that it was broadcast over.

    None if that sum is zero.
    """
    found, shape = part.node, node.shape
    if found.shape != shape:
        extra = len(found.shape) - len(shape)
        spread = [n for n, length in enumerate(found.shape) if n < extra or shape[n - extra] != length]
        assert all(n < extra or shape[n - extra] == 1 for n in spread), f"{found!r} for {node!r}"
        if vanishes(found, spread):
            return None
        found = Sum(found, tuple(spread), True)
        if extra:
            found = Reshape(found, shape)
    return Array(cast(found, node.dtype, False))
