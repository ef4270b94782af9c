"""The processors that kernels are compiled for. No other file knows one from another.

Levels of x86-64: https://gitlab.com/x86-psABIs/x86-64-ABI (v2: SSE4.2, v3: AVX2 and FMA, v4: AVX-512).
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import CompileError
from ..lazily import Lazily

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

llvm: Any = Lazily("llvmlite.binding")

_LEVELS: dict[str, frozenset[str]] = {}
_LEVELS["x86-64-v2"] = frozenset({"cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"})
_LEVELS["x86-64-v3"] = _LEVELS["x86-64-v2"] | {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}
_LEVELS["x86-64-v4"] = _LEVELS["x86-64-v3"] | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

NAMES = ("native", *_LEVELS)


class _Kind(NamedTuple):
    """An architecture: the feature that vectors of 128 bits need, if any, and what all its processors have."""

    vectors: str | None
    registers: int
    has_fma: bool
    has_half: bool


_ARM = _Kind(None, registers=32, has_fma=True, has_half=True)
_POWER = _Kind("vsx", registers=64, has_fma=True, has_half=False)
_WEB = _Kind("simd128", registers=16, has_fma=False, has_half=False)
_OTHERS = {
    "aarch64": _ARM,
    "arm64": _ARM,
    "powerpc64le": _POWER,
    "ppc64le": _POWER,
    "riscv64": _Kind("v", registers=32, has_fma=True, has_half=False),
    "wasm32": _WEB,
    "wasm64": _WEB,
}
# Nothing that LLVM could only do by calling a library.
_UNKNOWN = _Kind(None, registers=16, has_fma=False, has_half=False)


@dataclass(frozen=True)
class Target:
    """A processor, as far as generated code depends on it.

    Attributes:
        name: What the user calls it: ``native`` or a level of x86-64.
        cpu: LLVM's name of the processor.
        features: LLVM's list of features, ``+a,-b``; empty where ``cpu`` says it all.
        triple: LLVM's name of architecture and system.
        vector_bytes: Width of a vector register: 64, 32 or 16; 4 where there are none.
        registers: How many vector registers there are.
        has_fma: Whether a fused multiply-add is one instruction.
        has_avx512: AVX-512 F, BW, DQ and VL: masks are native at every width, ``scalef`` exists.
        has_f16c: Whether float16 converts in one instruction (elsewhere LLVM calls a library).
        has_bf16: Whether products of bfloat16 pairs are one instruction.
    """

    name: str
    cpu: str
    features: str
    triple: str
    vector_bytes: int
    registers: int
    has_fma: bool
    has_avx512: bool
    has_f16c: bool
    has_bf16: bool

    @property
    def pair_product(self) -> str | None:
        """LLVM's name of the instruction that adds products of bfloat16 pairs to a vector of float32, if it has one."""
        return "llvm.x86.avx512bf16.dpbf16ps.512" if self.has_bf16 and self.vector_bytes == 64 else None

    def lanes(self, dtype: "DTypeLike") -> int:
        """How many elements of ``dtype`` a vector register holds."""
        return self.vector_bytes // np.dtype(dtype).itemsize


def host_target() -> Target:
    """The machine we run on, with everything it has."""
    return named_target("native")


def named_target(name: str, *, must_run: bool = True) -> Target:
    """The target of this name: ``native``, ``x86-64-v2``, ``x86-64-v3`` or ``x86-64-v4``.

    Args:
        name: One of ``NAMES``.
        must_run: Whether the machine has to be able to run it. Without, the target is good for compiling
            only, and for that only in a process of its own: LLVM ends the process on what it cannot do.

    Raises:
        CompileError: The machine cannot run code for this target, or there is no such target.
    """
    if name not in NAMES:
        raise CompileError(f"compile: target {name!r} is none of {', '.join(NAMES)}")
    if name == "native":
        return _host()
    if must_run:
        triple, _, _, features = _host_facts()
        if not _is_x86(triple):
            raise CompileError(f"compile: target {name} does not run on this machine ({triple}); use 'native'")
        if missing := sorted(_LEVELS[name] - features):
            raise CompileError(f"compile: this machine cannot run target {name}: it lacks {', '.join(missing)}")
    return _level(name)


