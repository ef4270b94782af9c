"""Control flow as regions: blocks in an order in which each comes behind what leads to it, loops as one step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Targets = Mapping[str, Sequence[str]]


@dataclass
class Region:
    """A loop, or the whole function.

    Attributes:
        header: Its first block, where a loop begins each round.
        blocks: All its blocks, those of inner loops among them.
        steps: Blocks and inner loops, each behind what leads to it.
    """

    header: str
    blocks: frozenset[str]
    steps: "list[Step]" = field(default_factory=list)

    def loops(self) -> "Iterator[Region]":
        """All loops inside."""
        for step in self.steps:
            if isinstance(step, Region):
                yield step
                yield from step.loops()


Step = str | Region


def regions(targets: Targets) -> Region:
    """The whole function as a region.

    Args:
        targets: Where each block may go; the function begins with the first one.

    Raises:
        ValueError: If a loop can be entered at two places.
    """
    entry = next(iter(targets))
    order = _postorder(entry, targets)[::-1]
    targets = {name: targets[name] for name in order}  # and no blocks that nothing leads to
    dominators = _dominators(order, targets)
    place = {name: number for number, name in enumerate(order)}
    loops: dict[str, set[str]] = {}
    for name in order:
        for target in targets[name]:
            if target in dominators[name]:
                loops.setdefault(target, {target}).update(_reaching(name, target, targets))
            elif place[target] <= place[name]:
                raise ValueError("a loop with two ways in")
    nested = [Region(header, frozenset(blocks)) for header, blocks in loops.items()]
    nested.sort(key=lambda region: len(region.blocks))
    whole = Region(entry, frozenset(order))
    inside: dict[int, list[Region]] = {}
    for number, loop in enumerate(nested):
        outer = next((each for each in nested[number + 1 :] if loop.blocks < each.blocks), whole)
        inside.setdefault(id(outer), []).append(loop)
    for region in [*nested, whole]:
        region.steps = _steps(region, inside.get(id(region), []), targets)
    return whole


def _postorder(entry: str, targets: Targets) -> list[str]:
    found: list[str] = []
    seen = {entry}
    stack = [(entry, iter(targets[entry]))]
    while stack:
        name, rest = stack[-1]
        following = next((each for each in rest if each not in seen), None)
        if following is None:
            found.append(name)
            stack.pop()
        else:
            seen.add(following)
            stack.append((following, iter(targets[following])))
    return found


def _dominators(order: Sequence[str], targets: Targets) -> dict[str, set[str]]:
    """For each block those that every way to it leads through, itself among them."""
    before: dict[str, list[str]] = {name: [] for name in order}
    for name in order:
        for target in targets[name]:
            before[target].append(name)
    found = {name: set(order) for name in order}
    found[order[0]] = {order[0]}
    changed = True
    while changed:
        changed = False
        for name in order[1:]:
            new = {name} | set.intersection(*(found[each] for each in before[name]))
            changed |= new != found[name]
            found[name] = new
    return found


def _reaching(name: str, header: str, targets: Targets) -> set[str]:
    """Blocks from which ``name`` is reached without the header."""
    before: dict[str, list[str]] = {each: [] for each in targets}
    for each, following in targets.items():
        for target in following:
            before[target].append(each)
    found = {name}
    stack = [] if name == header else [name]
    while stack:
        for each in before[stack.pop()]:
            if each not in found and each != header:
                found.add(each)
                stack.append(each)
    return found


def _steps(region: Region, inner: Sequence[Region], targets: Targets) -> "list[Step]":
    """Blocks and inner loops in order; edges back to the header and out of the region lead nowhere."""
    owner = {name: loop.header for loop in inner for name in loop.blocks}
    following: dict[str, list[str]] = {}
    for name in region.blocks:
        step = owner.get(name, name)
        into = following.setdefault(step, [])
        for target in targets[name]:
            if target in region.blocks and target != region.header and owner.get(target, target) != step:
                into.append(owner.get(target, target))
    loops = {loop.header: loop for loop in inner}
    order = _postorder(owner.get(region.header, region.header), {key: sorted(set(following[key])) for key in following})
    return [loops.get(name, name) for name in reversed(order)]
