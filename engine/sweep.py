"""Sweeps: what streams over columns for a block of rows, and what it accumulates.

A value is *row-valued*, *column-valued* or *tile-valued* by the axes that it spans. Tile values are
recomputed for every tile and never stored. A sweep runs over the columns once and feeds any number of
accumulators; outputs are expressions of rows and accumulators, evaluated when it ends.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from .ir import Node
from .lengths import estimate
from .scalar import Axis, Scalar, below, below_shown, show, shown_args
from .types import DType

# How deep a listing shows what is nested.
_DEPTH = 12


@dataclass(frozen=True)
class Accumulator:
    """``sum over columns of exp(group - running maximum) * weight * column``.

    Attributes:
        group: The exponent, a tile value; accumulators of one group share a running maximum and are
            rescaled together. None: nothing is exponentiated, nothing rescaled.
        weight: A further tile factor; the constant 1 for none.
        column: What a column contributes, which may vary over ``small``; the constant 1 for a plain sum. What a row and
            a column contribute together, a *pair body*, varies over rows, columns and ``small``.
        small: The axis of a vector-valued accumulator, or None.
        of_columns: Whether it is the other way round: a sum over rows for each column, of what a row contributes.
        of_pairs: Whether nothing is summed here: every pair adds its weight to a place of its own.
        selects: Whether nothing is summed at all: it lists the columns of the largest weights, the largest first, of
            equal ones the first; as many as ``small`` is long.
    """

    group: Scalar | None
    weight: Scalar
    column: Scalar
    small: Axis | None
    of_columns: bool = False
    of_pairs: bool = False
    selects: bool = False


@dataclass
class Output:
    """One result: the node that it computes, the axes of its indices, and its value per row.

    Attributes:
        node: The result.
        axes: The axes that are its indices. Batch axes that are not among them are summed over.
        value: Its element, for a row, a column or a pair of both.
        small: The axis of its vectors, if it has some.
        source: What is summed over batch axes, or added at places: the node itself if there is nothing to add up.
        at: The axes of the source's indices.
        places: Of a result of pairs, the indices of the element to which a pair adds its weight.
        rounded: The narrower type that all of its users make of it; None if one takes it as it is.
    """

    node: Node
    axes: tuple[Axis, ...]
    value: Scalar
    small: Axis | None
    source: Node
    at: tuple[Axis, ...]
    places: tuple[Scalar, ...] = ()
    rounded: DType | None = None
    _found: tuple[Scalar, list[Accumulator]] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def total(self) -> Accumulator | None:
        """The sum over rows that it is a multiple of, if it is a result of columns; the first one of several."""
        return next(iter(self.totals), None)

    @property
    def totals(self) -> list[Accumulator]:
        """The sums over rows that are added up to it."""
        return [each for each in self._sums() if each.of_columns]

    @property
    def of_pairs(self) -> Accumulator | None:
        """The weights that it is a multiple of, if pairs of a row and a column add to it."""
        return next((each for each in self._sums() if each.of_pairs), None)

    @property
    def is_of_rows(self) -> bool:
        """Whether it is complete when a block of rows is."""
        return self.total is None and self.of_pairs is None

    @property
    def coefficient(self) -> Scalar | None:
        """The number by which what is added up is multiplied; None for 1, and for what is more than a multiple."""
        value = self.value
        plain = value.op == "multiply" and {value.args[0].op, value.args[1].op} == {"accumulator", "constant"}
        return next(each for each in value.args if each.is_constant) if plain else None

    def _sums(self) -> list[Accumulator]:
        """What is accumulated for it: looked for once, for a kernel asks at every call."""
        if self._found is None or self._found[0] is not self.value:
            self._found = self.value, [each.attribute for each in below([self.value]) if each.op == "accumulator"]
        return self._found[1]


@dataclass
class Sweep:
    """One pass over the columns for every block of rows, for every place along the batch axes."""

    batch: tuple[Axis, ...]
    rows: Axis
    columns: Axis
    outputs: list[Output] = field(default_factory=list)
    groups: list[Scalar] = field(default_factory=list)
    accumulators: list[Accumulator] = field(default_factory=list)

    @property
    def pair(self) -> frozenset[Axis]:
        """What a tile value varies over: rows and columns; of a single row, columns alone."""
        return frozenset((self.rows, self.columns) if self.rows.length > 1 else (self.columns,))

    @property
    def totals_of_columns(self) -> list[Accumulator]:
        """What is summed over rows, for each column."""
        return [each for each in self.accumulators if each.of_columns]

    @property
    def of_pairs(self) -> list[Output]:
        """Results to which every pair of a row and a column adds."""
        return [each for each in self.outputs if each.of_pairs is not None]

    @property
    def streamed(self) -> tuple[Axis, ...]:
        """Batch axes that the results of rows sum over: they are streamed, as columns are."""
        of_rows = [each for each in self.outputs if each.is_of_rows]
        lost = [axis for axis in self.batch if of_rows and not any(axis in each.axes for each in of_rows)]
        return tuple(axis for axis in lost if axis.length != 1)

    @property
    def looped(self) -> tuple[Axis, ...]:
        """Batch axes that other results sum over: one task goes through all of their places."""
        others = [each for each in self.outputs if not each.is_of_rows]
        rest = [axis for axis in self.batch if axis not in self.streamed]
        return tuple(axis for axis in rest if axis.length != 1 and any(axis not in each.axes for each in others))

    @property
    def adds_up(self) -> bool:
        """Whether several blocks of rows, or places of the batch, add to one result."""
        return bool(self.streamed) or any(not each.is_of_rows for each in self.outputs)

    @property
    def selects(self) -> bool:
        """Whether it lists columns: then all of them have to be seen, in their order."""
        return any(each.selects for each in self.accumulators)

    @property
    def paired(self) -> list[Accumulator]:
        """Sums of what rows and columns bring together."""
        return [each for each in self.accumulators if {self.rows, self.columns} <= each.column.axes]

    @property
    def positions(self) -> int:
        """Pairs of a row and a column, over the whole batch."""
        return math.prod(estimate(axis.length) for axis in (*self.batch, self.rows, self.columns))

    @property
    def flops(self) -> int:
        """Operations for all positions."""
        return self.positions * self.flops_of_position

    @property
    def flops_of_position(self) -> int:
        """Operations for a row and a column: two for each step of a contraction, one for each function."""
        scalars = below([*self.groups, *(each.weight for each in self.accumulators)])
        tile = [each for each in scalars if self.pair <= each.axes and each.op != "load"]
        contracted = sum(2 * each.attribute[1].length if each.op == "reduce" else 1 for each in tile)
        summed = sum(2 * (1 if each.small is None else each.small.length) for each in self.accumulators)
        summed -= sum(each.of_pairs for each in self.accumulators)  # which add, and multiply nothing
        for each in self.paired:
            steps = [step for step in below([each.column]) if {self.rows, self.columns} <= step.axes]
            summed += len(steps) * (1 if each.small is None else each.small.length)
        return contracted + summed + len(self.groups)

    def __str__(self) -> str:
        batch = ", ".join(f"{axis}:{axis.length}" for axis in self.batch)
        lines = [
            f"for {batch or 'once'}; rows {self.rows}:{self.rows.length}; sweep {self.columns}:{self.columns.length}"
        ]
        names = self._names()

        def definition(scalar: Scalar) -> str:
            return show(scalar, _DEPTH, {each: name for each, name in names.items() if each is not scalar})

        lines += [f"  {name} = {definition(each)}" for each, name in names.items() if name.startswith("t")]
        lines += [f"  group {number}: {definition(group)}" for number, group in enumerate(self.groups)]
        for number, each in enumerate(self.accumulators):
            scale = "" if each.group is None else f"exp(group {self.groups.index(each.group)}) * "
            weight, column = (show(part, _DEPTH, names) for part in (each.weight, each.column))
            if each.of_pairs:
                lines.append(f"  pairs {number}: {weight}")
                continue
            if each.selects:
                lines.append(f"  largest {number}: {weight}")
                continue
            over = "sum over rows" if each.of_columns else "sum"
            lines.append(f"  {over} {number}: {scale}{weight} * {column}")
        for output in self.outputs:
            places = ", ".join(show(place, _DEPTH, names) for place in output.places)
            added = f" added at [{places}]" if places else ""
            lines.append(f"  return {output.node.type}: {show(output.value, _DEPTH, names)}{added}")
        return "\n".join(lines)

    def expressions(self) -> list[Scalar]:
        """All expressions: of the groups, of the outputs, of what accumulators sum."""
        found = [*self.groups, *(output.value for output in self.outputs)]
        found += [place for output in self.outputs for place in output.places]
        for each in self.accumulators:
            found += [each.weight, each.column]
        return found

    def _names(self) -> dict[Any, str]:
        """Names for a listing: of results, of what is used twice, and of arrays that share one."""
        everything = below_shown(self.expressions())
        names: dict[Any, str] = {}
        arrays = list(dict.fromkeys(each.attribute for each in everything if each.op == "load"))
        kinds = [node.name for node in arrays]
        for number, node in enumerate(arrays):
            if kinds.count(node.name) > 1:
                names[node] = f"{node.name}{kinds[:number].count(node.name)}"
        uses: dict[Scalar, int] = dict.fromkeys(everything, 0)
        for user in everything:
            for each in set(shown_args(user)):
                uses[each] += 1
        shared = [each for each in everything if uses[each] > 1 and each.args and each.op != "load"]
        shared = [each for each in shared if each not in self.groups]
        names |= {each: f"t{number}" for number, each in enumerate(shared)}
        names |= {group: f"group {number}" for number, group in enumerate(self.groups)}
        for each in everything:
            if each.op == "accumulator":
                kind = "pairs" if each.attribute.of_pairs else "largest" if each.attribute.selects else "sum"
                names[each] = f"{kind} {self.accumulators.index(each.attribute)}"
            elif each.op == "maximum_of":
                names[each] = f"max {self.groups.index(each.attribute)}"
        return names
