"""Halves of blocks of rows: where a mask's edge runs through, one half is computed, to what the reference says."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.codegen import schedule
from attngraph.engine.codegen.halves import Halves
from attngraph.engine.codegen.target import named_target
from attngraph.engine.errors import CompileError

WIDTH, HEADS = 20, 2
MASKS = {
    "causal": lambda i, j: i >= j,
    "to keys behind": lambda i, j: i <= j,
    "window": lambda i, j: (i >= j) & (i - j < 40),
    "window on both sides": lambda i, j: ag.abs(i - j) < 25,
    "shifted": lambda i, j: i >= j + 37,
    "documents": lambda i, j: i // 45 == j // 45,
    "two stripes": lambda i, j: (i - j < 20) & (i >= j) | (i - j > 90),
}


def _has(target):
    try:
        named_target(target)
    except CompileError:
        return False
    return True


TARGETS = [target for target in ("native", "x86-64-v2", "x86-64-v3", "x86-64-v4") if _has(target)]
LENGTHS = [(1, 1), (65, 63), (33, 130), (200, 129)]


@pytest.fixture(autouse=True)
def large_blocks(monkeypatch):
    """Sizes of tests are below what is worth a kernel, or a block of several vectors of rows."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    monkeypatch.setattr(schedule, "_is_long", lambda sweep, rows: True)


def attend(mask):
    def attended(q, k, v):
        rows, columns = q.shape[-2], k.shape[-2]
        visible = mask(ag.arange(rows)[:, None], ag.arange(columns))
        return ag.scaled_dot_product_attention(q, k, v, attn_mask=visible)

    return attended


def step(mask):
    def stepped(q, k, v, upstream):
        out, pullback = ag.vjp(attend(mask), q, k, v)
        return (out, *pullback(upstream))

    return stepped


def arrays(rows, columns):
    rng = np.random.default_rng(rows + columns)
    lengths = (rows, columns, columns, rows)
    return [rng.standard_normal((1, HEADS, length, WIDTH), dtype="float32") for length in lengths]


@pytest.mark.parametrize(
    ("name", "target"), [*((name, "native") for name in MASKS), *(("window", target) for target in TARGETS[1:])]
)
def test_is_what_the_reference_says(name, target):
    for lengths in LENGTHS:
        given = arrays(*lengths)
        with ag.config.set(target="reference64"):
            wanted = ag.compile(step(MASKS[name]))(*given)
        with ag.config.set(target=target):
            found = ag.compile(step(MASKS[name]))(*given)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-5 * max(1, np.abs(other).max(initial=0)))


def test_what_a_half_does_not_see_does_not_matter_to_it():
    q, k, v, _ = arrays(64, 64)
    out = ag.compile(attend(MASKS["causal"]))(q, k, v)
    k[:, :, 32:], v[:, :, 32:] = np.inf, np.nan
    with ag.config.set(check_finite=False):
        again = ag.compile(attend(MASKS["causal"]))(q, k, v)
    np.testing.assert_allclose(out[:, :, :32], again[:, :, :32], rtol=0, atol=1e-6)  # once more, with care


def test_full_attention_is_not_looked_at(monkeypatch, tmp_path):
    told = []
    begin = Halves.__init__

    def noted(self, writer, masks):
        begin(self, writer, masks)
        told.append(self.are_told)

    monkeypatch.setattr(Halves, "__init__", noted)
    q, k, v, _ = arrays(70, 71)
    with ag.config.set(cache_dir=str(tmp_path)):
        for attended in (ag.scaled_dot_product_attention, attend(lambda i, j: i + 11 >= j)):
            ag.compile(lambda q, k, v, attended=attended: attended(3 * q, k, v))(q, k, v)  # which no other test has
    assert told == [False, True]
