"""A batch maps a function chunk by chunk, and is the same however it came about."""

import re
from typing import NamedTuple

import batches
import ml_dtypes
import numpy as np
import pytest
import zarr

import attngraph as ag
from attngraph.runtime.batch.identity import token_of


@ag.compile
def double(x, *more):
    return x * 2


def test_results_are_those_of_the_function(tmp_path):
    summary = batches.run(tmp_path)
    batches.check(tmp_path, batches.by_chunks(tmp_path))
    assert (summary.chunks_done, summary.chunks_skipped) == (14, 0)
    assert summary.flops > 0
    assert 0 < summary.fraction_of_peak < 1.5
    assert summary.bytes_written == sum(each.nbytes for each in batches.found(tmp_path).values())
    assert len(summary.instruction_sets) == 1
    for word in ("batch of 14 chunks", "14 computed", "flop", "read", "written", "of peak", "instruction sets: "):
        assert word in str(summary)


def test_what_is_done_is_not_done_again(tmp_path):
    first = batches.run(tmp_path)
    again = batches.run(tmp_path)
    assert (again.chunks_done, again.chunks_skipped, again.flops) == (0, first.chunks_done, 0)
    assert again.fraction_of_peak is None
    assert again.instruction_sets == first.instruction_sets
    anew = batches.run(tmp_path, resume=False)
    assert (anew.chunks_done, anew.chunks_skipped) == (first.chunks_done, 0)


def test_results_are_zarr_arrays_that_nobody_wonders_about(tmp_path):
    batches.run(tmp_path)
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert dict(group.members()).keys() == {"out", "lse"}
    assert group["out"].chunks == (2, 3, 16)
    assert list(tmp_path.glob("out.zarr/**/*.partial")) == []


class Pair(NamedTuple):
    left: object
    right: object


@pytest.mark.parametrize(
    ("fn", "names"),
    [
        (lambda x: (x, x + 1), {"0", "1"}),
        (lambda x: [x], {"0"}),
        (lambda x: Pair(x, x + 1), {"left", "right"}),
        (lambda x: {"a": x}, {"a"}),
    ],
)
def test_results_are_called_by_their_structure(tmp_path, fn, names):
    ag.batch(ag.compile(fn), np.ones((4, 2), "float32"), tmp_path / "out", chunk=2)
    assert set(batches.found(tmp_path, "out")) == names


def inputs_of_all_kinds(folder):
    array = np.arange(70, dtype="float32").reshape(10, 7)
    stored = zarr.create_array(str(folder / "a.zarr"), shape=array.shape, chunks=(4, 7), dtype="float32")
    stored[:] = array
    np.save(folder / "a.npy", array)
    mapped = np.load(folder / "a.npy", mmap_mode="r")
    in_memory = zarr.create_array(zarr.storage.MemoryStore(), shape=array.shape, chunks=(4, 7), dtype="float32")
    in_memory[:] = array
    return array, {
        "array": array,
        "zarr": stored,
        "path": folder / "a.zarr",
        "file": str(folder / "a.npy"),
        "map": mapped,
        "lazy": ag.asarray(stored),
        "memory": in_memory,
        "list of one": [array],
    }


@pytest.mark.parametrize("scheduler", [None, "threads"])
def test_inputs_of_all_kinds(tmp_path, scheduler):
    array, kinds = inputs_of_all_kinds(tmp_path)
    for name, given in kinds.items():
        ag.batch(double, given, tmp_path / name, chunk=3, scheduler=scheduler)
        assert np.array_equal(zarr.open_array(str(tmp_path / name), mode="r")[:], array * 2), name


def test_a_view_of_a_map_is_read_where_it_lies(tmp_path):
    _, kinds = inputs_of_all_kinds(tmp_path)
    view = kinds["map"][1:9, ::2].T
    ag.batch(double, view, tmp_path / "out", chunk=3, over=-1)
    assert np.array_equal(zarr.open_array(str(tmp_path / "out"), mode="r")[:], view * 2)


