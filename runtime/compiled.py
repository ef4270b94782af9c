"""`compile`: a function on arrays becomes a graph once for each set of shapes, and runs from then on."""

import functools
import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.config import Settings, config
from ..engine.errors import ArgumentError
from ..engine.evaluate import evaluate, inputs_of, prepare, write_out
from ..engine.immediate import evaluate_now
from ..engine.ir import Node, Values
from ..engine.structure import Structure, flatten, same_structure, unflatten
from ..engine.tracing import tracing
from ..ops.array import Array, lift
from ..ops.labelled import is_labelled
from .arguments import Argument, argument_of, check_count, is_array, is_hashable, is_traced, kinds_of
from .labelled import known_labels, labelled_results, taken_off, without_labels
from .traces import Direct, Trace, make_direct

# A trace holds a graph and its captured arrays; the least recently used one goes first.
_MOST_TRACES = 256
# Those that hold an argument which is read block by block: a store that grows brings another one each time.
_MOST_STREAMED = 8
# So many traces are tried by their entries before the ordinary path looks for one.
_MOST_DIRECT = 4
# Arguments may come in one memory layout first, and mostly in another one later.
_MOST_TRIES = 4


class CacheInfo(NamedTuple):
    """How often a call found its trace, how often it made one, and how many are kept."""

    hits: int
    misses: int
    size: int
    most: int


