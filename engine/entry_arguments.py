"""The native half of a call: its arguments, and how Python's functions are called."""

from collections.abc import Callable

from .codegen.llvm import Function, Module, Value
from .codegen.target import Target
from .entry_layout import ANY, ARRAY, AXIS, DOUBLE, FUNCTIONS, INPUT, POINTER, STATIC, TABLE

# ``Py_buffer``: its size, where its fields are, and what is asked for.
BUFFER_BYTES = 80
BUFFER, OWNER, AXES, FORMAT, SHAPE, STRIDES = 0, 8, 36, 40, 48, 56
_STRIDED_WITH_FORMAT = 0x1C


class ArgumentWriter:
    """Writes what looks at one argument: the function ``fits``."""

    def __init__(self, target: Target) -> None:
        self.module = Module(target)
        self._point = self._write_point()
        self._axes = self._write_axes()
        self.fits = self._write_fits()

    def python(self, f: Function, name: str, *arguments: Value) -> Value | None:
        """A call of one of Python's functions."""
        returns, *types = FUNCTIONS[name]
        self.module.declare(name, returns, types)
        text = f"call {returns} @{name}({', '.join(map(str, arguments))})"
        if returns == "void":
            f.line(text)
            return None
        return f.emit(returns, text, name)

    def asked(self, f: Function, name: str, *arguments: Value) -> Value:
        """A call of one of Python's functions that returns something."""
        value = self.python(f, name, *arguments)
        assert value is not None, name
        return value

    def each(self, f: Function, count: Value, test: Callable[[Value], Value]) -> Value:
        """Whether a test holds for all numbers below ``count``; it ends with the first for which it does not."""

        def again(carried: list[Value]) -> tuple[Value, list[Value]]:
            number, good = carried
            return f.and_(f.compare("<", number, count), good), carried

        start = [f.constant(0, "i64"), f.constant(1, "i1")]
        return f.repeat(start, again, lambda carried: [f.add(carried[0], 1), test(carried[0])])[1]

    # --- one argument

    def _write_fits(self) -> Function:
        """Whether an object is what a record says; its place is noted in the descriptor then."""
        arguments = {"table": "ptr", "record": "ptr", "object": "ptr", "buffer": "ptr", "descriptor": "ptr"}
        f = Function(self.module, "fits", arguments, "i1", internal=True)
        kind = word(f, f["record"], INPUT["kind"])

        def dynamic() -> list[Value]:
            return f.if_else(f.compare("==", kind, ARRAY), lambda: [self._array(f)], lambda: [self._number(f, kind)])

        def static() -> list[Value]:
            return [f.compare("==", f["object"], word(f, f["record"], INPUT["object"], "ptr"))]

        f.ret(*f.if_else(f.compare("==", kind, STATIC), static, dynamic))
        return f

    def _is_a(self, f: Function, kind: str) -> Value:
        """Whether the object is of exactly this type, which outlives our reference to it."""
        found = self.asked(f, "PyObject_Type", f["object"])
        self.python(f, "Py_DecRef", found)
        return f.compare("==", found, word(f, f["table"], TABLE[kind], "ptr"))

    def _number(self, f: Function, kind: Value) -> Value:
        """A Python float, in a slot of its own."""

        def store() -> list[Value]:
            number = self.asked(f, "PyFloat_AsDouble", f["object"])
            cell = f.offset(f["descriptor"], word(f, f["record"], INPUT["cell"]))
            is_double = f.compare("==", kind, DOUBLE)
            f.if_else(is_double, lambda: f.store(number, cell), lambda: f.store(f.convert(number, "float"), cell))
            f.call(self._point, f["record"], f["descriptor"], cell)
            return [f.constant(1, "i1")]

        return f.if_else(self._is_a(f, "float_type"), store, lambda: [f.constant(0, "i1")])[0]

    def _write_point(self) -> Function:
        """Note where an input lies, in every slot that wants it."""
        f = Function(self.module, "point", {"record": "ptr", "descriptor": "ptr", "data": "ptr"}, internal=True)
        records = word(f, f["record"], INPUT["pointer_records"], "ptr")

        def one(number: Value, _: list[Value]) -> None:
            record = f.offset(records, f.mul(number, 8 * len(POINTER)))
            data = f.offset(f["data"], word(f, record, POINTER["ahead"]))
            f.store(data, f.offset(f["descriptor"], word(f, record, POINTER["slot"])))

        f.loop(0, word(f, f["record"], INPUT["pointers"]), 1, [], one)
        f.ret()
        return f

    def _array(self, f: Function) -> Value:
        def refuse() -> list[Value]:
            return [f.constant(0, "i1")]

        def forget() -> list[Value]:
            self.python(f, "PyErr_Clear")
            return refuse()

        def ask() -> list[Value]:
            flags = f.constant(_STRIDED_WITH_FORMAT, "i32")
            status = self.asked(f, "PyObject_GetBuffer", f["object"], f["buffer"], flags)
            return f.if_else(f.compare("==", status, 0), lambda: [self._matches(f)], forget)

        return f.if_else(self._is_a(f, "array_type"), ask, refuse)[0]

    def _matches(self, f: Function) -> Value:
        record, buffer = f["record"], f["buffer"]
        format_ = f.load(f.offset(buffer, FORMAT), "ptr")
        letter = f.convert(f.load(format_, "i8"), "i64")
        good = f.compare("==", letter, word(f, record, INPUT["format"]))
        good = f.and_(good, f.compare("==", f.load(f.offset(format_, 1), "i8"), 0))
        axes = f.convert(f.load(f.offset(buffer, AXES), "i32"), "i64")
        good = f.and_(good, f.compare("==", axes, word(f, record, INPUT["axes"])))
        pointer = f.load(f.offset(buffer, BUFFER), "i64")
        good = f.and_(good, _is_multiple(f, pointer, word(f, record, INPUT["itemsize"])))

        def note() -> list[Value]:
            f.call(self._point, record, f["descriptor"], f.load(f.offset(buffer, BUFFER), "ptr"))
            return f.call(self._axes, record, buffer, f["descriptor"])

        return f.if_else(good, note, lambda: [f.constant(0, "i1")])[0]

    def _write_axes(self) -> Function:
        """Whether lengths and strides are what a record says; strides are noted."""
        f = Function(self.module, "axes", {"record": "ptr", "buffer": "ptr", "descriptor": "ptr"}, "i1", internal=True)
        shape, strides = (f.load(f.offset(f["buffer"], place), "ptr") for place in (SHAPE, STRIDES))
        records = word(f, f["record"], INPUT["axis_records"], "ptr")
        itemsize = word(f, f["record"], INPUT["itemsize"])

        def axis(number: Value) -> Value:
            record = f.offset(records, f.mul(number, 8 * len(AXIS)))
            place = f.shl(number, 3)
            stride = f.load(f.offset(strides, place), "i64")
            f.store(stride, f.offset(f["descriptor"], word(f, record, AXIS["slot"])))
            good = f.compare("==", f.load(f.offset(shape, place), "i64"), word(f, record, AXIS["length"]))
            rule = word(f, record, AXIS["rule"])
            equal = f.convert(f.compare("==", stride, word(f, record, AXIS["wanted"])), "i64", unsigned=True)
            fits = f.or_(f.compare("==", rule, ANY), f.compare("==", rule, equal))
            return f.and_(f.and_(good, fits), _is_multiple(f, stride, itemsize))

        f.ret(self.each(f, word(f, f["record"], INPUT["axes"]), axis))
        return f


def word(f: Function, base: Value, place: int, type_: str = "i64") -> Value:
    """A word of a table or record."""
    return f.load(f.offset(base, place), type_)


def owner(f: Function, buffers: Value, number: Value) -> Value:
    """Where a buffer says whose it is."""
    return f.offset(buffers, f.add(f.mul(number, BUFFER_BYTES), OWNER))


def _is_multiple(f: Function, value: Value, itemsize: Value) -> Value:
    """Of an item's size, which is a power of two."""
    return f.compare("==", f.and_(value, f.sub(itemsize, 1)), 0)


def is_null(f: Function, pointer: Value) -> Value:
    """Whether a pointer is null."""
    return f.emit("i1", f"icmp eq {pointer}, null", "null")
