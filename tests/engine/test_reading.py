import numpy as np
import pytest
from cut import Stored

from attngraph.engine.errors import StoreError
from attngraph.engine.leaves import Data
from attngraph.engine.reading import Reading
from attngraph.engine.streamed import Streamed

WHOLE = np.arange(2 * 100 * 3, dtype=np.float32).reshape(2, 100, 3)


class Pieces(Stored):
    def pieces(self, box):
        return [(slice(head, head + 1), *box[1:]) for head in range(box[0].start, box[0].stop)]

    def read_into(self, box, out):
        if box[1].stop > 90:
            raise StoreError("read: gone")
        out[...] = self.array[box]


def boxes(node):
    return lambda columns: {node: (slice(0, 2), slice(*columns), slice(0, 3))}


@pytest.mark.parametrize("kind", [Stored, Pieces])
def test_what_is_taken_is_good_until_the_next_but_one(kind):
    node = Data(kind(WHOLE), WHOLE.shape, WHOLE.dtype, False)
    with Reading([Streamed(node, node, (), node.source, 1)], boxes(node), 2) as reading:
        reading.begin((0, 30))
        first = reading.taken()[node]
        reading.begin((30, 60))
        assert np.array_equal(first, WHOLE[:, :30])
        second = reading.taken()[node]
        assert np.array_equal(first, WHOLE[:, :30])
        reading.begin((60, 70))
        assert np.array_equal(second, WHOLE[:, 30:60])
        assert np.array_equal(reading.taken()[node], WHOLE[:, 60:70])


def test_what_cannot_be_read_is_said_when_it_is_taken():
    node = Data(Pieces(WHOLE), WHOLE.shape, WHOLE.dtype, False)
    with Reading([Streamed(node, node, (), node.source, 1)], boxes(node), 2) as reading:
        reading.begin((0, 100))
        with pytest.raises(StoreError, match="gone"):
            reading.taken()
