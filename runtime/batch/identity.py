"""What tells one job from another: a token of a function, of what it takes from around it, and of arrays."""

import functools
import hashlib
import inspect
import pickle
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from ...engine.ir import Node, walk
from ...engine.leaves import Data, Placeholder
from ...engine.printing import listing
from ...ops.array import Array
from ..compiled import Compiled

# Modules below these are told by their names: they are the libraries, not the user's program.
_OURS = __package__.partition(".")[0]
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, slice, Path)


def token_of(value: Any) -> str:
    """A short text that is another one for another value, and the same in any process.

    Of functions it is made of their source, of what they are closed over, and of the global names that they use.
    """
    return _Token().of(value)


class _Token:
    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []  # or their ids might come again

    def of(self, value: Any) -> str:
        self._feed(value)
        return self._hash.hexdigest()[:16]

    def _say(self, *words: Any) -> None:
        for word in words:
            self._hash.update(f"{word}\0".encode())

    def _feed(self, value: Any) -> None:
        if isinstance(value, _PLAIN):
            return self._say(type(value).__name__, repr(value))
        if id(value) in self._seen:
            return self._say("again", self._seen[id(value)])
        self._seen[id(value)] = len(self._seen)
        self._kept.append(value)
        if isinstance(value, np.ndarray | np.generic):
            return self._array(np.asarray(value))
        if isinstance(value, Array):
            return self._graph(value.node)
        if hasattr(type(value), "__attngraph_blocks__") and hasattr(value, "descriptor"):
            return self._say("stored", tuple(value.descriptor()))
        if hasattr(value, "store_path"):
            return self._say("zarr", value.store_path, value.shape, value.dtype)
        if isinstance(value, Mapping):
            return self._several("mapping", [part for pair in value.items() for part in pair])
        if isinstance(value, list | tuple):
            return self._several(type(value).__name__, value)
        if isinstance(value, set | frozenset):
            return self._several("set", sorted(map(token_of, value)))
        return self._callable(value)

    def _several(self, kind: str, parts: Any) -> None:
        self._say(kind, len(parts))
        for part in parts:
            self._feed(part)

    def _array(self, array: Any) -> None:
        self._say("array", array.dtype.str, array.shape)
        self._hash.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")

    def _graph(self, node: Node) -> None:
        self._say("graph", listing([node]))
        for leaf in walk([node]):
            if isinstance(leaf, Data):
                self._feed(leaf.source)
            elif isinstance(leaf, Placeholder):
                self._say(leaf.label)

    def _callable(self, value: Any) -> None:
        if isinstance(value, Compiled):
            self._several("compiled", [value.fn, value.check_finite])
        elif isinstance(value, functools.partial):
            self._several("partial", [value.func, value.args, value.keywords])
        elif isinstance(value, MethodType):
            self._several("method", [value.__func__, value.__self__])
        elif isinstance(value, FunctionType):
            self._function(value)
        elif isinstance(value, ModuleType | BuiltinFunctionType | np.ufunc):
            self._say(type(value).__name__, getattr(value, "__name__", value))
        elif isinstance(value, type):
            self._say("class", value.__module__, value.__qualname__, "" if _is_library(value) else _source(value))
        else:
            self._object(value)

    def _object(self, value: Any) -> None:
        self._feed(type(value))
        if hasattr(type(value), "stored_array"):  # a store: what it holds now, not how it was opened
            return self._say(*(tuple(value.stored_array(key).descriptor()) for key in ("keys", "values")))
        state = getattr(value, "__dict__", None)
        if state:
            return self._several("object", [part for pair in sorted(state.items()) for part in pair])
        try:
            self._hash.update(pickle.dumps(value))
        except Exception:  # whatever a class's own pickling raises: then it is told by its class alone
            self._say("opaque")
        return None

    def _function(self, function: FunctionType) -> None:
        if _is_library(function):
            return self._say("function", function.__module__, function.__qualname__)
        self._say("function", _source(function))
        self._several("defaults", [function.__defaults__, function.__kwdefaults__])
        for cell in function.__closure__ or ():
            try:
                self._feed(cell.cell_contents)
            except ValueError:  # not filled yet
                self._say("empty")
        for name in sorted(set(_names(function.__code__))):
            if name in function.__globals__:
                self._say("global", name)
                self._feed(function.__globals__[name])
        return None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_library(value: Any) -> bool:
    """Whether it is of an installed package, or of this one: its version stands for its source."""
    module = inspect.getmodule(value)
    file = getattr(module, "__file__", None) or ""
    name = getattr(value, "__module__", None) or ""
    return name.partition(".")[0] == _OURS or "site-packages" in file or name in ("builtins", "numpy")


def _source(value: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError):  # typed at a prompt, or made by exec
        code = getattr(value, "__code__", None)
        return repr(value) if code is None else _code(code)


def _code(code: CodeType) -> str:
    constants = [_code(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames}"