def test_keys_of_a_store_are_mapped(tmp_path):
    _, keys, _ = batches.arrays(tmp_path)
    store = ag.KVStore.open(tmp_path / "memory")
    for name, given in {"lazy": store.keys, "stored": store.stored_array("keys")}.items():
        ag.batch(double, given, tmp_path / name, chunk=30, over=1)
        assert np.array_equal(zarr.open_array(str(tmp_path / name), mode="r")[:], keys * 2)


def test_several_inputs_by_position_and_by_name(tmp_path):
    x, y = np.ones((5, 2), "float32"), np.arange(15, dtype="float32").reshape(5, 3)

    def fn(x, y, scale=1.0):
        return x.sum(axis=1)[:, None] * y * scale

    ag.batch(ag.compile(fn), [x, y], tmp_path / "a", chunk=2, constants=[3.0])
    ag.batch(fn, {"y": y, "x": x}, tmp_path / "b", chunk=2, constants={"scale": np.float32(3)})
    for name in "ab":
        assert np.array_equal(zarr.open_array(str(tmp_path / name), mode="r")[:], 6 * y)


def test_bfloat16_is_stored_as_its_bits(tmp_path):
    x = np.arange(8, dtype="float32").astype(ml_dtypes.bfloat16).reshape(4, 2)
    ag.batch(double, x, tmp_path / "out", chunk=3)
    array = zarr.open_array(str(tmp_path / "out"), mode="r")
    assert array.attrs["dtype"] == "bfloat16"
    assert np.array_equal(array[:].view(ml_dtypes.bfloat16), x * ml_dtypes.bfloat16(2))


def test_a_chunk_is_chosen_from_shapes(tmp_path, monkeypatch):
    from attngraph.runtime.batch import run as module

    monkeypatch.setattr(module, "_PIECE_BYTES", 7 * 28)
    _, kinds = inputs_of_all_kinds(tmp_path)
    assert ag.batch(double, kinds["array"], tmp_path / "a").chunks_done == 2  # 7 and 3
    assert ag.batch(double, kinds["zarr"], tmp_path / "b").chunks_done == 3  # whole chunks of the input's


def test_another_job_is_an_error_that_says_what_differs(tmp_path):
    x, y = np.ones((6, 2), "float32"), np.zeros((6, 2), "float32")
    out = tmp_path / "out"

    def call(fn=double, inputs=x, **options):
        options = {"chunk": 2, "constants": [1.5], **options}
        return ag.batch(fn, inputs, out, **options)

    call()
    factor = 3.0
    others = {
        "function: ": {"fn": ag.compile(lambda x, *more: x * factor)},
        "input '0': ": {"inputs": y},
        "constant '0': 1.5 before, 2.5 now": {"constants": [2.5]},
        "constant '1': None before": {"constants": [1.5, 2]},
        "chunk: 2 before, 3 now": {"chunk": 3},
    }
    for said, options in others.items():
        with pytest.raises(ag.ArgumentError, match=rf"another job: .*{re.escape(said)}"):
            call(**options)
    with ag.config.set(distance_form="gram"), pytest.raises(ag.ArgumentError, match="distance_form: direct before"):
        call()
    assert call().chunks_skipped == 3
    assert call(chunk=3, resume=False).chunks_done == 2


def test_tokens_tell_functions_apart():
    def closed(number, table):
        return lambda x: x * number + table

    one, table = np.ones(3), np.ones(3)
    assert token_of(closed(1, one)) == token_of(closed(1, table))
    assert token_of(closed(1, one)) != token_of(closed(2, one))
    assert token_of(closed(1, one)) != token_of(closed(1, one * 2))
    assert token_of(ag.manifold.PoincareBall(c=1.0)) != token_of(ag.manifold.PoincareBall(c=2.0))
    assert token_of(ag.asarray(one) + 1) == token_of(ag.asarray(table) + 1) != token_of(ag.asarray(table) + 2)


