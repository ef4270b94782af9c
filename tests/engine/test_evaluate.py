"""From expressions to arrays: targets, limits, results of their own, out."""

import numpy as np
import pytest
from hypothesis import given

import attngraph as ag
from attngraph.engine.evaluate import check_out, inputs_of, own, write_out
from attngraph.engine.memory import plan_memory
from strategies import expressions

RNG = np.random.default_rng(0)


def test_reference64_computes_and_returns_float64():
    x = RNG.standard_normal((3, 4)).astype("float32")
    with ag.config.set(target="reference64"):
        result = (ag.exp(ag.asarray(x)) * 0.1).compute()
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, np.exp(x.astype(float)) * 0.1, rtol=1e-15)


def test_reference_runs_the_graph_as_written():
    x = ag.asarray(RNG.standard_normal(5).astype("float32"))
    with ag.config.set(target="reference"):
        np.testing.assert_array_equal((x * 1 + 0).compute(), x.compute())


@given(expression=expressions(dtypes=("float32",)))
def test_results_own_their_memory(expression):
    result = expression.compute()
    assert type(result) is np.ndarray
    assert result.flags.owndata or result.base is None
    assert result.flags.c_contiguous
    assert result.flags.writeable
    assert (result.shape, result.dtype) == (expression.shape, expression.dtype)


def test_results_share_nothing():
    data = np.ones((3, 4))
    x = ag.asarray(data)
    one, two, three, four = ag.compute(x, x, x.T, x[1:])
    arrays = [data, one, two, three, four]
    for number, left in enumerate(arrays):
        assert not any(np.shares_memory(left, right) for right in arrays[number + 1 :])
    one[...] = 7
    assert (data == 1).all()


def test_compute_takes_several_and_anything():
    assert ag.compute(ag.asarray(3)).shape == ()
    left, right = ag.compute(np.arange(3), 2.5)
    assert left.tolist() == [0, 1, 2]
    assert right == 2.5
    with pytest.raises(ag.ArgumentError, match="one expression or more"):
        ag.compute()


def test_captured_arrays_are_read_at_every_evaluation():
    data = np.zeros(3)
    x = ag.asarray(data) + 1
    assert x.compute().tolist() == [1, 1, 1]
    data[1] = 5
    assert x.compute().tolist() == [1, 6, 1]


def test_placeholders_without_data():
    with pytest.raises(ag.ArgumentError, match="placeholder 'x' of type float32\\[2\\] has no data"):
        (ag.placeholder((2,), name="x") + 1).compute()


def test_memory_limit_is_held_before_running():
    x = ag.asarray(np.ones((100, 100)))
    y = (x @ x) + 1
    peak = plan_memory([y.node]).peak_bytes
    assert peak >= 2 * 80_000
    with ag.config.set(memory_limit=peak - 1), pytest.raises(ag.LimitError, match=f"smallest possible is {peak}"):
        y.compute()
    with ag.config.set(memory_limit=peak):
        assert (y.compute() == 101).all()


def test_intermediates_are_released():
    x = ag.asarray(np.ones(1000))
    for _ in range(50):
        x = ag.sin(x)
    assert plan_memory([x.node]).peak_bytes <= 2 * 8000
    assert "peak 16,000 bytes, at sin" in str(plan_memory([x.node]))


def test_own_copies_inputs_and_doubles():
    data = np.ones(3)
    fresh = np.zeros(3)
    results = own([data, fresh, fresh, data[::-1]], [data])
    assert results[0] is not data
    assert results[1] is fresh
    assert results[2] is not fresh
    assert results[3].flags.c_contiguous


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ([1.0, 2.0], "NumPy array"),
        (np.zeros(2, "float32"), "float32"),
        (np.zeros(3), r"float64\[3\]"),
        (np.broadcast_to(np.zeros(2), 2), "read-only"),
        (np.lib.stride_tricks.as_strided(np.zeros(1), (2,), (0,)), "share memory"),
    ],
)
def test_out_is_checked(out, said):
    with pytest.raises(ag.ArgumentError, match=said):
        check_out(out, (2,), np.dtype(float))


def test_nothing_is_written_when_one_out_is_bad():
    good, bad = np.zeros(2), np.zeros(3)
    with pytest.raises(ag.ArgumentError):
        write_out([np.ones(2), np.ones(2)], [good, bad], [])
    assert (good == 0).all()
    with pytest.raises(ag.ArgumentError, match="overlap"):
        write_out([np.ones(2), np.ones(2)], [good, good], [])
    with pytest.raises(ag.ArgumentError, match="input"):
        write_out([np.ones(2)], [good], [good])
    write_out([np.ones(2)], [good], [bad])
    assert (good == 1).all()


def test_interleaved_views_do_not_overlap():
    memory = np.zeros(8)
    write_out([np.ones(4)], [memory[::2]], [memory[1::2]])
    assert memory.tolist() == [1, 0] * 4


def test_inputs_are_the_arrays_that_are_read():
    data = np.ones(3)
    assert inputs_of([(ag.asarray(data) + 1).node])[0] is data


@pytest.mark.parametrize("threads", [2, 5])
def test_same_bits_for_any_number_of_threads(threads):
    q, k, v = (RNG.standard_normal((2, 3, 300, 40)).astype("float32") for _ in range(3))
    expression = ag.attention(q, k, v, is_causal=True)
    with ag.config.set(threads=1):
        one = expression.compute()
    with ag.config.set(threads=threads):
        np.testing.assert_array_equal(one, expression.compute())


@pytest.mark.parametrize("target", ["native", "reference", "reference64"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("broadcast_to", lambda x: ag.zeros((10**6,) * 3)),
        ("matmul", lambda x: x @ x.mT),
        ("multiply|exp|add", lambda x: ag.exp((x[:, :1] + x[:, 0]) * 2)),
        ("softmax|add|exp", lambda x: ag.softmax(x[:, :1] + x[:, 0])),
    ],
)
def test_memory_that_there_is_not(name, make, target):
    x = np.broadcast_to(np.float32(1), (10**7, 2))
    with ag.config.set(target=target):
        for call in (lambda: make(ag.asarray(x)).compute(), lambda: ag.compile(make)(x)):
            with pytest.raises(ag.LimitError, match=rf"({name}).*: there is no memory for \d+ bytes") as caught:
                call()
            assert isinstance(caught.value.__cause__, MemoryError)
