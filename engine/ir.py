"""Nodes: the lazy graph. Frozen, interned, compared by identity.

Equal nodes are one object, so common subexpressions need no pass, and any dict keyed by nodes is a
memo table. Nothing here recurses on the depth of a graph: chains of many thousand nodes are normal.
"""

import operator
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, dataclass_transform

import numpy as np

from .errors import ArgumentError
from .labels import Axes, unlabelled
from .location import Line, current_lines, inherited_lines
from .order import postorder
from .types import DType, Shape, TensorType

Values = np.ndarray[Any, Any]

# Interning merges nodes of many lines; an error quotes the first, a listing some.
_MOST_LINES = 4


class _Reference(weakref.ref["Node"]):
    """A weak reference that knows its key in the table of nodes."""

    __slots__ = ("key",)
    key: tuple[Any, ...]

    def __new__(cls, node: "Node", forget: Callable[["_Reference"], None], key: tuple[Any, ...]) -> "_Reference":
        self = super().__new__(cls, node, forget)
        self.key = key
        return self

    def __init__(self, node: "Node", forget: Callable[["_Reference"], None], key: tuple[Any, ...]) -> None:
        super().__init__(node, forget)  # type: ignore[call-arg]


# Keys hold the ids of operands, not the operands: a live node holds its operands, so their ids are
# taken, and a dead node's entry is recognised by its dead reference. Holding the operands here
# would free a long chain by recursion through weak-reference callbacks.
_table: dict[tuple[Any, ...], _Reference] = {}
# Callbacks run inside garbage collection, which can start while this very thread holds the lock.
_lock = threading.RLock()


def _after_fork() -> None:
    """In a forked child, the thread that held the lock may not exist."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _forget(reference: _Reference) -> None:
    with _lock:
        if _table.get(reference.key) is reference:
            del _table[reference.key]


def freeze(value: Any) -> Any:
    """A hashable stand-in that keeps apart what Python's equality merges: 1, 1.0, True; 0.0, -0.0."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is float:
        return kind, repr(value)
    if isinstance(value, np.dtype):
        return np.dtype, value.num
    if isinstance(value, tuple):
        return kind, *map(freeze, value)
    return "id", id(value)


_PLAIN = frozenset((int, bool, str, type(None)))


class _NodeClass(type):
    """Turns a class body's annotations into fields, and its calls into interned nodes."""

    fields: tuple[str, ...]
    operand_fields: frozenset[str]
    setters: tuple[tuple[Callable[[Any, Any], None], bool], ...]

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> "_NodeClass":
        own = {
            field: hint
            for field, hint in namespace.get("__annotations__", {}).items()
            if "ClassVar" not in str(hint) and not field.startswith("_") and name != "Node"
        }
        if name != "Node":
            namespace["__slots__"] = tuple(own)
            namespace.setdefault("name", _words(name))
        cls = super().__new__(mcs, name, bases, namespace)
        inherited = next((base for base in bases if isinstance(base, _NodeClass)), None)
        cls.fields = (inherited.fields if inherited else ()) + tuple(own)
        operands = {field for field, hint in own.items() if _is_operand(hint)}
        cls.operand_fields = (inherited.operand_fields if inherited else frozenset()) | operands
        # How a new node's fields are set, for a frozen one has no other way: found once, for it is done often.
        cls.setters = tuple((getattr(cls, field).__set__, field in cls.operand_fields) for field in cls.fields)
        return cls

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            args += tuple(kwargs[field] for field in cls.fields[len(args) :])
        assert len(args) == len(cls.fields), f"{cls.__name__} takes {cls.fields}"
        operand_fields = cls.operand_fields
        key: list[Any] = [cls]
        for field, value in zip(cls.fields, args, strict=True):
            if field not in operand_fields:
                key.append(freeze(value))
            elif isinstance(value, tuple):
                key.append(tuple(map(id, value)))
            else:
                key.append(id(value))
        return _intern(cls, tuple(key), args)


def _is_operand(hint: Any) -> bool:
    return hint is Node or hint in ("Node", "tuple[Node, ...]") or hint == tuple[Node, ...]


