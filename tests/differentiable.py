"""Public functions that have gradients, each with arguments drawn away from its kinks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import attngraph as ag
from attngraph.ops.indexing import along_axis
from attngraph.ops.torch_functions import TorchGather
from strategies import broadcastable, shapes


class Case(NamedTuple):
    """A function of arrays that returns one or several, all of floats, and its arguments."""

    function: Callable[..., Any]
    arrays: list[np.ndarray]


Draw = Callable[[st.SearchStrategy[Any]], Any]
# Magnitudes: of numbers of either sign, of positive ones, of those beyond 1, of those that round away from 0.
SIGNED, POSITIVE, LARGE, HIGH = (0.3, 0.8, True), (0.4, 0.9, False), (1.3, 2.5, True), (0.55, 0.9, True)
Domain = tuple[float, float, bool]


def numbers(draw: Draw, sizes: Sequence[tuple[int, ...]], *domains: Domain) -> list[np.ndarray]:
    """Arrays of these shapes: within a domain no magnitude is there twice, nor is 0, so that a step crosses no kink."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    total = 1 + sum(int(np.prod(each)) for each in sizes)
    places = rng.permutation(total)
    found = []
    for number, size in enumerate(sizes):
        low, high, signed = domains[min(number, len(domains) - 1)]
        count = int(np.prod(size))
        values = low + (high - low) * places[:count].reshape(size) / total
        places = places[count:]
        found.append(values * (rng.choice([-1.0, 1.0], size) if signed else 1.0))
    return found


def elementwise(function: Any, *domains: Domain) -> Any:
    """A function of as many arrays as there are domains, that broadcast."""

    def case(draw: Draw) -> Case:
        shape = draw(shapes(most=3))
        sizes = [shape if len(domains) == 1 else draw(broadcastable(shape)) for _ in domains]
        return Case(function, numbers(draw, sizes, *domains))

    return case


def lengthy(draw: Draw, least: int = 1, most: int = 3) -> tuple[int, ...]:
    """A shape without empty axes."""
    return draw(shapes(least, most, (1, 2, 3, 5)))


def along(function: Any, domain: Domain = SIGNED, *, several: bool = True, **options: st.SearchStrategy[Any]) -> Any:
    """A function along an axis, or along several or all."""

    def case(draw: Draw) -> Case:
        shape = lengthy(draw)
        single = st.integers(-len(shape), len(shape) - 1)
        axes = st.sets(st.integers(0, len(shape) - 1), min_size=1).map(tuple)
        axis = draw(st.one_of(single, axes, st.none()) if several else single)
        keywords = {name: draw(each) for name, each in options.items()}
        return Case(partial(function, axis=axis, **keywords), numbers(draw, [shape], domain))

    return case


def shaped(function: Any, *, least: int = 1) -> Any:
    """A function of one array and what is drawn for its shape: ``function(draw, shape)`` gives that of the array."""

    def case(draw: Draw) -> Case:
        shape = lengthy(draw, least)
        return Case(function(draw, shape), numbers(draw, [shape], SIGNED))

    return case


