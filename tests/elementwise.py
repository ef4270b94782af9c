"""Element-wise operators against their definitions: floats in longer arithmetic, integers as Python's.

A test file states a table of `Row`; the checks here run a row over data types, shapes, memory layouts and
targets.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import attngraph as ag
from checks import FLOATS, INTEGERS, TARGETS, check_raises, evaluations, wide
from strategies import LAYOUTS, laid_out

# Shapes that broadcast to each other: 0-d, empty, axes of length 1, both sides spread.
SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((), ()),
    ((0,), (1,)),
    ((3,), ()),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((3, 0), (3, 1)),
    ((1, 4, 1), (2, 1, 3)),
    ((2, 3, 4), (2, 3, 4)),
)


class Row(NamedTuple):
    """One operator: its definition for each kind of operand that it takes.

    Attributes:
        name: Its name in attngraph.
        floats: On longdoubles. Where ``integers`` is None, integers are to count as float32.
        integers: On Python's integers, the result to be wrapped into the type.
        booleans: On NumPy's booleans; None if it takes none.
        ulps: How many units in the last place a result may be off by.
        low: The least of the tame floats that it is tried on.
        high: The greatest of them.
        operands: How many operands it has.
        signs: Whether the sign of a 0 is defined.
        ulps64: The same as ``ulps`` for float64, which is the C library's, unless ``ulps`` is exact.
    """

    name: str
    floats: Callable[..., Any] | None
    integers: Callable[..., Any] | None = None
    booleans: Callable[..., Any] | None = None
    ulps: float = 0.5
    low: float = -10.0
    high: float = 10.0
    operands: int = 1
    signs: bool = True
    ulps64: float = 4.0


def each_row(rows: list[Row]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def dtype_of(name: Any) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16) if str(name) == "bfloat16" else np.dtype(name)


def special(name: str) -> np.ndarray:
    """Every value of the type that is unlike the others."""
    dtype = dtype_of(name)
    if name == "bool":
        return np.array([False, True])
    if name in INTEGERS:
        limits = np.iinfo(dtype)
        near = {limits.min, limits.min + 1, -7, -2, -1, 0, 1, 2, 3, 7, 8, limits.bits - 1, limits.max - 1, limits.max}
        return np.array(sorted(each for each in near if limits.min <= each <= limits.max), dtype)
    limits = ml_dtypes.finfo(dtype)
    values = [0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 100.0, float(limits.max), float(limits.tiny), math.inf]
    values += [float(limits.smallest_subnormal), 1.0 + float(limits.eps)]
    return np.array([*values, *(-value for value in values), math.nan], np.float64).astype(dtype)


def tame(row: Row, name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Values inside the domain; nothing overflows and nothing is NaN."""
    rng = np.random.default_rng(seed)
    if name == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if name in INTEGERS:
        return rng.integers(max(0 if name[0] == "u" else -9, math.ceil(row.low)), 10, shape).astype(name)
    return np.asarray(rng.uniform(row.low, row.high, shape)).astype(dtype_of(name))


