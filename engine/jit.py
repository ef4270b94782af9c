"""From the text of LLVM IR to code that can be called: from memory, from disk, or through the compiler."""

import ctypes
import functools
import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakValueDictionary

from .errors import CompileError
from .native_code import LinkedCode, TargetLike, compiler, compiling, emit_assembly, emit_object, link
from .object_cache import ObjectCache

Cached = Literal["memory", "disk", "no"]

# Modules held in memory though nobody uses them at the moment.
_MOST_MODULES = 512


@dataclass(frozen=True, eq=False)
class _Made:
    """Linked code, and how long this process took to make or load it."""

    linked: LinkedCode
    seconds: float


@dataclass(frozen=True, eq=False)
class NativeModule:
    """Compiled code, which lives as long as this object does.

    Attributes:
        target: What it was compiled for.
        cached: Where it came from: ``memory``, ``disk``, or ``no`` if it was compiled for this call.
    """

    target: TargetLike
    cached: Cached
    _made: _Made = field(repr=False)
    _text: Callable[[], str] = field(repr=False)

    def address(self, entry: str) -> int:
        """The address of a function. Hold this object for as long as the address is used.

        Raises:
            KeyError: If the module was compiled without that entry.
        """
        return self._made.linked.addresses[entry]

    def function(self, entry: str, result: Any, *arguments: Any) -> Any:
        """The entry as a ctypes function of these types, which keeps the module alive."""
        function: Any = ctypes.CFUNCTYPE(result, *arguments)(self.address(entry))
        function.module = self
        return function

    @property
    def ir(self) -> str:
        """The text it was compiled from."""
        return self._text()

    @property
    def object_bytes(self) -> bytes:
        """The object file."""
        return self._made.linked.image

    @property
    def compile_seconds(self) -> float:
        """How long this process took to compile it, or to load it from disk, and to link it."""
        return self._made.seconds

    def assembly(self) -> str:
        """The assembly with LLVM's comments, made now from the text; entries carry the names they have there.

        Raises:
            CompileError: If LLVM rejects the text.
        """
        return emit_assembly(self.ir, self.target)


class _Loaded:
    """Code in memory by digest: some of it held, the rest found for as long as somebody uses it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.RLock()
        self._held: OrderedDict[str, _Made] = OrderedDict()
        self._living: WeakValueDictionary[str, _Made] = WeakValueDictionary()

    def get(self, digest: str) -> _Made | None:
        made = self._living.get(digest)
        if made is not None:
            self.put(digest, made)
        return made

    def put(self, digest: str, made: _Made) -> None:
        evicted = []  # ends after the lock is free: it may be the last to hold its code
        with self._lock:
            self._living[digest] = self._held[digest] = made
            self._held.move_to_end(digest)
            while len(self._held) > self._most:
                evicted.append(self._held.popitem(last=False))

    def after_fork(self) -> None:
        """In a child: the thread that held the lock may not exist there."""
        self._lock = threading.RLock()


_loaded = _Loaded(_MOST_MODULES)
_cache_of = functools.lru_cache(maxsize=16)(ObjectCache)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loaded.after_fork)


def compile_text(
    ir_text: str | Callable[[], str],
    entries: Sequence[str],
    target: TargetLike,
    *,
    key: str,
    cache_dir: str,
    imports: Collection[str] = (),
) -> NativeModule:
    """Compile a module, or find it in memory or on disk.

    Args:
        ir_text: LLVM IR, or a function that writes it, called only if the code is in no cache.
        entries: Names of the functions that will be called.
        target: What to compile for.
        key: Says everything that the text follows from, the code generator's own source included: two
            calls with the same key, entries and target get the same code, whatever the text.
        cache_dir: The directory of compiled objects.
        imports: Functions of the process that the code may call, such as Python's. Any other that it calls
            is an error: it would be a library's ``fma`` or ``exp``, many times too slow.

    Raises:
        CompileError: If LLVM rejects the text, an entry is missing, or a function is not there to be called.
    """
    digest = _digest(key, entries, target)
    text = functools.partial(str, ir_text) if isinstance(ir_text, str) else functools.cache(ir_text)
    made = _loaded.get(digest)
    if made is not None:
        return NativeModule(target, "memory", made, text)
    with compiling:
        made = _loaded.get(digest)  # another thread may have compiled it while we waited
        if made is not None:
            return NativeModule(target, "memory", made, text)
        names = {entry: f"attngraph_{digest[:16]}_{entry}" for entry in entries}
        cache = _cache_of(cache_dir)
        made = _from_disk(cache, digest, names, target)
        if made is not None:
            _loaded.put(digest, made)
            return NativeModule(target, "disk", made, text)
        made = _compile(text(), names, target, imports)
        _loaded.put(digest, made)
        cache.store(digest, made.linked.image)
        return NativeModule(target, "no", made, text)


def compile_unkept(text: str, entries: Sequence[str], target: TargetLike) -> NativeModule:
    """Compile a module without looking into a cache or leaving it in one.

    Raises:
        CompileError: As `compile_text`.
    """
    made = _compile(text, {entry: entry for entry in entries}, target, ())
    return NativeModule(target, "no", made, functools.partial(str, text))


def _digest(key: str, entries: Sequence[str], target: TargetLike) -> str:
    made_from = (key, tuple(entries), target.triple, target.cpu, target.features, compiler())
    return hashlib.sha256(ascii(made_from).encode()).hexdigest()


def _from_disk(cache: ObjectCache, digest: str, names: Mapping[str, str], target: TargetLike) -> _Made | None:
    start = time.perf_counter()
    image = cache.load(digest)
    if image is None:
        return None
    try:
        linked = link(image, names, target)
    except CompileError:  # the checksum was right, so the object was wrong when it was stored
        cache.damaged(digest)
        return None
    return _Made(linked, time.perf_counter() - start)


def _compile(text: str, names: Mapping[str, str], target: TargetLike, imports: Collection[str]) -> _Made:
    start = time.perf_counter()
    linked = link(emit_object(text, names, target, imports), names, target)
    return _Made(linked, time.perf_counter() - start)
