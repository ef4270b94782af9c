"""Numbers that multiply a tile value, pushed to where they are free: into the rows of a contraction."""

import math

from ..kernel import Elements
from ..scalar import Scalar, below
from ..sweep import Sweep
from ..types import is_float

# Numbers between this and its reciprocal have reciprocals and products that are normal numbers.
_LEAST = 1e-9


def scaled(elements: Elements, scalar: Scalar, factor: float) -> Scalar:
    """``factor * scalar``, for a positive factor."""
    if factor == 1.0:
        return scalar
    if scalar.is_constant:
        return elements.constant(scalar.attribute * factor, scalar.dtype)
    if scalar.op == "multiply" and scalar.args[1].is_constant:
        return _times(elements, scalar.args[0], scalar.args[1].attribute * factor)
    if scalar.op == "multiply" and scalar.args[0].is_constant:
        return _times(elements, scalar.args[1], scalar.args[0].attribute * factor)
    if scalar.op in ("add", "subtract"):
        return elements.apply(scalar.op, scalar.dtype, *(scaled(elements, each, factor) for each in scalar.args))
    if scalar.op == "negative":
        return elements.apply("negative", scalar.dtype, scaled(elements, scalar.args[0], factor))
    if scalar.op == "where":
        condition, left, right = scalar.args
        sides = scaled(elements, left, factor), scaled(elements, right, factor)
        return elements.apply("where", scalar.dtype, condition, *sides)
    return _times(elements, scalar, factor)


def _times(elements: Elements, scalar: Scalar, factor: float) -> Scalar:
    return elements.multiply(scalar, elements.constant(factor, scalar.dtype))


def fold_scales(elements: Elements, sweep: Sweep, roots: list[Scalar]) -> list[Scalar]:
    """Contractions that are used at one scale alone, with that scale multiplied into what rows bring.

    A block of rows is packed once and contracted with every column: the product is free there.
    """
    roots = _without_quotients(elements, sweep, _with_powers(elements, sweep, roots))
    users: dict[Scalar, set[Scalar]] = {}
    for scalar in below(roots):
        for each in scalar.args:
            if each.op == "reduce":
                users.setdefault(each, set()).add(scalar)
    mapping: dict[Scalar, Scalar] = {}
    for contraction, above in users.items():
        (user, *others) = above
        plain = user.op == "multiply" and user.args[0] is contraction and user.args[1].is_constant
        if plain and not others and contraction not in roots:
            scaled_body = _scaled_rows(elements, sweep, contraction, user.args[1])
            if scaled_body is not None:
                kind, axis = contraction.attribute
                mapping[user] = elements.make("reduce", (scaled_body,), contraction.dtype, (kind, axis))
    return elements.substitute(roots, mapping)


def in_powers_of_two(elements: Elements, sweep: Sweep, roots: list[Scalar]) -> list[Scalar]:
    """``exp`` of tile values as a power of two: for weights, whose exponents are not large.

    Of ``exp(x - y)`` with y of rows or columns alone, a weight has the bits that the sweep had for it that found y as
    its largest exponent.
    """
    memo: dict[Scalar, Scalar] = {}
    for scalar in below(roots):
        args = tuple(memo[each] for each in scalar.args)
        memo[scalar] = scalar if args == scalar.args else elements.rebuild(scalar, args)
        if scalar.op == "exp":
            memo[scalar] = _weight(elements, sweep, args[0])
    return [memo[root] for root in roots]


def _weight(elements: Elements, sweep: Sweep, exponent: Scalar) -> Scalar:
    if exponent.op == "subtract" and not sweep.pair <= exponent.args[1].axes:
        return elements.apply("exp_weight", exponent.dtype, *exponent.args)
    return elements.apply("exp2_weight", exponent.dtype, _times(elements, exponent, math.log2(math.e)))


def _with_powers(elements: Elements, sweep: Sweep, roots: list[Scalar]) -> list[Scalar]:
    """``tanh`` of tile values from their powers of two: it would multiply by 2 log2(e) for each of them."""
    memo: dict[Scalar, Scalar] = {}
    for scalar in below(roots):
        args = tuple(memo[each] for each in scalar.args)
        memo[scalar] = scalar if args == scalar.args else elements.rebuild(scalar, args)
        if scalar.op == "tanh" and sweep.columns in scalar.axes:
            power = scaled(elements, args[0], 2 * math.log2(math.e))
            memo[scalar] = elements.apply("tanh_in_log2", scalar.dtype, power)
    return [memo[root] for root in roots]


def _without_quotients(elements: Elements, sweep: Sweep, roots: list[Scalar]) -> list[Scalar]:
    """Tile values divided by a number multiplied by its reciprocal instead: a division takes as long as ten products.

    Products with several numbers become one.
    """
    memo: dict[Scalar, Scalar] = {}
    for scalar in below(roots):
        args = tuple(memo[each] for each in scalar.args)
        found = scalar if args == scalar.args else elements.rebuild(scalar, args)
        if found.op in ("divide", "multiply") and is_float(found.dtype) and sweep.columns in found.axes:
            value, number = found.args
            if number.is_constant and _LEAST < abs(number.attribute) < 1 / _LEAST:
                factor = number.attribute if found.op == "multiply" else 1 / number.attribute
                if value.op == "multiply" and value.args[1].is_constant:
                    value, factor = value.args[0], factor * value.args[1].attribute
                found = _times(elements, value, factor)
        memo[scalar] = found
    return [memo[root] for root in roots]


def _scaled_rows(elements: Elements, sweep: Sweep, contraction: Scalar, factor: Scalar) -> Scalar | None:
    """The body of a contraction with the factor on the side of the rows, if that is a plain load."""
    (body,) = contraction.args
    if body.op != "multiply" or contraction.attribute[0] != "sum":
        return None
    for one, other in (body.args, body.args[::-1]):
        if one.op == "load" and sweep.rows in one.axes and sweep.columns not in one.axes:
            return elements.multiply(elements.multiply(one, factor), other)
    return None
