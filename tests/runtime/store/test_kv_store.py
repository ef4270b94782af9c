import pickle
import subprocess
import sys
import threading
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import xarray as xr
import zarr

import attngraph as ag
from stores import DIM, HEADS, VALUE_DIM, check, create, rows, small_units

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
CHUNK, UNIT = 8, 32


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("compressor", "length"),
    [*((None, length) for length in (0, 1, 7, 8, 9, 31, 32, 33, 97)), ("zstd", 0), ("zstd", 33)],
)
def test_what_is_appended_comes_back(path, monkeypatch, dtype, compressor, length):
    small_units(monkeypatch, UNIT)
    keys, values = (each.astype(DTYPES[dtype]) for each in rows(length))
    with create(path, dtype=dtype, chunk=CHUNK, compressor=compressor) as store:
        assert store.append(keys, values) == length
        check(store, keys, values)
        assert store.keys.dtype == store.values.dtype == DTYPES[dtype]
        assert store.keys.shape == (HEADS, length, DIM)
        assert np.array_equal(store.values.compute(), values)
    with ag.KVStore.open(path) as again:
        check(again, keys, values)


@pytest.mark.parametrize("compressor", [None, "gzip"])
def test_appends_may_end_anywhere(path, monkeypatch, compressor):
    small_units(monkeypatch, UNIT)
    keys, values = rows(150)
    with create(path, chunk=CHUNK, compressor=compressor) as store:
        start = 0
        for count in (1, 6, 1, 24, 40, 0, 70):
            store.append(keys[:, start : start + count], values[:, start : start + count])
            start += count
            check(store, keys[:, :start], values[:, :start])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("compressor", "length"), [(None, 0), (None, 33), ("blosc-lz4", 33)])
def test_zarr_and_xarray_read_it(path, monkeypatch, dtype, compressor, length):
    small_units(monkeypatch, UNIT)
    keys, values = (each.astype(DTYPES[dtype]) for each in rows(length))
    with create(path, dtype=dtype, chunk=CHUNK, compressor=compressor, attrs={"model": "small"}) as store:
        store.append(keys, values)
    for group in (zarr.open_group(path, mode="r"), zarr.open_group(path, mode="r", use_consolidated=False)):
        assert np.asarray(group["keys"][...]).tobytes() == keys.tobytes()
        assert np.asarray(group["values"][...]).tobytes() == values.tobytes()
        assert group["values"].shape == values.shape
        assert group.attrs["model"] == "small"
    with xr.open_zarr(path) as data:
        assert dict(data.sizes) == {"head": HEADS, "position": length, "dim": DIM, "value_dim": VALUE_DIM}
        assert data["values"].values.tobytes() == values.tobytes()
        assert data["keys"].attrs == ({"element_type": "bfloat16"} if dtype == "bfloat16" else {})


def test_zarr_sees_what_is_committed_after_each_append(path):
    keys, values = rows(20)
    with create(path) as store:
        for start in range(0, 20, 5):
            store.append(keys[:, start : start + 5], values[:, start : start + 5])
            assert zarr.open_group(path, mode="r")["values"].shape[1] == start + 5
            assert zarr.open_array(path / "keys", mode="r").shape[1] == start + 5
        store.truncate(3)
        assert np.array_equal(zarr.open_group(path, mode="r")["keys"][...], keys[:, :3])


def test_lazy_arrays_keep_the_length_they_had(path):
    keys, values = rows(20)
    with create(path) as store:
        store.append(keys[:, :12], values[:, :12])
        early = store.keys
        store.append(keys[:, 12:], values[:, 12:])
        assert np.array_equal(early.compute(), keys[:, :12])
        assert np.array_equal(store.keys.compute(), keys)
    assert np.array_equal(early.compute(), keys[:, :12])  # closed, which lets go of maps alone


def test_attention_over_a_store(path):
    keys, values = rows(50)
    query = np.random.default_rng(1).standard_normal((HEADS, 3, DIM), dtype="float32")
    with create(path, chunk=CHUNK) as store:
        store.append(keys, values)
        lazy = ag.scaled_dot_product_attention(query, store.keys, store.values).compute()
    assert np.array_equal(lazy, ag.scaled_dot_product_attention(query, keys, values).compute())


