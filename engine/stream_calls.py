"""Calls of the code that goes on with states, made for range after range of columns."""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from .codegen.layout import DOUBTS, address_of
from .codegen.state import STATES
from .ir import Node, Values
from .splits import Splits

if TYPE_CHECKING:
    from .kernels import Compiled
    from .part_runs import Block, Part, Range, Runner

# What the code is given of each range.
_OF_A_RANGE = ("first_split", "first_column", "stop_column", "tasks", DOUBTS, STATES)


class StreamCall:
    """A call of the code of `Stage.STREAM`, made for range after range: what does not change is put together once.

    Args:
        runner: The sweep's.
        compiled: The code.
        arrays: Pieces of what it reads, and what masks are decided by (`Runner.with_summaries`).
        part: Rows and places.
        splits: The splits of the whole problem.
        divided: Whether other calls, or other splits, are about other columns of the same rows.
    """

    def __init__(
        self,
        runner: "Runner",
        compiled: "Compiled",
        arrays: Mapping[Node, "Block"],
        part: "Part",
        splits: Splits,
        *,
        divided: bool,
    ) -> None:
        self._runner, self._compiled, layout = runner, compiled, compiled.layout
        sizes = {**runner.sizes_of(compiled, part), **dict.fromkeys(_OF_A_RANGE, 0)}
        sizes |= {"split": splits.size, "last_split": splits.count - 1, "divided": int(divided)}
        self._descriptor, self._blocks = runner.described(compiled, arrays, (), sizes)
        self._places = [layout.place(name) // 8 for name in _OF_A_RANGE]

    def place(self, pieces: Mapping[Node, "Block"]) -> None:
        """Go on with other pieces of some arrays, of the same strides."""
        layout, slots = self._compiled.layout, self._descriptor
        for node, block in pieces.items():
            self._blocks[node] = block
            slots[layout.place(("in", node, "pointer")) // 8] = address_of(block.values) - block.shift

    def let_go(self, nodes: Iterable[Node]) -> None:
        """Hold pieces of some arrays no longer: before the call goes on, others are placed."""
        for node in nodes:
            self._blocks.pop(node, None)

    def go_on(self, first_split: int, columns: "Range", states: Values) -> Values:
        """As `Runner.stream`, which says what these are."""
        doubts = np.zeros(states.shape[:-1], np.uint8)
        tasks = math.prod(states.shape[:-1])
        given = first_split, *columns, tasks, address_of(doubts), address_of(states)
        for place, value in zip(self._places, given, strict=True):
            self._descriptor[place] = value
        self._runner.call(self._compiled, self._descriptor, tasks, keep=(self._blocks, states, doubts))
        return np.asarray(doubts.any(axis=0)).astype(np.uint8)
