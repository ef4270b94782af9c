"""The pool of workers: every tile once, whatever threads, callers, signals and forks there are."""

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from llvmlite import binding

import attngraph as ag
from attngraph.engine import watchdog, worker_board, workers
from attngraph.engine.jit import compile_unkept
from attngraph.engine.worker_board import Memory, Slot, worker_code


class Target(NamedTuple):
    triple: str = binding.get_process_triple()
    cpu: str = ""
    features: str = ""


# Of each tile: spins, adds one to times[tile], notes the scratch in places[tile], writes the tile's number
# all over the scratch, and notes in sums[tile] what then stands there.
KERNEL = """
define void @fill(ptr %descriptor, ptr %counter, ptr %scratch) {
entry:
  %total = load i64, ptr %descriptor
  %spins_at = getelementptr i64, ptr %descriptor, i64 1
  %spins = load i64, ptr %spins_at
  %words_at = getelementptr i64, ptr %descriptor, i64 2
  %words = load i64, ptr %words_at
  %times_at = getelementptr i64, ptr %descriptor, i64 3
  %times = load ptr, ptr %times_at
  %places_at = getelementptr i64, ptr %descriptor, i64 4
  %places = load ptr, ptr %places_at
  %sums_at = getelementptr i64, ptr %descriptor, i64 5
  %sums = load ptr, ptr %sums_at
  br label %next
next:
  %tile = atomicrmw add ptr %counter, i64 1 monotonic
  %any = icmp slt i64 %tile, %total
  br i1 %any, label %write, label %done
write:
  %word = phi i64 [0, %next], [%next_word, %writing]
  %writes = icmp slt i64 %word, %words
  br i1 %writes, label %writing, label %spin
writing:
  %write_at = getelementptr i64, ptr %scratch, i64 %word
  store i64 %tile, ptr %write_at
  %next_word = add i64 %word, 1
  br label %write
spin:
  %spun = phi i64 [0, %write], [%next_spun, %spin]
  %next_spun = add i64 %spun, 1
  %spins_on = icmp slt i64 %next_spun, %spins
  br i1 %spins_on, label %spin, label %read
read:
  %read_word = phi i64 [0, %spin], [%next_read, %reading]
  %sum = phi i64 [0, %spin], [%next_sum, %reading]
  %reads = icmp slt i64 %read_word, %words
  br i1 %reads, label %reading, label %note
reading:
  %read_at = getelementptr i64, ptr %scratch, i64 %read_word
  %value = load i64, ptr %read_at
  %next_sum = add i64 %sum, %value
  %next_read = add i64 %read_word, 1
  br label %read
note:
  %time_at = getelementptr i64, ptr %times, i64 %tile
  %time = load i64, ptr %time_at
  %more = add i64 %time, 1
  store i64 %more, ptr %time_at
  %place_at = getelementptr ptr, ptr %places, i64 %tile
  store ptr %scratch, ptr %place_at
  %sum_at = getelementptr i64, ptr %sums, i64 %tile
  store i64 %sum, ptr %sum_at
  br label %next
done:
  ret void
}
"""

MODULE = compile_unkept(KERNEL, ["fill"], Target())
# At most a millisecond in a tile, at least a third: a spin is a cycle or two.
MILLISECOND = 1_500_000


