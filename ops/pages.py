"""Arrays that lie in pages of a pool, found through a page table: the caches of servers that decode many sequences.

Source: vLLM's PagedAttention (Kwon 2023, arXiv:2309.06180). A paged array is a gather of whole pages, told apart into
positions by a reshape, under a mask: nothing here is known to any kernel.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine.careful import Careful, Court
from ..engine.errors import ArgumentError, DTypeError, IndexOutOfRangeError, ShapeError
from ..engine.ir import Node, Values
from ..engine.types import INT64, TensorType, is_integer
from .array import Array, ArrayLike, lift
from .creation import arange
from .indexing import Gather
from .registry import public
from .selection import Where, where
from .shape import permute_dims, reshape

# Where heads stand in a page, and the axes of the pool in the order (pages, heads, positions, dim).
_LAYOUTS = {"NHD": (0, 2, 1, 3), "HND": (0, 1, 2, 3)}


class _Checked(Node):
    """Integers that are looked at before anything is computed with them."""

    def outside(self, *operands: Values) -> Values:
        """Which of the elements are an error."""
        raise NotImplementedError

    def message(self, operands: Sequence[Values], place: tuple[int, ...]) -> str:
        """What is wrong with an element."""
        raise NotImplementedError

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """None: integers have none."""
        return (None,) * len(self.operands)

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Something outside."""
        return bool(self.outside(*operands).any())

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """What is outside is to blame, and what hangs on a questionable length."""
        values = [operand.value for operand in operands]
        wrong = np.broadcast_to(self.outside(*values), value.shape)
        blame = np.zeros(value.shape, np.int32)
        for operand in operands:
            if operand.blame is not None:
                spread = operand.blame.reshape(operand.blame.shape + (1,) * (value.ndim - operand.blame.ndim))
                blame = np.maximum(blame, spread)
        if wrong.any():
            place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
            number = court.accuse(self, IndexOutOfRangeError, self.message(values, place))
            blame = np.maximum(blame, np.where(wrong, np.int32(number), 0))
        return Careful(value, None, blame if blame.any() else None)


class UsedLengths(_Checked):
    """How many positions of each sequence are there, as int64: from 0 to as many as its pages hold."""

    lengths: Node
    most: int

    def infer(self) -> TensorType:
        """That of the lengths, as int64."""
        return TensorType(self.lengths.shape, INT64)

    def reference(self, lengths: Values) -> Values:
        """The lengths; what is outside is an error, decided by `careful`."""
        return np.clip(lengths, 0, self.most).astype(np.int64)

    def outside(self, *operands: Values) -> Values:
        """Lengths below 0, or beyond what the table has pages for."""
        (lengths,) = operands
        return np.asarray((lengths < 0) | (lengths > self.most))

    def message(self, operands: Sequence[Values], place: tuple[int, ...]) -> str:
        """The length, and the most."""
        found = int(operands[0][place])
        return f"pages: length {found} of sequence {place[0]} is outside of 0 to {self.most}, what its pages hold"


class UsedPages(_Checked):
    """The numbers of pages that hold a position, as int64; 0 for others, whatever the table holds there."""

    table: Node
    lengths: Node
    page_size: int
    pages: int

    def infer(self) -> TensorType:
        """That of the table, as int64."""
        return TensorType(self.table.shape, INT64)

    def places_in(self) -> int:
        """The pool's pages."""
        return self.pages

    def reference(self, table: Values, lengths: Values) -> Values:
        """The table where it is used; what is outside is an error, decided by `careful`."""
        found = np.where(self._used(lengths), table, 0)
        return np.clip(found, 0, max(self.pages - 1, 0)).astype(np.int64)

    def _used(self, lengths: Values) -> Values:
        used: Values = np.arange(self.table.shape[1]) * self.page_size < lengths[:, None]
        return used

    def outside(self, *operands: Values) -> Values:
        """Pages in use that the pool does not have."""
        table, lengths = operands
        return np.asarray(((table < 0) | (table >= self.pages)) & self._used(lengths))

    def message(self, operands: Sequence[Values], place: tuple[int, ...]) -> str:
        """The entry, and where it is."""
        sequence, page = place
        return (
            f"pages: page {page} of sequence {sequence} is page {int(operands[0][place])} of the pool, "
            f"which has {self.pages}"
        )


