"""LLVM IR as text, read into blocks and instructions: of functions whose values are numbers, one a lane."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_NAME = r'%"[^"]*"|%[-\w$.]+'
ASSIGNED = re.compile(rf"(?:({_NAME}) = )?(.*)")
_LABEL = re.compile(r'^("[^"]*"|[-\w$.]+):')
_METADATA = re.compile(r", ![\w.]+ !.*$")
INCOMING = re.compile(rf"\[ (\S+|{_NAME}), ({_NAME}) \]")
_CASE = re.compile(rf"\w+ (\S+), label ({_NAME})")

# fmt: off
_BINARY = frozenset({
    "add", "sub", "mul", "sdiv", "udiv", "srem", "urem", "and", "or", "xor", "shl", "lshr", "ashr", "fadd",
    "fsub", "fmul", "fdiv",
})
CASTS = frozenset({
    "zext", "sext", "trunc", "fptosi", "fptoui", "sitofp", "uitofp", "fpext", "fptrunc", "bitcast",
})
_FLAGS = frozenset({
    "nsw", "nuw", "exact", "disjoint", "nneg", "samesign", "fast", "nnan", "ninf", "nsz", "arcp", "contract",
    "afn", "reassoc", "tail", "musttail", "notail", "noundef", "fastcc", "ccc",
})
# fmt: on
_TYPE = re.compile(r"double|float|i([1-9]|[1-5]\d|6[0-4])")
_OPENING, _CLOSING = "([{<", ")]}>"


class ForeignError(Exception):
    """Something in a function that cannot be computed lane by lane; the message says what."""


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        result: The name it defines; empty if none.
        op: What it does.
        types: The types of its operands.
        operands: Names, or numbers as LLVM writes them.
        detail: The relation of a comparison, the function that is called, or the type that a cast makes.
        blocks: Of a phi, the block that each operand comes from.
    """

    result: str
    op: str
    types: tuple[str, ...]
    operands: tuple[str, ...]
    detail: str = ""
    blocks: tuple[str, ...] = ()


class Branch(NamedTuple):
    """How a block ends: in the block of the first case that the value equals, else in the default; or it returns."""

    value: str
    type: str
    cases: tuple[tuple[str, str], ...]
    default: str

    @property
    def targets(self) -> tuple[str, ...]:
        """Where it may go, each block once."""
        found = [target for _, target in self.cases]
        return tuple(dict.fromkeys([*found, self.default] if self.default else found))


@dataclass
class Block:
    """Instructions in a row, and where it goes from there."""

    name: str
    phis: list[Instruction] = field(default_factory=list)
    body: list[Instruction] = field(default_factory=list)
    branch: Branch = field(default_factory=lambda: Branch("", "", (), ""))

    @property
    def instructions(self) -> list[Instruction]:
        """All of them, phis first."""
        return [*self.phis, *self.body]


def definition(text: str, name: str) -> tuple[str, list[str]]:
    """A function's arguments, and its lines without comments; a switch is one line."""
    found = re.search(rf'^define [^\n]*@"?{re.escape(name)}"?\(', text, re.MULTILINE)
    if found is None:
        raise ForeignError(f"the code does not define {name}")
    stop = text.index("\n}", found.end())
    head, _, body = text[found.end() : stop].partition("\n")
    depth, end = 1, 0
    while depth:
        depth += (head[end] == "(") - (head[end] == ")")
        end += 1
    lines: list[str] = []
    for line in body.splitlines():
        line = line.partition(" ; ")[0] if not line.startswith(";") else ""
        line = _METADATA.sub("", line.strip())
        if lines and lines[-1].startswith("switch ") and "]" not in lines[-1]:
            lines[-1] += f" {line}"
        elif line:
            lines.append(line)
    return head[: end - 1], lines


def parsed(head: str, lines: Sequence[str]) -> tuple[dict[str, str], dict[str, Block]]:
    """The types of the arguments by name, and the blocks."""
    vector = next((found for line in lines if (found := re.search(r"<\d+ x \w+>", line))), None)
    if vector is not None:
        raise ForeignError(f"{vector[0]} is no type of a lane")
    result, _, *arguments = [_typed(each) for each in _split(head)]
    blocks = {block.name: block for block in _blocks(lines, result[1])}
    return {argument: _lane(type_) for type_, argument in arguments}, blocks


def _split(text: str) -> list[str]:
    """What commas part, unless they stand in brackets."""
    parts, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        if not quoted:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def _typed(text: str) -> tuple[str, str]:
    """Type and value of ``double noundef %x``."""
    value = re.search(rf"({_NAME}|\S+)$", text)
    assert value is not None
    return text.split(" ", 1)[0], value[1]


