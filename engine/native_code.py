"""LLVM, as far as the house uses it: from the text of a module to an object, from an object to code in memory.

Text goes in, for ``llvmlite.ir`` takes longer to build than LLVM to compile, and no optimisation pipeline
runs: the code generator writes what it means. LLVM aborts the process on invalid IR, so it is verified;
it aborts too on a processor of another architecture and on an intrinsic that the processor lacks, which
are the callers' to avoid. llvmlite lets one thread at a time into LLVM.
"""

import functools
import itertools
import os
import struct
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from .errors import CompileError
from .lazily import Lazily

_LINES_OF_MESSAGE = 6
# A linker keeps 9 KB of a module that has long been unloaded; so each serves for so many modules only.
_MODULES_OF_LINKER = 100
# What LLVM may call of its own accord and every process has, and names that mean nothing.
_ALWAYS_THERE = frozenset({"memcpy", "memmove", "memset", "memcmp", "_GLOBAL_OFFSET_TABLE_", ".TOC.", ""})

# JITLink puts what one object holds side by side: constants are found from where the code is. By their full addresses
# each took a register, or an instruction in innermost loops. Windows' objects have no way to call what lies far off.
_NEAR, _FAR = {"codemodel": "small", "reloc": "pic"}, {"codemodel": "jitdefault", "jit": True}

binding: Any = Lazily("llvmlite.binding")
_llvmlite: Any = Lazily("llvmlite")


@functools.cache
def compiler() -> tuple[Any, ...]:
    """What an object depends on, besides its text and target: versions, and how this file compiles."""
    return _llvmlite.__version__, binding.llvm_version_info, "speed 3, small code model, no passes", 1


class TargetLike(Protocol):
    """What the compiler asks of a target; ``codegen.target`` has the real ones."""

    @property
    def triple(self) -> str:
        """LLVM's name of the machine and the system."""

    @property
    def cpu(self) -> str:
        """LLVM's name of the processor. LLVM aborts on one that is not of the triple's architecture."""

    @property
    def features(self) -> str:
        """LLVM's list of features, like ``+avx2,+fma``."""


@dataclass(frozen=True, eq=False)  # compared by identity, as weak tables need
class LinkedCode:
    """Code in memory. It is unloaded with this object, so whoever can call it must hold this.

    Attributes:
        addresses: Where each entry begins.
        image: The object it was linked from.
        tracker: What unloads the code at its end.
    """

    addresses: Mapping[str, int]
    image: bytes = field(repr=False)
    tracker: Any = field(repr=False)


# Held by whoever compiles or links, and taken before llvmlite's own lock.
compiling = threading.RLock()
# LLVM's lock, while a child is born.
_held: list[AbstractContextManager[Any]] = []
_libraries = itertools.count()


def emit_object(text: str, names: Mapping[str, str], target: TargetLike, imports: Collection[str] = ()) -> bytes:
    """The object of a module's text.

    Args:
        text: LLVM IR.
        names: By what name each function that will be called is to be linked.
        target: What to compile for.
        imports: Functions of the process that the code may call.

    Raises:
        CompileError: If LLVM rejects the text, an entry is missing, or a function is not there to be called.
    """
    with _verified(text, target) as module:
        for entry, name in names.items():
            _rename(module, entry, name)
        image: bytes = _machine(target).emit_object(module)
    strange = undefined_symbols(image) - _ALWAYS_THERE - set(imports)
    if strange:
        raise CompileError(f"compile: a kernel calls {', '.join(sorted(strange))}, which it should do itself")
    return image


def emit_assembly(text: str, target: TargetLike) -> str:
    """The assembly of a module's text, with LLVM's comments.

    Raises:
        CompileError: If LLVM rejects the text.
    """
    with _verified(text, target) as module:
        machine = _machine(target)
        machine.set_asm_verbosity(True)
        return str(machine.emit_assembly(module))


