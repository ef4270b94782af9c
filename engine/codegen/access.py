"""Memory: addresses in bytes, vectors and scalars, masks for ragged ends, gathers and scatters."""

from .control import Control
from .values import HALF_TYPES, Operand, Value, bytes_of, constant, element_of, integer_of, lanes_of, mangled, vector_of

# Not every processor has masks, or constants, of these: they are read as integers.
_HALVES = tuple(HALF_TYPES.values())


class Access(Control):
    """Loads and stores. Alignment is the element's unless ``aligned``: then it is the vector's."""

    def offset(self, pointer: Value, bytes_: Operand) -> Value:
        """The pointer moved on by so many bytes; a vector of offsets gives a vector of pointers."""
        if not isinstance(bytes_, Value):
            bytes_ = constant(bytes_, "i64")
        if bytes_.constant == 0 and bytes_.lanes == pointer.lanes:
            return pointer
        lanes = max(pointer.lanes, bytes_.lanes)
        return self.emit(vector_of("ptr", lanes), f"getelementptr i8, {pointer}, {bytes_}", "at")

    def load(self, pointer: Value, type_: str, *, aligned: bool = False) -> Value:
        """A scalar or vector of consecutive elements."""
        return self.emit(type_, f"load {type_}, {pointer}, align {_alignment(type_, aligned)}", "load")

    def store(self, value: Value, pointer: Value, *, aligned: bool = False) -> None:
        """Write a scalar or vector to consecutive elements."""
        self.line(f"store {value}, {pointer}, align {_alignment(value.type, aligned)}")

    def load_splat(self, pointer: Value, element: str, lanes: int) -> Value:
        """One element, in every lane."""
        return self.splat(self.load(pointer, element), lanes)

    def load_masked(self, pointer: Value, type_: str, mask: Value, otherwise: Operand = 0) -> Value:
        """A vector of which only the lanes of the mask are read; the others are ``otherwise``."""
        if element_of(type_) in _HALVES:
            return self.emit(type_, f"bitcast {self.load_masked(pointer, integer_of(type_), mask)} to {type_}", "load")
        kept = otherwise if isinstance(otherwise, Value) else constant(otherwise, type_)
        if mask.constant is not None:
            return self.load(pointer, type_) if mask.constant else kept
        if lanes_of(type_) == 1:
            safe = self.select(mask, pointer, self.module.table([0] * 16, "i8"))
            return self.select(mask, self.load(safe, type_), kept)
        name = f"llvm.masked.load.{mangled(type_)}.p0"
        self.module.declare(name, type_, ["ptr", mask.type, type_])
        place = f"ptr align {_alignment(type_, False)} {pointer.text}"
        return self.emit(type_, f"call {type_} @{name}({place}, {mask}, {kept})", "load")

    def store_masked(self, value: Value, pointer: Value, mask: Value) -> None:
        """Write the lanes of the mask and no other."""
        if mask.constant is not None:
            if mask.constant:
                self.store(value, pointer)
            return
        if value.lanes == 1:
            self.when(mask, lambda: self.store(value, pointer))
            return
        name = f"llvm.masked.store.{mangled(value.type)}.p0"
        self.module.declare(name, "void", [value.type, "ptr", mask.type])
        place = f"ptr align {_alignment(value.type, False)} {pointer.text}"
        self.line(f"call void @{name}({value}, {place}, {mask})")

    def gather(self, pointers: Value, element: str, mask: Value | None = None, otherwise: Operand = 0) -> Value:
        """An element from each of a vector of pointers; ``otherwise``, and nothing read, outside the mask."""
        type_ = vector_of(element, pointers.lanes)
        if element in _HALVES:
            return self.emit(type_, f"bitcast {self.gather(pointers, integer_of(element), mask)} to {type_}", "gather")
        mask = constant(1, vector_of("i1", pointers.lanes)) if mask is None else mask
        if pointers.lanes == 1:
            return self.load_masked(pointers, type_, mask, otherwise)
        kept = otherwise if isinstance(otherwise, Value) else constant(otherwise, type_)
        name = f"llvm.masked.gather.{mangled(type_)}.{mangled(pointers.type)}"
        self.module.declare(name, type_, [pointers.type, mask.type, type_])
        place = f"{pointers.type} align {bytes_of(element)} {pointers.text}"
        return self.emit(type_, f"call {type_} @{name}({place}, {mask}, {kept})", "gather")

    def scatter(self, value: Value, pointers: Value, mask: Value | None = None) -> None:
        """Write each lane to its pointer, the last one winning where two are the same."""
        mask = constant(1, vector_of("i1", pointers.lanes)) if mask is None else mask
        if pointers.lanes == 1:
            self.store_masked(value, pointers, mask)
            return
        name = f"llvm.masked.scatter.{mangled(value.type)}.{mangled(pointers.type)}"
        self.module.declare(name, "void", [value.type, pointers.type, mask.type])
        place = f"{pointers.type} align {bytes_of(element_of(value.type))} {pointers.text}"
        self.line(f"call void @{name}({value}, {place}, {mask})")

    def prefetch(self, pointer: Value, *, level: int = 1, write: bool = False) -> None:
        """Bring a cache line near: into the cache of this level (1 to 3). Any address is allowed."""
        self.module.declare("llvm.prefetch.p0", "void", ["ptr", "i32", "i32", "i32"])
        self.line(f"call void @llvm.prefetch.p0({pointer}, i32 {int(write)}, i32 {4 - level}, i32 1)")

    def atomic_add(self, pointer: Value, value: Operand, element: str = "i64") -> Value:
        """Add to an integer in memory that other threads add to; what it held before."""
        value = value if isinstance(value, Value) else constant(value, element)
        return self.emit(value.type, f"atomicrmw add {pointer}, {value} monotonic", "before")


def _alignment(type_: str, aligned: bool) -> int:
    return bytes_of(type_) if aligned else bytes_of(element_of(type_))
