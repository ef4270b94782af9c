"""The order of edges by segments, as native code: a counting sort, which keeps the order of equals."""

from .llvm import Function, Module, Value
from .target import Target

ENTRY = "order_of_segments"
# What the function returns.
SORTED, UNSORTED, OUTSIDE = 0, 1, 2


def order_text(target: Target, element: str, unsigned: bool) -> str:
    """The module: ``i64 f(ids, edges, segments, wraps, starts, order)``.

    ``starts`` gets the first place of each segment and the number of edges behind them. Where ids are not in order,
    ``order`` gets the edges in that of their segments; it is not written otherwise. ``starts`` has two more places.
    """
    module = Module(target)
    arguments = {"ids": "ptr", "edges": "i64", "segments": "i64", "wraps": "i64", "starts": "ptr", "order": "ptr"}
    f = Function(module, ENTRY, arguments, returns="i64")
    edges, segments = f["edges"], f["segments"]
    size = int(element[1:]) // 8

    def entry(pointer: Value, index: Value) -> Value:
        return f.offset(pointer, f.shl(index, 3))

    def segment(edge: Value) -> Value:
        found = f.convert(f.load(f.offset(f["ids"], f.mul(edge, size)), element), "i64", unsigned=unsigned)
        wrapped = f.and_(f.compare("<", found, 0), f.compare("!=", f["wraps"], 0))
        return f.select(wrapped, f.add(found, segments), found)

    def count(edge: Value, carried: list[Value]) -> list[Value]:
        before, disorder, outside = carried
        found = segment(edge)
        wrong = f.compare(">=", found, segments, unsigned=True)
        place = entry(f["starts"], f.add(f.select(wrong, f.constant(0, "i64"), found), 2))
        f.store(f.add(f.load(place, "i64"), 1), place)
        return [found, f.or_(disorder, f.compare("<", found, before)), f.or_(outside, wrong)]

    def add_up(place: Value, carried: list[Value]) -> list[Value]:
        total = f.add(carried[0], f.load(entry(f["starts"], place), "i64"))
        f.store(total, entry(f["starts"], place))
        return [total]

    def put(edge: Value, _: list[Value]) -> None:
        cursor = entry(f["starts"], f.add(segment(edge), 1))
        place = f.load(cursor, "i64")
        f.store(edge, entry(f["order"], place))
        f.store(f.add(place, 1), cursor)

    zero, no = f.constant(0, "i64"), f.constant(0, "i1")
    f.loop(zero, f.add(segments, 2), 1, [], lambda place, _: f.store(zero, entry(f["starts"], place)))
    _, disorder, outside = f.loop(zero, edges, 1, [zero, no, no], count)
    # The counts lie two places on: after adding up, place s + 1 has where segment s begins.
    f.loop(f.constant(2, "i64"), f.add(segments, 2), 1, [zero], add_up)
    both = f.select(disorder, f.constant(UNSORTED, "i64"), f.constant(SORTED, "i64"))
    result = f.select(outside, f.constant(OUTSIDE, "i64"), both)
    f.if_else(f.compare("==", result, UNSORTED), lambda: (f.loop(zero, edges, 1, [], put), None)[1], lambda: None)
    f.ret(result)
    return module.text()