def test_any_float_is_converted_and_nothing_else_is(path):
    keys, values = rows(4)
    with create(path, dtype="float16") as store:
        store.append(keys.astype("float64"), values)
        check(store, keys, values)
        with pytest.raises(ag.DTypeError, match="append: keys of int64, and the store's are float16"):
            store.append(np.zeros((HEADS, 1, DIM), int), values[:, :1])
        with pytest.raises(ag.DTypeError, match="append: values: dtype complex"):
            store.append(keys, values.astype(complex))
        with pytest.raises(ag.DTypeError, match="keys"):
            store.append("text", values)
        with pytest.raises(ag.LimitError, match=r"append: keys hold 1000000\.0, which float16 cannot"):
            store.append(np.full((HEADS, 1, DIM), 1e6), values[:, :1])
        store.append(np.full((HEADS, 1, DIM), np.inf), values[:, :1])
        assert len(store) == 5


def test_lazy_arrays_are_appended_as_what_they_are(path):
    keys, values = rows(4)
    with create(path) as store:
        store.append(ag.asarray(keys) * 2, ag.asarray(values))
        store.append(store.keys, store.values)
        check(store, np.concatenate([keys * 2] * 2, 1), np.concatenate([values] * 2, 1))


def test_shapes_must_be_the_stores(path):
    keys, values = rows(4)
    with create(path) as store:
        with pytest.raises(ag.ShapeError, match=r"append: keys of shape \(2, 4, 3\).*\(2, any length, 4\)"):
            store.append(values, values)
        with pytest.raises(ag.ShapeError, match=r"append: values of shape \(4, 3\)"):
            store.append(keys, values[0])
        with pytest.raises(ag.ShapeError, match="append: 4 keys and 3 values"):
            store.append(keys, values[:, :3])
        assert len(store) == 0


def test_errors_name_the_users_line(path):
    with create(path) as store, pytest.raises(ag.ShapeError, match=r"test_kv_store\.py:\d+"):
        store.append(np.zeros(3), np.zeros(3))


def test_capacity_is_a_limit(path):
    keys, values = rows(11)
    with create(path, capacity=10) as store:
        store.append(keys[:, :8], values[:, :8])
        with pytest.raises(ag.LimitError, match="append: 3 rows to 8 of at most 10"):
            store.append(keys[:, 8:], values[:, 8:])
        store.append(keys[:, 8:10], values[:, 8:10])
        check(store, keys[:, :10], values[:, :10])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"heads": 0}, ag.ArgumentError, "heads is at least 1, not 0"),
        ({"heads": 10**12}, ag.LimitError, "at most 1048576 heads, not 1000000000000"),
        ({"dim": 10**30}, ag.LimitError, "a file of 1 rows of 1000000000000000000000000000000 .keys."),
        ({"dim": 2.5}, ag.ArgumentError, "dim is an integer, not 2.5"),
        ({"value_dim": True}, ag.ArgumentError, "value_dim is an integer, not True"),
        ({"capacity": 0}, ag.ArgumentError, "capacity is at least 1"),
        ({"chunk": -1}, ag.ArgumentError, "chunk is at least 1"),
        ({"dtype": "int16"}, ag.DTypeError, "one of float32, float16, bfloat16, int8, int4, not int16"),
        ({"dtype": "float64"}, ag.DTypeError, "not float64"),
        ({"compressor": "rar"}, ag.ArgumentError, "no compressor 'rar'"),
        ({"compressor": 5}, ag.ArgumentError, "not builtins.int"),
        ({"attrs": {"x": object()}}, ag.ArgumentError, "attrs are written as JSON"),
        ({"attrs": {"attngraph": 1}}, ag.ArgumentError, "without 'attngraph'"),
        ({"storage_options": {"anon": True}}, ag.ArgumentError, "storage_options are for URLs"),
    ],
)
def test_bad_arguments_make_nothing(path, wrong, error, message):
    with pytest.raises(error, match=message):
        create(path, **wrong)
    assert not path.exists()


def test_nothing_is_written_over(path):
    create(path).close()
    with pytest.raises(ag.StoreError, match="create: there is something at"):
        create(path)
    path.with_name("file").write_text("mine")
    with pytest.raises(ag.StoreError, match="create: there is something at"):
        create(path.with_name("file"))
    (path.parent / "empty").mkdir()
    create(path.parent / "empty").close()
    assert sorted(each.name for each in path.parent.iterdir()) == ["empty", "file", "store"]


