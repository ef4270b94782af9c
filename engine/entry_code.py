"""The native half of a call: arguments checked, results made, the kernel run and its results checked, all in one.

A built-in function of Python, the same code for every trace: what a trace expects stands in a table of 64-bit
words that the function is bound to. It takes arrays through the buffer protocol, and only if they are exactly
what the table says: type, format, lengths, which strides are one element, alignment. Whatever else happens
(another argument, a result that is not finite, a row without weights, no memory), it returns the sentinel and
leaves no trace: the ordinary path decides.

Only functions of Python's stable interface are called, and no field of an object is read but those of
``Py_buffer``, which are part of it.
"""

from collections.abc import Callable

from .codegen.llvm import Function, Value
from .entry_arguments import BUFFER, BUFFER_BYTES, ArgumentWriter, is_null, owner, word
from .entry_layout import INPUT, OUTPUT, TABLE

_WRITABLE = 0x1
# Scratch memory up to this size lies on the stack.
_MOST_ON_STACK = 1 << 14
_LANES = 8
_EXPONENT = 0x7F800000


class EntryWriter(ArgumentWriter):
    """Writes the module."""

    def write(self) -> str:
        """The module's text; its entry is ``call``, of Python's calling convention METH_FASTCALL."""
        self._finite = self._write_finite()
        self._run = self._write_run()
        self._make = self._write_make()
        self._attempt = self._write_attempt()
        self._write_call()
        return self.module.text()

    # --- results

    def _write_make(self) -> Function:
        """Whether all results could be made, new and contiguous; their places are noted."""
        arguments = {"table": "ptr", "results": "ptr", "buffers": "ptr", "descriptor": "ptr"}
        f = Function(self.module, "make", arguments, "i1", internal=True)
        records = word(f, f["table"], TABLE["output_records"], "ptr")
        allocator = word(f, f["table"], TABLE["allocator"], "ptr")

        def one(number: Value) -> Value:
            record = f.offset(records, f.mul(number, 8 * len(OUTPUT)))
            wanted = word(f, record, OUTPUT["arguments"], "ptr")
            made = self.asked(f, "PyObject_Call", allocator, wanted, Value("null", "ptr"))
            f.store(made, f.offset(f["results"], f.shl(number, 3)))

            def ask() -> list[Value]:
                buffer = f.offset(f["buffers"], f.mul(number, BUFFER_BYTES))
                status = self.asked(f, "PyObject_GetBuffer", made, buffer, f.constant(_WRITABLE, "i32"))
                pointer = f.load(f.offset(buffer, BUFFER), "i64")
                f.store(pointer, f.offset(f["descriptor"], word(f, record, OUTPUT["pointer"])))
                return [f.compare("==", status, 0)]

            return f.if_else(is_null(f, made), lambda: [f.constant(0, "i1")], ask)[0]

        f.ret(self.each(f, word(f, f["table"], TABLE["outputs"]), one))
        return f

    def _write_finite(self) -> Function:
        """Whether so many float32 are all finite."""
        f = Function(self.module, "finite", {"data": "ptr", "count": "i64"}, "i1", internal=True)
        whole = f.and_(f["count"], -_LANES)

        def look(lanes: int) -> Callable[[Value, list[Value]], list[Value]]:
            type_ = "i32" if lanes == 1 else f"<{lanes} x i32>"

            def body(number: Value, bad: list[Value]) -> list[Value]:
                bits = f.load(f.offset(f["data"], f.shl(number, 2)), type_)
                return [f.or_(bad[0], f.compare("==", f.and_(bits, _EXPONENT), _EXPONENT))]

            return body

        vector = f.loop(f.constant(0, "i64"), whole, _LANES, [f.constant(0, f"<{_LANES} x i1>")], look(_LANES))[0]
        (rest,) = f.loop(whole, f["count"], 1, [f.constant(0, "i1")], look(1))
        f.ret(f.not_(f.or_(f.any_lane(vector), rest)))
        return f

    # --- the kernel

    def _write_run(self) -> Function:
        """Run the kernel on all of its tasks; whether there was memory for its scratch."""
        f = Function(self.module, "run", {"table": "ptr", "descriptor": "ptr"}, "i1", internal=True)
        scratch = word(f, f["table"], TABLE["scratch"])
        needed = f.add(scratch, 64)
        on_stack = f.compare("<=", scratch, _MOST_ON_STACK)
        near = f.emit("ptr", f"alloca i8, {f.select(on_stack, needed, 0)}, align 64", "near")
        (far,) = f.if_else(on_stack, lambda: [Value("null", "ptr")], lambda: [self.asked(f, "PyMem_RawMalloc", needed)])
        has_memory = f.or_(on_stack, f.not_(is_null(f, far)))

        def run() -> None:
            start = f.emit("i64", f"ptrtoint {f.select(on_stack, near, far)} to i64", "start")
            aligned = f.emit("ptr", f"inttoptr {f.and_(f.add(start, 63), -64)} to ptr", "scratch")
            self._call_kernel(f, aligned)
            self.python(f, "PyMem_RawFree", far)

        f.when(has_memory, run)
        f.ret(has_memory)
        return f

    def _call_kernel(self, f: Function, scratch: Value) -> None:
        """Kernels of a few microseconds keep the interpreter's lock: to give it away may take longer."""
        counter = f.emit("ptr", "alloca i64, align 64", "counter")
        f.store(f.constant(0, "i64"), counter)
        kernel = word(f, f["table"], TABLE["kernel"], "ptr")
        call = f"call void {kernel.text}({f['descriptor']}, {counter}, {scratch})"
        helpers = word(f, f["table"], TABLE["helpers"])
        # Looked up while the interpreter's lock is held, under which it changes.
        (share, board) = f.if_else(
            f.compare(">", helpers, 0), lambda: self._team(f), lambda: [Value("null", "ptr")] * 2
        )

        def with_others() -> list[Value]:
            stride = word(f, f["table"], TABLE["stride"])
            given = ", ".join(map(str, (board, kernel, f["descriptor"], scratch, stride, helpers)))
            return [f.emit("i64", f"call i64 {share.text}({given})", "shared")]

        def release() -> None:
            state = self.asked(f, "PyEval_SaveThread")
            (done,) = f.if_else(is_null(f, share), lambda: [f.constant(0, "i64")], with_others)
            f.when(f.compare("==", done, 0), lambda: f.line(call))
            self.python(f, "PyEval_RestoreThread", state)

        releases = f.compare("!=", word(f, f["table"], TABLE["releases"]), 0)
        f.if_else(releases, release, lambda: f.line(call))

    def _team(self, f: Function) -> list[Value]:
        """The function that shares a kernel with the workers, null if there are none, and their board."""
        team = word(f, f["table"], TABLE["team"], "ptr")
        return [word(f, team, 0, "ptr"), word(f, team, 8, "ptr")]

    def _has_helpers(self, f: Function, table: Value) -> Value:
        """Whether nobody is needed or the workers are there; in a forked child they are not, and Python hires."""

        def ask() -> list[Value]:
            return [f.not_(is_null(f, word(f, word(f, table, TABLE["team"], "ptr"), 0, "ptr")))]

        is_alone = f.compare("==", word(f, table, TABLE["helpers"]), 0)
        return f.if_else(is_alone, lambda: [f.constant(1, "i1")], ask)[0]

    # --- the call

    def _write_attempt(self) -> Function:
        """The results, or null; an exception may be set then."""
        f = Function(self.module, "attempt", {"table": "ptr", "args": "ptr"}, "ptr", internal=True)
        table = f["table"]
        inputs, outputs = word(f, table, TABLE["inputs"]), word(f, table, TABLE["outputs"])
        held = f.add(inputs, outputs)
        buffers = f.emit("ptr", f"alloca i8, {f.mul(held, BUFFER_BYTES)}, align 16", "buffers")
        f.loop(0, held, 1, [], lambda number, _: f.store(Value("null", "ptr"), owner(f, buffers, number)))
        results = f.emit("ptr", f"alloca ptr, {outputs}, align 16", "results")
        f.loop(0, outputs, 1, [], lambda number, _: f.store(Value("null", "ptr"), f.offset(results, f.shl(number, 3))))
        descriptor = self._copied_descriptor(f)
        mine = f.offset(buffers, f.mul(inputs, BUFFER_BYTES))
        # Results are made before memory is looked at: what an allocator does may run Python.
        (made,) = f.call(self._make, table, results, mine, descriptor)
        no = f.constant(0, "i1")
        (fit,) = f.if_else(made, lambda: [self._all_fit(f, inputs, buffers, descriptor)], lambda: [no])
        (ran,) = f.if_else(fit, lambda: f.call(self._run, table, descriptor), lambda: [no])
        (right,) = f.if_else(ran, lambda: [self._trusted(f, outputs, descriptor)], lambda: [no])
        f.loop(0, held, 1, [], lambda number, _: self._release(f, buffers, number))
        f.ret(*f.if_else(right, lambda: [self._packed(f, outputs, results)], lambda: [self._drop(f, outputs, results)]))
        return f

    def _copied_descriptor(self, f: Function) -> Value:
        size = word(f, f["table"], TABLE["descriptor_bytes"])
        descriptor = f.emit("ptr", f"alloca i8, {size}, align 64", "descriptor")
        template = word(f, f["table"], TABLE["descriptor"], "ptr")
        f.loop(
            *(0, size, 8, []),
            lambda place, _: f.store(f.load(f.offset(template, place), "i64"), f.offset(descriptor, place)),
        )
        return descriptor

    def _all_fit(self, f: Function, inputs: Value, buffers: Value, descriptor: Value) -> Value:
        records = word(f, f["table"], TABLE["input_records"], "ptr")

        def one(number: Value) -> Value:
            record = f.offset(records, f.mul(number, 8 * len(INPUT)))
            place = word(f, record, INPUT["argument"])

            def argument() -> list[Value]:
                return [f.load(f.offset(f["args"], f.shl(place, 3)), "ptr")]

            is_held = f.compare("<", place, 0)
            (given,) = f.if_else(is_held, lambda: [word(f, record, INPUT["object"], "ptr")], argument)
            buffer = f.offset(buffers, f.mul(number, BUFFER_BYTES))
            return f.call(self.fits, f["table"], record, given, buffer, descriptor)[0]

        return self.each(f, inputs, one)

    def _trusted(self, f: Function, outputs: Value, descriptor: Value) -> Value:
        """Whether the kernel left no doubt and all results are finite that have to be; it is counted."""
        records = word(f, f["table"], TABLE["output_records"], "ptr")

        def one(number: Value) -> Value:
            record = f.offset(records, f.mul(number, 8 * len(OUTPUT)))
            data = f.load(f.offset(descriptor, word(f, record, OUTPUT["pointer"])), "ptr")
            return f.call(self._finite, data, word(f, record, OUTPUT["count"]))[0]

        doubt = f.load(f.offset(descriptor, word(f, f["table"], TABLE["doubt"])), "i64")
        right = f.and_(self.each(f, outputs, one), f.compare("==", doubt, 0))
        answered = f.convert(right, "i64")
        for counter, more in (
            (f.offset(f["table"], TABLE["calls"]), answered),
            (f.offset(f["table"], TABLE["troubles"]), f.sub(1, answered)),
            (word(f, f["table"], TABLE["counter"], "ptr"), answered),
        ):
            f.store(f.add(f.load(counter, "i64"), more), counter)
        return right

    def _release(self, f: Function, buffers: Value, number: Value) -> None:
        """What was never taken has no owner, and Python does nothing."""
        self.python(f, "PyBuffer_Release", f.offset(buffers, f.mul(number, BUFFER_BYTES)))

    def _packed(self, f: Function, outputs: Value, results: Value) -> Value:
        """The result, or several in a tuple. Our references become the caller's."""

        def several() -> list[Value]:
            packed = self.asked(f, "PyTuple_New", outputs)
            empty = is_null(f, packed)
            return f.if_else(empty, lambda: [self._drop(f, outputs, results)], lambda: [fill(packed)])

        def fill(packed: Value) -> Value:
            def one(number: Value, _: list[Value]) -> None:
                self.python(f, "PyTuple_SetItem", packed, number, f.load(f.offset(results, f.shl(number, 3)), "ptr"))

            f.loop(0, outputs, 1, [], one)
            return packed

        return f.if_else(f.compare("==", outputs, 1), lambda: [f.load(results, "ptr")], several)[0]

    def _drop(self, f: Function, outputs: Value, results: Value) -> Value:
        def one(number: Value, _: list[Value]) -> None:  # of null, Python drops nothing
            self.python(f, "Py_DecRef", f.load(f.offset(results, f.shl(number, 3)), "ptr"))

        f.loop(0, outputs, 1, [], one)
        return Value("null", "ptr")

    def _write_call(self) -> None:
        f = Function(self.module, "call", {"self": "ptr", "args": "ptr", "count": "i64"}, "ptr")
        address = self.asked(f, "PyTuple_GetItem", f["self"], f.constant(0, "i64"))
        table = self.asked(f, "PyLong_AsVoidPtr", address)
        fits = f.compare("==", f["count"], word(f, table, TABLE["arguments"]))
        fits = f.and_(fits, self._has_helpers(f, table))
        null = Value("null", "ptr")
        (result,) = f.if_else(fits, lambda: f.call(self._attempt, table, f["args"]), lambda: [null])

        def refuse() -> list[Value]:
            self.python(f, "PyErr_Clear")
            sentinel = word(f, table, TABLE["sentinel"], "ptr")
            self.python(f, "Py_IncRef", sentinel)
            return [sentinel]

        f.ret(*f.if_else(is_null(f, result), refuse, lambda: [result]))
