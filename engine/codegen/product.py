"""A product of two matrices as a kernel: tasks of rows of the left, and of the right a packed copy in each thread.

The right matrix is small, so every thread packs it once, whatever its strides are: columns in groups of some vectors,
one step of the sum behind the other. Sums lie in registers, of some rows by some vectors of columns. Each result is a
sum of products one after the other, so its bits depend on its own row and column alone; long sums are cut in pieces,
which are added up.
"""

from .llvm import Function, Module, Value
from .loop_layout import read_slots
from .target import Target
from .values import bytes_of, vector_of

ENTRY = "product"
HEAD = ("tasks", "trouble", "rows", "depth", "columns", "task_rows")
STEPS = (("left", "row"), ("left", "depth"), ("right", "depth"), ("right", "column"))
POINTERS = (("left", "pointer"), ("right", "pointer"), ("out", "pointer"))
# Slots of the descriptor: numbers, bytes from element to element, addresses.
PLACES: dict[object, int] = {name: number for number, name in enumerate((*HEAD, *STEPS, *POINTERS))}

# Terms that are added one after the other.
_LONGEST_SUM = 128
# Rows and vectors of columns whose sums lie in registers, at most.
_MOST_ROWS, _MOST_VECTORS = 8, 4
# Registers for an element of the left, and for what is on its way.
_SPARE = 2
# How much longer sums take by vectors of which there are fewer: each element of the left is spread for fewer of them.
_COST_OF_FEWER = 0.1


def vectors_for(target: Target, lanes: int, columns: int) -> int:
    """Vectors in a group of columns: those that pad little, and need few loads of the left."""
    most = _MOST_VECTORS if target.registers >= 32 else _MOST_VECTORS // 2
    return min(
        range(most, 0, -1), key=lambda count: padded(columns, count * lanes) * (1 + _COST_OF_FEWER * (most - count))
    )


