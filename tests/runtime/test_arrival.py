"""Whichever of two libraries is loaded second, they meet."""

import subprocess
import sys

import pytest

pytest.importorskip("xarray")

CHECK = "assert hasattr(xr.DataArray, 'attn'); assert xr.__spec__.loader is xr.__loader__; "


@pytest.mark.parametrize(
    "program",
    [
        "import attngraph, sys; assert 'xarray' not in sys.modules; import xarray as xr; " + CHECK,
        "import xarray as xr; assert not hasattr(xr.DataArray, 'attn'); import attngraph; " + CHECK,
        "import attngraph, importlib.util; assert importlib.util.find_spec('xarray').loader.is_package('xarray'); "
        "import xarray as xr; " + CHECK,
        "import attngraph, importlib.resources, xarray as xr; "
        "assert importlib.resources.files('xarray').joinpath('__init__.py').is_file(); " + CHECK,
    ],
)
def test_either_order(program):
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_an_import_that_fails_may_come_again(tmp_path, monkeypatch):
    from attngraph.runtime.arrival import when_loaded

    name = "attngraph_test_arrival"
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('not yet')")
    monkeypatch.syspath_prepend(tmp_path)
    before, met = list(sys.meta_path), []
    when_loaded(name, met.append)
    with pytest.raises(RuntimeError, match="not yet"):
        __import__(name)
    assert not met
    (tmp_path / f"{name}.py").write_text("there = 1 + 1")
    module = __import__(name)
    assert met == [module]
    assert module.there == 2
    assert sys.meta_path == before
    when_loaded(name, met.append)
    assert met == [module, module]
    del sys.modules[name]
