"""Functions of scalars that came as LLVM IR, written for vectors: branches become choices, loops run while a lane runs.

Every lane goes every way, and takes the values of the way that is its own. So what must not happen on the others is
guarded: a division by zero, and results that LLVM leaves undefined.
"""

import math as numbers
import struct
from collections.abc import Callable, Sequence

from ..foreign import MATH, ROUNDED, Foreign, called
from ..foreign_loops import Region
from ..foreign_text import CASTS, Instruction
from ..ir import UnfusableError
from ..scalar import Scalar
from ..types import BOOL, is_float
from . import math
from .llvm import Function, Value
from .values import bits_of, constant, mangled, vector_of

_DIVISIONS = frozenset(["sdiv", "srem", "udiv", "urem"])
_SHIFTS = frozenset(["shl", "lshr", "ashr"])

Edge = tuple[str, str]
Rule = Callable[..., Value]


def apply_foreign(
    f: Function, foreign: Foreign, scalar: Scalar, args: Sequence[Value], valid: Value | None = None
) -> Value:
    """What a function gives for these arguments.

    Args:
        f: Where it is written.
        foreign: The function.
        scalar: The application: its data type, and its arguments', decide how floats are held.
        args: Its arguments, all of as many lanes.
        valid: The lanes that count, if they are known.

    Raises:
        UnfusableError: If lanes may run for different numbers of rounds, and it is not known which ones count: what
            lies in a lane that nobody needs might run for ever.
    """
    floats = {arg.element for arg in args if arg.is_float}
    # Of integers alone the results are few and not dear: they have all digits.
    element = "float" if floats == {"float"} else "double"
    active = constant(1, vector_of("i1", args[0].lanes))
    if foreign.has_varying_loops:
        if valid is None:
            raise UnfusableError("a loop whose end depends on what a scalar function is given")
        # With fewer digits than numba's code has, what converges there might not.
        active, element = valid, "double"
    unsigned = [each.dtype.kind == "u" for each in scalar.args]
    result = _Widening(f, foreign, element, args[0].lanes).run(args, unsigned, active)
    if scalar.dtype == BOOL:
        return f.compare("!=", result, 0)
    return f.convert(result, ("double" if scalar.dtype.itemsize == 8 else "float") if is_float(scalar.dtype) else "i64")


