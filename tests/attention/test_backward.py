"""Gradients of attentions as sweeps: how many, of what kind, and how exact; and a model that learns by them."""

import distances
import numpy as np
import pytest
from training_step import LENGTH, arrays, step

import attngraph as ag
from attngraph.engine import program


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)


DOCUMENTS = np.sort(np.random.default_rng(7).integers(0, 5, LENGTH))


def scores(q, k):
    return q @ k.mT / 4


def masked(visible):
    def attend(q, k, v):
        mask = ag.create_block_mask(visible, None, None, LENGTH, LENGTH)
        return ag.flex_attention(q, k, v, block_mask=mask)

    return attend


def softcap(q, k, v):
    return ag.flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: ag.tanh(s / 5) * 5)


def of_documents(b, h, i, j):
    documents = ag.asarray(DOCUMENTS)
    return (documents[i] == documents[j]) & (i >= j)


def below_diagonal():
    return ag.arange(LENGTH)[:, None] >= ag.arange(LENGTH)


def learned(attend):
    """An attention whose weights of elements are an input, too: its values' first row."""
    return lambda q, k, v: attend(q, k, v, v[0, 0, 0])


def gated_causally(q, k, v):
    visible = below_diagonal()
    return (ag.softmax(ag.where(visible, scores(q, k), -ag.inf)) * ag.sigmoid(scores(q, k))) @ v


def softmax_plus_one(q, k, v):
    visible = below_diagonal()
    shown = ag.where(visible, scores(q, k), -ag.inf)
    largest = ag.maximum(ag.max(shown, axis=-1, keepdims=True), 0)
    weights = ag.exp(shown - largest)
    return weights / (ag.exp(-largest) + ag.sum(weights, axis=-1, keepdims=True)) @ v


ONE_PASS = {
    "plain": ag.attention,
    "causal": lambda q, k, v: ag.attention(q, k, v, is_causal=True),
    "window": masked(lambda b, h, i, j: (i >= j) & (i - j < 20)),
    "documents": masked(of_documents),
    "softcap": softcap,
    "sigmoid": lambda q, k, v: ag.sigmoid(scores(q, k)) @ v,
    "gated": lambda q, k, v: (ag.softmax(scores(q, k)) * ag.sigmoid(scores(q, k))) @ v,
    "gated, causal": gated_causally,
    "poincare": lambda q, k, v: distances.poincare(q / 20, k / 20, v),
    "poincare, causal": lambda q, k, v: distances.poincare(q / 20, k / 20, v, below_diagonal()),
    "squared distance": distances.squared,
    "l1 distance": distances.l1,
    "l1 distance, causal": lambda q, k, v: distances.l1(q, k, v, below_diagonal()),
    "gatv2": learned(distances.gatv2),
    "additive": learned(distances.additive),
}


@pytest.mark.parametrize("name", ONE_PASS)
def test_all_gradients_are_one_pass(name):
    given = arrays()
    lazy = step(ONE_PASS[name])(*map(ag.asarray, given))
    report = ag.explain(list(lazy))
    backward = [kernel for kernel in report.kernels if "sum over rows" in kernel.ir]
    sweeps = [kernel for kernel in report.kernels if "sweep" in kernel.ir]
    assert len(backward) == 1, report
    assert len(sweeps) <= 2, report
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    for found, right in zip(ag.compile(step(ONE_PASS[name]))(*given), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=2e-5 * np.abs(right).max())


def test_every_sweep_that_is_planned_is_written():
    given = arrays()
    lazy = step(softmax_plus_one)(*map(ag.asarray, given))
    assert all("compiled in" in str(kernel) for kernel in ag.explain(list(lazy)).kernels)
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    for found, right in zip(ag.compute(*lazy), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=2e-5, atol=2e-5 * np.abs(right).max())


def test_what_hides_both_terms_of_a_weight_stands_outside():
    given = arrays()
    report = ag.explain(list(step(gated_causally)(*map(ag.asarray, given))))
    (backward,) = [kernel for kernel in report.kernels if "sum over rows" in str(kernel)]
    sums = [line for line in str(backward).splitlines() if line.strip().startswith("sum")]
    assert len(sums) == 3
    assert all(": where(" in line for line in sums), sums


@pytest.mark.parametrize("name", ["slopes", "softcap"])
def test_parameters_of_a_score_learn_in_the_same_pass(name):
    def attend(q, k, v, parameter):
        def score(s, b, h, i, j):
            if name == "slopes":
                return s + parameter[h] * (j - i)
            return ag.tanh(s / parameter) * parameter

        return ag.flex_attention(q, k, v, score_mod=score)

    *given, upstream = arrays()
    given.append(np.array([0.1, 0.02] if name == "slopes" else 5.0, "float32"))
    _, pullback = ag.vjp(attend, *given)
    lazy = pullback(upstream)
    report = ag.explain(list(lazy))
    assert sum("sum over rows" in kernel.ir for kernel in report.kernels) == 1, report
    with ag.config.set(target="reference64"):
        wanted = ag.compute(*lazy)
    for found, right in zip(ag.compute(*lazy), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-4, atol=2e-5 * np.abs(right).max())


