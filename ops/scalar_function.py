"""The user's own functions of scalars, compiled by numba, as operators: ``ag.scalar_function``."""

import importlib
import inspect
import pickle
import threading
import types
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.errors import ArgumentError, DTypeError
from ..engine.foreign_logic import predicate
from ..engine.ir import Node, UnfusableError, Values
from ..engine.scalar_code import ScalarCode
from ..engine.types import BOOL, DEFAULT_FLOAT, INT64, DType, TensorType, category, promote
from .array import Array, ArrayLike, lift
from .casting import cast
from .kinds import Elementwise
from .registry import public

_KINDS = ("boolean", "int64", "float64")
_HELD = {"boolean": np.bool_, "int64": np.int64, "float64": np.float64}
# NumPy's functions take 32 arrays, the result among them.
_MOST_ARGUMENTS = 31


class ScalarFunction:
    """A function of scalars that takes lazy arrays: what `scalar_function` returns.

    Attributes:
        function: The user's function.
        gradient: The user's function of the same arguments that returns the partial derivative by each float
            argument, a tuple if there are several; None if there is none. The backward pass asks for it.
    """

    def __init__(self, function: Callable[..., Any], gradient: Callable[..., Any] | None) -> None:
        self.function, self.gradient = function, gradient
        self.name = _name(function)
        self._plain = _plain(function, "scalar_function")
        self._signature = _signature(self._plain, self.name)
        self._plain_gradient = None if gradient is None else self._checked_gradient(gradient)
        self._codes: dict[tuple[str, ...], ScalarCode] = {}
        self._derivatives: dict[tuple[str, ...], list[ScalarFunction]] = {}
        self._lock = threading.RLock()

    def __call__(self, *args: ArrayLike, **kwargs: ArrayLike) -> Array:
        """The function of the arguments' elements, after broadcasting.

        Raises:
            ArgumentError: For other arguments than the function's, or a result that is no number.
            CompileError: If numba cannot compile it, or it does more than compute a number from its arguments.
            DTypeError: For arguments of a type without a scalar.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        nodes = [lift(each, self.name) for each in bound.arguments.values()]
        return Array(ScalarCall(tuple(_promoted(nodes, self.name)), self))

    def __repr__(self) -> str:
        return f"<scalar function {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (_portable(self.function), None if self.gradient is None else _portable(self.gradient))

    def code(self, kinds: tuple[str, ...]) -> ScalarCode:
        """The function compiled for arguments of these kinds."""
        with self._lock:
            if kinds not in self._codes:
                _refuse_arrays(self._plain, self.name)
                found = ScalarCode(self._plain, kinds, self.name)
                if not isinstance(found.result, str):
                    raise ArgumentError(f"{self.name}: returns a tuple; a scalar function returns one number")
                if self._plain_gradient is not None:
                    self._check_derivatives(self._plain_gradient, kinds)
                self._codes[kinds] = found
            return self._codes[kinds]

    def derivatives(self, kinds: tuple[str, ...]) -> list["ScalarFunction"]:
        """The derivative by each float argument, as a scalar function of all arguments.

        Raises:
            ArgumentError: If there is no ``gradient=``.
        """
        if self.gradient is None or self._plain_gradient is None:
            raise ArgumentError(
                f"{self.name}: has no gradient; ag.scalar_function(…, gradient=…) takes its derivatives"
            )
        with self._lock:
            if kinds not in self._derivatives:
                floats = kinds.count("float64")
                single = not isinstance(ScalarCode(self._plain_gradient, kinds, self.name).result, tuple)
                parts = [_part(self.gradient, None if single else n, self._signature) for n in range(floats)]
                self._derivatives[kinds] = [ScalarFunction(part, None) for part in parts]
            return self._derivatives[kinds]

    def _checked_gradient(self, gradient: Callable[..., Any]) -> types.FunctionType:
        plain = _plain(gradient, "gradient")
        wanted, given = len(self._signature.parameters), len(_signature(plain, _name(gradient)).parameters)
        if given != wanted:
            raise ArgumentError(f"scalar_function: {self.name} takes {wanted} arguments, its gradient {given}")
        return plain

    def _check_derivatives(self, gradient: types.FunctionType, kinds: tuple[str, ...]) -> None:
        """Raise ArgumentError unless there is one float for each float argument."""
        _refuse_arrays(gradient, _name(gradient))
        found = ScalarCode(gradient, kinds, f"gradient of {self.name}").result
        found = found if isinstance(found, tuple) else (found,)
        wanted = kinds.count("float64")
        if len(found) != wanted or any(kind == "boolean" for kind in found):
            raise ArgumentError(
                f"scalar_function: the gradient of {self.name} returns {len(found)} numbers ({', '.join(found)}), "
                f"not one derivative for each of {wanted} float arguments"
            )


class ScalarCall(Elementwise):
    """A function of scalars, of one element of each argument.

    Computed in the float type of its arguments, as numbers in programs of ours are; its definition is numba's
    code in float64, rounded once.
    """

    name: ClassVar[str] = "scalar_function"
    wide: ClassVar[bool] = True

    arguments: tuple[Node, ...]
    function: Any

    def result_dtype(self, dtype: DType) -> DType:
        """What the function gives: the arguments' float type, int64, or boolean."""
        result = self._code().result
        if result != "float64":
            return BOOL if result == "boolean" else INT64
        return next((each.dtype for each in self.arguments if category(each.dtype) == 2), DEFAULT_FLOAT)

    def infer(self) -> TensorType:
        """Never weak: the function has decided."""
        return super().infer()._replace(weak=False)

    def gradient(self, upstream: Array) -> Sequence[Array | None]:
        """``upstream`` times the user's derivative by each float argument.

        Raises:
            ArgumentError: If the user has given none.
        """
        parts = iter(self.function.derivatives(self._kinds()))
        arguments = list(map(Array, self.arguments))
        return [upstream * next(parts)(*arguments) if category(each.dtype) == 2 else None for each in self.arguments]

    def reference(self, *operands: Values) -> Values:
        """Numba's code, element by element."""
        held: list[Values] = [
            np.asarray(each).astype(_HELD[kind]) for each, kind in zip(operands, self._kinds(), strict=True)
        ]
        return np.asarray(self._code().evaluate(*held))

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The function's own instructions, if they are such that lanes can run them."""
        code = self._code()
        if code.foreign is None:
            raise UnfusableError(code.reason)
        args = tuple(kernel.spread(each, at) for each in self.arguments)
        if code.result == "boolean" and "float64" not in self._kinds():
            found = predicate(kernel, code.foreign, args)
            if found is not None:
                return found
        return kernel.make("call", args, self.dtype, code)

    def _kinds(self) -> tuple[str, ...]:
        return tuple(_KINDS[category(each.dtype)] for each in self.arguments)

    def _code(self) -> ScalarCode:
        code: ScalarCode = self.function.code(self._kinds())
        return code


