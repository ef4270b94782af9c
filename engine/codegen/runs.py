"""Runs of columns: what lies between stretches of columns in which nothing is visible.

Whole blocks of columns are tested first, then strips inside them: most of what is empty is left behind by a few tests.
A run is as long as a block at most, and all that lies in it is computed.
"""

from collections.abc import Callable

from .llvm import Function, Value
from .masks import Masks

# Writes a run from its first column, the one behind its last, and what is carried from run to run.
Run = Callable[[Value, Value, list[Value]], list[Value]]


class Runs:
    """Writes the loop over the runs of a task.

    Args:
        f: The function being written.
        masks: What decides.
        within_blocks: Whether a run ends where a block does, so that it is the same wherever a range of columns ends;
            None for no.
    """

    def __init__(self, f: Function, masks: Masks, within_blocks: Value | None = None) -> None:
        self.f, self.masks, self.within_blocks = f, masks, within_blocks

    def each(self, low: Value, high: Value, carried: list[Value], run: Run) -> list[Value]:
        """Do something for each run of columns; what has been carried."""
        f, block = self.f, self.f.constant(self.masks.block, "i64")

        def test(values: list[Value]) -> tuple[Value, list[Value]]:
            return f.compare("<", values[0], high), values

        def round_(values: list[Value]) -> list[Value]:
            column, *state = values
            # Up to where a block ends, as summaries have it.
            stop = f.min(f.mul(f.add(f.unsigned_divide(column, block), 1), block), high)
            empty = self.masks.is_empty_block(column, f.sub(stop, 1))
            return f.if_else(empty, lambda: [stop, *state], lambda: self._run(column, stop, high, state, run))

        return f.repeat([low, *carried], test, round_)[1:]

    def _run(self, column: Value, stop: Value, high: Value, state: list[Value], run: Run) -> list[Value]:
        """The first run that begins in a block, and where the next one is to be looked for."""
        f = self.f
        first = self._find(column, stop, empty=False)

        def live() -> list[Value]:
            most = f.min(f.add(first, self.masks.block), high)
            if self.within_blocks is not None:
                most = f.select(self.within_blocks, stop, most)
            end = self._find(f.min(self._behind_strip(first), most), most, empty=True)
            return [end, *run(first, end, state)]

        return f.if_else(f.compare("<", first, stop), live, lambda: [stop, *state])

    def _find(self, column: Value, stop: Value, *, empty: bool) -> Value:
        """The first strip that is empty, or not; ``stop`` if there is none before."""
        f = self.f

        def test(values: list[Value]) -> tuple[Value, list[Value]]:
            at = f.min(values[0], f.sub(stop, 1))
            found = self.masks.is_empty(at, f.sub(f.min(self._behind_strip(at), stop), 1))
            goes_on = f.not_(found) if empty else found
            return f.and_(f.compare("<", values[0], stop), goes_on), values

        (found,) = f.repeat([column], test, lambda values: [self._behind_strip(values[0])])
        return f.min(found, stop)

    def _behind_strip(self, column: Value) -> Value:
        """Where the strip of a column ends: those of a list begin anywhere in theirs."""
        f, strip = self.f, self.masks.strip
        if self.masks.entry is None:
            return f.add(column, strip)
        return f.mul(f.add(f.unsigned_divide(column, f.constant(strip, "i64")), 1), strip)
