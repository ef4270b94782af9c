"""A graph as a picture: our own SVG, so that nobody needs graphviz.

Nodes stand in rows by their depth, each near the mean place of its operands; scalars are written into
their user's box.
"""

from collections.abc import Sequence
from pathlib import Path

from .errors import ArgumentError
from .ir import Node, walk
from .leaves import Constant, Leaf
from .printing import show_attribute

_LETTER, _HEIGHT, _GAP, _ROW = 7.2, 40.0, 18.0, 74.0
_MOST_NODES = 400


class Drawing:
    """An SVG picture of a graph. A notebook shows it; `save` writes it."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def save(self, path: str | Path) -> Path:
        """Write the picture to ``path``, and return it.

        Raises:
            ArgumentError: Unless the name ends in ``.svg``.
        """
        target = Path(path)
        if target.suffix.lower() != ".svg":
            raise ArgumentError(f"visualize: save writes SVG: the name of {str(path)!r} has to end in .svg")
        target.write_text(self.svg)
        return target

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<Drawing of {len(self.svg)} bytes: show it in a notebook, or .save('graph.svg')>"


def draw(roots: Sequence[Node]) -> Drawing:
    """The picture of the graph below ``roots``; of a very large one, the last nodes."""
    order = [node for node in walk(roots) if not isinstance(node, Constant)][-_MOST_NODES:]
    places = _places(order)
    width = max((x + _width(node) / 2 for node, (x, _) in places.items()), default=0) + _GAP
    height = max((y for _, y in places.values()), default=0) + _HEIGHT + _GAP
    arrows = [_arrow(places[operand], places[node]) for node in order for operand in node.operands if operand in places]
    boxes = [_box(node, *places[node]) for node in order]
    return Drawing(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="monospace" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(arrows)}{"".join(boxes)}</svg>'
    )


def escape(text: str) -> str:
    """Text as HTML and SVG show it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _labels(node: Node) -> tuple[str, str]:
    """The two lines of a node's box: what it is with its scalars, and its type."""
    scalars = [show_attribute(each.value) for each in node.operands if isinstance(each, Constant)]
    label = getattr(node, "label", None) if isinstance(node, Leaf) else None
    return " ".join([label or node.name, *scalars]), str(node.type)


def _width(node: Node) -> float:
    return max(map(len, _labels(node))) * _LETTER + 16


def _places(order: Sequence[Node]) -> dict[Node, tuple[float, float]]:
    """Row by row: the middle of every box's upper edge."""
    depth: dict[Node, int] = {}
    for node in order:
        depth[node] = 1 + max((depth[operand] for operand in node.operands if operand in depth), default=-1)
    # A leaf stands just above its first user, not at the very top.
    for node in reversed(order):
        for operand in node.operands:
            if isinstance(operand, Leaf) and operand in depth:
                depth[operand] = max(depth[operand], depth[node] - 1)
    places: dict[Node, tuple[float, float]] = {}
    for row in range(max(depth.values(), default=-1) + 1):
        members = [node for node in order if depth[node] == row]
        wanted = {node: _mean([places[o][0] for o in node.operands if o in places]) for node in members}
        edge = 0.0
        for node in sorted(members, key=wanted.__getitem__):
            middle = max(wanted[node], edge + _GAP + _width(node) / 2)
            places[node] = (middle, _GAP + row * _ROW)
            edge = middle + _width(node) / 2
    return places


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x1, y1), (x2, y2) = (start[0], start[1] + _HEIGHT), end
    bend = (y1 + y2) / 2
    curve = f"M{x1:.0f} {y1:.0f} C{x1:.0f} {bend:.0f} {x2:.0f} {bend:.0f} {x2:.0f} {y2:.0f}"
    return f'<path d="{curve}" fill="none" stroke="#999"/>'


def _box(node: Node, x: float, y: float) -> str:
    width = _width(node)
    fill = "#e8f1fb" if isinstance(node, Leaf) else "#f7f7f7"
    first, second = map(escape, _labels(node))
    return (
        f'<rect x="{x - width / 2:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_HEIGHT:.0f}" rx="5" '
        f'fill="{fill}" stroke="#666"/>'
        f'<text x="{x:.0f}" y="{y + 16:.0f}" text-anchor="middle" font-weight="bold">{first}</text>'
        f'<text x="{x:.0f}" y="{y + 32:.0f}" text-anchor="middle" fill="#555">{second}</text>'
    )
