"""Nodes that are their operand, and say something about gradients: what they are for is gone when a graph is run."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ..engine.ir import Node, Values, substituted
from ..engine.labels import Axes
from ..engine.leaves import Constant, Leaf
from ..engine.types import DType, Shape, TensorType
from .kinds import Rearrangement
from .pulling import pulled
from .shape import BroadcastTo


class Identity(Rearrangement):
    """Its first operand, as it is."""

    of_gradients: ClassVar[bool] = True

    operand: Node

    def infer(self) -> TensorType:
        """The operand's."""
        return self.operand.type

    def labelled(self, operands: Sequence[Axes]) -> Axes:
        """The operand's."""
        return operands[0]

    def reference(self, x: Values, *others: Values) -> Values:
        """The operand."""
        return x

    def lower(self, kernel: Any, at: Sequence[Any]) -> Any:
        """The operand's."""
        return kernel.element(self.operand, at)

    def gradient(self, upstream: Any) -> Sequence[Any]:
        """The upstream."""
        return (upstream,)

    def simplify(self) -> Node | None:
        """The operand."""
        return self.operand


class StopGradient(Identity):
    """Its operand, by which nothing is differentiated."""

    def gradient(self, upstream: Any) -> Sequence[Any]:
        """Nothing."""
        return (None,)


class Differentiated(Identity):
    """An argument that a function is differentiated by: another node than the same array in another argument.

    ``number`` tells it from all others.
    """

    number: int


class Recomputed(Identity):
    """Its operand; what is computed from it is computed anew, rather than kept from before."""

    begins_anew: ClassVar[bool] = True

    def simplify(self) -> Node | None:
        """It stays: without it, equal expressions would be one."""
        return None


class Stored(Identity):
    """Its operand, made once: no kernel that reads it computes it again.

    Inside a kernel a value costs nothing while one reads it. What several read, and is dear to make, a product's
    exponential say, each of them would make for itself.
    """

    role: ClassVar[str] = "opaque"
    of_gradients: ClassVar[bool] = False

    def gradient(self, upstream: Any) -> Sequence[Any]:
        """The upstream, which is made once, too."""
        return (type(upstream)(Stored(upstream.node)),)

    def simplify(self) -> Node | None:
        """It stays."""
        return None


class Source(Identity):
    """What the insides of a function start from that is not to be taken apart with them."""


class Checkpoint(Identity):
    """A result of a function whose insides are computed again when its gradient is: ``ag.checkpoint``.

    ``sources`` are the floats that the insides start from: arguments, and what the function captured.
    """

    sources: tuple[Node, ...]

    def gradient(self, upstream: Any) -> Sequence[Any]:
        """Through a copy of the insides that begins at copies of the sources."""
        copies = [Recomputed(source.operands[0]) for source in self.sources]
        (again,) = substituted([self.operand], dict(zip(self.sources, copies, strict=True)))
        return (None, *pulled([again], [upstream], copies))


class NoPath(Leaf):
    """A gradient of zeros: what was differentiated does not depend on an argument, or gradients were stopped."""

    of_gradients: ClassVar[bool] = True

    lengths: Shape
    element_type: DType

    def infer(self) -> TensorType:
        """The argument's."""
        return TensorType(self.lengths, self.element_type)

    def reference(self) -> Values:
        """Zeros."""
        return np.zeros(self.shape, self.dtype)

    def simplify(self) -> Node | None:
        """Zeros."""
        zero = Constant(0.0, self.element_type, False)
        return BroadcastTo(zero, self.shape) if self.shape else zero

    @property
    def note(self) -> str:
        """That there is no path."""
        return f"the gradient by {self.type} is zeros: nothing leads there, or only through stop_gradient"
