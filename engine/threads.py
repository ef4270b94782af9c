"""Products in fixed row blocks: the same bits for any number of threads.

NumPy's BLAS splits a product by its own thread count, so its rounding may follow the machine's load.
Here the blocks follow from the shape alone, each is computed by one BLAS thread, and a pool of ours
runs them side by side.
"""

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from .lazily import Lazily
from .leftovers import empty

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_futures: Any = Lazily("concurrent.futures")

Values = np.ndarray[Any, Any]

# Rows of a block at least, and multiplications that it goes on to: enough for BLAS to reach its speed, few enough to
# share out. A call of BLAS puts its operands in order first, which few multiplications would not make good.
_BLOCK_ROWS = 256
_BLOCK_WORK = 1 << 22
# Multiplications below which waking a second thread, of Python's, costs what it saves: some 0.2 ms.
_WORTH_SHARING = 1 << 23

# Terms that BLAS adds at once; the pieces are added to each other.
_LONGEST_SUM = 128

_threads: ContextVar[int] = ContextVar("attngraph_threads", default=1)


class _Pools:
    """Thread pools by size, and the BLAS limit held while any product runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[int, ThreadPoolExecutor] = {}
        self._libraries: Any = None
        self._before: list[int] = []
        self._running = 0

    def pool(self, threads: int) -> "ThreadPoolExecutor":
        """The pool with this many workers, made on first use."""
        with self._lock:
            if threads not in self._pools:
                self._pools[threads] = _futures.ThreadPoolExecutor(threads, thread_name_prefix="attngraph")
            return self._pools[threads]

    @contextmanager
    def one_blas_thread(self) -> Iterator[None]:
        """BLAS on one thread; the limit is the process's, so it is held until the last user leaves."""
        with self._lock:
            if self._libraries is None:
                # Loaded here, for it takes a tenth of the import's time.
                controller = importlib.import_module("threadpoolctl").ThreadpoolController()
                self._libraries = controller.select(user_api="blas").lib_controllers
            if self._running == 0:
                # Not threadpoolctl's own context: only the thread that entered it could leave it.
                self._before = [library.num_threads for library in self._libraries]
                self._set([1] * len(self._before))
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._running == 0:
                    self._set(self._before)

    def _set(self, numbers: list[int]) -> None:
        for library, number in zip(self._libraries, numbers, strict=True):
            # threadpoolctl ignores threads other than the first that set a limit; ours share one count.
            getattr(library, "_real_set_num_threads", library.set_num_threads)(number)


_pools = _Pools()


def _after_fork() -> None:
    """A forked child has none of its parent's threads, and perhaps its held locks."""
    global _pools
    _pools = _Pools()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Products inside use at most ``threads`` threads, BLAS's own among them."""
    token = _threads.set(threads)
    try:
        with _pools.one_blas_thread():
            yield
    finally:
        _threads.reset(token)


def product(left: Values, right: Values) -> Values:
    """``np.matmul(left, right)`` of two arrays with two axes or more."""
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    shape, dtype = (*batch, left.shape[-2], right.shape[-1]), np.result_type(left, right)
    if 0 in shape or left.shape[-1] == 0:
        return np.zeros(shape, dtype)
    # One tall product instead of many flat ones. Matrices of whole blocks are none, and are not copied for it.
    if right.ndim == 2 and left.ndim > 2 and left.shape[-2] % _BLOCK_ROWS:
        rows = np.ascontiguousarray(left).reshape(-1, left.shape[-1])
        return product(rows, right).reshape(shape)
    result = empty(shape, dtype)
    if batch:
        left, right = (np.broadcast_to(side, (*batch, *side.shape[-2:])) for side in (left, right))
    blocks = _blocks(batch, left.shape[-2], max(_BLOCK_ROWS, _BLOCK_WORK // (left.shape[-1] * right.shape[-1])))

    def run(mine: list[tuple[Any, ...]]) -> None:
        with np.errstate(all="ignore"):  # a worker's state is not its caller's
            for block in mine:
                _add_products(left[block], right[block[: len(batch)]], result[block])

    threads = min(_threads.get(), len(blocks))
    if threads == 1 or result.size * left.shape[-1] < _WORTH_SHARING:
        run(blocks)
    else:
        list(_pools.pool(threads).map(run, [blocks[worker::threads] for worker in range(threads)]))
    return result


def _add_products(left: Values, right: Values, result: Values) -> None:
    """``left @ right`` into ``result``, long sums in pieces: BLAS may add float32 terms one by one."""
    depth = left.shape[-1]
    np.matmul(left[..., :_LONGEST_SUM], right[..., :_LONGEST_SUM, :], out=result)
    for start in range(_LONGEST_SUM, depth, _LONGEST_SUM):
        piece = slice(start, start + _LONGEST_SUM)
        result += np.matmul(left[..., piece], right[..., piece, :])


def _blocks(batch: tuple[int, ...], rows: int, most: int) -> list[tuple[Any, ...]]:
    """Index tuples of blocks of at most so many rows: some rows of one matrix, or some small matrices whole.

    A matrix is never multiplied otherwise than alone, so how many share a block changes no bits.
    """
    whole, height = len(batch), rows
    while whole > 0 and height * batch[whole - 1] <= most:
        whole -= 1
        height *= batch[whole]
    if whole == 0:
        return [()] if batch else _row_blocks(rows, most)
    if height <= most // 2:  # several along the last axis that is not taken whole
        step, length = most // height, batch[whole - 1]
        return [
            (*place, slice(start, start + step))
            for place in np.ndindex(*batch[: whole - 1])
            for start in range(0, length, step)
        ]
    inner = [()] if height != rows or rows <= most else _row_blocks(rows, most)
    return [(*place, *block) for place in np.ndindex(*batch[:whole]) for block in inner]


def _row_blocks(rows: int, most: int) -> list[tuple[Any, ...]]:
    return [(slice(start, start + most),) for start in range(0, rows, most)]
