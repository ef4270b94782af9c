"""Whoever computes the pieces, they are the same; and who dies over them is replaced."""

import os
import signal
import threading
import time

import batches
import numpy as np
import pytest
import zarr

import attngraph as ag


def test_threads_and_processes(tmp_path):
    wanted = batches.by_chunks(tmp_path)
    for scheduler in ("threads", "processes"):
        batches.run(tmp_path, output=scheduler, scheduler=scheduler)
        batches.check(tmp_path, wanted, output=scheduler)


def test_a_process_that_dies_is_replaced(tmp_path):
    mark = str(tmp_path / "mark")

    def deadly(x):
        import os
        import pathlib

        if x[0] == 4 and not pathlib.Path(mark).exists():
            pathlib.Path(mark).touch()
            os.kill(os.getpid(), 9)
        return x * 2

    x = np.arange(8, dtype="float32")
    assert ag.batch(deadly, x, tmp_path / "out", chunk=2, scheduler="processes").chunks_done == 4
    assert np.array_equal(zarr.open_array(str(tmp_path / "out"), mode="r")[:], x * 2)


def test_a_process_that_always_dies_is_an_error(tmp_path):
    def deadly(x):
        import os

        os.kill(os.getpid(), 9)

    with ag.config.set(threads=1), pytest.raises(ag.StoreError, match="processes died 3 times"):
        ag.batch(deadly, np.ones(4), tmp_path / "out", chunk=2, scheduler="processes")


@pytest.fixture(scope="module")
def cluster():
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


def test_a_cluster_one_of_whose_workers_is_killed(tmp_path, cluster):
    import distributed

    wanted = batches.by_chunks(tmp_path)
    with distributed.Client(cluster) as client:
        victim = next(iter(client.run(os.getpid).values()))

        def kill():
            while len(list((tmp_path / "out.zarr").glob("out/c/0/*"))) < 4:
                time.sleep(0.01)
            os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        summary = batches.run(tmp_path, batches.attend(0.15), scheduler=client)
        killer.join()
        assert summary.chunks_done == 14
        assert victim not in client.run(os.getpid).values()
    batches.check(tmp_path, wanted)


def test_a_cluster_by_its_address(tmp_path, cluster):
    x = np.arange(40, dtype="float32")
    table = np.arange(40_000, dtype="float32")

    def fn(x, table):
        return x + table[:1] + table[-1:]

    ag.batch(ag.compile(fn), x, tmp_path / "out", chunk=7, constants=[table], scheduler=cluster.scheduler_address)
    assert np.array_equal(zarr.open_array(str(tmp_path / "out"), mode="r")[:], x + table[-1])
    assert sorted(each.name for each in (tmp_path / "out" / ".batch").iterdir()) == ["lock", "record"]


def test_an_error_comes_back_from_a_cluster(tmp_path, cluster):
    with pytest.raises(ag.ShapeError, match="of a piece of 7"):
        ag.batch(lambda x: x[1:], np.ones(40), tmp_path / "out", chunk=7, scheduler=cluster.scheduler_address)


def test_nobody_at_an_address(tmp_path, monkeypatch):
    from attngraph.runtime.batch import schedule

    monkeypatch.setattr(schedule, "_PATIENCE", "0.2s")
    with pytest.raises(ag.StoreError, match=r"no scheduler at tcp://127\.0\.0\.1:9"):
        ag.batch(lambda x: x, np.ones(4), tmp_path / "out", scheduler="tcp://127.0.0.1:9")
