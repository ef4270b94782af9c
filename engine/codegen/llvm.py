"""LLVM IR written as text, in SSA form: no allocas, and loops that carry their values in phis.

A ``Function`` has a method for each instruction, and control flow by callbacks::

    module = Module(host_target())
    f = Function(module, "total", {"numbers": "ptr", "count": "i64"}, returns="float")
    (total,) = f.loop(0, f["count"], 1, [f.constant(0.0, "float")], lambda index, carried: [
        f.add(carried[0], f.load(f.offset(f["numbers"], f.shl(index, 2)), "float"))
    ])
    f.ret(total)
    print(module.text())

Text costs a twentieth of what objects of ``llvmlite.ir`` do.
"""

from .access import Access
from .module import Module
from .values import Number, Value, constant, types_of

__all__ = ["Function", "Module", "Value"]


class Function(Access):
    """A function being written, with everything that can be written into one."""

    @staticmethod
    def constant(number: Number, type_: str) -> Value:
        """A constant, the same in every lane."""
        return constant(number, type_)

    def call(self, function: "Function", *arguments: Value) -> list[Value]:
        """Call a function of the same module; what it returns."""
        wanted = [argument.type for argument in function.arguments.values()]
        if wanted != [argument.type for argument in arguments]:
            raise TypeError(f"{function.name} takes {wanted}, not {types_of(arguments)}")
        text = f"call {function.returned} @{function.name}({', '.join(map(str, arguments))})"
        if not function.returns:
            self.line(text)
            return []
        result = self.emit(function.returned, text, "call")
        if len(function.returns) == 1:
            return [result]
        return [
            self.emit(type_, f"extractvalue {result}, {place}", "part") for place, type_ in enumerate(function.returns)
        ]

    def ret(self, *values: Value) -> None:
        """Return: the last thing a function does."""
        if [value.type for value in values] != list(self.returns):
            raise TypeError(f"{self.name} returns {list(self.returns)}, not {types_of(values)}")
        if len(values) < 2:
            self.line(f"ret {values[0] if values else 'void'}")
            return
        whole = Value("poison", self.returned)
        for place, value in enumerate(values):
            whole = self.emit(self.returned, f"insertvalue {whole}, {value}, {place}", "whole")
        self.line(f"ret {whole}")
