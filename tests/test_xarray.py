"""DataArrays of lazy arrays: lazy through what xarray does with them, until somebody wants the numbers."""

import pickle
import warnings

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.immediate import evaluate_now
from attngraph.ops import array as ops_array
from attngraph.ops import chunked

xr = pytest.importorskip("xarray")
X = np.arange(24, dtype="float32").reshape(2, 3, 4) - 7
Y = xr.DataArray(X[0], dims=("b", "c"))


def plain(values=X):
    return xr.DataArray(
        values, dims=("a", "b", "c"), coords={"a": [10, 20], "b": list("xyz")}, attrs={"unit": "m"}, name="n"
    )


def lazy(values=X):
    return plain(ag.asarray(values) * 1)


@pytest.fixture
def evaluations(monkeypatch):
    """Every evaluation, by whatever way."""
    found = []

    def counted(roots, *args, **kwargs):
        found.append(list(roots))
        return evaluate_now(roots, *args, **kwargs)

    for module in (ops_array, chunked):
        monkeypatch.setattr(module, "evaluate_now", counted)
    return found


SELECTIONS = {
    "isel": lambda d: d.isel(a=0),
    "isel slice": lambda d: d.isel(b=slice(1, 3)),
    "isel lists": lambda d: d.isel(a=[1, 0], b=[0, 2]),
    "isel backwards": lambda d: d.isel(b=slice(None, None, -1)),
    "sel": lambda d: d.sel(a=20),
    "sel list": lambda d: d.sel(b=["x", "z"]),
    "sel slice": lambda d: d.sel(a=slice(5, 15)),
    "loc": lambda d: d.loc[10, "y":],
    "getitem": lambda d: d[0, ..., 1],
    "head": lambda d: d.head(c=2),
    "transpose": lambda d: d.transpose("c", "a", "b"),
    "T": lambda d: d.T,
    "rename": lambda d: d.rename(a="z").rename("m"),
    "squeeze": lambda d: d.isel(a=[0]).squeeze(),
    "expand_dims": lambda d: d.expand_dims(z=3),
    "broadcast_like": lambda d: d.broadcast_like(xr.DataArray(np.zeros(5), dims="w")),
    "stack": lambda d: d.stack(s=("a", "b")),
    "unstack": lambda d: d.stack(s=("a", "b")).unstack(),
    "concat": lambda d: xr.concat([d, d], "a"),
    "concat along a new one": lambda d: xr.concat([d, d], "q"),
    "roll": lambda d: d.roll(b=1, roll_coords=False),
    "shift": lambda d: d.shift(b=1),
    "pad": lambda d: d.pad(c=1),
    "reindex": lambda d: d.reindex(a=[10, 30]),
    "align": lambda d: xr.align(d, d.isel(a=[0]))[0],
    "sortby": lambda d: d.sortby("b", ascending=False),
    "assign_coords": lambda d: d.assign_coords(c=range(4)),
    "drop_vars": lambda d: d.drop_vars("a"),
    "copy": lambda d: d.copy(),
    "deep copy": lambda d: d.copy(deep=True),
    "dataset": lambda d: d.to_dataset(name="q")["q"],
    "pickle": lambda d: pickle.loads(pickle.dumps(d)),
}
ARITHMETIC = {
    "scalar": lambda d: 1 + d * 2 - 3 / (d + 0.5),
    "power": lambda d: d**2,
    "negative": lambda d: -abs(d),
    "compare": lambda d: (d > 3) & ~(d >= 9),
    "another": lambda d: d * Y,
    "another on the left": lambda d: Y - d,
    "itself": lambda d: d * d.isel(a=[0, 1]),
    "numpy": lambda d: d + X,
    "numpy on the left": lambda d: X - d,
    "where": lambda d: xr.where(d > 3, d, 0),
    "method where": lambda d: d.where(d > 3),
    "where and other": lambda d: d.where(d > 3, -1),
    "exp": np.exp,
    "maximum": lambda d: np.maximum(d, 3),
    "clip": lambda d: d.clip(1, 5),
    "astype": lambda d: d.astype("float64"),
    "round": lambda d: d.round(),
    "fillna": lambda d: d.where(d > 3).fillna(0),
    "isnull": lambda d: d.where(d > 3).isnull(),
    "notnull": lambda d: d.notnull(),
    "matmul": lambda d: d @ Y,
    "dot": lambda d: xr.dot(d, Y, dim="c"),
    "diff": lambda d: d.diff("c"),
    "cumsum": lambda d: d.cumsum("c"),
    "groupby": lambda d: d.groupby("b").mean(),
    "coarsen": lambda d: d.coarsen(c=2).mean(),
    "weighted": lambda d: d.weighted(xr.DataArray([1.0, 2, 3], dims="b")).mean("b"),
    "allowed": lambda d: xr.apply_ufunc(np.exp, d, dask="allowed"),
}
REDUCTIONS = {
    f"{name} over {dim}, {skipna}": lambda d, name=name, dim=dim, skipna=skipna: getattr(d, name)(dim, skipna=skipna)
    for name in ("mean", "sum", "max", "min", "std", "var", "prod")
    for dim, skipna in (("b", None), (None, None), (("a", "c"), False))
}
REDUCTIONS["count"] = lambda d: d.where(d > 0).count("c")
REDUCTIONS["any"] = lambda d: (d > 3).any("c")
REDUCTIONS["all"] = lambda d: (d > 3).all()
REDUCTIONS["argmax"] = lambda d: d.argmax("c")
REDUCTIONS["mean without what is missing"] = lambda d: d.where(d > 0).mean("b")


