import os
import pickle

import numpy as np
import pytest

import attngraph as ag
from attngraph.runtime.store.stored_array import StoredArray
from stores import DIM, HEADS, VALUE_DIM, create, files_of, rows, small_units

CHUNK, UNIT, LENGTH = 8, 32, 100
KEYS, VALUES = rows(LENGTH)


@pytest.fixture(params=[None, "zstd"])
def store(request, tmp_path, monkeypatch):
    small_units(monkeypatch, UNIT)
    with create(tmp_path / "store", chunk=25 if request.param else CHUNK, compressor=request.param) as made:
        made.append(KEYS, VALUES)
        yield made


@pytest.fixture
def raw(tmp_path, monkeypatch):
    small_units(monkeypatch, UNIT)
    with create(tmp_path / "store", chunk=CHUNK) as made:
        made.append(KEYS, VALUES)
        yield made


def test_it_says_what_it_is(raw):
    array = raw.stored_array("values")
    assert (array.shape, array.dtype, array.ndim) == ((HEADS, LENGTH, VALUE_DIM), np.float32, 3)
    assert (array.key, array.path, array.chunk, array.mapped) == ("values", raw.path, CHUNK, True)
    assert len(array) == HEADS
    assert repr(array) == f"<StoredArray values of {raw.path}: float32[2, 100, 3]>"
    with pytest.raises(ag.ArgumentError, match="keys and values, not 'queries'"):
        raw.stored_array("queries")


def test_blocks_are_read_as_one(store):
    array = store.stored_array("keys")
    blocks = array.blocks()
    assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
    assert blocks[-1][1] == LENGTH
    for start, stop in blocks:
        assert np.array_equal(array.read(1, start, stop), KEYS[1, start:stop])


def test_rows_of_one_mapped_file_are_a_view(raw):
    array = raw.stored_array("keys")
    first, again, across = array.read(0, 40, 60), array.read(0, 40, 60), array.read(0, 30, 40)
    assert np.shares_memory(first, again)
    assert not first.flags.writeable
    assert not across.flags.owndata or not across.flags.writeable
    assert np.array_equal(across, KEYS[0, 30:40])


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (31, 33), (5, 95), (0, LENGTH), (LENGTH, LENGTH)])
def test_any_rows_can_be_read(store, start, stop):
    assert np.array_equal(store.stored_array("values").read(1, start, stop), VALUES[1, start:stop])


@pytest.mark.parametrize(("head", "start", "stop"), [(2, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 5, 3), (0, 0, LENGTH + 1)])
def test_rows_that_are_not_there(raw, head, start, stop):
    with pytest.raises(ag.IndexOutOfRangeError, match="read: "):
        raw.stored_array("keys").read(head, start, stop)


@pytest.mark.parametrize("indices", [[], [3], [31, 32], [99, 0, 50, -1, -100, 50, 31, 32], range(100)])
def test_gather_is_indexing(store, indices):
    array, indices = store.stored_array("values"), np.array(list(indices), int)
    assert np.array_equal(array.gather(1, indices), VALUES[1][indices])
    assert np.array_equal(array.gather(None, indices), VALUES[:, indices])
    assert array.gather(None, indices).flags.writeable


def test_gather_refuses_what_is_no_index(raw):
    array = raw.stored_array("keys")
    for wrong in ([100], [-101]):
        with pytest.raises(ag.IndexOutOfRangeError, match=r"gather: index -?10\d into 100 rows"):
            array.gather(0, wrong)
    for wrong in ([0.5], [[1]], 3, [True]):
        with pytest.raises(ag.DTypeError, match="gather: indices are integers in one dimension"):
            array.gather(0, wrong)
    with pytest.raises(ag.IndexOutOfRangeError, match="head 2 of 2"):
        array.gather(2, [0])


def test_all_of_it(store):
    array = store.stored_array("keys")
    assert np.array_equal(array.read_all(), KEYS)
    assert np.array_equal(np.asarray(array), KEYS)
    assert np.asarray(array, dtype="float64").dtype == np.float64
    assert np.array(array).flags.writeable


def test_one_heads_only_file_is_not_copied(tmp_path):
    keys, values = rows(50, heads=1)
    with create(tmp_path / "store", heads=1) as store:
        store.append(keys, values)
        array = store.stored_array("keys")
        assert np.shares_memory(array.read_all(), array.read(0, 0, 50))
        computed = store.keys.compute()
        assert computed.flags.writeable
        assert not np.shares_memory(computed, array.read_all())


