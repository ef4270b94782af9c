"""Fusion: which parts of a graph become sweeps, and in what order everything runs.

A reduction is a candidate if what it reduces is computed rather than stored. Its element is lowered
with its surroundings inlined; what turns out to vary over rows or columns alone, and is more than a
load, is stored first and the candidate tried again. What cannot become a sweep runs node by node, and
the reason is kept for `explain`.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ..ir import Node, UnfusableError, walk
from ..kernel import Axis, Elements, Scalar, below
from ..sweep import Output, Sweep
from ..types import is_float
from .stream import Streaming

# A contraction over more than this is a matrix product of its own, not a part of a tile.
WIDEST_CONTRACTION = 256
# Fewer columns than this are not worth a sweep.
FEWEST_COLUMNS = 16
_MOST_NODES = 200
_MOST_TRIES = 24


@dataclass
class Fused:
    """A sweep, the nodes whose arrays it loads, and what it was lowered with."""

    sweep: Sweep
    elements: Elements
    inside: set[Node]
    inputs: tuple[Node, ...] = ()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What it computes."""
        return tuple(output.node for output in self.sweep.outputs)

    def guarded(self) -> tuple[Node, ...]:
        """Inputs that an inlined guard watches for NaN and infinity."""
        found: dict[Node, None] = {}
        stack = [each for each in self.inside if each.guards]
        while stack:
            node = stack.pop()
            for operand in node.operands:
                if operand in self.inputs:
                    found[operand] = None
                elif operand.role in ("rearrangement", "pointwise"):
                    stack.append(operand)
        return tuple(found)


Step = Node | Fused


@dataclass
class Plan:
    """Steps in order, and what was not fused: node and reason."""

    steps: list[Step] = field(default_factory=list)
    not_fused: list[tuple[Node, str]] = field(default_factory=list)

    @property
    def sweeps(self) -> list[Sweep]:
        """The sweeps among the steps."""
        return [step.sweep for step in self.steps if isinstance(step, Fused)]


def fuse(roots: Sequence[Node], rejected: Collection[Node] = (), least_work: int = 0) -> Plan:
    """The plan for a graph that the passes before have finished with.

    Args:
        roots: The results.
        rejected: Nodes that have turned out not to be sweeps.
        least_work: Positions of tiles below which a sweep is not worth its start.
    """
    plan = Plan()
    found: dict[Node, Fused] = {}
    needed: set[Node] = set(roots)
    for node in reversed(walk(roots)):  # users first: what a sweep inlines is not tried for itself
        if node not in needed:
            continue
        if node not in rejected and _is_candidate(node):
            try:
                fused = _joined(node, found.values()) or _as_sweep(node)
                _check_work(fused.sweep, least_work)
                found[node] = fused
            except UnfusableError as reason:
                plan.not_fused.append((node, str(reason)))
        needed.update(found[node].inputs if node in found else node.operands)
    plan.steps = _ordered(roots, found)
    return plan


def _check_work(sweep: Sweep, least: int) -> None:
    work = math.prod(axis.length for axis in (*sweep.batch, sweep.rows, sweep.columns))
    if work < least:
        raise UnfusableError(f"{work} positions are not worth a kernel")


def _is_candidate(node: Node) -> bool:
    if node.role not in ("contraction", "reduction") or not is_float(node.dtype) or 0 in node.shape:
        return False
    return node.operands[0].role != "leaf" and len(node.shape) >= 1


def _ordered(roots: Sequence[Node], found: dict[Node, Fused]) -> list[Step]:
    """Everything that is needed, inputs before users."""
    steps: list[Step] = []
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, ready = stack.pop()
        if node in done:
            continue
        fused = found.get(node)
        inputs = node.operands if fused is None else fused.inputs
        if not ready:
            stack.append((node, True))
            stack.extend((each, False) for each in reversed(inputs) if each not in done)
            continue
        steps.append(node if fused is None else fused)
        done.update((node,) if fused is None else fused.nodes)
    return steps


def _inlined(node: Node) -> set[Node]:
    """What may be computed inside the sweep: up to the first contractions, and around their operands."""
    inside: set[Node] = {node}
    # Of a product only the left side is a tile: a product that makes the right side is a step before.
    stack = [(operand, number > 0) for number, operand in enumerate(node.operands)]
    while stack and len(inside) < _MOST_NODES:
        each, below_contraction = stack.pop()
        if each in inside or each.role in ("leaf", "opaque"):
            continue
        if each.role == "contraction":
            width = each.operands[0].shape[-1]
            if below_contraction or width > WIDEST_CONTRACTION:
                continue
            below_contraction = True
        inside.add(each)
        stack += [(operand, below_contraction) for operand in each.operands]
    return inside


def _as_sweep(node: Node) -> Fused:
    """The sweep that computes ``node``.

    Raises:
        UnfusableError: If there is none.
    """
    inside = _inlined(node)
    for _ in range(_MOST_TRIES):
        fused = _lowered(node, inside)
        must_store = _to_store(node, fused)
        if not must_store:
            _finish(fused)
            return fused
        inside = inside - must_store
    raise UnfusableError(f"{node.name}: too many parts to store first")


