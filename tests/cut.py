"""Sweeps cut into parts, and inputs that are read block by block: what several tests do with them."""

import contextlib
import itertools
import weakref

import numpy as np
import pytest

from attngraph.engine import kernels, program, splits
from attngraph.engine.codegen.target import named_target, scalar_target
from attngraph.engine.config import config
from attngraph.engine.errors import CompileError
from attngraph.engine.parts import Parts
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

UNIT = splits.UNIT


def cut_whatever_the_work(monkeypatch):
    """Sizes of tests are below what is worth a kernel, or a split."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    monkeypatch.setattr(splits, "_LEAST_OPERATIONS", 0)


def runs(monkeypatch, *expressions, check_finite=False):
    """Each sweep of some expressions, with its arrays and its results; and the results of the expressions."""
    found = []
    call = kernels.SweepKernel.__call__

    def caught(kernel, arrays, settings, bound=None, **options):
        results = call(kernel, arrays, settings, bound, **options)
        found.append((kernel, dict(arrays), results))
        return results

    with monkeypatch.context() as patched:
        patched.setattr(kernels.SweepKernel, "__call__", caught)
        made = Program(optimize([each.node for each in expressions]))
        results = made.run({}, config.settings(), check_finite=check_finite)
    return found, results


def taken(parts, arrays, boxes):
    """The pieces that a part needs."""
    return [None if box is None else arrays[node][box] for node, box in zip(parts.inputs, boxes, strict=True)]


def put(parts, part, found, arrays, results):
    """Put a part's results where they belong, in whole ones; whether some of it had to be settled."""
    if found.is_doubted:
        assert parts.settle(part, found, arrays)
    for number, result in enumerate(found.results):
        results[number][parts.result_box(number, part)] = result
    return found.is_doubted


@contextlib.contextmanager
def on_target(monkeypatch, name):
    """Kernels for a level of x86-64, or of single numbers, ``scalar``; skips what there is no code for here."""
    if name == "scalar":
        monkeypatch.setattr(kernels, "named_target", lambda _: scalar_target())
    else:
        try:
            named_target(name)
        except CompileError as reason:
            pytest.skip(str(reason))
    with config.set(target="native" if name == "scalar" else name):
        yield


def in_parts(kernel, arrays, cuts=None, rows=None, places=False, order=None):
    """The results of a sweep that is run in parts.

    Args:
        kernel: The sweep's.
        arrays: Its inputs.
        cuts: Where the splits are cut: numbers between 0 and how many there are, both among them.
        rows: Where the rows are cut.
        places: Whether each place of the batch is a part of its own.
        order: Puts states into another order before they merge.
    """
    parts = Parts(kernel, config.settings())
    division = parts.division
    rows = rows or [0, division.rows]
    cuts = cuts or [0, division.splits.count]
    results = [np.full(output.node.shape, 7, np.float32) for output in kernel.sweep.outputs]
    ranges = [[(n, n + 1) for n in range(length)] if places else [(0, length)] for length in division.batch]
    doubted = False
    for *batch, here in itertools.product(*ranges, itertools.pairwise(rows)):
        part = parts.whole._replace(batch=tuple(batch), rows=here)
        states = [
            parts.run(taken(parts, arrays, parts.needed(part, each)), part, each) for each in itertools.pairwise(cuts)
        ]
        state = parts.merge(states if order is None else order(states))
        found = parts.finish(state, taken(parts, arrays, parts.needed_at_end(part)))
        doubted |= put(parts, part, found, arrays, results)
    return results, doubted


class Stored:
    """An array that is read block by block along an axis, and keeps account of it."""

    live = 0
    peak = 0

    def __init__(self, array, step=1, axis=-2):
        self.array, self.shape, self.dtype, self.axis = array, array.shape, array.dtype, axis % array.ndim
        self.steps = tuple(step if each == self.axis else 1 for each in range(array.ndim))
        self.reads = []

    def __attngraph_blocks__(self):
        return self

    def read(self, box):
        self.reads.append((box[self.axis].start, box[self.axis].stop))
        part = self.array[box].copy()
        Stored.live += part.nbytes
        Stored.peak = max(Stored.peak, Stored.live)
        weakref.finalize(part, self._gone, part.nbytes)
        return part

    @staticmethod
    def _gone(size):
        Stored.live -= size

    @property
    def is_read_once(self):
        """Whether each column was read, once, in order."""
        ends = [0, *itertools.chain.from_iterable(self.reads), self.shape[self.axis]]
        return all(left == right for left, right in zip(ends[::2], ends[1::2], strict=True))


def same_bits(found, wanted):
    """Whether arrays are the same to the last bit."""
    return all(left.tobytes() == right.tobytes() for left, right in zip(found, wanted, strict=True))


def summed_in_parts(kernel, arrays, places=False, stretches=None, order=None):
    """The results of a sweep of any kind that runs whole on parts of its places.

    Args:
        kernel: The sweep's.
        arrays: Its inputs.
        places: Whether each place is a part of its own, along axes that may be cut.
        stretches: Of a sweep whose results add up, where its stretches of rows are cut; nowhere if None.
        order: Puts sums into another order before they are added up.
    """
    parts = Parts(kernel, config.settings())
    how = parts.stretches
    lengths = parts.division.batch if how is None else how.batch
    apart = (True,) * len(lengths) if how is None else how.apart
    ranges = [
        [(n, n + 1) for n in range(length)] if places and cut else [(0, length)]
        for length, cut in zip(lengths, apart, strict=True)
    ]
    results = [np.full(output.node.shape, 7, np.float32) for output in kernel.sweep.outputs]
    doubted = False
    for batch in itertools.product(*ranges):
        part = parts.whole._replace(batch=batch)
        if how is None or stretches is None:
            found = parts.run_whole(taken(parts, arrays, parts.needed_whole(part)), part)
        else:
            cuts = [min(how.rows, each * how.row_unit) for each in stretches]
            some = [part._replace(rows=each) for each in itertools.pairwise(sorted({0, *cuts, how.rows}))]
            sums = [parts.run_sums(taken(parts, arrays, parts.needed_whole(each)), each) for each in some]
            found = parts.add_up(sums if order is None else order(sums))
        doubted |= put(parts, part, found, arrays, results)
    return results, doubted


def program_in_parts(parts, count, bindings=None):
    """The results of a program that is run in slices; None if one of them cannot decide."""
    sources = parts.before(bindings or {})
    if sources is None:
        return None
    exported = {node: np.full(node.shape, 7, node.dtype) for node in parts.exports}
    for piece in parts.pieces(count):
        boxes = zip(parts.sources, piece.reads, strict=True)
        found = parts.run(piece.places, [None if box is None else sources[node][box] for node, box in boxes])
        if found is None:
            return None
        for node, box, result in zip(parts.exports, piece.results, found, strict=True):
            exported[node][box] = result
    return parts.after(bindings or {}, exported)
