"""Whatever happens while a store is written, what was acknowledged is there."""

import errno
import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

import attngraph as ag
from attngraph.runtime.store import layout as layout_module
from stores import DIM, HEADS, apply, check, create, files_of, operations, rows, small_units

CHUNK, UNIT = 8, 32
ROOT = Path(__file__).parents[2]
FUZZ = settings().max_examples >= 2000
# Each kill takes a process of its own.
KILLS = {None: 150, "zstd": 50} if FUZZ else {None: 3, "zstd": 1}


@pytest.mark.parametrize(
    ("compressor", "seed"), [(compressor, seed) for compressor, count in KILLS.items() for seed in range(count)]
)
def test_a_process_killed_at_any_moment_loses_nothing(tmp_path, monkeypatch, compressor, seed):
    small_units(monkeypatch, UNIT)
    path = tmp_path / "store"
    create(path, chunk=CHUNK, compressor=compressor).close()
    code = "import sys; sys.path.insert(0, sys.argv[1]); import stores; stores.write_until_killed(*sys.argv[2:])"
    command = [sys.executable, "-c", code, str(ROOT), str(path), str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "ready\n"
        time.sleep(np.random.default_rng(None if FUZZ else seed).random() * 0.25)
        writer.kill()
        said = writer.stdout.read().splitlines()
    done = int(said[-1]) + 1 if said else 0
    model = rows(0)
    for number, operation in enumerate(itertools.islice(operations(seed), done)):
        model = apply(model, operation, number)
    after = apply(model, next(itertools.islice(operations(seed), done, None)), done)
    with ag.KVStore.open(path, mode="r+") as store:
        if len(store) != model[0].shape[1]:  # committed, and killed before it could say so
            model = after
        check(store, *model)
        model = apply(model, ("append", 50), 1000)
        store.append(*rows(50, 1000))
        check(store, *model)
        model = apply(model, ("truncate", 0.5), 0)
        store.truncate(model[0].shape[1])
        check(store, *model)


class FailingCalls:
    """The n-th call that changes a file, counted from 0, fails for want of room; of a write half is done before."""

    def __init__(self, monkeypatch, failing):
        self.made, self.failing = 0, failing
        for owner, name in ((os, "pwrite"), (os, "fsync"), (os, "fdatasync"), (os, "ftruncate"), (Path, "replace")):
            monkeypatch.setattr(owner, name, self.wrapped(name, getattr(owner, name)))

    def wrapped(self, name, function):
        def call(*arguments):
            number, self.made = self.made, self.made + 1
            if number != self.failing:
                return function(*arguments)
            if name == "pwrite":
                descriptor, contents, offset = arguments
                function(descriptor, contents[: len(contents) // 2], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return call


def calls_of(monkeypatch, run):
    """How many calls an operation makes."""
    with monkeypatch.context() as patched:
        counted = FailingCalls(patched, None)
        run()
    return counted.made


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize("kind", ["append", "truncate"])
def test_a_disk_that_fails_at_any_call_changes_nothing(tmp_path, monkeypatch, compressor, kind):
    small_units(monkeypatch, UNIT)
    keys, values = rows(60)
    before = tmp_path / "before"
    with create(before, chunk=CHUNK, compressor=compressor) as store:
        store.append(keys[:, :28], values[:, :28])

    def act(store):
        if kind == "append":
            store.append(keys[:, 28:], values[:, 28:])
        else:
            store.truncate(11)

    shutil.copytree(before, tmp_path / "counted")
    with ag.KVStore.open(tmp_path / "counted", mode="r+") as store:
        calls = calls_of(monkeypatch, lambda: act(store))
    committing = calls - 2 * 2 - 1  # then come the arrays' own metadata; the last one makes the rename durable
    every = range(committing) if FUZZ or compressor is None else sorted({0, committing // 2, committing - 1})
    for failing in every:
        path = tmp_path / str(failing)
        shutil.copytree(before, path)
        with ag.KVStore.open(path, mode="r+") as store:
            with monkeypatch.context() as patched:
                FailingCalls(patched, failing)
                with pytest.raises(ag.StoreError, match="No space left on device"):
                    act(store)
            check(store, keys[:, :28], values[:, :28])
            check(ag.KVStore.open(path), keys[:, :28], values[:, :28])
            act(store)
            length = 60 if kind == "append" else 11
            check(store, keys[:, :length], values[:, :length])
        shutil.rmtree(path)


def test_a_rename_that_may_not_last_is_an_error_and_what_is_there_counts(tmp_path, monkeypatch):
    keys, values = rows(6)
    with create(tmp_path / "store") as store:
        calls = calls_of(monkeypatch, lambda: store.append(keys, values))
        store.truncate(0)
        with monkeypatch.context() as patched:
            FailingCalls(patched, calls - 2 * 2 - 1)
            with pytest.raises(ag.StoreError, match="No space left on device"):
                store.append(keys, values)
        assert store.append(keys, values) == 12
        check(store, np.concatenate([keys, keys], 1), np.concatenate([values, values], 1))


def test_metadata_that_could_not_follow_is_repaired(tmp_path, monkeypatch):
    keys, values = rows(6)
    path = tmp_path / "store"
    with create(path) as store:
        calls = calls_of(monkeypatch, lambda: store.append(keys, values))
        store.truncate(0)
        with monkeypatch.context() as patched:
            FailingCalls(patched, calls - 1)  # the last: of values
            store.append(keys, values)
        assert len(store) == 6
        (problem,) = store.verify().problems
        assert (problem.array, problem.file) == ("values", f"{path}/values/zarr.json")
    with ag.KVStore.open(path, mode="r+") as store:
        check(store, keys, values)


def fill(store, keys, values):
    """Append until there is no room; how often that went well."""
    times = 0
    with pytest.raises(ag.StoreError, match=r"append: .*No space left on device"):  # noqa: PT012 - or it never ends
        while True:
            store.append(keys, values)
            times += 1
    return times


def test_a_full_file_system(tmp_path):
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not allowed: {mounted.stderr.decode().strip()}")
    try:
        keys, values = rows(3000)
        with create(place / "store", chunk=64, attrs={"note": "x" * 2000}) as store:
            times = fill(store, keys, values)
            assert times > 0
            check(store, np.tile(keys, (1, times, 1)), np.tile(values, (1, times, 1)))
            store.truncate(10)
            store.append(keys[:, :5], values[:, :5])
            there = [np.concatenate([each[:, :10], each[:, :5]], 1) for each in (keys, values)]
            check(ag.KVStore.open(place / "store"), *there)
        (place / "rest").write_bytes(bytes(shutil.disk_usage(place).free))
        with pytest.raises(ag.StoreError, match=r"create: .*No space left on device"):
            create(place / "another")
        assert sorted(each.name for each in place.iterdir()) == ["rest", "store"]
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_limit_on_the_size_of_files(tmp_path):
    code = """
import resource, sys, attngraph as ag, numpy as np
store = ag.KVStore.create(sys.argv[1], heads=1, dim=16, chunk=4, compressor=sys.argv[2] or None)
rows = np.random.default_rng(0).standard_normal((1, 4, 16), dtype="float32")
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    store.append(rows, rows)
except ag.StoreError as error:
    assert "append: " in str(error) and "File too large" in str(error), error
else:
    sys.exit("no error")
assert len(store) == 0 and store.verify()
"""
    for compressor in ("", "zstd"):
        command = [sys.executable, "-c", code, str(tmp_path / f"store{compressor}"), compressor]
        subprocess.run(command, check=True, timeout=60)


@pytest.mark.parametrize("damage", ["delete", "truncate"])
@pytest.mark.parametrize("compressor", [None, "zstd"])
def test_nothing_is_appended_to_a_file_that_is_damaged(tmp_path, damage, compressor):
    keys, values = rows(5)
    with create(tmp_path / "store", chunk=CHUNK, compressor=compressor) as store:
        store.append(keys, values)
        file = files_of(store, "values")[1]
        if damage == "delete":
            file.unlink()
        else:
            os.truncate(file, 5)
        with pytest.raises(ag.StoreError, match=rf"append: values, head 1, chunks? 0 .*: {file}: "):
            store.append(keys, values)
        assert len(store) == 5


def test_a_truncation_does_not_take_damage_for_right(tmp_path):
    with create(tmp_path / "store", chunk=CHUNK) as store:
        store.append(*rows(20))
        file = files_of(store, "keys")[1]
        with file.open("r+b") as opened:
            opened.seek(17 * DIM * 4)
            opened.write(b"!")
        with pytest.raises(ag.StoreError, match=rf"truncate: keys, head 1, chunk 2 \(rows 16:20\): {file} is damaged"):
            store.truncate(19)
        assert len(store) == 20
        store.truncate(16)
        assert store.verify()


def test_appends_do_not_take_damage_for_right(tmp_path):
    for compressor in (None, "zstd"):
        with create(tmp_path / f"store{compressor}", chunk=CHUNK) as store:
            store.append(*rows(3))
            file = files_of(store, "keys")[0]
            contents = bytearray(file.read_bytes())
            contents[5] ^= 1
            file.write_bytes(contents)
            store.append(*rows(10))
            (problem,) = store.verify().problems
            assert (problem.array, problem.head, problem.chunk, problem.rows) == ("keys", 0, 0, (0, 8))


def test_what_is_committed_is_never_written_again(tmp_path, monkeypatch):
    """All writes to the files of rows lie behind the committed ones."""
    small_units(monkeypatch, UNIT)
    written = []
    with create(tmp_path / "store", chunk=CHUNK) as store:
        store.append(*rows(19))
        row = {"keys": DIM * 4, "values": 3 * 4}
        real = os.pwrite

        def noted(descriptor, contents, offset):
            written.append((Path(f"/proc/self/fd/{descriptor}").readlink(), offset))
            return real(descriptor, contents, offset)

        if not Path("/proc/self/fd").exists():
            pytest.skip("needs /proc")
        monkeypatch.setattr(os, "pwrite", noted)
        store.append(*rows(40))
        first = [(file, offset) for file, offset in written if file.match("c.*.0.0")]
        assert len(first) == 2 * HEADS
        assert all(offset == 19 * row[file.parent.name] for file, offset in first)


def test_appending_costs_the_same_however_long_the_store_is(tmp_path, monkeypatch):
    """Counted in calls and bytes: clocks are for benchmarks."""
    monkeypatch.setattr(layout_module, "_UNIT_BYTES", 2**24)
    sizes = []
    real = os.pwrite

    def counted(descriptor, contents, offset):
        sizes.append(len(contents))
        return real(descriptor, contents, offset)

    with create(tmp_path / "store", chunk=4) as store:
        totals = []
        store.append(*rows(1))
        for _ in range(2):
            store.append(*rows(4 * 900 - 1))
            with monkeypatch.context() as patched:
                patched.setattr(os, "pwrite", counted)
                sizes.clear()
                store.append(*rows(1))
            totals.append(sum(sizes))
        assert totals[0] == pytest.approx(totals[1], abs=100)
        assert totals[1] < 10_000
