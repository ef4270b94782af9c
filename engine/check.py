"""What is legal after each stage. Cheap checks run always, the thorough ones in tests."""

from collections.abc import Sequence

from .ir import Node, users, walk
from .scalar import Axis, below
from .sweep import Output, Sweep


def check(before: Sequence[Node], after: Sequence[Node]) -> None:
    """A pass keeps the number of results, their shapes and data types."""
    assert len(before) == len(after), "a pass lost a result"
    for old, new in zip(before, after, strict=True):
        assert old.type[:2] == new.type[:2], f"a pass turned {old!r} into {new!r}"


def check_thoroughly(roots: Sequence[Node]) -> None:
    """The graph is interned and typed: every node is the one that its own fields make."""
    for node in walk(roots):
        assert node.with_operands(node.operands) is node, f"{node!r} is not interned"
        assert node.infer() == node.type, f"{node!r} has another type than its rule gives"


def check_simplified(roots: Sequence[Node]) -> None:
    """After simplification no rule finds anything."""
    for node in walk(roots):
        assert node.simplify() is None, f"{node!r} simplifies to {node.simplify()!r}"


def check_hoisted(roots: Sequence[Node]) -> None:
    """After hoisting and factoring no factor is left to move."""
    uses = users(roots)
    for node in walk(roots):
        assert node.hoist(uses) is None, f"{node!r} still holds a factor"


def _ended(sweep: Sweep, output: Output) -> set[Axis]:
    """The axes that are summed over by the time a result is computed."""
    if output.of_pairs is not None:
        return set()
    return {sweep.columns if output.total is None else sweep.rows}


def check_sweep(sweep: Sweep) -> None:
    """What streams depends on nothing that is known only afterwards; contractions hold no contractions."""
    tiles = [*sweep.groups, *(each.weight for each in sweep.accumulators)]
    assert not any(each.waits for each in tiles), "a tile value waits for a result"
    assert all(each.group is None or each.group in sweep.groups for each in sweep.accumulators), "a group is missing"
    for accumulator in sweep.accumulators:
        own_axis, other = (sweep.rows, sweep.columns) if accumulator.of_columns else (sweep.columns, sweep.rows)
        axes = accumulator.column.axes
        small = axes - {own_axis, other, *sweep.batch}
        assert small <= {accumulator.small}, f"{accumulator.column!r} varies over {small}"
        assert other not in axes or (small and own_axis in axes), f"{accumulator.column!r} varies over {other}"
    own = frozenset((sweep.rows, sweep.columns, *sweep.batch))
    for scalar in below(tiles):
        if scalar.op == "reduce" and scalar.height > 1 and sweep.pair <= scalar.axes:
            inner = [each for each in below(scalar.args) if each.op == "reduce" and sweep.pair <= each.axes]
            assert all(each.axes <= own for each in inner), f"{scalar!r} contracts contractions"
    for output in sweep.outputs:
        allowed = own - _ended(sweep, output) | {output.small}
        assert output.value.axes <= allowed, f"{output.value!r} varies over more than {output.axes}"
        results = {each.attribute for each in below([output.value]) if each.op == "accumulator"}
        assert results <= set(sweep.accumulators), f"{output.value!r} is of sums that nobody makes"