class _Widening:
    """One application, being written."""

    def __init__(self, f: Function, foreign: Foreign, element: str, lanes: int) -> None:
        self.f, self.foreign, self.element, self.lanes = f, foreign, element, lanes
        self.values: dict[str, Value] = {}
        self.masks: dict[str, Value] = {}
        self.edges: dict[Edge, Value] = {}
        self.before: dict[str, list[str]] = {}
        for block in foreign.blocks.values():
            for target in block.branch.targets:
                self.before.setdefault(target, []).append(block.name)
        self.result: Value | None = None

    def run(self, args: Sequence[Value], unsigned: Sequence[bool], active: Value) -> Value:
        """Write it for the active lanes; its result."""
        for (name, type_), arg, has_no_sign in zip(self.foreign.arguments.items(), args, unsigned, strict=True):
            without_sign = has_no_sign or arg.element == "i1"
            self.values[name] = self.f.convert(arg, self._element(type_), unsigned=without_sign)
        self.masks[self.foreign.region.header] = active
        self._region(self.foreign.region)
        assert self.result is not None
        return self.result

    # --- control flow

    def _region(self, region: Region) -> None:
        for step in region.steps:
            if isinstance(step, Region):
                self._loop(step)
                continue
            if step != region.header:
                self.masks[step] = self._mask(step, region)
                for phi in self.foreign.blocks[step].phis:
                    self.values[phi.result] = self._merged(phi, step, self.before[step])
            self._block(step)

    def _block(self, name: str) -> None:
        block = self.foreign.blocks[name]
        for each in block.body:
            value = self._instruction(each)
            if each.op == "store":
                mask = self.masks[name]
                self.result = value if self.result is None else self.f.select(mask, value, self.result)
            else:
                self.values[each.result] = value
        rest = self.masks[name]
        for literal, target in block.branch.cases:
            value = self._operand(block.branch.value, block.branch.type)
            taken = value
            if block.branch.type != "i1":
                taken = self.f.compare("==", value, self._operand(literal, block.branch.type))
            self._leave((name, target), self.f.and_(rest, taken))
            rest = self.f.and_(rest, self.f.not_(taken))
        if block.branch.default:
            self._leave((name, block.branch.default), rest)

    def _leave(self, edge: Edge, mask: Value) -> None:
        self.edges[edge] = self.f.or_(self.edges[edge], mask) if edge in self.edges else mask

    def _mask(self, name: str, region: Region) -> Value:
        """The lanes that come to a block: those of one before it, if all its ways lead here."""
        inside = {step for step in region.steps if isinstance(step, str)}
        for other in reversed([step for step in region.steps if isinstance(step, str)]):
            if other in self.masks and other != name and self._always_leads(other, name, inside, region):
                return self.masks[other]
        return self._either([(each, name) for each in self.before[name]])

    def _always_leads(self, start: str, stop: str, inside: set[str], region: Region) -> bool:
        """Whether from one block every way leads to the other, and only from there."""
        seen, stack = {start}, [start]
        while stack:
            targets = self.foreign.blocks[stack.pop()].branch.targets
            if not targets:
                return False
            for target in targets:
                if target == stop or target in seen:
                    continue
                if target not in inside or target == region.header:
                    return False
                seen.add(target)
                stack.append(target)
        behind = {stop, *seen} - {start}
        return all(set(self.before.get(each, ())) <= seen for each in behind)

    def _either(self, edges: Sequence[Edge]) -> Value:
        masks = [self.edges[edge] for edge in edges if edge in self.edges]
        found = masks[0]
        for mask in masks[1:]:
            found = self.f.or_(found, mask)
        return found

    def _merged(self, phi: Instruction, name: str, sources: Sequence[str]) -> Value:
        """A phi's value, each lane's from where it came."""
        incoming = dict(zip(phi.blocks, phi.operands, strict=True))
        found: Value | None = None
        for source in sources:
            value = self._operand(incoming[source], phi.types[0])
            found = value if found is None else self.f.select(self.edges[source, name], value, found)
        assert found is not None
        return found

    def _loop(self, loop: Region) -> None:
        """Rounds until no lane is left; a lane that has left keeps what it had."""
        f, blocks = self.f, self.foreign.blocks
        entering = [each for each in self.before[loop.header] if each not in loop.blocks]
        back = [each for each in self.before[loop.header] if each in loop.blocks]
        phis = blocks[loop.header].phis
        exits = [(name, to) for name in sorted(loop.blocks) for to in blocks[name].branch.targets]
        exits = [edge for edge in exits if edge[1] not in loop.blocks]
        kept = self._needed_behind(loop)
        if self.result is None and any(each.op == "store" for name in loop.blocks for each in blocks[name].body):
            self.result = constant(0, vector_of(self._result_element(), self.lanes))
        has_result = self.result is not None
        nobody = constant(0, vector_of("i1", self.lanes))
        start = [self._either([(each, loop.header) for each in entering])]
        start += [nobody for _ in exits]
        start += [self._merged(phi, loop.header, entering) for phi in phis]
        start += [constant(0, vector_of(self._element(_made(each)), self.lanes)) for each in kept]
        start += [self.result] if self.result is not None else []
        ends = 1, 1 + len(exits), 1 + len(exits) + len(phis), 1 + len(exits) + len(phis) + len(kept)

        def body(carried: list[Value]) -> list[Value]:
            active = self.masks[loop.header] = carried[0]
            self.values |= zip([phi.result for phi in phis], carried[ends[1] : ends[2]], strict=True)
            self.result = carried[ends[3]] if has_result else None
            outer, self.edges = self.edges, {}
            self._region(loop)
            following = [self._either([(each, loop.header) for each in back])]
            following += [f.or_(old, self.edges[edge]) for old, edge in zip(carried[1:], exits, strict=False)]
            following += [self._merged(phi, loop.header, back) for phi in phis]
            old = carried[ends[2] : ends[3]]
            following += [f.select(active, self.values[e.result], was) for e, was in zip(kept, old, strict=True)]
            self.edges = outer
            return following + ([self.result] if self.result is not None else [])

        final = f.repeat(start, lambda carried: (f.any_lane(carried[0]), carried), body)
        self.edges |= zip(exits, final[1 : ends[1]], strict=True)
        self.values |= zip([each.result for each in kept], final[ends[2] : ends[3]], strict=True)
        self.result = final[ends[3]] if has_result else None

    def _needed_behind(self, loop: Region) -> list[Instruction]:
        """What a loop makes and others use."""
        used: set[str] = set()
        for block in (block for name, block in self.foreign.blocks.items() if name not in loop.blocks):
            for each in block.instructions:
                used |= set(each.operands)
            used.add(block.branch.value)
        made = [each for name in sorted(loop.blocks) for each in self.foreign.blocks[name].instructions]
        return [each for each in made if each.result in used]

    def _result_element(self) -> str:
        stores = [each for block in self.foreign.blocks.values() for each in block.body if each.op == "store"]
        return self._element(stores[0].types[0])

    # --- values

    def _element(self, type_: str) -> str:
        return self.element if type_ == "double" else type_

    def _operand(self, text: str, type_: str) -> Value:
        if text.startswith("%"):
            return self.values[text]
        return constant(number_of(text), vector_of(self._element(type_), self.lanes))

    def _instruction(self, each: Instruction) -> Value:
        f = self.f
        args = [self._operand(text, type_) for text, type_ in zip(each.operands, each.types, strict=True)]
        if each.op == "fcmp" and args[1].constant is not None and self._element("double") != each.types[1]:
            args[1] = self._compared(each.operands[1], each.detail)
        if each.op == "store":
            return args[0]
        if each.op == "select":
            return f.select(args[0], args[1], args[2])
        if each.op in ("fneg", "freeze"):
            return f.emit(args[0].type, f"{each.op} {args[0]}")
        if each.op in ("icmp", "fcmp"):
            mask = vector_of("i1", self.lanes)
            return f.emit(mask, f"{each.op} {each.detail} {args[0]}, {args[1].text}")
        if each.op == "call":
            return _rule(each.detail)(f, *args)
        return self._cast(each, args[0]) if len(args) == 1 else self._arithmetic(each.op, args[0], args[1])

    def _cast(self, each: Instruction, value: Value) -> Value:
        to = self._element(each.detail)
        if value.element == to:
            return value
        op = each.op
        if op in ("fpext", "fptrunc"):
            op = "fpext" if bits_of(to) > bits_of(value.element) else "fptrunc"
        made = self.f.cast(op, value, to)
        # Beyond the integers LLVM leaves open what comes out, each time it looks.
        return self.f.emit(made.type, f"freeze {made}") if op in ("fptosi", "fptoui") else made

    def _arithmetic(self, op: str, left: Value, right: Value) -> Value:
        f = self.f
        if op in _DIVISIONS and right.constant in (None, 0, -1):
            right = self._divisor(op, left, right)
        value = f.emit(left.type, f"{op} {left}, {right.text}", op)
        return f.emit(value.type, f"freeze {value}") if op in _SHIFTS and right.constant is None else value

    def _divisor(self, op: str, left: Value, right: Value) -> Value:
        """One by which the processor divides without a trap: what it gives elsewhere nobody reads."""
        f = self.f
        wrong = f.compare("==", right, 0)
        if op.startswith("s"):
            least = f.compare("==", left, -(2 ** (bits_of(left.element) - 1)))
            wrong = f.or_(wrong, f.and_(least, f.compare("==", right, -1)))
        return f.select(wrong, constant(1, right.type), right)

    def _compared(self, text: str, relation: str) -> Value:
        """A double that floats are compared with: the float beside it that decides the same."""
        exact = float(number_of(text))
        near = nearest_float(exact)
        if near != exact and exact == exact:
            if relation[1:] in ("eq", "ne"):
                near = numbers.nan if relation in ("oeq", "une") else near
            elif (near > exact) != (relation[1:] in ("lt", "ge")):
                near = float(_next_float(near, up=near < exact))
        return constant(near, vector_of("float", self.lanes))


