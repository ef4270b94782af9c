"""What a kernel looks at to know that its results can be trusted.

* Contractions that are not finite, where they count: what comes after may hide it, for a weight of ``exp(-inf)`` is
  as good as none, and ``tanh`` of infinity is a number.
* Indices outside their axes, where they count: the kernel has clamped them.
* Rows without any weight, although some column was visible to them: their exponents have overflowed.
* Results that are not finite.

A position counts unless a ``where`` takes its other branch there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..kernel import Elements
from ..scalar import Scalar, below
from ..sweep import Sweep
from ..types import BOOL, is_float
from .llvm import Value

if TYPE_CHECKING:
    from .writer import Writer

Conditions = frozenset[Scalar]


class Watched(NamedTuple):
    """A tile value, and conditions under which alone it counts."""

    scalar: Scalar
    conditions: tuple[Scalar, ...]


class Watch:
    """What is looked at in the tiles of a sweep.

    Args:
        sweep: The sweep.
        elements: What its scalars were made with.
        groups: Exponents as they are computed, by what they were.
        factors: Weights as they are computed, by what they were.
    """

    def __init__(
        self, sweep: Sweep, elements: Elements, groups: Mapping[Scalar, Scalar], factors: Mapping[Scalar, Scalar]
    ) -> None:
        self._elements = elements
        counts = self._counting([*groups.values(), *factors.values()])
        self.contractions = [Watched(each, _ordered(counts[each])) for each in counts if each.op == "reduce"]
        self.visible = {group: tuple(self._showing(target)) for group, target in groups.items()}
        for each in sweep.accumulators:
            targets = [factors[each.weight], *([] if each.group is None else [groups[each.group]])]
            shown = frozenset(condition for target in targets for condition in self._showing(target))
            for scalar in below([each.column]):
                _meet(counts, scalar, shown)
        for output in sweep.outputs:
            if output.of_pairs is not None:
                shown = frozenset(self._showing(factors[output.of_pairs.weight]))
                for scalar in below(output.places):
                    _meet(counts, scalar, shown)
            for scalar in below([output.value]):
                _meet(counts, scalar, frozenset())
        self.indices = [self._outside(each, counts[each]) for each in counts if each.op == "inside"]

    @property
    def is_needed(self) -> bool:
        """Whether there is anything in tiles to look at."""
        return bool(self.contractions or self.indices)

    def expressions(self) -> list[Scalar]:
        """What is evaluated for it."""
        found = [condition for each in self.contractions for condition in each.conditions]
        for index in self.indices:
            found += [index.scalar, *index.conditions]
        return [*found, *(condition for each in self.visible.values() for condition in each)]

    def _outside(self, inside: Scalar, conditions: Conditions) -> Watched:
        return Watched(self._elements.make("outside", inside.args, BOOL), _ordered(conditions))

    def _counting(self, targets: Sequence[Scalar]) -> dict[Scalar, Conditions]:
        """For all tile values conditions that hold wherever they are used."""
        found: dict[Scalar, Conditions] = {}
        for target in targets:
            _meet(found, target, frozenset())
        for scalar in reversed(below(targets)):
            here = found[scalar]
            for place, each in enumerate(scalar.args):
                branch = self._branch(scalar, place) if scalar.op == "where" else frozenset()
                _meet(found, each, here | branch)
        return found

    def _branch(self, where: Scalar, place: int) -> Conditions:
        """What holds where a branch is taken whose other one is a number."""
        condition, left, right = where.args
        if _contracts(condition) or place == 0 or not (right if place == 1 else left).is_constant:
            return frozenset()
        return frozenset((condition if place == 1 else self._not(condition),))

    def _not(self, condition: Scalar) -> Scalar:
        return self._elements.apply("logical_not", BOOL, condition)

    def _showing(self, target: Scalar) -> list[Scalar]:
        """Conditions without which a weight is 0, or an exponent -inf, as somebody wrote it."""
        elements, (op, args) = self._elements, (target.op, target.args)
        if op == "where" and args[2].is_constant and args[2].attribute in (0, -math.inf):
            return [*([] if _contracts(args[0]) else [args[0]]), *self._showing(args[1])]
        if op == "where" and args[1].is_constant and args[1].attribute in (0, -math.inf):
            return [*([] if _contracts(args[0]) else [self._not(args[0])]), *self._showing(args[2])]
        if op == "add":
            return [condition for each in args for condition in self._showing(each) if _is_exponents(each)]
        if op == "subtract" and _is_exponents(args[0]):
            return self._showing(args[0])
        if op == "multiply" and args[1].is_constant and args[1].attribute > 0:
            return self._showing(args[0])
        if op == "load" and is_float(target.dtype):
            return [elements.apply("not_equal", BOOL, target, elements.constant(-math.inf, target.dtype))]
        return []


def _is_exponents(scalar: Scalar) -> bool:
    """Whether what hides in it is -inf, which stays that in a sum: a 0 would not."""
    if scalar.op == "where":
        return all(not each.is_constant or each.attribute != 0 for each in scalar.args[1:])
    return True


def _contracts(scalar: Scalar) -> bool:
    return any(each.op == "reduce" for each in below([scalar]))


def _meet(found: dict[Scalar, Conditions], scalar: Scalar, conditions: Conditions) -> None:
    known = found.get(scalar)
    found[scalar] = conditions if known is None else known & conditions


def _ordered(conditions: Conditions) -> tuple[Scalar, ...]:
    return tuple(sorted(conditions, key=lambda each: each.number))


def trace(writer: "Writer", watch: Watch, value_of: Callable[[Scalar], Value], nothing: Value) -> Value:
    """``nothing``, but NaN in lanes in which something is not as it should be.

    Args:
        writer: The kernel's.
        watch: What is looked at.
        value_of: A tile value's lanes; true is known of a condition that is 1.
        nothing: 0, or NaN from before.
    """
    f = writer.f
    zero = f.constant(0.0, nothing.type)
    for scalar, conditions in watch.contractions:
        value = value_of(scalar)
        for each in conditions:
            value = f.select(value_of(each), value, zero)
        # What is not finite less itself is NaN, too, and with AVX-512 additions have units of their own.
        added = f.target.has_avx512
        nothing = f.add(nothing, f.sub(value, value)) if added else f.fma(value, zero, nothing)
    for scalar, conditions in watch.indices:
        wrong = value_of(scalar)
        for each in conditions:
            wrong = f.and_(wrong, value_of(each))
        nothing = f.select(wrong, f.constant(math.nan, nothing.type), nothing)
    return nothing


def look_at_results(writer: "Writer", values: Sequence[Value], is_empty: Callable[[], Value | None]) -> None:
    """Doubt results that are not finite, but for -inf in rows without weights.

    Args:
        writer: The kernel's.
        values: Vectors of them.
        is_empty: Writes which lanes belong to such rows; None where there can be none.
    """
    f = writer.f
    nothing = f.mul(values[0], 0.0)  # NaN times anything, and infinity times 0, are NaN
    for value in values[1:]:
        nothing = f.fma(value, f.constant(0.0, value.type), nothing)

    def closely() -> None:
        empty, bad = is_empty(), f.is_nan(nothing)
        if empty is not None:
            bad = f.constant(0, bad.type)
            for value in values:
                hidden = f.and_(empty, f.compare("==", value, -math.inf))
                bad = f.or_(bad, f.and_(f.is_nan(f.mul(value, 0.0)), f.not_(hidden)))
        writer.doubt(f.any_lane(bad))

    f.when(f.any_lane(f.is_nan(nothing)), closely)
