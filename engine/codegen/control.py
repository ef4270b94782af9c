"""Structured control flow: loops that carry values in phis, and branches that merge them."""

from collections.abc import Callable, Sequence

from .values import Operand, Value, constant, types_of
from .vectors import Vectors

Body = Callable[[Value, list[Value]], Sequence[Value] | None]
Branch = Callable[[], Sequence[Value] | None]


class Control(Vectors):
    """Loops and branches. What they contain is written by callbacks."""

    def loop(self, start: Operand, stop: Operand, step: Operand, carried: Sequence[Value], body: Body) -> list[Value]:
        """``for index in range(start, stop, step)``, for a positive step, tested before each round.

        Args:
            start: First index; the three are i64 where none of them is a value.
            stop: Where it ends.
            step: What the index grows by.
            carried: Values that each round takes over from the round before.
            body: Writes a round, from the index and the carried values; returns the next ones.

        Returns:
            The carried values after the last round.
        """
        like = next((given.type for given in (start, stop, step) if isinstance(given, Value)), "i64")
        start, stop, step = (each if isinstance(each, Value) else constant(each, like) for each in (start, stop, step))
        if start.constant is not None and stop.constant is not None and step.constant is not None:
            if start.constant >= stop.constant:
                return list(carried)
            if start.constant + step.constant >= stop.constant:  # one round
                return list(body(start, list(carried)) or ())

        def test(values: list[Value]) -> tuple[Value, list[Value]]:
            return self.compare("<", values[0], stop), values

        def round_(values: list[Value]) -> list[Value]:
            following = list(body(values[0], values[1:]) or ())
            return [self.emit(like, f"add nsw {values[0]}, {step.text}", "next"), *following]

        return self.repeat([start, *carried], test, round_)[1:]

    def repeat(
        self,
        carried: Sequence[Value],
        test: Callable[[list[Value]], tuple[Value, Sequence[Value]]],
        body: Callable[[list[Value]], Sequence[Value] | None],
    ) -> list[Value]:
        """``while`` with a test that may compute: for taking tasks from a counter until none is left.

        Args:
            carried: Values that each round takes over from the round before.
            test: From the carried values, whether there is another round, and the values that it and
                whatever follows the loop may use.
            body: Writes a round, from the test's values; returns the next carried values.

        Returns:
            The test's values when it failed.
        """
        head, inside, after = self._label("test"), self._label("round"), self._label("after")
        before = self._block
        self._branch_to(head)
        self._begin(head)
        phis = [self._named(value.type, "carried") for value in carried]
        place = len(self._lines)
        again, values = test(phis)
        values = list(values)
        self.line(f"br {again}, label %{inside}, label %{after}")
        self._begin(inside)
        following = list(body(values) or ())
        if [value.type for value in following] != [value.type for value in carried]:
            raise TypeError(f"a loop carries {types_of(carried)}, its body returns {types_of(following)}")
        last = self._block
        self._branch_to(head)
        self._lines[place:place] = [
            f"  {phi.text} = phi {phi.type} [ {first.text}, %{before} ], [ {then.text}, %{last} ]"
            for phi, first, then in zip(phis, carried, following, strict=True)
        ]
        self._begin(after)
        return values

    def when(self, condition: Value, body: Callable[[], object]) -> None:
        """Do what ``body`` writes, if the condition holds."""

        def then() -> None:
            body()

        self.if_else(condition, then, lambda: None)

    def if_else(self, condition: Value, then: Branch, otherwise: Branch) -> list[Value]:
        """Do what one of two writes; the values that it returns."""
        if condition.constant is not None:
            return list((then() if condition.constant else otherwise()) or ())
        yes, no, after = self._label("then"), self._label("else"), self._label("after")
        self.line(f"br {condition}, label %{yes}, label %{no}")
        ends = []
        for label, write in ((yes, then), (no, otherwise)):
            self._begin(label)
            values = list(write() or ())
            ends.append((values, self._block))
            self._branch_to(after)
        self._begin(after)
        (lefts, left_block), (rights, right_block) = ends
        if [value.type for value in lefts] != [value.type for value in rights]:
            raise TypeError(f"one branch returns {types_of(lefts)}, the other {types_of(rights)}")
        return [
            self.emit(left.type, f"phi {left.type} [ {left.text}, %{left_block} ], [ {right.text}, %{right_block} ]")
            for left, right in zip(lefts, rights, strict=True)
        ]

    def _named(self, type_: str, hint: str) -> Value:
        self._count += 1
        return Value(f"%{hint}.{self._count}", type_)

    def _label(self, hint: str) -> str:
        self._count += 1
        return f"{hint}.{self._count}"

    def _branch_to(self, label: str) -> None:
        self.line(f"br label %{label}")

    def _begin(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label