def test_what_is_no_store_is_not_opened(path):
    with pytest.raises(ag.StoreError, match="open: there is no store at"):
        ag.KVStore.open(path)
    zarr.create_group(path)
    with pytest.raises(ag.StoreError, match=r"zarr\.json is not, or no longer, the record"):
        ag.KVStore.open(path)
    with pytest.raises(ag.ArgumentError, match="mode is 'r' or 'r\\+', not 'w'"):
        ag.KVStore.open(path, mode="w")
    with pytest.raises(ag.ArgumentError, match="a path or a URL, not int"):
        ag.KVStore.open(5)


def test_one_writes_and_all_read(path):
    keys, values = rows(6)
    with create(path) as store:
        store.append(keys, values)
        with pytest.raises(ag.StoreError, match="is open for writing already"):
            ag.KVStore.open(path, mode="r+")
        with ag.KVStore.open(path) as reader:
            check(reader, keys, values)
            with pytest.raises(ag.StoreError, match=r"append: .* opened to be read; open it with mode='r\+'"):
                reader.append(keys, values)
            with pytest.raises(ag.StoreError, match=r"truncate: .* opened to be read"):
                reader.truncate(0)
            store.truncate(2)
            assert len(reader) == 2
    with ag.KVStore.open(path, mode="r+") as store:
        store.append(keys, values)
        assert len(store) == 8


