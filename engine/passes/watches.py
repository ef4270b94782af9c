"""Watches: which values of a loop must stay finite for its results to be trusted.

The interpreter looks at every node's value, and takes a closer look at the whole graph where one is not finite. A
loop has no such values to look at. It watches those that could leave the range of numbers unseen.
"""

from collections.abc import Sequence

from ..ir import Node
from ..loop import Watch
from ..scalar import Scalar, below
from ..sweep import Sweep
from ..types import is_float

# Where a function's result is not finite whenever this argument is not.
_PASSES_ON: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("add", "subtract", "multiply"), (0, 1)),
    **dict.fromkeys(("divide", "safe_divide", "negative", "positive", "abs", "square", "sqrt"), (0,)),
    **dict.fromkeys(("log", "log1p", "log2", "log10", "sin", "cos", "tan", "sinh", "cosh", "asinh"), (0,)),
    **dict.fromkeys(("asin", "acos", "atanh", "floor", "ceil", "trunc", "round"), (0,)),
}
# A mask's -inf stays -inf through these arguments.
_CARRIES_MASK = {"add": (0, 1), "subtract": (0,), "multiply": (0, 1), "divide": (0,), "astype": (0,), "where": (1, 2)}
_NOT_COMPUTED = frozenset({"constant", "axis", "load", "where"})


def watches_of(scalars: Sequence[Scalar], trusted: set[Scalar]) -> dict[Scalar, Watch]:
    """Values that are to be watched: those that may leave the range of numbers without a result showing it.

    Where a function's result is not finite because its argument is not, watching the result is enough.
    """
    masks: set[Scalar] = set()
    covered: set[Scalar] = set()
    for scalar in scalars:
        if _may_be_masked(scalar, masks):
            masks.add(scalar)
            continue
        passes = _PASSES_ON.get(scalar.op, ())
        if scalar.op == "astype" and is_float(scalar.dtype) and is_float(scalar.args[0].dtype):
            passes = (0,)
        if scalar.op == "reduce" and scalar.attribute[0] == "sum":
            passes = (0,)
        if scalar not in trusted:
            covered.update(scalar.args[place] for place in passes)
    watches: dict[Scalar, Watch] = {}
    for scalar in scalars:
        if not is_float(scalar.dtype) or scalar.op in _NOT_COMPUTED or scalar in trusted:
            continue
        if _is_logarithm(scalar, trusted):
            watches[scalar] = "upper"
        elif scalar in masks:
            watches[scalar] = "mask"
        elif scalar not in covered:
            watches[scalar] = "finite"
    return watches


def _is_logarithm(scalar: Scalar, trusted: set[Scalar]) -> bool:
    """Of a sum of exponentials: -inf where all exponents are."""
    return scalar.op == "add" and scalar.args[1].op == "log" and scalar.args[1] in trusted


def _may_be_masked(scalar: Scalar, masks: set[Scalar]) -> bool:
    """Whether a -inf that the program writes may arrive here."""
    if scalar.is_constant:
        return bool(scalar.attribute == float("-inf"))
    return any(scalar.args[place] in masks for place in _CARRIES_MASK.get(scalar.op, ()))


def shows_what_is_not_finite(sweep: Sweep, node: Node) -> bool:
    """Whether whatever an input holds that is not finite makes a sweep's results doubtful, where it counts.

    That is so where it is contracted with something, for kernels look at contractions (`codegen.watch`), or where it is
    what columns contribute, and results show their sums: a weight of 0 times infinity is NaN. Then the input itself
    need not be looked at.

    Args:
        sweep: The sweep.
        node: The input.
    """
    tiles = below([*sweep.groups, *(each.weight for each in sweep.accumulators)])
    contractions = {each for each in tiles if each.op == "reduce" and each.attribute[0] == "sum"}
    shown = {each.column for each in sweep.accumulators if not _hides(sweep, each)}
    users: dict[Scalar, list[tuple[Scalar, int]]] = {}
    everything = below(sweep.expressions())
    for scalar in everything:
        for place, each in enumerate(scalar.args):
            users.setdefault(each, []).append((scalar, place))
    stack = [each for each in everything if each.op == "load" and each.attribute is node]
    while stack:
        scalar = stack.pop()
        if scalar not in users and scalar not in shown:
            return False
        for user, place in users.get(scalar, ()):
            if user not in contractions:
                if place not in _PASSES_ON.get(user.op, ()):
                    return False
                stack.append(user)
    return True


def _hides(sweep: Sweep, accumulator: object) -> bool:
    """Whether a sum could be infinite or NaN, and no result be so."""
    used = False
    for output in sweep.outputs:
        value = output.value
        while value.op in _PASSES_ON and value.op != "subtract":
            value = value.args[0]
        used |= value.op == "accumulator" and value.attribute is accumulator
    return not used
