"""What `explain` tells of a compiled kernel."""

import functools
from typing import TYPE_CHECKING, Any

from ..engine.config import Settings
from ..engine.immediate import evaluate_now
from ..engine.ir import Node, walk
from ..engine.leaves import Placeholder
from ..engine.loop import Loop
from ..engine.passes.fused import Fused
from ..engine.program import Program
from ..engine.segment_loop import SegmentLoop

if TYPE_CHECKING:
    from ..engine.domains import Domain, Tiles

# Bytes of an array, at most, that is computed to explain by what a kernel is decided.
_MOST_BYTES = 1 << 26


class KernelReport:
    """One sweep or loop of a program, compiled for arrays in rows-first order when something of the code is asked for.

    Attributes:
        name: What it computes.
        ir: The kernel language: what streams or runs, what is accumulated, what is returned.
        flops: Operations over all positions, skipped ones among them.
        bytes: Bytes of its inputs and results.
        domain: What it goes over, and `tiles` and `density`: how much of that it computes.
    """

    def __init__(self, program: Program, number: int, step: Fused | Loop | SegmentLoop, settings: Settings) -> None:
        if isinstance(step, Fused):
            self._kernel: Any = program.kernels[number]
            kind = program.kernels[number].kind
        elif isinstance(step, Loop):
            self._kernel, kind = program.loops[number], "loop"
        else:
            self._kernel, kind = program.segments[number], "loop over segments"
        self._is_sweep = isinstance(step, Fused)
        ran = step.sweep if isinstance(step, Fused) else step
        self._settings = settings
        self.name = f"{kind} of " + ", ".join(f"{node.name} {node.type}" for node in step.nodes)
        self.ir = str(ran)
        self.flops: int = ran.flops
        nodes: tuple[Node, ...] = (*step.inputs, *step.nodes)
        self.bytes = sum(node.type.nbytes for node in nodes)

    @functools.cached_property
    def _domain(self) -> "Domain | None":
        """What a sweep goes over, found out when it is first asked for; other kernels say so themselves."""
        if not self._is_sweep:
            return None
        tables = self._kernel.tables
        known = [node for node in tables if _can_be_known(node)]
        arrays = dict(zip(known, evaluate_now(known), strict=True)) if known else {}
        found: Domain = self._kernel.domain(self._settings, arrays)
        return found

    @property
    def domain(self) -> str:
        """What it goes over.

        ``dense range``, ``bounds``, ``tested tiles`` or ``block list`` of a sweep; ``CSR rows`` of a loop over
        segments, ``every element`` of another one.
        """
        return str(self._kernel.goes_over) if self._domain is None else self._domain.kind

    @property
    def tiles(self) -> "Tiles | None":
        """How many tiles of a sweep are run, how many of them with masks, and how many are skipped.

        Of many tiles some are looked at. None for a loop, and where masks depend on arrays that are arguments.
        """
        return None if self._domain is None else self._domain.tiles

    @property
    def density(self) -> float | None:
        """The share of a sweep's pairs of a row and a column that masks leave; None as for `tiles`."""
        return None if self._domain is None else self._domain.density

    def _compiled(self) -> Any:
        return self._kernel.for_plain_arrays(self._settings)

    @property
    def llvm(self) -> str:
        """The LLVM IR."""
        found: str = self._compiled().ir
        return found

    @property
    def assembly(self) -> str:
        """The machine code as text."""
        found: str = self._compiled().module.assembly()
        return found

    @property
    def scratch_bytes(self) -> int:
        """Scratch memory of each thread."""
        found: int = self._compiled().scratch_bytes
        return found

    @property
    def compile_seconds(self) -> float:
        """What compiling took, or loading it from the cache."""
        found: float = self._compiled().module.compile_seconds
        return found

    @property
    def cached(self) -> str:
        """Where the code came from: ``memory``, ``disk``, or ``no``."""
        found: str = self._compiled().module.cached
        return found

    def __str__(self) -> str:
        return (
            f"{self.name}\n{self.ir}\n  {self.flops / 1e9:.3g} Gflop, {self.bytes:,} bytes in and out, "
            f"{self.scratch_bytes:,} bytes of scratch a thread; "
            f"compiled in {self.compile_seconds * 1e3:.0f} ms (cache: {self.cached})\n"
            f"  domain: {self.domain if self._domain is None else self._domain}"
        )

    __repr__ = __str__


def _can_be_known(node: Node) -> bool:
    """Whether a report may look at an array: one that is there, or a small one that depends on no argument."""
    is_there = node.role == "leaf" or node.type.nbytes <= _MOST_BYTES
    return is_there and not any(isinstance(each, Placeholder) for each in walk([node]))