# One for each function and gradient, so that equal calls are one node.
_known: "weakref.WeakValueDictionary[tuple[int, int], ScalarFunction]" = weakref.WeakValueDictionary()
_lock = threading.RLock()


@public()
def scalar_function(function: Callable[..., Any], gradient: Callable[..., Any] | None = None) -> ScalarFunction:
    """A function of numbers as a function of lazy arrays, element by element: for scores with branches and loops.

    numba compiles it, and kernels contain its instructions, for whole vectors at once::

        @ag.scalar_function
        def score(s, q, k):
            if q - k > 128:
                return s - 0.5 * math.log(q - k)
            return s

    Floats are computed in the type of the arguments (float32 if there are none), integers in 64 bits; the result is
    of that float type, int64, or boolean, whichever the function returns. It may call functions of ``math``, NumPy's
    of scalars, and other numba functions. Numbers that it takes from outside are those of the first call; arrays
    are arguments: ``score(s, table[i])``. An integer divided by zero is 0, as numba has it with NumPy's errors.

    A loop whose rounds depend on the arguments runs until the last lane of a vector is done, in float64. What has no
    form for vectors (``%`` of floats, the gamma function) is computed outside kernels.

    Args:
        function: A Python function, or one that numba has compiled (which is compiled again, without options).
        gradient: A function of the same arguments that returns the derivative by each float argument, a tuple
            if there are several.

    Raises:
        ArgumentError: If one of them is no function of a fixed number of arguments.
    """
    if isinstance(function, ScalarFunction):
        gradient = function.gradient if gradient is None else gradient
        function = function.function
    key = id(function), id(gradient)
    with _lock:
        found = _known.get(key)  # alive, so it holds both functions: their numbers are not another's
        if found is None:
            found = _known[key] = ScalarFunction(function, gradient)
        return found


