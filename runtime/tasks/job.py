"""What travels to whoever runs tasks: an expression without the arrays that it reads, and how it is to be run."""

import hashlib
import pickle
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...engine.blocks import blocks_of
from ...engine.boxes import Box
from ...engine.config import Settings, config
from ...engine.ir import Node, flatten, substituted, unflatten, walk
from ...engine.leaves import Data, Placeholder
from ...engine.pipeline import optimize
from ...engine.program import Program
from ...engine.sources import read
from ..mapped_file import mapped_file

Values = np.ndarray[Any, Any]

# Programs that a process keeps: planning one takes milliseconds, and a worker meets few at a time.
_MOST_PROGRAMS = 32


class Job(NamedTuple):
    """An expression on its way to tasks. It pickles, and holds no numbers of arrays.

    Attributes:
        flat: The graph, flattened: arrays in memory are placeholders, those elsewhere say where they are.
        target: The instruction set that all tasks use; ``native`` for each worker's own.
        check_finite: Whether NaN or infinity in q, k or v is an error where it counts.
        token: Names it.
    """

    flat: bytes
    target: str
    check_finite: bool
    token: str

    @property
    def program(self) -> Program:
        """Its program, planned once in each process."""
        return _programs.of(self)

    def settings(self, threads: int | None) -> Settings:
        """What a task runs under here: this process's own settings, and those of the job.

        Args:
            threads: Threads of a kernel; None for as many as the process may use.
        """
        changes: dict[str, Any] = {} if threads is None else {"threads": threads}
        if self.target != "native":
            changes["target"] = self.target
        with config.set(**changes):
            return config.settings()


def job_of(roots: Sequence[Node], settings: Settings, check_finite: bool) -> tuple[Job, dict[Node, Any]]:
    """The job of some results.

    Returns:
        The job, and for each of its placeholders that is an array in memory here, that array.
    """
    replaced: dict[Node, Node] = {}
    arrays: dict[Node, Any] = {}
    for leaf in walk(roots):
        if not isinstance(leaf, Data):
            continue
        elsewhere = mapped_file(leaf.source) if isinstance(leaf.source, np.memmap) else None
        if elsewhere is not None:
            replaced[leaf] = Data(elsewhere, leaf.given_shape, leaf.given_dtype, leaf.frozen)
        elif blocks_of(leaf.source) is None:
            stands_for = Placeholder.new(leaf.type)
            replaced[leaf], arrays[stands_for] = stands_for, leaf
    final = substituted(roots, replaced)
    flat = pickle.dumps(flatten(final), protocol=pickle.HIGHEST_PROTOCOL)
    digest = hashlib.sha256(flat + repr((settings.target, check_finite)).encode()).hexdigest()[:16]
    here = {stands_for: read(leaf.source) for stands_for, leaf in arrays.items()}
    return Job(flat, settings.target, check_finite, digest), here


class _Programs:
    """The latest programs, by the tokens of their jobs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Program] = OrderedDict()

    def of(self, job: Job) -> Program:
        """The program of a job. Of two threads that come at once, both may plan, and both get the same one."""
        with self._lock:
            if job.token in self._kept:
                self._kept.move_to_end(job.token)
                return self._kept[job.token]
        program = Program(optimize(unflatten(pickle.loads(job.flat))))
        with self._lock:
            kept = self._kept.setdefault(job.token, program)
            while len(self._kept) > _MOST_PROGRAMS:
                self._kept.popitem(last=False)
        return kept


_programs = _Programs()


def assembled(shape: Sequence[int], dtype: Any, pieces: Mapping[int, tuple[Box, Values]]) -> Values:
    """An array of its pieces."""
    if len(pieces) == 1:
        ((_, array),) = pieces.values()
        return array
    whole = np.empty([int(length) for length in shape], dtype)
    for box, array in pieces.values():
        whole[box] = array
    return whole
