"""Graphs as pictures."""

from xml.etree import ElementTree

import numpy as np
import pytest

import attngraph as ag

SVG = "{http://www.w3.org/2000/svg}"


def attention():
    q, k, v = (ag.placeholder((4, 8), name=name) for name in "qkv")
    return ag.softmax(q @ k.T / 8, axis=-1) @ v


def test_every_node_has_a_box_and_every_operand_an_arrow():
    tree = ElementTree.fromstring(attention().visualize().svg)
    texts = [each.text for each in tree.iter(f"{SVG}text")]
    assert {"q", "k", "v", "divide 8.0", "softmax", "permute_dims"} <= set(texts)
    assert texts.count("matmul") == 2
    assert len(list(tree.iter(f"{SVG}rect"))) == 1 + 8
    assert len(list(tree.iter(f"{SVG}path"))) == 7


def test_boxes_of_a_row_do_not_overlap():
    x = ag.placeholder((3,), name="x")
    tree = ElementTree.fromstring((ag.sin(x) + ag.cos(x) * ag.exp(x)).visualize().svg)
    boxes = [
        [float(each.attrib[key]) for key in ("x", "y", "width")]
        for each in tree.iter(f"{SVG}rect")
        if "x" in each.attrib
    ]
    assert len(boxes) == 6
    for number, (x1, y1, width1) in enumerate(boxes):
        for x2, y2, width2 in boxes[number + 1 :]:
            assert y1 != y2 or x1 + width1 <= x2 or x2 + width2 <= x1


@pytest.mark.parametrize(
    "expression", [lambda: ag.asarray(3.5), lambda: ag.asarray(np.ones(2)), lambda: ag.zeros((0,))]
)
def test_small_graphs(expression):
    ElementTree.fromstring(expression().visualize().svg)


def test_saving_and_showing(tmp_path):
    drawing = attention().visualize()
    path = drawing.save(tmp_path / "graph.svg")
    assert path.read_text() == drawing._repr_svg_()
    assert "notebook" in repr(drawing)
    for name in ("graph.png", "graph", "svg"):
        with pytest.raises(ag.ArgumentError, match=r"has to end in \.svg"):
            drawing.save(tmp_path / name)
        assert not (tmp_path / name).exists()


def test_long_graphs_are_cut():
    x = ag.placeholder((2,))
    for _ in range(1000):
        x = ag.sin(x)
    assert x.visualize().svg.count("<rect") == 401