def integers(draw: Draw, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(draw(st.integers(0, 2**16))).integers(low, high, shape)


def axis_of(draw: Draw, shape: tuple[int, ...]) -> int:
    return int(draw(st.integers(-len(shape), len(shape) - 1)))


# --- what needs more than a shape


def matmul(draw: Draw) -> Case:
    rows, inner, columns = (draw(st.integers(1, 4)) for _ in range(3))
    batch = draw(shapes(most=2, lengths=(0, 1, 2, 3)))
    left, right = ((*draw(broadcastable(batch)), *size) for size in ((rows, inner), (inner, columns)))
    kind = draw(st.integers(0, 3))
    left, right = (inner,) if kind == 1 else left, (inner,) if kind == 2 else right
    return Case(ag.matmul, numbers(draw, [left, right], SIGNED))


def tensordot(draw: Draw) -> Case:
    inner = draw(shapes(0, 2, (1, 2, 3)))
    left, right = draw(shapes(0, 2, (1, 2, 3))), draw(shapes(0, 2, (1, 2, 3)))
    return Case(partial(ag.tensordot, axes=len(inner)), numbers(draw, [left + inner, inner + right], SIGNED))


def einsum(draw: Draw) -> Case:
    lengths = {letter: draw(st.integers(1, 3)) for letter in "bijkl"}
    text = draw(st.sampled_from(["bij,bjk->bik", "ij,ij->", "bij,kj->kbi", "i,j->ij", "bij,jk,kl->bl", "bii->bi"]))
    sizes = [tuple(lengths[letter] for letter in part) for part in text.split("->")[0].split(",")]
    return Case(partial(ag.einsum, text), numbers(draw, sizes, SIGNED))


def vecdot(draw: Draw) -> Case:
    shape = (*draw(shapes(most=2)), draw(st.integers(1, 4)))
    sizes = [(*draw(broadcastable(shape[:-1])), shape[-1]) for _ in range(2)]
    return Case(ag.vecdot, numbers(draw, sizes, SIGNED))


def where(draw: Draw) -> Case:
    shape = draw(shapes(most=3))
    condition = ag.asarray(integers(draw, 0, 2, draw(broadcastable(shape))) > 0)
    sizes = [draw(broadcastable(shape)) for _ in range(2)]
    return Case(lambda x, y: ag.where(condition, x, y), numbers(draw, sizes, SIGNED))


def clip(draw: Draw) -> Case:
    shape = draw(shapes(most=3))
    sizes = [shape, *(draw(broadcastable(shape)) for _ in range(2))]
    x, low, high = numbers(draw, sizes, SIGNED, (0.3, 0.8, False), (0.3, 0.8, False))
    return Case(ag.clip, [x, -low, high])


def normed(function: Any, parameters: int) -> Any:
    def case(draw: Draw) -> Case:
        shape = lengthy(draw)
        sizes = [shape, *[shape[-1:]] * draw(st.integers(0, parameters))]
        return Case(function, numbers(draw, sizes, SIGNED))

    return case


def joined(function: Any) -> Any:
    def case(draw: Draw) -> Case:
        shape = lengthy(draw)
        axis = axis_of(draw, shape)
        arrays = numbers(draw, [shape] * draw(st.integers(1, 3)), SIGNED)
        return Case(lambda *parts: function(parts, axis=axis), arrays)

    return case


def gathered(draw: Draw, shape: tuple[int, ...]) -> Any:
    """NumPy's indexing: by arrays that broadcast, beside slices."""
    picked = integers(draw, -shape[0], shape[0], draw(shapes(0, 2, (1, 3))))
    other = integers(draw, -shape[-1], shape[-1], (draw(st.sampled_from((1, 3))),))
    if len(shape) > 1 and draw(st.booleans()):
        return lambda x: x[ag.asarray(picked), ..., ag.asarray(other)]
    return lambda x: x[ag.asarray(picked), ..., ::-1] if len(shape) > 1 else x[None, ag.asarray(picked)]


def slices(draw: Draw, shape: tuple[int, ...]) -> Any:
    steps = tuple(draw(st.sampled_from((slice(None), slice(1, None), slice(None, None, -2), 0))) for _ in shape)
    return lambda x: x[(*steps, None)]


def taken(draw: Draw, shape: tuple[int, ...]) -> Any:
    axis = axis_of(draw, shape)
    picked = integers(draw, -shape[axis], shape[axis], (draw(st.integers(0, 4)),))
    return lambda x: ag.take(x, ag.asarray(picked), axis=axis)


def taken_along(function: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    axis = axis_of(draw, shape)
    size = list(shape)
    size[axis] = draw(st.integers(1, 4))
    picked = integers(draw, 0, shape[axis], tuple(size))
    return lambda x: function(x, ag.asarray(picked), axis)


def with_sink(draw: Draw) -> Case:
    """Weights that are divided by their sum and something beside it, as a user writes them out."""

    shape = lengthy(draw)

    def function(x: Any, sink: Any) -> Any:
        e = ag.exp(x)
        return e / (ag.exp(sink) + ag.sum(e, axis=-1, keepdims=True))

    return Case(function, numbers(draw, [shape, draw(st.sampled_from(((), (1,), (*shape[:-1], 1))))], SIGNED))


def topk(draw: Draw, shape: tuple[int, ...]) -> Any:
    axis = axis_of(draw, shape)
    count, largest = draw(st.integers(0, shape[axis])), draw(st.booleans())
    return lambda x: ag.topk(x, count, axis, largest=largest)[0]


def of_segments(function: Any) -> Any:
    def made(draw: Draw, shape: tuple[int, ...]) -> Any:
        ids = integers(draw, 0, 3, shape[:1])

        def finite(x: Any) -> Any:
            result = function(x, ids, 4)
            return ag.where(ag.isfinite(result), result, 0.0)  # the largest of no rows is minus infinity

        return finite

    return shaped(made)


def checkpointed(x: Any, y: Any) -> Any:
    return ag.checkpoint(lambda a, b: (ag.tanh(a * b) * a, b * b))(x, y)


def guarded(draw: Draw) -> Case:
    sizes = [(2, 3, 4)] * 3
    return Case(ag.scaled_dot_product_attention, numbers(draw, sizes, SIGNED))


def linear(draw: Draw) -> Case:
    function = partial(ag.linear_attention, is_causal=draw(st.booleans()), chunk_size=2)
    return Case(function, numbers(draw, [(2, 3, 4)] * 3, SIGNED))


def paged(draw: Draw) -> Case:
    table = np.array(draw(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), min_size=2, max_size=2)))
    lengths = np.array(draw(st.lists(st.integers(0, 4), min_size=2, max_size=2)))
    return Case(lambda pool: ag.pages(pool, table, lengths), numbers(draw, [(3, 1, 2, 2)], SIGNED))


