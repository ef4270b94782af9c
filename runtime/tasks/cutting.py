"""How much of a step one task does: places of the batch first, then rows, then keys."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...engine.errors import ArgumentError
from ...engine.part_cuts import even_ranges, ranges_by, ranges_of_axes
from ...engine.part_sums import Stretches
from ...engine.parts import Division, Part
from ...engine.sweep import Sweep

Range = tuple[int, int]

# Operations of a task at least. One costs 40 microseconds of a thread pool, and 2.5 ms of a cluster.
LEAST_THREADED, LEAST_DISTRIBUTED = 3e8, 2.5e10
# Tasks for each worker, where there is work enough: so that the last ones end together.
TASKS_EACH = 32
# How many times shorter tasks may be, where there would be fewer than workers.
_WORTH_IT = 8


class Resources(NamedTuple):
    """Who does the tasks.

    Attributes:
        workers: How many tasks run at once.
        least: Operations of a task at least.
        limit: Bytes that the keys and values of all tasks that run at once may take; None for any.
    """

    workers: int
    least: float
    limit: int | None

    def share_of(self, tasks: int) -> int | None:
        """Bytes for one of so many tasks, of what those that run at once may take together."""
        return None if self.limit is None else self.limit // max(1, min(tasks, self.workers))


class Chunks(NamedTuple):
    """How a step is cut.

    Attributes:
        batch: Ranges along each batch axis.
        rows: Ranges of rows.
        splits: Ranges of splits of the columns.
    """

    batch: tuple[tuple[Range, ...], ...]
    rows: tuple[Range, ...]
    splits: tuple[Range, ...]

    @property
    def parts(self) -> list[Part]:
        """Parts, the last rows first along each place: under a causal mask those take longest."""
        return [Part(place, rows) for rows in reversed(self.rows) for place in itertools.product(*self.batch)]

    def __str__(self) -> str:
        places = " x ".join(str(len(ranges)) for ranges in self.batch) or "1"
        return f"{places} pieces of the batch, {len(self.rows)} of rows, {len(self.splits)} of keys"


def tasks_for(flops: float, resources: Resources) -> int:
    """How many tasks some work is worth: none too short, but nobody idle, where that takes no more than it gives."""
    wanted = min(TASKS_EACH * resources.workers, int(flops / resources.least))
    return max(1, wanted, min(resources.workers, int(_WORTH_IT * flops / resources.least)))


def chosen(sweep: Sweep, division: Division, resources: Resources, column_bytes: int) -> Chunks:
    """Chunks that give every worker some tasks, none too short, and none with more keys than memory is for.

    Args:
        sweep: What is cut.
        division: How it may be.
        resources: Who does it.
        column_bytes: Bytes that a column takes in memory where it is read from elsewhere.
    """
    positions = math.prod(division.batch) * division.rows * division.splits.columns
    batch, wanted = ranges_of_axes(division.batch, tasks_for(sweep.flops_of_position * positions, resources))
    rows = even_ranges(division.rows, min(wanted, max(1, division.rows // division.row_unit)), division.row_unit)
    wanted = -(-wanted // len(rows))
    if resources.limit is not None and column_bytes:
        share = math.prod(max(stop - first for first, stop in each) for each in batch) / math.prod(division.batch)
        there = column_bytes * share * division.splits.columns * resources.workers
        wanted = max(wanted, math.ceil(there / resources.limit))
    count = division.splits.count
    return Chunks(batch, rows, even_ranges(count, min(count, wanted)))


def places_chosen(sweep: Sweep, stretches: Stretches, resources: Resources) -> Chunks:
    """Chunks of a sweep whose results add up: along axes over which none of them sums."""
    positions = math.prod(stretches.batch) * stretches.rows * int(sweep.columns.length)
    wanted = tasks_for(sweep.flops_of_position * positions, resources)
    batch, _ = ranges_of_axes(stretches.batch, wanted, stretches.apart)
    return Chunks(batch, ((0, stretches.rows),), ((0, 1),))


def given(
    division: Division, axes: Sequence[str | int], sizes: Mapping[int, int], keys: int | None, chunks: Any
) -> Chunks:
    """Chunks as the user wants them.

    Args:
        division: How the step may be cut.
        axes: For each axis of the result what it is: the number of a batch axis, ``"rows"`` or ``"whole"``.
        sizes: Lengths of chunks along axes of the result.
        keys: Keys of a chunk; it becomes whole splits.
        chunks: What the user wrote, for messages.

    Raises:
        ArgumentError: If an axis cannot be cut.
    """
    batch: list[tuple[Range, ...]] = [((0, length),) for length in division.batch]
    rows: tuple[Range, ...] = ((0, division.rows),)
    for axis, size in sizes.items():
        if axes[axis] == "rows":
            rows = ranges_by(division.rows, -(-size // division.row_unit) * division.row_unit)
        elif isinstance(axes[axis], int):
            number = int(axes[axis])
            batch[number] = ranges_by(division.batch[number], size)
        else:
            raise ArgumentError(f"to_dask: chunks={chunks!r}: axis {axis} of the result cannot be cut")
    splits: tuple[Range, ...] = ((0, division.splits.count),)
    if keys is not None:
        splits = ranges_by(division.splits.count, max(1, keys // division.splits.size))
    return Chunks(tuple(batch), rows, splits)
