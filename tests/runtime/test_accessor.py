"""Attention by the names of dimensions, against attention by position."""

import itertools

import numpy as np
import pytest

import attngraph as ag
from checks import check_raises
from dense import attention as dense_attention
from dense import causal_mask

xr = pytest.importorskip("xarray")
RNG = np.random.default_rng(0)
SIZES = {"batch": 2, "heads": 3, "row": 5, "time": 7, "feature": 8, "value": 4}


def array(*dims, name=None, **sizes):
    shape = [{**SIZES, **sizes}[dim] for dim in dims]
    coords = {dim: np.arange(n) * 10 for dim, n in zip(dims, shape, strict=True) if dim in ("row", "time", "value")}
    return xr.DataArray(RNG.standard_normal(shape).astype("float32"), coords, dims, name, {"of": name})


def attend(q, k, v, **options):
    return q.attn.attention(k, v, **{"dim": "feature", "over": "time", **options})


def wanted(q, k, v, *order, **options):
    """By position."""
    arrays = [x.transpose(*each).values for x, each in zip((q, k, v), order, strict=True)]
    return dense_attention(*arrays, **options)


ORDER = (
    ("batch", "heads", "row", "feature"),
    ("batch", "heads", "time", "feature"),
    ("batch", "heads", "time", "value"),
)
Q, K, V = array(*ORDER[0], name="q"), array(*ORDER[1], name="k"), array(*ORDER[2], name="v")