def largest(draw: Draw) -> Case:
    count = draw(st.integers(1, 5))
    return Case(lambda q, k, v: ag.topk_attention(q, k, v, count), numbers(draw, [(2, 3, 4)] * 3, SIGNED))


def merged(draw: Draw) -> Case:
    out = lengthy(draw)
    count = draw(st.integers(1, 3))

    def function(*arrays: Any) -> Any:
        return ag.merge_states(*zip(arrays[::2], arrays[1::2], strict=True))

    return Case(function, numbers(draw, [out, out[:-1]] * count, SIGNED))


@partial(ag.scalar_function, gradient=lambda s, t: (2 * s * t, s * s))
def product(s, t):
    return s * s * t


def permuted(draw: Draw, shape: tuple[int, ...]) -> Any:
    axes = tuple(draw(st.permutations(range(len(shape)))))
    return lambda x: ag.permute_dims(x, axes)


def chosen(function: Any, *options: Any, **keywords: st.SearchStrategy[Any]) -> Any:
    """A function of one array, and options drawn from what each strategy, made for the shape, gives."""

    def made(draw: Draw, shape: tuple[int, ...]) -> Any:
        values = [draw(each(shape)) for each in options]
        named = {name: draw(each) for name, each in keywords.items()}
        return lambda x: function(x, *values, **named)

    return made


def named(names: str, kind: Callable[..., Any], *options: Any, **keywords: Any) -> dict[str, Any]:
    """Functions of one kind by their names."""
    return {name: kind(getattr(ag, name), *options, **keywords) for name in names.split()}


def an_axis(shape: tuple[int, ...]) -> st.SearchStrategy[int]:
    return st.integers(-len(shape), len(shape) - 1)


FLAGS, SHIFTS = st.booleans(), st.integers(-4, 4)
KEEP = {"keepdims": FLAGS}
# fmt: off
UNARY = """
    abs asinh atan cos cosh elu erf exp exp2 expm1 gelu leaky_relu negative positive reciprocal relu sigmoid silu sin
    sinh softplus square tan tanh asin acos atanh sign ceil floor trunc"""