def _blocks(lines: Sequence[str], result: str) -> Iterator[Block]:
    block: Block | None = None
    for line in lines:
        label = _LABEL.match(line)
        if label is not None:
            if block is not None:
                yield block
            block = Block(f"%{label[1]}")
            continue
        if block is None:  # a first block without a name
            raise ForeignError("a block without a name")
        word = line.split(" ", 1)[0]
        if word in ("br", "switch", "ret"):
            block.branch = _branch(word, line)
        elif word == "unreachable":
            raise ForeignError("a place that is never reached")
        else:
            instruction = _instruction(line, result)
            if instruction is not None:
                (block.phis if instruction.op == "phi" else block.body).append(instruction)
    if block is not None:
        yield block


def _branch(word: str, line: str) -> Branch:
    if word == "ret":
        return Branch("", "", (), "")
    if word == "switch":
        head, _, cases = line.partition("[")
        (type_, value), default = (_typed(each) for each in _split(head[len("switch ") :]))
        return Branch(value, type_, tuple(_CASE.findall(cases)), default[1])
    parts = [_typed(each)[1] for each in _split(line[len("br ") :])]
    if len(parts) == 1:
        return Branch("", "", (), parts[0])
    return Branch(parts[0], "i1", (("true", parts[1]),), parts[2])


def _without_flags(text: str) -> tuple[str, set[str]]:
    flags = set()
    word, _, rest = text.partition(" ")
    while word in _FLAGS:
        flags.add(word)
        text = rest
        word, _, rest = text.partition(" ")
    return text, flags


def _instruction(line: str, result: str) -> Instruction | None:
    """The instruction of a line; None where it is of no consequence."""
    assigned = ASSIGNED.fullmatch(line)
    assert assigned is not None
    name, rest = assigned[1] or "", _without_flags(assigned[2])[0]
    op, _, rest = rest.partition(" ")
    rest, flags = _without_flags(rest)
    if op in _BINARY:
        type_, _, operands = rest.partition(" ")
        left, right = _split(operands)
        return Instruction(name, op, (_lane(type_),) * 2, (left, right))
    if op in ("icmp", "fcmp"):
        relation, type_, operands = rest.split(" ", 2)
        if relation in _FLAGS:
            relation, type_, operands = f"{type_} {operands}".split(" ", 2)
        left, right = _split(operands)
        return Instruction(name, op, (_lane(type_),) * 2, (left, right), relation)
    if op in CASTS:
        type_, value, _, target = rest.split(" ", 3)
        op = "sitofp" if op == "uitofp" and "nneg" in flags else op
        return Instruction(name, op, (_lane(type_),), (value,), _lane(target))
    if op in ("select", "fneg", "freeze"):
        return _of_typed(name, op, _split(rest))
    if op == "phi":
        type_ = rest.split(" ", 1)[0]
        incoming = {block: value for value, block in INCOMING.findall(rest)}
        return Instruction(name, op, (_lane(type_),), tuple(incoming.values()), blocks=tuple(incoming))
    if op == "call":
        return _call(name, rest)
    if op == "store":
        stored, place, *_ = (_typed(each) for each in _split(rest))
        if place[1] == result:
            return Instruction("", op, (_lane(stored[0]),), (stored[1],))
    raise ForeignError(f"{op} has no form for vectors")


def _of_typed(name: str, op: str, operands: Iterable[str], detail: str = "") -> Instruction:
    typed = [_typed(each) for each in operands]
    return Instruction(name, op, tuple(_lane(each) for each, _ in typed), tuple(each for _, each in typed), detail)


def _call(name: str, rest: str) -> Instruction | None:
    head, _, arguments = rest.partition("(") if "@" in rest.partition("(")[0] else _after_attributes(rest)
    callee = head.partition("@")[2].strip('"')
    if callee.startswith(("llvm.assume", "llvm.lifetime", "llvm.experimental.noalias", "llvm.donothing")):
        return None
    if not callee or " asm " in head:
        raise ForeignError("a call of no function")
    return _of_typed(name, "call", _split(arguments.rpartition(")")[0]), callee)


def _after_attributes(rest: str) -> tuple[str, str, str]:
    """Where the returned type has attributes with brackets before it."""
    place = rest.find("@")
    head, bracket, arguments = rest[place:].partition("(")
    return rest[:place] + head, bracket, arguments


def _lane(type_: str) -> str:
    """A type that a lane can have.

    Raises:
        ForeignError: If it is none.
    """
    if _TYPE.fullmatch(type_) is None:
        raise ForeignError(f"{type_} is no type of a lane")
    return type_
