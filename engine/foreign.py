"""Functions that come as LLVM IR: one function of scalars read into blocks, loops and instructions.

What is read here is written again for vectors by `codegen.external`. Only what works lane by lane is read: arithmetic,
comparisons, choices, conversions, functions of mathematics, branches and loops. Anything else raises `ForeignError`,
and the function is left to whoever compiled it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .foreign_loops import Region, regions
from .foreign_text import ASSIGNED, INCOMING, Block, ForeignError, definition, parsed

_NUMBER = re.compile(r"true|false|poison|undef|-?\d+|-?\d+\.\d+e[-+]\d+|0x[0-9A-F]{1,16}")
# The C library's functions that kernels compute themselves; those of float32 end in an f.
# fmt: off
MATH = frozenset({
    "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "tanh", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "atan2", "pow", "erf",
})
# fmt: on
# Beyond so many instructions LLVM takes seconds for a kernel; an exponential is as long as so many.
_MOST_COST, _COST_OF_CALL = 1000, 20
# LLVM's that round to the nearest whole number.
ROUNDED = frozenset(["rint", "nearbyint", "roundeven"])
# LLVM's that are an instruction on every target, or a few.
# fmt: off
_INSTRUCTIONS = frozenset({
    "abs", "ceil", "copysign", "ctpop", "fabs", "floor", "fma", "fmuladd", "maxnum", "minnum", "smax", "smin",
    "sqrt", "trunc", "umax", "umin",
})
# fmt: on


@dataclass(frozen=True)
class Foreign:
    """A function of scalars.

    Attributes:
        arguments: Type of each argument by name.
        blocks: By name, the first one first.
        region: Blocks and loops in the order in which they are computed.
        has_varying_loops: Whether lanes may need different numbers of rounds.
    """

    arguments: dict[str, str]
    blocks: dict[str, Block]
    region: Region
    has_varying_loops: bool


def read(text: str, name: str) -> Foreign:
    """The function of this name.

    It returns a status of 0 and stores its result through its first argument; its second one is not used.

    Raises:
        ForeignError: If it does something that cannot be done lane by lane.
    """
    try:
        arguments, blocks = parsed(*definition(text, name))
        region = regions({block.name: block.branch.targets for block in blocks.values()})
    except (ValueError, IndexError, KeyError) as error:  # other versions of LLVM may write what is not known here
        raise ForeignError(str(error)) from None
    blocks = {name: block for name, block in blocks.items() if name in region.blocks}
    for block in blocks.values():
        _check(block)
    cost = sum(_COST_OF_CALL if each.op == "call" else 1 for block in blocks.values() for each in block.instructions)
    if cost > _MOST_COST:
        raise ForeignError(f"it has some {cost} instructions, too many to be compiled into a kernel")
    return Foreign(arguments, blocks, region, _has_varying_loops(blocks, region, arguments))


def called(callee: str) -> str | None:
    """The name of a function that kernels have, without LLVM's prefix and its type; None for any other."""
    name = callee.removeprefix("llvm.")
    if name != callee:
        name = name.rpartition(".")[0]
        return name if name in MATH or name in ROUNDED or name in _INSTRUCTIONS else None
    name = name if name in MATH else name.removesuffix("f")
    return name if name in MATH else None


def _check(block: Block) -> None:
    """Raise ForeignError for what kernels have no form of."""
    for each in block.instructions:
        if each.op == "call" and called(each.detail) is None:
            raise ForeignError(f"a call of {each.detail}")
        if each.op == "bitcast" and (each.types[0][0] == "i") != (each.detail[0] == "i"):
            raise ForeignError("the bits of a float")
    texts = [text for each in block.instructions for text in each.operands]
    for text in [*texts, *(value for value, _ in block.branch.cases)]:
        if not text.startswith("%") and not _NUMBER.fullmatch(text):
            raise ForeignError(f"{text}, which is no number")


def may_raise(text: str, name: str) -> bool:
    """Whether the function may return another status than 0: an exception."""
    _, lines = definition(text, name)
    returned = {line.split()[-1] for line in lines if line.startswith("ret ")}
    for line in lines:
        assigned = ASSIGNED.fullmatch(line)
        if assigned and assigned[1] in returned and assigned[2].startswith("phi "):
            returned.remove(assigned[1])
            returned |= {value for value, _ in INCOMING.findall(assigned[2])}
    return returned != {"0"}


def calls(text: str) -> set[str]:
    """The functions outside the module that it may call, LLVM's own not among them."""
    found = re.findall(r'^declare .*?@("[^"]*"|[-\w$.]+)\(', text, re.MULTILINE)
    return {each.strip('"') for each in found if not each.startswith("llvm.")}


def _has_varying_loops(blocks: dict[str, Block], region: Region, arguments: Iterable[str]) -> bool:
    """Whether a loop's end depends on the arguments, as far as can be seen."""
    loops = list(region.loops())
    if not loops:
        return False
    headers = {loop.header for loop in loops}
    varying = set(arguments)
    before = -1
    while len(varying) != before:
        before = len(varying)
        divides = any(block.branch.value in varying for block in blocks.values())
        for block in blocks.values():
            for each in block.instructions:
                ways = len(each.blocks) - (block.name in headers)
                joins = each.op == "phi" and divides and ways > 1
                if each.result and (joins or varying & set(each.operands)):
                    varying.add(each.result)
    return any(
        blocks[name].branch.value in varying and set(blocks[name].branch.targets) - loop.blocks
        for loop in loops
        for name in loop.blocks
    )