@pytest.mark.parametrize("name", [*SELECTIONS, *ARITHMETIC, *REDUCTIONS])
def test_it_stays_lazy(name, evaluations):
    function = {**SELECTIONS, **ARITHMETIC, **REDUCTIONS}[name]
    found = function(lazy())
    assert isinstance(found.data, ag.Array)
    repr(found)
    assert "attngraph.Array" in found._repr_html_()
    assert not evaluations
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        wanted = function(plain())
    computed = found.compute()
    assert len(evaluations) == 1
    assert isinstance(computed.data, np.ndarray)
    xr.testing.assert_allclose(computed, wanted, rtol=1e-5)
    assert computed.attrs == wanted.attrs
    assert computed.name == wanted.name


def test_ways_to_the_numbers(evaluations):
    ways = ["values", "compute().data", "to_numpy()", "as_numpy().data", "attn.compute().data", "__array__()"]
    for number, way in enumerate(ways):
        np.testing.assert_array_equal(eval(f"d.{way}", {"d": lazy()}), X)
        assert len(evaluations) == number + 1
    loaded = lazy()
    assert loaded.load() is loaded
    assert isinstance(loaded.data, np.ndarray)
    assert isinstance(lazy().persist().data, np.ndarray)


def test_a_dataset_is_one_evaluation(evaluations):
    data = lazy()
    dataset = xr.Dataset({"one": data.drop_vars("a") + 1, "two": data.drop_vars("a") * 2, "plain": Y})
    computed = dataset.compute()
    assert len(evaluations) == 1
    assert len(evaluations[0]) == 2
    np.testing.assert_array_equal(computed.two.data, X * 2)
    assert isinstance(dataset.two.data, ag.Array)
    assert "attngraph.Array" in repr(dataset)
    assert not isinstance(dataset.mean().compute().one.data, ag.Array)


def test_chunks_and_what_cannot_be():
    assert lazy().chunks == ((2,), (3,), (4,))
    with pytest.raises(ValueError, match="dask"):  # xarray's own: a function might want numbers
        xr.apply_ufunc(np.exp, lazy())
    with pytest.raises(ag.LimitError, match="dask='allowed'"):
        xr.apply_ufunc(np.exp, lazy(), dask="parallelized", output_dtypes=["float32"])
    with pytest.raises(ag.TraceError, match="nanmedian"):
        lazy().median("b")
    assert (lazy() > 3).any()  # xarray takes the value of a truth


def test_lazy_arrays_on_either_side():
    for found in (lazy() + ag.asarray(X), ag.asarray(X) + lazy()):
        assert isinstance(found, xr.DataArray)
        assert isinstance(found.data, ag.Array)
        np.testing.assert_array_equal(found.values, X + X)


def test_it_is_written_to_a_store(tmp_path):
    pytest.importorskip("zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (lazy() * 2).drop_vars("b").to_dataset(name="q").compute().to_zarr(tmp_path / "store")
        np.testing.assert_array_equal(xr.open_zarr(tmp_path / "store").q.values, X * 2)


def test_attention_on_labelled_lazy_arrays_is_one_graph(evaluations):
    rng = np.random.default_rng(0)
    q, k, v = (xr.DataArray(ag.asarray(rng.standard_normal((1, 2, 6, 4), "float32")), dims=list("bhtd")) for _ in "qkv")
    out = (ag.asarray(ag.attention(q, k, v)) * 2).to_xarray()
    assert not evaluations
    assert out.values.shape == (1, 2, 6, 4)
