"""Calls without Python in between: a kernel, its arguments and its results behind one built-in function.

A graph that is one kernel or loop on the arrays it is called with can be entered directly: `entry_code` says how the
function checks its arguments and its results. Here its table is filled, from what the first calls on the
ordinary path have shown. Where there is no such function, or it declines, the ordinary path runs.
"""

import ctypes
import functools
import hashlib
import platform
import sys
import sysconfig
from collections.abc import Sequence
from typing import Any

from .codegen.target import host_target
from .config import Settings, config
from .entry_code import EntryWriter
from .entry_layout import FUNCTIONS, TABLE
from .entry_table import Argument as Argument
from .entry_table import NoEntryError, TableMaker, effort
from .errors import CompileError
from .evaluate import Prepared
from .interpreter import evaluate_node
from .ir import Values
from .jit import compile_text
from .leaves import Constant
from .loop import Loop
from .magnitudes import Magnitudes
from .passes.gathers import deciding_gathers
from .single import SingleStep, single_step
from .splits import splits_of

# Operations and bytes together, up to which a kernel may run where Ctrl-C does not reach it: some milliseconds.
_MOST_UNBROKEN = 1 << 27
# Of eight results in doubt more than an eighth of all: then asking first is a waste.
_DOUBTS = 8

_METH_FASTCALL = 0x80


class _MethodDefinition(ctypes.Structure):
    """Python's ``PyMethodDef``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class Entry:
    """A built-in function for one graph.

    Attributes:
        call: The function; NotImplemented is its answer where the ordinary path has to decide.
        settings: The settings that it is good for: this very object.
        places: Which of what it returns each result of the graph is.
        is_tuple: Whether it returns a tuple: of more than one array.
    """

    __slots__ = ("_seen", "_table", "call", "is_tuple", "places", "settings")

    def __init__(self, call: Any, settings: Settings, places: tuple[int, ...], table: Values) -> None:
        self.call, self.settings, self.places, self._table = call, settings, places, table
        self.is_tuple = int(table[TABLE["outputs"] // 8]) > 1
        self._seen = 0

    @property
    def calls(self) -> int:
        """How many calls it has answered."""
        return int(self._table[TABLE["calls"] // 8])

    @property
    def is_doubtful(self) -> bool:
        """Whether too many of its results could not be trusted."""
        return self._troubles > _DOUBTS + self.calls // 8

    def has_doubted(self) -> bool:
        """Whether results could not be trusted since this was asked last: it took the arguments then."""
        before, self._seen = self._seen, self._troubles
        return self._seen > before

    @property
    def _troubles(self) -> int:
        return int(self._table[TABLE["troubles"] // 8])


@functools.cache
def is_supported() -> bool:
    """Whether this interpreter is one whose functions the native half may call."""
    return (
        sys.implementation.name == "cpython"
        and not sysconfig.get_config_var("Py_GIL_DISABLED")
        and sys.platform == "linux"
        and platform.machine() == "x86_64"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and all(hasattr(ctypes.pythonapi, name) for name in (*FUNCTIONS, "PyCFunction_NewEx"))
    )


def make_entry(
    prepared: Prepared, arguments: Sequence[Argument], settings: Settings, counter: Values, *, check_finite: bool
) -> Entry | None:
    """The entry for calls like this one, or None if there cannot be one.

    Args:
        prepared: The graph, which has run before.
        arguments: What it was called with.
        settings: What it runs under.
        counter: One 64-bit number, to which each answered call adds one.
        check_finite: Whether NaN or infinity in some inputs is an error.
    """
    single = _only_step(prepared, check_finite)
    if single is None or prepared.program is None or not is_supported() or effort(single.step) > _MOST_UNBROKEN:
        return None
    limit = settings.memory_limit
    if limit is not None and prepared.memory(settings).peak_bytes > limit:
        return None
    try:
        table, kept = TableMaker(prepared.program, single, settings).made(arguments, counter)
        call = _bound(table.ctypes.data, (table, kept))
    except (NoEntryError, CompileError):
        return None
    return Entry(call, settings, single.places, table)


def _only_step(prepared: Prepared, check_finite: bool) -> SingleStep | None:
    """The native step of a program that is nothing but that step."""
    if prepared.native_steps != 1:  # known without a plan for these very lengths
        return None
    steps = prepared.steps or ()
    constants = [step for step in steps if isinstance(step, Constant)]
    if any(each.trouble(evaluate_node(each, (), {}), (), check_finite) for each in constants):
        return None
    single = single_step(steps, prepared.run)
    if single is None or isinstance(single.step, Loop):
        return single
    if splits_of(single.step.sweep).count > 1:  # whose states are merged, and finished, in Python
        return None
    # Inputs whose sizes, or whose NaN, are to be looked at first, go the ordinary way.
    sweep = single.step.sweep
    is_watched = Magnitudes(sweep).are_watched or deciding_gathers(sweep) or (check_finite and single.step.guarded())
    return None if is_watched else single


@functools.cache
def _definition() -> tuple[_MethodDefinition, Any]:
    """The definition of the built-in function, and the code that it points to.

    Raises:
        CompileError: If it cannot be compiled.
    """
    target = host_target()
    text = EntryWriter(target).write()
    key = "entry code " + hashlib.sha256(text.encode()).hexdigest()
    module = compile_text(text, ["call"], target, key=key, cache_dir=config.cache_dir, imports=list(FUNCTIONS))
    return _MethodDefinition(b"attngraph_entry", module.address("call"), _METH_FASTCALL, None), module


def _bound(table: int, kept: Any) -> Any:
    """A built-in function bound to a table; it holds what it needs.

    Its definition is part of that: two threads may make one each, of which the cache keeps the last.
    """
    definition, module = _definition()
    create = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return create(ctypes.addressof(definition), (table, kept, definition, module), None)
