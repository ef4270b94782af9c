"""``gradients grad value_and_grad vjp stop_gradient checkpoint``: graph to graph, so that they compose.

Nothing is computed here: gradients are lazy arrays, and inside `attngraph.compile` part of its graph. Reverse mode:
Linnainmaa 1970; the names and the meaning of arguments are JAX's.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..engine.errors import ArgumentError, DTypeError, ShapeError
from ..engine.ir import Node, substituted, walk
from ..engine.structure import flatten, same_structure, unflatten
from ..engine.types import is_float
from .array import Array, ArrayLike, lift
from .creation import ones
from .identities import Checkpoint, Differentiated, NoPath, Source, StopGradient
from .kinds import whole
from .pulling import pulled
from .registry import public

# Every differentiation has arguments of its own.
_numbers = itertools.count()


@public()
def gradients(output: ArrayLike, wrt: Any, seed: ArrayLike | None = None) -> Any:
    """The gradient of ``sum(output * seed)`` by each array of ``wrt``.

    Args:
        output: A lazy array of floats.
        wrt: A lazy array of floats, or several in a tuple, list or dict.
        seed: What output's elements are weighed with, in its shape; 1 if output is a single number.

    Returns:
        Lazy arrays in the structure, shapes and data types of ``wrt``; zeros where output does not depend on one.

    Raises:
        DTypeError: If output or one of ``wrt`` holds integers or booleans.
        ShapeError: If the seed has another shape, or is missing where output is no single number.
    """
    node = _differentiable(lift(output, "gradients"), "gradients: the output")
    given, structure = flatten(wrt)
    nodes = [_differentiable(lift(each, "gradients"), "gradients: by") for each in given]
    if seed is None and node.shape:
        raise ShapeError(f"gradients: the output {node.type} is no single number; seed= says how to weigh its elements")
    plain, output_of_them, wanted = _told_apart(node, nodes)
    found = _pulled([output_of_them], [_seed("gradients", seed, node)], wanted)
    return unflatten(structure, iter(map(Array, substituted([each.node for each in found], plain))))


@public()
def grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives the gradient of ``fn``, which returns a single number.

    Args:
        fn: A function of arrays, or of tuples, lists and dicts of arrays.
        argnums: By which arguments: one, or several in a tuple.

    Returns:
        A function of the same arguments: the gradient in the argument's structure, or a tuple of them if
        ``argnums`` is one. Lazy arrays, also outside of ``compile``.

    Raises:
        ArgumentError: For arguments that ``fn`` does not get, or a result that is no array.
        DTypeError: For an argument or a result of integers or booleans.
        ShapeError: If ``fn`` returns more than a number: then `vjp` is what is needed.
    """
    both = value_and_grad(fn, argnums)

    @functools.wraps(fn)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return gradient


