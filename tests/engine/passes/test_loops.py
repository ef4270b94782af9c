"""Which nodes become one loop, what it returns, what it watches, and what is never stored."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine import program
from attngraph.engine.ir import Node, UnfusableError
from attngraph.engine.kernel import Elements
from attngraph.engine.loop import Loop
from attngraph.engine.memory import plan_memory
from attngraph.engine.passes.groups import Domain
from attngraph.engine.passes.loops import LEAST_ELEMENTS
from attngraph.engine.passes.lower_loop import Views, affine, lower_loop
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

B, N, D = 4, 50, 320


def placeholder(*shape, dtype="float32"):
    return ag.placeholder(shape, dtype)


def steps(*results):
    """The steps that compute: loops, and the names of the others."""
    made = Program(optimize([each.node for each in results]))
    computing = [step for step in made.plan.steps if not isinstance(step, Node) or step.operands]
    return [step.name if isinstance(step, Node) else step for step in computing]


def loops(*results):
    return [step for step in steps(*results) if isinstance(step, Loop)]


def lowered(result, *members):
    """The loop of one result, all of it computed inside."""
    (root,) = optimize([result.node])
    inside = [root]
    for node in inside:
        inside += [each for each in node.operands if each.role not in ("leaf", "contraction")]
    *lead, inner = root.shape
    return lower_loop(tuple(lead), inner, [root], inside, Views())


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Domain((4, 5), None), Domain((4, 5), None), Domain((4, 5), None)),
        (Domain((4,), None), Domain((4, 5), None), Domain((4,), 5)),
        (Domain((5,), None), Domain((4, 5), None), None),
        (Domain((4, 5), None), Domain((4,), 5), Domain((4,), 5)),
        (Domain((4,), None), Domain((4,), 5), Domain((4,), 5)),
        (Domain((4,), 5), Domain((4,), 6), None),
        (Domain((), None), Domain((7,), None), Domain((), 7)),
        (Domain((3, 4, 5), None), Domain((4,), 5), None),
    ],
)
def test_what_two_domains_have_in_common(one, other, both):
    assert one.meet(other) == both
    assert other.meet(one) == both


def test_a_norm_between_two_products_is_one_loop():
    x, w, scale = placeholder(B, N, D), placeholder(D, D), placeholder(D)
    found = steps(ag.layer_norm(x + x @ w, scale, scale) @ w)
    assert [step if isinstance(step, str) else "loop" for step in found] == ["matmul", "loop", "matmul"]
    (loop,) = (step for step in found if isinstance(step, Loop))
    assert [axis.length for axis in (*loop.lead, loop.inner)] == [B, N, D]
    assert len(loop.reductions) == 2
    assert loop.nodes[0].shape == (B, N, D)


def test_what_others_need_is_returned_too():
    x, w = placeholder(B, N, D), placeholder(D, D)
    hidden = ag.gelu(x)
    (loop, *_) = loops((hidden * 2 + 1) @ w, hidden.sum(-1), hidden)
    assert {node.shape for node in loop.nodes} == {(B, N, D), (B, N)}
    assert len(loop.nodes) == 3


def test_a_loop_waits_for_what_a_product_makes():
    x, w = placeholder(B * N, D), placeholder(D, D)
    # The gate alone would be stored; computed beside the product it is not.
    (loop,) = loops(x * ag.sigmoid(x) * (x @ w))
    assert {node.name for node in loop.inputs} == {"matmul", "placeholder"}
    assert len(loop.nodes) == 1


def test_no_loop_needs_what_it_leads_to():
    x, w = placeholder(B * N, D), placeholder(D, D)
    hidden = ag.tanh(x) * 2
    first, second = loops(hidden + ag.exp(hidden @ w) * 3)
    assert [node.name for node in first.nodes] == ["multiply"]
    assert set(second.inputs) >= {first.nodes[0]}


def test_readers_of_one_array_read_it_once():
    x = placeholder(B * N, D)
    (loop,) = loops(ag.exp(x) + 1, ag.sin(x) * 2, x > 0)
    assert len(loop.nodes) == 3
    assert len(loop.inputs) == 1


def test_views_of_what_is_stored_are_read_where_they_lie():
    x = placeholder(B, N, D)
    (loop,) = loops(ag.exp(x.reshape((B, 5, 10, D))[:, ::-1]) * 2 + x.reshape((B, 5, 10, D)))
    assert {each.name for each in loop.inputs} <= {"placeholder", "reshape"}


def test_positions_are_computed_where_they_are_used():
    x = placeholder(500, 300)
    i, j = ag.arange(500)[:, None], ag.arange(300)
    (loop,) = steps(ag.where(i - 2 * j > 5, ag.exp(x), x * (j % 7)))
    assert [node.name for node in loop.inputs] == ["placeholder"]


def test_numpy_keeps_what_it_does_as_well():
    x, small = placeholder(B * N, D), placeholder(3, 5)
    assert steps(x + 1) == ["add"]
    assert steps(ag.exp(small) * 2 + 1) == ["exp", "multiply", "add"]
    assert steps(x.mT) == ["permute_dims"]
    assert small.size < LEAST_ELEMENTS <= x.size


def test_guards_and_unproven_indices_stay_outside():
    x, index = placeholder(1000, D), placeholder(2000, dtype="int64")
    found = steps(ag.exp(x[index]) * 2)
    assert found[0] == "gather"
    assert isinstance(found[1], Loop)


def test_a_row_in_the_wrong_direction_is_another_loop():
    x = placeholder(D, D)
    column = ag.exp(x.sum(-1)) * 2 + 1
    found = steps(ag.tanh(x * column) + x * column[:, None])
    assert "loop" not in found
    assert len([step for step in found if isinstance(step, Loop)]) == 2


def test_nothing_inside_a_loop_is_in_the_memory_plan():
    x = placeholder(B, N, D)
    (root,) = optimize([ag.layer_norm(ag.gelu(x)).node])
    made = Program([root])
    assert plan_memory([root], steps=made.plan.steps).peak_bytes == B * N * D * 4
    assert plan_memory([root]).peak_bytes > 2 * B * N * D * 4


def test_a_reason_for_what_is_no_part_of_a_loop():
    x = placeholder(B * N, D)
    made = Program(optimize([(ag.nextafter(x * 2, x) + 1).node]))
    assert any("nextafter of float32 has no kernel" in reason for _, reason in made.plan.not_fused)


def test_small_programs_do_not_load_the_compiler(monkeypatch):
    monkeypatch.setattr(program, "_loops", None)
    assert not Program(optimize([(placeholder(3, 5) * 2 + 1).node])).loops


# --- lowering


def test_equal_reductions_run_along_one_axis():
    loop = lowered(ag.layer_norm(placeholder(N, D)))
    assert all(each.attribute == ("sum", loop.inner) for each in loop.reductions)


def test_a_softmax_takes_one_exponential():
    loop = lowered(ag.softmax(placeholder(N, D), axis=-1))
    assert [each.op for each in loop.scalars].count("exp") == 1
    assert [each.attribute[0] for each in loop.reductions] == ["peak", "sum"]


def test_what_shows_in_a_result_is_watched_there():
    x, y = placeholder(N, D), placeholder(N, D)
    assert {str(each.op): kind for each, kind in lowered(x * y + x - y).watches.items()} == {"subtract": "finite"}


def test_what_a_result_may_hide_is_watched_itself():
    x, y = placeholder(N, D), placeholder(N, D)
    watches = lowered(1 / (ag.tanh(x * y) + ag.maximum(x + y, 0.0))).watches
    assert {each.op for each in watches} == {"multiply", "add", "divide"}
    masked = lowered(ag.exp(ag.where(x > 0, x * y, -ag.inf) + y)).watches
    assert {each.op: kind for each, kind in masked.items()} == {"multiply": "finite", "add": "mask", "exp": "finite"}


def test_a_reduction_along_another_axis_is_refused():
    x = placeholder(D, D)
    with pytest.raises(UnfusableError):
        lowered(x - x.sum(axis=0, keepdims=True))


def test_affine_indices():
    elements = Elements(lambda node: True)
    i, j = elements.new_axis("i", 10), elements.new_axis("j", 20)
    first, second = elements.index(i), elements.index(j)
    index = elements.subtract(
        elements.multiply(first, elements.constant(3)), elements.add(second, elements.constant(4))
    )
    assert affine(index) == (-4, {i: 3, j: -1})
    assert affine(elements.subtract(first, first)) == (0, {})
    assert affine(elements.multiply(first, second)) is None
    assert affine(elements.apply("remainder", np.dtype(np.int64), second, elements.constant(3))) is None


def test_views():
    views, x = Views(), placeholder(4, 5, 6)
    plain = [x.mT, x[1:, ::2], ag.flip(x), ag.broadcast_to(x, (2, 4, 5, 6)), x.reshape((1, 4, 5, 1, 6))]
    assert all(views.is_plain(each.node) for each in plain)
    assert not views.is_plain(x.reshape((20, 6)).reshape((10, 12)).node)
    assert not views.is_plain(ag.concat([x, x]).node)
    assert views.keeps_rows(x.reshape((4, 1, 5, 6, 1)).node)
    assert not any(views.keeps_rows(each.node) for each in plain[:4])
