"""Predicates of integers, out of a foreign function into the kernel language: then masks see what they are made of.

A mask that kernels only evaluate hides positions; one that they understand lets them skip tiles. So what compares
integers and joins the comparisons is taken apart; anything else is left to be computed as it came.
"""

import math
from collections.abc import Sequence
from typing import Any

from .foreign import Foreign, called
from .foreign_text import Instruction
from .intervals import widest_interval
from .scalar import Scalar
from .types import BOOL, INT64, DType

_RELATIONS = {"slt": "less", "sle": "less_equal", "sgt": "greater", "sge": "greater_equal"}
_RELATIONS |= {"eq": "equal", "ne": "not_equal"}
_OPPOSITE = {"less": "greater_equal", "less_equal": "greater", "equal": "not_equal"}
_OPPOSITE |= {after: before for before, after in _OPPOSITE.items()}
_SUMS = {"add": "add", "sub": "subtract", "mul": "multiply"}
_QUOTIENTS = {"sdiv": "floor_divide", "udiv": "floor_divide", "srem": "remainder", "urem": "remainder"}
_EXTREMES = {"smax": "maximum", "smin": "minimum", "abs": "abs"}
_UNSIGNED = {"umax": "maximum", "umin": "minimum"}
# numba holds booleans in bytes.
_BOOLEANS = ("i1", "i8")


class _OpaqueError(Exception):
    """Something that is not taken apart."""


def predicate(elements: Any, foreign: Foreign, args: Sequence[Scalar]) -> Scalar | None:
    """The function of integers as a condition in the kernel language; None if it is not made of comparisons alone.

    Args:
        elements: What makes scalars.
        foreign: The function, which returns a boolean.
        args: Its arguments, integers or booleans.
    """
    try:
        return _Logic(elements, foreign, args).result()
    except _OpaqueError:
        return None


