"""Gradients of every variant and of every FlexAttention program: right in float64, and the same through kernels."""

import numpy as np
import pytest
from flex_programs import BATCH, PROGRAMS, Library, functions
from gradient_checks import check_along, check_kernels
from sweeps import VARIANTS, B, H

import attngraph as ag
from attngraph.engine import program

HEADS, KEY_HEADS, LENGTH, WIDTH = 4, 2, 45, 16


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


def qkv(rows=37, columns=41, width=8, value_width=None, seed=0):
    """On grids half a step apart: no difference of a query and a key is near a kink of |x| or relu."""
    rng = np.random.default_rng(seed)
    shapes = ((B, H, rows, width), (B, H, columns, width), (B, H, columns, value_width or width))
    q, k, v = (np.round(rng.standard_normal(shape) * 16) / 16 for shape in shapes)
    return [each.astype("float32") for each in (q + 1 / 32, k, v)]


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_in_float64(name):
    check_along(VARIANTS[name][0], *qkv(rows=5, columns=6))


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_through_kernels(name):
    check_kernels(VARIANTS[name][0], *qkv(), within=3e-5)


def captured(each, length):
    """The floats that a program captures."""
    found = []

    def keep(table):
        if table.dtype.kind == "f":
            found.append(table)
        return ag.asarray(table)

    functions(each, length, HEADS, Library("attngraph", keep, ag))
    return found


def attends(each, length):
    """The attention of a program as a function of q, k, v and of the floats that it captures."""

    def attend(q, k, v, *tables):
        rest = iter(tables)
        library = Library("attngraph", lambda table: next(rest) if table.dtype.kind == "f" else ag.asarray(table), ag)
        score_mod, mask_mod = functions(each, length, HEADS, library)
        block = None
        if mask_mod is not None:
            sizes = BATCH if each.batch else None, HEADS if each.head else None
            block = ag.create_block_mask(mask_mod, *sizes, length, length)
        return ag.flex_attention(q, k, v, score_mod, block, enable_gqa=True)

    return attend


def arguments(each, length, seed=0):
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((BATCH, heads, length, WIDTH)) for heads in (HEADS, KEY_HEADS, KEY_HEADS)]
    return [array.astype("float32") for array in arrays] + captured(each, length)


@pytest.mark.parametrize("each", PROGRAMS, ids=lambda each: each.name)
def test_programs_in_float64(each):
    check_along(attends(each, 13), *arguments(each, 13))


@pytest.mark.parametrize("each", PROGRAMS, ids=lambda each: each.name)
def test_programs_through_kernels(each):
    check_kernels(attends(each, LENGTH), *arguments(each, LENGTH))


def test_long_contractions_of_few_rows_are_not_written_out():
    (each,) = [each for each in PROGRAMS if each.name == "sandwich"]
    given = list(map(ag.asarray, arguments(each, LENGTH)))
    _, pullback = ag.vjp(attends(each, LENGTH), *given)
    report = ag.explain(list(pullback(np.ones((BATCH, HEADS, LENGTH, WIDTH), "float32"))))
    assert max(len(kernel.llvm) for kernel in report.kernels) < 1e6