class Pages(Where):
    """``left``, which is read through a page table, where ``condition`` says that a position is there; else 0."""


@public()
def pages(pool: ArrayLike, table: ArrayLike, lengths: ArrayLike, *, layout: str = "HND") -> Array:
    """Sequences that lie in pages of a pool: ``result[b, h, j] = pool[table[b, j // page_size], h, j % page_size]``.

    The pool is never copied: attention reads keys and values where they lie, masks what lies at or beyond a
    sequence's length by itself, and leaves out its tiles. What the pool and the table hold there may be anything. So
    it is with what is computed from pages position by position: casts, scales, slices, joins, products with weights.

    Args:
        pool: (pages, heads, page_size, dim), or (pages, page_size, heads, dim) for ``layout="NHD"``.
        table: Integers, (batch, max_pages): which page of the pool holds a sequence's positions from
            ``page * page_size`` on. Nothing wraps: a page in use is a number from 0 on.
        lengths: Integers, (batch,): how many positions of each sequence are there.
        layout: FlashInfer's name of the pool's layout, ``"HND"`` or ``"NHD"``. The first is the quicker one: a head's
            positions lie side by side, as in arrays.

    Returns:
        (batch, heads, max_pages * page_size, dim), in the pool's data type; 0 at and beyond a sequence's length. Its
        gradient is added up in the pool's pages.

    Raises:
        ShapeError: If the arrays do not have these axes, or differ in their batch.
        DTypeError: If the table or the lengths are no integers.
        ArgumentError: For another layout.
        IndexOutOfRangeError: At evaluation, before anything is read, for a page in use that the pool does not have, and
            for a length below 0 or beyond ``max_pages * page_size``.
    """
    nodes = {name: lift(x, f"pages: {name}") for name, x in (("pool", pool), ("table", table), ("lengths", lengths))}
    order = _checked_layout(layout)
    _check(nodes, order)
    source, places, counts = nodes.values()
    page_size = source.shape[order[2]]
    width = places.shape[1] * page_size
    used = UsedLengths(counts, width)
    picked = Array(Gather(source, (UsedPages(places, used, page_size, source.shape[0]),), (0,)))
    # (batch, page, …): a page's axes follow those of the table.
    together = permute_dims(picked, (0, 1 + order[1], 1, 1 + order[2], 1 + order[3]))
    positions = reshape(together, (places.shape[0], source.shape[order[1]], width, source.shape[3]))
    visible = arange(width)[None, None, :, None] < Array(used)[:, None, None, None]
    hidden = where(visible, positions, 0).node
    assert isinstance(hidden, Where)
    return Array(Pages(*hidden.operands))


def _checked_layout(layout: Any) -> tuple[int, ...]:
    if not isinstance(layout, str) or layout not in _LAYOUTS:
        raise ArgumentError(f'pages: layout is "HND" or "NHD", not {layout!r}')
    return _LAYOUTS[layout]


def _check(nodes: dict[str, Node], order: tuple[int, ...]) -> None:
    pool, table, lengths = nodes.values()
    sides = ", ".join(f"{name} {node.type}" for name, node in nodes.items())
    if len(pool.shape) != 4:
        raise ShapeError(f"pages: the pool has 4 axes, (pages, heads, page_size, dim) or, for NHD, others: {sides}")
    if len(table.shape) != 2 or len(lengths.shape) != 1 or table.shape[0] != lengths.shape[0]:
        raise ShapeError(f"pages: a table is (batch, max_pages), and lengths are (batch,): {sides}")
    for name, node in (("table", table), ("lengths", lengths)):
        if not is_integer(node.dtype):
            raise DTypeError(f"pages: {name} holds integers, not {node.type}")
    if not pool.shape[order[2]]:
        raise ShapeError(f"pages: a page holds at least one position: {sides}")


__all__ = ["Pages", "UsedLengths", "UsedPages", "pages"]
