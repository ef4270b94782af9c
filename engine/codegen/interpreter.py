"""The kernel language in NumPy: every sweep can be run, and tested, without LLVM.

Every axis gets a dimension of its own, and a scalar becomes an array over the dimensions that it varies
over. That materialises whole tiles: it is for checking, not for speed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..ir import Node
from ..scalar import Axis, Scalar, below
from ..sweep import Accumulator, Output, Sweep
from ..types import is_float

Values = np.ndarray[Any, Any]


def _safe_divide(left: Values, right: Values) -> Values:
    return np.where(right == 0, 0.0, left / np.where(right == 0, 1.0, right))


def _sigmoid(x: Values) -> Values:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def _floor_divide(left: Values, right: Values) -> Values:
    return np.where(right == 0, 0, np.floor_divide(left, np.where(right == 0, 1, right)))


def _remainder(left: Values, right: Values) -> Values:
    return np.where(right == 0, 0, np.remainder(left, np.where(right == 0, 1, right)))


def _left_shift(left: Values, right: Values) -> Values:
    inside = (right >= 0) & (right < left.dtype.itemsize * 8)
    return np.where(inside, np.left_shift(left, np.where(inside, right, 0)), 0)


def _right_shift(left: Values, right: Values) -> Values:
    most = left.dtype.itemsize * 8 - 1
    return np.right_shift(left, np.where((right >= 0) & (right < most), right, most))


def _inside(index: Values, length: Values) -> Values:
    wrapped = np.where(index < 0, index.astype(np.int64) + length, index)
    return np.asarray(np.maximum(np.minimum(wrapped, length - 1), 0))


def _outside(index: Values, length: Values) -> Values:
    return np.asarray((index < -length) | (index >= length))


# The closed set of element-wise functions whose names are not NumPy's own.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "pow": np.power,
    "safe_divide": _safe_divide,
    "sigmoid": _sigmoid,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "floor_divide": _floor_divide,
    "remainder": _remainder,
    "bitwise_left_shift": _left_shift,
    "bitwise_right_shift": _right_shift,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "atan2": np.arctan2,
    "bitwise_invert": np.invert,
    "round": np.rint,
    "inside": _inside,
    "outside": _outside,
    "any": np.any,
    # A condition that names what decides it.
    "listed": lambda found, which, value: found,
}


class _Evaluation:
    def __init__(self, sweep: Sweep, arrays: Mapping[Node, Values]) -> None:
        self.sweep, self.arrays = sweep, arrays
        self.places: dict[Axis, int] = {}
        for axis in (*sweep.batch, sweep.rows, sweep.columns):
            self.place(axis)
        self.memo: dict[Scalar, Values] = {}

    def place(self, axis: Axis) -> int:
        return self.places.setdefault(axis, len(self.places))

    def value(self, root: Scalar) -> Values:
        order = below([root])
        for scalar in order:  # every dimension is known before the first array is made
            for axis in scalar.axes:
                self.place(axis)
        for scalar in order:
            if scalar not in self.memo:
                self.memo[scalar] = self.padded(self.one(scalar, [self.memo[each] for each in scalar.args]))
        return self.padded(self.memo[root])

    def padded(self, value: Values) -> Values:
        """With a dimension for every axis so far, those of later axes of length 1."""
        return value.reshape(value.shape + (1,) * (len(self.places) - value.ndim))

    def one(self, scalar: Scalar, args: list[Values]) -> Values:
        args = [self.padded(each) for each in args]
        if scalar.op == "constant":
            return np.asarray(scalar.attribute, dtype=_carrier(scalar))
        if scalar.op == "axis":
            shape = [1] * len(self.places)
            shape[self.place(scalar.attribute)] = scalar.attribute.length
            return np.arange(scalar.attribute.length).reshape(shape)
        if scalar.op == "length":
            return np.asarray(scalar.attribute[0])
        if scalar.op == "load":
            array = self.arrays[scalar.attribute]
            array = array.astype(_carrier(scalar))
            return np.asarray(array[tuple(args)] if args else array)
        if scalar.op == "reduce":
            return self.reduce(scalar, args[0])
        if scalar.op in ("accumulator", "maximum_of"):
            return self.streamed(scalar)
        if scalar.op == "astype":
            return cast(args[0], scalar)
        if scalar.op == "call":
            return np.asarray(scalar.attribute.evaluate(*args))
        function = FUNCTIONS.get(scalar.op) or getattr(np, scalar.op)
        return np.asarray(function(*args))

    def reduce(self, scalar: Scalar, body: Values) -> Values:
        kind, axis = scalar.attribute
        place = self.place(axis)
        spread = np.broadcast_to(body, tuple(axis.length if n == place else size for n, size in enumerate(body.shape)))
        return np.asarray((np.max if kind == "max" else np.sum)(spread, axis=place, keepdims=True))

    def streamed(self, scalar: Scalar) -> Values:
        if scalar.op == "accumulator" and scalar.attribute.of_pairs:
            return self.value(scalar.attribute.weight)
        if scalar.op == "maximum_of":
            group = self.over(self.sweep.columns, self.value(scalar.attribute))
            return np.asarray(np.max(group, axis=self.place(self.sweep.columns), keepdims=True))
        accumulator: Accumulator = scalar.attribute
        if accumulator.selects:
            return self.selected(accumulator)
        streamed = self.sweep.rows if accumulator.of_columns else self.sweep.columns
        weight, column = self.value(accumulator.weight), self.value(accumulator.column)
        terms = self.padded(weight) * column
        if accumulator.group is not None:
            group = self.padded(self.value(accumulator.group))
            largest = np.max(self.over(streamed, group), axis=self.place(streamed), keepdims=True)
            weights = np.exp(group - np.where(np.isneginf(largest), 0.0, largest))
            terms = self.padded(weights) * self.padded(terms)
        return np.asarray(np.sum(self.over(streamed, self.padded(terms)), axis=self.place(streamed), keepdims=True))

    def selected(self, accumulator: Accumulator) -> Values:
        """The places of the largest, along the axis of the list."""
        assert accumulator.small is not None
        place, listed = self.place(self.sweep.columns), self.place(accumulator.small)
        weight = self.over(self.sweep.columns, self.padded(self.value(accumulator.weight)))
        order = np.argsort(-weight, axis=place, kind="stable")
        return np.swapaxes(np.take(order, np.arange(accumulator.small.length), axis=place), place, listed)

    def over(self, axis: Axis, value: Values) -> Values:
        """The values at all places of an axis that is streamed."""
        place, length = self.place(axis), axis.length
        return np.broadcast_to(value, tuple(length if n == place else size for n, size in enumerate(value.shape)))


def _carrier(scalar: Scalar) -> Any:
    return np.float64 if is_float(scalar.dtype) else scalar.dtype


def cast(value: Values, scalar: Scalar) -> Values:
    """Floats become integers by truncation, saturating, NaN as 0."""
    if scalar.dtype.kind not in "iu" or value.dtype.kind != "f":
        return value.astype(_carrier(scalar))
    limits = np.iinfo(scalar.dtype)
    # The largest of 64 bits is no float64: what is as large or larger becomes it afterwards.
    inside = np.where((value > float(limits.min)) & (value < float(limits.max)), value, 0.0).astype(scalar.dtype)
    above = np.where(value >= float(limits.max), limits.max, inside)
    return np.where(value <= float(limits.min), limits.min, above).astype(scalar.dtype)


def interpret_sweep(sweep: Sweep, arrays: Mapping[Node, Values]) -> list[Values]:
    """The sweep's results in float64, one array for each output.

    Args:
        sweep: What to run.
        arrays: The arrays of the nodes that it loads.
    """
    evaluation = _Evaluation(sweep, arrays)
    results = []
    with np.errstate(all="ignore"):
        for output in sweep.outputs:
            value = evaluation.value(output.value)
            for axis in (*sweep.batch, sweep.rows, sweep.columns) if output.of_pairs else sweep.batch:
                value = evaluation.over(axis, evaluation.padded(value))
            results.append(
                _added_at(evaluation, output, value) if output.of_pairs else _placed(evaluation, output, value)
            )
    return results


def _placed(evaluation: _Evaluation, output: Output, value: Values) -> Values:
    """A result's axes in its order; batch axes that are not among them are summed over."""
    summed = [axis for axis in evaluation.sweep.batch if axis not in output.axes]
    value = np.sum(value, axis=tuple(evaluation.place(axis) for axis in summed), keepdims=True)
    places = [evaluation.place(axis) for axis in output.axes]
    value = evaluation.padded(value)
    moved = np.moveaxis(value, places, range(len(places)))
    moved = moved.reshape(moved.shape[: len(output.axes)])
    return np.array(np.broadcast_to(moved, output.node.shape))


def _added_at(evaluation: _Evaluation, output: Output, value: Values) -> Values:
    """What pairs add at their places."""
    places = [np.broadcast_to(evaluation.padded(evaluation.value(each)), value.shape) for each in output.places]
    result = np.zeros(output.node.shape)
    np.add.at(result, tuple(places), value)
    return result
