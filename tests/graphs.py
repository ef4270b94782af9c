"""What tests of graph attention share: ragged graphs, layers written with gathers and segment operations."""

import hypothesis.strategies as st
import numpy as np

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.interpreter import interpret
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program
from attngraph.engine.segment_loop import SegmentLoop


def gat(h, left, right, extra, src, dst, nodes):
    """Veličković 2018: LeakyReLU of a sum, with what edges bring."""
    scores = ag.sum(h * left, axis=-1)[src] + ag.sum(h * right, axis=-1)[dst] + extra
    return weighted(ag.leaky_relu(scores, 0.2), h, src, dst, nodes)


def gatv2(h, left, right, extra, src, dst, nodes):
    """Brody 2022: the nonlinearity inside."""
    scores = ag.sum(ag.leaky_relu(h[src] + (h * right)[dst], 0.2) * left, axis=-1)
    return weighted(scores + extra, h, src, dst, nodes)


def products(h, left, right, extra, src, dst, nodes):
    scores = ag.sum((h * left)[src] * (h * right)[dst], axis=-1)
    return weighted(scores + extra, h, src, dst, nodes)


def distances(h, left, right, extra, src, dst, nodes):
    apart = ag.sum((h[src] * left - h[dst] * right) ** 2, axis=-1)
    return weighted(extra - apart, h, src, dst, nodes)


def weighted(scores, h, src, dst, nodes):
    weights = ag.segment_softmax(scores, dst, nodes)
    return ag.segment_sum(weights[..., None] * h[src], dst, nodes), weights


def mean(h, left, right, extra, src, dst, nodes):
    return ag.segment_mean(h[src] * extra[..., None] + left, dst, nodes) * right, extra * 2


def largest(h, left, right, extra, src, dst, nodes):
    found = ag.segment_max(h[src] * extra[..., None], dst, nodes)
    return ag.where(found == -ag.inf, 0.0, found) * right + left, extra * 2


def moments(h, left, right, extra, src, dst, nodes):
    middle = ag.segment_mean(h[src] * left, dst, nodes)
    return ag.segment_mean((h[src] * left - middle[dst]) ** 2, dst, nodes) * right, extra * 2


LAYERS = (gat, gatv2, products, distances, mean, largest, moments)
KINDS = ("random", "sorted", "hub", "loops", "few")


def edges(kind, nodes, count, seed=0):
    """Sources (some counted from the end) and targets of ``count`` edges."""
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(-nodes, nodes, count), rng.integers(0, nodes, count)
    if kind == "sorted":
        dst = np.sort(dst)
    elif kind == "hub":
        dst = np.where(rng.random(count) < 0.9, nodes // 2, dst)
    elif kind == "loops":
        dst = src % nodes
    elif kind == "few":  # repeated edges, and nodes without any
        src, dst = src // 3, dst // 3
    return src, dst


class Problem:
    """One layer on one graph, its arrays, and its results with all gradients."""

    def __init__(self, layer, kind="random", nodes=11, count=60, heads=2, features=3, dtype="float32", seed=0):
        rng = np.random.default_rng(seed)

        def array(*shape):
            return ag.asarray(rng.standard_normal(shape).astype(dtype))

        src, dst = edges(kind, nodes, count, seed)
        self.h, self.left, self.right = (array(each, heads, features) for each in (nodes, 1, 1))
        self.extra, self.seed = array(count, heads), array(nodes, heads, features)
        self.inputs = [self.h, self.left, self.right, self.extra]
        self.out, self.edge = layer(*self.inputs, ag.asarray(src), ag.asarray(dst), nodes)

    def gradients(self):
        return ag.gradients(ag.sum(self.out * self.seed) + ag.sum(self.edge * self.extra), self.inputs)


problems = st.builds(
    Problem,
    layer=st.sampled_from(LAYERS),
    kind=st.sampled_from(KINDS),
    nodes=st.sampled_from((2, 3, 17, 40)),
    count=st.sampled_from((2, 33, 200)),
    heads=st.sampled_from((1, 3, 8)),
    features=st.sampled_from((1, 3, 5, 8, 17)),
    dtype=st.sampled_from(("float32", "float64")),
    seed=st.integers(0, 5),
)


def planned(results):
    return Program(optimize([each.node for each in results]))


def loops_of(program):
    return [step for step in program.plan.steps if isinstance(step, SegmentLoop)]


def compare(results, *, tolerance=1e-5, settings=None):
    """Run through kernels, and against float64; the program that ran."""
    program = planned(results)
    found = program.run({}, settings or config.settings(), check_finite=False)
    assert found is not None
    for value, wanted in zip(found, interpret([each.node for each in results], {}, all64=True), strict=True):
        error = tolerance if value.dtype == np.float32 else 1e-12
        scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
        np.testing.assert_allclose(value, wanted, rtol=error, atol=error * scale)
    return program
