"""Whatever happens to a batch, it goes on where it stopped, with the bits of one that nothing happened to."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import batches
import numpy as np
import pytest
from hypothesis import settings

import attngraph as ag
from attngraph.runtime.batch.journal import Journal

ROOT = Path(__file__).parents[2]
FUZZ = settings().max_examples >= 2000
KILLS = 60 if FUZZ else 3


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    batches.run(folder, batches.attend(1e-4))
    return batches.found(folder)


def started(folder, seconds):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import batches; batches.run_until_killed(*sys.argv[2:])"
    command = [sys.executable, "-c", code, str(ROOT), str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_batch_killed_at_random_moments(tmp_path, uninterrupted, seed):
    batches.arrays(tmp_path)
    rng = np.random.default_rng(None if FUZZ else seed)
    seconds = float(rng.choice([1e-4, 0.01]))
    for _ in range(2):
        with started(tmp_path, seconds) as process:
            time.sleep(rng.random() * 1.2)
            process.kill()
    recorded = Journal(tmp_path / "out.zarr" / ".batch").chunks if (tmp_path / "out.zarr/.batch").exists() else {}
    summary = batches.run(tmp_path, batches.attend(seconds))
    assert summary.chunks_skipped == len(recorded)
    assert summary.chunks_done == 14 - len(recorded)
    batches.check(tmp_path, uninterrupted)
    assert list(tmp_path.glob("out.zarr/**/*.partial")) == []


def test_of_two_processes_the_second_one_is_refused(tmp_path):
    batches.arrays(tmp_path)
    with started(tmp_path, 0.5) as process:
        lock = tmp_path / "out.zarr" / ".batch" / "record"
        while not lock.exists():
            time.sleep(0.01)
        with pytest.raises(ag.StoreError, match="another process, or thread, is at work"):
            batches.run(tmp_path, batches.attend(0.5))
        process.kill()
    batches.run(tmp_path, batches.attend(0.5), chunk=40, resume=False)


@pytest.mark.parametrize("damage", ["delete", "truncate", "folder"])
def test_a_chunk_whose_files_are_not_right_is_computed_again(tmp_path, uninterrupted, damage):
    fn = batches.attend(1e-4)
    batches.run(tmp_path, fn)
    file = tmp_path / "out.zarr" / "lse" / "c" / "0" / "3"
    assert file.exists()
    if damage == "delete":
        file.unlink()
    elif damage == "truncate":
        os.truncate(file, 5)
    else:
        shutil.rmtree(file.parents[1])
    summary = batches.run(tmp_path, fn)
    assert summary.chunks_done == (14 if damage == "folder" else 1)
    batches.check(tmp_path, uninterrupted)


def test_metadata_that_is_gone_is_made_again(tmp_path, uninterrupted):
    fn = batches.attend(1e-4)
    batches.run(tmp_path, fn)
    for name in ("zarr.json", "lse/zarr.json"):
        (tmp_path / "out.zarr" / name).unlink()
    assert batches.run(tmp_path, fn).chunks_done == 0
    batches.check(tmp_path, uninterrupted)


@pytest.mark.parametrize("left", [0, 5, 400, 900])
def test_a_record_that_was_torn_counts_as_far_as_it_is_whole(tmp_path, uninterrupted, left):
    fn = batches.attend(1e-4)
    batches.run(tmp_path, fn)
    record = tmp_path / "out.zarr" / ".batch" / "record"
    os.truncate(record, left)
    kept = len(Journal(record.parent).chunks)
    summary = batches.run(tmp_path, fn)
    assert summary.chunks_skipped == kept < 14
    batches.check(tmp_path, uninterrupted)
    assert batches.run(tmp_path, fn).chunks_skipped == 14


def test_a_full_file_system(tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not allowed: {mounted.stderr.decode().strip()}")
    try:
        x = np.random.default_rng(0).standard_normal((40, 5000), dtype="float32")
        filler = place / "filler"
        filler.write_bytes(bytes(1_500_000))
        fn = ag.compile(lambda x: x * 2)
        where = rf"batch: {place}/out, chunk \d+ \(\d+:\d+\): No space left on device"
        with pytest.raises(ag.StoreError, match=where):
            ag.batch(fn, x, place / "out", chunk=4)
        with pytest.raises(ag.StoreError, match=where):
            ag.batch(fn, x, place / "out", chunk=4)
        filler.unlink()
        summary = ag.batch(fn, x, place / "out", chunk=4)
        assert summary.chunks_skipped > 0
        assert summary.chunks_done > 0
        import zarr

        assert np.array_equal(zarr.open_array(str(place / "out"), mode="r")[:], x * 2)
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_an_error_of_the_function_leaves_what_was_done(tmp_path):
    x = np.arange(10, dtype="float32")
    bad = ag.compile(lambda x: x * 2)

    def fails(chunk):
        if (tmp_path / "fail").exists() and chunk[0] == 6:
            raise RuntimeError("of the user's")
        return bad(chunk)

    (tmp_path / "fail").touch()
    with pytest.raises(RuntimeError, match="of the user's"):
        ag.batch(fails, x, tmp_path / "out", chunk=2)
    (tmp_path / "fail").unlink()
    assert ag.batch(fails, x, tmp_path / "out", chunk=2).chunks_skipped == 3
