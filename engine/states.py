"""States of sweeps in NumPy: empty ones, and how those of different columns merge.

``m = max(m1, m2)``, and what accumulates is ``a1 * exp(m1 - m) + a2 * exp(m2 - m)``: that is associative but for
rounding, so the order is fixed. Splits are the leaves of a binary tree by their numbers; node ``(level, number)`` is
the state of splits ``number << level`` up to, not with, ``(number + 1) << level``; where there is no right child, the
left one is the node. Whoever has some neighbouring splits merges them as far as whole subtrees go.
"""

from collections.abc import Mapping

import numpy as np

from .codegen.state import Field, StateLayout
from .ir import Values

# A level of the tree, and a number in it.
Place = tuple[int, int]
_LINE = 64


def aligned_like(shape: tuple[int, ...]) -> Values:
    """Room for float32 numbers that begins where a cache line does."""
    count = int(np.prod(shape, dtype=np.int64))
    room = np.empty(count + _LINE // 4, np.float32)
    start = -(room.__array_interface__["data"][0] // 4) % (_LINE // 4)
    return room[start : start + count].reshape(shape)


def aligned(states: Values) -> Values:
    """The states where kernels can read them: contiguous, beginning where a cache line does."""
    if states.flags.c_contiguous and states.__array_interface__["data"][0] % _LINE == 0:
        return states
    found = aligned_like(states.shape)
    found[...] = states
    return found


def empty_states(layout: StateLayout, shape: tuple[int, ...]) -> Values:
    """States of no columns.

    Returns:
        An array of that shape, and one more axis: the numbers of a state.
    """
    states = aligned_like((*shape, layout.floats))
    states[...] = 0
    for field in layout.largest:
        _of(states, field)[...] = -np.inf
    return states


def merged(layout: StateLayout, left: Values, right: Values) -> Values:
    """The states of two ranges of columns as those of both."""
    result = aligned_like(left.shape)
    scales: list[tuple[Values, Values]] = []
    with np.errstate(all="ignore"):  # what is not finite shows in the results, and is looked at there
        for field in layout.largest:
            sides = _of(left, field), _of(right, field)
            largest = np.maximum(*sides)
            safe = np.where(largest == -np.inf, np.float32(0), largest)
            # In float64, of few numbers: the same to the last bit whatever instructions NumPy takes.
            one, other = (np.exp((side - safe).astype(np.float64)).astype(np.float32) for side in sides)
            scales.append((one, other))
            _of(result, field)[...] = largest
        for field in layout.seen:
            np.maximum(_of(left, field), _of(right, field), out=_of(result, field))
        for field in layout.sums:
            one, other, total = (_of(each, field) for each in (left, right, result))
            if field.group is None:
                np.add(one, other, out=total)
            else:
                np.multiply(one, scales[field.group][0], out=total)
                total += other * scales[field.group][1]
    return result


def _of(states: Values, field: Field) -> Values:
    """The numbers of a field: two more axes, of which rows are the last one, or the last but one."""
    flat = states[..., field.offset : field.offset + field.floats]
    inner = (field.rows, field.width) if field.by_row else (field.width, field.rows)
    return flat.reshape(*states.shape[:-1], *inner)


def merged_run(layout: StateLayout, states: Values, first: int, total: int) -> dict[Place, Values]:
    """States of neighbouring splits, along the first axis, as nodes of the tree.

    Args:
        layout: What is in a state.
        states: Those of some splits.
        first: The number of the first of them.
        total: How many splits there are in all.

    Returns:
        As few nodes as say all: one, if these are all splits.
    """
    found: dict[Place, Values] = {}
    level, stop = 0, first + len(states)
    while len(states):
        if first == 0 and stop == total and len(states) == 1:
            found[level, 0] = states[0]
            break
        if first % 2:
            found[level, first] = states[0]
            states, first = states[1:], first + 1
        alone = states[len(states) - len(states) % 2 :]
        if len(alone) and stop < total:
            found[level, stop - 1] = alone[0]
            stop, alone = stop - 1, alone[1:]
        pairs = states[: (stop - first) // 2 * 2]
        above = [merged(layout, pairs[0::2], pairs[1::2])] if len(pairs) else []
        states = np.concatenate([*above, alone]) if len(alone) else above[0] if above else pairs
        level, first, stop, total = level + 1, first // 2, -(-stop // 2), -(-total // 2)
    return found


def merged_nodes(layout: StateLayout, nodes: Mapping[Place, Values], total: int) -> dict[Place, Values]:
    """Nodes of the tree, of any splits, as as few as say the same.

    Args:
        layout: What is in a state.
        nodes: Their states; none of them lies below another one.
        total: How many splits there are in all.
    """
    found = dict(nodes)
    level = 0
    while any(place[0] >= level for place in found):
        if total == 1:
            break
        for number in sorted(number for each, number in found if each == level):
            is_last = number == total - 1 and number % 2 == 0
            if is_last:
                found[level + 1, number // 2] = found.pop((level, number))
            elif number % 2 == 0 and (level, number + 1) in found:
                sides = found.pop((level, number)), found.pop((level, number + 1))
                found[level + 1, number // 2] = merged(layout, *sides)
        level, total = level + 1, -(-total // 2)
    return found
