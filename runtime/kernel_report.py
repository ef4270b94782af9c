"""What `explain` tells of a compiled kernel."""

from ..engine.config import Settings
from ..engine.passes.fuse import Fused
from ..engine.program import Program


class KernelReport:
    """One sweep of a program, compiled for arrays in rows-first order when something of the code is asked for.

    Attributes:
        name: What it computes.
        ir: The kernel language: what streams, what is accumulated, what is returned.
        flops: Operations over all positions, skipped ones among them.
        bytes: Bytes of its inputs and results.
    """

    def __init__(self, program: Program, number: int, fused: Fused, settings: Settings) -> None:
        self._kernel, self._settings = program.kernels[number], settings
        self.name = "sweep of " + ", ".join(f"{node.name} {node.type}" for node in fused.nodes)
        self.ir = str(fused.sweep)
        self.flops = fused.sweep.flops
        self.bytes = sum(node.type.nbytes for node in (*fused.inputs, *fused.nodes))

    @property
    def llvm(self) -> str:
        """The LLVM IR."""
        return self._kernel.for_plain_arrays(self._settings).ir

    @property
    def assembly(self) -> str:
        """The machine code as text."""
        return self._kernel.for_plain_arrays(self._settings).module.assembly()

    @property
    def scratch_bytes(self) -> int:
        """Scratch memory of each thread."""
        return self._kernel.for_plain_arrays(self._settings).scratch_bytes

    @property
    def compile_seconds(self) -> float:
        """What compiling took, or loading it from the cache."""
        return self._kernel.for_plain_arrays(self._settings).module.compile_seconds

    @property
    def cached(self) -> str:
        """Where the code came from: ``memory``, ``disk``, or ``no``."""
        return self._kernel.for_plain_arrays(self._settings).module.cached

    def __str__(self) -> str:
        return (
            f"{self.name}\n{self.ir}\n  {self.flops / 1e9:.3g} Gflop, {self.bytes:,} bytes in and out, "
            f"{self.scratch_bytes:,} bytes of scratch a thread; "
            f"compiled in {self.compile_seconds * 1e3:.0f} ms (cache: {self.cached})"
        )

    __repr__ = __str__
