"""Numbers that multiply a tile value, pushed to where they are free: into the rows of a contraction."""

from ..kernel import Elements, Scalar


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