def test_one_gradient_alone_makes_no_other():
    q, k, v, upstream = map(ag.asarray, arrays())
    found = ag.gradients(ag.attention(q, k, v), q, upstream)
    report = ag.explain(found)
    assert not any("sum over rows" in kernel.ir for kernel in report.kernels)
    with ag.config.set(target="reference64"):
        wanted = found.compute()
    np.testing.assert_allclose(found.compute(), wanted, rtol=2e-5, atol=2e-5)


def test_no_array_of_all_scores_is_made():
    given = [np.zeros((1, 1, 4096, 64), "float32")] * 4
    report = ag.explain(list(step(ONE_PASS["causal"])(*map(ag.asarray, given))))
    assert report.memory.peak_bytes < 4096 * 4096


@pytest.mark.parametrize("causal", [False, True])
def test_as_torch_has_it(causal):
    torch = pytest.importorskip("torch")
    given = arrays()
    found = ag.compile(step(ONE_PASS["causal" if causal else "plain"]))(*given)
    q, k, v = (torch.from_numpy(each.astype("float64")).requires_grad_() for each in given[:3])
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    wanted = torch.autograd.grad(out, (q, k, v), torch.from_numpy(given[3].astype("float64")))
    for result, right in zip(found, (out.detach(), *wanted), strict=True):
        np.testing.assert_allclose(result, right.numpy(), rtol=2e-5, atol=2e-5)


# --- a model that learns to repeat what it has read, by plain gradient descent

SYMBOLS, HALF, WIDTH, HEADS = 6, 8, 32, 2


def initial(rng):
    def weights(*shape):
        return (rng.standard_normal(shape) / np.sqrt(shape[0])).astype("float32")

    layer = {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH), "up": (WIDTH, 2 * WIDTH), "down": (2 * WIDTH, WIDTH)}
    layers = [
        {
            **{name: weights(*shape) for name, shape in layer.items()},
            "bias": np.zeros((HEADS, 4 * HALF), "float32"),
            "slope": np.full(HEADS, 0.1, "float32"),
            "temperature": np.ones(HEADS, "float32"),
        }
        for _ in range(2)
    ]
    return {
        "symbols": weights(SYMBOLS + 1, WIDTH) * 2,
        "places": weights(2 * HALF, WIDTH),
        "layers": layers,
        "answers": weights(WIDTH, SYMBOLS),
    }


def model(parameters, symbols):
    x = parameters["symbols"][symbols] + parameters["places"]
    for layer in parameters["layers"]:
        normed = ag.rms_norm(x)
        q, k, v = (
            ag.moveaxis(
                (normed @ layer["qkv"])[..., n * WIDTH : (n + 1) * WIDTH].reshape(*x.shape[:2], HEADS, -1), 2, 1
            )
            for n in range(3)
        )

        def score(s, b, h, i, j, layer=layer):
            return s * layer["temperature"][h] + layer["slope"][h] * (j - i) + layer["bias"][h, i - j + 2 * HALF]

        causal = ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, 2 * HALF, 2 * HALF)
        out = ag.flex_attention(q, k, v, score_mod=score, block_mask=causal)
        x = x + ag.moveaxis(out, 1, 2).reshape(x.shape) @ layer["out"]
        x = x + ag.gelu(ag.rms_norm(x) @ layer["up"]) @ layer["down"]
    return ag.rms_norm(x) @ parameters["answers"]


def loss(parameters, symbols, wanted):
    logits = ag.log_softmax(model(parameters, symbols)[:, HALF:], axis=-1)
    return -ag.mean(ag.take_along_axis(logits, wanted[..., None], axis=-1))


@ag.compile
def descend(parameters, symbols, wanted, rate):
    value, gradient = ag.value_and_grad(loss)(parameters, symbols, wanted)

    def moved(old, change):
        if isinstance(old, dict):
            return {name: moved(old[name], change[name]) for name in old}
        if isinstance(old, list):
            return [moved(*pair) for pair in zip(old, change, strict=True)]
        return old - rate * change

    return value, moved(parameters, gradient)


def task(rng, count):
    text = rng.integers(0, SYMBOLS, (count, HALF))
    shown = np.concatenate([text, np.full((count, 1), SYMBOLS), text[:, :-1]], axis=1)
    return shown, text


def test_a_transformer_learns_to_copy():
    rng = np.random.default_rng(0)
    parameters = start = initial(rng)
    for _ in range(150):
        value, parameters = descend(parameters, *task(rng, 32), np.float32(0.3))
    symbols, wanted = task(rng, 200)
    answers = ag.compile(lambda *given: ag.argmax(model(*given)[:, HALF:], axis=-1))(parameters, symbols)
    assert (answers == wanted).mean() > 0.99, value
    for layer, before in zip(parameters["layers"], start["layers"], strict=True):
        for name in ("bias", "slope", "temperature"):
            assert np.abs(layer[name] - before[name]).max() > 1e-3, name
