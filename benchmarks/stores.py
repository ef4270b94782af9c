"""Stores: rows gathered from a large one beside zarr, and what an append takes.

``python benchmarks/stores.py`` prints the rows.
"""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import zarr
from measure import PAUSE, paired, seconds, turns

import attngraph as ag

ROWS, DIM, GATHERED = 524_288, 128, 1024
# So many rows are appended at once; memory holds no more of the store.
_BLOCK = 65_536
# Other rows each time, so that none of them is in the processor's caches from the last call.
_SETS = 8


def gathered_beside_zarr(rounds: int, folder: str | None = None) -> dict[str, Any]:
    """1,024 of 524,288 rows of 128 floats, at random: ours, zarr's ``oindex`` on the same files, and the ratio.

    Args:
        rounds: How many pairs of measurements.
        folder: Where to put the store, 512 MiB; the system's own if None.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "store"
        with ag.KVStore.create(path, heads=1, dim=DIM) as store:
            block = rng.standard_normal((1, _BLOCK, DIM), dtype="float32")
            store.extend(((block, block) for _ in range(ROWS // _BLOCK)), total=ROWS)
            ours, theirs = store.stored_array("keys"), zarr.open_group(path, mode="r")["keys"]
            inputs = [(np.sort(rng.choice(ROWS, GATHERED, replace=False)),) for _ in range(_SETS)]
            if not all(np.array_equal(ours.gather(0, *one), theirs.oindex[0, one[0]]) for one in inputs):
                raise AssertionError("not the same rows")
            gather = turns(lambda indices: ours.gather(0, indices), inputs)
            index = turns(lambda indices: theirs.oindex[0, indices], inputs)
            times = paired(gather, index, rounds, PAUSE, calls=_SETS)
    return {
        "case": f"gather {GATHERED:,} of {ROWS:,} rows x {DIM}",
        "milliseconds": times.ours * 1e3,
        "zarr_milliseconds": times.other * 1e3,
        "ratio": times.ratio,
    }


def appended_rows(rounds: int, folder: str | None = None) -> list[dict[str, Any]]:
    """Milliseconds of appending one row to 8 heads of 128, short store and long, with the disk's part and without."""
    rows = []
    block = np.random.default_rng(0).standard_normal((8, 4096, DIM), dtype="float32")
    one = block[:, :1]
    with tempfile.TemporaryDirectory(dir=folder) as place, ag.KVStore.create(Path(place) / "s", 8, DIM) as store:
        for blocks in (1, 15):
            store.extend((block, block) for _ in range(blocks))
            case = f"append 1 row x 8 heads x {DIM} to {len(store):,}"
            whole = _median(lambda: store.append(one, one), rounds)
            with mock.patch.object(os, "fsync"), mock.patch.object(os, "fdatasync"):
                own = _median(lambda: store.append(one, one), rounds)
            rows.append({"case": case, "milliseconds": whole * 1e3, "without_disk_milliseconds": own * 1e3})
    return rows


def _median(run: Callable[[], object], rounds: int) -> float:
    return float(np.median([seconds(run) for _ in range(rounds)]))


if __name__ == "__main__":
    print(gathered_beside_zarr(7))
    for row in appended_rows(50):
        print(row)
