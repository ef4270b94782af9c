"""Whether a sweep's values can leave float32's range unseen, judged from the sizes of its inputs.

What overflows usually shows: results are infinite or NaN, and the interpreter decides. But a function may take what
has overflowed back into range: ``1 / inf`` is 0, and ``tanh`` of a sum whose parts passed the largest number has
perhaps the wrong sign. Where such a function stands in a sweep, the largest possible size of all that it is
given is computed from the largest inputs, and what might be too large is not trusted.

Contractions are looked at by the kernel itself (`codegen.watch`). So what is bounded of a multiple of one, as a
softcap's ``tanh`` is, needs no look at the inputs: beyond the largest number it is at its bound anyway.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .codegen.layout import LARGEST_FLOAT
from .ir import Node, Values
from .lengths import estimate
from .scalar import Scalar, below
from .sweep import Sweep
from .types import HALVES, is_float

# Of which argument a function's result may be finite, or of the other sign, although that one has overflowed.
_HIDES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("divide", "safe_divide"), (1,)),
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), (0, 1)),
    **dict.fromkeys(("minimum", "maximum", "logaddexp", "power", "atan2", "copysign", "hypot"), (0, 1)),
    **dict.fromkeys(("tanh", "sigmoid", "erf", "atan", "rsqrt", "reciprocal", "sign", "isfinite", "isnan"), (0,)),
}
# Arithmetic: what else there is makes nothing large out of sums, but from arguments that were so.
_GROWS = frozenset({"add", "subtract", "multiply", "square", "reduce", "exp", "exp2", "expm1", "sinh", "cosh"})

_BOUNDED = frozenset({"tanh", "sigmoid", "erf", "atan"})
# What of a number of any size keeps its sign, or gives a bound: with constants beside it.
_MULTIPLES = frozenset({"multiply", "divide", "negative", "minimum", "maximum"})

Sizes = Mapping[Node, float]


def _exponential(size: float) -> float:
    return math.exp(min(size, 700.0))


_LIKE_ARGUMENTS = frozenset(
    {"where", "maximum", "minimum", "abs", "negative", "positive", "astype", "divide", "safe_divide", "floor", "ceil"}
)
_RULES: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a + b,
    "multiply": lambda a, b: a * b,
    "square": lambda a: a * a,
    "sqrt": math.sqrt,
    **dict.fromkeys(("exp", "exp2", "expm1", "sinh", "cosh"), _exponential),
}


class Magnitudes:
    """What of a sweep has to be watched.

    Args:
        sweep: The sweep.
    """

    def __init__(self, sweep: Sweep) -> None:
        risky: dict[Scalar, None] = {}
        for scalar in below(sweep.expressions()):
            # A user's function may hide anything.
            for place in range(len(scalar.args)) if scalar.op == "call" else _HIDES.get(scalar.op, ()):
                argument = scalar.args[place]
                if is_float(argument.dtype) and not argument.waits and not _is_bounded_at_its_end(scalar, argument):
                    risky[argument] = None
        self._risky = [each for each in risky if any(inner.op in _GROWS for inner in below([each]))]
        self._order: Sequence[Scalar] = below(self._risky)
        loads = [each.attribute for each in self._order if each.op == "load" and is_float(each.dtype)]
        self._inputs = tuple(dict.fromkeys(loads))

    @property
    def are_watched(self) -> bool:
        """Whether there is anything that could hide an overflow."""
        return bool(self._risky)

    def may_overflow(self, arrays: Mapping[Node, Values]) -> bool:
        """Whether something might overflow unseen, by the largest elements of what the sweep loads."""
        return self.overflow(self.sizes(arrays))

    def sizes(self, arrays: Mapping[Node, Values]) -> dict[Node, float]:
        """The largest elements of what has to be watched, as far as it is there."""
        return {node: largest(arrays[node]) for node in self._inputs if node in arrays}

    def overflow(self, sizes: Sizes) -> bool:
        """Whether something might overflow unseen, if elements are as large as this."""
        known: dict[Scalar, float] = {}
        for scalar in self._order:
            known[scalar] = _size(scalar, known, sizes)
            if not known[scalar] <= LARGEST_FLOAT:
                return True
        return False


def _is_bounded_at_its_end(scalar: Scalar, argument: Scalar) -> bool:
    """Whether the function is at its bound where a multiple of a contraction leaves the numbers."""
    clips = scalar.op in ("minimum", "maximum") and any(each.is_constant for each in scalar.args)
    if scalar.op not in _BOUNDED and not clips:
        return False
    while argument.op in _MULTIPLES:
        varying = [each for each in argument.args if not each.is_constant]
        if len(varying) != 1 or varying[0] is not argument.args[0]:
            return False
        (argument,) = varying
    return argument.op == "reduce"


def _size(scalar: Scalar, known: Mapping[Scalar, float], sizes: Sizes) -> float:
    """The largest magnitude of a value; 1 where that is bounded, or nothing is known."""
    if scalar.op == "constant":
        return 0.0 if scalar.attribute in (math.inf, -math.inf) else abs(float(scalar.attribute))
    if scalar.op == "axis":
        return float(estimate(scalar.attribute.length))
    if scalar.op == "load":
        return sizes.get(scalar.attribute, 1.0)
    args = [known[each] for each in scalar.args]
    if scalar.op == "reduce":
        return args[0] * (estimate(scalar.attribute[1].length) if scalar.attribute[0] == "sum" else 1)
    if scalar.op in _LIKE_ARGUMENTS:
        values = args[:1] if scalar.op.endswith("divide") else args
        return max(values)
    rule = _RULES.get(scalar.op)
    return 1.0 if rule is None else rule(*args)


def largest(array: Values) -> float:
    """The largest finite magnitude in an array; what is infinite or NaN shows by itself."""
    if array.size == 0:
        return 0.0
    if array.dtype in HALVES:
        array = array.astype(np.float32)
    with np.errstate(invalid="ignore"):
        high, low = float(np.fmax.reduce(array, axis=None)), float(np.fmin.reduce(array, axis=None))
    if math.isfinite(high) and math.isfinite(low):
        return max(abs(high), abs(low))
    return float(np.abs(array).max(where=np.isfinite(array), initial=0.0))
