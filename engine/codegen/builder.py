"""The bottom of the emitter: lines of text, names, operands, flags. ``llvm.Function`` is the top."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from .module import Module
from .target import Target
from .values import Operand, Value, constant

# What arithmetic may do to a rounding. Never nnan or ninf, for hidden scores are -inf; reassoc only where asked.
# Beware of `arcp`: where a block divides several times by one divisor, LLVM multiplies by its reciprocal, which
# is infinite for a denormal divisor (0 / 1e-40 becomes NaN) and inexact for a huge one.
DEFAULT_FLAGS = "contract nsz"

# The estimates that `arcp` would otherwise allow make 1/sqrt(0) a NaN.
_ATTRIBUTES = 'nounwind "reciprocal-estimates"="none"'


class Builder:
    """A function being written, as lines of text.

    Args:
        module: The module that the function joins.
        name: Its name.
        arguments: Type of each argument by name; attributes may follow the type, as in ``ptr noalias``.
        returns: Type of what it returns: a type, several of them, or none.
        internal: Whether only this module calls it.
        attributes: Further attributes, as LLVM writes them.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        arguments: Mapping[str, str],
        returns: str | Sequence[str] = (),
        *,
        internal: bool = False,
        attributes: str = "",
    ) -> None:
        self.module = module
        self.name = name
        self.returns = (returns,) if isinstance(returns, str) else tuple(returns)
        self.arguments = {key: Value(f"%{key}", _bare(type_)) for key, type_ in arguments.items()}
        self._flags = DEFAULT_FLAGS
        self._lines: list[str] = []
        self._count = 0
        self._block = "entry"
        signature = ", ".join(f"{type_} %{key}" for key, type_ in arguments.items())
        kind = "internal " if internal else ""
        self._head = f"define {kind}{self.returned} @{name}({signature}) {' '.join([_ATTRIBUTES, attributes]).strip()}"
        module.functions.append(self)

    @property
    def target(self) -> Target:
        """The processor that the module is for."""
        return self.module.target

    @property
    def returned(self) -> str:
        """What LLVM's function returns: nothing, a value, or a structure."""
        if len(self.returns) < 2:
            return self.returns[0] if self.returns else "void"
        return f"{{ {', '.join(self.returns)} }}"

    def __getitem__(self, name: str) -> Value:
        return self.arguments[name]

    def text(self) -> str:
        """The definition."""
        return "\n".join([f"{self._head} {{", "entry:", *self._lines, "}"]) + "\n"

    @contextmanager
    def flags(self, flags: str) -> Iterator[None]:
        """Inside, arithmetic carries these fast-math flags and no others; none for ``""``."""
        before = self._flags
        self._flags = flags
        try:
            yield
        finally:
            self._flags = before

    def emit(self, type_: str, text: str, hint: str = "v") -> Value:
        """A new value, defined by an instruction."""
        self._count += 1
        value = Value(f"%{hint}.{self._count}", type_)
        self._lines.append(f"  {value.text} = {text}")
        return value

    def line(self, text: str) -> None:
        """An instruction without a value."""
        self._lines.append(f"  {text}")

    def comment(self, text: str) -> None:
        """A remark for those who read the IR."""
        self._lines.append(f"  ; {text}")

    def intrinsic(self, name: str, returns: str, arguments: Sequence[Value], flags: str = "") -> Value:
        """A call of an intrinsic of LLVM, declared by its full name."""
        self.module.declare(name, returns, [argument.type for argument in arguments])
        listed = ", ".join(map(str, arguments))
        return self.emit(returns, f"call {_spaced(flags)}{returns} @{name}({listed})", name.split(".")[1])

    def pair(self, left: Operand, right: Operand) -> tuple[Value, Value]:
        """Two operands of one type: a number becomes a constant of the other's."""
        if isinstance(left, Value):
            right = right if isinstance(right, Value) else constant(right, left.type)
        elif isinstance(right, Value):
            left = constant(left, right.type)
        else:
            raise TypeError(f"neither {left} nor {right} has a type")
        if left.type != right.type:
            raise TypeError(f"{left} and {right} are of two types")
        return left, right

    def _arithmetic(self, operation: str, left: Value, right: Value) -> Value:
        """An instruction of two operands; those of floats carry the flags."""
        flags = _spaced(self._flags) if operation.startswith("f") else ""
        return self.emit(left.type, f"{operation} {flags}{left.type} {left.text}, {right.text}", operation)


def _spaced(flags: str) -> str:
    return f"{flags} " if flags else ""


def _bare(type_: str) -> str:
    """The type without its attributes."""
    return type_[: type_.index(">") + 1] if type_.startswith("<") else type_.split(" ")[0]
