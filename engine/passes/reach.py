"""How far a sweep reaches: what it may compute inside, and which reductions may be sweeps at all.

A sweep is worth while where something is contracted for pairs of a row and a column: a product, or a reduction of
what no stored array is as large as. Everything else reduces arrays that are there, and takes them as they are.
"""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from typing import NamedTuple

from ..ir import Node, UnfusableError
from ..leaves import Data, Placeholder
from ..lengths import estimate
from .generations import generations

# A contraction over more than this is a matrix product of its own, not a part of a tile.
WIDEST_CONTRACTION = 256
_MOST_NODES = 200
# What no kernel has inside.
_APART = frozenset({"leaf", "opaque", "placement", "selection"})


class _Facts(NamedTuple):
    """What is known of a node.

    Attributes:
        pairs: Elements of several arrays meet in it for pairs of a row and a column.
        contracts: Something is contracted for pairs, in it or below.
        is_tile: It varies over such pairs itself.
        weighs: It is normalized along an axis of such pairs, as a softmax is.
    """

    pairs: bool = False
    contracts: bool = False
    is_tile: bool = False
    weighs: bool = False


_NOTHING = _Facts()


def with_components(order: Sequence[Node]) -> list[Node]:
    """The nodes in order, and before each what it is made through: that may turn out to be needed for itself."""
    found: dict[Node, None] = {}
    for node in order:
        found.update(dict.fromkeys(node.components()))
        found[node] = None
    return list(found)


class Reach:
    """What sweeps of one graph may compute inside.

    Args:
        order: The graph's nodes, operands first.
        needed: Nodes that are made anyway, by steps before: it grows while sweeps are looked for.
        may_be_of_pairs: Whether a tile that is needed may still be one more result of a sweep.
        made: What other kernels make: arrays to every sweep.
    """

    def __init__(
        self,
        order: Sequence[Node],
        needed: Set[Node],
        may_be_of_pairs: Callable[[Node], bool] = lambda _: False,
        made: Collection[Node] = (),
    ) -> None:
        order = with_components(order)
        self._needed, self._may_be_of_pairs, self._made = needed, may_be_of_pairs, made
        # What each node takes that is computed anew.
        self.generations = generations(order)
        self._place = {node: place for place, node in enumerate(order)}
        self._facts: dict[Node, _Facts] = {}
        self._reads: set[Node] = set()  # what depends on an array, and not on positions alone
        for node in order:
            self._facts[node] = _NOTHING if node in made else _facts_of(node, self._facts, _is_outer)
            if isinstance(node, Data | Placeholder) or not self._reads.isdisjoint(node.operands):
                self._reads.add(node)

    def inlined(self, node: Node) -> set[Node]:
        """What may be computed inside the sweep: up to the first contractions, and around their operands.

        Raises:
            UnfusableError: If there is nothing in it that a sweep is for.
        """
        inside = self._gathered(node, set())
        facts: dict[Node, _Facts] = {}
        for each in sorted(inside, key=self._place.__getitem__):
            facts[each] = _facts_of(each, facts, _meet)
        if not any(facts.get(operand, _NOTHING).contracts for operand in node.operands):
            reason = "nothing in it is contracted for pairs of a row and a column"
            if len(inside) >= _MOST_NODES:
                reason = f"more than {_MOST_NODES} operations would be in one kernel"
            raise UnfusableError(f"{node.name}: {reason}")
        stored = {each for each in inside if each.role == "reduction" and not facts[each].contracts} - {node}
        return self._gathered(node, stored) if stored else inside

    def is_split(self, node: Node) -> bool:
        """Whether it goes on reducing what a reduction of contracted pairs leaves: that one is the sweep."""
        (inner, *_) = node.operands
        return type(inner) is type(node) and node.role == "reduction" and self._facts[inner.operands[0]].contracts

    def _gathered(self, node: Node, stored: set[Node]) -> set[Node]:
        inside: set[Node] = {node, *(part for part in node.components() if part not in stored)}
        # Of a product only the left side is a tile: a product that makes the right side is a step before.
        is_product = node.role == "contraction"
        stack = [(operand, is_product and number > 0) for number, operand in enumerate(node.operands)]
        while stack and len(inside) < _MOST_NODES:
            each, below_contraction = stack.pop()
            if each in inside or each in stored or each.role in _APART or self._is_made(each):
                continue
            if each.role == "contraction" and (below_contraction or not _fits(each) or self._weighs(each)):
                continue
            inside.add(each)
            inside.update(part for part in each.components() if part not in stored and not self._is_made(part))
            below_contraction = below_contraction or each.role == "contraction"
            stack += [(operand, below_contraction) for operand in each.operands]
        return inside

    def _weighs(self, contraction: Node) -> bool:
        """Whether it sums by weights that sum to one, of another contraction: then it is a sweep of its own."""
        return any(self._facts[each].weighs for each in contraction.operands)

    def _is_made(self, node: Node) -> bool:
        """Whether a step before makes it anyway. A number of each row may still be one more result of the sweep."""
        facts = self._facts[node]
        if node in self._made:
            return True
        if node not in self._needed or node not in self._reads:
            return False
        return (facts.is_tile and not self._may_be_of_pairs(node)) or not facts.contracts

    def is_tile(self, node: Node) -> bool:
        """Whether its last two axes are rows and columns, and something is contracted for each pair of them."""
        seen, stack = set[Node](), [node]
        while stack:
            each = stack.pop()
            if each in seen or each.shape[-2:] != node.shape[-2:] or not self._facts[each].contracts:
                continue
            if each.role == "contraction" or (each.role == "reduction" and each.operands[0].shape != each.shape):
                return True
            seen.add(each)
            stack += each.operands
        return False


def _facts_of(node: Node, known: Mapping[Node, _Facts], meet: Callable[[Node], bool]) -> _Facts:
    if node.role in _APART:
        return _NOTHING
    if node.role == "contraction":
        return _Facts(_fits(node), _fits(node), _fits(node))
    given = [known.get(operand, _NOTHING) for operand in node.operands]
    pairs, contracts = any(each.pairs for each in given), any(each.contracts for each in given)
    weighs = any(each.weighs for each in given)
    if node.role == "reduction":
        weighs = contracts and node.shape == node.operands[0].shape
        return _Facts(pairs, contracts or pairs, pairs and not contracts, weighs)
    return _Facts(pairs or meet(node), contracts, any(each.is_tile for each in given), weighs)


def _fits(contraction: Node) -> bool:
    return bool(estimate(contraction.operands[0].shape[-1]) <= WIDEST_CONTRACTION)


def _is_outer(node: Node) -> bool:
    """Whether an element-wise result is larger than each of its operands: elements meet that lie in no one array."""
    return len(node.operands) > 1 and all(operand.shape != node.shape for operand in node.operands)


def _meet(node: Node) -> bool:
    """Whether operands of different shapes meet, one row of them among others: then only one of them is larger."""
    several = [operand for operand in node.operands if any(length != 1 for length in operand.shape)]
    return len({operand.shape for operand in several}) > 1
