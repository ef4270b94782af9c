"""Memory maps as places in files."""

import pickle

import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.blocks import blocks_of
from attngraph.runtime.mapped_file import mapped_file


@pytest.fixture
def mapped(tmp_path):
    array = np.memmap(tmp_path / "file", "float32", "w+", offset=64, shape=(6, 5, 4))
    array[...] = np.arange(120).reshape(6, 5, 4)
    return array


VIEWS = [
    lambda x: x,
    lambda x: x[2:, ::2],
    lambda x: x.transpose(2, 0, 1),
    lambda x: x[::-1, :, 1:3],
    lambda x: x[1],
    lambda x: x[:0],
]


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_found_again(mapped, view):
    file = pickle.loads(pickle.dumps(mapped_file(view(mapped))))
    np.testing.assert_array_equal(file.whole(), view(mapped))
    blocks = blocks_of(file)
    box = tuple(slice(0, n) for n in file.shape)
    np.testing.assert_array_equal(blocks.read(box), view(mapped))


def test_it_ends_where_its_last_element_does(mapped):
    assert mapped_file(mapped).stop == 64 + mapped.nbytes
    assert mapped_file(mapped[:2]).stop == 64 + mapped[:2].nbytes
    assert mapped_file(mapped[::-1]).stop == 64 + mapped.nbytes


def test_what_is_no_place_in_a_file(tmp_path, mapped):
    assert mapped_file(np.zeros(3)) is None
    assert mapped_file(np.memmap(tmp_path / "file", "float32", "c", shape=(4,))) is None


def test_changes_that_never_get_to_the_file_are_computed_with(tmp_path, mapped):
    mapped.flush()
    own = np.memmap(tmp_path / "file", "float32", "c", offset=64, shape=(6, 5, 4))
    own[...] = 1
    assert (ag.compute(ag.asarray(own) * 2, scheduler="synchronous") == 2).all()


@pytest.mark.parametrize("contents", [None, b"", b"short"])
def test_a_file_that_is_not_as_it_was(mapped, tmp_path, contents):
    file = mapped_file(mapped)
    blocks = blocks_of(file)
    box = tuple(slice(0, n) for n in file.shape)
    blocks.read(box)
    if contents is None:
        (tmp_path / "file").unlink()
    else:
        (tmp_path / "file").write_bytes(contents)
    for read in (lambda: file.whole("batch"), lambda: blocks.read(box)):
        with pytest.raises(ag.StoreError, match="file"):
            read()