class Compiled:
    """A function of arrays that runs as a graph. Made by `attngraph.compile`."""

    def __init__(self, fn: Callable[..., Any], check_finite: bool | None) -> None:
        functools.update_wrapper(self, fn)  # first: a compiled function's own state is not its wrapper's
        self.fn = fn
        self.check_finite = check_finite  # also sets that nothing is entered directly yet
        self._traces: OrderedDict[Any, Trace] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = 0
        self._direct_hits = np.zeros(1, np.int64)
        self._latest: Trace | None = None
        # Of those traces whose arguments are arrays of NumPy's, one after the other, by their shapes and types.
        self._plain: dict[Any, Trace] = {}
        # The one that was used last, of all that the ordinary path found.
        self._last: Trace | None = None

    @property
    def check_finite(self) -> bool | None:
        """Whether NaN or infinity where it counts is an error; None follows the settings."""
        return self._check_finite

    @check_finite.setter
    def check_finite(self, check_finite: bool | None) -> None:
        self._check_finite = check_finite
        self._direct: tuple[Direct, ...] = ()

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        """Run on arrays, or inline on lazy arrays.

        Returns:
            NumPy arrays in the structure that the function returned; lazy arrays if any argument is.

        Raises:
            ArgumentError: For an ``out`` that does not fit, an argument that is neither an array nor
                hashable, or thousands of Python's numbers in lists.
            TraceError: If the function branches on a value.
            NonFiniteError, IndexOutOfRangeError: As the evaluation of its graph.
        """
        if out is None and not kwargs:
            settings = config.settings()
            for wanted, _, call, finish, trace, _ in self._direct:
                if wanted is settings:
                    result = call(*args)
                    if result is not NotImplemented:
                        self._latest = trace
                        return result if finish is None else finish(result)
        return self._called(args, kwargs, out)

    def _called(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """The ordinary path: find or make the trace, and evaluate it."""
        settings = config.settings()
        kinds = None if kwargs or out is not None else kinds_of(args)
        known = None if kinds is None else self._known((kinds, *_traced_settings(settings)))
        if known is not None:
            return self._returned(known, args, settings, self._computed(known, args, settings))
        leaves, structure = flatten((args, kwargs))
        if any(map(is_labelled, leaves)):
            return self._labelled(leaves, structure, out)
        if any(isinstance(leaf, Array) for leaf in leaves):
            if out is not None:
                raise ArgumentError(f"{self._name()}: out= with lazy arguments: the result is lazy")
            return self._inlined(leaves, structure)
        trace, values = self._trace_for(leaves, structure, settings)
        results = self._computed(trace, values, settings)
        if out is not None:
            return self._write(out, trace, results, values)
        if kinds is not None:
            self._plain[kinds, *_traced_settings(settings)] = trace
        return self._returned(trace, leaves if not kwargs and len(args) == len(leaves) else None, settings, results)

    def _known(self, key: Any) -> Trace | None:
        """The trace for such plain arrays, if it is still kept."""
        trace = self._plain.get(key)
        if trace is None:
            return None
        with self._lock:
            if trace is not self._last:
                if self._traces.get(trace.key) is not trace:
                    return None
                self._traces.move_to_end(trace.key)
            self._hits += 1
            self._last = self._latest = trace
        return trace

    def _checks(self, settings: Settings) -> bool:
        return self.check_finite if self.check_finite is not None else settings.check_finite is True

    def _computed(self, trace: Trace, values: Sequence[Values], settings: Settings) -> list[Values | None]:
        """The results of a trace, None among them."""
        bindings: dict[Node, Values] = dict(zip(trace.placeholders, values, strict=True))
        computed = iter(evaluate(trace.prepared, bindings, settings, check_finite=self._checks(settings)))
        return [None if node is None else next(computed) for node in trace.results]

    def _returned(
        self, trace: Trace, leaves: Sequence[Any] | None, settings: Settings, results: list[Values | None]
    ) -> Any:
        """Results as the function returns them; ``leaves`` are its arguments, if there is nothing else."""
        if leaves is not None:
            self._enter_directly(trace, leaves, settings, self._checks(settings))
        return unflatten(trace.structure, iter(results))

    def _enter_directly(self, trace: Trace, leaves: Sequence[Any], settings: Settings, check: bool) -> None:
        """See that a trace which comes again has an entry that takes such arguments, if there can be one."""
        direct, trace.calls = trace.direct, trace.calls + 1
        if direct is not None and (direct.settings is not settings or direct.check_finite != check):
            direct, trace.tries = None, 0
        if direct is not None and direct.entry.is_doubtful:
            direct, trace.tries = None, _MOST_TRIES
        elif direct is None or not direct.entry.has_doubted():
            direct = self._tried(trace, leaves, settings, check) or direct
        trace.direct = direct
        others = [each for each in self._direct if each.trace is not trace]
        self._direct = tuple(others if direct is None else [direct, *others[: _MOST_DIRECT - 1]])

    def _tried(self, trace: Trace, leaves: Sequence[Any], settings: Settings, check: bool) -> Direct | None:
        """A new way into a trace, if it comes again, and has not been tried too often."""
        if trace.tried is not settings:
            trace.tried, trace.tries = settings, 0
        if trace.calls < 2 or trace.tries >= _MOST_TRIES:
            return None
        trace.tries += 1
        return make_direct(trace, leaves, settings, self._direct_hits, check)

    def _write(self, out: Any, trace: Trace, results: list[Values | None], inputs: Sequence[Values]) -> Any:
        outs = same_structure(out, trace.structure, f"{self._name()}: out")
        pairs = [(result, given, node) for result, given, node in zip(results, outs, trace.results, strict=True)]
        if any((result is None) != (given is None) for result, given, _ in pairs):
            raise ArgumentError(f"{self._name()}: out is None where the result is not, or the other way round")
        kept = [(result, given, node) for result, given, node in pairs if result is not None and node is not None]
        typed = [result.astype(node.dtype, copy=False) for result, _, node in kept]
        try:
            write_out(typed, [given for _, given, _ in kept], [*inputs, *inputs_of(trace.prepared.data)])
        except ArgumentError as error:
            raise ArgumentError(f"{self._name()}: {str(error).splitlines()[0]}") from None
        return out

    def trace(self, *args: Any, **kwargs: Any) -> Trace:
        """The graph for these arguments, traced now if need be."""
        leaves, structure = flatten((args, kwargs))
        return self._trace_for(leaves, structure, config.settings())[0]

    def last_trace(self) -> Trace | None:
        """The graph of the latest call, or None before the first."""
        return self._latest

    def cache_info(self) -> CacheInfo:
        """Hits, misses and size of the cache of traces."""
        return CacheInfo(self._hits + int(self._direct_hits[0]), self._misses, len(self._traces), _MOST_TRACES)

    def _trace_for(self, leaves: list[Any], structure: Structure, settings: Settings) -> tuple[Trace, list[Values]]:
        check_count(leaves, self._name())
        arguments = [argument_of(leaf, self._name(), settings) for leaf in leaves]
        values = [each.value for each in arguments if each.value is not None]
        key = (structure, tuple(each.key for each in arguments), *_traced_settings(settings))
        try:
            with self._lock:
                trace = self._traces.get(key)
                if trace is not None:
                    self._traces.move_to_end(key)
                    self._hits += 1
                    self._last = self._latest = trace
                    return trace, values
        except TypeError:
            wrong = next(each for each in arguments if not is_hashable(each.key))
            raise ArgumentError(
                f"{self._name()}: an argument is neither an array nor hashable: {wrong.key[1]!r}"
            ) from None
        trace = self._traced(arguments, structure, settings)
        trace.key = key
        with self._lock:
            self._misses += 1
            self._traces[key] = self._last = self._latest = trace
            while len(self._traces) > _MOST_TRACES:
                self._traces.popitem(last=False)
                self._plain.clear()
            if trace.streams:
                for old in [each for each, one in self._traces.items() if one.streams][:-_MOST_STREAMED]:
                    del self._traces[old]
                self._plain.clear()  # which holds them, too
        return trace, values

    def _traced(self, arguments: list[Argument], structure: Structure, settings: Settings) -> Trace:
        stand_ins = [each.stand_in() for each in arguments]
        args, kwargs = unflatten(structure, iter(stand_ins))
        with tracing(f"the function {self._name()}"):
            returned = self.fn(*args, **kwargs)
            leaves, shape = flatten(returned)
            results = tuple(None if leaf is None else lift(leaf, f"{self._name()}: result") for leaf in leaves)
        nodes = tuple(each.node for each in stand_ins if isinstance(each, Array))
        roots = [node for node in results if node is not None]
        return Trace(nodes, results, prepare(roots, settings, repeated=True), shape)

    def _inlined(self, leaves: list[Any], structure: Structure) -> Any:
        lazy = [Array(lift(leaf)) if is_array(leaf) else leaf for leaf in leaves]
        args, kwargs = unflatten(structure, iter(lazy))
        with tracing(f"the function {self._name()}"):
            returned, shape = flatten(self.fn(*args, **kwargs))
            results = [None if leaf is None else Array(lift(leaf, f"{self._name()}: result")) for leaf in returned]
        return unflatten(shape, iter(results))

    def _labelled(self, leaves: list[Any], structure: Structure, out: Any) -> Any:
        """The same with xarray's arrays: labels are taken off, and put on the results."""
        plain = [without_labels(leaf) for leaf in leaves]
        is_lazy = any(isinstance(leaf, Array) for leaf in plain)
        if is_lazy:
            plain = [Array(lift(leaf, self._name())) if is_array(leaf) else leaf for leaf in plain]
        args, kwargs = unflatten(structure, iter(plain))
        result = self._called(args, kwargs, taken_off(out))
        if out is not None:
            return out
        results, shape = flatten(result)
        nodes: Sequence[Node | None]
        if is_lazy:
            pairs = [(each.node, leaf) for each, leaf in zip(plain, leaves, strict=True) if isinstance(each, Array)]
            nodes = [None if each is None else each.node for each in results]
        else:
            trace, _ = self._trace_for(plain, structure, config.settings())
            pairs = list(zip(trace.stand_ins, filter(is_traced, leaves), strict=True))
            nodes = trace.results
        return unflatten(shape, iter(labelled_results(results, nodes, known_labels(pairs))))

    def _name(self) -> str:
        return str(getattr(self.fn, "__name__", self.fn))

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: ``self`` is a static argument."""
        return self if instance is None else functools.partial(self, instance)

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.fn, self.check_finite)

    def __repr__(self) -> str:
        return f"<attngraph.Compiled {self._name()}: {len(self._traces)} traces>"


def _traced_settings(settings: Settings) -> tuple[Any, ...]:
    """What a trace depends on beside its arguments."""
    return settings.target, settings.distance_form, settings.max_length


def compile(fn: Callable[..., Any] | None = None, check_finite: bool | None = False) -> Any:
    """``fn`` as a function on arrays that is traced once for each set of shapes and types.

    Arguments and results are arrays nested in tuples, lists and dicts; None passes. Arrays, Python
    floats and NumPy scalars are traced; Python booleans, integers, strings and other objects are
    static: hashed, and part of the trace. What speaks the buffer protocol is an array, but for bytes.
    Called on lazy arrays it inlines into their graph. ``out=``
    (an array, or the same structure) takes the results in place.

    An array of a store, of zarr or of dask that is large (64 MiB, or an eighth of ``memory_limit``) is not read as a
    whole where sweeps can read it block by block; its trace is found by the very object.

    Where an argument is an xarray DataArray the results are DataArrays, lazy ones if it holds a lazy array. The
    function itself is traced with arrays: axes go by position, and what each of a result is called is read off the
    graph. Names and coordinates that operands disagree on are dropped; a product has its rows' and batches' from the
    left, its columns' from the right, so attention has its query's, and the last from its values. Name and attributes
    are the first labelled operand's, attributes unless ``xarray.set_options(keep_attrs=False)``. An axis without a
    name is called ``dim_N``.

    What the function takes from around it is part of the trace: an array changed in place is seen by the
    next call, but a name that is bound to another array, or to another number, keeps its traced value.

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


def compute(*expressions: Any, scheduler: Any = None) -> Any:
    """The arrays of lazy expressions, in one evaluation: what they share is computed once.

    Args:
        expressions: What to compute.
        scheduler: None for the threads of this process; ``"threads"``, ``"synchronous"`` or ``"processes"`` for those
            schedulers of dask, or a ``distributed.Client``: the same numbers to the last bit, from tasks.
            ``"processes"`` starts new ones, each of which imports the script that is running: there the call must be
            under ``if __name__ == "__main__":``.

    Returns:
        An array for one expression, a tuple for several. What is no lazy array is taken as one.

    Raises:
        ArgumentError: For no expression, or another scheduler.
        NonFiniteError, IndexOutOfRangeError, LimitError: As `Array.compute`.
    """
    if not expressions:
        raise ArgumentError("compute: takes one expression or more")
    nodes = [lift(each, "compute") for each in expressions]
    if scheduler is None:
        results = evaluate_now(nodes)
    else:
        tasks = importlib.import_module(".tasks", __package__)
        results = tasks.compute_with(scheduler, [Array(node) for node in nodes])
    return results[0] if len(results) == 1 else tuple(results)