def _words(name: str) -> str:
    """``LogSumExp`` as ``log_sum_exp``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _intern(cls: _NodeClass, key: tuple[Any, ...], args: tuple[Any, ...]) -> "Node":
    with _lock:
        reference = _table.get(key)
        found = reference() if reference is not None else None
    lines = current_lines()
    if found is None:
        node = _build(cls, args)
        with _lock:
            reference = _table.get(key)
            found = reference() if reference is not None else None
            if found is None:
                _table[key] = _Reference(node, _forget, key)
                object.__setattr__(node, "lines", lines)
                return node
    if any(line not in found.lines for line in lines) and len(found.lines) < _MOST_LINES:
        object.__setattr__(found, "lines", (*found.lines, *lines)[:_MOST_LINES])
    return found


def _build(cls: _NodeClass, args: tuple[Any, ...]) -> "Node":
    node: Node = object.__new__(cls)  # type: ignore[arg-type]
    operands: list[Node] = []
    for (set_field, is_operand), value in zip(cls.setters, args, strict=True):
        set_field(node, value)
        if is_operand:
            operands.extend(value if isinstance(value, tuple) else (value,))
    object.__setattr__(node, "operands", tuple(operands))
    object.__setattr__(node, "lines", ())
    object.__setattr__(node, "type", node.infer())
    return node


class UnfusableError(Exception):
    """Something that no kernel can hold; the message is what `explain` says.

    Attributes:
        node: The node whose element it is, if there is one: stored, it need not be in a kernel.
    """

    node: "Node | None" = None


@dataclass_transform(frozen_default=True, eq_default=False)
class Node(metaclass=_NodeClass):
    """A value of the graph: an operator, its operands and its static attributes.

    A subclass is one operator. Its annotations are its fields: those annotated ``Node`` or
    ``tuple[Node, ...]`` are operands, the others static attributes. It says all there is to know
    about the operator: shape rule, reference, and how hidden positions pass through it.
    """

    __slots__ = ("__weakref__", "lines", "operands", "type")
    name: ClassVar[str] = "node"
    fields: ClassVar[tuple[str, ...]] = ()
    operand_fields: ClassVar[frozenset[str]] = frozenset()
    # A mask may write its 0 or -inf here: what it hides must stay beside what it hides it from.
    may_hide: ClassVar[bool] = False
    # Under check_finite the operand must be finite where it counts.
    guards: ClassVar[bool] = False
    # What the operator does to the shape of its operands, for those who look for what to fuse:
    # "leaf", "pointwise", "rearrangement", "reduction", "contraction", "placement", "selection", or "opaque".
    role: ClassVar[str] = "opaque"
    # The interpreter computes this operator's floats in float64 and rounds once.
    wide: ClassVar[bool] = False
    # It tells equal numbers from others: computed once more in another way, a number may be another one.
    is_exact: ClassVar[bool] = False
    # It says something about gradients: what that is for is gone once they are taken, and until then it stays.
    of_gradients: ClassVar[bool] = False
    # What is computed from it is computed again, though it has been before: that is not to be done together.
    begins_anew: ClassVar[bool] = False
    # Its elements are those of its one operand, in the same order: nothing moves, only lengths differ.
    keeps_order: ClassVar[bool] = False
    # The result is rounded to its stored type at once (an explicit cast), not only at the end.
    rounds: ClassVar[bool] = False

    type: TensorType
    operands: "tuple[Node, ...]"
    lines: tuple[Line, ...]

    def __setattr__(self, field: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: {field} cannot be set")

    def infer(self) -> TensorType:
        """The type of the result. Raises the user's ShapeError or DTypeError."""
        raise NotImplementedError

    def reference(self, *operands: Any) -> Any:
        """The definition, in NumPy, on the operands' values."""
        raise NotImplementedError

    def simplify(self) -> "Node | None":
        """A better node of equal value, or None."""
        return None

    def distribute(self) -> "Node | None":
        """The same as a sum of what gradients need each for itself, or None; `factor_out` undoes it where none do."""
        return None

    def divided(self, divisor: "Node") -> "Node | None":
        """A better node for this one divided by another, or None: an exponential by the sum of such is a share."""
        return None

    def shown(self, condition: "Node", hides_where: bool) -> "Node | None":
        """A better node for this one, and 0 where ``condition`` is ``hides_where``, or None."""
        return None

    def factor_out(self, uses: "Mapping[Node, int]") -> "Node | None":
        """The same with a common factor taken out of its terms, or None.

        ``uses`` counts each node's users: what others need too is not worth taking apart.
        """
        return None

    def hoist(self, uses: "Mapping[Node, int]") -> "Node | None":
        """The same with factors that do not vary over what is summed moved behind the sum, or None."""
        return None

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The element at the indices ``at``, from elements of the operands (see `engine.kernel`).

        Raises UnfusableError where a kernel cannot compute it.
        """
        raise UnfusableError(f"{self.name} has no element that a kernel computes")

    def places_in(self) -> int | None:
        """The length of an axis that all elements are places of, none counted from the end; None for no promise."""
        return None

    def selects_along(self) -> tuple[int, int]:
        """Of the role "selection": the axis along which it lists places, and of how many."""
        raise NotImplementedError

    def compared(self, kernel: Any, at: Sequence[Any], place: Any) -> Any:
        """Of the role "selection": what is compared at a place, for the line of its element at ``at``.

        It lists the places of the largest, of equal ones the first; -inf at a place is as good as nothing.
        """
        raise NotImplementedError

    def adds_to(self, kernel: Any, at: Sequence[Any]) -> "Sequence[Any] | None":
        """The indices of the element to which that of the first operand at ``at`` is added.

        None for an operator that does anything else with elements than to add them up.
        """
        return None

    def segments(self) -> "tuple[Node, int, bool] | None":
        """How the rows of its first operand are grouped, if it reduces each group to one row; None if it does not.

        Returns:
            The node of the rows' segments, one integer for each row; how many segments there are; and whether
            negative ones are counted from the end.
        """
        return None

    def components(self) -> "tuple[Node, ...]":
        """Nodes that its element is made through, though no operand leads there: each may be stored instead."""
        return ()

    def permuted(self, axes: tuple[int, ...]) -> "Node | None":
        """The same with its axes in this order, from operands in another order; None where that is no better."""
        return None

    def split(self, axis: int, other: int) -> "Node | None":
        """The same in two steps, that over ``axis`` first; over ``other`` if it reduces that one alone of both.

        None if there is only one step.
        """
        return None

    def adds_up_to_one(self) -> int | None:
        """The axis along which its elements are shares of 1, or all of them 0, whatever its operands are; or None."""
        return None

    def center(self) -> "Node | None":
        """The same without what is multiplied by a sum that is 0 but for its rounding, or None."""
        return None

    def exchange(self, present: "Collection[Node]") -> "Node | None":
        """The same from products that the graph holds anyway, or None."""
        return None

    def gradient(self, upstream: Any) -> "Sequence[Any]":
        """What arrives at each operand of ``upstream``, the gradient of the result; None for nothing.

        Handles on nodes, not numbers (`attngraph.Array`). A contribution may have the shape that the operand was
        broadcast to: the walk sums it to the operand's own.

        Raises:
            ArgumentError: If there is no gradient.
        """
        raise ArgumentError(f"{self.name}: has no gradient; where none is wanted, ag.stop_gradient says so")

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """What its axes are called, from the names of its operands' axes (see `engine.labels`); None is no name."""
        return unlabelled(self.shape)

    def named_after(self) -> "Node":
        """The operand whose name and attributes the result keeps, where it has some."""
        return self.operands[0]

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Whether the plain value cannot be trusted and the careful path must decide."""
        return value.dtype.kind == "f" and not bool(np.isfinite(value).all())

    def careful(self, operands: Sequence[Any], value: Values, court: Any) -> Any:
        """Value, hidden positions and blame of the result (see `engine.careful`)."""
        raise NotImplementedError

    @property
    def note(self) -> str:
        """What `explain` says of it beside the graph; mostly nothing."""
        return ""

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """Data type of the elements."""
        return self.type.dtype

    def with_operands(self, operands: "Sequence[Node]") -> "Node":
        """The same operator on other operands."""
        remaining = iter(operands)
        args: list[Any] = []
        for field in self.fields:
            value = getattr(self, field)
            if field not in self.operand_fields:
                args.append(value)
            elif isinstance(value, tuple):
                args.append(tuple(next(remaining) for _ in value))
            else:
                args.append(next(remaining))
        return type(self)(*args)

    def attributes(self) -> dict[str, Any]:
        """The static attributes by name."""
        return {field: getattr(self, field) for field in self.fields if field not in self.operand_fields}

    def __repr__(self) -> str:
        return f"<{self.name} {self.type}>"

    def __copy__(self) -> "Node":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Node":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _first_of, (flatten([self]),)


def walk(roots: "Iterable[Node]") -> "list[Node]":
    """All nodes below ``roots``, each once, operands before users."""
    return postorder(roots, _operands)


_operands = operator.attrgetter("operands")

Change = tuple["Node", "Node"]


def rewrite(
    roots: "Sequence[Node]",
    rule: "Callable[[Node], Node | None]",
    changes: "list[Change] | None" = None,
    kept: "Collection[Node]" = (),
) -> "tuple[Node, ...]":
    """The graph with ``rule`` applied once to every node, from the leaves up.

    The rule sees a node whose operands are already rewritten, and returns a better node of the same
    shape and data type, or None. ``changes`` collects the pairs of before and after. Nodes of ``kept`` stay as they
    are, and what is below those alone.
    """
    better: dict[Node, Node] = {each: each for each in kept}
    with inherited_lines() as inherit:
        for node in postorder(roots, lambda each: () if each in better else each.operands) if kept else walk(roots):
            if node in better:
                continue
            inherit(node.lines)
            operands = tuple([better[operand] for operand in node.operands])
            candidate = node if operands == node.operands else node.with_operands(operands)
            found = rule(candidate)
            if found is not None:
                assert found.type[:2] == candidate.type[:2], f"{candidate!r} became {found!r}"
                if changes is not None:
                    changes.append((candidate, found))
            better[node] = found or candidate
    return tuple(better[root] for root in roots)


def substituted(roots: "Sequence[Node]", replaced: "Mapping[Node, Node]") -> "tuple[Node, ...]":
    """The graph with some nodes replaced by others of their type, and what is below those no more looked at."""
    better: dict[Node, Node] = dict(replaced)
    with inherited_lines() as inherit:
        for node in postorder(roots, lambda each: () if each in replaced else each.operands):
            if node not in better:
                inherit(node.lines)
                operands = tuple([better[operand] for operand in node.operands])
                better[node] = node if operands == node.operands else node.with_operands(operands)
    return tuple(better[root] for root in roots)


def until_stable(
    roots: "Sequence[Node]", sweep: "Callable[[tuple[Node, ...]], tuple[Node, ...]]", most: int = 50
) -> "tuple[Node, ...]":
    """``sweep`` again and again until it changes nothing: rules then saw what other rules made."""
    before: tuple[Node, ...] = ()
    after = tuple(roots)
    for _ in range(most):
        if after == before:
            break
        before, after = after, sweep(after)
    return after


def users(roots: "Iterable[Node]") -> "dict[Node, int]":
    """How many operand places of the graph each node fills; a root counts as one more."""
    count: dict[Node, int] = {}
    for node in walk(roots):
        count.setdefault(node, 0)
        for operand in node.operands:
            count[operand] += 1
    for root in roots:
        count[root] += 1
    return count


def flatten(roots: "Sequence[Node]") -> tuple[list[Any], list[int]]:
    """A flat, picklable form: nested pickling would recurse on the depth of the graph."""
    order = walk(roots)
    place = {node: number for number, node in enumerate(order)}
    rows = [
        (type(node), [place[operand] for operand in node.operands], _arity(node), node.attributes(), node.lines)
        for node in order
    ]
    return rows, [place[root] for root in roots]


def _arity(node: Node) -> tuple[int | None, ...]:
    """Per operand field: None for a single node, else how many."""
    values = (getattr(node, field) for field in node.fields if field in node.operand_fields)
    return tuple(len(value) if isinstance(value, tuple) else None for value in values)


def unflatten(flat: tuple[list[Any], list[int]]) -> "list[Node]":
    """The nodes of `flatten`, interned here."""
    rows, roots = flat
    nodes: list[Node] = []
    for cls, places, arity, attributes, lines in rows:
        remaining = iter(nodes[place] for place in places)
        sizes = iter(arity)
        args: list[Any] = []
        for field in cls.fields:
            if field not in cls.operand_fields:
                args.append(attributes[field])
                continue
            size = next(sizes)
            args.append(next(remaining) if size is None else tuple(next(remaining) for _ in range(size)))
        with inherited_lines() as inherit:
            inherit(lines)
            nodes.append(cls(*args))
    return [nodes[place] for place in roots]


def _first_of(flat: tuple[list[Any], list[int]]) -> Node:
    return unflatten(flat)[0]
