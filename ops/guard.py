"""The guard that attention puts on its inputs: NaN or infinity where it counts is an error."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.careful import Careful, Court
from ..engine.errors import NonFiniteError
from ..engine.ir import Node, Values
from ..engine.labels import Axes
from ..engine.types import TensorType
from .kinds import Rearrangement


class Guard(Rearrangement):
    """Its operand, which is the argument ``argument`` of ``function``.

    Under ``check_finite`` a position of the result that depends on a value here that is not finite
    raises NonFiniteError; where a mask hides the position, it may hold anything.
    """

    guards: ClassVar[bool] = True

    operand: Node
    function: str
    argument: str

    def infer(self) -> TensorType:
        """The operand's."""
        return TensorType(self.operand.shape, self.operand.dtype)

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """The operand's."""
        return operands[0]

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The operand's."""
        return kernel.element(self.operand, at)

    def gradient(self, upstream: Any) -> Sequence[Any]:
        """The upstream."""
        return (upstream,)

    def reference(self, x: Values) -> Values:
        """The operand."""
        return x

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """A value that is not finite, if that is to be an error."""
        return check_finite and value.dtype.kind == "f" and not bool(np.isfinite(value).all())

    def careful(self, operands: Sequence[Careful], value: Values, court: Court) -> Careful:
        """Positions that are not finite are to blame."""
        (operand,) = operands
        wrong = ~np.isfinite(value)
        if not court.check_finite or not wrong.any():
            return Careful(value, operand.hidden, operand.blame)
        place = [int(axis[0]) for axis in np.nonzero(wrong)]
        message = (
            f"{self.function}: {self.argument} {self.operand.type} holds {float(value[tuple(place)])} at {place}; "
            "check_finite=False (ag.config, ag.compile) lets it through"
        )
        number = court.accuse(self, NonFiniteError, message)
        before = operand.full_blame()  # what is to blame already, an index say, is why there is anything
        blame = np.where(wrong & (before == 0), np.int32(number), before)
        return Careful(value, operand.hidden, blame)
