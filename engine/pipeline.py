"""The passes, in order: the table of contents of the compiler."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .check import check
from .ir import Change, Node
from .passes.center import center
from .passes.common_factors import common_factors
from .passes.distribute import distribute
from .passes.exchange import exchange
from .passes.fold_constants import fold_constants
from .passes.hoist import hoist_row_factors
from .passes.simplify import simplify
from .passes.split_sums import split_sums

Pass = Callable[[Sequence[Node], list[Change] | None], tuple[Node, ...]]

PASSES: tuple[Pass, ...] = (
    simplify,
    center,
    distribute,
    exchange,
    fold_constants,
    common_factors,
    hoist_row_factors,
    simplify,
    split_sums,
)


@dataclass(frozen=True)
class PassReport:
    """What one pass did: its name, the graph after it, and what it replaced by what."""

    name: str
    roots: tuple[Node, ...]
    changes: tuple[Change, ...]


def optimize(roots: Sequence[Node]) -> tuple[Node, ...]:
    """A graph of equal value that is cheaper to evaluate."""
    graph = tuple(roots)
    for each in PASSES:
        after = each(graph, None)
        check(graph, after)
        graph = after
    return graph


def optimize_reported(roots: Sequence[Node]) -> list[PassReport]:
    """As `optimize`, keeping what every pass did."""
    graph = tuple(roots)
    reports = []
    for each in PASSES:
        changes: list[Change] = []
        after = each(graph, changes)
        check(graph, after)
        graph = after
        reports.append(PassReport(each.__name__, graph, tuple(dict.fromkeys(changes))))
    return reports