def link(image: bytes, names: Mapping[str, str], target: TargetLike) -> LinkedCode:
    """Put an object's code into memory.

    Args:
        image: The object. It will be run: bytes of unknown origin do not belong here.
        names: By what name each entry was compiled.
        target: What it was compiled for.

    Raises:
        CompileError: If the object is broken, or lacks an entry.
    """
    library = binding.JITLibraryBuilder().add_object_img(image)
    for name in names.values():
        library.export_symbol(name)
    with compiling:
        number = next(_libraries)
        linker = _linker(target.triple, number // _MODULES_OF_LINKER)
        try:
            tracker = library.link(linker, f"attngraph-{number}")
        except RuntimeError as error:
            raise _rejected(error) from None
    tracker.linker = linker  # which must not end before it
    return LinkedCode({entry: tracker[name] for entry, name in names.items()}, image, tracker)


@contextmanager
def _verified(text: str, target: TargetLike) -> Iterator[Any]:
    """The module of a text, in a context of its own: the global one would keep its types for ever."""
    if "\0" in text:  # where LLVM would take the text to end
        raise CompileError("compile: a kernel's text holds a null character")
    with compiling:
        machine = _machine(target)
        try:
            module = binding.parse_assembly(text, binding.create_context())
        except (RuntimeError, UnicodeEncodeError) as error:
            raise _rejected(error) from None
        with module:
            module.triple = target.triple
            module.data_layout = str(machine.target_data)
            try:
                module.verify()
            except RuntimeError as error:
                raise _rejected(error) from None
            yield module


def _rename(module: Any, entry: str, name: str) -> None:
    try:
        function = module.get_function(entry)
    except NameError:
        function = None
    if function is None or function.is_declaration:
        raise CompileError(f"compile: the module does not define {entry!r}")
    function.name = name


def _rejected(error: Exception) -> CompileError:
    lines = str(error).strip().splitlines()
    more = ["…"] if len(lines) > _LINES_OF_MESSAGE else []
    return CompileError("\n  ".join(["compile: LLVM rejects a kernel:", *lines[:_LINES_OF_MESSAGE], *more]))


def _machine(target: TargetLike) -> Any:
    return _machine_of(target.triple, target.cpu, target.features)


@functools.lru_cache(maxsize=16)
def _machine_of(triple: str, cpu: str, features: str) -> Any:
    # Without the assembly parser LLVM aborts on inline assembly.
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.initialize_native_asmparser()
    try:
        kind = binding.Target.from_triple(triple)
        model: Any = _FAR if "windows" in triple else _NEAR
        return kind.create_target_machine(cpu=cpu, features=features, opt=3, **model)
    except RuntimeError as error:
        raise _rejected(error) from None


@functools.lru_cache(maxsize=1)
def _linker(triple: str, generation: int) -> Any:
    # JITLink takes a fifth of the memory of LLVM's older linker.
    return binding.create_lljit_compiler(_machine_of(triple, "", ""), use_jit_link=True)


def undefined_symbols(image: bytes) -> set[str]:
    """Names that an ELF object of 64 bits takes from elsewhere; in other formats none are seen."""
    if image[:6] != b"\x7fELF\x02\x01":
        return set()
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    # of each section: type, offset, bytes, linked section
    sections = [struct.unpack_from("<4xI16xQQI", image, table + size * number) for number in range(count)]
    found = set()
    for kind, offset, length, linked in sections:
        if kind == 2:  # SHT_SYMTAB
            strings = sections[linked][1]
            for name, section in struct.iter_unpack("<I2xH16x", image[offset : offset + length]):
                if section == 0:  # SHN_UNDEF
                    start = strings + name
                    found.add(image[start : image.index(b"\0", start)].decode())
    return found


def _before_fork() -> None:
    """LLVM is in order only between calls: no child may be born during another thread's."""
    compiling.acquire()
    loaded = sys.modules.get("llvmlite.binding")
    lock = None if loaded is None else getattr(loaded.ffi.lib, "_lock", None)
    _held.append(nullcontext() if lock is None else lock)
    _held[-1].__enter__()


def _after_fork() -> None:
    _held.pop().__exit__(None, None, None)
    compiling.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
