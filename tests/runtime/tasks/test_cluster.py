"""Tasks on a cluster of processes: the same bits, while workers are killed, and on workers of several kinds."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from distributed import Client, LocalCluster

import attngraph as ag

pytestmark = [
    # What the cluster's own threads say when it is torn down.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:distributed"),
]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as found:
        yield found


@pytest.fixture
def client(cluster):
    with Client(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A query, and a store of keys and values."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(shape, dtype="float32") for shape in ((2, 40, 64), (2, 60000, 64), (2, 60000, 64)))
    path = tmp_path_factory.mktemp("cluster") / "store"
    with ag.KVStore.create(path, heads=2, dim=64) as store:
        store.append(k, v)
    return q, path


def attention(stored):
    q, path = stored
    store = ag.KVStore.open(path)
    return ag.attention(ag.asarray(q), store.keys, store.values)


def same(left, right):
    np.testing.assert_array_equal(left, right)


def test_a_cluster_gives_the_same_bits(client, stored):
    x = attention(stored)
    same(ag.compute(x, scheduler=client), x.compute())
    same(x.to_dask(keys=9000).compute(), x.compute())


def test_persisted_results_are_on_the_cluster(client, stored):
    x = attention(stored)
    persisted = client.persist(x.to_dask(keys=20000))
    same(persisted.compute(), x.compute())


def test_keys_never_travel(client, stored):
    """What the scheduler is sent, and what workers send each other, is far less than the keys are."""
    x = attention(stored)
    q, _ = stored
    collection = x.to_dask(keys=9000)
    futures = client.compute(collection)
    same(futures.result(), x.compute())
    sizes = client.run_on_scheduler(lambda dask_scheduler: [each.nbytes for each in dask_scheduler.tasks.values()])
    states = 2 * 40 * (64 + 8) * 4 * 4
    assert max((size for size in sizes if size), default=0) <= 16384 + q.nbytes + states


def test_a_restarted_cluster_goes_on(client, stored):
    x = attention(stored)
    collection = x.to_dask(keys=9000)
    same(collection.compute(), x.compute())
    client.restart()
    same(collection.compute(), x.compute())


def test_gradients_on_a_cluster(client):
    rng = np.random.default_rng(1)
    q, k, v = (ag.asarray(rng.standard_normal((2, 3, 200, 32), dtype="float32")) for _ in range(3))
    gradients = ag.gradients(ag.sum(ag.attention(q, k, v) ** 2), (q, k, v))
    for mine, other in zip(ag.compute(*gradients, scheduler=client), ag.compute(*gradients), strict=True):
        same(mine, other)


def test_an_error_of_a_task_is_the_users(client, stored, tmp_path):
    q, _ = stored
    with ag.KVStore.create(tmp_path / "store", heads=2, dim=64) as store:
        store.append(*(np.ones((2, 60000, 64), "float32") for _ in range(2)))
        x = ag.attention(ag.asarray(q), store.keys, store.values)
    collection = x.to_dask(keys=9000)
    files = sorted(each for each in (tmp_path / "store").rglob("*") if each.is_file() and each.stat().st_size > 2**20)
    files[0].unlink()
    with pytest.raises(ag.StoreError, match="store"):
        collection.compute()


def test_a_worker_that_is_killed_costs_nothing_but_time(stored):
    x = attention(stored)
    expected = x.compute()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        processes = client.run(os.getpid)
        killer = threading.Timer(0.3, lambda: os.kill(next(iter(processes.values())), signal.SIGKILL))
        killer.start()
        found = []
        started = time.monotonic()
        while time.monotonic() - started < 1.5 or not found:
            found.append(ag.compute(x, scheduler=client))
        killer.join()
    for each in found:
        same(each, expected)


def test_workers_of_several_kinds(stored):
    """One of them may not use all that the processor has: what comes of it is right, to rounding."""
    x = attention(stored)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        (worker,) = cluster.workers.values()
        os.environ["ATTNGRAPH_TARGET"] = "x86-64-v3"
        try:
            cluster.scale(2)
            client.wait_for_workers(2)
        finally:
            del os.environ["ATTNGRAPH_TARGET"]
        assert worker is not None
        exact = ag.compute(x, scheduler=client)  # all use what all have
        mixed = x.to_dask(keys=9000).compute()  # each uses its own
    np.testing.assert_allclose(exact, x.compute(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(mixed, x.compute(), rtol=1e-4, atol=1e-6)
