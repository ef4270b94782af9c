"""Expressions as dask collections: the undivided run's bits, however they are cut."""

import pickle
import subprocess
import sys

import dask
import numpy as np
import pytest
from dask.base import is_dask_collection
from dask.diagnostics import ProgressBar
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine import program, splits
from attngraph.runtime.tasks.cutting import Resources


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Sizes of tests are below what is worth a kernel, or worth splits."""
    monkeypatch.setattr(program, "LEAST_WORK", 0)
    monkeypatch.setattr(splits, "_LEAST_OPERATIONS", 1)


def arrays(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype="float32") for shape in shapes]


def qkv(rows=130, columns=150, batch=(2, 3), width=16):
    return arrays((*batch, rows, width), (*batch, columns, width), (*batch, columns, width))


def same(left, right):
    assert left.shape == right.shape
    assert left.dtype == right.dtype
    np.testing.assert_array_equal(left, right)


def by_tasks(collection, scheduler="synchronous"):
    (found,) = dask.compute(collection, scheduler=scheduler)
    return found


FORMS = {
    "plain": ag.attention,
    "causal": lambda q, k, v: ag.attention(q, k, v, is_causal=True),
    "lower right": lambda q, k, v: ag.attention(q, k, v, is_causal="lower_right"),
    "alibi": lambda q, k, v: ag.softmax(q @ k.mT / 4 - 0.1 * abs(places(q, k)), -1) @ v,
    "window": lambda q, k, v: ag.softmax(ag.where(abs(places(q, k)) < 20, q @ k.mT / 4, -ag.inf), -1) @ v,
    "sigmoid": lambda q, k, v: ag.sigmoid(q @ k.mT / 4) @ v,
    "differential": lambda q, k, v: (ag.softmax(q @ k.mT, -1) - 0.5 * ag.softmax(q @ k.mT / 4, -1)) @ v,
    "scaled after": lambda q, k, v: ag.attention(q, k, v) * 2 + 1,
}


def places(q, k):
    return ag.arange(q.shape[-2])[:, None] - ag.arange(k.shape[-2])


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_tasks_have_the_bits_of_the_undivided_run(name, scheduler):
    x = FORMS[name](*map(ag.asarray, qkv()))
    same(by_tasks(x.to_dask(), scheduler), x.compute())


@given(rows=st.integers(1, 150), heads=st.integers(1, 3), cut=st.integers(1, 3), causal=st.booleans())
@settings(max_examples=10, deadline=None)
def test_chunks_change_no_bit(rows, heads, cut, causal):
    x = ag.attention(*map(ag.asarray, qkv(rows=rows, batch=(2, heads))), is_causal=causal)
    same(by_tasks(x.to_dask((1, min(cut, heads), 64, -1))), x.compute())


@pytest.mark.parametrize("keys", [1, 4608, 9000, 20000, None])
def test_keys_are_cut_where_the_schedule_splits_them(keys):
    q, k, v = arrays((2, 5, 16), (2, 30000, 16), (2, 30000, 16))
    x = ag.attention(*map(ag.asarray, (q, k, v)))
    collection = x.to_dask({0: 1}, keys=keys)
    same(by_tasks(collection), x.compute())
    if keys == 1:
        assert "6 of keys" in repr(collection)


def test_heads_that_share_keys():
    q, k, v = map(ag.asarray, arrays((2, 6, 70, 16), (2, 2, 90, 16), (2, 2, 90, 16)))
    x = ag.attention(q, k, v, enable_gqa=True)
    same(by_tasks(x.to_dask()), x.compute())


def test_gradients_share_their_tasks():
    q, k, v = map(ag.asarray, qkv())
    gradients = ag.gradients(ag.sum(ag.attention(q, k, v, is_causal=True) ** 2), (q, k, v))
    for mine, other in zip(ag.compute(*gradients, scheduler="threads"), ag.compute(*gradients), strict=True):
        same(mine, other)


def test_a_leaf_and_a_number_are_expressions():
    (q,) = arrays((3, 4))
    same(by_tasks(ag.asarray(q).to_dask()), q)
    same(by_tasks(ag.sum(ag.asarray(q)).to_dask()), ag.sum(ag.asarray(q)).compute())


def test_what_overflows_is_computed_whole():
    q, k, v = qkv()
    q[0, 0, 5, 3] = 3e38
    x = ag.attention(*map(ag.asarray, (q, k, v)))
    same(by_tasks(x.to_dask()), x.compute())


def test_what_is_not_finite_is_the_same_error():
    q, k, v = qkv()
    q[0, 0, 5, 3] = np.nan
    x = ag.attention(*map(ag.asarray, (q, k, v)))
    with pytest.raises(ag.NonFiniteError, match=r"holds nan at \[0, 0, 5, 3\]"):
        by_tasks(x.to_dask())


def test_it_is_a_collection_as_dasks_are():
    x = ag.attention(*map(ag.asarray, qkv()))
    collection = x.to_dask()
    assert is_dask_collection(collection)
    assert (collection.shape, collection.dtype) == (x.shape, x.dtype)
    with ProgressBar(out=None):
        same(collection.compute(scheduler="synchronous"), x.compute())
    persisted = collection.persist(scheduler="synchronous")
    same(persisted.compute(scheduler="synchronous"), x.compute())
    both = dask.compute(collection, dask.delayed(lambda: 1)(), scheduler="synchronous")
    same(both[0], x.compute())
    assert both[1] == 1


def test_task_names_say_what_they_do():
    q, k, v = arrays((2, 5, 16), (2, 30000, 16), (2, 30000, 16))
    graph = ag.attention(*map(ag.asarray, (q, k, v))).to_dask(keys=9000).__dask_graph__()
    names = {key[0].rsplit("-", 1)[0] for key in graph}
    assert {"attngraph-matmul-states", "attngraph-matmul-merged", "attngraph-matmul-finished"} <= names


def test_annotations_are_at_every_task():
    x = ag.attention(*map(ag.asarray, qkv()))
    with dask.annotate(resources={"MEMORY": 1}):
        graph = x.to_dask().__dask_graph__()
    assert all(layer.annotations == {"resources": {"MEMORY": 1}} for layer in graph.layers.values())


def test_a_memory_map_travels_as_its_place(tmp_path):
    q, k, v = qkv(columns=2000)
    maps = []
    for name, array in (("k", k), ("v", v)):
        mapped = np.memmap(tmp_path / name, "float32", "w+", shape=array.shape)
        mapped[...] = array
        maps.append(mapped)
    x = ag.attention(ag.asarray(q), *map(ag.asarray, maps))
    collection = x.to_dask()
    sizes = [len(pickle.dumps(task)) for task in collection.__dask_graph__().values()]
    assert max(sizes) < q.nbytes + 16384
    same(by_tasks(collection), ag.attention(*map(ag.asarray, (q, k, v))).compute())
    (tmp_path / "k").write_bytes(b"")
    with pytest.raises(ag.StoreError, match="has 0 bytes"):
        by_tasks(x.to_dask())


def test_a_store_travels_as_its_place(tmp_path):
    k, v = arrays((2, 30000, 16), (2, 30000, 16))
    (q,) = arrays((2, 5, 16))
    with ag.KVStore.create(tmp_path / "store", heads=2, dim=16) as store:
        store.append(k, v)
        x = ag.attention(ag.asarray(q), store.keys, store.values)
        collection = x.to_dask(keys=9000)
        assert max(len(pickle.dumps(task)) for task in collection.__dask_graph__().values()) < q.nbytes + 16384
        same(by_tasks(collection, "threads"), ag.attention(*map(ag.asarray, (q, k, v))).compute())


def test_processes_give_the_same_bits():
    x = ag.attention(*map(ag.asarray, qkv()))
    same(ag.compute(x, scheduler="processes"), x.compute())


@pytest.mark.parametrize(
    ("chunks", "keys", "message"),
    [
        ((1, 1), None, "has 4 axes"),
        ({7: 1}, None, "no axis 7"),
        ((1, 0, -1, -1), None, "not 0"),
        ((1, 1.5, -1, -1), None, "not 1.5"),
        ((1, 1, -1, 3), None, "axis 3 of the result cannot be cut"),
        (None, 0, "positive number of keys"),
        (None, True, "positive number of keys"),
    ],
)
def test_chunks_that_cannot_be(chunks, keys, message):
    x = ag.attention(*map(ag.asarray, qkv()))
    with pytest.raises(ag.ArgumentError, match=message):
        x.to_dask(chunks, keys=keys)


def test_chunks_of_what_is_no_kernels_result():
    x = ag.attention(*map(ag.asarray, qkv())) + 1
    with pytest.raises(ag.ArgumentError, match="no kernel's own result"):
        x.to_dask((1, 1, -1, -1))


@pytest.mark.parametrize("scheduler", ["cluster", 3, object()])
def test_schedulers_that_are_none(scheduler):
    with pytest.raises(ag.ArgumentError, match="scheduler is one of threads, synchronous, processes or a Client"):
        ag.compute(ag.ones((2, 2)), scheduler=scheduler)


def test_explanations_say_how_it_is_cut():
    x = ag.attention(*map(ag.asarray, qkv()))
    text = str(ag.explain(x.to_dask((1, 1, 64, -1))))
    assert "note: tasks of dask: " in text
    assert "2 x 3 pieces of the batch, 3 of rows, 1 of keys" in text


@pytest.mark.parametrize(
    ("limit", "tasks", "share"), [(None, 8, None), (1200, 1, 1200), (1200, 3, 400), (1200, 99, 300)]
)
def test_tasks_that_run_at_once_share_the_limit(limit, tasks, share):
    assert Resources(workers=4, least=1.0, limit=limit).share_of(tasks) == share


def test_tasks_may_be_asked_for_before_anything_else():
    code = "import attngraph as ag; print(ag.attention(*[ag.zeros((2, 64, 16))] * 3).to_dask())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "attngraph.Collection" in done.stdout, done.stderr
