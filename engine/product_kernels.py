"""Products of a matrix with a small one that run natively: compiled once for each type and width."""

import functools
from typing import NamedTuple

import numpy as np

from . import workers
from .codegen.layout import address_of
from .codegen.product import ENTRY, PLACES, POINTERS, ProductWriter, padded, rows_together, vectors_for
from .codegen.target import Target, named_target
from .config import Settings
from .ir import Values
from .jit import NativeModule, compile_text
from .kernels import generator_hash
from .leftovers import empty
from .types import FLOAT32, FLOAT64

# Bytes of the right matrix, packed: it stays in the second cache.
_MOST_PACKED = 1 << 16
# Multiplications of a task: some microseconds.
_TASK_WORK = 1 << 18
# Shapes and strides that one product remembers.
_MOST_BINDINGS = 16
_TROUBLE = PLACES["trouble"]
_POINTERS = slice(PLACES[POINTERS[0]], PLACES[POINTERS[-1]] + 1)
_ELEMENTS = {FLOAT32: "float", FLOAT64: "double"}


class _Bound(NamedTuple):
    """Code, and a descriptor without addresses."""

    module: NativeModule
    template: Values
    tasks: int
    scratch_bytes: int


class ProductKernel:
    """Code for products at the sizes of calls."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, ...], _Bound | None] = {}

    def __call__(self, left: Values, right: Values, settings: Settings) -> Values | None:
        """The product; None where NumPy is to compute it: for its size, or because an element is not finite.

        Raises:
            CompileError: If LLVM rejects what was written.
        """
        left, right = _plain(left), _plain(right)
        key = left.shape, left.strides, right.shape, right.strides, left.dtype, right.dtype, settings.target
        if key in self._found:
            bound = self._found[key]
        else:
            if len(self._found) >= _MOST_BINDINGS:
                self._found = {}
            bound = self._found[key] = _bound(left, right, settings)
        return None if bound is None else _run(bound, left, right, settings.threads)


def _run(bound: _Bound, left: Values, right: Values, threads: int) -> Values | None:
    result, descriptor = empty((*left.shape[:-1], right.shape[1]), left.dtype), bound.template.copy()
    descriptor[_POINTERS] = [address_of(left), address_of(right), address_of(result)]
    workers.run(
        bound.module.address(ENTRY),
        address_of(descriptor),
        bound.tasks,
        bound.scratch_bytes,
        threads,
        keep=(descriptor, left, right, result, bound.module),
    )
    return None if descriptor[_TROUBLE] else result


def _bound(left: Values, right: Values, settings: Settings) -> _Bound | None:
    """The code for such matrices, if the right one is small: that follows from shapes and types alone."""
    (depth, columns), dtype = right.shape, left.dtype
    if dtype not in _ELEMENTS or dtype != right.dtype:
        return None
    target = named_target(settings.target)
    lanes = max(target.lanes(dtype), 1)
    vectors = vectors_for(target, lanes, columns)
    scratch_bytes = depth * padded(columns, vectors * lanes) * dtype.itemsize
    if scratch_bytes > _MOST_PACKED:
        return None
    rows = left.size // depth
    together = rows_together(target, vectors)
    task_rows = padded(max(1, _TASK_WORK // (depth * columns)), together)
    tasks = -(-rows // task_rows)
    template = np.zeros(len(PLACES), np.int64)
    steps = _row_step(left) or 0, left.strides[-1], *right.strides
    template[: _POINTERS.start] = [tasks, 0, rows, depth, columns, task_rows, *steps]
    return _Bound(_module(target, _ELEMENTS[dtype], vectors, settings.cache_dir), template, tasks, scratch_bytes)


def _plain(array: Values) -> Values:
    """An array whose rows lie at one distance from each other, every element where the processor wants it."""
    if array.flags.aligned and _row_step(array) is not None:
        return array
    return np.require(array, requirements=("C", "A"))


def _row_step(array: Values) -> int | None:
    """The bytes from row to row, over all axes but the last; None if they differ. An axis of length 1 steps nowhere."""
    found: int | None = None
    reached = 0
    for length, stride in zip(array.shape[-2::-1], array.strides[-2::-1], strict=True):
        if length != 1:
            if found is not None and stride != reached:
                return None
            found = stride if found is None else found
            reached = stride * length
    return found or 0


@functools.lru_cache(maxsize=64)
def _module(target: Target, element: str, vectors: int, cache_dir: str) -> NativeModule:
    key = "\n".join([generator_hash(), ENTRY, repr((target, element, vectors))])
    text = functools.cache(ProductWriter(target, element, vectors).write)
    return compile_text(text, [ENTRY], target, key=key, cache_dir=cache_dir)
