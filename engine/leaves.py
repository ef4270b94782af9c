"""The nodes without operands that the engine itself must know: constants, data, placeholders."""

import itertools
import math
import os
import uuid
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .careful import Careful
from .errors import ArgumentError, ShapeError, TraceError
from .ir import Node, Values
from .sources import describe, read
from .tracing import traced_function
from .types import DType, Shape, TensorType

Scalar = bool | int | float


class Leaf(Node):
    """A node without operands: what it holds is right by definition."""

    role: ClassVar[str] = "leaf"

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """Never: data may hold what it likes."""
        return False

    def careful(self, operands: Sequence[Any], value: Values, court: Any) -> Careful:
        """Nothing hidden, nobody to blame."""
        return Careful(value)


class Constant(Leaf):
    """A scalar written in the program. ``weak`` ones take the type of what they meet."""

    value: Scalar
    element_type: DType
    weak: bool

    def infer(self) -> TensorType:
        """0-d."""
        return TensorType((), self.element_type, self.weak)

    def reference(self) -> Values:
        """The scalar, with all of Python's digits."""
        return np.asarray(self.value)

    def trouble(self, value: Values, operands: Sequence[Values], check_finite: bool) -> bool:
        """A number that its type cannot hold."""
        return value.dtype.kind == "f" and not np.isfinite(value) and math.isfinite(self.value)


class Data(Leaf):
    """Somebody's array, read anew at every evaluation, so changes in place are seen.

    The shape and type are those it had when it was bound; ``frozen`` promises (`ag.constant`) that
    its values never change.
    """

    source: Any
    given_shape: Shape
    given_dtype: DType
    frozen: bool

    def infer(self) -> TensorType:
        """As it was when bound."""
        return TensorType(self.given_shape, self.given_dtype)

    def reference(self) -> Values:
        """The data as it is now.

        Raises:
            ShapeError: If the array was resized, or its type changed, after it was bound.
        """
        self.check()
        return self._noted(read(self.source))

    def array(self) -> Values | None:
        """What `reference` gives, if it is an array of NumPy's as it was when it was bound."""
        source = self.source
        if type(source) is not np.ndarray or source.shape != self.given_shape or source.dtype != self.given_dtype:
            return None
        return self._noted(source)

    def _noted(self, array: Values) -> Values:
        if self.frozen and id(array) not in _frozen:  # an entry goes with its array: the number is nobody else's
            _frozen[id(array)] = array
        return array

    def check(self) -> None:
        """Raise ShapeError if the array was resized, or its type changed, after it was bound."""
        shape, dtype = describe(self.source)
        if (shape, dtype) != (self.given_shape, self.given_dtype):
            now = TensorType(shape, dtype)
            line = self.lines[0] if self.lines else None
            raise ShapeError(f"asarray: the array was {self.type} when it was bound and is {now} now", line)


# Arrays that somebody has promised never to change. That one is read-only promises nothing: an older view may not be.
_frozen: weakref.WeakValueDictionary[int, Values] = weakref.WeakValueDictionary()


def never_changes(array: Values) -> bool:
    """Whether `ag.constant` was told that the values of this very array never change."""
    return not array.flags.writeable and _frozen.get(id(array)) is array


_process = uuid.uuid4().hex[:8]
_serials = itertools.count()


def _new_process() -> None:
    global _process
    _process = uuid.uuid4().hex[:8]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_process)


class Placeholder(Leaf):
    """A leaf without data. Every one is distinct: ``serial`` is unique across processes."""

    given: TensorType
    label: str | None
    serial: str

    @classmethod
    def new(cls, kind: TensorType, label: str | None = None) -> "Placeholder":
        """A placeholder equal to no other."""
        return cls(kind, label, f"{_process}-{next(_serials)}")

    def infer(self) -> TensorType:
        """As declared."""
        return self.given

    def reference(self) -> Values:
        """There is none: the data comes with the call.

        Raises:
            ArgumentError: Always.
        """
        traced = traced_function()
        if traced is not None:
            line = self.lines[0] if self.lines else None
            raise TraceError(f"compute: an argument of {traced} has no value while it is traced; keep it lazy", line)
        called = "a placeholder" if self.label is None else f"placeholder {self.label!r}"
        line = self.lines[0] if self.lines else None
        raise ArgumentError(f"compute: {called} of type {self.type} has no data; pass it through ag.compile", line)
