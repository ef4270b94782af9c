"""The table of an entry: what a call expects, in 64-bit words, by their places in bytes."""


def _places(*names: str) -> dict[str, int]:
    return {name: 8 * number for number, name in enumerate(names)}


# What a call knows. ``calls`` and ``troubles`` count what was answered, and what ended with a result in doubt;
# what was answered is also added to the number at ``counter``. ``scratch`` is that of all threads, ``stride`` of one.
TABLE = _places(
    *("calls", "troubles", "arguments", "inputs", "input_records", "outputs", "output_records", "sentinel"),
    *("array_type", "float_type", "allocator", "descriptor", "descriptor_bytes", "doubt", "kernel", "scratch"),
    *("releases", "counter", "team", "helpers", "stride"),
)
# What an argument, or an array that the graph holds, has to be, and where the descriptor wants it.
INPUT = _places(
    *("argument", "object", "kind", "format", "itemsize", "axes", "axis_records", "pointers", "pointer_records"),
    "cell",
)
POINTER = _places("slot", "ahead")
AXIS = _places("length", "rule", "wanted", "slot")
OUTPUT = _places("arguments", "pointer", "count")
# Kinds of input. A number is stored as a float of this width; what is static is one and the same object.
ARRAY, FLOAT, DOUBLE, STATIC = range(4)
# What holds of an axis's stride: that it is not what is wanted, that it is, nothing.
UNEQUAL, EQUAL, ANY = range(3)

FUNCTIONS = {
    "PyBuffer_Release": ("void", "ptr"),
    "PyErr_Clear": ("void",),
    "PyEval_RestoreThread": ("void", "ptr"),
    "PyEval_SaveThread": ("ptr",),
    "PyFloat_AsDouble": ("double", "ptr"),
    "PyLong_AsVoidPtr": ("ptr", "ptr"),
    "PyMem_RawFree": ("void", "ptr"),
    "PyMem_RawMalloc": ("ptr", "i64"),
    "PyObject_Call": ("ptr", "ptr", "ptr", "ptr"),
    "PyObject_GetBuffer": ("i32", "ptr", "ptr", "i32"),
    "PyObject_Type": ("ptr", "ptr"),
    "PyTuple_GetItem": ("ptr", "ptr", "i64"),
    "PyTuple_New": ("ptr", "i64"),
    "PyTuple_SetItem": ("i32", "ptr", "i64", "ptr"),
    "Py_DecRef": ("void", "ptr"),
    "Py_IncRef": ("void", "ptr"),
}