class _Logic:
    def __init__(self, elements: Any, foreign: Foreign, args: Sequence[Scalar]) -> None:
        if any(True for _ in foreign.region.loops()):
            raise _OpaqueError
        self.elements, self.foreign = elements, foreign
        self.values: dict[str, Scalar] = {}
        for (name, type_), arg in zip(foreign.arguments.items(), args, strict=True):
            is_boolean = arg.dtype == BOOL
            if is_boolean != (type_ in _BOOLEANS):
                raise _OpaqueError
            fits = is_boolean or arg.dtype == INT64
            self.values[name] = arg if fits else elements.apply("astype", INT64, arg)
        self.true: Scalar = elements.constant(True, BOOL)
        self.false: Scalar = elements.constant(False, BOOL)

    def _apply(self, op: str, dtype: DType, *args: Scalar) -> Scalar:
        found: Scalar = self.elements.apply(op, dtype, *args)
        return found

    def result(self) -> Scalar:
        edges: dict[tuple[str, str], Scalar] = {}
        stored: Scalar = self.false
        for name in self.foreign.region.steps:
            assert isinstance(name, str), "there are no loops"
            block = self.foreign.blocks[name]
            entering = {source: mask for (source, target), mask in edges.items() if target == name}
            here = self.true if name == self.foreign.region.header else self._any(list(entering.values()))
            for phi in block.phis:
                self.values[phi.result] = self._merged(phi, entering)
            for each in block.body:
                if each.op == "store":
                    stored = self._any([stored, self._both(here, self._boolean(each.operands[0], each.types[0]))])
                else:
                    self.values[each.result] = self._computed(each)
            if len(block.branch.cases) > 1 or (block.branch.cases and block.branch.type != "i1"):
                raise _OpaqueError
            rest = here
            for _, target in block.branch.cases:
                taken = self._boolean(block.branch.value, "i1")
                edges[name, target] = self._both(here, taken)
                rest = self._both(here, self._not(taken))
            if block.branch.default:
                before = edges.get((name, block.branch.default), self.false)
                edges[name, block.branch.default] = self._any([before, rest])
        return stored

    # --- logic

    def _both(self, left: Scalar, right: Scalar) -> Scalar:
        if self.false in (left, right):
            return self.false
        if self.true in (left, right):
            return right if left is self.true else left
        return self._apply("logical_and", BOOL, left, right)

    def _any(self, parts: Sequence[Scalar]) -> Scalar:
        kept = list(dict.fromkeys(part for part in parts if part is not self.false))
        if self.true in kept or any(self._not(part) in kept for part in kept):
            return self.true
        if not kept:
            return self.false
        found = kept[0]
        for part in kept[1:]:
            found = self._apply("logical_or", BOOL, found, part)
        return found

    def _not(self, scalar: Scalar) -> Scalar:
        if scalar in (self.true, self.false):
            return self.false if scalar is self.true else self.true
        if scalar.op in _OPPOSITE and scalar.args[0].dtype != BOOL:
            return self._apply(_OPPOSITE[scalar.op], BOOL, *scalar.args)
        return scalar.args[0] if scalar.op == "logical_not" else self._apply("logical_not", BOOL, scalar)

    def _chosen(self, condition: Scalar, then: Scalar, otherwise: Scalar) -> Scalar:
        if then.dtype == BOOL:
            return self._any([self._both(condition, then), self._both(self._not(condition), otherwise)])
        return self._apply("where", INT64, condition, then, otherwise)

    def _merged(self, phi: Instruction, entering: dict[str, Scalar]) -> Scalar:
        """Only lanes that come here count: they come over one edge each."""
        values = [self._operand(text, phi.types[0]) for text in phi.operands]
        masks = [entering[source] for source in phi.blocks]
        if values[0].dtype == BOOL:
            return self._any([self._both(mask, value) for mask, value in zip(masks, values, strict=True)])
        found = values[0]
        for mask, value in zip(masks[1:], values[1:], strict=True):
            found = self._chosen(mask, value, found)
        return found

    # --- values

    def _operand(self, text: str, type_: str) -> Scalar:
        if text in self.values:
            return self.values[text]
        if type_ not in (*_BOOLEANS, "i64") or text.startswith("%"):
            raise _OpaqueError
        number = {"true": 1, "false": 0}.get(text)
        number = int(text) if number is None and text.lstrip("-").isdigit() else number
        if number is None or (type_ in _BOOLEANS and number not in (0, 1)):
            raise _OpaqueError
        found: Scalar = self.elements.constant(number, BOOL if type_ in _BOOLEANS else INT64)
        return found

    def _boolean(self, text: str, type_: str) -> Scalar:
        found = self._operand(text, type_)
        if found.dtype != BOOL:
            raise _OpaqueError
        return found

    def _computed(self, each: Instruction) -> Scalar:
        args = [self._operand(text, type_) for text, type_ in zip(each.operands, each.types, strict=True)]
        are_booleans = [arg.dtype == BOOL for arg in args]
        if each.op == "icmp":
            return self._boolean_compared(each, args) if are_booleans[0] else self._compared(each.detail, *args)
        if each.op == "select":
            return self._chosen(*args)
        if each.op in ("zext", "trunc", "freeze") and are_booleans[0] and each.detail in ("", *_BOOLEANS):
            return args[0]
        if all(are_booleans):
            return self._joined(each.op, args)
        if any(are_booleans) and each.op != "call":  # abs is told what to do with the smallest integer
            raise _OpaqueError
        return self._arithmetic(each, args)

    def _joined(self, op: str, args: Sequence[Scalar]) -> Scalar:
        if op == "and":
            return self._both(*args)
        if op == "or":
            return self._any(args)
        if op == "xor" and self.true in args:
            return self._not(args[0] if args[1] is self.true else args[1])
        raise _OpaqueError

    def _boolean_compared(self, each: Instruction, args: Sequence[Scalar]) -> Scalar:
        left, right = args
        if each.detail not in ("eq", "ne") or right not in (self.true, self.false):
            raise _OpaqueError
        return left if (right is self.true) == (each.detail == "eq") else self._not(left)

    def _compared(self, relation: str, left: Scalar, right: Scalar) -> Scalar:
        if relation in _RELATIONS:
            return self._apply(_RELATIONS[relation], BOOL, left, right)
        if _least(right) < 0:
            raise _OpaqueError
        # As numbers without a sign, negative ones are larger than any that has none.
        inside = {"ult": "less", "uge": "less", "ule": "less_equal", "ugt": "less_equal"}[relation]
        zero = self.elements.constant(0)
        least = self._apply("greater_equal", BOOL, left, zero)
        both = self._both(least, self._apply(inside, BOOL, left, right))
        return both if relation in ("ult", "ule") else self._not(both)

    def _arithmetic(self, each: Instruction, args: Sequence[Scalar]) -> Scalar:
        apply = self._apply
        if any(type_ != "i64" for type_ in each.types[:1]):
            raise _OpaqueError
        if each.op in _SUMS:
            return apply(_SUMS[each.op], INT64, *args)
        if each.op in _QUOTIENTS:
            # Rounded towards zero is rounded down where nothing is negative.
            if _least(args[0]) < 0 or _least(args[1]) <= 0:
                raise _OpaqueError
            return apply(_QUOTIENTS[each.op], INT64, *args)
        if len(args) == 2 and args[1].is_constant:
            power = _as_division(each.op, int(args[1].attribute))
            if power is not None:
                return apply(power[0], INT64, args[0], self.elements.constant(power[1]))
        name = called(each.detail) if each.op == "call" else None
        if name in _EXTREMES:
            return apply(_EXTREMES[name], INT64, *args[: 1 if name == "abs" else 2])
        if name in _UNSIGNED and min(_least(arg) for arg in args) >= 0:
            return apply(_UNSIGNED[name], INT64, *args)
        raise _OpaqueError


def _least(scalar: Scalar) -> float:
    """The least that an integer can be."""
    bounds = widest_interval(scalar)
    return -math.inf if bounds is None else bounds[0]


def _as_division(op: str, number: int) -> tuple[str, int] | None:
    """A shift, or a mask of the last bits, as what it does to numbers: rounded down, whatever their sign."""
    if op == "and" and number > 0 and number & (number + 1) == 0:
        return "remainder", number + 1
    if op in ("ashr", "shl") and 0 <= number < 62:
        return ("floor_divide" if op == "ashr" else "multiply"), 1 << number
    return None
