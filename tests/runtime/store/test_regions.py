import gc
import mmap
import os

import numpy as np
import pytest

from attngraph.runtime.store.maps import WrongSizeError
from attngraph.runtime.store.regions import Regions, Shape, is_possible, mapped_together

ROWS = mmap.PAGESIZE // 16
SHAPE = Shape(2, ROWS, 4, np.dtype("<f4"), mmap.PAGESIZE + 20)


def write(path, value):
    path.write_bytes(np.full((ROWS, 4), value, "<f4").tobytes() + bytes(20))


@pytest.fixture
def files(tmp_path):
    for head in range(2):
        for unit in range(3):
            write(tmp_path / f"{head}.{unit}", 10 * head + unit)
    return [(head, unit, str(tmp_path / f"{head}.{unit}")) for head in range(2) for unit in range(3)]


def test_files_are_one_array(files, tmp_path):
    regions = Regions(2)
    region = mapped_together(regions, str(tmp_path), SHAPE, 3, files)
    whole = np.asarray(region)
    assert whole.shape == (2, 4 * ROWS, 4)  # with room for one more
    assert not whole.flags.writeable
    for head, unit, _ in files:
        assert (whole[head, unit * ROWS : (unit + 1) * ROWS] == 10 * head + unit).all()
    region.fetch(range(2), range(5, 3 * ROWS))
    assert mapped_together(regions, str(tmp_path), SHAPE, 4, []) is region


def test_another_file_in_a_files_place_makes_another_region(files, tmp_path):
    regions = Regions(2)
    first = mapped_together(regions, str(tmp_path), SHAPE, 3, files)
    view = np.asarray(first)[1, :ROWS]
    write(tmp_path / "new", 7)
    os.replace(tmp_path / "new", tmp_path / "1.0")  # noqa: PTH105
    second = mapped_together(regions, str(tmp_path), SHAPE, 3, files)
    assert second is not first
    assert (np.asarray(second)[1, :ROWS] == 7).all()
    del first
    gc.collect()
    assert (view == 10).all()


def test_missing_and_truncated_files(files, tmp_path):
    regions = Regions(2)
    mapped_together(regions, str(tmp_path), SHAPE, 3, files)
    os.truncate(files[0][2], 100)
    with pytest.raises(WrongSizeError):
        mapped_together(regions, str(tmp_path), SHAPE, 3, files)
    os.unlink(files[0][2])  # noqa: PTH108
    with pytest.raises(FileNotFoundError):
        mapped_together(regions, str(tmp_path), SHAPE, 3, files)


def addresses_of(region):
    start = np.asarray(region).__array_interface__["data"][0]
    with open("/proc/self/maps") as lines:  # noqa: PTH123
        return any(line.startswith(f"{start:x}-") for line in lines)


def test_their_number_is_bounded_and_they_end_with_their_last_view(files, tmp_path):
    regions = Regions(1)
    region = mapped_together(regions, str(tmp_path), SHAPE, 3, files)
    start = np.asarray(region).__array_interface__["data"][0]
    mapped_together(regions, "elsewhere", SHAPE, 3, files)
    assert len(regions) == 1
    assert addresses_of(region)
    del region
    gc.collect()
    with open("/proc/self/maps") as lines:  # noqa: PTH123
        assert not any(line.startswith(f"{start:x}-") and str(tmp_path) in line for line in lines)
    regions.forget("else")
    assert len(regions) == 1
    regions.forget(".")
    assert len(regions) == 1


def test_a_folders_regions_are_forgotten(files, tmp_path):
    regions = Regions(2)
    mapped_together(regions, str(tmp_path), SHAPE, 3, files)
    regions.forget(str(tmp_path.parent))
    assert len(regions) == 0


def test_a_child_reads_on(files, tmp_path):
    regions = Regions(2)
    whole = np.asarray(mapped_together(regions, str(tmp_path), SHAPE, 3, files))
    child = os.fork()
    if child == 0:
        regions.new_process()
        again = np.asarray(mapped_together(regions, str(tmp_path), SHAPE, 3, files))
        os._exit(0 if (again[:, : 3 * ROWS] == whole[:, : 3 * ROWS]).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_what_cannot_be_mapped_side_by_side():
    assert is_possible(SHAPE, 3)
    assert not is_possible(SHAPE._replace(unit=ROWS + 1), 3)
    assert not is_possible(SHAPE, 10**5)
