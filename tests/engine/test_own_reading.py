import numpy as np
from cut import Stored

from attngraph.engine.leaves import Data
from attngraph.engine.own_reading import OwnReading
from attngraph.engine.streamed import Streamed

WHOLE = np.arange(2 * 100 * 3, dtype=np.float32).reshape(2, 100, 3)


class Pieces(Stored):
    def pieces(self, box):
        return [(slice(head, head + 1), *box[1:]) for head in range(box[0].start, box[0].stop)]

    def read_into(self, box, out):
        self.reads.append((box[1].start, box[1].stop))
        out[...] = self.array[box]


def box(first, stop):
    return slice(0, 2), slice(first, stop), slice(0, 3)


def test_what_is_kept_stands_before_what_is_read():
    node = Data(Pieces(WHOLE), WHOLE.shape, WHOLE.dtype, False)
    reading = OwnReading([Streamed(node, node, (), node.source, 1)])
    reading.begin({node: box(0, 40)})
    first = reading.pieces({node: box(0, 30)}, 0)[node]
    assert np.array_equal(first.values, WHOLE[:, :30])
    reading.keep(25, 30)
    second = reading.pieces({node: box(25, 60)}, 5)[node]
    assert np.array_equal(second.values, WHOLE[:, 25:60])
    assert second.first == (0, 25, 0)
    assert np.shares_memory(first.values, second.values)
    assert node.source.reads == [(0, 30)] * 2 + [(30, 60)] * 2


def test_what_is_not_finite_is_found_in_what_is_looked_at():
    array = WHOLE.copy()
    array[1, 50, 2] = np.inf
    node = Data(Pieces(array), array.shape, array.dtype, False)
    for looked_at in ({node}, set()):
        reading = OwnReading([Streamed(node, node, (), node.source, 1)], looked_at)
        reading.begin({node: box(0, 40)})
        reading.pieces({node: box(0, 40)}, 0)
        assert not reading.accused
        reading.pieces({node: box(40, 80)}, 0)
        assert reading.accused == looked_at
