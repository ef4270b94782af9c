"""What explanations say is kept, and computed again."""

import numpy as np

import attngraph as ag


def step(attend, length=256):
    q, k, v, upstream = (ag.placeholder((1, 2, length, 64), name=name) for name in ("q", "k", "v", "u"))
    out, pullback = ag.vjp(attend, q, k, v)
    return ag.explain([out, *pullback(upstream)])


def names(values):
    return [value.node.name for value in values]


def test_a_step_keeps_numbers_of_rows_and_computes_scores_again():
    report = step(lambda q, k, v: ag.softmax(q @ k.mT / 8) @ v)
    out, *rows = report.kept
    assert "it is a result" in out.why
    assert sorted(names(rows)) == ["share", "shift", "sum"]
    assert all(each.nbytes == 2 * 256 * 4 for each in rows)
    total = next(each for each in rows if each.node.name == "share")
    assert total.flops > 256 * 2 * 64  # a row's scores
    assert "a sweep makes it" in total.why
    assert max(total.read) > total.made
    (weights,) = report.recomputed
    assert weights.node.name == "softmax"
    assert weights.nbytes == 2 * 256 * 256 * 4
    assert len(weights.steps) == 2
    assert 2 * 64 <= weights.flops < 2 * 64 + 10


def test_the_report_says_it():
    report = step(lambda q, k, v: ag.attention(q, k, v, is_causal=True))
    text = str(ag.explain([*map(ag.Array, report.passes[0].roots)], level="memory"))
    assert text in str(report)
    first, *lines = text.splitlines()
    assert first.startswith("memory: peak ")
    assert "  kept: share float32[1, 2, 256, 1], 2,048 bytes, from step" in text
    assert "  computed again: softmax float32[1, 2, 256, 256], in steps" in text
    assert len(lines) == 5


def test_a_forward_pass_alone_keeps_nothing():
    q, k, v = (ag.placeholder((1, 2, 256, 64)) for _ in range(3))
    report = ag.explain(ag.attention(q, k, v))
    assert not report.kept
    assert not report.recomputed


def test_checkpoints_say_what_they_begin_from():
    weight = ag.placeholder((64, 64))
    layer = ag.checkpoint(lambda x: ag.tanh(ag.tanh(x @ weight) @ weight))
    x = ag.placeholder((4096, 64))
    report = ag.explain(ag.gradients(ag.sum(layer(layer(x))), x))
    assert any("a checkpoint" in each.why and each.node.shape == (4096, 64) for each in report.kept)


def test_much_that_is_kept_is_counted():
    x = ag.asarray(np.zeros((4096, 64), "float32"))
    y = x
    for _ in range(16):
        y = ag.tanh(y @ ag.asarray(np.zeros((64, 64), "float32")))
    text = str(ag.explain(ag.gradients(ag.sum(y), x), level="memory"))
    assert "more of at most 1,048,576 bytes" in text


def test_the_interpreter_has_no_plan():
    with ag.config.set(target="reference"):
        report = step(ag.attention)
    assert report.kept == report.recomputed == []
