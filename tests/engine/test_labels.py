"""What operators say of their axes' names: read off graphs, against what xarray itself says where it has the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attngraph as ag
from attngraph.engine.ir import walk
from attngraph.engine.labels import Axis, labels_of, reshaped, spread

xr = pytest.importorskip("xarray")
X = np.arange(120, dtype="float32").reshape(2, 3, 4, 5)


def array(dims="bhtd", shape=(2, 3, 4, 5), **coords):
    return xr.DataArray(np.arange(np.prod(shape), dtype="float32").reshape(shape), dims=list(dims), coords=coords)


A = ag.asarray(array(t=[0, 10, 20, 30], b=["x", "y"]))


def coordinates(lazy):
    (labels,) = labels_of([lazy.node], walk([lazy.node]), {})
    return {axis.dim: list(axis.coordinates[axis.dim].values) for axis in labels.axes if axis and axis.coordinates}


@pytest.mark.parametrize(
    ("lazy", "names"),
    [
        (A + 1, "bhtd"),
        (np.float32(1) - ag.exp(A), "bhtd"),
        (A + X, "bhtd"),
        (A + X[0, 0, 0], "bhtd"),
        (A + ag.asarray(array("td", (4, 5))), "bhtd"),
        (A + ag.asarray(array("dt", (4, 5))), "bh.."),
        (ag.where(ag.asarray(array("pqrs") > 0), A, 0.0), "bhtd"),
        (ag.where(A > 0, 1.0, 0.0), "bhtd"),
        (A.mT, "bhdt"),
        (A.T, "dthb"),
        (A.sum(-1), "bht"),
        (ag.mean(A, axis=(0, 2)), "hd"),
        (ag.max(A, axis=1, keepdims=True), "b.td"),
        (ag.logsumexp(A, axis=-1), "bht"),
        (ag.std(A, axis=0), "htd"),
        (ag.argmax(A, axis=1), "btd"),
        (ag.argmin(A, axis=1, keepdims=True), "b.td"),
        (ag.softmax(A, axis=2), "bhtd"),
        (ag.cumulative_sum(A, axis=2), "bhtd"),
        (ag.layer_norm(A), "bhtd"),
        (A @ ag.asarray(array("dw", (5, 2))), "bhtw"),
        (A @ np.ones((5, 6), "float32"), "bht."),
        (A @ A.mT, "bhtt"),
        (ag.einsum("bhtd->btd", A), "btd"),
        (A[0], "htd"),
        (A[..., 1], "bht"),
        (A[:, None], "b.htd"),
        (A[:, :, 1:3], "bhtd"),
        (A[:, :, np.array([0, 2])], "bhtd"),
        (A[:, :, np.array([[0, 2]])], "bh..d"),
        (ag.take(A, np.array([0, 2]), axis=1), "bhtd"),
        (ag.concat([A, A], axis=1), "bhtd"),
        (ag.stack([A, A]), ".bhtd"),
        (ag.sort(A, axis=2), "bhtd"),
        (ag.topk(A, 2)[0], "bhtd"),
        (ag.flip(A, axis=2), "bhtd"),
        (ag.broadcast_to(A, (7, 2, 3, 4, 5)), ".bhtd"),
        (A.reshape(2, 3, 20), "bh."),
        (A.reshape(2, 3, 2, 2, 5).reshape(2, 3, 4, 5), "bhtd"),
        (A.reshape(2, 3, 2, 2, 5), "bh..d"),
        (ag.stop_gradient(A).astype("float64"), "bhtd"),
        (ag.asarray(X), "...."),
    ],
)
def test_names(lazy, names):
    assert lazy.labels == tuple(None if name == "." else name for name in names)
    assert len(lazy.labels) == lazy.ndim


@pytest.mark.parametrize(
    ("lazy", "wanted"),
    [
        (A * 2, [0, 10, 20, 30]),
        (A[:, :, 1:3], [10, 20]),
        (A[:, :, ::-2], [30, 10]),
        (A[:, :, 4:], []),
        (ag.flip(A, axis=2), [30, 20, 10, 0]),
        (ag.flip(A[:, :, 1:], axis=2)[:, :, 1:], [20, 10]),
        (A + ag.asarray(array()), [0, 10, 20, 30]),
        (A + ag.asarray(array(t=[0, 10, 20, 30])), [0, 10, 20, 30]),
        (A + ag.asarray(array(t=[0, 10, 20, 31])), None),
        (ag.sort(A, axis=2), None),
        (A[:, :, np.array([2, 0])], None),
        (ag.concat([A, A], axis=2), None),
        (ag.concat([A, A], axis=1), [0, 10, 20, 30]),
        (ag.roll(A, 1, axis=2), None),
    ],
)
def test_coordinates(lazy, wanted):
    found = coordinates(lazy)
    assert found.get("t") == wanted
    assert found.get("b") == ["x", "y"]


def test_heads_in_groups_keep_their_name():
    q, k, v = array("bhtd"), array("bgsd", (2, 1, 7, 5)), array("bgsw", (2, 1, 7, 6), w=list("uvwxyz"))
    wide = array("bhtd", (2, 4, 4, 5), h=[1, 2, 3, 4])
    grouped = array("bgsd", (2, 2, 7, 5)), array("bgsw", (2, 2, 7, 6), w=list("uvwxyz"))
    for query, key, value in ((q, k, v), (wide, *grouped)):
        out, lse = ag.attention(query, key, value, enable_gqa=True, return_lse=True)
        assert out.labels == tuple("bhtw")
        assert lse.labels == tuple("bht")
        assert coordinates(out)["w"] == list("uvwxyz")
    assert coordinates(out)["h"] == [1, 2, 3, 4]
    causal = ag.flex_attention(q, q, q, lambda s, b, h, i, j: s - h * (i - j), is_causal_mask())
    assert causal.labels == tuple("bhtd")


def is_causal_mask():
    return ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, 4, 4)


@given(data=st.data())
@settings(max_examples=40)
def test_reshapes_there_and_back(data):
    """What has a name after a reshape is as long as before; and back again, nothing has another name."""
    shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    factors = [f for n in shape for f in {4: (2, 2), 6: (2, 3)}.get(n, (n,))]
    to = []
    while factors:
        count = data.draw(st.integers(1, min(2, len(factors))))
        to.append(int(np.prod(factors[:count])))
        factors = factors[count:]
        to += [1] * data.draw(st.integers(0, 1))
    axes = tuple(Axis(f"axis {n}") for n in range(len(shape)))
    there = reshaped(axes, shape, tuple(to))
    assert len(there) == len(to)
    for axis, length in zip(there, to, strict=True):
        if axis is not None and axis.part == (0, 1):
            assert length == shape[axes.index(axis)]
    back = reshaped(there, tuple(to), shape)
    assert all(axis is None or axis == own for axis, own in zip(back, axes, strict=True))


def test_what_is_repeated_has_no_name():
    axes = (Axis("a"), Axis("b"))
    assert spread(axes, (1, 3), (2, 2, 3)) == (None, None, axes[1])
    assert spread((), (), (2, 2)) == (None, None)
    assert reshaped(axes, (0, 3), (3, 0)) == (None, None)
