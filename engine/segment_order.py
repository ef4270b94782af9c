"""Which edges belong to which segment: found by a counting sort, once for ids that never change.

Rows go to tasks by how many edges they have, by the ids alone: whatever the number of threads, sums are the same.
"""

import ctypes
import weakref
from typing import Any, NamedTuple

import numpy as np

from .codegen.segment_order import ENTRY, OUTSIDE, SORTED, order_text
from .codegen.target import host_target
from .ir import Values
from .jit import NativeModule, compile_text
from .kernels import aligned, generator_hash
from .leaves import never_changes

# Edges of a task, and how many edges a row counts for besides its own.
_TASK_EDGES = 2048
_ROW_EDGES = 4
# The pointers, the integers, and what is returned.
_ARGUMENTS = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)


class Order(NamedTuple):
    """The edges of each segment.

    Attributes:
        starts: Of each segment the first place of its edges in the order, and behind them the number of edges.
        order: The edges by their segments; None if they lie so.
        bounds: The first row of each task, and behind them the number of rows.
        longest: The most edges of one segment.
    """

    starts: Values
    order: Values | None
    bounds: Values
    longest: int


# Of arrays that never change, by their identity; an entry ends with its array.
_known: dict[tuple[int, int, bool], tuple[Any, Order | None]] = {}
_lists: dict[tuple[int, int], tuple[Any, Any, Values]] = {}
_modules: dict[tuple[str, bool], NativeModule] = {}


def order_of(ids: Values, count: int, wraps: bool, cache_dir: str) -> Order | None:
    """The order of edges by these ids; None if one is no segment.

    Args:
        ids: The segment of each edge, in the machine's byte order.
        count: How many segments there are.
        wraps: Whether negative ids are counted from the end.
        cache_dir: The directory of compiled objects.
    """
    key = id(ids), count, wraps
    known = _known.get(key)
    if known is not None and known[0]() is ids:
        return known[1]
    found = _sorted(np.ascontiguousarray(ids), count, wraps, cache_dir)
    if never_changes(ids):
        _known[key] = weakref.ref(ids, lambda _: _known.pop(key, None)), found
    return found


def in_order(numbers: Values, order: Values) -> Values:
    """A number of each edge, in the order of edges: made once for arrays that never change."""
    key = id(numbers), id(order)
    known = _lists.get(key)
    if known is not None and known[0]() is numbers and known[1]() is order:
        return known[2]
    found: Values = numbers[order]
    if never_changes(numbers):

        def forget(_: object) -> None:
            _lists.pop(key, None)

        _lists[key] = weakref.ref(numbers, forget), weakref.ref(order, forget), found
    return found


def _sorted(ids: Values, count: int, wraps: bool, cache_dir: str) -> Order | None:
    ids = aligned(ids)
    starts = np.empty(count + 2, np.int64)
    order = np.empty(ids.size, np.int64)
    function = _module(ids.dtype, cache_dir).function(ENTRY, ctypes.c_int64, *_ARGUMENTS)
    kind = function(ids.ctypes.data, ids.size, count, int(wraps), starts.ctypes.data, order.ctypes.data)
    if kind == OUTSIDE:
        return None
    begins = starts[1:] if kind == SORTED else starts[:-1]
    work = begins + _ROW_EDGES * np.arange(count + 1)
    tasks = max(1, -(-int(work[-1]) // _TASK_EDGES))
    bounds = np.searchsorted(work, np.arange(tasks + 1) * _TASK_EDGES)
    bounds[0], bounds[-1] = 0, count
    longest = int(np.diff(begins).max(initial=0))
    return Order(begins, None if kind == SORTED else order, bounds.astype(np.int64), longest)


def _module(dtype: np.dtype[Any], cache_dir: str) -> NativeModule:
    element, unsigned = f"i{8 * dtype.itemsize}", dtype.kind == "u"
    found = _modules.get((element, unsigned))
    if found is None:
        target = host_target()
        key = "\n".join([generator_hash(), ENTRY, repr(target), element, str(unsigned)])
        text = order_text(target, element, unsigned)
        found = compile_text(text, [ENTRY], target, key=key, cache_dir=cache_dir)
        _modules[element, unsigned] = found
    return found
