"""`compile`: a function on arrays becomes a graph once for each set of shapes, and runs from then on."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.config import Settings, config
from ..engine.errors import ArgumentError
from ..engine.evaluate import Prepared, evaluate, evaluate_now, inputs_of, prepare, write_out
from ..engine.ir import Node, Values
from ..engine.leaves import Placeholder
from ..engine.sources import is_lazy_source, read
from ..engine.structure import Structure, flatten, same_structure, unflatten
from ..engine.tracing import tracing
from ..engine.types import DEFAULT_FLOAT, TensorType
from ..ops.array import Array, lift

# A trace holds a graph and its captured arrays; the least recently used one goes first.
_MOST_TRACES = 256


class Trace(NamedTuple):
    """One traced graph: what stands for the arguments, the results, and the graph that is run."""

    placeholders: tuple[Placeholder, ...]
    results: tuple[Node | None, ...]
    prepared: Prepared
    structure: Structure


class CacheInfo(NamedTuple):
    """How often a call found its trace, how often it made one, and how many are kept."""

    hits: int
    misses: int
    size: int
    most: int


class Compiled:
    """A function of arrays that runs as a graph. Made by `attngraph.compile`."""

    def __init__(self, fn: Callable[..., Any], check_finite: bool | None) -> None:
        self.fn = fn
        self.check_finite = check_finite
        self._traces: OrderedDict[Any, Trace] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = 0
        functools.update_wrapper(self, fn)

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Run on arrays, or inline on lazy arrays.

        Returns:
            NumPy arrays in the structure that the function returned; lazy arrays if any argument is.

        Raises:
            ArgumentError: For an ``out`` that does not fit, or an argument that is neither an array
                nor hashable.
            TraceError: If the function branches on a value.
            NonFiniteError, IndexOutOfRangeError: As the evaluation of its graph.
        """
        leaves, structure = flatten((args, kwargs))
        if any(isinstance(leaf, Array) for leaf in leaves):
            if out is not None:
                raise ArgumentError(f"{self._name()}: out= with lazy arguments: the result is lazy")
            return self._inlined(leaves, structure)
        settings = config.settings()
        trace, values = self._trace_for(leaves, structure, settings)
        bindings: dict[Node, Values] = dict(zip(trace.placeholders, values, strict=True))
        check = self.check_finite if self.check_finite is not None else settings.check_finite is True
        computed = iter(evaluate(trace.prepared, bindings, settings, check_finite=check))
        results = [None if node is None else next(computed) for node in trace.results]
        if out is None:
            return unflatten(trace.structure, iter(results))
        return self._write(out, trace, results, values)

    def _write(self, out: Any, trace: Trace, results: list[Values | None], inputs: Sequence[Values]) -> Any:
        outs = same_structure(out, trace.structure, f"{self._name()}: out")
        pairs = [(result, given, node) for result, given, node in zip(results, outs, trace.results, strict=True)]
        if any((result is None) != (given is None) for result, given, _ in pairs):
            raise ArgumentError(f"{self._name()}: out is None where the result is not, or the other way round")
        kept = [(result, given, node) for result, given, node in pairs if result is not None and node is not None]
        typed = [result.astype(node.dtype, copy=False) for result, _, node in kept]
        try:
            write_out(typed, [given for _, given, _ in kept], [*inputs, *inputs_of(trace.prepared.roots)])
        except ArgumentError as error:
            raise ArgumentError(f"{self._name()}: {str(error).splitlines()[0]}") from None
        return out

    def trace(self, *args: Any, **kwargs: Any) -> Trace:
        """The graph for these arguments, traced now if need be."""
        leaves, structure = flatten((args, kwargs))
        return self._trace_for(leaves, structure, config.settings())[0]

    def last_trace(self) -> Trace | None:
        """The graph of the latest call, or None before the first."""
        with self._lock:
            return next(reversed(self._traces.values()), None)

    def cache_info(self) -> CacheInfo:
        """Hits, misses and size of the cache of traces."""
        return CacheInfo(self._hits, self._misses, len(self._traces), _MOST_TRACES)

    def _trace_for(self, leaves: list[Any], structure: Structure, settings: Settings) -> tuple[Trace, list[Values]]:
        arguments = [_argument(leaf, self._name()) for leaf in leaves]
        values = [each.value for each in arguments if each.value is not None]
        key = (structure, tuple(each.key for each in arguments), *_traced_settings(settings))
        try:
            with self._lock:
                trace = self._traces.get(key)
                if trace is not None:
                    self._traces.move_to_end(key)
                    self._hits += 1
                    return trace, values
        except TypeError:
            wrong = next(each for each in arguments if not _is_hashable(each.key))
            raise ArgumentError(
                f"{self._name()}: an argument is neither an array nor hashable: {wrong.key[1]!r}"
            ) from None
        trace = self._traced(arguments, structure, settings)
        with self._lock:
            self._misses += 1
            self._traces[key] = trace
            while len(self._traces) > _MOST_TRACES:
                self._traces.popitem(last=False)
        return trace, values

    def _traced(self, arguments: "list[_Argument]", structure: Structure, settings: Settings) -> Trace:
        stand_ins = [each.stand_in() for each in arguments]
        args, kwargs = unflatten(structure, iter(stand_ins))
        with tracing(f"the function {self._name()}"):
            returned = self.fn(*args, **kwargs)
            leaves, shape = flatten(returned)
            results = tuple(None if leaf is None else lift(leaf, f"{self._name()}: result") for leaf in leaves)
        placeholders = tuple(each.node for each in stand_ins if isinstance(each, Array))
        roots = [node for node in results if node is not None]
        return Trace(placeholders, results, prepare(roots, settings), shape)  # type: ignore[arg-type]

    def _inlined(self, leaves: list[Any], structure: Structure) -> Any:
        lazy = [Array(lift(leaf)) if _is_array(leaf) else leaf for leaf in leaves]
        args, kwargs = unflatten(structure, iter(lazy))
        with tracing(f"the function {self._name()}"):
            returned, shape = flatten(self.fn(*args, **kwargs))
            results = [None if leaf is None else Array(lift(leaf, f"{self._name()}: result")) for leaf in returned]
        return unflatten(shape, iter(results))

    def _name(self) -> str:
        return str(getattr(self.fn, "__name__", self.fn))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: ``self`` is a static argument."""
        return self if instance is None else functools.partial(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.fn, self.check_finite)

    def __repr__(self) -> str:
        return f"<attngraph.Compiled {self._name()}: {len(self._traces)} traces>"


class _Argument(NamedTuple):
    """An argument: its part of the key, and for what is traced its type and present value."""

    key: Any
    kind: TensorType | None
    value: Values | None
    given: Any

    def stand_in(self) -> Any:
        """What the function is traced with."""
        return self.given if self.kind is None else Array(Placeholder.new(self.kind))


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return True
    # The classes, data types and devices of the libraries whose arrays are read are static.
    readable = hasattr(leaf, "__dlpack__") or (is_lazy_source(leaf) and hasattr(leaf, "shape"))
    return readable and not isinstance(leaf, type)


def _argument(leaf: Any, name: str) -> _Argument:
    """Arrays, Python floats and NumPy scalars are traced; all else is static."""
    if isinstance(leaf, np.generic):
        kind = TensorType((), lift(leaf, name).dtype, True)
        return _Argument(kind, kind, np.asarray(leaf), None)
    if isinstance(leaf, float):
        kind = TensorType((), DEFAULT_FLOAT, True)
        return _Argument(kind, kind, np.asarray(leaf), None)
    if _is_array(leaf):
        node = lift(leaf, name)
        value = leaf if isinstance(leaf, np.ndarray) else read(getattr(node, "source", leaf))
        return _Argument(node.type, node.type, value if value.dtype.isnative else value.astype(node.dtype), None)
    return _Argument((type(leaf), leaf), None, None, leaf)


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _traced_settings(settings: Settings) -> tuple[Any, ...]:
    """What a trace depends on beside its arguments."""
    return settings.target, settings.distance_form, settings.max_length


def compile(fn: Callable[..., Any] | None = None, check_finite: bool | None = False) -> Any:
    """``fn`` as a function on arrays that is traced once for each set of shapes and types.

    Arguments and results are arrays nested in tuples, lists and dicts; None passes. Arrays, Python
    floats and NumPy scalars are traced; Python booleans, integers, strings and other objects are
    static: hashed, and part of the trace. Called on lazy arrays it inlines into their graph. ``out=``
    (an array, or the same structure) takes the results in place.

    Args:
        fn: The function. Left out, a decorator is returned: ``@ag.compile(check_finite=True)``.
        check_finite: Raise NonFiniteError for NaN or infinity in q, k or v where it counts; None
            follows ``ag.config.check_finite``.

    Raises:
        ArgumentError: If ``fn`` cannot be called, or for another ``check_finite``.
    """
    if not isinstance(check_finite, bool | None):
        raise ArgumentError(f"compile: check_finite is True, False or None, not {check_finite!r}")
    if fn is None:
        return functools.partial(compile, check_finite=check_finite)
    if not callable(fn):
        raise ArgumentError(f"compile: takes a function, not {fn!r}")
    return Compiled(fn, check_finite)


def compute(*expressions: Any) -> Any:
    """The arrays of lazy expressions, in one evaluation: what they share is computed once.

    Returns:
        An array for one expression, a tuple for several. What is no lazy array is taken as one.

    Raises:
        ArgumentError: For no expression.
        NonFiniteError, IndexOutOfRangeError, LimitError: As `Array.compute`.
    """
    if not expressions:
        raise ArgumentError("compute: takes one expression or more")
    results = evaluate_now([lift(each, "compute") for each in expressions])
    return results[0] if len(results) == 1 else tuple(results)
