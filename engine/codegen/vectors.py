"""What makes vectors, takes them apart and moves their lanes. A vector of one lane is a scalar."""

from collections.abc import Callable, Sequence

from .division import Division
from .values import Operand, Value, bits_of, bytes_of, constant, constants, element_of, vector_of


class Vectors(Division):
    """Lanes: splat, take, put, move, reduce."""

    def splat(self, value: Value, lanes: int) -> Value:
        """The scalar in every lane."""
        if lanes == 1:
            return value
        type_ = vector_of(value.element, lanes)
        if value.constant is not None:
            return constant(value.constant, type_)
        first = self.emit(type_, f"insertelement {type_} poison, {value}, i64 0", "first")
        return self.shuffle(first, [0] * lanes, "splat")

    def iota(self, lanes: int, element: str = "i32", step: int = 1) -> Value:
        """``0, step, 2 step, ...``, one a lane."""
        return constants([lane * step for lane in range(lanes)], element)

    def first_lanes(self, count: Operand, lanes: int) -> Value:
        """A mask of the first ``count`` lanes: all of them if there are more."""
        count = count if isinstance(count, Value) else constant(count, "i64")
        if count.constant is not None:
            return constants([lane < count.constant for lane in range(lanes)], "i1")
        count = self.convert(self.min(count, lanes), "i32")
        return self.compare("<", self.iota(lanes), self.splat(count, lanes))

    def extract(self, vector: Value, lane: int | Value) -> Value:
        """One lane."""
        if vector.lanes == 1:
            return vector
        return self.emit(vector.element, f"extractelement {vector}, {_index(lane)}", "extract")

    def insert(self, vector: Value, scalar: Value, lane: int | Value) -> Value:
        """The vector with one lane replaced."""
        if vector.lanes == 1:
            return scalar
        return self.emit(vector.type, f"insertelement {vector}, {scalar}, {_index(lane)}", "insert")

    def shuffle(self, left: Value, lanes: Sequence[int], hint: str = "shuffle", right: Value | None = None) -> Value:
        """Chosen lanes of ``left`` and, counting on from its last, of ``right``."""
        if len(lanes) == 1:
            lane = lanes[0]
            return self.extract(left if lane < left.lanes or right is None else right, lane % left.lanes)
        if left.lanes == 1:  # one or two scalars to a vector
            sources = [left if right is None or lane == 0 else right for lane in lanes]
            return self.gathered(sources)
        other = f"{left.type} poison" if right is None else str(right)
        type_ = vector_of(left.element, len(lanes))
        chosen = constants(lanes, "i32") if any(lanes) else Value("zeroinitializer", vector_of("i32", len(lanes)))
        return self.emit(type_, f"shufflevector {left}, {other}, {chosen}", hint)

    def gathered(self, scalars: Sequence[Value]) -> Value:
        """A vector of these scalars."""
        if len(scalars) == 1:
            return scalars[0]
        vector = Value("poison", vector_of(scalars[0].type, len(scalars)))
        for lane, scalar in enumerate(scalars):
            vector = self.insert(vector, scalar, lane)
        return vector

    def concat(self, left: Value, right: Value) -> Value:
        """The lanes of both, ``left`` first."""
        return self.shuffle(left, range(2 * left.lanes), "concat", right)

    def halves(self, vector: Value) -> tuple[Value, Value]:
        """The first and the second half of the lanes."""
        half = vector.lanes // 2
        return self.shuffle(vector, range(half), "low"), self.shuffle(vector, range(half, 2 * half), "high")

    def reduce(self, operation: Callable[[Value, Value], Value], vector: Value) -> Value:
        """All lanes combined into one, as a tree of halves whose shape depends on nothing else."""
        while vector.lanes > 1:
            vector = operation(*self.halves(vector))
        return vector

    def any_lane(self, mask: Value) -> Value:
        """Whether the mask holds in some lane."""
        return mask if mask.lanes == 1 else self.compare("!=", self._packed(mask), 0)

    def every_lane(self, mask: Value) -> Value:
        """Whether the mask holds in every lane."""
        return mask if mask.lanes == 1 else self.compare("==", self._packed(mask), -1)

    def in_registers(self, operation: Callable[..., Value], *values: Value) -> Value:
        """An operation that exists for whole registers only, on values of any width: lane by lane it must work."""
        lanes = values[0].lanes
        if lanes & (lanes - 1):  # no register has so many lanes
            every = [lane % lanes for lane in range(1 << lanes.bit_length())]
            widened = [self.shuffle(value, every) for value in values]
            return self.shuffle(self.in_registers(operation, *widened), range(lanes))
        width, element = bytes_of(values[0].type), element_of(values[0].type)
        if width > self.target.vector_bytes:
            lows, highs = zip(*(self.halves(value) for value in values), strict=True)
            return self.concat(self.in_registers(operation, *lows), self.in_registers(operation, *highs))
        if width >= 16:
            return operation(*values)
        lanes = 128 // bits_of(element)
        widened = [
            self.splat(value, lanes)
            if value.lanes == 1
            else self.shuffle(value, [lane % value.lanes for lane in range(lanes)])
            for value in values
        ]
        return self.shuffle(operation(*widened), range(values[0].lanes))

    def lane_bits(self, mask: Value) -> Value:
        """The lanes of a mask as the bits of an integer, the first one lowest."""
        return mask if mask.lanes == 1 else self._packed(mask)

    def _packed(self, mask: Value) -> Value:
        whole = f"i{mask.lanes}"
        return self.emit(whole, f"bitcast {mask} to {whole}", "packed")


def _index(lane: int | Value) -> str:
    return f"i64 {lane}" if isinstance(lane, int) else str(lane)
