"""No array of rows × columns is ever made: what an attention takes beyond its inputs and output is small."""

import tracemalloc

import numpy as np
import pytest
from sweeps import VARIANTS, B, H

import attngraph as ag

LENGTH = 768
# Those that are given such an array.
GIVEN = {"bias (S, S)", "bias (H, S, S)", "boolean mask"}


def inputs():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((B, H, LENGTH, 8)).astype("float32") for _ in range(3)]


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - GIVEN))
def test_a_tile_is_never_stored(name):
    build, _ = VARIANTS[name]
    compiled, arrays = ag.compile(build), inputs()
    compiled(*arrays)  # code is compiled and loaded
    tracemalloc.start()
    compiled(*arrays)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tile = B * H * LENGTH * LENGTH * 4
    assert peak < tile / 4, f"{peak} bytes, where one array of rows × columns is {tile}"
