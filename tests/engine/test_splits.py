"""Where sweeps are cut along their columns."""

import numpy as np
import pytest
from cut import UNIT, cut_whatever_the_work

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.splits import ROW_UNIT, splits_of


def sweep_of(heads, rows, columns, width=64):
    q, k = (ag.placeholder((heads, length, width)) for length in (rows, columns))
    (sweep,) = Program(optimize([ag.attention(q, k, k).node])).plan.sweeps
    return sweep


@pytest.mark.parametrize(
    ("heads", "rows", "columns"), [(8, 4096, 4096), (1, 4096, 1 << 20), (64, 1, 1 << 20), (8, 1, 4096), (1, 1, 20_000)]
)
def test_one_where_there_are_tasks_enough_or_little_work(heads, rows, columns):
    splits = splits_of(sweep_of(heads, rows, columns))
    assert (splits.count, splits.first(0), splits.first(1)) == (1, 0, columns)


@pytest.mark.parametrize("heads", [1, 3, 8, 63])
@pytest.mark.parametrize("rows", [1, 8, 16, 64])
@pytest.mark.parametrize("columns", [1 << 18, (1 << 18) + 1, 524_288, 999_999])
def test_few_rows_make_many_tasks_of_long_sequences(heads, rows, columns):
    splits = splits_of(sweep_of(heads, rows, columns))
    assert splits.count > 1
    assert splits.size % UNIT == 0
    firsts = [splits.first(number) for number in range(splits.count + 1)]
    assert firsts[0] == 0
    assert firsts[-1] == columns
    lengths = np.diff(firsts)
    assert set(lengths[:-1]) == {splits.size}
    assert UNIT <= lengths[-1] < splits.size + UNIT


def test_splits_of_very_long_sequences_are_no_longer_for_that():
    assert splits_of(sweep_of(8, 64, 1 << 24)).count in (16, 17)
    assert splits_of(sweep_of(8, 64, 10**8)).size <= 1 << 20
    assert splits_of(sweep_of(8, 64, 10**9)).count in (256, 257)


def test_results_of_columns_are_not_split():
    q, k = ag.placeholder((1, 64, 64)), ag.placeholder((1, 1 << 19, 64))
    _, pullback = ag.vjp(lambda k: ag.attention(q, k, k), k)
    sweeps = Program(optimize([each.node for each in pullback(q)])).plan.sweeps
    assert sweeps
    assert all(splits_of(sweep).count == 1 for sweep in sweeps if sweep.adds_up)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("rows", [1, 3, 64, 5000])
@pytest.mark.parametrize("width", [4, 64, 256])
def test_units_are_multiples_of_what_kernels_have(monkeypatch, target, rows, width):
    cut_whatever_the_work(monkeypatch)
    q, k = (ag.asarray(np.ones((1, length, width), "float32")) for length in (rows, 100))
    try:
        with ag.config.set(target=target):
            made = Program(optimize([ag.attention(q, k, k).node]))
            (kernel,) = made.kernels.values()
            schedule, _, block_rows = kernel.schedule(config.settings())
    except ag.CompileError as reason:
        pytest.skip(str(reason))
    assert UNIT % schedule.block == 0
    assert ROW_UNIT % block_rows == 0