def test_mixed_instruction_sets_are_named(tmp_path):
    x = np.arange(6, dtype="float32")
    stop = tmp_path / "stop"

    def stopping(chunk):
        if stop.exists() and chunk[0] == int(stop.read_text()):
            raise RuntimeError("stopped")
        return chunk + chunk

    for number, target in enumerate(["x86-64-v2", "reference"], 1):
        stop.write_text(str(2 * number))
        with ag.config.set(target=target), pytest.raises(RuntimeError, match="stopped"):
            ag.batch(stopping, x, tmp_path / "out", chunk=2)
    stop.unlink()
    with ag.config.set(target="x86-64-v3"):
        summary = ag.batch(stopping, x, tmp_path / "out", chunk=2)
    assert summary.instruction_sets == ("x86-64-v2", "reference", "x86-64-v3")
    assert "instruction sets: x86-64-v2, reference, x86-64-v3" in str(summary)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"inputs": []}, ag.ArgumentError, "no input"),
        ({"inputs": [np.ones((2, 3)), np.ones((3, 3))]}, ag.ShapeError, "input '0' has 2 and input '1' has 3"),
        ({"inputs": np.ones((0, 3))}, ag.ArgumentError, "empty"),
        ({"inputs": np.ones((2, 3)), "over": 2}, ag.ShapeError, "no axis 2"),
        ({"inputs": 3}, ag.ArgumentError, "an array or a path, not int"),
        ({"inputs": "missing.zarr"}, ag.StoreError, "no zarr array"),
        ({"inputs": ag.ones((2, 3)) + 1}, ag.ArgumentError, "lazy expression"),
        ({"chunk": 0}, ag.ArgumentError, "chunk is at least 1"),
        ({"chunk": 1.5}, ag.ArgumentError, "chunk is an integer"),
        ({"fn": 3}, ag.ArgumentError, "fn is a function"),
        ({"output": "s3://bucket/x"}, ag.ArgumentError, "path of a folder"),
        ({"constants": 3}, ag.ArgumentError, "constants are a sequence"),
        ({"scheduler": "slurm"}, ag.ArgumentError, "scheduler is None"),
        ({"fn": ag.compile(lambda x: x.sum(axis=0))}, ag.ShapeError, "of a piece of 4 is"),
        ({"fn": ag.compile(lambda x: x.sum())}, ag.ShapeError, "no axis 0"),
        ({"fn": ag.compile(lambda x: ((x, x), x))}, ag.ArgumentError, "flat tuple"),
        ({"fn": ag.compile(lambda x: {"a/b": x})}, ag.ArgumentError, "arrays of one zarr group"),
        ({"fn": lambda x: (x, None)}, ag.ArgumentError, "result is None"),
    ],
)
def test_errors(tmp_path, options, error, said):
    options = {"fn": double, "inputs": np.ones((4, 3), "float32"), "output": tmp_path / "out", **options}
    with pytest.raises(error, match=said):
        ag.batch(**options)


def test_results_of_all_chunks_are_alike(tmp_path):
    x = np.ones((6, 5), "float32")
    with pytest.raises(ag.ShapeError, match=r"the result of chunk 1 makes a whole of shape \[6, 5\], .* \[6, 3\]"):
        ag.batch(lambda x: x[:, : 3 if len(x) == 4 else 5], x, tmp_path / "shapes", chunk=4)
    with pytest.raises(ag.DTypeError, match="chunk 1 is float64, and chunks before it are float32"):
        ag.batch(lambda x: x.astype("f4" if len(x) == 4 else "f8"), x, tmp_path / "types", chunk=4)


def test_what_no_batch_has_made_stays(tmp_path):
    (tmp_path / "note").write_text("mine")
    for resume in (True, False):
        with pytest.raises(ag.StoreError, match="no batch has made"):
            ag.batch(double, np.ones((4, 3)), tmp_path, resume=resume)
    assert (tmp_path / "note").read_text() == "mine"


def test_a_bar_is_shown_when_asked_for(tmp_path, capsys):
    ag.batch(double, np.ones((4, 3)), tmp_path / "out", chunk=2, progress=True)
    assert "chunks of out" in capsys.readouterr().err
