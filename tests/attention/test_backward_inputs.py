"""Gradients for inputs of any kind: lengths, heads, widths, layouts, types; hidden positions; any number of threads."""

import itertools

import numpy as np
import pytest
from gradient_checks import check_kernels
from sweeps import VARIANTS, attend, scores

import attngraph as ag
from attngraph.engine import program
from strategies import laid_out


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def arrays(rows, columns, heads=2, key_heads=2, width=16, value_width=16, dtype="float32", batch=1):
    rng = np.random.default_rng(rows + columns)
    shapes = ((heads, rows, width), (key_heads, columns, width), (key_heads, columns, value_width))
    return [rng.standard_normal((batch, *shape)).astype(dtype) for shape in shapes]


def attention(is_causal):
    return lambda q, k, v: ag.attention(q, k, v, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1])


CAUSAL = [False, True, "lower_right"]
LENGTHS = [(0, 0), (0, 5), (5, 0), (1, 1), (1, 40), (40, 1), (3, 17), (37, 16), (16, 97), (101, 67)]


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("causal", CAUSAL)
def test_lengths_widths_and_groups(causal, lengths):
    for (width, value_width), (heads, key_heads) in zip(
        [(16, 16), (1, 1), (7, 5)], [(2, 2), (4, 2), (3, 1)], strict=True
    ):
        check_kernels(attention(causal), *arrays(*lengths, heads, key_heads, width, value_width))


# Results are rounded to their type once, and scores computed of what was rounded.
@pytest.mark.parametrize(("dtype", "within"), [("float64", 1e-12), ("float16", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("causal", CAUSAL)
def test_types(causal, dtype, within):
    given = arrays(37, 41, dtype=ag.zeros(1, dtype=dtype).dtype)
    found = check_kernels(attention(causal), *given, within=within)
    assert {each.dtype.name for each in found} == {dtype}


@pytest.mark.parametrize("layout", ["fortran", "reversed", "strided", "transposed", "read-only", "misaligned"])
def test_layouts(layout):
    for causal, key_heads in itertools.product([False, True], [4, 2]):
        check_kernels(attention(causal), *(laid_out(each, layout) for each in arrays(45, 45, 4, key_heads, batch=2)))


def by_mask(q, k, v):
    visible = np.ones((40, 50), bool)
    visible[:, 7] = visible[5] = visible[:, 40:] = False
    return ag.attention(q, k, v, mask=visible)


def by_predicate(q, k, v):
    mask = ag.create_block_mask(lambda b, h, i, j: (j < 40) & (j != 7) & (i != 5), None, None, 40, 50)
    return ag.flex_attention(q, k, v, block_mask=mask)


def upper_left(q, k, v):
    return ag.attention(q, k, v, is_causal=True)  # 40 queries: the keys behind them are seen by none


@pytest.mark.parametrize("attend", [by_mask, by_predicate, upper_left])
def test_what_is_hidden_holds_anything_and_gets_nothing(attend):
    q, k, v = arrays(40, 50)
    for each, junk in ((k, np.nan), (v, np.inf)):
        each[:, :, 40:] = junk
        if attend is not upper_left:
            each[:, :, 7] = junk
    out, dq, dk, dv = check_kernels(attend, q, k, v)
    hidden = [dk[:, :, 40:], dv[:, :, 40:]]
    if attend is not upper_left:
        hidden += [dk[:, :, 7], dv[:, :, 7], dq[:, :, 5], out[:, :, 5]]
    assert not any(each.any() for each in hidden)


def test_one_key_that_most_queries_do_not_see():
    def last_alone(q, k, v):
        return attend(ag.where(ag.arange(40)[:, None] >= 39, scores(q, k), -ag.inf), v)

    check_kernels(last_alone, *arrays(40, 1))


def step(attend):
    def both(q, k, v, upstream):
        value, pullback = ag.vjp(attend, q, k, v)
        return (value, *pullback(upstream))

    return both


THREADED = ["plain", "causal", "softcap", "alibi", "relative table", "sigmoid", "gated", "groups", "documents", "sink"]


@pytest.mark.parametrize("name", THREADED)
def test_the_same_bits_for_any_number_of_threads(name):
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((2, 3, 300, 16), dtype="float32") for _ in range(4)]
    found = []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            found += [ag.compile(step(VARIANTS[name][0]))(*given), ag.compute(*step(VARIANTS[name][0])(*given))]
    for other in found[1:]:
        for result, wanted in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_the_same_bits_of_few_heads(causal, heads):
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((1, heads, 1500, 16), dtype="float32") for _ in range(4)]
    found = []
    for threads in (1, 2, 3):
        with ag.config.set(threads=threads):
            found.append(ag.compile(step(attention(causal)))(*given))
    for other in found[1:]:
        for result, wanted in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(result, wanted)
