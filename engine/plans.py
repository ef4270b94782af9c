"""Plans that are found again: graphs of one form share one program, whatever their lengths are.

The first graph of a form is planned for itself. The second is planned on free lengths (`engine.lengths`),
and its program runs whatever comes later, as long as the lengths that it turned out to depend on are the same.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import program as programs
from .config import Settings
from .forms import GraphForm, with_free_lengths
from .interpreter import Bindings, evaluate_node
from .ir import Node, Values
from .leaves import Data, Placeholder
from .lengths import Lengths, PinnedError, is_free
from .pipeline import optimize
from .program import Program

_MOST_FORMS = 256
# Lengths that every plan depends on: more plans of one form would only fill the memory.
_MOST_OF_ONE_FORM = 8


class Template(NamedTuple):
    """A program on free lengths.

    Attributes:
        program: The program.
        sources: The placeholders that stand for what brings arrays.
        planned: The lengths that it was planned with, by symbol.
        pinned: The symbols that it depends on.
    """

    program: Program
    sources: tuple[Node, ...]
    planned: tuple[int, ...]
    pinned: set[int]

    def bound(self, form: GraphForm) -> "Bound | None":
        """The program at the lengths of a graph, or None if it does not hold for them."""
        lengths = Lengths(form.values, self.planned, self.pinned)
        return Bound(self, form.leaves, lengths) if lengths.fit else None


class Bound:
    """A program on free lengths, at the lengths of one graph, reading what that graph reads."""

    def __init__(self, template: Template, leaves: Sequence[Node], lengths: Lengths) -> None:
        self._template, self._leaves, self._lengths = template, tuple(leaves), lengths
        self._nodes: dict[Node, Node] = {}

    @property
    def program(self) -> Program:
        """The program, on free lengths."""
        return self._template.program

    def run(self, bindings: Bindings, settings: Settings, *, check_finite: bool) -> list[Values] | None:
        """The results, or None if the interpreter has to decide.

        Raises:
            PinnedError: If the program depends on a length that is another one here.
        """
        given = [self._given(leaf, bindings) for leaf in self._leaves]
        arrays = dict(zip(self._template.sources, given, strict=True))
        return self._template.program.run(arrays, settings, check_finite=check_finite, bound=self)

    def _given(self, leaf: Node, bindings: Bindings) -> Values:
        found = bindings.get(leaf)
        if found is None and isinstance(leaf, Data):
            found = leaf.array()
        return evaluate_node(leaf, (), bindings) if found is None else found

    def check(self) -> None:
        """Raise PinnedError unless the program holds here."""
        self._lengths.check()

    def of(self, value: Any) -> Any:
        """A length, or a tuple in which some are, as it is here."""
        return self._lengths.of(value)

    def node(self, node: Node) -> Node:
        """A node as it is at these lengths, its operands stood for by placeholders."""
        if isinstance(node, Placeholder):
            return node
        found = self._nodes.get(node)
        if found is None:
            attributes = node.attributes()
            free = is_free(tuple(attributes.values())) or any(is_free(each.shape) for each in (node, *node.operands))
            found = self._nodes[node] = self._made(node) if free else node
        return found

    def _made(self, node: Node) -> Node:
        args: list[object] = []
        for field in node.fields:
            value = getattr(node, field)
            if field not in node.operand_fields:
                args.append(self._lengths.of(value))
            elif isinstance(value, tuple):
                args.append(tuple(map(self._stand_in, value)))
            else:
                args.append(self._stand_in(value))
        made: Node = type(node)(*args)
        return made

    def _stand_in(self, node: Node) -> Node:
        if not is_free(node.shape):
            return node
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = Placeholder.new(self._lengths.of(node.type))
        return found


class Plans:
    """Programs by form. What has been used least recently goes first."""

    def __init__(self) -> None:
        self._templates: OrderedDict[object, list[Template]] = OrderedDict()
        self._lock = threading.Lock()

    def bound(self, form: GraphForm, roots: Sequence[Node], *, repeated: bool = False) -> Bound | None:
        """The program of a graph whose form has come before, at its lengths; None for a new form."""
        key = (form.key, repeated, programs.LEAST_WORK, programs.LEAST_ELEMENTS)
        with self._lock:
            templates = self._templates.get(key)
            if templates is None:
                self._templates[key] = []
                while len(self._templates) > _MOST_FORMS:
                    self._templates.popitem(last=False)
                return None
            self._templates.move_to_end(key)
            known = tuple(templates)
        for template in known:
            bound = template.bound(form)
            if bound is not None:
                return bound
        if len(known) >= _MOST_OF_ONE_FORM:
            return None
        template = _planned(form, roots, repeated)
        with self._lock:
            templates.append(template)
        return template.bound(form)


def _planned(form: GraphForm, roots: Sequence[Node], repeated: bool) -> Template:
    free, sources, pinned = with_free_lengths(form, roots)
    return Template(Program(optimize(free), repeated=repeated), sources, form.values, pinned)


plans = Plans()

__all__ = ["Bound", "PinnedError", "Plans", "plans"]
