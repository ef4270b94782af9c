"""Code of loops, over rows or over segments: compiled once for each target and form, by what it depends on."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from .codegen.target import Target
from .jit import NativeModule, compile_text
from .kernels import generator_hash


class CompiledLoop(NamedTuple):
    """Code for one loop and one form."""

    module: NativeModule
    key: str
    text: Callable[[], str]
    writer: Any

    @property
    def ir(self) -> str:
        """The LLVM IR."""
        return self.text()

    @property
    def scratch_bytes(self) -> int:
        """Scratch memory of a thread, for the rows that the loop was planned with (of segments: for each edge)."""
        found: int = self.writer.planned_scratch_bytes
        return found


class LoopCodes:
    """The codes of one loop.

    Args:
        loop: The loop.
        entry: The function's name.
        signature: The text that loops of equal code share.
        writer: What writes it, of the loop, a form and a target.
    """

    def __init__(self, loop: Any, entry: str, signature: Callable[[Any], str], writer: Callable[..., Any]) -> None:
        self._loop, self._entry, self._writer = loop, entry, writer
        self._signature = cache(lambda: signature(loop))
        self._found: dict[tuple[Target, Any], CompiledLoop] = {}

    def of(self, target: Target, form: Any, cache_dir: str) -> CompiledLoop:
        """The code for a target and a form.

        Raises:
            UnfusableError: If the code generator cannot write it.
            CompileError: If LLVM rejects what was written.
        """
        found = self._found.get((target, form))
        if found is None:
            writer = self._writer(self._loop, form, target)
            key = "\n".join([generator_hash(), repr((target, form)), self._signature()])
            text = cache(writer.write)
            module = compile_text(text, [self._entry], target, key=key, cache_dir=cache_dir)
            found = self._found[target, form] = CompiledLoop(module, key, text, writer)
        return found
