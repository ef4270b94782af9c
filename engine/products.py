"""Products of a matrix with a small one: which nodes are such, and at what sizes they run natively."""

import functools
import importlib
from typing import TYPE_CHECKING, Any

from .errors import CompileError
from .ir import Node, UnfusableError, Values
from .kernel import Elements
from .types import FLOAT32, FLOAT64

if TYPE_CHECKING:
    from .config import Settings

# Multiplications from which on code is worth being made, and columns from which on they fill vectors.
_LEAST_WORK, _LEAST_COLUMNS = 1 << 20, 8
_TYPES = (FLOAT32, FLOAT64)


@functools.cache
def _kernels() -> Any:
    """The code generator and LLVM: loaded by the first product that is worth it, for they take 60 ms."""
    return importlib.import_module(".product_kernels", __package__)


def is_product(node: Node) -> bool:
    """Whether its elements are sums of products: of a row of its first operand by a column of its second, a matrix."""
    if len(node.operands) != 2 or len(node.shape) < 2 or len(node.operands[1].shape) != 2:
        return False
    if any(each.dtype not in _TYPES or each.dtype != node.dtype or each.type.weak for each in node.operands):
        return False
    elements = Elements(lambda each: each is not node)
    at = [elements.index(elements.new_axis("o", length)) for length in node.shape]
    try:
        value = elements.element(node, at)
    except UnfusableError:
        return False
    if value.op != "reduce" or value.attribute[0] != "sum" or value.args[0].op != "multiply":
        return False
    left, right = value.args[0].args
    if (left.op, right.op) != ("load", "load") or (left.attribute, right.attribute) != node.operands:
        return False
    inner = elements.index(value.attribute[1])
    return left.args == (*at[:-1], inner) and right.args == (inner, at[-1])


class Product:
    """A product that runs natively where its sizes, and nothing else, make it worth it."""

    def __init__(self) -> None:
        self._kernel: Any = None
        self._is_rejected = False

    def __call__(self, left: Values, right: Values, settings: "Settings") -> Values | None:
        """The product; None where NumPy is to compute it: for its size, or because an element is not finite."""
        columns = right.shape[1]
        if self._is_rejected or columns < _LEAST_COLUMNS or left.size * columns < _LEAST_WORK:
            return None
        if self._kernel is None:
            self._kernel = _kernels().ProductKernel()
        try:
            found: Values | None = self._kernel(left, right, settings)
        except CompileError:
            self._is_rejected = True
            return None
        return found
