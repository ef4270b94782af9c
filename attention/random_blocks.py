"""Lists of blocks that are drawn at random: the same for a seed, whatever the machine."""

from collections.abc import Callable

import numpy as np

from ..engine.ir import Values
from .listed_pattern import Listed


def random_lists(lengths: tuple[int, int], block: tuple[int, int], count: int, seed: int) -> Listed:
    """For each block of rows so many blocks of columns."""
    nothing = np.zeros(0, np.int64)
    return _listed(lengths, block, lambda row, columns: nothing, count, seed, "random blocks")


def bigbird_lists(lengths: tuple[int, int], block: tuple[int, int], counts: list[int], seed: int) -> Listed:
    """Windows, global blocks, and random ones of those that are left."""
    window, tokens, random = counts

    def given(row: int, columns: int) -> Values:
        if row < tokens:
            return np.arange(columns)
        near = np.arange(max(row - window // 2, 0), min(row + window // 2 + 1, columns)) if window else np.arange(0)
        return np.union1d(np.arange(min(tokens, columns)), near)

    return _listed(lengths, block, given, random, seed, "bigbird")


def _listed(
    lengths: tuple[int, int],
    block: tuple[int, int],
    given: Callable[[int, int], Values],
    count: int,
    seed: int,
    kind: str,
) -> Listed:
    """Blocks that are given for a row of them, and so many further ones, drawn without repetition."""
    random = np.random.default_rng(seed)
    rows, columns = (-(-length // size) for length, size in zip(lengths, block, strict=True))
    found = []
    for row in range(rows):
        taken = given(row, columns)
        # So many are drawn that enough of them are new.
        drawn = random.choice(columns, min(columns, count + len(taken)), replace=False)
        new = drawn[~np.isin(drawn, taken)][:count]
        found.append(np.sort(np.concatenate([taken, new])))
    sizes = [len(each) for each in found]
    return Listed(lengths, block, np.repeat(np.arange(rows), sizes), np.concatenate(found), kind)