class Work:
    """Tiles to run, and what the kernel noted of each."""

    def __init__(self, tiles, spins=0, words=0):
        self.tiles, self.words = tiles, words
        self.times, self.places, self.sums = (np.zeros(tiles, np.int64) for _ in range(3))
        pointers = [array.ctypes.data for array in (self.times, self.places, self.sums)]
        self.descriptor = np.array([tiles, spins, words, *pointers], np.int64)

    def run(self, threads):
        workers.run(MODULE.address("fill"), self.descriptor.ctypes.data, self.tiles, 8 * self.words, threads)

    def share(self, helpers):
        """As calls without Python do it; 0 if no slot was free."""
        workers.team(helpers)
        stride = -(-8 * self.words // 64) * 64
        scratch = Memory(stride * (helpers + 1))
        where = workers._pool.board.address, MODULE.address("fill"), self.descriptor.ctypes.data
        return worker_code().share(*where, scratch.address, stride, helpers)

    def right(self):
        return bool((self.times == 1).all() and (self.sums == self.words * np.arange(self.tiles)).all())


@pytest.fixture(autouse=True, scope="module")
def cache_directory(tmp_path_factory):
    before = ag.config._process
    ag.config.set(cache_dir=tmp_path_factory.mktemp("cache"))
    yield
    ag.config._process = before


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("tiles", [1, 2, 3, 7, 1000])
def test_every_tile_is_run_once(tiles, threads):
    work = Work(tiles, spins=1000, words=20)
    work.run(threads)
    assert work.right()


def test_no_tiles_are_no_call():
    workers.run(0, 0, 0, 64, 4)  # address 0: a call would end the process


@pytest.mark.parametrize("threads", [-1, 0])
def test_the_caller_is_always_there(threads):
    work = Work(5)
    work.run(threads)
    assert work.right()


def test_threads_share_the_work():
    work = Work(200, spins=MILLISECOND // 4, words=8)
    work.run(3)
    assert work.right()
    assert 2 <= len(set(work.places.tolist())) <= 3


def test_scratch_is_aligned_and_nobody_elses():
    for words in (1, 7, 8, 9, 1000):
        work = Work(300, spins=MILLISECOND // 20, words=words)
        work.run(4)
        assert work.right()
        places = np.unique(work.places)
        assert not (places % 64).any()
        assert (np.diff(places) >= 8 * words).all()


def test_no_scratch_is_a_null_pointer():
    for threads in (1, 3):
        work = Work(50, spins=MILLISECOND // 20)
        work.run(threads)
        assert work.right()
        assert not work.places.any()


def test_scratch_is_kept_for_the_next_call():
    seen = set()
    for _ in range(5):
        work = Work(1, words=500)
        work.run(1)
        seen.add(int(work.places[0]))
    assert len(seen) == 1


def test_large_scratch_is_not_kept():
    small = Work(4, words=10)
    small.run(1)
    assert len(workers._scratch.kept) == 1
    work = Work(2, words=workers._MOST_SCRATCH_KEPT // 8 + 1)
    work.run(1)
    assert work.right()
    assert workers._scratch.kept == []


@pytest.mark.parametrize("threads", [1, 2])
def test_scratch_that_there_is_no_memory_for(threads):
    work = Work(8)
    with pytest.raises(MemoryError):
        workers.run(MODULE.address("fill"), work.descriptor.ctypes.data, 8, 2**55, threads)
    assert not work.times.any()
    assert len(workers._pool._slots) == len(workers._pool.board.slots)
    work.run(threads)
    assert work.right()


def test_the_number_of_threads_varies():
    for threads in (2, 5, 1, 3, 16, 2, 1, 4):
        work = Work(64, spins=20_000, words=16)
        work.run(threads)
        assert work.right()
        assert len(set(work.places.tolist())) <= threads


def in_threads(count, work):
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.parametrize("callers", [8, 40])  # 40 are more than the board has slots
def test_concurrent_callers_are_all_served(callers):
    def call(seed):
        rng = np.random.default_rng(seed)
        for _ in range(400 // callers):
            work = Work(int(rng.integers(1, 100)), spins=int(rng.integers(1, 20_000)), words=int(rng.integers(0, 50)))
            work.run(int(rng.integers(1, 5)))
            assert work.right()

    in_threads(callers, call)
    assert len(workers._pool._slots) == len(workers._pool.board.slots)


def test_no_wake_up_is_lost():
    """A caller that was not woken would wait 50 ms."""
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for _ in range(3000):
        work = Work(6, spins=int(rng.integers(1, 30_000)))
        work.run(3)
        assert work.right()
    assert time.perf_counter() - start < 10


def test_helpers_come_to_a_caller_who_waits():
    """As in the main thread after the watchdog: nobody computes but the workers."""
    work = Work(100, spins=10_000, words=30)
    call = workers._Call(MODULE.address("fill"), work.descriptor.ctypes.data, 100, 256)
    pool = workers._pool
    slot = pool._take_slot()
    assert pool._run_from(40, slot, call, 2, watched=False, takes_part=False) == 100
    pool._slots.append(slot)
    assert (work.times == ([0] * 40 + [1] * 60)).all()


def test_without_more_threads_the_caller_works_alone(monkeypatch):
    monkeypatch.setattr(workers, "start_daemon", lambda work, name: False)
    monkeypatch.setattr(watchdog, "start_daemon", lambda work, name: False)
    monkeypatch.setattr(workers, "_pool", workers._Pool())
    for tiles in (1, 100):
        work = Work(tiles, words=4)
        work.run(4)
        assert work.right()
    assert len(set(work.places.tolist())) == 1


def test_the_system_may_refuse_a_thread(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert not watchdog.start_daemon(lambda: None, "never")


def test_workers_are_daemons_and_sleep():
    Work(100, spins=1000).run(3)
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("attngraph-")]
    assert {"attngraph-1", "attngraph-2", "attngraph-watchdog"} <= set(names)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name in names)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_what_is_kept_lives_until_the_return():
    class Held:
        pass

    box, alive = [Held()], []
    reference = weakref.ref(box[0])
    work = Work(400, spins=MILLISECOND)

    def call():
        workers.run(MODULE.address("fill"), work.descriptor.ctypes.data, 400, 0, 2, keep=box.pop())

    thread = threading.Thread(target=call)
    thread.start()
    while not work.times.any():
        time.sleep(0.001)
    alive.append(reference() is not None)
    thread.join()
    assert (alive, box, reference()) == ([True], [], None)
    assert work.right()


# Calls without Python


@pytest.mark.parametrize("helpers", [1, 2, 7])
@pytest.mark.parametrize("tiles", [1, 2, 7, 1000])
def test_a_call_without_python_is_shared(tiles, helpers):
    work = Work(tiles, spins=MILLISECOND // 20, words=20)
    assert work.share(helpers) == 1
    assert work.right()
    assert len(set(work.places.tolist())) <= helpers + 1
    assert (tiles < 1000) or len(set(work.places.tolist())) > 1


def test_no_wake_up_is_lost_without_python():
    rng = np.random.default_rng(0)
    for _ in range(2000):
        work = Work(6, spins=int(rng.integers(1, 30_000)))
        assert work.share(2) == 1
        assert work.right()
        if rng.random() < 0.02:
            time.sleep(0.001)  # so that they sleep


def test_calls_without_python_at_once_have_slots_of_their_own():
    shared, alone = [], []

    def call(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            work = Work(int(rng.integers(1, 100)), spins=int(rng.integers(1, 20_000)), words=int(rng.integers(0, 50)))
            if seed % 3 == 0:  # from Python, at the same time
                work.run(3)
            elif work.share(2):
                shared.append(work)
            else:  # more at once than there are slots
                alone.append(work)
                continue
            assert work.right()

    in_threads(18, call)
    assert shared
    assert not any(work.times.any() for work in alone)
    assert not busy_slots()


def busy_slots():
    """Slots of calls without Python that are taken."""
    board = workers._pool.board
    first, size = worker_board._LAYOUT["FIRST_SLOT"], worker_board._LAYOUT["SLOT_BYTES"]
    at = [board.address + first + number * size for number in range(worker_board._KEPT)]
    flags = [ctypes.c_int64.from_address(each + worker_board._LAYOUT["SLOT_BUSY"]) for each in at]
    return [flag for flag in flags if flag.value]


def test_the_team_is_the_latest_board_that_hired(monkeypatch):
    words = (ctypes.c_int64 * 2).from_address(workers.team(1))
    assert words[1] == workers._pool.board.address
    assert words[0]
    with monkeypatch.context() as patched:
        patched.setattr(workers, "start_daemon", lambda work, name: False)
        patched.setattr(workers, "_pool", workers._Pool())
        work = Work(100, words=4)
        assert work.share(3) == 1  # where nobody comes
        assert work.right()
        assert words[1] == workers._pool.board.address
    workers._team.meet(None)
    assert list(words) == [0, 0]
    workers._team.meet(workers._pool.board)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_workers_may_run_anywhere_while_they_run():
    allowed = os.sched_getaffinity(0)
    for _ in range(20):
        time.sleep(0.002)  # so that they sleep, and are woken
        Work(50, spins=MILLISECOND // 20).run(3)
    time.sleep(0.02)
    ids = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("attngraph-")]
    for thread in ids:
        assert os.sched_getaffinity(thread) <= allowed
    assert os.sched_getaffinity(0) == allowed  # the caller's own is left alone


# Watching


@pytest.mark.parametrize("threads", [1, 3])
def test_a_long_call_of_the_main_thread_is_called_back_and_goes_on(threads, monkeypatch):
    parts, run_from = [], workers._Pool._run_from

    def noted(self, first, *arguments, **options):
        end = run_from(self, first, *arguments, **options)
        parts.append((first, options["takes_part"], end))
        return end

    monkeypatch.setattr(workers._Pool, "_run_from", noted)
    work = Work(2500, spins=MILLISECOND, words=16)
    work.run(threads)
    assert work.right()
    (_, took_part, stopped_at), (first, takes_part, end) = parts
    assert took_part
    assert 0 < stopped_at == first < 2500
    assert not takes_part
    assert end >= 2500


def test_a_long_call_of_another_thread_is_left_alone(monkeypatch):
    stops = []
    monkeypatch.setattr(watchdog.Watchdog, "_stop", lambda self, watch: stops.append(watch))
    work = Work(400, spins=MILLISECOND)
    in_threads(1, lambda number: work.run(1))
    assert work.right()
    assert not stops


def test_only_the_call_that_is_watched_is_stopped():
    dog = watchdog.Watchdog()
    slots = [Slot.alone() for _ in range(3)]
    watches = [watchdog.Watch(slot.counter_at, 1000) for slot in slots]
    for slot in slots:
        slot.counter.value = 5
    dog.watch(watches[0])
    dog.unwatch(watches[0])
    dog.watch(watches[1])
    dog.unwatch(watches[0])  # late, and another's
    deadline = time.monotonic() + 5
    while watches[1].stopped_at is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [watch.stopped_at for watch in watches] == [None, 5, None]
    assert [slot.counter.value for slot in slots] == [5, 1000, 5]
    dog._stop(watches[2])  # which nobody watches
    assert slots[2].counter.value == 5


def test_a_watchdog_that_sleeps_is_woken(monkeypatch):
    monkeypatch.setattr(watchdog, "_SECONDS_OF_ROUND", 0.005)
    monkeypatch.setattr(watchdog, "_ROUNDS_AWAKE", 3)
    dog = watchdog.Watchdog()
    for _ in range(5):
        slot = Slot.alone()
        slot.counter.value = 3
        watch = watchdog.Watch(slot.counter_at, 10)
        dog.watch(watch)
        deadline = time.monotonic() + 5
        while watch.stopped_at is None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert watch.stopped_at == 3
        while dog._awake and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not dog._awake


@pytest.mark.parametrize("threads", [1, 3])
def test_an_exception_in_the_middle_leaves_nobody_in_the_function(threads, monkeypatch):
    unwatch, calls = watchdog.Watchdog.unwatch, []

    def interrupted(self, watch):
        calls.append(watch)
        if len(calls) < 4:  # the first while it runs, the others while it is being stopped
            raise KeyboardInterrupt
        unwatch(self, watch)

    work = Work(300, spins=MILLISECOND // 10, words=10)
    with monkeypatch.context() as patched:
        patched.setattr(watchdog.Watchdog, "unwatch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            work.run(threads)
    assert work.right()  # the main thread had come to the end of the tiles
    assert len(calls) == 4
    assert workers._pool._watchdog._watched is None
    assert len(workers._pool._slots) == len(workers._pool.board.slots)
    again = Work(100, words=10)
    again.run(threads)
    assert again.right()


def test_memory_is_aligned():
    for size in (0, 1, 64, 1000):
        assert Memory(size).address % 64 == 0


# Signals, forks and the interpreter's end, in processes of their own.


@pytest.fixture
def start(tmp_path):
    children = []

    def start(script):
        source = Path(__file__).read_text().split("# Watching")[0]  # the kernel and `Work`
        source = source[: source.index("@pytest.fixture")] + textwrap.dedent(script)
        file = tmp_path / "script.py"
        file.write_text(source)
        environment = os.environ | {"ATTNGRAPH_CACHE_DIR": str(tmp_path / "cache")}
        child = subprocess.Popen(
            [sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def finish(child):
    output, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (0, "")
    return output


@pytest.mark.parametrize("after", [0.02, 0.4], ids=["soon", "late"])
@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_stops_a_call_and_the_pool_goes_on(start, threads, after):
    child = start(f"""
        Work(10, words=3).run({threads})
        work = Work(20_000, spins=MILLISECOND, words=10)
        print("ready", flush=True)
        try:
            work.run({threads})
            print("not interrupted")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        done = work.times.copy()
        time.sleep(0.1)
        assert (work.times == done).all()  # nobody is in it any more
        assert 0 < done.sum() < 20_000 and done.max() == 1
        for _ in range(20):
            work = Work(100, spins=1000, words=10)
            work.run({threads})
            assert work.right()
        print("right")
        """)
    assert child.stdout.readline() == "ready\n"
    time.sleep(after)
    sent = time.perf_counter()
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "interrupted\n"
    assert time.perf_counter() - sent < 1
    assert finish(child) == "right\n"


def test_ctrl_c_again_and_again(start):
    child = start("""
        armed = [False]
        def handler(number, frame):
            if armed[0]:
                raise KeyboardInterrupt
        signal.signal(signal.SIGINT, handler)
        Work(10).run(2)
        print("ready", flush=True)
        stopped = finished = 0
        end = time.monotonic() + 2
        while time.monotonic() < end:
            work = Work(300, spins=MILLISECOND // 10, words=10)
            try:
                armed[0] = True
                work.run(2)
                armed[0] = False
                assert work.right()
                finished += 1
            except KeyboardInterrupt:
                armed[0] = False
                stopped += 1
                done = work.times.copy()
                time.sleep(0.001)
                assert (work.times == done).all() and done.max() <= 1
        for _ in range(20):
            work = Work(100, spins=1000, words=10)
            work.run(2)
            assert work.right()
        print("right", stopped > 5, finished > 5)
        """)
    assert child.stdout.readline() == "ready\n"
    rng = np.random.default_rng(1)
    end = time.monotonic() + 1.6
    while time.monotonic() < end:
        time.sleep(rng.choice([0.0005, 0.01, 0.1], p=[0.5, 0.3, 0.2]))
        child.send_signal(signal.SIGINT)
    assert finish(child) == "right True True\n"


def test_a_signal_whose_handler_returns_changes_nothing(start):
    child = start("""
        nested, depth = [], [0]
        def handler(number, frame):
            if depth[0] == 2:  # on a busy machine the next signal comes before this is done
                return
            depth[0] += 1
            work = Work(50, spins=1000, words=10)
            work.run(2)
            nested.append(work.right())
            depth[0] -= 1
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.03)
        for threads in (1, 2, 3):
            work = Work(400, spins=MILLISECOND, words=10)
            work.run(threads)
            assert work.right()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(len(nested) > 3, all(nested))
        """)
    assert finish(child) == "True True\n"


def test_signals_do_not_end_a_call_without_python(start):
    child = start("""
        handled = []
        def handler(number, frame):
            handled.append(number)
            raise KeyboardInterrupt
        work = Work(200, spins=MILLISECOND, words=10)
        work.share(1)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        work, interrupted = Work(2, spins=20 * MILLISECOND, words=10), False
        try:
            work.share(1)
        except KeyboardInterrupt:
            interrupted = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(interrupted, work.right())
        """)
    assert finish(child) == "True True\n"


def test_whatever_a_handler_raises_stops_the_call(start):
    child = start("""
        class Late(Exception):
            pass
        def handler(number, frame):
            raise Late
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        begin = time.monotonic()
        try:
            Work(20_000, spins=MILLISECOND).run(2)
        except Late:
            print("late", time.monotonic() - begin < 1.5)
        """)
    assert finish(child) == "late True\n"


def test_a_child_computes(start):
    child = start("""
        import warnings
        # Newer Pythons warn of every fork beside threads: that is what is tried here.
        warnings.filterwarnings("ignore", ".*is multi-threaded, use of fork", DeprecationWarning)
        Work(100, spins=1000).run(3)
        pid = os.fork()
        if pid == 0:
            try:
                for threads in (1, 3):
                    work = Work(600, spins=MILLISECOND, words=5)
                    work.run(threads)
                    assert work.right()
                names = [thread.name for thread in threading.enumerate()]
                assert names[0] == "MainThread" and "attngraph-2" in names
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
            sys.exit(0)  # as a process usually ends
        print(os.waitpid(pid, 0)[1])
        work = Work(100, spins=1000)
        work.run(3)
        print(work.right())
        """)
    assert finish(child) == "0\nTrue\n"


def test_a_child_has_no_team_until_it_hires(start):
    child = start("""
        import ctypes, warnings
        # Newer Pythons warn of every fork beside threads: that is what is tried here.
        warnings.filterwarnings("ignore", ".*is multi-threaded, use of fork", DeprecationWarning)
        words = (ctypes.c_int64 * 2).from_address(workers.team(2))
        before = list(words)
        pid = os.fork()
        if pid == 0:
            right = list(words) == [0, 0]
            Work(100, spins=1000).run(3)
            right &= words[0] == before[0] and words[1] != before[1]
            work = Work(100, spins=1000)
            right &= work.share(2) == 1 and work.right()
            os._exit(0 if right else 1)
        print(os.waitpid(pid, 0)[1], list(words) == before)
        """)
    assert finish(child) == "0 True\n"


def test_a_child_of_a_process_that_computes_computes(start):
    child = start("""
        import warnings
        # Newer Pythons warn of every fork beside threads: that is what is tried here.
        warnings.filterwarnings("ignore", ".*is multi-threaded, use of fork", DeprecationWarning)
        stop, wrong = [], []
        def compute():
            while not stop:
                work = Work(50, spins=20_000, words=10)
                work.run(2)
                if not work.right():
                    wrong.append(1)
        callers = [threading.Thread(target=compute) for _ in range(3)]
        for caller in callers:
            caller.start()
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                work = Work(50, spins=20_000, words=10)
                work.run(2)
                os._exit(0 if work.right() else 1)
            assert os.waitpid(pid, 0)[1] == 0
        stop.append(1)
        for caller in callers:
            caller.join()
        print(wrong)
        """)
    assert finish(child) == "[]\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_workers_stay_where_the_caller_may_run(start):
    child = start("""
        place = max(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {place})  # after the import
        for _ in range(10):
            work = Work(30, spins=MILLISECOND // 10)
            work.run(3)
            assert work.right()
            time.sleep(0.002)
        ids = [thread.native_id for thread in threading.enumerate() if thread.name.startswith("attngraph-")]
        print(len(ids), all(os.sched_getaffinity(thread) == {place} for thread in ids))
        """)
    assert finish(child) == "3 True\n"


def test_multiprocessing_workers_compute(start):
    child = start("""
        import multiprocessing
        def compute(number):
            work = Work(50 + number, spins=20_000, words=10)
            work.run(2)
            return work.right()
        Work(10).run(2)
        with multiprocessing.get_context("fork").Pool(3) as pool:
            print(all(pool.map(compute, range(30))))
        """)
    assert finish(child) == "True\n"


def test_the_interpreter_ends_while_a_thread_computes(start):
    child = start("""
        work = Work(100_000, spins=MILLISECOND)
        threading.Thread(target=work.run, args=(2,), daemon=True).start()
        while not work.times.any():
            time.sleep(0.01)
        print("end")
        """)
    begin = time.monotonic()
    assert finish(child) == "end\n"
    assert time.monotonic() - begin < 10