def test_another_process_may_not_write_until_the_writer_is_dead(path):
    create(path).close()
    code = (
        "import sys, attngraph as ag; s = ag.KVStore.open(sys.argv[1], mode='r+'); print('open', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(ag.StoreError, match="here or in another process"):
            ag.KVStore.open(path, mode="r+")
        other.kill()
        other.wait()
        ag.KVStore.open(path, mode="r+").close()


def test_a_closed_store_says_so(path):
    store = create(path)
    store.close()
    store.close()
    for use in (lambda: len(store), lambda: store.keys, lambda: store.append(*rows(1)), store.info):
        with pytest.raises(ag.StoreError, match="was closed"):
            use()
    assert "(closed)" in repr(store)


def test_a_store_that_was_replaced_by_another_is_not_taken_for_it(path, tmp_path):
    keys, values = rows(6)
    with create(path) as store:
        store.append(keys, values)
        lazy, reader = store.keys, ag.KVStore.open(path)
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(ag.StoreError, match="there is no store at"):
            store.append(keys, values)
        with create(path) as other:
            other.append(keys + 1, values)
            for use in (lambda: store.append(keys, values), lambda: len(reader), lazy.compute):
                with pytest.raises(ag.StoreError, match="holds another store"):
                    use()


def test_truncate_keeps_the_first_rows(path, monkeypatch):
    small_units(monkeypatch, UNIT)
    keys, values = rows(100)
    with create(path, chunk=CHUNK) as store:
        store.append(keys, values)
        for length in (97, 96, 65, 64, 33, 3):
            store.truncate(length)
            check(store, keys[:, :length], values[:, :length])
        assert len(list(path.glob("keys/c.*"))) == HEADS
        store.append(keys[:, 3:], values[:, 3:])
        check(store, keys, values)
        store.truncate(100)
        for wrong in (101, -1):
            with pytest.raises(ag.ArgumentError, match=f"truncate: to {wrong} rows, and there are 100"):
                store.truncate(wrong)
        with pytest.raises(ag.ArgumentError, match="length is an integer"):
            store.truncate("all")
        store.truncate(0)
        check(store, keys[:, :0], values[:, :0])


def test_extend_appends_each_block_and_shows_how_far_it_is(path, capfd):
    keys, values = rows(30)
    blocks = [(keys[:, start : start + 10], values[:, start : start + 10]) for start in (0, 10, 20)]
    with create(path) as store:
        assert store.extend(iter(blocks), total=30, progress=True) == 30
        check(store, keys, values)
        assert "30/30" in capfd.readouterr().err
        assert store.extend(blocks) == 60
        assert capfd.readouterr().err == ""  # no terminal
        with pytest.raises(ag.ArgumentError, match="a block is a pair"):
            store.extend([*blocks, keys], progress=False)
        assert len(store) == 90
        with pytest.raises(ag.ArgumentError, match="blocks are pairs"):
            store.extend(5)


def test_info_says_what_it_is(path):
    with create(path, capacity=100, compressor="zstd", dtype="bfloat16", chunk=10) as store:
        store.append(*rows(33))
        info = store.info()
        assert (info.length, info.heads, info.capacity, info.chunk, info.codec) == (33, HEADS, 100, 10, "zstd")
        assert (info.dim, info.value_dim, info.dtype, info.mapped) == (DIM, VALUE_DIM, "bfloat16", False)
        assert info.path == str(path)
        assert info.bytes == 33 * HEADS * (DIM + VALUE_DIM) * 2
        assert info.bytes_on_disk > 0
        assert "capacity      100" in str(info)
    with create(path.with_name("raw")) as raw:
        assert raw.info().mapped
        assert (raw.info().codec, raw.info().capacity) == (None, None)


def test_attributes_are_the_users(path):
    given = {"model": "small", "layers": [1, 2]}
    with create(path, attrs=given) as store:
        assert store.attrs == given
        store.attrs["model"] = "another"
        zarr.open_group(path, mode="r+").attrs["note"] = "by zarr"
        store.append(*rows(3))
        assert ag.KVStore.open(path).attrs == {**given, "note": "by zarr"}
        assert store.verify()


def test_it_pickles_as_its_path(path, monkeypatch):
    keys, values = rows(3000)
    monkeypatch.chdir(path.parent)
    with create("store") as store:
        store.append(keys, values)
        lazy = store.keys
        pickled = pickle.dumps((store, lazy))
    assert len(pickled) < 2000
    monkeypatch.chdir("/")
    again, lazy = pickle.loads(pickled)
    assert again.mode == "r"
    check(again, keys, values)
    assert np.array_equal(lazy.compute(), keys)


def test_a_fork_may_read_and_not_write(path):
    code = """
import os, sys, attngraph as ag, numpy as np
rows = np.ones((1, 3, 2), "float32")
store = ag.KVStore.create(sys.argv[1], heads=1, dim=2)
store.append(rows, rows)
child = os.fork()
if not child:
    try:
        store.append(rows, rows)
    except ag.StoreError as error:
        assert "forked" in str(error)
        os._exit(0 if np.array_equal(store.keys.compute(), rows) else 2)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
store.append(rows, rows)
assert len(store) == 6
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)


def test_readers_see_whole_appends_while_they_are_made(path, monkeypatch):
    small_units(monkeypatch, UNIT)
    keys, values = rows(200)
    seen, failures, done = set(), [], threading.Event()

    def read():
        try:
            with ag.KVStore.open(path) as reader:
                while not done.is_set():
                    found_keys, found_values = reader.stored_array("keys"), reader.stored_array("values")
                    length = found_keys.shape[1]
                    seen.add(length)
                    assert np.array_equal(found_keys.read_all(), keys[:, :length])
                    assert found_values.shape[1] >= length
                    assert np.array_equal(found_values.gather(1, np.arange(length)), values[1, :length])
        except BaseException as error:
            failures.append(error)

    with create(path, chunk=CHUNK) as store:
        thread = threading.Thread(target=read)
        thread.start()
        for start in range(0, 200, 4):
            store.append(keys[:, start : start + 4], values[:, start : start + 4])
        done.set()
        thread.join()
    assert not failures
    assert all(length % 4 == 0 for length in seen)


def test_several_threads_may_append(path):
    keys, values = rows(1)
    with create(path) as store:
        threads = [threading.Thread(target=lambda: [store.append(keys, values) for _ in range(10)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        check(store, np.repeat(keys, 40, 1), np.repeat(values, 40, 1))


def test_the_import_loads_no_zarr():
    code = "import sys, attngraph as ag; ag.KVStore; assert not {'zarr', 'fsspec', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_raw_stores_need_no_zarr(path):
    code = """
import sys, attngraph as ag, numpy as np
rows = np.ones((1, 3, 2), "float32")
with ag.KVStore.create(sys.argv[1], heads=1, dim=2) as store:
    store.append(rows, rows)
    assert store.verify() and (store.keys.compute() == rows).all()
assert not {'zarr', 'fsspec', 'rich'} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_the_files_left_open_are_the_locks(path):
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc")
    before = len(list(folder.iterdir()))
    with create(path) as store:
        store.append(*rows(10))
        store.keys.compute()
        store.verify()
    assert len(list(folder.iterdir())) == before