def _lowered(node: Node, inside: set[Node]) -> Fused:
    elements = Elements(lambda each: each not in inside)
    axes = [elements.new_axis("o", length) for length in node.shape]
    element = elements.element(node, [elements.index(axis) for axis in axes])
    columns_length, rows = _rows_and_columns(element, axes)
    after = axes[axes.index(rows) + 1 :]
    small = next((axis for axis in reversed(after) if axis.length > 1), None)
    batch = tuple(axis for axis in axes if axis not in (rows, small) and not (axis in after and axis.length == 1))
    sweep = Sweep(batch, rows, elements.new_axis("j", columns_length))
    (value,) = Streaming(elements, sweep).rewrite([element])
    if not sweep.accumulators and not sweep.groups:
        raise UnfusableError(f"{node.name}: nothing to stream")
    sweep.outputs.append(Output(node, tuple(axes), value, small))
    return Fused(sweep, elements, inside)


def _joined(node: Node, others: Iterable[Fused]) -> Fused | None:
    """A sweep that streams the same already, with ``node`` as one more output; None if there is none."""
    for fused in dict.fromkeys(map(id, others)):
        candidate = next(each for each in others if id(each) == fused)
        if _join(node, candidate):
            return candidate
    return None


def _join(node: Node, fused: Fused) -> bool:
    """Add ``node`` to a sweep, if it shares an exponent and nothing depends on itself then."""
    sweep, elements = fused.sweep, fused.elements
    shape = (*(axis.length for axis in sweep.batch), sweep.rows.length)
    if node.shape[: len(shape)] != shape or len([n for n in node.shape[len(shape) :] if n > 1]) > 1:
        return False
    if node in walk(fused.inputs) or set(fused.nodes) & set(walk(node.operands)):
        return False
    extra = [elements.new_axis("o", length) for length in node.shape[len(shape) :]]
    axes = (*sweep.batch, sweep.rows, *extra)
    before = list(sweep.groups), list(sweep.accumulators), set(fused.inside)
    fused.inside |= _inlined(node) - set(fused.inputs)
    try:
        element = elements.element(node, [elements.index(axis) for axis in axes])
        (value,) = Streaming(elements, sweep).rewrite([element])
        small = next((axis for axis in extra if axis.length > 1), None)
        sweep.outputs.append(Output(node, axes, value, small))
        if sweep.groups == before[0] and not _to_store(node, fused):
            _finish(fused)
            return True
        sweep.outputs.pop()
    except UnfusableError:
        pass
    sweep.groups, sweep.accumulators = before[0], before[1]
    fused.inside &= before[2]
    return False


def _finish(fused: Fused) -> None:
    loads = [each.attribute for each in below(expressions_of(fused.sweep)) if each.op == "load"]
    fused.inputs = tuple(dict.fromkeys(loads))


def _rows_and_columns(element: Scalar, axes: list[Axis]) -> tuple[int, Axis]:
    """The length of what is streamed, and the axis of rows.

    Rows are the last axis that the tile varies over but some column operand does not.
    """
    outer = next((each for each in reversed(below([element])) if each.op == "reduce"), None)
    if outer is None:
        raise UnfusableError("no reduction")
    columns = outer.attribute[1]
    if columns.length < FEWEST_COLUMNS:
        raise UnfusableError(f"only {columns.length} columns")
    inner = [each for each in below([element]) if columns in each.axes and each.op in ("load", "reduce")]
    loads = [each for each in inner if each.op == "load"]
    for axis in reversed(axes):
        tile = [each for each in below([element]) if {columns, axis} <= each.axes and each.op == "reduce"]
        tile += [each for each in loads if axis in each.axes and len(loads) == 1]
        if axis.length > 1 and tile and any(axis not in each.axes for each in loads):
            return columns.length, axis
    raise UnfusableError("no axis of rows: nothing in it is contracted for pairs of a row and a column")


def expressions_of(sweep: Sweep) -> list[Scalar]:
    """All expressions of a sweep."""
    found = [*sweep.groups, *(output.value for output in sweep.outputs)]
    for each in sweep.accumulators:
        found += [each.weight, each.column]
    return found


def _to_store(node: Node, fused: Fused) -> set[Node]:
    """Nodes whose values vary over rows or columns alone, and are reductions or not float32."""
    sweep, elements = fused.sweep, fused.elements
    everything = below(expressions_of(sweep))
    flagged: set[Scalar] = set()
    for each in everything:
        if any(map(_is_wide, (each, *each.args))):
            if {sweep.rows, sweep.columns} <= each.axes:
                raise UnfusableError(f"{node.name}: tiles are float32, not {each.dtype}")
            flagged.add(each)
        elif each.op == "reduce" and not {sweep.rows, sweep.columns} <= each.axes:
            flagged.add(each)
    inner = {argument for each in everything if each in flagged for argument in each.args}
    store = {elements.origin.get(each) for each in flagged - inner}
    if None in store or node in store:
        raise UnfusableError(f"{node.name}: a part of it has no node that could be stored")
    return {each for each in store if each is not None}


def _is_wide(scalar: Scalar) -> bool:
    return is_float(scalar.dtype) and scalar.dtype.itemsize != 4 and scalar.op != "constant"