def _plain(function: Any, what: str) -> types.FunctionType:
    """The Python function, out of numba's if it is one."""
    plain = getattr(function, "py_func", function)
    if not isinstance(plain, types.FunctionType):
        raise ArgumentError(f"{what}: takes a Python function or one compiled by numba, not {function!r}")
    return plain


def _part(gradient: Any, number: int | None, signature: inspect.Signature) -> Any:
    """A function of numbers that gives one of those that ``gradient`` returns; all of it if that is one number."""
    if number is None:
        return gradient
    names = ", ".join(f"x{place}" for place in range(len(signature.parameters)))
    scope: dict[str, Any] = {"gradient": importlib.import_module("numba").njit(_plain(gradient, "gradient"))}
    exec(f"def part({names}):\n    return gradient({names})[{number}]", scope)
    scope["part"].__name__ = f"{_name(gradient)}_{number}"  # which may be <lambda>_0
    return scope["part"]


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", "scalar_function"))


def _signature(plain: types.FunctionType, name: str) -> inspect.Signature:
    found = inspect.signature(plain)
    kinds = {each.kind for each in found.parameters.values()}
    if not 1 <= len(found.parameters) <= _MOST_ARGUMENTS or not kinds <= {
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.POSITIONAL_ONLY,
    }:
        raise ArgumentError(
            f"scalar_function: {name}{found} takes no fixed number of positional arguments, from 1 to {_MOST_ARGUMENTS}"
        )
    return found


def _promoted(nodes: Sequence[Node], name: str) -> list[Node]:
    """Floats in their common type; integers and booleans as they are."""
    for node in nodes:
        if node.dtype.name == "uint64":
            raise DTypeError(f"{name}: takes no uint64 array; cast it with astype")
    floats = [node.type for node in nodes if category(node.dtype) == 2]
    if not floats:
        return list(nodes)
    dtype, _ = promote(floats)
    return [cast(node, dtype, False) if category(node.dtype) == 2 else node for node in nodes]


def _refuse_arrays(plain: types.FunctionType, name: str) -> None:
    """Raise ArgumentError for arrays from outside: numba would keep what they hold now."""
    outside = inspect.getclosurevars(plain)
    for variable, value in {**outside.globals, **outside.nonlocals}.items():
        is_array = isinstance(getattr(value, "shape", None), tuple) and not isinstance(value, np.generic)
        if is_array or isinstance(value, Array | ScalarFunction):
            hint = (
                "decorate it with numba.njit alone" if isinstance(value, ScalarFunction) else "pass it as an argument"
            )
            raise ArgumentError(f"{name}: uses {variable!r} from outside, which is no number; {hint}")


def _portable(function: Any) -> Any:
    """What a function can be found by elsewhere: its name in its module, or itself as bytes.

    Raises:
        ArgumentError: If it is neither.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if isinstance(module, str) and module != "__main__" and _named(module, name) is function:
        return module, name
    try:
        return importlib.import_module("cloudpickle").dumps(function)
    except (ImportError, pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
        raise ArgumentError(f"scalar_function: {_name(function)} cannot be pickled: {error}") from None


def _named(module: str, name: str) -> Any:
    """What a module calls by a name, out of its scalar function if it is one; None if there is none."""
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found.function if isinstance(found, ScalarFunction) else found


def _restored(function: Any, gradient: Any) -> ScalarFunction:
    return scalar_function(_found(function), None if gradient is None else _found(gradient))


def _found(portable: Any) -> Any:
    if isinstance(portable, bytes):
        return pickle.loads(portable)
    function = _named(*portable)
    if function is None:
        raise ArgumentError(f"scalar_function: there is no {portable[1]} in {portable[0]}")
    return function