def rows_together(target: Target, vectors: int) -> int:
    """Rows whose sums, by a group of columns, lie in registers."""
    return max(1, min(_MOST_ROWS, (target.registers - vectors - _SPARE) // vectors))


def padded(count: int, width: int) -> int:
    """As many in whole groups of this width."""
    return -(-count // width) * width


class ProductWriter:
    """Writes the kernel.

    Args:
        target: The processor.
        element: LLVM's type of the elements.
        vectors: Vectors in a group of columns.
    """

    def __init__(self, target: Target, element: str, vectors: int) -> None:
        self.target, self.element, self.vectors = target, element, vectors
        self.size = bytes_of(element)
        self.lanes = max(target.vector_bytes // self.size, 1)
        self.type = vector_of(element, self.lanes)
        self.rows = rows_together(target, vectors)

    def write(self) -> str:
        """The module's text."""
        module = Module(self.target)
        arguments = {"descriptor": "ptr noalias", "counter": "ptr", "scratch": "ptr noalias"}
        self.f = f = Function(module, ENTRY, arguments)
        self.slots = slots = read_slots(f, PLACES)
        self.group_bytes = f.mul(slots["depth"], self.vectors * self.lanes * self.size)
        with f.flags("contract"):
            self._pack()
            nothing = f.constant(0.0, self.type)

            def next_task(carried: list[Value]) -> tuple[Value, list[Value]]:
                task = f.atomic_add(f["counter"], 1)
                return f.compare("<", task, slots["tasks"]), [task, *carried]

            seen = f.repeat([nothing], next_task, lambda values: [self._task(*values)])[1]
        place = f.offset(f["descriptor"], 8 * PLACES["trouble"])
        f.when(f.any_lane(f.is_nan(seen)), lambda: f.store(f.constant(1, "i64"), place))
        f.ret()
        return module.text()

    def _pack(self) -> None:
        """The right matrix, group by group; columns that are not there are the last one again."""
        f, slots = self.f, self.slots
        width = self.vectors * self.lanes
        last = f.sub(slots["columns"], 1)

        def group(first: Value, _: list[Value]) -> None:
            room = f.offset(f["scratch"], f.mul(f.mul(first, slots["depth"]), self.size))

            def step(depth: Value, _: list[Value]) -> None:
                source = f.offset(slots["right", "pointer"], f.mul(depth, slots["right", "depth"]))
                into = f.offset(room, f.mul(depth, width * self.size))

                def column(number: Value, _: list[Value]) -> None:
                    place = f.mul(f.min(f.add(first, number), last), slots["right", "column"])
                    f.store(f.load(f.offset(source, place), self.element), f.offset(into, f.mul(number, self.size)))

                f.loop(f.constant(0, "i64"), f.constant(width, "i64"), 1, [], column)

            f.loop(f.constant(0, "i64"), slots["depth"], 1, [], step)

        f.loop(f.constant(0, "i64"), slots["columns"], width, [], group)

    def _task(self, task: Value, seen: Value) -> Value:
        f, slots = self.f, self.slots
        first = f.mul(task, slots["task_rows"])
        stop = f.min(f.add(first, slots["task_rows"]), slots["rows"])
        whole = f.sub(stop, self.rows - 1)

        def group(column: Value, carried: list[Value]) -> list[Value]:
            panel = f.offset(f["scratch"], f.mul(f.mul(column, slots["depth"]), self.size))
            # Rows together as long as there are enough, then one by one.
            at, *carried = f.repeat(
                [first, *carried],
                lambda values: (f.compare("<", values[0], whole), values),
                lambda values: [
                    f.add(values[0], self.rows),
                    self._rows(values[0], column, panel, self.rows, values[1]),
                ],
            )
            return f.loop(at, stop, 1, carried, lambda row, state: [self._rows(row, column, panel, 1, state[0])])

        return f.loop(f.constant(0, "i64"), slots["columns"], self.vectors * self.lanes, [seen], group)[0]

    def _rows(self, row: Value, column: Value, panel: Value, count: int, seen: Value) -> Value:
        """Some rows by a group of columns."""
        f, slots = self.f, self.slots
        starts = [
            f.offset(slots["left", "pointer"], f.mul(f.add(row, each), slots["left", "row"])) for each in range(count)
        ]
        zeros = [f.constant(0.0, self.type)] * (count * self.vectors)

        def step(depth: Value, sums: list[Value]) -> list[Value]:
            at = f.offset(panel, f.mul(depth, self.vectors * self.lanes * self.size))
            right = [f.load(f.offset(at, each * self.lanes * self.size), self.type) for each in range(self.vectors)]
            place = f.mul(depth, slots["left", "depth"])
            left = [f.load_splat(f.offset(start, place), self.element, self.lanes) for start in starts]
            return [
                f.fma(left[number // self.vectors], right[number % self.vectors], total)
                for number, total in enumerate(sums)
            ]

        def piece(start: Value, totals: list[Value]) -> list[Value]:
            end = f.min(f.add(start, _LONGEST_SUM), slots["depth"])
            sums = f.loop(start, end, 1, zeros, step)
            return [f.add(total, each) for total, each in zip(totals, sums, strict=True)]

        totals = f.loop(f.constant(0, "i64"), slots["depth"], _LONGEST_SUM, zeros, piece)
        for number, total in enumerate(totals):
            self._store(total, f.add(row, number // self.vectors), f.add(column, number % self.vectors * self.lanes))
            seen = f.add(seen, f.mul(total, 0.0))
        return seen

    def _store(self, value: Value, row: Value, column: Value) -> None:
        """What lies inside the result."""
        f, columns = self.f, self.slots["columns"]
        place = f.offset(self.slots["out", "pointer"], f.mul(f.add(f.mul(row, columns), column), self.size))
        left = f.sub(columns, column)

        def some() -> None:
            f.store_masked(value, place, f.first_lanes(f.max(left, 0), self.lanes))

        f.if_else(f.compare(">=", left, self.lanes), lambda: f.store(value, place), some)
