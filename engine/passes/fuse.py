"""Fusion: which parts of a graph become sweeps, and in what order everything runs.

A reduction is a candidate if what it reduces is computed rather than stored. Its element is lowered
with its surroundings inlined; what turns out to vary over rows or columns alone, and is more than a
load, is stored first and the candidate tried again. What cannot become a sweep runs node by node, and
the reason is kept for `explain`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..check import check_sweep
from ..ir import Node, UnfusableError, walk
from ..kernel import Elements
from ..loop import Loop
from ..scalar import Axis, Scalar, below
from ..sweep import Output, Sweep
from ..types import is_float
from .gathers import unseen_gathers
from .pack import to_pack
from .reach import Reach
from .rows import FEW_ROWS, axis_of_rows, columns_reductions, single_row
from .stream import Streaming

# Fewer columns than this are not worth a sweep.
FEWEST_COLUMNS = 16
# Each position of few rows counts for more: there is one for each column that is read.
_FEW_ROWS_COUNT = 128
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


Step = Node | Fused | Loop


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
    meets: dict[Node, Node] = {}
    order = walk(roots)
    reach = Reach(order, needed)
    for node in reversed(order):  # users first: what a sweep inlines is not tried for itself
        if node.role == "pointwise":
            meets |= {operand: meets.get(node, node) for operand in node.operands if operand not in meets}
        if node not in needed:
            continue
        if node not in rejected and _is_candidate(node):
            try:
                fused = _joined(node, found.values(), meets, reach) or _as_sweep(node, reach)
                _check_work(fused.sweep, least_work)
                found[node] = fused
            except UnfusableError as reason:
                plan.not_fused.append((node, str(reason)))
        needed.update(found[node].inputs if node in found else node.operands)
    plan.steps = _ordered(roots, found)
    return plan


def _check_work(sweep: Sweep, least: int) -> None:
    work = sweep.positions
    if sweep.rows.length <= FEW_ROWS:
        least //= _FEW_ROWS_COUNT
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


def _as_sweep(node: Node, reach: Reach) -> Fused:
    """The sweep that computes ``node``.

    Raises:
        UnfusableError: If there is none.
    """
    inside = reach.inlined(node)
    for _ in range(_MOST_TRIES):
        try:
            fused = _lowered(node, inside)
            must_store = _to_store(node, fused) or to_pack(fused.sweep, fused.elements)
        except UnfusableError as reason:
            must_store = _culprit(reason, node, inside)
        if not must_store:
            _finish(fused)
            return fused
        inside = inside - must_store
    raise UnfusableError(f"{node.name}: too many parts to store first")


def _culprit(reason: UnfusableError, node: Node, inside: set[Node]) -> set[Node]:
    """The operand that no kernel can compute, to be stored; raises the reason if it is none."""
    if reason.node is None or reason.node is node or reason.node not in inside:
        raise reason
    return {reason.node}


def _lowered(node: Node, inside: set[Node]) -> Fused:
    elements = Elements(lambda each: each not in inside, clamps=True)
    axes = [elements.new_axis("o", length) for length in node.shape]
    element = elements.element(node, [elements.index(axis) for axis in axes])
    columns_length, places, rows = _rows_and_columns(element, axes)
    after = places[places.index(rows) + 1 :]
    small = next((axis for axis in reversed(after) if axis.length > 1), None)
    batch = tuple(axis for axis in places if axis not in (rows, small) and not (axis in after and axis.length == 1))
    sweep = Sweep(batch, rows, elements.new_axis("j", columns_length))
    (value,) = Streaming(elements, sweep).rewrite([element])
    if not sweep.accumulators and not sweep.groups:
        raise UnfusableError(f"{node.name}: nothing to stream")
    sweep.outputs.append(Output(node, tuple(axes), value, small))
    return Fused(sweep, elements, inside)


def _joined(node: Node, others: Iterable[Fused], meets: Mapping[Node, Node], reach: Reach) -> Fused | None:
    """A sweep that streams the same already, with ``node`` as one more output; None if there is none.

    Args:
        node: What is to join.
        others: The sweeps so far.
        meets: For what is an operand of element-wise functions, the last one that it goes into.
        reach: What it may compute inside.
    """
    for fused in {id(each): each for each in others}.values():
        meet = node in meets and any(meets.get(each) is meets[node] for each in fused.nodes)
        if _join(node, fused, meet, reach):
            return fused
    return None


def _join(node: Node, fused: Fused, meet: bool, reach: Reach) -> bool:
    """Add ``node`` to a sweep, if it meets its results or shares work, and nothing depends on itself then."""
    sweep, elements = fused.sweep, fused.elements
    shape = (*(axis.length for axis in sweep.batch), sweep.rows.length)
    if node.shape[: len(shape)] != shape or len([n for n in node.shape[len(shape) :] if n > 1]) > 1:
        return False
    if node in walk(fused.inputs) or set(fused.nodes) & set(walk(node.operands)):
        return False
    extra = [elements.new_axis("o", length) for length in node.shape[len(shape) :]]
    axes = (*sweep.batch, sweep.rows, *extra)
    before = list(sweep.groups), list(sweep.accumulators), set(fused.inside)
    leaves = _leaves_of_tiles(sweep)
    fused.inside |= reach.inlined(node) - set(fused.inputs)
    try:
        for _ in range(_MOST_TRIES):
            element = elements.element(node, [elements.index(axis) for axis in axes])
            (value,) = Streaming(elements, sweep).rewrite([element])
            small = next((axis for axis in extra if axis.length > 1), None)
            sweep.outputs.append(Output(node, axes, value, small))
            must_store = _to_store(node, fused) or to_pack(sweep, elements)
            if not must_store and (meet or _shares(sweep, before[0], leaves)):
                _finish(fused)
                return True
            sweep.outputs.pop()
            if not must_store or must_store & before[2]:
                break
            sweep.accumulators = list(before[1])
            fused.inside -= must_store
            elements.forget_lowered()
    except UnfusableError:
        pass
    sweep.groups, sweep.accumulators = before[0], before[1]
    fused.inside &= before[2]
    elements.forget_lowered()
    return False


def _shares(sweep: Sweep, groups: list[Scalar], leaves: set[Scalar]) -> bool:
    """Whether one more output exponentiates what others do, or is made of the same contractions."""
    return (bool(groups) and sweep.groups == groups) or _leaves_of_tiles(sweep) == leaves


def _leaves_of_tiles(sweep: Sweep) -> set[Scalar]:
    """What tiles are made of: contractions, and loads for pairs of a row and a column."""
    everything = below([*sweep.groups, *(each.weight for each in sweep.accumulators)])
    return {each for each in everything if each.op in ("reduce", "load") and sweep.pair <= each.axes}


def _finish(fused: Fused) -> None:
    sweep = fused.sweep
    used = {each.group for each in sweep.accumulators}
    used |= {each.attribute for each in below([output.value for output in sweep.outputs]) if each.op == "maximum_of"}
    sweep.groups = [group for group in sweep.groups if group in used]
    loads = [each.attribute for each in below(fused.sweep.expressions()) if each.op == "load"]
    fused.inputs = tuple(dict.fromkeys(loads))
    check_sweep(sweep)


def _rows_and_columns(element: Scalar, axes: list[Axis]) -> tuple[int, list[Axis], Axis]:
    """The length of what is streamed, the axes of the result, and which of them is that of rows.

    Rows are an axis that tiles vary over; without one, there is a single row.
    """
    outer = next((each for each in reversed(below([element])) if each.op == "reduce"), None)
    if outer is None:
        raise UnfusableError("no reduction")
    columns = outer.attribute[1]
    if columns.length < FEWEST_COLUMNS:
        raise UnfusableError(f"only {columns.length} columns")
    rows = axis_of_rows(element, axes, columns)
    if rows is not None:
        return columns.length, axes, rows
    return columns.length, *single_row(element, axes, columns)


def _to_store(node: Node, fused: Fused) -> set[Node]:
    """Nodes whose values vary over rows or columns alone, and are reductions or not float32."""
    sweep, elements = fused.sweep, fused.elements
    everything = below(sweep.expressions())
    flagged = columns_reductions(sweep) | unseen_gathers(sweep)
    for each in everything:
        if any(map(_is_wide, (each, *each.args))):
            if sweep.rows.length > 1 and sweep.pair <= each.axes and not _is_read(each):
                raise UnfusableError(f"{node.name}: tiles are float32, not {each.dtype}")
            flagged.add(each)
        elif each.op == "reduce" and not sweep.pair <= each.axes:
            flagged.add(each)
    inner = {argument for each in everything if each in flagged for argument in each.args}
    store = {elements.origin.get(each) for each in flagged - inner}
    if None in store or node in store:
        raise UnfusableError(f"{node.name}: a part of it has no node that could be stored")
    return {each for each in store if each is not None}


def _is_read(scalar: Scalar) -> bool:
    """An element of a table of other floats, or that as float32: the table is stored as float32 as a whole."""
    return (scalar.args[0] if scalar.op == "astype" else scalar).op == "load"


def _is_wide(scalar: Scalar) -> bool:
    return is_float(scalar.dtype) and scalar.dtype.itemsize != 4 and scalar.op != "constant"
