"""`Array`: the lazy expression in the user's hand, and how other things become one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..engine.drawing import Drawing, draw, escape
from ..engine.errors import ArgumentError, AttnGraphError, DTypeError, ShapeError, TraceError
from ..engine.immediate import evaluate_now
from ..engine.ir import Node, flatten, unflatten, walk
from ..engine.leaves import Constant, Data
from ..engine.printing import listing
from ..engine.sources import check_detached, describe, is_buffer, is_lazy_source, library
from ..engine.tracing import scalars_are_traced, traced_function
from ..engine.types import BOOL, DEFAULT_FLOAT, FLOAT64, INT64, UINT64, DType, Shape, as_dtype, is_integer
from .methods import Methods
from .registry import FUNCTIONS, public

ArrayLike = Any


class Array(Methods):
    """A lazy expression: a handle on a node of the graph. Nothing is computed until `compute`.

    Operators, NumPy's and torch's functions on it give further lazy arrays.
    """

    __slots__ = ("__weakref__", "node")
    # Above ndarray and np.matrix, so that their operators defer to ours.
    __array_priority__ = 1000
    node: Node

    def __init__(self, node: Node) -> None:
        if not isinstance(node, Node):
            raise DTypeError(f"Array: made of nodes, not of {type(node).__name__}; use ag.asarray")
        self.node = node

    @property
    def shape(self) -> Shape:
        """Lengths of the axes."""
        return self.node.type.shape

    @property
    def dtype(self) -> DType:
        """Data type of the elements, a NumPy dtype."""
        return self.node.type.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.node.type.size

    @property
    def nbytes(self) -> int:
        """Bytes that the computed array takes."""
        return self.node.type.nbytes

    @property
    def device(self) -> str:
        """Always ``"cpu"``."""
        return "cpu"

    def compute(self) -> np.ndarray[Any, Any]:
        """Evaluate.

        Returns:
            A new array of this shape and dtype (float64 instead of any float under the target
            ``reference64``).

        Raises:
            NonFiniteError: If q, k or v of an attention holds NaN or infinity where it counts.
            IndexOutOfRangeError: If an index lies outside its axis where it counts.
            LimitError: If the planned memory exceeds ``ag.config.memory_limit``.
        """
        return evaluate_now([self.node])[0]

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The lengths of the axes, one chunk each. By this xarray knows that ``.compute()`` has something to do."""
        return FUNCTIONS["chunks_of"](self)  # type: ignore[no-any-return]

    @property
    def labels(self) -> tuple[Any, ...]:
        """Names of the axes, one each, None where it has none: what became of the dimensions of xarray's arrays."""
        return FUNCTIONS["axis_names"](self)  # type: ignore[no-any-return]

    def to_xarray(self) -> Any:
        """As a DataArray with these labels, their coordinates, and the first labelled operand's name and attributes.

        It is lazy like this array: through selection and arithmetic it stays so, ``.values`` computes.
        """
        return FUNCTIONS["to_xarray"](self)

    def to_dask(self, chunks: Any = None, *, keys: int | None = None) -> Any:
        """As a dask collection, whose tasks are fused kernels over places of the batch, heads, rows and keys.

        Its bits are those of `compute`, however it is cut: keys are cut where the schedule itself splits them.

        Args:
            chunks: Lengths of chunks along the axes of the result, a tuple or a dict by axis; -1 for a whole axis.
                None lets the memory limit and the number of threads decide.
            keys: Keys of a chunk, made whole splits.

        Raises:
            ArgumentError: If the result cannot be cut so.
        """
        return FUNCTIONS["to_dask"](self, chunks, keys=keys)

    def visualize(self) -> Drawing:
        """The graph as a picture (SVG): shown by a notebook, written by ``.save("graph.svg")``."""
        return draw([self.node])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        traced = traced_function()
        if traced is not None:
            raise TraceError(
                f"__array__: a lazy {self.node.type} was used where NumPy needs numbers while {traced} is traced; "
                "wrap the table in ag.asarray, or use ag's functions"
            )
        if copy is False:
            raise ArgumentError("__array__: a lazy array has no memory to share; copy=False is impossible")
        result = self.compute()
        return result if dtype is None else result.astype(dtype)

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return importlib.import_module(__name__.rsplit(".ops", 1)[0])

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return FUNCTIONS["ufunc_protocol"](ufunc, method, inputs, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return FUNCTIONS["function_protocol"](function, args, kwargs)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return FUNCTIONS["torch_protocol"](function, args, kwargs or {})

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.__array__().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def _refuse(self, what: str) -> TraceError:
        traced = traced_function()
        if traced is not None:
            return TraceError(
                f"{what}: a lazy {self.node.type} has no value while {traced} is traced; say it with ag.where, which "
                "chooses element by element and stays lazy"
            )
        return TraceError(
            f"{what}: a lazy {self.node.type} has no value yet; call .compute() for one, "
            "or say it with ag.where, which stays lazy"
        )

    def __bool__(self) -> bool:
        raise self._refuse("bool")

    def __float__(self) -> float:
        raise self._refuse("float")

    def __int__(self) -> int:
        raise self._refuse("int")

    def __complex__(self) -> complex:
        raise self._refuse("complex")

    def __index__(self) -> int:
        raise self._refuse("__index__")

    def __len__(self) -> int:
        if scalars_are_traced():  # or torch takes a lazy index for a sequence of indices
            raise TraceError(f"len: an argument of {traced_function()} stands for a scalar")
        if not self.shape:
            raise ShapeError("len: a 0-d array has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Array]:
        return (self[number] for number in range(len(self)))

    def __contains__(self, item: Any) -> bool:
        raise self._refuse("in")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TraceError(f"setitem: a lazy {self.node.type} cannot be written to; use ag.where or ag.concat")

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_flat, (flatten([self.node]),)

    def __repr__(self) -> str:
        nodes = len(walk([self.node]))
        return f"<attngraph.Array {self.node.type}: {self.node.name}, {nodes} node{'s' if nodes > 1 else ''}>"

    def __str__(self) -> str:
        return listing([self.node], most=40)

    def _repr_inline_(self, max_width: int) -> str:
        """What xarray shows of it, in a line."""
        return f"attngraph.Array<{self.node.name}>"[:max_width]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = {"shape": self.shape, "dtype": self.dtype, "bytes": self.nbytes, "nodes": len(walk([self.node]))}
        table = "".join(f"<tr><th>{name}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
        graph = escape(listing([self.node], most=40))
        return f"<table>{table}</table><details><summary>graph</summary><pre>{graph}</pre></details>"


def _from_flat(flat: tuple[list[Any], list[int]]) -> Array:
    return Array(unflatten(flat)[0])


def lift(given: ArrayLike, operation: str = "asarray") -> Node:
    """The node of anything that is or can become an array. Nothing is copied or read.

    Raises:
        DTypeError: If it cannot, or its data type is not supported.
        ShapeError: For ragged lists.
    """
    if isinstance(given, Array):
        return given.node
    if isinstance(given, bool | int | float) and not isinstance(given, np.generic):
        return _scalar(given, operation)
    if isinstance(given, np.ndarray):
        return _bind_numpy(given, operation)
    if isinstance(given, np.generic):
        return _numpy_scalar(given, operation)
    if is_lazy_source(given) and hasattr(given, "dtype"):
        return _bind_foreign(given, operation)
    if isinstance(given, list | tuple):
        return _bind_sequence(given, operation)
    return _bind_protocol(given, operation)


def _scalar(given: Any, operation: str) -> Constant:
    if isinstance(given, bool):
        return Constant(given, BOOL, True)
    if isinstance(given, float):
        return Constant(float(given), DEFAULT_FLOAT, True)
    if -(2**63) <= given < 2**63:
        return Constant(int(given), INT64, True)
    if 0 <= given < 2**64:
        return Constant(int(given), UINT64, True)
    raise DTypeError(f"{operation}: the integer {given} does not fit 64 bits")


def _numpy_scalar(given: np.generic, operation: str) -> Constant:
    dtype = _supported(given.dtype, operation)
    return Constant(given.item() if dtype.kind in "bui" else float(given), dtype, True)


def _supported(dtype: Any, operation: str) -> DType:
    try:
        return as_dtype(dtype)
    except DTypeError as error:
        raise DTypeError(f"{operation}: {str(error).splitlines()[0]}") from None


def _bind_numpy(given: np.ndarray[Any, Any], operation: str, frozen: bool = False) -> Data:
    if type(given) is not np.ndarray and type(given) is not np.memmap:
        kind = type(given).__name__
        raise DTypeError(
            f"{operation}: a {kind} has a meaning of its own that a plain array would lose; "
            "pass np.asarray(x) (or x.filled(...)) if that is what you want"
        )
    return Data(given, given.shape, _supported(given.dtype, operation), frozen)


def _bind_foreign(given: Any, operation: str) -> Node:
    inner = getattr(getattr(given, "variable", None), "_data", None)
    if library(given) == "xarray" and isinstance(inner, Array):
        return inner.node
    check_detached(given, operation)
    try:
        shape, dtype = describe(given)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        if not isinstance(error, AttnGraphError):
            reason = f"a {_kind(given)} whose shape is not known: {reason}"
        raise DTypeError(f"{operation}: {reason.removeprefix('asarray: ')}") from None
    return Data(given, shape, dtype, False)


def _kind(given: Any) -> str:
    """What it is: with its module, but for what Python has without one."""
    kind = type(given)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _bind_sequence(given: Sequence[Any], operation: str, default: DType = DEFAULT_FLOAT) -> Node:
    if _holds(given, Array):
        stacked: Array = FUNCTIONS["stack"]([Array(lift(each, operation)) for each in given])
        return stacked.node
    if _holds(given, np.ma.MaskedArray):
        raise DTypeError(f"{operation}: a list of masked arrays would lose their masks; fill them first")
    try:
        array = np.array(given)
    except ValueError as error:
        raise ShapeError(f"{operation}: the nested list is ragged: {error}") from None
    except (TypeError, RuntimeError, OverflowError) as error:
        raise DTypeError(f"{operation}: cannot make an array of the list: {error}") from None
    if array.dtype == np.float64 and _all_numbers(given, int | float):
        if array.size and _all_numbers(given, int):
            raise DTypeError(f"{operation}: no integer type holds all of the list")
        array = array.astype(default)
    array.flags.writeable = False
    return _bind_numpy(array, operation, frozen=True)


def _holds(given: Any, kind: Any) -> bool:
    if not isinstance(given, list | tuple):
        return isinstance(given, kind)
    try:
        return any(_holds(each, kind) for each in given)
    except RecursionError:
        raise ShapeError("asarray: the list is nested too deeply, or holds itself") from None


def _all_numbers(given: Any, kind: Any) -> bool:
    """Whether the list holds Python's own numbers alone."""
    if isinstance(given, list | tuple):
        return all(_all_numbers(each, kind) for each in given)
    return isinstance(given, kind) and not isinstance(given, np.generic)


def _bind_protocol(given: Any, operation: str) -> Data:
    """Whatever speaks DLPack, the buffer protocol or NumPy's own."""
    if given is None:
        raise DTypeError(f"{operation}: cannot make an array of None")
    try:
        if hasattr(given, "__dlpack__"):
            array = np.from_dlpack(given)
        elif hasattr(given, "__array__") or hasattr(given, "__array_interface__"):
            array = np.asarray(given)
        elif is_buffer(given):
            array = np.asarray(memoryview(given))
        else:
            raise DTypeError(f"{operation}: cannot make an array of {_kind(given)}")
    except DTypeError:
        raise
    except (TypeError, BufferError, RuntimeError, ValueError) as error:
        raise DTypeError(f"{operation}: cannot make an array of {_kind(given)}: {error}") from None
    return _bind_numpy(array, operation)


@public()
def asarray(x: ArrayLike, dtype: Any = None, *, copy: bool | None = None) -> Array:
    """A lazy array of ``x``; nothing is copied or read.

    Args:
        x: A NumPy array or memmap, anything with DLPack or the buffer protocol (a CPU torch
            tensor), a zarr, dask or xarray array, a Python or NumPy scalar, a list of numbers.
            Arrays are read at every evaluation, so changing one in place is seen. A DataArray's dimensions
            stay known (`Array.labels`), and nothing that is read for it is kept in it.
        dtype: Cast to this type. Lists and scalars of Python floats are float32 by default.
        copy: True takes a snapshot now; None and False never copy.

    Raises:
        DTypeError: For object, complex and other unsupported types, masked arrays and matrices,
            and for Python integers that do not fit ``dtype``.
        ShapeError: For ragged lists.
        ArgumentError: For a torch tensor that requires grad, while torch records gradients.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    listed = isinstance(x, list | tuple)
    # The digits that float32 would lose are there still where another type is asked for.
    node = _bind_sequence(x, "asarray", DEFAULT_FLOAT if wanted is None else FLOAT64) if listed else lift(x)
    if wanted is not None and (listed or isinstance(node, Constant)):
        _check_fits(node, wanted)
    if copy is not None and not isinstance(copy, bool):
        raise ArgumentError(f"asarray: copy is True, False or None, not {copy!r}")
    if copy:
        node = _snapshot(node)
    return Array(node) if wanted is None else Array(node).astype(wanted)


def _check_fits(node: Node, dtype: DType) -> None:
    values = np.asarray(node.reference() if isinstance(node, Constant | Data) else 0)
    if not is_integer(dtype) or values.dtype.kind not in "iu" or not values.size:
        return
    limits, least, largest = np.iinfo(dtype), int(values.min()), int(values.max())
    if least < limits.min or largest > limits.max:
        raise DTypeError(f"asarray: {least if least < limits.min else largest} does not fit {dtype}")


def _snapshot(node: Node) -> Node:
    """The present value, as data that nobody else can change."""
    if isinstance(node, Constant):
        return node
    value = np.array(node.reference() if isinstance(node, Data) else evaluate_now([node])[0], node.dtype, order="C")
    value.flags.writeable = False
    return Data(value, value.shape, node.dtype, True)


@public()
def constant(x: ArrayLike) -> Array:
    """A lazy array of data that never changes: made read-only, so that summaries of it may be kept.

    Raises:
        DTypeError: As `asarray`.
    """
    node = lift(x, "constant")
    if not isinstance(node, Data):
        return Array(node)
    if isinstance(node.source, np.ndarray):
        node.source.flags.writeable = False
    return Array(Data(node.source, node.given_shape, node.given_dtype, True))