def wrap(values: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Python's integers as two's complement."""
    limits = np.iinfo(dtype)
    span = 2**limits.bits
    return np.array([(value - limits.min) % span + limits.min for value in values], dtype).reshape(shape)


def truth(row: Row, operands: list[np.ndarray], target: str) -> np.ndarray:
    """What the operator is defined to give: longdoubles, wrapped integers or booleans."""
    kind = operands[0].dtype.name
    spread = np.broadcast_arrays(*operands)
    with np.errstate(all="ignore"):
        if kind == "bool" and row.booleans is not None:
            return np.asarray(row.booleans(*spread))
        if kind in INTEGERS and row.integers is not None:
            results = [row.integers(*map(int, each)) for each in zip(*(side.ravel() for side in spread), strict=True)]
            if results and all(isinstance(result, bool) for result in results):
                return np.array(results, bool).reshape(spread[0].shape)
            return wrap(results, operands[0].dtype, spread[0].shape)
        assert row.floats is not None
        if kind not in FLOATS:
            spread = [side.astype(np.float64 if target == "reference64" else np.float32) for side in spread]
        result = np.asarray(row.floats(*(wide(side).astype(np.longdouble) for side in spread)))
        return result.astype(np.longdouble) if result.dtype.kind == "f" else result


def unit(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """One unit in the last place of ``dtype`` at these values."""
    limits = ml_dtypes.finfo(dtype)
    exponent = np.frexp(np.where(np.isfinite(values), values, 1))[1]
    return np.maximum(np.ldexp(np.longdouble(1), exponent - limits.nmant - 1), float(limits.smallest_subnormal))


def assert_close(result: np.ndarray, exact: np.ndarray, ulps: float, where: str, signs: bool = True) -> None:
    """Floats within units in the last place of their own type, specials equal; all else exactly."""
    if result.dtype.name not in FLOATS:
        assert result.dtype == exact.dtype, where
        np.testing.assert_array_equal(result, exact, where)
        return
    with np.errstate(all="ignore"):
        nearest = wide(exact.astype(result.dtype))
        got = wide(result)
        error = np.abs(got.astype(np.longdouble) - exact) / unit(exact, result.dtype)
        fine = (got == nearest) | (np.isnan(got) & np.isnan(nearest)) | (error <= ulps)
    if not fine.all():
        place = tuple(int(axis[0]) for axis in np.nonzero(~fine))
        raise AssertionError(f"{where}: {got[place]} is not {exact[place]} at {place}, {error[place]} units off")
    if signs:
        zero = (nearest == 0) & (got == 0)
        np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(nearest[zero]), f"{where}: the sign of 0")


def check_row(row: Row, *operands: np.ndarray, given: tuple[Any, ...] | None = None) -> None:
    """The operator on these operands (as ``given`` to the library), under every target."""
    lazy = getattr(ag, row.name)(*map(ag.asarray, operands if given is None else given))
    for target, result in evaluations(lazy).items():
        exact = truth(row, list(operands), target)
        due = exact.dtype
        if due == np.longdouble:
            name = operands[0].dtype.name
            due = dtype_of(name if name in FLOATS else "float32")
        assert (lazy.shape, lazy.dtype) == (exact.shape, due), row.name
        held = np.dtype(np.float64) if due.name in FLOATS and target == "reference64" else due
        assert (result.shape, result.dtype) == (exact.shape, held), (row.name, target)
        # Kernels may lose a sign of 0 and half a unit.
        ulps = (
            row.ulps64 if held == np.float64 and row.ulps > 0.5 else max(row.ulps, 1.0 if target == "native" else 0.0)
        )
        assert_close(result, exact, ulps, f"{row.name} {target}", row.signs and target != "native")


def check_floats(lazy: ag.Array, exact: Any, dtype: Any, ulps: float = 0.5, signs: bool = False) -> None:
    """An expression that is to give these float64 values in a narrower type, infinity where they do not fit."""
    exact = np.asarray(exact, np.float64)
    assert (lazy.shape, lazy.dtype) == (exact.shape, dtype_of(dtype))
    for target, result in evaluations(lazy).items():
        held = np.dtype(np.float64) if target == "reference64" else dtype_of(dtype)
        assert (result.shape, result.dtype) == (exact.shape, held), target
        assert_close(result, exact.astype(np.longdouble), ulps, f"{lazy!r} {target}", signs and target != "native")


def takes(row: Row, dtype: str) -> bool:
    if dtype == "bool":
        return row.booleans is not None or (row.integers is None and row.floats is not None)
    return row.floats is not None or (dtype in INTEGERS and row.integers is not None)


def check_values(row: Row, dtype: str) -> None:
    """Special values, all against all, and tame ones; a typed error for a type that it does not take."""
    if not takes(row, dtype):
        operands = [ag.asarray(special(dtype))] * row.operands
        check_raises(
            ag.DTypeError, f"{getattr(ag, row.name).__name__}: takes .* arrays", getattr(ag, row.name), *operands
        )
        return
    values = special(dtype)
    if row.operands == 2:
        check_row(row, values[:, None], values[None, :])
        check_row(row, tame(row, dtype, (40, 1), 1), tame(row, dtype, (1, 40), 2))
    else:
        check_row(row, values)
        check_row(row, tame(row, dtype, (400,)))


def check_shapes_and_layouts(row: Row) -> None:
    dtype = "float32" if row.floats is not None else "int16"
    for shapes in SHAPES:
        check_row(row, *(tame(row, dtype, shape, seed) for seed, shape in enumerate(shapes[: row.operands])))
    for layout in LAYOUTS:
        for name in {dtype, "int16" if row.integers is not None else dtype}:
            operands = [tame(row, name, (3, 4), 5), tame(row, name, (3, 4), 6)[: 3 if row.operands == 2 else 0]]
            kept = operands[: row.operands]
            check_row(row, *kept, given=tuple(laid_out(operand, layout) for operand in kept))


def under(target: str, function: Callable[[], ag.Array]) -> np.ndarray:
    """An expression's value under one target."""
    with ag.config.set(target=target):
        return function().compute()


each_target = pytest.mark.parametrize("target", TARGETS)
