"""Forms of graphs: equal but for lengths, and graphs on free lengths."""

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.forms import form_of, with_free_lengths
from attngraph.engine.ir import walk
from attngraph.engine.lengths import Length


def attention(length, width=32, batch=2, **options):
    return ag.attention(*(ag.placeholder((batch, 4, length, width)) for _ in range(3)), **options).node


def test_graphs_that_differ_in_lengths_have_one_form():
    first, second = form_of([attention(300)]), form_of([attention(301)])
    assert first.key == second.key
    assert first.values == (300, 32)
    assert second.values == (301, 32)
    assert len(first.leaves) == 3


@pytest.mark.parametrize(
    "other",
    [
        attention(300, batch=3),
        attention(300, is_causal=True),
        attention(300, scale=0.5),
        attention(64),  # another size class
        attention(32),  # as long as it is wide
        attention(300, width=300),
        attention(1),
    ],
)
def test_other_graphs_have_other_forms(other):
    assert form_of([attention(300)]).key != form_of([other]).key


def test_numbers_of_the_program_are_no_lengths():
    x, y = ag.placeholder((300,)), ag.placeholder((301,))
    assert form_of([(x + 300).node]).key != form_of([(y + 301).node]).key
    assert form_of([(x + 7).node]).key == form_of([(y + 7).node]).key


def test_arrays_are_left_out():
    first, second = (ag.asarray(np.full((40, n), n, "float32")) for n in (50, 60))
    assert form_of([(first * 2).node]).key == form_of([(second * 2).node]).key


def test_a_graph_on_free_lengths():
    root = attention(300)
    form = form_of([root])
    (free,), sources, pinned = with_free_lengths(form, [root])
    assert not pinned  # shape rules compare and pass on
    assert [type(node).__name__ for node in walk([free])] == [type(node).__name__ for node in walk([root])]
    assert isinstance(free.shape[2], Length)
    assert not isinstance(free.shape[1], Length)  # a small number may be an axis or a count
    assert [tuple(map(int, each.shape)) for each in sources] == [leaf.shape for leaf in form.leaves]
