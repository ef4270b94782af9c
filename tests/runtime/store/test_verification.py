import json

import numpy as np
import pytest

import attngraph as ag
from attngraph.runtime.store import checksums
from stores import DIM, HEADS, VALUE_DIM, create, files_of, rows, small_units

CHUNK, UNIT, LENGTH = 8, 32, 100


@pytest.fixture
def store(tmp_path, monkeypatch):
    small_units(monkeypatch, UNIT)
    with create(tmp_path / "store", chunk=CHUNK) as made:
        made.append(*rows(LENGTH))
        yield made


def flip(file, position, bit=0):
    contents = bytearray(file.read_bytes())
    contents[position] ^= 1 << bit
    file.write_bytes(contents)


def test_all_is_well(store):
    report = store.verify()
    assert report.ok
    assert report
    assert (report.length, report.chunks, report.problems) == (LENGTH, 2 * HEADS * 13, ())
    assert str(report) == f"{store.path}: 100 rows, 52 chunks: all is well"


@pytest.mark.parametrize("key", ["keys", "values"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", [0, 7, 50, 96, 99])
def test_a_flipped_bit_is_found_where_it_is(tmp_path, monkeypatch, key, dtype, row):
    small_units(monkeypatch, UNIT)
    with create(tmp_path / "store", chunk=CHUNK, dtype=dtype) as store:
        store.append(*rows(LENGTH))
        units = store.info().file_rows
        width = (DIM if key == "keys" else VALUE_DIM) * (4 if dtype == "float32" else 2)
        (file,) = [file for file in files_of(store, key) if file.name == f"c.1.{row // units}.0"]
        flip(file, row % units * width + width - 1, bit=row % 8)
        (problem,) = store.verify().problems
        first = row // CHUNK * CHUNK
        assert (problem.array, problem.head, problem.chunk) == (key, 1, row // CHUNK)
        assert (problem.rows, problem.file) == ((first, min(LENGTH, first + CHUNK)), str(file))
        assert f"{key}, head 1, chunk {row // CHUNK}, rows {first}:" in str(problem)


def test_each_bit_of_a_compressed_chunk_counts(tmp_path):
    with create(tmp_path / "store", heads=1, chunk=16, compressor="zstd") as store:
        store.append(*rows(10, heads=1))
        (file,) = files_of(store, "keys")
        good = file.read_bytes()
        for position in range(0, len(good), 7):
            flip(file, position, position % 8)
            (problem,) = store.verify().problems
            assert (problem.array, problem.head, problem.chunk, problem.rows) == ("keys", 0, 0, (0, 10))
            assert "contents are damaged" in problem.reason
            file.write_bytes(good)


def test_files_that_are_gone_or_short_are_named_once(store):
    gone, short, long = files_of(store, "values")[:3]
    gone.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    long.write_bytes(long.read_bytes() + b"!")
    report = store.verify()
    assert not report
    assert [(problem.file, problem.rows) for problem in report.problems] == [
        (str(gone), (0, UNIT)),
        (str(short), (UNIT, 2 * UNIT)),
        (str(long), (2 * UNIT, 3 * UNIT)),
    ]
    assert "is missing" in report.problems[0].reason
    assert all("and should have" in problem.reason for problem in report.problems[1:])
    assert "3 problems" in str(report)


def test_damage_to_zarrs_index_is_found(store):
    file = files_of(store, "keys")[0]
    flip(file, UNIT * DIM * 4 + 3)
    flip(file, 5)
    index, chunk = store.verify().problems
    assert "zarr's index" in index.reason
    assert (chunk.chunk, chunk.rows) == (0, (0, 8))


@pytest.mark.parametrize("position", [0, -1])
def test_damage_to_checksums_is_theirs(tmp_path, monkeypatch, position):
    monkeypatch.setattr(checksums, "PAGE", 4)
    with create(tmp_path / "store", chunk=CHUNK) as store:
        store.append(*rows(LENGTH))
        file = tmp_path / "store" / "keys" / "checksums" / "1"
        flip(file, position)
        (problem,) = store.verify().problems
        assert (problem.array, problem.head, problem.chunk, problem.rows) == ("keys", None, 4, (32, 64))
        assert problem.file == str(file)
        assert np.array_equal(store.keys.compute(), rows(LENGTH)[0])  # which needs none
        file.unlink()
        assert "No such file" in store.verify().problems[0].reason


def test_pages_of_checksums_fill_up(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "PAGE", 3)
    keys, values = rows(LENGTH)
    with create(tmp_path / "store", chunk=4) as store:
        for start in range(0, LENGTH, 7):
            store.append(keys[:, start : start + 7], values[:, start : start + 7])
            assert store.verify()
        for length in (77, 48, 47, 12):
            store.truncate(length)
            store.append(keys[:, length : length + 3], values[:, length : length + 3])
            assert store.verify()


def test_metadata_that_zarr_reads_is_compared(store, tmp_path):
    file = tmp_path / "store" / "keys" / "zarr.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "shape": [HEADS, 50, DIM]}))
    (problem,) = store.verify().problems
    assert (problem.array, problem.file, problem.chunk) == ("keys", str(file), None)
    file.write_text("{")
    assert "cannot be read" in store.verify().problems[0].reason
    file.unlink()
    assert "cannot be read" in store.verify().problems[0].reason


def test_any_bit_of_the_record_counts(store, tmp_path):
    """Its own part is checked when it is opened; what zarr reads is compared."""
    file = tmp_path / "store" / "zarr.json"
    good = file.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.choice(len(good), 150, replace=False):
        flip(file, position, int(rng.integers(8)))
        try:
            found = ag.KVStore.open(tmp_path / "store").verify().ok
        except ag.StoreError as error:
            found, message = False, str(error)
        else:
            message = str(file)
        assert str(file) in message
        assert not found or json.loads(file.read_bytes()) == json.loads(good)
        file.write_bytes(good)