def test_nothing_is_read_until_it_is_evaluated(raw):
    files_of(raw, "keys")[0].unlink()
    lazy = ag.asarray(raw.stored_array("keys")) * 2
    with pytest.raises(ag.StoreError, match="read: keys, head 0"):
        lazy.compute()


def test_it_pickles_as_a_descriptor(store):
    array = store.stored_array("keys")
    store.append(KEYS, VALUES)
    pickled = pickle.dumps(array)
    assert len(pickled) < 1000
    again = pickle.loads(pickled)
    assert isinstance(again, StoredArray)
    assert again.descriptor() == array.descriptor()
    assert np.array_equal(again.read_all(), KEYS)


def test_rows_that_were_truncated_stay_gone(store):
    array = store.stored_array("keys")
    view = array.descriptor()
    store.truncate(70)
    store.append(-KEYS, -VALUES)
    store.truncate(90)
    assert np.array_equal(array.read(0, 10, 70), KEYS[0, 10:70])
    assert np.array_equal(array.gather(0, [0, 69]), KEYS[0, [0, 69]])
    assert np.array_equal(store.stored_array("keys").read(0, 70, 90), -KEYS[0, :20])
    again = StoredArray.open(view)
    assert np.array_equal(again.read(0, 0, 70), KEYS[0, :70])
    for use in (lambda: array.read(0, 60, 71), array.read_all, lambda: array.gather(None, [70]), again.read_all):
        with pytest.raises(ag.StoreError, match=r"bound with 100 rows.*truncated to 70.*is gone"):
            use()


def lazily(array):
    return ag.asarray(array).compute()


USES = {
    "read": lambda array: array.read(1, 40, 50),
    "gather": lambda array: array.gather(1, [45]),
    "read_all": lambda array: array.read_all(),
    "compute": lazily,
}


@pytest.mark.parametrize("use", USES)
def test_a_file_that_was_deleted_is_named(store, use):
    array = store.stored_array("keys")
    USES[use](array)  # mapped by now
    unit = 40 // store.info().file_rows
    (file,) = [file for file in files_of(store, "keys") if file.name == f"c.1.{unit}.0"]
    file.unlink()
    with pytest.raises(ag.StoreError, match=rf"keys, head 1, chunks? \d+.*\(rows \d+:\d+\): {file}: No such file"):
        USES[use](array)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("left", [10, -1])
def test_a_file_that_was_truncated_is_named(store, use, left):
    array = store.stored_array("keys")
    USES[use](array)
    unit = 40 // store.info().file_rows
    (file,) = [file for file in files_of(store, "keys") if file.name == f"c.1.{unit}.0"]
    os.truncate(file, left if left >= 0 else file.stat().st_size + left)
    with pytest.raises(ag.StoreError, match=rf"keys, head 1, chunks? \d+.*\(rows \d+:\d+\): {file}: "):
        USES[use](array)
    assert np.array_equal(array.read(0, 0, LENGTH), KEYS[0])


def test_a_file_that_grew_is_not_trusted(raw):
    array = raw.stored_array("keys")
    file = files_of(raw, "keys")[0]
    os.truncate(file, file.stat().st_size + 1)
    with pytest.raises(ag.StoreError, match="its size is"):
        array.read(0, 0, 3)


def test_a_file_that_was_replaced_is_mapped_anew(raw):
    array = raw.stored_array("keys")
    array.read(0, 0, 3)
    file = files_of(raw, "keys")[0]
    contents = file.read_bytes()
    file.unlink()
    file.write_bytes(bytes(4 * DIM) + contents[4 * DIM :])
    assert np.array_equal(array.read(0, 0, 3)[1:], KEYS[0, 1:3])
    assert not array.read(0, 0, 1).any()


def test_one_flipped_bit_of_a_compressed_chunk_is_an_error(tmp_path):
    with create(tmp_path / "store", chunk=CHUNK, compressor="blosc-lz4") as store:
        store.append(KEYS, VALUES)
        file = files_of(store, "values")[0]
        contents = bytearray(file.read_bytes())
        contents[len(contents) // 2] ^= 4
        file.write_bytes(contents)
        with pytest.raises(ag.StoreError, match=rf"values, head 0, .*{file}: its contents are damaged"):
            store.values.compute()
