"""What is measured: attentions as FlexAttention programs, each of one text for every library.

The programs are those that tests hold against float64, `tests/attention/flex_programs.py`, and two more.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


def of_tests(name: str) -> Any:
    """A module of the tests, by its path below them; it is in no package."""
    path = Path(__file__).parents[1] / "tests" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


flex = of_tests("attention/flex_programs")


def window(length: int, rng: Any, heads: int, library: Any) -> Any:
    """A causal window of 256 positions, the present one among them."""
    return lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) & (q_idx - kv_idx < 256)


def softcap_causal(length: int, rng: Any, heads: int, library: Any) -> Any:
    return flex.softcap(length, rng, heads, library), flex.causal(length, rng, heads, library)


def nothing(length: int, rng: Any, heads: int, library: Any) -> Any:
    return None


OWN = (
    flex.Program("full", "mask", nothing),
    flex.Program("window 256", "mask", window),
    flex.Program("softcap, causal", "both", softcap_causal),
)
PROGRAMS = {program.name: program for program in (*OWN, *flex.PROGRAMS)}
MASKS = ("window 256", *(program.name for program in flex.MASKS))
FLEX = ("window 256", "documents", "ALiBi, causal", "softcap, causal")
# Programs that add to the scores what does not depend on them: a float mask says the same.
ADDITIVE = frozenset({"ALiBi, causal"})

_STRIP = 256


class Jax:
    """JAX's functions, and its arrays for tables."""

    def __init__(self) -> None:
        self._functions = importlib.import_module("jax.numpy")

    def array(self, table: np.ndarray) -> Any:
        return self._functions.asarray(table)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._functions, name)


def library(name: str) -> Any:
    """What programs call for functions and tables, of ``attngraph``, ``numpy``, ``torch`` or ``jax``."""
    if name == "jax":
        return Jax()
    return {"attngraph": flex.in_attngraph, "numpy": flex.in_numpy, "torch": flex.in_torch}[name]()


class Case(NamedTuple):
    """An attention of one shape; its name is that of its program."""

    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    width: int

    @property
    def shape(self) -> str:
        """As tables write it: the keys only where they are not as many as the queries."""
        sizes = f"({self.batch}, {self.heads}, {self.queries}, {self.width})"
        return sizes if self.queries == self.keys else f"{sizes} on {self.keys} keys"

    @property
    def scores_bytes(self) -> int:
        """What the scores would take if they were stored."""
        return 4 * self.batch * self.heads * self.queries * self.keys

    @property
    def array_bytes(self) -> int:
        """What must be read and written at least: q, k, v and the output."""
        return 4 * self.batch * self.heads * self.width * 2 * (self.queries + self.keys)

    @property
    def mask_sizes(self) -> tuple[int | None, int | None]:
        """B and H of ``create_block_mask``: None where all are alike."""
        program = PROGRAMS[self.name]
        return self.batch if program.batch else None, self.heads if program.head else None

    def functions(self, name: str) -> tuple[Any, Any]:
        """The score function and the mask function for a library, or None; tables are the same in each."""
        return flex.functions(PROGRAMS[self.name], self.keys, self.heads, library(name))  # type: ignore[no-any-return]

    def arrays(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        rows, columns = (self.batch, self.heads, self.queries), (self.batch, self.heads, self.keys)
        q, k, v = (rng.standard_normal((*sizes, self.width), dtype="float32") for sizes in (rows, columns, columns))
        return q, k, v


def square(name: str, shape: tuple[int, ...]) -> Case:
    """As many keys as queries."""
    batch, heads, length, width = shape
    return Case(name, batch, heads, length, length, width)


def _indices(case: Case, rows: np.ndarray, sizes: tuple[int, int]) -> tuple[Any, ...]:
    batch, heads = sizes
    numbers = (np.arange(batch), np.arange(heads), rows, np.arange(case.keys))
    shapes = ((-1, 1, 1, 1), (1, -1, 1, 1), (1, 1, -1, 1), (1, 1, 1, -1))
    return tuple(each.reshape(shape).view(flex.Tensor) for each, shape in zip(numbers, shapes, strict=True))


def strips(case: Case, rows: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """The mask of 256 queries after the other, (batch or 1, heads or 1, rows, keys), by NumPy."""
    _, mask_mod = case.functions("numpy")
    batch, heads = case.mask_sizes
    sizes = batch or 1, heads or 1
    rows = np.arange(case.queries) if rows is None else rows
    for start in range(0, len(rows), _STRIP):
        strip = rows[start : start + _STRIP]
        mask = True if mask_mod is None else np.asarray(mask_mod(*_indices(case, strip, sizes)))
        yield np.broadcast_to(mask, (*sizes, len(strip), case.keys))


def flops(case: Case) -> int:
    """Operations of the two products at the positions that count: what a mask hides is no work."""
    shares = (np.count_nonzero(strip) / (strip.shape[0] * strip.shape[1]) for strip in strips(case))
    return round(4 * case.width * case.batch * case.heads * sum(shares))


def visible_tiles(case: Case, side: int = 64) -> float:
    """The share of square tiles in which a position counts."""
    seen, tiles = 0, 0
    for strip in strips(case):
        down = np.logical_or.reduceat(strip, np.arange(0, strip.shape[-2], side), axis=-2)
        both = np.logical_or.reduceat(down, np.arange(0, case.keys, side), axis=-1)
        seen, tiles = seen + int(both.sum()), tiles + both.size
    return seen / tiles


def check_rows(case: Case) -> np.ndarray:
    """The queries that are compared with float64: both ends and some between."""
    some = np.random.default_rng(1).integers(0, case.queries, 62)
    return np.unique(np.concatenate([some, [0, case.queries - 1]]))


def truth(case: Case, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The rows of `check_rows` in float64; a row that sees nothing is zero."""
    rows = check_rows(case)
    score_mod, _ = case.functions("numpy")
    scores = q[:, :, rows].astype("float64") @ k.astype("float64").swapaxes(-1, -2) * case.width**-0.5
    if score_mod is not None:
        indices = _indices(case, rows, (case.batch, case.heads))
        scores = np.asarray(score_mod(scores.view(flex.Tensor), *indices))
    (mask,) = strips(case, rows)
    scores = np.where(mask, scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = weights.sum(-1, keepdims=True)
    return np.asarray(weights / np.where(total == 0, 1, total) @ v.astype("float64"))
