"""Hypothesis strategies: random arrays in every layout, and random well-typed expressions.

`expressions` builds top-down, so every draw is well typed: to make an expression of a shape and kind, it
draws an operator that can have that shape, then operands that fit. Values stay tame (no overflow, no
comparison of computed floats, no division by what may be near zero), so that two evaluations of equal
value agree to rounding. `programs` adds lists of several results that share parts.
"""

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np

import attngraph as ag

LENGTHS = (0, 1, 2, 3, 5)
FLOATS = ("float32", "float64")
INTEGERS = ("int8", "int32", "int64", "uint8")
LAYOUTS = ("plain", "fortran", "reversed", "strided", "transposed", "read-only", "misaligned", "byte-swapped")

Shape = tuple[int, ...]


def shapes(least: int = 0, most: int = 4, lengths: Sequence[int] = LENGTHS) -> st.SearchStrategy[Shape]:
    """Shapes with empty and one-sized axes among them."""
    return st.lists(st.sampled_from(lengths), min_size=least, max_size=most).map(tuple)


@st.composite
def broadcastable(draw: st.DrawFn, shape: Shape) -> Shape:
    """A shape that broadcasts to ``shape``."""
    kept = draw(st.integers(0, len(shape)))
    return tuple(draw(st.sampled_from((length, 1))) for length in shape[len(shape) - kept :])


def laid_out(array: np.ndarray, layout: str) -> np.ndarray:
    """The same values in another memory layout."""
    if layout == "fortran":
        return np.array(array, order="F")
    if layout == "reversed" and array.ndim:
        return np.array(array[::-1], order="C")[::-1]
    if layout == "strided" and array.ndim:
        wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        wide[..., ::2] = array
        return wide[..., ::2]
    if layout == "transposed":
        return np.array(array.T, order="C").T
    if layout == "read-only":
        array = array.copy()
        array.flags.writeable = False
    if layout == "misaligned" and array.size:
        raw = np.empty(array.nbytes + 1, np.uint8)
        shifted = raw[1:].view(array.dtype).reshape(array.shape)
        shifted[...] = array
        return shifted
    if layout == "byte-swapped" and array.dtype.itemsize > 1 and array.dtype.kind in "iuf":
        return array.astype(array.dtype.newbyteorder(">"))
    return array


@st.composite
def arrays(draw: st.DrawFn, shape: Shape, dtype: str) -> np.ndarray:
    """An array of tame values (floats in [-2, 2], small integers) in any layout."""
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        values = rng.integers(0, 2, shape).astype(bool)
    elif np.dtype(dtype).kind in "iu":
        values = rng.integers(0 if dtype.startswith("u") else -4, 5, shape).astype(dtype)
    else:
        values = rng.uniform(-2, 2, shape).astype(dtype)
    return laid_out(values, draw(st.sampled_from(LAYOUTS)))


UNARY_FLOAT = ("negative", "abs", "square", "sin", "cos", "tanh", "sigmoid", "erf", "atan", "gelu", "silu", "relu")
BINARY_FLOAT = ("add", "subtract", "multiply", "maximum", "minimum")
BINARY_INTEGER = ("add", "subtract", "multiply", "maximum", "minimum", "floor_divide", "remainder")
COMPARISONS = ("less", "less_equal", "greater", "greater_equal", "equal", "not_equal")
LOGIC = ("logical_and", "logical_or", "logical_xor")