@public()
def value_and_grad(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The function that gives ``(fn(…), its gradient)``; see `grad`."""
    places = _argnums(argnums)
    _check_callable("grad", fn)

    @functools.wraps(fn)
    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Array, Any]:
        for place in places:
            if not -len(args) <= place < len(args):
                raise ArgumentError(f"grad: argument {place} of {_name(fn)}, which is given {len(args)} by position")
        if len({place % len(args) for place in places}) < len(places):
            raise ArgumentError(f"grad: argnums {places} name an argument of {_name(fn)} twice")
        split = [_Argument(args[place], f"grad: argument {place} of {_name(fn)}") for place in places]
        called = list(args)
        for place, argument in zip(places, split, strict=True):
            called[place] = argument.nest
        value = _number(fn(*called, **kwargs), _name(fn))
        shown, *results = _with_gradients(split, [value], [_seed("grad", None, value)])
        return shown[0], tuple(results) if isinstance(argnums, Sequence) else results[0]

    return value_and_gradient


@public()
def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """``(fn(*primals), pullback)``: the pullback gives the gradients for any gradient of the value.

    Args:
        fn: A function of arrays, or of tuples, lists and dicts of arrays.
        primals: Its arguments.

    Returns:
        The value, and a function that takes gradients in the value's structure and shapes and returns a tuple, one
        gradient for each primal, in its structure. All lazy.

    Raises:
        DTypeError: For a primal or a value of integers or booleans.
        ArgumentError: By the pullback: if it is given another structure.
        ShapeError: By the pullback: if a gradient has another shape than its value.
    """
    _check_callable("vjp", fn)
    split = [_Argument(each, f"vjp: argument {place} of {_name(fn)}") for place, each in enumerate(primals)]
    leaves, structure = flatten(fn(*(argument.nest for argument in split)))
    values = [_differentiable(lift(leaf, "vjp"), f"vjp: the result of {_name(fn)}") for leaf in leaves]

    def pullback(gradient: Any) -> tuple[Any, ...]:
        given = same_structure(gradient, structure, f"vjp: the pullback of {_name(fn)}")
        # None would stand for ones, as in `gradients`: here it is no gradient.
        seeds = [_seed("vjp", Array(lift(each, "vjp")), value) for each, value in zip(given, values, strict=True)]
        _, *results = _with_gradients(split, values, seeds)
        return tuple(results)

    return unflatten(structure, iter(_plain(split, values))), pullback


@public()
def stop_gradient(x: ArrayLike) -> Array:
    """``x``, by which nothing is differentiated: a constant to every gradient."""
    return Array(StopGradient(lift(x, "stop_gradient")))


@public()
def checkpoint(fn: Callable[..., Any]) -> Callable[..., Any]:
    """``fn``, whose insides are not kept for its gradient but computed again (Chen 2016, arXiv:1604.06174).

    Args:
        fn: A function of arrays, or of tuples, lists and dicts of arrays.

    Returns:
        A function of the same arguments and results. Gradients also reach arrays that ``fn`` captured.
    """
    _check_callable("checkpoint", fn)

    @functools.wraps(fn)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        leaves, _ = flatten((args, kwargs))
        inputs = {each.node for each in leaves if isinstance(each, Array)}
        given, shape = flatten(fn(*args, **kwargs))
        return unflatten(shape, iter([_checkpointed(each, inputs) for each in given]))

    return checkpointed


def _checkpointed(result: Any, inputs: set[Node]) -> Any:
    if not isinstance(result, Array) or not is_float(result.dtype):
        return result
    order = walk([result.node])
    inside: set[Node] = set()
    for node in order:
        if node not in inputs and any(each in inside or each in inputs for each in node.operands):
            inside.add(node)
    borders = dict.fromkeys(each for node in order if node in inside for each in node.operands if each not in inside)
    sources = tuple(
        node for node in borders if is_float(node.dtype) and (node.operands or node.shape or node in inputs)
    )
    if not inside:
        return result
    inlets = {source: Source(source) for source in sources}
    (own,) = substituted([result.node], inlets)
    return Array(Checkpoint(own, tuple(inlets.values())))


def _told_apart(output: Node, wrt: Sequence[Node]) -> tuple[dict[Node, Node], Node, list[Node]]:
    """An output over nodes of their own in place of those by which it is differentiated.

    Rules that look for what an expression is made of do not see through these.

    Returns:
        What each such node stands for, the output, and the nodes in the order of ``wrt``.
    """
    asked = {node for node in wrt if node.operands}
    better: dict[Node, Node] = {}
    plain: dict[Node, Node] = {}
    for node in walk([output, *wrt]) if asked else ():
        operands = tuple([better[operand] for operand in node.operands])
        better[node] = node if operands == node.operands else node.with_operands(operands)
        if node in asked:
            better[node] = Differentiated(better[node], next(_numbers))
            plain[better[node]] = node
    return plain, better.get(output, output), [better.get(node, node) for node in wrt]


class _Argument:
    """An argument by which a function is differentiated: its nest with nodes of its own in place of the leaves."""

    def __init__(self, given: Any, what: str) -> None:
        leaves, self.structure = flatten(given)
        plain = [_differentiable(lift(leaf, what), what) for leaf in leaves]
        self.nodes = [Differentiated(node, next(_numbers)) for node in plain]
        self.plain: dict[Node, Node] = dict(zip(self.nodes, plain, strict=True))
        self.nest = unflatten(self.structure, iter([Array(node) for node in self.nodes]))


def _plain(arguments: Sequence[_Argument], nodes: Sequence[Node]) -> list[Array]:
    """The graph over the arrays that were given: so that equal calls make equal graphs."""
    plain: dict[Node, Node] = {}
    for argument in arguments:
        plain |= argument.plain
    return list(map(Array, substituted(nodes, plain)))


def _with_gradients(arguments: Sequence[_Argument], values: Sequence[Node], seeds: Sequence[Array]) -> list[Any]:
    """The values, and for each argument the gradients in its structure."""
    wrt = [node for argument in arguments for node in argument.nodes]
    found = _pulled(values, seeds, wrt)
    plain = _plain(arguments, [*values, *(each.node for each in found)])
    rest = iter(plain[len(values) :])
    nests = [unflatten(each.structure, iter([next(rest) for _ in each.nodes])) for each in arguments]
    return [plain[: len(values)], *nests]


def _pulled(outputs: Sequence[Node], seeds: Sequence[Array], wrt: Sequence[Node]) -> list[Array]:
    found = pulled(outputs, seeds, wrt)
    return [Array(NoPath(by.shape, by.dtype)) if each is None else each for each, by in zip(found, wrt, strict=True)]


def _seed(operation: str, seed: ArrayLike | None, node: Node) -> Array:
    if seed is None:
        return ones(node.shape, dtype=node.dtype)
    given = Array(lift(seed, operation))
    if given.shape != node.shape:
        raise ShapeError(f"{operation}: a gradient {given.node.type} for a value {node.type}")
    return given.astype(node.dtype)


def _differentiable(node: Node, what: str) -> Node:
    if not is_float(node.dtype):
        raise DTypeError(f"{what} is {node.type}: only floats have gradients")
    return node


def _number(value: Any, name: str) -> Node:
    if isinstance(value, dict | list | tuple) or value is None:
        raise ArgumentError(
            f"grad: {name} returns {type(value).__name__}, not a single number; ag.vjp takes any result"
        )
    node = _differentiable(lift(value, "grad"), f"grad: the result of {name}")
    if node.shape:
        raise ShapeError(f"grad: {name} returns {node.type}, not a single number; ag.vjp takes any result")
    return node


def _check_callable(operation: str, fn: Any) -> None:
    if not callable(fn):
        raise ArgumentError(f"{operation}: takes a function, not {fn!r}")


def _argnums(argnums: int | Sequence[int]) -> tuple[int, ...]:
    several = argnums if isinstance(argnums, Sequence) else (argnums,)
    return tuple(whole("grad", "argnums", each) for each in several)


def _name(fn: Any) -> str:
    return str(getattr(fn, "__name__", fn))