PAIRS = "add subtract multiply divide maximum minimum hypot atan2 logaddexp copysign nextafter"
# fmt: on
TABLE: dict[str, Any] = {
    **named(UNARY, elementwise, SIGNED),
    **named("log log1p log2 log10 sqrt rsqrt", elementwise, POSITIVE),
    **named(PAIRS, elementwise, SIGNED, SIGNED),
    "acosh": elementwise(ag.acosh, (1.3, 2.5, False)),
    "round": elementwise(ag.round, HIGH),
    "pow": elementwise(ag.pow, POSITIVE, SIGNED),
    "remainder": elementwise(ag.remainder, SIGNED, LARGE),
    "floor_divide": elementwise(ag.floor_divide, SIGNED, LARGE),
    "clip": clip,
    "where": where,
    "scalar_function": elementwise(product, SIGNED, SIGNED),
    "stop_gradient": elementwise(lambda x, y: ag.stop_gradient(x) * 0 + y, SIGNED, SIGNED),
    "checkpoint": elementwise(checkpointed, SIGNED, SIGNED),
    **named("sum mean prod max min logsumexp", along, **KEEP),
    **named("var std", along, **KEEP, correction=st.sampled_from((0.0, 0.5))),
    **named("softmax log_softmax l2_normalize", along, several=False),
    "softmax with a sink": with_sink,
    "cumulative_sum": along(ag.cumulative_sum, several=False, include_initial=FLAGS),
    "sort": along(ag.sort, several=False, descending=FLAGS),
    "topk": shaped(topk),
    "layer_norm": normed(ag.layer_norm, 2),
    "rms_norm": normed(ag.rms_norm, 1),
    "matmul": matmul,
    "tensordot": tensordot,
    "einsum": einsum,
    "vecdot": vecdot,
    "matrix_transpose": shaped(chosen(ag.matrix_transpose), least=2),
    "reshape": shaped(chosen(ag.reshape, lambda shape: st.sampled_from((shape[::-1], -1, (1, -1))))),
    "permute_dims": shaped(permuted),
    "moveaxis": shaped(chosen(ag.moveaxis, an_axis, an_axis)),
    "expand_dims": shaped(chosen(ag.expand_dims, axis=st.integers(-2, 1))),
    "squeeze": elementwise(lambda x: ag.squeeze(x[None], axis=0), SIGNED),
    "broadcast_to": shaped(chosen(ag.broadcast_to, lambda shape: st.sampled_from(((2, *shape), (0, 1, *shape))))),
    "broadcast_arrays": elementwise(ag.broadcast_arrays, SIGNED, SIGNED),
    "flip": shaped(chosen(lambda x, axis: ag.flip(x, axis=axis), an_axis)),
    "roll": shaped(chosen(lambda x, axis, shift: ag.roll(x, shift, axis=axis), an_axis, shift=SHIFTS)),
    "repeat": shaped(chosen(lambda x, axis, times: ag.repeat(x, times, axis=axis), an_axis, times=st.integers(0, 3))),
    "tile": shaped(chosen(ag.tile, lambda shape: st.sampled_from(((2,), (1, 2), (2, 1, 3))))),
    "tril": shaped(chosen(ag.tril, k=SHIFTS), least=2),
    "triu": shaped(chosen(ag.triu, k=SHIFTS), least=2),
    "split": shaped(chosen(lambda x, axis: ag.split(x, [1], axis=axis), an_axis)),
    "unstack": shaped(chosen(lambda x, axis: ag.unstack(x, axis=axis), an_axis)),
    "concat": joined(ag.concat),
    "stack": joined(ag.stack),
    "getitem by arrays": shaped(gathered),
    "getitem": shaped(slices),
    "take": shaped(taken),
    "take_along_axis": shaped(partial(taken_along, lambda x, i, axis: ag.take_along_axis(x, i, axis=axis))),
    "torch's gather": shaped(partial(taken_along, partial(along_axis, TorchGather))),
    **named("segment_sum segment_max segment_mean segment_softmax", of_segments),
    "attention": guarded,
    "linear_attention": linear,
    "merge_states": merged,
    "topk_attention": largest,
    "pages": paged,
    "pad": shaped(chosen(ag.pad, lambda shape: st.sampled_from((0, 1, (2, 0))))),
    "transpose": shaped(permuted),
}
