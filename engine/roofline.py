"""What the machine can do at most: multiply-adds and bytes a second, measured by loops of our own.

A kernel's time is judged beside them: it cannot be shorter than its operations over the one, nor than its
bytes over the other (Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785).
"""

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from . import workers
from .codegen.llvm import Function, Module, Value
from .codegen.target import Target, named_target
from .config import Settings
from .jit import NativeModule, compile_text

# Enough independent sums to hide the latency of an addition, few enough for 16 registers.
_SUMS = 12
_STEPS = 20_000
_ROUNDS = 7
# Far more than any cache holds.
_READ_BYTES = 1 << 27
_READ_BLOCK = 1 << 20


class Roofline(NamedTuple):
    """The limits of a target with some threads.

    Attributes:
        flops: float32 operations a second, two for a multiply-add.
        bytes: Bytes read from memory a second.
    """

    flops: float
    bytes: float

    def seconds(self, flops: float, bytes: float) -> float:
        """The least time for so much work."""
        return max(flops / self.flops, bytes / self.bytes)


class MultiplyAdds:
    """A call that does nothing but multiply and add in registers: what a kernel is run beside.

    Args:
        target: The processor, which must be able to run here.
        threads: How many threads share the work.
        cache_dir: The directory of compiled objects.
        times: How many times the usual work, of some milliseconds, a call does.

    Attributes:
        operations: What a call does, two for each multiply-add.
    """

    def __init__(self, target: Target, threads: int, cache_dir: str, *, times: int = 1) -> None:
        self._tasks, self._threads = 4 * threads * times, threads
        self._module = compile_text(
            lambda: _multiply_adds(target), ["run"], target, key=_key("fma"), cache_dir=cache_dir
        )
        self.operations = self._tasks * _STEPS * _SUMS * target.lanes("float32") * 2

    def __call__(self) -> None:
        _run(self._module, 0, self._tasks, self._threads)


@functools.lru_cache(maxsize=16)
def _peak(target: Target, threads: int, cache_dir: str) -> float:
    adding = MultiplyAdds(target, threads, cache_dir)
    return adding.operations / _fastest(adding)


def peak_flops(settings: Settings) -> float:
    """float32 operations a second under these settings; measured once a process, without the memory `roofline` reads.

    Raises:
        CompileError: If the loop cannot be compiled, or does not run here.
    """
    return _peak(named_target(settings.target), settings.threads, settings.cache_dir)


@functools.lru_cache(maxsize=16)
def _measured(target: Target, threads: int, cache_dir: str) -> Roofline:
    memory = np.ones(_READ_BYTES // 8)  # written to, or there would be nothing to read
    blocks = _READ_BYTES // _READ_BLOCK
    reading = compile_text(lambda: _reads(target), ["run"], target, key=_key("read"), cache_dir=cache_dir)
    start = memory.ctypes.data
    flops = _peak(target, threads, cache_dir)
    return Roofline(flops, _READ_BYTES / _fastest(lambda: _run(reading, start, blocks, threads)))


def roofline(settings: Settings) -> Roofline:
    """The limits under these settings; measured once a process, in some 100 ms.

    Raises:
        CompileError: If the loops cannot be compiled, or do not run here.
    """
    return _measured(named_target(settings.target), settings.threads, settings.cache_dir)


def _fastest(call: Callable[[], None]) -> float:
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def _run(module: NativeModule, first: int, tasks: int, threads: int) -> None:
    descriptor = np.array([tasks, first], np.int64)
    workers.run(module.address("run"), descriptor.ctypes.data, tasks, 64, threads, keep=descriptor)


def _key(name: str) -> str:
    return f"roofline {name} {_SUMS} {_STEPS} {_READ_BLOCK}"


def _tasks(target: Target) -> tuple[Module, Function]:
    module = Module(target)
    return module, Function(module, "run", {"descriptor": "ptr", "counter": "ptr", "scratch": "ptr"})


def _multiply_adds(target: Target) -> str:
    """Nothing but multiply-adds on registers."""
    module, f = _tasks(target)
    vector = f"<{target.lanes('float32')} x float>"
    zero, factor = f.constant(0.0, vector), f.constant(0.5, vector)

    def task(_: Value) -> list[Value]:
        def step(_: Value, sums: list[Value]) -> list[Value]:
            return [f.fma(each, factor, factor) for each in sums]

        return f.loop(0, _STEPS, 1, [zero] * _SUMS, step)

    return _finished(module, f, task)


def _reads(target: Target) -> str:
    """Every byte of a block, added up."""
    module, f = _tasks(target)
    width = target.vector_bytes
    vector = f"<{target.lanes('float32')} x float>"
    first = f.load(f.offset(f["descriptor"], 8), "i64")
    memory = f.emit("ptr", f"inttoptr {first} to ptr", "memory")

    def task(number: Value) -> list[Value]:
        block = f.offset(memory, f.mul(number, _READ_BLOCK))

        def step(place: Value, sums: list[Value]) -> list[Value]:
            at = f.offset(block, place)
            return [f.add(each, f.load(f.offset(at, width * turn), vector)) for turn, each in enumerate(sums)]

        return f.loop(0, _READ_BLOCK, 8 * width, [f.constant(0.0, vector)] * 8, step)

    return _finished(module, f, task)


def _finished(module: Module, f: Function, task: Callable[[Value], list[Value]]) -> str:
    tasks = f.load(f["descriptor"], "i64")

    def next_task(_: list[Value]) -> tuple[Value, list[Value]]:
        number = f.atomic_add(f["counter"], 1)
        return f.compare("<", number, tasks), [number]

    def body(values: list[Value]) -> None:
        for each in task(values[0]):
            f.store(each, f["scratch"])

    f.repeat([], next_task, body)
    f.ret()
    return module.text()
