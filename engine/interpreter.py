"""The NumPy interpreter: what every expression means. All compiled code is tested against it.

Each node's ``reference`` runs on its operands' values; intermediates are released after their last
use. Overflow on the way, hidden positions and index errors are settled by the careful path
(`engine.careful`), which runs only when the plain one meets trouble.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .allocation import no_memory
from .careful import Careful, Court, Values
from .ir import Node, walk
from .memory import last_uses
from .types import FLOAT64, DType, TensorType, carrier, is_float, widen

Bindings = Mapping[Node, Values]


def interpret(
    roots: Sequence[Node], bindings: Bindings, *, all64: bool = False, check_finite: bool = False
) -> list[Values]:
    """The values of ``roots``.

    Args:
        roots: What to evaluate.
        bindings: Data for placeholders.
        all64: Compute and return every float in float64 (the target ``reference64``).
        check_finite: Raise NonFiniteError for NaN or inf in q, k or v where it counts.

    Raises:
        IndexOutOfRangeError: For an index outside its axis at a position that counts.
        NonFiniteError: See ``check_finite``.
        LimitError: If there is no memory.
    """
    with np.errstate(all="ignore"):
        plain = _plain(roots, bindings, all64=all64, check_finite=check_finite)
        if plain is None:
            court = Court(check_finite)
            results = _careful(roots, bindings, court, all64=all64)
            court.judge(results)
            plain = [result.value for result in results]
        return [finish(value, root.type, all64) for value, root in zip(plain, roots, strict=True)]


def _plain(roots: Sequence[Node], bindings: Bindings, *, all64: bool, check_finite: bool) -> list[Values] | None:
    """The values, or None at the first trouble."""
    values: dict[Node, Values] = {}
    order = walk(roots)
    last_use = last_uses(order, roots)
    for step, node in enumerate(order):
        operands = [values[operand] for operand in node.operands]
        values[node] = evaluate_node(node, operands, bindings, all64=all64, rounds=not all64)
        if node.trouble(values[node], operands, check_finite):
            return None
        for done in last_use[step]:
            del values[done]
    return [values[root] for root in roots]


def _careful(roots: Sequence[Node], bindings: Bindings, court: Court, *, all64: bool) -> list[Careful]:
    values: dict[Node, Careful] = {}
    order = walk(roots)
    last_use = last_uses(order, roots)
    for step, node in enumerate(order):
        operands = [values[operand] for operand in node.operands]
        value = evaluate_node(node, [operand.value for operand in operands], bindings, all64=True, rounds=not all64)
        values[node] = node.careful(operands, value, court)
        for done in last_use[step]:
            del values[done]
    return [values[root] for root in roots]


def evaluate_node(
    node: Node, operands: Sequence[Values], bindings: Bindings, *, all64: bool = False, rounds: bool = True
) -> Values:
    """One node's value in its carrier type; explicit casts round to their stored type if ``rounds``.

    Raises:
        LimitError: If there is no memory.
    """
    try:
        return _evaluated(node, operands, bindings, all64, rounds)
    except MemoryError as error:
        raise no_memory([node], error) from error


def _evaluated(node: Node, operands: Sequence[Values], bindings: Bindings, all64: bool, rounds: bool) -> Values:
    held = carrier(node.type, all64=all64)
    given = bindings.get(node)
    if given is not None:
        return as_held(given, held)
    if node.wide and held != FLOAT64 and is_float(held):
        operands = [widen(operand) for operand in operands]
    value = np.asarray(node.reference(*operands))
    if node.rounds and rounds:
        value = value.astype(node.dtype, copy=False)
    value = value.astype(held, copy=False)
    assert value.shape == node.shape, f"{node.name}: reference gave {value.shape}, not {node.shape}"
    return value


def as_held(given: Values, held: DType) -> Values:
    """A bound array in the type that it is computed in."""
    return given if type(given) is np.ndarray and given.dtype is held else np.asarray(given).astype(held, copy=False)


def stored_value(leaf: Node, bindings: Bindings) -> Values:
    """A leaf's value as it is stored, in the machine's byte order."""
    value = np.asarray(bindings[leaf] if leaf in bindings else leaf.reference())
    return value.astype(leaf.dtype, copy=False)


def finish(value: Values, kind: TensorType, all64: bool) -> Values:
    """A result in its declared type (float64 for any float under ``reference64``)."""
    dtype = FLOAT64 if all64 and is_float(kind.dtype) else kind.dtype
    return value.astype(dtype, copy=False)
