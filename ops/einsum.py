"""einsum: one or more operands, as transposes, products and sums. NumPy's and torch's notation."""

import string
from collections.abc import Sequence
from typing import Any

from ..engine.errors import ArgumentError, ShapeError
from .array import Array, ArrayLike, lift
from .casting import promoted
from .creation import arange
from .linear_algebra import matmul
from .reduction import sum
from .registry import public
from .shape import permute_dims


@public()
def einsum(subscripts: str, /, *operands: ArrayLike) -> Array:
    """Sums of products named by letters: ``einsum("bhid,bhjd->bhij", q, k)``.

    Letters that the result leaves out are summed over; ``...`` stands for further axes, broadcast;
    a letter twice in one operand takes its diagonal. Contracted two at a time, from the left.

    Raises:
        ArgumentError: For notation that does not parse.
        ShapeError: If a letter stands for different lengths.
    """
    if not isinstance(subscripts, str):
        raise ArgumentError(f"einsum: the first argument is the subscripts, not {type(subscripts).__name__}")
    if len(operands) == 1 and isinstance(operands[0], list | tuple) and "," in subscripts:
        operands = tuple(operands[0])
    arrays = [Array(node) for node in promoted("einsum", *(lift(x, "einsum") for x in operands))] if operands else []
    inputs, output = _parse(subscripts, arrays)
    _check_lengths(subscripts, inputs, arrays)
    terms = [_diagonal(labels, array) for labels, array in zip(inputs, arrays, strict=True)]
    result = _reduced(terms[0], {*output, *(label for labels, _ in terms[1:] for label in labels)})
    for number in range(1, len(terms)):
        later = {label for labels, _ in terms[number + 1 :] for label in labels}
        result = _contract(result, _reduced(terms[number], {*output, *result[0], *later}), {*output, *later})
    labels, array = _reduced(result, set(output))
    return permute_dims(array, [labels.index(label) for label in output])


def _parse(subscripts: str, arrays: Sequence[Array]) -> tuple[list[str], str]:
    """Labels of each operand and of the result, ellipses replaced by letters of their own."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    inputs = left.split(",")
    letters = set(text) - set(",.->")
    if len(inputs) != len(arrays) or not all(letter in string.ascii_letters for letter in letters):
        raise ArgumentError(f"einsum: {subscripts!r} does not describe {len(arrays)} operands")
    for labels in (*inputs, right):
        if labels.count(".") not in (0, 3) or labels.count("...") * 3 != labels.count("."):
            raise ArgumentError(f"einsum: {subscripts!r}: dots come as one '...' an operand")
    spare = [letter for letter in string.ascii_letters if letter not in letters]
    widths = [array.ndim - len(labels.replace("...", "")) for labels, array in zip(inputs, arrays, strict=True)]
    for labels, width, array in zip(inputs, widths, arrays, strict=True):
        if width < 0 or (width > 0 and "..." not in labels):
            raise ArgumentError(f"einsum: {labels!r} in {subscripts!r} does not name the axes of {array.node.type}")
    widest = max((width for labels, width in zip(inputs, widths, strict=True) if "..." in labels), default=0)
    if widest > len(spare):
        raise ArgumentError(f"einsum: {subscripts!r}: too many axes")
    dots = "".join(spare[:widest])
    expanded = [labels.replace("...", dots[widest - width :]) for labels, width in zip(inputs, widths, strict=True)]
    if not arrow:
        every = "".join(expanded)
        return expanded, dots + "".join(sorted(c for c in set(every) - set(dots) if every.count(c) == 1))
    output = right.replace("...", dots)
    if len(set(output)) != len(output) or not set(output) <= set("".join(expanded)):
        raise ArgumentError(f"einsum: {subscripts!r}: the result names a letter twice, or one that no operand has")
    return expanded, output


def _check_lengths(subscripts: str, inputs: Sequence[str], arrays: Sequence[Array]) -> None:
    lengths: dict[str, int] = {}
    for labels, array in zip(inputs, arrays, strict=True):
        for label, length in zip(labels, array.shape, strict=True):
            known = lengths.setdefault(label, length)
            if known == 1:
                lengths[label] = length
            elif length not in (1, known):
                raise ShapeError(f"einsum: {subscripts!r}: {label!r} is both {known} and {length} long")


Term = tuple[str, Array]


def _diagonal(labels: str, array: Array) -> Term:
    """A repeated label as one axis."""
    for label in labels:
        while labels.count(label) > 1:
            first, second = labels.index(label), labels.rindex(label)
            if array.shape[first] != array.shape[second]:
                raise ShapeError(f"einsum: {label!r} names axes of {array.shape[first]} and {array.shape[second]}")
            positions = arange(array.shape[first])
            key: list[Any] = [slice(None)] * array.ndim
            key[first] = key[second] = positions
            front = second == first + 1
            array = array[tuple(key)]
            rest = labels[:first] + labels[first + 1 : second] + labels[second + 1 :]
            labels = rest[:first] + label + rest[first:] if front else label + rest
    return labels, array


def _reduced(term: Term, kept: set[str]) -> Term:
    """Summed over the labels that nobody needs."""
    labels, array = term
    gone = tuple(axis for axis, label in enumerate(labels) if label not in kept)
    if not gone:
        return term
    total = sum(array, gone, dtype=array.dtype)
    return "".join(label for label in labels if label in kept), total


def _contract(left: Term, right: Term, kept: set[str]) -> Term:
    """Two terms as one batched matrix product."""
    (labels_left, x), (labels_right, y) = left, right
    shared = [label for label in labels_left if label in labels_right]
    # A label of length 1 on one side broadcasts: only a product of whole axes can sum it.
    inner = [
        label
        for label in shared
        if label not in kept and x.shape[labels_left.index(label)] == y.shape[labels_right.index(label)]
    ]
    spread = [label for label in shared if label not in kept and label not in inner]
    batch = [label for label in shared if label in kept] + spread
    rows = [label for label in labels_left if label not in shared]
    columns = [label for label in labels_right if label not in shared]
    x = _grouped(x, labels_left, [batch, rows, inner])
    y = _grouped(y, labels_right, [batch, inner, columns])
    sizes = {**_sizes(labels_left, left[1]), **_sizes(labels_right, right[1])}
    product = matmul(x, y)
    shape = (*product.shape[:-2], *(sizes[label] for label in rows), *(sizes[label] for label in columns))
    result = "".join((*batch, *rows, *columns)), product.reshape(shape)
    return _reduced(result, kept)


def _sizes(labels: str, array: Array) -> dict[str, int]:
    return dict(zip(labels, array.shape, strict=True))


def _grouped(array: Array, labels: str, groups: list[list[str]]) -> Array:
    """Axes in the order of the groups, the last two groups each flattened to one axis."""
    order = [labels.index(label) for group in groups for label in group]
    moved = permute_dims(array, order)
    sizes = _sizes(labels, array)
    flat = []
    for group in groups[1:]:
        length = 1
        for label in group:
            length *= sizes[label]
        flat.append(length)
    return moved.reshape((*(sizes[label] for label in groups[0]), *flat))
