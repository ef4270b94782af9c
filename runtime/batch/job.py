"""A batch as it travels: the function, where its inputs lie, and where results go; any process can run a piece."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...engine.boxes import whole_box
from ...engine.config import Settings, config
from ...engine.errors import ArgumentError
from ...engine.evaluate import Prepared, evaluate, prepare
from ...engine.ir import Node, Values, walk
from ...engine.leaves import Data
from ...engine.sources import is_lazy_source
from ...engine.structure import Structure, flatten, unflatten
from ...ops.array import Array, asarray, lift
from ..compiled import Compiled
from ..mapped_file import MappedFile, mapped_file
from .output import Output, Result, names_of, result_of
from .sources import Source


@dataclass(frozen=True)
class Done:
    """What is known of a piece that was computed; its files would survive a crash.

    Attributes:
        number: Which one.
        results: What all results are.
        instruction_set: What computed it.
        flops: Operations of native kernels.
        least_seconds: What they take at the least on the processor.
        seconds: What the piece took.
        read: Bytes that were read.
        written: Bytes that were written.
    """

    number: int
    results: list[Result]
    instruction_set: str
    flops: int
    least_seconds: float
    seconds: float
    read: int
    written: int

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        return {"chunk": self.number, "set": self.instruction_set, "flops": self.flops, "seconds": self.seconds}


@dataclass(frozen=True)
class Job:
    """A function mapped over arrays.

    Attributes:
        fn: The function; a compiled one, or any other that returns arrays.
        inputs: What is cut, in order.
        names: What inputs are called as arguments; none where they go by position.
        constants: What every piece gets, too: leaves, arrays of files as their descriptions.
        structure: Of the constants: a tuple, or a dict of arguments by name.
        over: The axis along which inputs are cut, and results are put together.
        chunk: How much of it a piece has.
        length: How much there is.
        output: Where results go.
        token: Of the whole job.
    """

    fn: Any
    inputs: tuple[Source, ...]
    names: tuple[str, ...]
    constants: tuple[Any, ...]
    structure: Structure
    over: int
    chunk: int
    length: int
    output: Output
    token: str = ""
    _counted: dict[Any, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def count(self) -> int:
        """How many pieces."""
        return -(-self.length // self.chunk)

    def size(self, number: int) -> int:
        """How much of the axis a piece has."""
        return min(self.chunk, self.length - number * self.chunk)

    def _box(self, source: Source, number: int) -> tuple[slice, ...]:
        first = number * self.chunk
        box = list(whole_box(source.shape))
        box[self.over % len(box)] = slice(first, first + self.size(number))
        return tuple(box)

    def of_piece(self, number: int) -> "Job":
        """The job with no more than this piece needs: what is sent to another process."""
        inputs = tuple(each.of_piece(self._box(each, number)) for each in self.inputs)
        return replace(self, inputs=inputs, _counted={})

    def run(self, number: int) -> Done:
        """Compute a piece, and write it.

        Raises:
            ShapeError: If a result is not as long as the piece, or not shaped as that of an earlier one.
            DTypeError: If it is of another type than that.
            StoreError: If something cannot be read or written.
        """
        start = time.perf_counter()
        settings = config.settings()
        given = [each.read(self._box(each, number)) for each in self.inputs]
        args, kwargs = self._arguments(given)
        values, structure, prepared = self._called(args, kwargs, settings)
        names = names_of(structure)
        size = self.size(number)
        results = [
            result_of(name, value, self.over, size, self.chunk, self.length)
            for name, value in zip(names, values, strict=True)
        ]
        self.output.create(results, number)
        written = sum(self.output.write(one, number, value) for one, value in zip(results, values, strict=True))
        flops = self._flops(size, prepared)
        seconds = time.perf_counter() - start
        least = flops / peak_flops(settings) if flops else 0.0
        read = sum(each.nbytes for each in given) + self._read_again()
        return Done(number, results, instruction_set(settings), flops, least, seconds, read, written)

    def _arguments(self, given: Sequence[Values]) -> tuple[list[Any], dict[str, Any]]:
        whole = [each.whole("batch") if isinstance(each, MappedFile) else each for each in self.constants]
        constants = unflatten(self.structure, iter(whole))
        if self.names:
            kwargs = dict(zip(self.names, given, strict=True))
            return ([], {**kwargs, **constants}) if isinstance(constants, dict) else ([*constants], kwargs)
        return ([*given], constants) if isinstance(constants, dict) else ([*given, *constants], {})

    def _called(
        self, args: list[Any], kwargs: dict[str, Any], settings: Settings
    ) -> tuple[list[Values], Structure, Prepared | None]:
        """Results as arrays, their structure, and the graph that was run, where it is known."""
        leaves, structure = flatten(self.fn(*args, **kwargs))
        if any(leaf is None for leaf in leaves):
            raise ArgumentError("batch: a result is None where an array is wanted")
        if any(isinstance(leaf, Array) for leaf in leaves):  # something is read block by block: the call was inlined
            prepared = prepare([lift(leaf, "batch") for leaf in leaves], settings)
            return evaluate(prepared, {}, settings, check_finite=self._checks(settings)), structure, prepared
        values = [np.asarray(leaf) for leaf in leaves]
        is_known = isinstance(self.fn, Compiled)
        return values, structure, self.fn.trace(*args, **kwargs).prepared if is_known else None

    def _checks(self, settings: Settings) -> bool:
        if isinstance(self.fn, Compiled):
            return settings.check_finite is True if self.fn.check_finite is None else self.fn.check_finite
        return settings.check_finite is not False

    def _flops(self, size: int, prepared: Prepared | None) -> int:
        """Operations of the native kernels that computed a piece of this size."""
        if size not in self._counted:
            program = None if prepared is None else prepared.program
            steps: Sequence[Any] = () if program is None else program.plan.steps
            native = [step for step in steps if not isinstance(step, Node)]
            self._counted[size] = sum(int(getattr(step, "sweep", step).flops) for step in native)
        return self._counted[size]

    def _read_again(self) -> int:
        """Bytes of the lazy constants, which are read for each piece."""
        lazy = [each.node for each in self.constants if isinstance(each, Array)]
        return sum(leaf.type.nbytes for leaf in walk(lazy) if isinstance(leaf, Data))


def constants_of(constants: Any) -> tuple[tuple[Any, ...], Structure]:
    """Further arguments as they travel: mapped files as their descriptions, what lies on disk as lazy arrays.

    Raises:
        ArgumentError: If they are no sequence and no dict of arguments.
    """
    if constants is None:
        constants = ()
    if isinstance(constants, Mapping):
        constants = dict(constants)
    elif isinstance(constants, list | tuple):
        constants = tuple(constants)
    else:
        raise ArgumentError(
            f"batch: constants are a sequence of further arguments, or a dict of them by name, not "
            f"{type(constants).__name__}"
        )
    leaves, structure = flatten(constants)
    return tuple(map(_as_constant, leaves)), structure


def _as_constant(leaf: Any) -> Any:
    if isinstance(leaf, np.memmap):
        return mapped_file(leaf) or np.asarray(leaf)
    if is_lazy_source(leaf) and hasattr(leaf, "dtype") and not hasattr(leaf, "__dlpack__"):
        return asarray(leaf)
    return leaf


def peak_flops(settings: Settings) -> float:
    """What the processor can do, as it was measured once in this process."""
    from ...engine.roofline import peak_flops

    return peak_flops(settings)


def instruction_set(settings: Settings) -> str:
    """What computes under these settings: bits are the same where it is."""
    if settings.target.startswith("reference"):
        return settings.target
    from ...engine.codegen.target import named_target

    target = named_target(settings.target)
    return f"native ({target.cpu})" if target.name == "native" else target.name
