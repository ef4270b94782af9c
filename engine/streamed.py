"""An input of a sweep that is read block by block: where it lies, and how a block becomes what kernels take."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from .blocks import Blocks, is_divided, is_mapped
from .boxes import Box
from .declared import as_declared
from .ir import Node, Values
from .leaves import Data

# Elements that a thread widens at once: both sides stay in its cache.
_WIDENED = 1 << 17
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True, eq=False)
class Streamed:
    """An input that is read block by block: an array, and casts of it.

    Attributes:
        node: The input.
        leaf: What is read.
        casts: From the leaf to the input.
        blocks: How it is read.
        axis: Its axis of columns.
    """

    node: Node
    leaf: Data
    casts: tuple[Node, ...]
    blocks: Blocks
    axis: int

    @property
    def is_view(self) -> bool:
        """Whether kernels read it where it lies, in mapped files: a block takes no memory."""
        return is_mapped(self.blocks) and all(each.guards for each in self.casts)

    @property
    def is_guarded(self) -> bool:
        """Whether an element that is not finite is an error where it counts: said by a guard between leaf and sweep."""
        return any(each.guards for each in self.casts)

    @property
    def is_divided(self) -> bool:
        """Whether several threads make a block, each some pieces of it."""
        return not self.is_view and (is_mapped(self.blocks) or is_divided(self.blocks))

    @property
    def is_near(self) -> bool:
        """Whether reading it takes a processor's time and hardly any waiting."""
        return is_mapped(self.blocks) or getattr(self.blocks, "is_near", False) is True

    @property
    def column_bytes(self) -> int:
        """Bytes of memory that a column brings, as it is stored and as it is computed with."""
        return self._elements * self.element_bytes

    @property
    def element_bytes(self) -> int:
        """The same of an element."""
        copies = {each: each.dtype.itemsize for each in self.casts if not each.guards}
        return (0 if is_mapped(self.blocks) else self.leaf.dtype.itemsize) + sum(copies.values())

    @property
    def viewed_bytes(self) -> int:
        """Bytes of a column that is read where it lies."""
        return self._elements * self.leaf.dtype.itemsize if self.is_view else 0

    @property
    def _elements(self) -> int:
        return math.prod(int(n) for axis, n in enumerate(self.node.shape) if axis != self.axis)

    def read(self, box: Box) -> Values:
        """A part of it, as kernels take it."""
        return self._converted(self._read(box))

    def pieces(self, box: Box) -> Sequence[Box]:
        """The pieces of a part that threads make."""
        if is_divided(self.blocks):
            return self.blocks.pieces(box)
        step = max(1, _WIDENED // self._elements)
        first, stop = box[self.axis].start, box[self.axis].stop
        starts = range(first, stop, step)
        return [(*box[: self.axis], slice(at, min(at + step, stop)), *box[self.axis + 1 :]) for at in starts]

    def read_into(self, box: Box, out: Values) -> None:
        """A piece, as kernels take it, into an array of its shape; by several threads at once."""
        is_converted = any(not each.guards for each in self.casts)
        if is_divided(self.blocks):
            read = np.empty(out.shape, self.leaf.dtype) if is_converted else out
            self.blocks.read_into(box, read)
        else:
            read = self._read(box)
        if self._is_widened:
            # The upper half of a float32 is a bfloat16: several times as fast as casts element by element.
            np.left_shift(read.view(np.uint16), 16, out=out.view(np.uint32), dtype=np.uint32)
        elif read is not out:
            out[...] = self._converted(read)

    def _read(self, box: Box) -> Values:
        return as_declared(self.blocks.read(box), box, self.leaf.dtype, self.leaf.source)

    @property
    def _is_widened(self) -> bool:
        kinds = [each.dtype for each in self.casts if not each.guards]
        return self.leaf.dtype == _BFLOAT16 and kinds == [np.dtype(np.float32)]

    def _converted(self, value: Values) -> Values:
        for each in (self.leaf, *self.casts):
            value = value if each is self.leaf else np.asarray(each.reference(value))
            value = value.astype(each.dtype.newbyteorder("="), copy=False)
        return value if value.flags.aligned else value.copy()
