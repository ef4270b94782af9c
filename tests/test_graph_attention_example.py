"""A small graph attention network that learns: nodes of three kinds, whose own features do not tell them apart."""

import numpy as np

import attngraph as ag

NODES, KINDS, FEATURES, HEADS, WIDTH, DEGREE = 300, 3, 8, 4, 4, 12
RATE, STEPS = 0.02, 40


def made_graph():
    """Nodes, of which half are labelled; their neighbours are mostly of their kind, their features mostly noise."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, KINDS, NODES)
    target = np.repeat(np.arange(NODES), DEGREE)
    likely = np.where(kinds[target][:, None] == kinds, 16.0, 1.0)
    source = (likely.cumsum(1) / likely.sum(1, keepdims=True) > rng.random((len(target), 1))).argmax(1)
    features = rng.standard_normal((NODES, FEATURES)) + np.eye(KINDS, FEATURES)[kinds]
    return features.astype("float32"), np.stack([source, target]), kinds, rng.random(NODES) < 0.5


def attend(csr, x, layer):
    """One layer (arXiv:1710.10903): (nodes, features) to (nodes, heads, width)."""
    h = ag.einsum("ni,ihf->nhf", x, layer["weight"])
    score = ag.sum(h * layer["source"], axis=-1)[csr.src] + ag.sum(h * layer["target"], axis=-1)[csr.dst]
    alpha = ag.segment_softmax(ag.leaky_relu(score, 0.2), csr.dst, csr.num_nodes)
    return ag.segment_sum(alpha[..., None] * h[csr.src], csr.dst, csr.num_nodes)


def network(csr, x, first, second):
    """Two layers, the second one's heads averaged: a score for each kind."""
    hidden = ag.elu(attend(csr, x, first).reshape((NODES, HEADS * WIDTH)))
    return ag.mean(attend(csr, hidden, second), axis=1)


def layer_of(rng, features, width):
    shapes = {"weight": (features, HEADS, width), "source": (HEADS, width), "target": (HEADS, width)}
    return {name: rng.standard_normal(shape, dtype="float32") * np.float32(0.3) for name, shape in shapes.items()}


def adam(parameters, gradients, state, step):
    """Kingma and Ba, arXiv:1412.6980, in place."""
    for key, (mean, square) in state.items():
        layer, name = key
        mean += 0.1 * (gradients[layer][name] - mean)
        square += 0.01 * (gradients[layer][name] ** 2 - square)
        parameters[layer][name] -= RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)


def test_it_learns_kinds_from_neighbours():
    features, edge_index, kinds, labelled = made_graph()
    csr = ag.CSR.from_edge_index(edge_index, NODES).remove_self_loops().add_self_loops()
    wanted = np.eye(KINDS, dtype="float32")[kinds] * labelled[:, None] / np.float32(labelled.sum())

    def loss(first, second):
        return -ag.sum(ag.log_softmax(network(csr, features, first, second), axis=-1) * wanted)

    rng = np.random.default_rng(0)
    parameters = [layer_of(rng, FEATURES, WIDTH), layer_of(rng, HEADS * WIDTH, KINDS)]
    state = {
        (number, name): (np.zeros_like(value), np.zeros_like(value))
        for number, layer in enumerate(parameters)
        for name, value in layer.items()
    }
    step = ag.compile(ag.value_and_grad(loss, argnums=(0, 1)))
    losses = []
    for number in range(1, STEPS + 1):
        value, gradients = step(*parameters)
        losses.append(float(value))
        adam(parameters, gradients, state, number)
    found = network(csr, features, *parameters).compute().argmax(axis=-1)
    assert losses[-1] < 0.2 * losses[0]
    assert (found == kinds)[labelled].mean() > 0.95
    assert (found == kinds)[~labelled].mean() > 0.95  # of which it was told nothing
    # Without neighbours the features do not tell: the nearest mean of the labelled ones.
    means = np.stack([features[labelled & (kinds == kind)].mean(0) for kind in range(KINDS)])
    alone = ((features[:, None] - means) ** 2).sum(-1).argmin(1)
    assert (alone == kinds)[~labelled].mean() < 0.75
