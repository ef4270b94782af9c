"""What running a program takes, step by step, beside what the machine could do at most."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..engine.config import config
from ..engine.errors import ArgumentError
from ..engine.ir import Node, Values
from ..engine.lazily import Lazily
from ..engine.leaves import Leaf, Placeholder
from ..engine.program import Program
from ..engine.types import is_float
from .kernel_report import KernelReport

_statistics: Any = Lazily("statistics")


class MeasuredStep(NamedTuple):
    """One step.

    Attributes:
        name: The kernel's name, or the node that NumPy runs.
        seconds: Median time.
        flops: Operations; 0 where they are not counted (NumPy's steps).
        bytes: Bytes in and out.
        least_seconds: What the work takes at the least on this machine (see `engine.roofline`).
    """

    name: str
    seconds: float
    flops: int
    bytes: int
    least_seconds: float

    @property
    def of_roofline(self) -> float:
        """The share of what is possible: 1 is as fast as the machine."""
        return self.least_seconds / self.seconds

    def __str__(self) -> str:
        rates = f"{self.flops / self.seconds / 1e9:.1f} Gflop/s, " if self.flops else ""
        return (
            f"{self.seconds * 1e3:10.3f} ms  {rates}{self.bytes / self.seconds / 1e9:.1f} GB/s, "
            f"{self.of_roofline:.0%} of the roofline  {self.name}"
        )


class Measurement(NamedTuple):
    """What a run took; ``str()`` is a table.

    Attributes:
        steps: The steps that took time, in order.
        decided: Whether the program's results stood; if not, the interpreter would have run afterwards.
        flops: The machine's float32 operations a second.
        bandwidth: Bytes that it reads from memory a second.
    """

    steps: tuple[MeasuredStep, ...]
    decided: bool
    flops: float
    bandwidth: float

    @property
    def seconds(self) -> float:
        """All steps together."""
        return sum(step.seconds for step in self.steps)

    def __str__(self) -> str:
        head = (
            f"{self.seconds * 1e3:.3f} ms; the machine: {self.flops / 1e9:.0f} Gflop/s of multiply-adds, "
            f"{self.bandwidth / 1e9:.0f} GB/s read"
        )
        doubt = [] if self.decided else ["its results were in doubt: the interpreter decides, which is not measured"]
        return "\n".join([head, *map(str, self.steps), *doubt])


def measured(
    program: Program,
    placeholders: Sequence[Placeholder],
    arrays: Sequence[Any],
    rounds: int,
    kernels: Sequence[KernelReport],
) -> Measurement:
    """Run a program some times. The arguments are those of `Explanation.measure`."""
    from ..engine.roofline import roofline

    if rounds < 1:
        raise ArgumentError(f"measure: rounds is a number from 1 on, not {rounds!r}")
    bindings: dict[Node, Values] = dict(zip(placeholders, _given(placeholders, arrays), strict=True))
    settings = config.settings()
    limits = roofline(settings)
    rows: list[dict[int, float]] = []
    for _ in range(rounds + 1):  # the first compiles
        rows.append({})
        results = program.run(bindings, settings, check_finite=False, seconds=rows[-1])
    reports = iter(kernels)
    steps = []
    for number, step in enumerate(program.plan.steps):
        report = None if isinstance(step, Node) else next(reports)
        times = [row[number] for row in rows[1:] if number in row]
        if isinstance(step, Leaf) or not times:
            continue
        flops = 0 if report is None else report.flops
        size = _bytes(step) if isinstance(step, Node) else report.bytes if report is not None else 0
        name = repr(step) if report is None else report.name
        steps.append(MeasuredStep(name, _statistics.median(times), flops, size, limits.seconds(flops, size)))
    return Measurement(tuple(steps), results is not None, limits.flops, limits.bytes)


def _bytes(node: Node) -> int:
    return sum(each.type.nbytes for each in (*node.operands, node))


def _given(placeholders: Sequence[Placeholder], arrays: Sequence[Any]) -> list[Values]:
    """The arrays of a run, checked; drawn at random where there are none."""
    if not arrays:
        rng = np.random.default_rng(0)
        return [_drawn(rng, node) for node in placeholders]
    if len(arrays) != len(placeholders):
        raise ArgumentError(f"measure: {len(arrays)} arrays for {len(placeholders)} placeholders")
    given = [np.asarray(array) for array in arrays]
    for array, node in zip(given, placeholders, strict=True):
        if array.shape != node.shape:
            raise ArgumentError(f"measure: an array of shape {array.shape} for {node.type}", *node.lines[:1])
    return given


def _drawn(rng: "np.random.Generator", node: Placeholder) -> Values:
    if is_float(node.dtype):
        return rng.standard_normal(node.shape).astype(node.dtype)
    return np.zeros(node.shape, node.dtype)
