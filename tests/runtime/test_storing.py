"""`store` writes what `compute` gives, a piece at a time."""

import gc
import re
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import zarr
from cut import UNIT, cut_whatever_the_work

import attngraph as ag
from attngraph.engine.pieces import Pieces

HEADS, ROWS, COLUMNS, WIDTH = 3, 300, 700, 16


class Read:
    """An array that says what is read of it."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.boxes = []

    def __attngraph_blocks__(self):
        return self

    steps = (1, 1, 50, WIDTH)

    def read(self, box):
        self.boxes.append(box)
        return self.array[box]

    @property
    def largest(self):
        return max(int(np.prod([each.stop - each.start for each in box])) for box in self.boxes)


class Written:
    """A target that counts how often each of its chunks is written."""

    def __init__(self, shape, chunks, dtype="float32"):
        self.array, self.chunks = np.full(shape, np.nan, dtype), chunks
        self.shape, self.dtype = self.array.shape, self.array.dtype
        self.times = {}

    def __setitem__(self, box, values):
        assert values.dtype == self.dtype
        self.array[box] = values
        ranges = [range(e.start // n, -(-e.stop // n)) for e, n in zip(box, self.chunks, strict=True)]
        for place in np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(ranges)).tolist():
            self.times[tuple(place)] = self.times.get(tuple(place), 0) + 1


def arrays(rows=ROWS, columns=COLUMNS, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rows, columns, columns
    return [rng.standard_normal((batch, HEADS, n, WIDTH), dtype="float32") for n in lengths]


BUILDERS = {
    "plain": ag.attention,
    "causal": lambda q, k, v: ag.attention(q, k, v, is_causal=True),
    "sigmoid": lambda q, k, v: ag.sigmoid(q @ k.mT / 4) @ v,
    "distance": lambda q, k, v: ag.softmax(-((q[..., :, None, :] - k[..., None, :, :]) ** 2).sum(-1), axis=-1) @ v,
    "tables": lambda q, k, v: ag.flex_attention(
        q, k, v, score_mod=lambda s, b, h, i, j: s + ag.asarray(np.linspace(0, 1, HEADS, dtype="float32"))[h] * (j - i)
    ),
    "bias": lambda q, k, v: ag.attention(
        q, k, v, bias=ag.asarray(np.random.default_rng(1).random((ROWS, COLUMNS), dtype="float32"))
    ),
}


@pytest.mark.parametrize("where", ["memory", "queries on disk", "all on disk"])
@pytest.mark.parametrize("name", BUILDERS)
def test_bits_are_those_of_compute(name, where):
    given = arrays()
    lazy = [ag.asarray(Read(each)) for each in given]
    kept = {"memory": 0, "queries on disk": 1, "all on disk": 3}[where]
    inputs = [*lazy[:kept], *map(ag.asarray, given[kept:])]
    wanted = BUILDERS[name](*map(ag.asarray, given)).compute()
    for rows, chunks in (
        (None, (2, HEADS, 300, 16)),
        (64, (1, 1, 64, 16)),
        (64, (1, HEADS, 128, 8)),
        (1, (2, 2, 7, 3)),
    ):
        target = Written(wanted.shape, chunks)
        ag.store(BUILDERS[name](*inputs), target, rows=rows)
        assert target.array.tobytes() == wanted.tobytes()
        assert set(target.times.values()) == {1}


def test_queries_are_read_as_they_are_needed():
    q, k, v = arrays()
    read = Read(q)
    target = Written(q.shape, (1, 1, 64, WIDTH))
    ag.store(ag.attention(ag.asarray(read), k, v), target, rows=64)
    assert read.largest == 64 * WIDTH
    assert len(read.boxes) == 2 * HEADS * 5


def test_results_and_queries_larger_than_the_limit(tmp_path):
    q, k, v = arrays(rows=20_000, columns=300, batch=1)
    stored = zarr.create_array(str(tmp_path / "q"), shape=q.shape, chunks=(1, 1, 1024, WIDTH), dtype="float32")
    stored[:] = q
    target = zarr.create_array(str(tmp_path / "out"), shape=q.shape, chunks=(1, 1, 1024, WIDTH), dtype="float32")
    expression = ag.attention(ag.asarray(stored), k, v)
    wanted = ag.attention(q, k, v).compute()
    limit = q.nbytes // 4
    with ag.config.set(memory_limit=limit):
        with pytest.raises(ag.LimitError):
            expression.compute()
        ag.store(expression, target)  # compiled now
        target[:] = 0
        gc.collect()
        tracemalloc.start()
        ag.store(expression, target)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < q.nbytes / 2
    assert np.asarray(target[:]).tobytes() == wanted.tobytes()


def test_a_limit_too_small_says_the_smallest_possible():
    q, k, v = arrays()
    target = Written(q.shape, q.shape)

    def expression():
        return ag.attention(ag.asarray(Read(q)), ag.asarray(Read(k)), ag.asarray(Read(v)))

    with ag.config.set(memory_limit=100), pytest.raises(ag.LimitError, match="store: needs") as raised:
        ag.store(expression(), target)
    least = int(re.search("smallest possible is ([0-9]+)", str(raised.value))[1])
    with ag.config.set(memory_limit=least):
        ag.store(expression(), target)
    assert target.array.tobytes() == ag.attention(q, k, v).compute().tobytes()


def test_several_results_of_one_sweep_in_one_walk():
    q, k, v = arrays()
    read = Read(k)
    out, lse = ag.attention(q, ag.asarray(read), v, return_lse=True)
    targets = [Written(q.shape, (1, HEADS, 100, WIDTH)), Written(q.shape[:-1], (2, HEADS, 64))]
    ag.store([out, lse], targets)
    for target, wanted in zip(targets, ag.compute(out, lse), strict=True):
        assert target.array.tobytes() == wanted.tobytes()


def test_what_is_no_sweep_is_computed_whole(tmp_path):
    x = np.arange(12, dtype="float32").reshape(3, 4)
    target = zarr.create_array(str(tmp_path / "out"), shape=(4, 3), chunks=(2, 2), dtype="float32")
    ag.store(ag.asarray(x).mT * 2, target)
    assert np.array_equal(target[:], x.T * 2)
    mapped = np.memmap(tmp_path / "map", "float64", "w+", shape=(3,))
    ag.store([ag.asarray(x).sum(axis=1).astype("float64")], [mapped])
    assert np.array_equal(mapped, x.sum(axis=1))
    with ag.config.set(target="reference"):
        ag.store(ag.asarray(x) + 1, y := np.empty_like(x))
    assert np.array_equal(y, x + 1)


def test_attention_of_other_types():
    q, k, v = (each.astype(ml_dtypes.bfloat16) for each in arrays())
    expression = ag.attention(q, k, v)
    target = Written(q.shape, (1, 1, 64, WIDTH), ml_dtypes.bfloat16)
    ag.store(expression, target)
    assert target.array.tobytes() == expression.compute().tobytes()


def test_gradients_with_respect_to_stored_keys_and_values(tmp_path):
    q, k, v = (each[0] for each in arrays())
    with ag.KVStore.create(tmp_path / "memory", HEADS, WIDTH) as memory:
        memory.append(k, v)

        def loss(keys, values):
            return (ag.attention(q, keys, values) ** 2).sum()

        gradients = ag.grad(loss, argnums=(0, 1))(memory.keys, memory.values)
        wanted = ag.compute(*ag.grad(loss, argnums=(0, 1))(ag.asarray(k), ag.asarray(v)))
        with ag.KVStore.create(tmp_path / "gradients", HEADS, WIDTH) as target:
            ag.store(gradients, target)
            assert target.keys.compute().tobytes() == wanted[0].tobytes()
            assert target.values.compute().tobytes() == wanted[1].tobytes()
        read_only = ag.KVStore.open(tmp_path / "gradients")
        with pytest.raises(ag.StoreError, match="opened to be read"):
            ag.store(gradients, read_only)
        with pytest.raises(ag.ArgumentError, match="a pair of sources"):
            ag.store(gradients[0], read_only)
        outs = [np.empty_like(k), np.empty_like(v)]
        ag.store(gradients, outs)
        assert all(out.tobytes() == each.tobytes() for out, each in zip(outs, wanted, strict=True))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_what_is_not_finite_and_counts_is_an_error(which, bad):
    given = arrays()
    given[which][1, 2, 250, 3] = bad
    lazy = [ag.asarray(Read(each)) for each in given]
    for inputs in (lazy, [lazy[0], *given[1:]]):
        with pytest.raises(ag.NonFiniteError):
            ag.store(ag.attention(*inputs), Written(given[0].shape, (1, 1, 64, WIDTH)), rows=64)


def test_what_is_not_finite_and_hidden_changes_all_pieces_alike():
    q, k, v = arrays()
    q[1, 2, 250] = np.nan
    i, j = ag.arange(ROWS)[:, None], ag.arange(COLUMNS)[None, :]
    visible = (i != 250) & (j >= 0)

    def expression(q):
        return ag.attention(q, k, v, mask=visible)

    wanted = expression(ag.asarray(q)).compute()
    target = Written(q.shape, (1, 1, 64, WIDTH))
    ag.store(expression(ag.asarray(Read(q))), target, rows=64)
    assert target.array.tobytes() == wanted.tobytes()
    assert set(target.times.values()) == {1, 2}  # begun anew when it was found


def test_overflow_on_the_way_is_settled():
    q, k, v = arrays()
    q[1, 1, 200:210] *= 1e30
    k *= 1e10
    wanted = ag.attention(q, k, v).compute()
    target = Written(q.shape, (1, 1, 64, WIDTH))
    ag.store(ag.attention(ag.asarray(Read(q)), k, v), target, rows=64)
    assert target.array.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(
    ("sources", "targets", "options", "error", "said"),
    [
        ([1, 2], [np.empty(3)], {}, ag.ArgumentError, "2 sources for 1 targets"),
        ([], [], {}, ag.ArgumentError, "0 sources for 0 targets"),
        (
            1,
            np.empty((4, 3), "float32"),
            {},
            ag.ShapeError,
            r"target 0 has shape \[4, 3\] where the source has \[3, 4\]",
        ),
        (1, np.empty((3, 4), "float64"), {}, ag.DTypeError, "target 0 is float64 where the source is float32"),
        (1, [[0.0]], {}, ag.ArgumentError, "written to by slices, not list"),
        (1, "out.zarr", {}, ag.ArgumentError, "written to by slices, not str"),
        ([1, 2], np.empty((3, 4), "float32"), {}, ag.ArgumentError, "2 sources for one target"),
        (1, np.empty((3, 4), "float32"), {"rows": 0}, ag.ArgumentError, "rows is at least 1"),
        (1, np.empty((3, 4), "float32"), {"rows": 1.5}, ag.ArgumentError, "rows is an integer"),
    ],
)
def test_errors(sources, targets, options, error, said):
    x = ag.ones((3, 4))
    given = [x for _ in sources] if isinstance(sources, list) else x
    with pytest.raises(error, match=said):
        ag.store(given, targets, **options)


def test_targets_that_cannot_be_written(tmp_path):
    x = np.ones((3, 4), "float32")
    read_only = np.empty_like(x)
    read_only.flags.writeable = False
    with pytest.raises(ag.ArgumentError, match=r"target 0 .* is read-only"):
        ag.store(ag.asarray(x) + 1, read_only)
    stored = zarr.create_array(str(tmp_path / "out"), shape=x.shape, chunks=(2, 2), dtype="float32")
    with pytest.raises(ag.ArgumentError, match=r"target 0 .*out.* is read-only"):
        ag.store(ag.asarray(x) + 1, zarr.open_array(str(tmp_path / "out"), mode="r"))
    with pytest.raises(ag.ArgumentError, match="shares memory with an input"):
        ag.store(ag.asarray(x) + 1, x)
    with pytest.raises(ag.ArgumentError, match="shares memory with another target"):
        ag.store([ag.asarray(x) + 1, ag.asarray(x) + 2], [y := np.empty_like(x), y])
    with pytest.raises(ag.ArgumentError, match="is a target, and an input"):
        ag.store(ag.asarray(stored) + 1, zarr.open_array(str(tmp_path / "out"), mode="r+"))


def test_a_target_that_fails_is_named(monkeypatch):
    class Full(Written):
        def __setitem__(self, box, values):
            raise OSError(28, "No space left on device")

    q, k, v = arrays()
    with pytest.raises(ag.StoreError, match=r"store: Full\[0:.*\]: No space left on device"):
        ag.store(ag.attention(q, k, v), Full(q.shape, q.shape))


def test_steps_before_the_last_one_run_once(monkeypatch):
    q, k, v = arrays()
    read = Read(k)
    calls = []
    real = Pieces._before
    monkeypatch.setattr(Pieces, "_before", lambda self: calls.append(1) or real(self))
    keys = ag.layer_norm(ag.asarray(read), (WIDTH,))
    expression = ag.attention(ag.attention(q, keys, v), keys, v)
    target = Written(q.shape, (1, 1, 64, WIDTH))
    ag.store(expression, target, rows=64)
    assert calls == [1]
    assert target.array.tobytes() == expression.compute().tobytes()


@pytest.mark.parametrize("is_stored", [False, True])
def test_keys_that_are_split(monkeypatch, is_stored):
    cut_whatever_the_work(monkeypatch)
    q, k, v = arrays(rows=130, columns=3 * UNIT + 7, batch=1)
    wanted = ag.attention(q, k, v).compute()
    inputs = [ag.asarray(Read(each)) for each in (q, k, v)] if is_stored else (q, k, v)
    target = Written(q.shape, (1, 1, 64, WIDTH))
    with ag.config.set(memory_limit=4_000_000 if is_stored else None):
        ag.store(ag.attention(*inputs), target, rows=64)
    assert target.array.tobytes() == wanted.tobytes()
    assert set(target.times.values()) == {1}
