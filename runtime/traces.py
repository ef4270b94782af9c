"""What a compiled function keeps of a set of arguments: the traced graph, and the direct way into it."""

import functools
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..engine.config import Settings
from ..engine.evaluate import Prepared
from ..engine.ir import Node, Values
from ..engine.leaves import Placeholder
from ..engine.structure import LEAF, Structure, unflatten
from .arguments import is_traced

if TYPE_CHECKING:
    from ..engine.entry import Entry


@dataclass(eq=False, slots=True)
class Trace:
    """One traced graph: what stands for the arguments, the results, and the graph that is run.

    ``stand_ins`` are of all traced arguments: placeholders, and arrays that are read block by block. What reads such
    an array is for this very one.
    ``placeholders`` are those of them that stand for what comes with each call; ``key`` is what it is found by.
    ``calls`` counts those of the ordinary path; ``tried`` is for which settings an entry was last wanted,
    ``tries`` how often, and ``direct`` what came of it.
    """

    stand_ins: tuple[Node, ...]
    results: tuple[Node | None, ...]
    prepared: Prepared
    structure: Structure
    calls: int = 0
    tried: Settings | None = None
    tries: int = 0
    direct: "Direct | None" = None
    key: Any = None
    placeholders: tuple[Placeholder, ...] = ()

    def __post_init__(self) -> None:
        self.placeholders = tuple(node for node in self.stand_ins if isinstance(node, Placeholder))

    @property
    def streams(self) -> bool:
        """Whether an argument is read block by block."""
        return len(self.placeholders) < len(self.stand_ins)


class Direct(NamedTuple):
    """A way into one trace that needs no Python: for what, the function, and what puts its results in order."""

    settings: Settings
    check_finite: bool
    call: Callable[..., Any]
    finish: Callable[[Any], Any] | None
    trace: Trace
    entry: "Entry"


@functools.cache
def _entries() -> Any:
    """What makes entries: loaded by the first function that is called twice, for LLVM takes its time."""
    return importlib.import_module("..engine.entry", __package__)


def make_direct(
    trace: Trace, leaves: Sequence[Any], settings: Settings, hits: Values, check_finite: bool
) -> Direct | None:
    """The way into a trace for calls like this one; None if there is none."""
    if trace.streams or trace.prepared.native_steps != 1:
        return None
    entries = _entries()
    nodes = iter(trace.placeholders)
    arguments = [entries.Argument(next(nodes) if is_traced(leaf) else None, leaf) for leaf in leaves]
    entry = entries.make_entry(trace.prepared, arguments, settings, hits, check_finite=check_finite)
    if entry is None:
        return None
    if not entry.is_tuple and trace.structure is LEAF:
        return Direct(settings, check_finite, entry.call, None, trace, entry)
    wanted = iter(entry.places)
    places = [None if node is None else next(wanted) for node in trace.results]
    finish = functools.partial(_finished, trace.structure, places, entry.is_tuple)
    return Direct(settings, check_finite, entry.call, finish, trace, entry)


def _finished(structure: Structure, places: Sequence[int | None], is_tuple: bool, made: Any) -> Any:
    """What an entry returned, as the function would."""
    computed = made if is_tuple else (made,)
    return unflatten(structure, iter([None if place is None else computed[place] for place in places]))