class _Maker:
    """Draws expressions of a wanted shape and kind, at most ``depth`` operators deep."""

    def __init__(self, draw: st.DrawFn, float_dtype: str) -> None:
        self.draw = draw
        self.float_dtype = float_dtype
        self.made: list[ag.Array] = []

    def pick(self, choices: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(choices)))

    def leaf(self, shape: Shape, kind: str) -> ag.Array:
        shared = [each for each in self.made if each.shape == shape and _kind(each) == kind]
        if shared and self.draw(st.booleans()):
            return self.pick(shared)
        dtype = {"float": self.float_dtype, "bool": "bool"}.get(kind) or self.pick(INTEGERS)
        if kind == "integer" and len(shape) == 1 and self.draw(st.booleans()):
            return ag.arange(self.draw(st.integers(-3, 3)), 10**6)[: shape[0]]
        return ag.asarray(self.draw(arrays(shape, dtype)))

    def make(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        recipe = self.pick(self.recipes(shape, kind)) if depth > 0 else None
        result = recipe(shape, kind, depth - 1) if recipe else self.leaf(shape, kind)
        assert result.shape == shape, f"a strategy built {result.shape}, not {shape}"
        self.made.append(result)
        return result

    def recipes(self, shape: Shape, kind: str) -> list[Any]:
        found = [self.pointwise, self.pointwise, self.selected, self.reshaped, self.spread]
        if shape:
            found += [self.permuted, self.sliced, self.joined, self.flipped]
            found += [self.gathered] if shape[0] else []
        if kind == "float":
            found += [self.scaled, self.reduced, self.reduced]
            found += [self.normalized, self.running] if shape else []
            found += [self.product, self.product, self.factored] if len(shape) >= 2 else []
        return found

    def pointwise(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        if kind == "float" and self.draw(st.booleans()):
            return getattr(ag, self.pick(UNARY_FLOAT))(self.make(shape, kind, depth))
        if kind == "bool":
            # Comparing computed floats would turn rounding into truth.
            name, inner = self.pick([(name, "integer") for name in COMPARISONS] + [(name, "bool") for name in LOGIC])
        else:
            name, inner = self.pick(BINARY_FLOAT if kind == "float" else BINARY_INTEGER), kind
        sides = [shape, self.draw(broadcastable(shape))]
        if self.draw(st.booleans()):
            sides.reverse()
        return getattr(ag, name)(*(self.make(side, inner, depth) for side in sides))

    def scaled(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        scalar = self.pick((0.5, 2.0, -1.0, 1.0, 0.0, 3.0))
        inner = self.make(shape, kind, depth)
        forms = (
            lambda: inner * scalar,
            lambda: scalar + inner,
            lambda: inner - scalar,
            lambda: inner / (abs(scalar) + 1),
        )
        return self.pick(forms)()

    def selected(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        condition = self.make(self.draw(broadcastable(shape)), "bool", depth)
        return ag.where(condition, self.make(shape, kind, depth), self.make(shape, kind, 0))

    def reshaped(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        before = self.pick((shape[::-1], (int(np.prod(shape)),), (1, *shape)))
        return ag.reshape(self.make(before, kind, depth), shape)

    def spread(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        return ag.broadcast_to(self.make(self.draw(broadcastable(shape)), kind, depth), shape)

    def permuted(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        axes = self.draw(st.permutations(range(len(shape))))
        before = tuple(shape[axes.index(axis)] for axis in range(len(shape)))
        return ag.permute_dims(self.make(before, kind, depth), axes)

    def sliced(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        before, key = [], []
        for length in shape:
            start, step = self.draw(st.integers(0, 2)), self.pick((1, 2, -1))
            before.append(start + length * abs(step))
            last = before[-1] - 1
            key.append(
                slice(start, None, step) if step > 0 else slice(last, last - length if last >= length else None, -1)
            )
        return self.make(tuple(before), kind, depth)[tuple(key)]

    def joined(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        axis = self.draw(st.integers(0, len(shape) - 1))
        first = self.draw(st.integers(0, shape[axis]))
        parts = [(*shape[:axis], length, *shape[axis + 1 :]) for length in (first, shape[axis] - first)]
        made = [self.make(part, kind, depth) for part in parts]
        # Integers of two types may promote to a third: the kind stays.
        return ag.concat(made, axis=axis)

    def flipped(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        axis = self.draw(st.integers(0, len(shape) - 1))
        inner = self.make(shape, kind, depth)
        return ag.flip(inner, axis=axis) if self.draw(st.booleans()) else ag.roll(inner, 2, axis=axis)

    def gathered(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        length = self.draw(st.integers(1, 4))
        table = self.make((length, *shape[1:]), kind, depth)
        return table[self.make(shape[:1], "integer", 0) % length]

    def reduced(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        axis = self.draw(st.integers(0, len(shape)))
        name = self.pick(("sum", "mean", "max", "min", "var", "logsumexp"))
        length = self.pick((1, 2, 5))
        inner = self.make((*shape[:axis], length, *shape[axis:]), kind, depth)
        return getattr(ag, name)(inner, axis=axis)

    def normalized(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        inner = self.make(shape, kind, depth)
        if self.draw(st.booleans()):
            mask = self.make(self.draw(broadcastable(shape)), "bool", depth)
            inner = ag.where(mask, inner, -ag.inf)
        return ag.softmax(inner, axis=self.draw(st.integers(-len(shape), len(shape) - 1)))

    def running(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        return ag.cumulative_sum(self.make(shape, kind, depth), axis=self.draw(st.integers(0, len(shape) - 1)))

    def product(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        width = self.pick((0, 1, 3, 7))
        left = self.make((*shape[:-1], width), kind, depth)
        batch = self.draw(broadcastable(shape[:-2]))
        return left @ self.make((*batch, width, shape[-1]), kind, depth)

    def factored(self, shape: Shape, kind: str, depth: int) -> ag.Array:
        """Sums of products with a factor that a pass may take out."""
        width = self.pick((1, 6))
        weights = self.make((*shape[:-1], width), kind, depth)
        factor = self.make((*shape[:-1], 1), kind, 0)
        values = self.make((width, shape[-1]), kind, 0)
        forms = (
            lambda: (weights * factor) @ values,
            lambda: (weights / (ag.abs(factor) + 1)) @ values,
            lambda: weights @ values * factor + weights @ values * self.make(shape, kind, 0),
        )
        return self.pick(forms)()


def _kind(array: ag.Array) -> str:
    return {"f": "float", "b": "bool"}.get(array.dtype.kind, "integer")


@st.composite
def expressions(
    draw: st.DrawFn,
    shape: Shape | None = None,
    kind: str = "float",
    depth: int = 3,
    dtypes: Sequence[str] = FLOATS,
) -> ag.Array:
    """A random well-typed lazy array, at most ``depth`` operators deep."""
    wanted = draw(shapes(most=3)) if shape is None else shape
    return _Maker(draw, draw(st.sampled_from(dtypes))).make(wanted, kind, draw(st.integers(1, depth)))


@st.composite
def programs(draw: st.DrawFn, depth: int = 2, dtypes: Sequence[str] = FLOATS) -> list[ag.Array]:
    """Several results that share parts."""
    maker = _Maker(draw, draw(st.sampled_from(dtypes)))
    return [
        maker.make(draw(shapes(most=3)), draw(st.sampled_from(("float", "integer", "bool"))), depth) for _ in range(2)
    ]


def assert_same(left: np.ndarray, right: np.ndarray, tolerance: float = 1e-9) -> None:
    """Equal shape and dtype; floats to ``tolerance`` of their scale, all else exactly."""
    assert left.shape == right.shape, f"{left.shape} against {right.shape}"
    assert left.dtype == right.dtype, f"{left.dtype} against {right.dtype}"
    if left.dtype.kind == "f":
        finite = left[np.isfinite(left)]
        scale = max(1.0, float(np.abs(finite).max())) if finite.size else 1.0
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance * scale)
    else:
        np.testing.assert_array_equal(left, right)


@st.composite
def scores_of(draw: st.DrawFn, q: ag.Array, k: ag.Array) -> ag.Array:
    """Random scores (B, H, rows, columns) of queries and keys, each step one that a sweep should hold."""
    batch, heads, rows, columns = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
    i, j = ag.arange(rows)[:, None], ag.arange(columns)[None, :]
    number = st.floats(0.1, 1.5).map(lambda value: round(value, 3))

    def operand() -> ag.Array:
        shape = tuple(draw(st.sampled_from((length, 1))) for length in (batch, heads, rows, columns))
        return ag.asarray(draw(arrays(shape, "float32")))

    def points() -> ag.Array:
        shape = (draw(st.sampled_from((1, 4, 20))), draw(st.sampled_from((1, 3, 8))))
        x, y = (ag.asarray(draw(arrays((batch, 1, length, *shape), "float32"))) for length in (rows, columns))
        apart = x[:, :, :, None] - y[:, :, None]
        measure = draw(st.sampled_from((lambda d: d.sum(-1), lambda d: ag.sqrt(d.sum(-1) + 0.1), lambda d: d.max(-1))))
        return measure(apart**2).mean(-1)

    bases = (
        lambda: (q @ k.mT) * draw(number),
        lambda: -((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1) * draw(number),
        lambda: -ag.abs(q[..., :, None, :] - k[..., None, :, :]).sum(-1),
        lambda: ag.tanh(q[..., :, None, :] + k[..., None, :, :]).sum(-1),
        lambda: (q * draw(number)) @ k.mT + q[..., :1] @ k.mT[..., :1, :],
        lambda: -ag.log1p(((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1)),
        lambda: q @ k.mT * 0.3 - points() * draw(number),
    )
    steps = (
        lambda s: s + operand(),
        lambda s: s * operand(),
        lambda s: 3 * ag.tanh(s / 3),
        lambda s: s + draw(number) * (j - i).astype("float32") / columns,
        lambda s: ag.where(i >= j - draw(st.integers(0, columns)), s, -ag.inf),
        lambda s: ag.where((i - j < draw(st.integers(1, 20))) & (j >= draw(st.integers(-3, 3))), s, -ag.inf),
        lambda s: ag.where(operand() > -1, s, -ag.inf),
        lambda s: s + ag.asarray(draw(arrays((rows + columns,), "float32")))[i - j + columns - 1],
        lambda s: ag.maximum(s, -ag.abs(operand())),
        lambda s: ag.where((i + j) % 3 == 0, s * 0.5, s),
        lambda s: ag.log1p(ag.abs(s)),
    )
    scores = draw(st.sampled_from(bases))()
    for step in draw(st.lists(st.sampled_from(steps), max_size=4)):
        scores = step(scores)
    return scores


@st.composite
def attentions(draw: st.DrawFn) -> ag.Array:
    """Random attention-like expressions: weights of random scores, applied to values."""
    rows, columns = draw(st.integers(2, 40)), draw(st.integers(16, 150))
    width, value_width = draw(st.sampled_from((1, 4, 7, 16))), draw(st.sampled_from((1, 5, 16, 20)))
    shapes = ((2, 2, rows, width), (2, 2, columns, width), (2, 2, columns, value_width))
    q, k, v = (ag.asarray(draw(arrays(shape, "float32"))) for shape in shapes)
    scores = draw(scores_of(q, k))
    weights = draw(
        st.sampled_from(
            (
                lambda s: ag.softmax(s, axis=-1),
                lambda s: ag.softmax(s, axis=-1) * ag.sigmoid(s),
                ag.sigmoid,
                lambda s: ag.softmax(s, axis=-1) - 0.3 * ag.softmax(2 * s, axis=-1),
                lambda s: ag.exp(s - ag.logaddexp(ag.logsumexp(s, axis=-1, keepdims=True), 0.0)),
                lambda s: ag.relu(s) / columns,
            )
        )
    )(scores)
    return weights @ draw(st.sampled_from((v, v * v, ag.broadcast_to(v[:, :1], v.shape))))


def steps(rng: np.random.Generator, length: int, dtype: str) -> np.ndarray:
    """A sorted table, as ids of documents are: few values in long runs."""
    return np.sort(rng.integers(0, 1 + int(rng.integers(1, 13)), length)).astype(dtype)


def _integers(rng: np.random.Generator, length: int, dtype: str) -> np.ndarray:
    """What tables of integers hold: sorted, in runs, small, or anything that the type can hold."""
    limits = np.iinfo(dtype)
    kind = rng.integers(4)
    if kind == 0:
        return steps(rng, length, dtype)
    if kind == 1:
        low = 0 if limits.min == 0 else -9
        return rng.integers(low, 9, length).astype(dtype)
    anything = rng.integers(limits.min, limits.max, length, dtype=dtype, endpoint=True)
    return np.sort(anything) if kind == 2 else np.resize(np.repeat(anything, 1 + length // 4), length)


def _floats(rng: np.random.Generator, length: int) -> np.ndarray:
    """On a grid, so that sums are exact, with infinities and NaN in some."""
    values = np.sort(rng.integers(-20, 20, length)).astype("float32") / 4
    if rng.integers(2):
        values[rng.integers(0, length, 1 + length // 8)] = rng.choice([np.inf, -np.inf, np.nan])
    return values


Places = tuple[ag.Array, ag.Array, ag.Array, ag.Array]
TABLE_TYPES = ("int64", "int64", "int32", "int16", "int8", "uint8", "uint32", "uint64")


class _MaskMaker:
    """Draws functions of b, h, q_idx and kv_idx: numbers and conditions, at most ``depth`` operators deep."""

    def __init__(self, draw: st.DrawFn, heads: tuple[int, int], length: int) -> None:
        self.draw, self.heads, self.length = draw, heads, length
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def table(self, values: np.ndarray) -> ag.Array:
        return ag.constant(values) if self.draw(st.booleans()) else ag.asarray(values)

    def looked_up(self, make: Any) -> Any:
        """An element of a table: of a row, of a column, of the next one, from behind, or of a batch or head."""
        kind = self.pick("row", "column", "row", "column", "next", "reversed", "of heads", "of a batch")
        if kind == "of heads":
            table = self.table(make(self.rng, self.heads[1]))
            return lambda b, h, i, j: table[h]
        if kind == "of a batch":
            rows = [make(self.rng, self.length) for _ in range(self.heads[0])]
            table = self.table(np.stack(rows).astype(rows[0].dtype))
            return lambda b, h, i, j: table[b, j]
        table = self.table(make(self.rng, self.length + self.pick(1, 5)))
        last = self.length - 1
        return {
            "row": lambda b, h, i, j: table[i],
            "column": lambda b, h, i, j: table[j],
            "next": lambda b, h, i, j: table[j + 1],
            "reversed": lambda b, h, i, j: table[last - j],
        }[kind]

    def integer_table(self) -> Any:
        dtype = self.pick(*TABLE_TYPES)
        return self.looked_up(lambda rng, length: _integers(rng, length, dtype))

    def number(self, depth: int) -> Any:
        if depth == 0:
            positions = (lambda b, h, i, j: i, lambda b, h, i, j: j, lambda b, h, i, j: h, lambda b, h, i, j: b)
            return self.integer_table() if self.pick(0, 0, 1) else positions[self.pick(0, 1, 0, 1, 0, 1, 2, 3)]
        return self.pick(self.changed, self.changed, self.combined, self.combined, self.chosen)(depth - 1)

    def changed(self, depth: int) -> Any:
        """A number with a constant, or alone."""
        inner, constant = (
            self.number(depth),
            self.pick(0, 1, -1, 2, 3, -3, 7, 16, 40, 1 << 31, -(1 << 62), (1 << 63) - 1),
        )
        name = self.pick("add", "subtract", "multiply", "floor_divide", "remainder", "maximum", "minimum", "flipped")
        alone = self.pick("abs", "negative", "int64", "int32", "int8", "uint8", None, None, None, None)

        def function(*places: ag.Array) -> ag.Array:
            x = inner(*places)
            if alone is not None:
                return getattr(ag, alone)(x) if hasattr(ag, alone) and "int" not in alone else x.astype(alone)
            limits = np.iinfo(x.dtype)
            fitting = constant if limits.min <= constant <= limits.max else 5
            return x.dtype.type(fitting) - x if name == "flipped" else getattr(ag, name)(x, fitting)

        return function

    def combined(self, depth: int) -> Any:
        left, right = self.number(depth), self.number(self.pick(0, depth))
        name = self.pick("subtract", "subtract", "add", "multiply", "floor_divide", "remainder", "minimum", "maximum")
        return lambda *places: getattr(ag, name)(*_of_one_type(left(*places), right(*places)))

    def chosen(self, depth: int) -> Any:
        condition, left, right = self.condition(depth), self.number(depth), self.number(0)
        return lambda *places: ag.where(condition(*places), *_of_one_type(left(*places), right(*places)))

    def condition(self, depth: int) -> Any:
        if depth == 0:
            return self.pick(self.compared, self.compared, self.compared_floats, self.boolean_table)(0)
        return self.pick(self.compared, self.compared, self.joined, self.joined, self.inverted, self.either)(depth - 1)

    def boolean_table(self, _: int) -> Any:
        return self.looked_up(lambda rng, length: np.resize(rng.integers(0, 2, 1 + length // 9).astype(bool), length))

    def compared(self, depth: int) -> Any:
        left, right, name = self.number(depth), self.number(self.pick(0, depth)), self.pick(*COMPARISONS)
        return lambda *places: getattr(ag, name)(*_of_one_type(left(*places), right(*places)))

    def compared_floats(self, _: int) -> Any:
        left, right = self.looked_up(_floats), self.looked_up(_floats)
        name, bound = self.pick(*COMPARISONS), self.pick(0.0, 0.5, -1.25, np.inf, -np.inf)
        measure = self.pick(lambda x, y: x - y, lambda x, y: x + y, lambda x, y: ag.abs(x - y), ag.minimum)
        return lambda *places: getattr(ag, name)(measure(left(*places), right(*places)), bound)

    def joined(self, depth: int) -> Any:
        left, right = self.condition(depth), self.condition(self.pick(0, depth))
        name = self.pick("bitwise_and", "bitwise_and", "bitwise_or", *LOGIC, "equal", "less", "less_equal")
        return lambda *places: getattr(ag, name)(left(*places), right(*places))

    def inverted(self, depth: int) -> Any:
        inner = self.condition(depth)
        return lambda *places: ~inner(*places)

    def either(self, depth: int) -> Any:
        condition, left, right = self.condition(depth), self.condition(depth), self.condition(0)
        return lambda *places: ag.where(condition(*places), left(*places), right(*places))


def _of_one_type(left: ag.Array, right: ag.Array) -> tuple[ag.Array, ag.Array]:
    """Integers that promotion has a type for: what is unsigned and what is signed may have none."""
    if "uint64" in (left.dtype.name, right.dtype.name) and left.dtype != right.dtype:
        return left.astype("uint64"), right.astype("uint64")
    return left, right


@st.composite
def mask_mods(draw: st.DrawFn, heads: tuple[int, int], length: int, depth: int = 3) -> Any:
    """A random mask function ``(b, h, q_idx, kv_idx)`` for batches and heads, of positions below ``length``."""
    return _MaskMaker(draw, heads, length).condition(draw(st.integers(1, depth)))
