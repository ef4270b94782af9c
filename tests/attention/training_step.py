"""One step of training an attention, for tests that look at how it runs."""

import numpy as np

import attngraph as ag

LENGTH = 150


def arrays(heads=2, width=16):
    """Queries, keys, values, and the gradient that arrives."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, heads, LENGTH, width), dtype="float32") for _ in range(4)]


def step(attend):
    """The output and all gradients of an attention."""

    def both(q, k, v, upstream):
        out, pullback = ag.vjp(attend, q, k, v)
        return (out, *pullback(upstream))

    return both
