"""Measured explanations: every step's time beside the roofline."""

import numpy as np
import pytest

import attngraph as ag


def arrays():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((2, 4, 256, 32)).astype("float32") for _ in range(3)]


def attend(q, k, v):
    return ag.softmax(q @ k.mT / 6, axis=-1) @ v


def test_an_expression():
    measurement = ag.explain(attend(*map(ag.asarray, arrays()))).measure(rounds=2)
    (step,) = measurement.steps
    assert step.name.startswith("sweep of matmul")
    assert step.least_seconds > 0
    assert 0 < step.seconds == measurement.seconds
    assert measurement.decided
    assert "of the roofline" in str(measurement)
    assert "Gflop/s of multiply-adds" in str(measurement)


def test_a_compiled_function_on_arrays_of_ones_own_or_on_random_ones():
    compiled = ag.compile(attend)
    compiled(*arrays())
    assert len(ag.explain(compiled).measure(*arrays(), rounds=1).steps) == 1
    assert len(ag.explain(compiled).measure(rounds=1).steps) == 1


def test_steps_of_numpy_are_measured_too():
    x, w = ag.placeholder((64, 384)), ag.placeholder((384, 384))
    measurement = ag.explain(ag.relu(x @ w) @ w).measure(rounds=1)
    assert [step.name.split()[0] for step in measurement.steps].count("<matmul") == 2


def test_what_is_in_doubt_is_said():
    q, k, v = map(ag.asarray, arrays())
    outside = k[:, :, ag.asarray(np.full(256, 256))]
    measurement = ag.explain(attend(q, outside, v)).measure(rounds=1)
    assert not measurement.decided
    assert "in doubt" in str(measurement)


def test_what_is_computed_again_with_care_is_decided():
    q, k, v = arrays()
    v[:] = np.inf
    assert ag.explain(attend(*map(ag.asarray, (q, k, v)))).measure(rounds=1).decided


def test_errors():
    x = ag.placeholder((3, 4))
    explained = ag.explain(x * 2)
    with pytest.raises(ag.ArgumentError, match="2 arrays for 1"):
        explained.measure(np.ones((3, 4)), np.ones((3, 4)))
    with pytest.raises(ag.ArgumentError, match=r"shape \(4, 3\)"):
        explained.measure(np.ones((4, 3)))
    with pytest.raises(ag.ArgumentError, match="rounds"):
        explained.measure(rounds=0)
    with ag.config.set(target="reference"), pytest.raises(ag.ArgumentError, match="reference"):
        ag.explain(x * 2).measure()
