"""Streaming: exponents that are logarithms, products that leave the sum, sums that are taken apart."""

import pytest
from planned import check_plan, operations
from sweeps import array, attend, causal, differences, inputs, scores

import attngraph as ag


def distance(q, k):
    return (differences(q, k) ** 2).sum(-1)


# Scores whose softmax needs neither an exponential nor a maximum.
LOGARITHMS = {
    "log1p": lambda q, k: -ag.log1p(distance(q, k)),
    "log": lambda q, k: ag.log(1 + ag.abs(scores(q, k))),
    "hidden": lambda q, k: causal(-ag.log1p(distance(q, k)), q, k),
    "hidden the other way": lambda q, k: (
        -ag.where(ag.arange(q.shape[-2])[:, None] < ag.arange(k.shape[-2]), ag.inf, ag.log1p(distance(q, k)))
    ),
    "with a term of rows": lambda q, k: array(q.shape[-2], 1) - ag.log1p(distance(q, k)),
}
# And some that do, for all their logarithms.
EXPONENTS = {
    "twice": lambda q, k: -2 * ag.log1p(distance(q, k)),
    "with another term": lambda q, k: scores(q, k) - ag.log1p(distance(q, k)),
    "two of them": lambda q, k: -ag.log1p(distance(q, k)) - ag.log1p(ag.abs(scores(q, k))),
}


@pytest.mark.parametrize("name", LOGARITHMS)
def test_the_exponential_of_a_logarithm_is_a_factor(name):
    q, k, v = inputs()
    s = LOGARITHMS[name](q, k)
    plan = check_plan(attend(s, v), ag.logsumexp(s, axis=-1))
    assert not plan.sweeps[0].groups
    assert not {"log", "log1p", "exp"} & operations(plan)


@pytest.mark.parametrize("name", EXPONENTS)
def test_other_logarithms_stay_in_the_exponent(name):
    q, k, v = inputs()
    s = EXPONENTS[name](q, k)
    plan = check_plan(attend(s, v), ag.logsumexp(s, axis=-1))
    assert len(plan.sweeps[0].groups) == 1
    assert "log1p" not in operations(plan)  # where absolute errors count, log(1 + x) does


def test_large_multiples_keep_the_exact_logarithm():
    q, k, v = inputs()
    assert "log1p" in operations(check_plan(attend(-100 * ag.log1p(distance(q, k) * 1e-3), v)))


def test_a_score_as_a_factor_keeps_the_exact_logarithm():
    q, k, _ = inputs()
    s = -ag.log1p(distance(q, k))
    assert "log1p" in operations(check_plan((ag.softmax(s, axis=-1) * s).sum(-1)))


def test_terms_of_one_coefficient_are_multiplied_once():
    q, k, v = inputs()
    bias = [array(q.shape[-2], k.shape[-2], seed=seed) for seed in range(3)]
    plan = check_plan(attend((scores(q, k) + bias[0] - bias[1] + bias[2]) / 3, v))
    (sweep,) = plan.sweeps
    assert str(sweep).count("0.333") == 1
