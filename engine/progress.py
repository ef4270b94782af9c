"""What has been computed of some rows and places while columns come range after range."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .codegen.state import Stage
from .ir import Node, Values
from .part_runs import Block, Part, Range, Runner
from .part_states import States
from .splits import Splits
from .states import Place, merged_nodes, merged_run
from .stream_calls import StreamCall

if TYPE_CHECKING:
    from .codegen.state import StateLayout
    from .kernels import Compiled


class Prepared:
    """The code for pieces of what is read block by block, and what it reads beside them; for several threads.

    Args:
        runner: The sweep's.
        held: What is in memory.
    """

    def __init__(self, runner: Runner, held: Mapping[Node, Block]) -> None:
        self._runner, self._held = runner, held
        self._known: dict[Any, tuple[Compiled, dict[Node, Block]]] = {}
        self._lock = threading.Lock()

    def __call__(self, pieces: Mapping[Node, Block]) -> "tuple[Compiled, dict[Node, Block]]":
        """Those for pieces with these strides."""
        strides = tuple((node, block.values.strides) for node, block in pieces.items())
        with self._lock:
            if strides not in self._known:
                compiled = self._runner.compiled(Stage.STREAM, {**self._held, **pieces})
                self._known[strides] = compiled, self._runner.with_summaries(compiled, self._held)
            return self._known[strides]


class Progress:
    """Nodes of the splits' tree, and the state of a split that has begun.

    Args:
        runner: The sweep's.
        part: Rows and places.
        splits: The splits of the whole problem.
        prepare: Asked again where pieces have other strides.
    """

    def __init__(self, runner: Runner, part: Part, splits: Splits, prepare: Prepared) -> None:
        self.runner, self.part, self.splits, self._prepare = runner, part, splits, prepare
        self.nodes: dict[Place, Values] = {}
        self._begun: Values | None = None
        self._compiled: Compiled | None = None
        self._call: StreamCall | None = None
        self._strides: Any = None
        self._doubts: Values | None = None

    @property
    def compiled(self) -> "Compiled":
        assert self._compiled is not None
        return self._compiled

    def states(self, largest: Mapping[int, float]) -> States:
        """What the columns that came have left; ``largest``: see `States.sizes`."""
        assert self._doubts is not None
        layout, rows = self.compiled.held, self.compiled.block_rows
        return States(self.part, self.splits, layout, rows, self.nodes, self._doubts, largest)

    def go_on(self, pieces: Mapping[Node, Block], columns: Range) -> None:
        """Take the next columns, which the pieces hold."""
        splits = self.splits
        self._place(pieces)
        first, stop = columns
        while first < stop:
            number = min(first // splits.size, splits.count - 1)
            last = number
            while last < splits.count and splits.first(last + 1) <= stop:
                last += 1
            if first == splits.first(number) and last > number and self._begun is None:
                states = self.runner.empty(self.compiled, self.part, last - number)
                end = splits.first(last)
                self._stream(number, (first, end), states)
                self._take(merged_run(self.compiled.held, states, number, splits.count))
            else:
                end = min(splits.first(number + 1), stop)
                if self._begun is None:
                    self._begun = self.runner.empty(self.compiled, self.part)
                self._stream(number, (first, end), self._begun)
                if end == splits.first(number + 1):
                    self._take({(0, number): self._begun[0]})
                    self._begun = None
            first = end
        if self._call is not None:
            self._call.let_go(pieces)

    def _place(self, pieces: Mapping[Node, Block]) -> None:
        strides = [block.values.strides for block in pieces.values()]
        if self._call is None or strides != self._strides:
            self._compiled, arrays = self._prepare(pieces)
            self._call = StreamCall(
                self.runner, self._compiled, {**arrays, **pieces}, self.part, self.splits, divided=True
            )
            self._strides = strides
        else:
            self._call.place(pieces)

    def _stream(self, number: int, columns: Range, states: Values) -> None:
        assert self._call is not None
        doubts = self._call.go_on(number, columns, states)
        self._doubts = doubts if self._doubts is None else self._doubts | doubts

    def _take(self, nodes: Mapping[Place, Values]) -> None:
        layout: StateLayout = self.compiled.held
        self.nodes = merged_nodes(layout, {**self.nodes, **nodes}, self.splits.count)
