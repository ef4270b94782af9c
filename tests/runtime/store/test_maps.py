import os

import pytest

from attngraph.runtime.store.maps import Maps, WrongSizeError


@pytest.fixture
def files(tmp_path):
    made = [tmp_path / str(number) for number in range(4)]
    for number, file in enumerate(made):
        file.write_bytes(bytes([number]) * 100)
    return [str(file) for file in made]


def test_a_file_is_mapped_once(files):
    maps = Maps(2)
    first = maps.contents(files[1], 100)
    assert first.tobytes() == b"\1" * 100
    assert maps.contents(files[1], 100) is first
    assert not first.flags.writeable


def test_their_number_is_bounded_and_arrays_outlive_them(files):
    maps = Maps(2)
    kept = maps.contents(files[0], 100)
    for file in files[1:]:
        maps.contents(file, 100)
    assert len(maps) == 2
    assert kept.tobytes() == bytes(100)
    assert maps.contents(files[0], 100) is not kept


def test_size_and_identity_are_checked_each_time(files):
    maps = Maps(2)
    first = maps.contents(files[0], 100)
    with pytest.raises(WrongSizeError, match="its size is 100 bytes, and should be 99"):
        maps.contents(files[0], 99)
    os.replace(files[3], files[0])  # noqa: PTH105
    assert maps.contents(files[0], 100) is not first
    assert maps.contents(files[0], 100).tobytes() == b"\3" * 100
    os.truncate(files[0], 10)
    with pytest.raises(WrongSizeError):
        maps.contents(files[0], 100)
    with pytest.raises(FileNotFoundError):
        maps.contents(files[3], 100)


def test_a_folders_maps_are_forgotten(files, tmp_path):
    maps = Maps(4)
    for file in files:
        maps.contents(file, 100)
    maps.forget(str(tmp_path / "other"))
    assert len(maps) == 4
    maps.forget(str(tmp_path))
    assert len(maps) == 0
