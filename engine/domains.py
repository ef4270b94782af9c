"""What a sweep goes over: the kind of its domain, and how many tiles it runs, masks and leaves out.

Found out by NumPy from the same expressions that kernels decide by, at the lengths of a plan, for whoever explains a
kernel. Of many tiles some are looked at, in blocks of rows that lie evenly apart.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .ir import Node, Values
from .lengths import estimate
from .passes.skip import Skip
from .scalar import Axis, Scalar, below
from .summaries import Summaries, evaluate

# Tiles that are looked at, at most, and positions in those that are partly visible.
_MOST_TILES = 1 << 19
_MOST_POSITIONS = 1 << 20
_COMPUTED = frozenset({"reduce", "accumulator", "maximum_of", "call"})


class Tiles(NamedTuple):
    """How many tiles are computed, how many of these with masks, and how many are left out."""

    run: int
    masked: int
    skipped: int


class Domain(NamedTuple):
    """What a kernel goes over.

    Attributes:
        kind: ``dense range``, ``bounds``, ``tested tiles`` or ``block list``.
        tile: Rows and columns of a tile.
        tiles: Their numbers, over the whole batch; None if that depends on arrays which are not there.
        density: The share of visible pairs of a row and a column, as far as masks are known before the sweep.
        is_estimate: Whether only some tiles, or some positions in them, were looked at.
    """

    kind: str
    tile: tuple[int, int]
    tiles: Tiles | None
    density: float | None
    is_estimate: bool

    def __str__(self) -> str:
        height, width = self.tile
        if self.tiles is None or self.density is None:
            return f"{self.kind}; tiles of {height}×{width}: their number depends on arrays that are arguments"
        about = "about " if self.is_estimate else ""
        return (
            f"{self.kind}; tiles of {height}×{width}: {about}{self.tiles.run:,} run ({self.tiles.masked:,} of them "
            f"masked), {self.tiles.skipped:,} skipped; density {about}{100 * self.density:.3g}%"
        )


def kind_of(skip: Skip) -> str:
    """The kind of a domain."""
    if skip.listed is not None:
        return "block list"
    if not skip.skips:
        return "dense range"
    return "bounds" if skip.is_bounded else "tested tiles"


def tables_of(skip: Skip) -> list[Node]:
    """The arrays by which it is decided what is gone over."""
    own = {node for each in skip.summaries for node in (each.low, each.high)}
    scalars = [*skip.expressions(), *_masks(skip), *(each.value for each in skip.summaries)]
    loads = [each.attribute for each in below(scalars) if each.op == "load"]
    return [node for node in dict.fromkeys([*lists_of(skip), *loads]) if node not in own]


def domain_of(skip: Skip, block_rows: int, columns: tuple[int, int], arrays: Mapping[Node, Values] | None) -> Domain:
    """What a kernel of this classification goes over.

    Args:
        skip: The classification.
        block_rows: Rows of a block.
        columns: Columns that are tested together, as `Summaries` has them.
        arrays: Those of `tables_of`, as far as conditions are to count; None if lists or bounds are not known.
    """
    tile = block_rows, columns[0]
    if arrays is None:
        return Domain(kind_of(skip), tile, None, None, False)
    count = _Count(skip, tile, {**arrays, **Summaries(skip, block_rows, columns).of(arrays, estimate)})
    return Domain(kind_of(skip), tile, *count.result())


def lists_of(skip: Skip) -> list[Node]:
    """The arrays that lists of columns are made of."""
    if skip.listed is None:
        return []
    loads = [each.attribute for each in below([skip.listed.which, skip.listed.value]) if each.op == "load"]
    return [skip.listed.starts, skip.listed.indices, *loads]


def _masks(skip: Skip, arrays: Mapping[Node, Values] | None = None) -> list[Scalar]:
    """Conditions that hide, of what is known before the sweep: of all arrays, or of these."""

    def is_known(each: Scalar) -> bool:
        if each.op == "load" and arrays is not None and each.attribute not in arrays:
            return False
        return each.op not in _COMPUTED

    return [part for part in skip.skipping if all(map(is_known, below([part])))]


class _Count:
    """The tiles of one sweep, for some blocks of rows."""

    def __init__(self, skip: Skip, tile: tuple[int, int], arrays: Mapping[Node, Values]) -> None:
        self.skip, self.tile, self.arrays, sweep = skip, tile, arrays, skip.sweep
        varying = set().union(*(each.axes for each in [*skip.expressions(), *_masks(skip, arrays)]))
        self.batch = [axis for axis in sweep.batch if axis in varying]
        others = [axis for axis in sweep.batch if axis not in varying]
        self.times = math.prod(int(estimate(axis.length)) for axis in others)
        self.lengths = int(estimate(sweep.rows.length)), int(estimate(sweep.columns.length))
        self.blocks, self.strips = (-(-n // size) for n, size in zip(self.lengths, tile, strict=True))
        shape = [int(estimate(axis.length)) for axis in self.batch]
        tasks = math.prod(shape) * self.blocks
        some = min(tasks, max(1, _MOST_TILES // max(self.strips, 1)))
        chosen = (2 * np.arange(some) + 1) * tasks // max(2 * some, 1)
        self.share = tasks / max(some, 1)
        self.is_estimate = some < tasks
        self.place = np.unravel_index(chosen // max(self.blocks, 1), shape) if shape else ()
        self.block = chosen % max(self.blocks, 1)

    def result(self) -> tuple[Tiles, float, bool]:
        """The numbers, the density, and whether they are estimates."""
        if not self.blocks or not self.strips or not len(self.block):
            return Tiles(0, 0, 0), 0.0, False
        run, full = self._decided()
        areas = np.outer(*(np.minimum(size, n - at * size) for at, size, n in zip(
            (self.block, np.arange(self.strips)), self.tile, self.lengths, strict=True)))  # fmt: skip
        masked = run & ~full
        visible = areas[run & full].sum() + self._seen(np.argwhere(masked), areas)
        scale = self.share * self.times

        def whole(tiles: Values) -> int:
            return round(int(tiles.sum()) * scale)

        undecided = bool(self.skip.undecided)
        tiles = Tiles(whole(run), whole(run if undecided else masked), whole(~run))
        return tiles, float(visible / areas.sum()), self.is_estimate

    def _decided(self) -> tuple[Values, Values]:
        """Which tiles are computed, and which of all are full: (blocks, strips)."""
        skip, corners, (height, width) = self.skip, self.skip.corners, self.tile
        first = np.arange(self.strips) * width
        last = np.minimum(first + width, self.lengths[1]) - 1
        at: dict[Axis, Values] = {axis: each[:, None] for axis, each in zip(self.batch, self.place, strict=True)}
        at[corners.row_first] = self.block[:, None] * height
        at[corners.row_last] = np.minimum(at[corners.row_first] + height, self.lengths[0]) - 1
        at[corners.row_stretch] = self.block[:, None]
        bounds = evaluate([*skip.least, *skip.most], self.arrays, at, estimate)
        at |= {corners.column_first: first, corners.column_last: last, corners.column_stretch: np.arange(self.strips)}
        empty, full = (
            np.broadcast_to(each, (len(self.block), self.strips))
            for each in evaluate([skip.empty, skip.full], self.arrays, at, estimate)
        )
        run = ~empty
        for number, bound in enumerate(bounds):
            run = run & (last >= bound if number < len(skip.least) else first <= bound)
        if skip.listed is not None:
            touched, whole = self._listed()
            run, full = run & touched, full & whole
        return run, full

    def _listed(self) -> tuple[Values, Values]:
        """Which strips runs of lists touch, and which they fill for all rows of a block."""
        listed, (height, width) = self.skip.listed, self.tile
        assert listed is not None
        begins, runs = self.arrays[listed.begins], self.arrays[listed.runs]
        own = dict(zip(self.batch, self.place, strict=True))
        place = tuple(own[axis] for axis in listed.batch)
        begin, end = begins[(*place, self.block)], begins[(*place, self.block + 1)]
        task = np.repeat(np.arange(len(begin)), end - begin)
        entry = np.arange(len(task)) - np.repeat(np.cumsum(end - begin) - (end - begin), end - begin) + begin[task]
        first, stop, rows = runs[entry].T
        every = -1 if height == 64 else (1 << height) - 1
        ends_last = np.where(stop == self.lengths[1], self.strips, stop // width)
        touched = self._marked(task, first // width, -(-stop // width))
        is_whole = rows == every
        whole = self._marked(task[is_whole], -(-first[is_whole] // width), ends_last[is_whole])
        return touched, whole

    def _marked(self, task: Values, first: Values, stop: Values) -> Values:
        marks = np.zeros((len(self.block), self.strips + 1), np.int64)
        some = first < stop
        np.add.at(marks, (task[some], first[some]), 1)
        np.add.at(marks, (task[some], stop[some]), -1)
        return np.asarray(np.cumsum(marks, axis=1)[:, :-1] > 0)

    def _seen(self, tiles: Values, areas: Values) -> float:
        """How many positions of some tiles are visible: from all of them, or from as many as lie evenly apart."""
        total = float(areas[tuple(tiles.T)].sum())
        most = max(1, _MOST_POSITIONS // (self.tile[0] * self.tile[1]))
        if len(tiles) > most:
            self.is_estimate = True
            tiles = tiles[np.arange(most) * len(tiles) // most]
        masks = _masks(self.skip, self.arrays)
        if not masks or not len(tiles):
            return total
        (rows, columns), sweep = self.lengths, self.skip.sweep
        row = (self.block[tiles[:, 0]] * self.tile[0])[:, None, None] + np.arange(self.tile[0])[:, None]
        column = (tiles[:, 1] * self.tile[1])[:, None, None] + np.arange(self.tile[1])
        at: dict[Axis, Values] = {
            axis: each[tiles[:, 0]][:, None, None] for axis, each in zip(self.batch, self.place, strict=True)
        }
        at |= {sweep.rows: np.minimum(row, rows - 1), sweep.columns: np.minimum(column, columns - 1)}
        inside = (row < rows) & (column < columns)
        visible = inside
        for each in evaluate(masks, self.arrays, at, estimate):
            visible = visible & each
        return float(total * visible.sum() / inside.sum())