def scalar_target() -> Target:
    """The machine we run on, one lane at a time: what vectors are measured against, and no setting."""
    return dataclasses.replace(_host(), name="scalar", vector_bytes=4, has_avx512=False)


def foreign_target(triple: str, cpu: str = "", features: str = "") -> Target:
    """A processor of any architecture, for compiling only, and only in a process of its own.

    Args:
        triple: LLVM's name of architecture and system.
        cpu: LLVM's name of the processor. What it implies is not known here, but for the levels of x86-64.
        features: LLVM's list of features, ``+a,-b``: those that vectors depend on have to be listed.

    Raises:
        CompileError: Kernels need more than it has.
    """
    marked = [each.strip() for each in features.split(",")]
    present = _LEVELS.get(cpu, frozenset()) | {each[1:] for each in marked if each.startswith("+")}
    lacking = {each[1:] for each in marked if each.startswith("-")}
    return _described(cpu or _architecture(triple), cpu, features, triple, present - lacking)


def _architecture(triple: str) -> str:
    return triple.split("-")[0]


def _is_x86(triple: str) -> bool:
    return _architecture(triple) in ("x86_64", "amd64")


@functools.cache
def _host_facts() -> tuple[str, str, str, frozenset[str]]:
    """Triple, name of the processor, list of features as LLVM wants it, and the features it has."""
    try:
        features = llvm.get_host_cpu_features()
    except RuntimeError:  # a system on which LLVM cannot tell
        return llvm.get_process_triple(), llvm.get_host_cpu_name(), "", frozenset()
    present = frozenset(feature for feature, has in features.items() if has)
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), features.flatten(), present


@functools.cache
def _host() -> Target:
    triple, cpu, listed, features = _host_facts()
    return _described("native", cpu, listed, triple, features)


@functools.cache
def _level(name: str) -> Target:
    triple = _host_facts()[0]
    return _x86(name, name, "", triple if _is_x86(triple) else "x86_64-unknown-linux-gnu", _LEVELS[name])


def _described(name: str, cpu: str, listed: str, triple: str, features: frozenset[str]) -> Target:
    if _is_x86(triple):
        return _x86(name, cpu, listed, triple, features)
    kind = _OTHERS.get(_architecture(triple), _UNKNOWN)
    return Target(
        name,
        cpu,
        listed,
        triple,
        vector_bytes=16 if kind.vectors is None or kind.vectors in features else 4,
        registers=kind.registers,
        has_fma=kind.has_fma,
        has_avx512=False,
        has_f16c=kind.has_half,
        has_bf16=False,
    )


def _x86(name: str, cpu: str, listed: str, triple: str, features: frozenset[str]) -> Target:
    if missing := sorted(_LEVELS["x86-64-v2"] - features):
        raise CompileError(
            f"compile: kernels need x86-64-v2, and this machine lacks {', '.join(missing)}; "
            "ag.config.set(target='reference') evaluates without kernels"
        )
    # Processors with parts of AVX-512 only are used as if they had none: masks and `scalef` of narrow vectors
    # are wanted everywhere. With AVX alone, integers have 128 bits; where FMA comes with it, floats take two turns.
    avx512 = features >= _LEVELS["x86-64-v4"]
    return Target(
        name,
        cpu,
        listed,
        triple,
        vector_bytes=64 if avx512 else 32 if "avx2" in features else 16,
        registers=32 if avx512 else 16,
        has_fma="fma" in features or "fma4" in features,
        has_avx512=avx512,
        has_f16c="f16c" in features,
        has_bf16="avx512bf16" in features,
    )