@pytest.mark.parametrize("turn", range(4))
def test_dimensions_in_any_order(turn):
    q, k, v = (x.transpose(*list(itertools.permutations(x.dims))[5 * turn + 2]) for x in (Q, K, V))
    out, lse = attend(q, k, v, return_lse=True)
    assert isinstance(out.data, ag.Array)
    assert out.dims == tuple("value" if dim == "feature" else dim for dim in q.dims)
    assert lse.dims == tuple(dim for dim in q.dims if dim != "feature")
    values, sums = wanted(Q, K, V, *ORDER)
    np.testing.assert_allclose(out.transpose("batch", "heads", "row", "value").values, values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(lse.transpose("batch", "heads", "row").values, sums, rtol=1e-4, atol=1e-5)


def test_labels():
    q = Q.assign_coords(run=3, feature=range(8), place=(("batch", "row"), np.ones((2, 5))))
    out = attend(q, K.assign_coords(feature=range(8)), V)
    assert (out.name, out.attrs) == ("q", {"of": "q"})
    assert sorted(out.coords) == ["place", "row", "run", "value"]
    assert list(out.value.values) == [0, 10, 20, 30]
    assert sorted(out.compute().sel(row=20, value=[0, 30]).coords) == ["place", "row", "run", "value"]
    with xr.set_options(keep_attrs=False):
        assert attend(q, K.assign_coords(feature=range(8)), V).attrs == {}


def test_it_is_lazy_until_computed():
    out = attend(Q, K, V)
    later = (out.isel(row=slice(1, 3)) * 2).mean("batch")
    assert isinstance(later.data, ag.Array)
    np.testing.assert_allclose(later.values, (out.compute().isel(row=slice(1, 3)) * 2).mean("batch").values, rtol=1e-5)
    assert isinstance(out.attn.compute().data, np.ndarray)


@pytest.mark.parametrize("causal", [False, True, "lower_right"])
def test_self_attention(causal):
    x = array("time", "batch", "feature")
    out = attend(x, x, x, is_causal=causal)
    assert out.dims == x.dims
    values = x.transpose("batch", "time", "feature").values
    visible = causal_mask(7, 7) if causal else True
    reference = dense_attention(values, values, values, visible=visible)[0]
    np.testing.assert_allclose(out.transpose("batch", "time", "feature").values, reference, rtol=1e-4, atol=1e-5)
    assert list(out.time.values) == list(x.time.values)


def test_a_cache_of_another_length():
    q, k = array("time", "feature", time=2), array("time", "feature", name="k")
    out = attend(q, k, k, is_causal="lower_right")
    reference = dense_attention(q.values, k.values, k.values, visible=causal_mask(2, 7, 5))[0]
    np.testing.assert_allclose(out.values, reference, rtol=1e-4, atol=1e-5)
    assert list(out.time.values) == [0, 10]


def test_one_query_and_values_of_no_width():
    q, k, v = array("feature"), array("time", "feature"), array("time")
    out, lse = attend(q, k, v, return_lse=True)
    assert out.dims == lse.dims == ()
    reference = dense_attention(q.values[None], k.values, v.values[:, None])
    assert float(out.compute()) == pytest.approx(reference[0].item(), rel=1e-5)
    assert float(lse.compute()) == pytest.approx(reference[1].item(), rel=1e-5)


def test_batches_that_only_some_have():
    q, k, v = array("row", "heads", "feature"), array("batch", "time", "feature"), array("time", "heads", "value")
    out = attend(q, k, v)
    assert out.dims == ("batch", "row", "heads", "value")
    big = [x.broadcast_like(y).transpose(*o) for x, y, o in zip((q, k, v), (Q, K, V), ORDER, strict=True)]
    reference = xr.DataArray(wanted(*big, *ORDER)[0], dims=("batch", "heads", "row", "value"))
    np.testing.assert_allclose(out.values, reference.transpose(*out.dims).values, rtol=1e-4, atol=1e-5)


def test_several_dimensions_of_rows():
    q = array("row", "value", "feature").rename(value="column")
    k = array("time", "feature")
    out = attend(q, k, k)
    assert out.dims == q.dims
    reference = dense_attention(q.values.reshape(20, 8), k.values, k.values)[0].reshape(5, 4, 8)
    np.testing.assert_allclose(out.values, reference, rtol=1e-4, atol=1e-5)
    with pytest.raises(ag.ArgumentError, match=r"\['row', 'column'\]"):
        attend(q, k, k, is_causal=True)


def test_heads_in_groups():
    q, k, v = (
        array("row", "heads", "feature", heads=6),
        array("heads", "time", "feature"),
        array("heads", "time", "value"),
    )
    out = attend(q, k, v, heads="heads")
    reference = dense_attention(q.transpose("heads", "row", "feature").values, k.values, v.values)[0]
    np.testing.assert_allclose(out.transpose("heads", "row", "value").values, reference, rtol=1e-4, atol=1e-5)
    with pytest.raises(ag.ShapeError, match="heads='heads' lets groups share"):
        attend(q, k, v)


def test_masks_and_biases():
    mask = xr.DataArray(RNG.random((7, 2, 5)) < 0.6, dims=("time", "batch", "row"))
    bias = array("heads", "time")
    reference = wanted(
        Q, K, V, *ORDER, visible=mask.transpose("batch", "row", "time").values[:, None], bias=bias.values[:, None, :]
    )[0]
    np.testing.assert_allclose(attend(Q, K, V, mask=mask, bias=bias).values, reference, rtol=1e-4, atol=1e-5)
    by_place = mask.transpose("batch", "row", "time").values[:, None]
    np.testing.assert_allclose(attend(Q, K, V, mask=by_place, bias=bias).values, reference, rtol=1e-4, atol=1e-5)
    block = ag.create_block_mask(lambda b, h, i, j: i >= j, None, None, 5, 7)
    np.testing.assert_allclose(
        attend(Q, K, V, mask=block).values, wanted(Q, K, V, *ORDER, visible=causal_mask(5, 7))[0], rtol=1e-4, atol=1e-5
    )
    x = array("time", "feature")
    padding = xr.DataArray(np.arange(7) < 4, dims="time")  # in self-attention too it is the keys'
    reference = dense_attention(x.values, x.values, x.values, visible=np.arange(7) < 4)[0]
    np.testing.assert_allclose(attend(x, x, x, mask=padding).values, reference, rtol=1e-4, atol=1e-5)


def test_over_dask_and_lazy_arrays():
    pytest.importorskip("dask.array")
    reference = attend(Q, K, V).values
    lazy = [x.copy(data=ag.asarray(x.values) + 0) for x in (Q, K, V)]
    for arrays in (lazy, [x.chunk(batch=1) for x in (Q, K, V)]):
        np.testing.assert_allclose(attend(*arrays).values, reference, rtol=1e-5, atol=1e-6)


def test_errors():
    check_raises(ag.ArgumentError, "keys is a DataArray, not ndarray", attend, Q, K.values, V)
    check_raises(ag.ArgumentError, "query has no dimension 'width': query {'batch': 2", attend, Q, K, V, dim="width")
    check_raises(ag.ArgumentError, "keys has no dimension 'when'", attend, Q, K, V, over="when")
    check_raises(ag.ArgumentError, "two dimensions, not both 'time'", attend, Q, K, V, dim="time")
    check_raises(ag.ArgumentError, "heads='row' is no dimension of all", attend, Q, K, V, heads="row")
    check_raises(ag.ShapeError, "query and keys differ in length along 'feature'", attend, Q, K.isel(feature=[0]), V)
    check_raises(ag.ShapeError, "keys and values differ in length along 'time'", attend, Q, K, V.isel(time=[0]))
    moved = V.assign_coords(time=range(7))
    check_raises(ag.ShapeError, "differ in their coordinates along 'time'; xarray.align", attend, Q, K, moved)
    wide = V.expand_dims(more=2)
    check_raises(ag.ArgumentError, r"values have \['more', 'value'\]", attend, Q, K, wide)
    strange = xr.DataArray(np.ones((7, 2), bool), dims=("time", "more"))
    check_raises(ag.ArgumentError, "mask has a dimension 'more'", attend, Q, K, V, mask=strange)
    check_raises(ag.DTypeError, "query is a float array", attend, Q.astype(int), K, V)
    check_raises(ag.DTypeError, "mask is boolean", attend, Q, K, V, mask=xr.DataArray(np.ones(7), dims="time"))