def _made(each: Instruction) -> str:
    """The type of what an instruction gives."""
    if each.op in ("icmp", "fcmp"):
        return "i1"
    if each.op in CASTS:
        return each.detail
    return each.types[1] if each.op == "select" else each.types[0]


def number_of(text: str) -> int | float:
    """A number as LLVM writes it."""
    if text in ("true", "false"):
        return int(text == "true")
    if text in ("poison", "undef", "zeroinitializer"):
        return 0
    if text.startswith("0x"):
        value: float = struct.unpack("d", struct.pack("Q", int(text, 16)))[0]
        return value
    return float(text) if "." in text else int(text)


def nearest_float(value: float) -> float:
    """The float32 nearest to a number, infinity beyond the largest."""
    try:
        near: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return numbers.copysign(numbers.inf, value)
    return near


def _next_float(value: float, *, up: bool) -> float:
    """The float32 beside one."""
    if value == 0:
        return 2.0**-149 if up else -(2.0**-149)
    (bits,) = struct.unpack("i", struct.pack("f", value))
    (found,) = struct.unpack("f", struct.pack("i", bits + (1 if (value > 0) == up else -1)))
    return float(found)


def _rule(callee: str) -> Rule:
    """What writes a call."""
    name = called(callee)
    if name in MATH:
        rule: Rule = getattr(math, name)
        return rule
    if name in ROUNDED:
        return lambda f, x: f.round(x)
    if name == "abs":
        return lambda f, x, _: f.abs(x)
    if name in ("fma", "fmuladd"):
        return _fused
    return lambda f, *args: f.intrinsic(f"llvm.{name}.{mangled(args[0].type)}", args[0].type, list(args))


def _fused(f: Function, left: Value, right: Value, addend: Value) -> Value:
    with f.flags(""):
        return f.fma(left, right, addend)
