"""How graphs are run: compiled functions, explanations, jobs."""

import importlib
from typing import Any

from ..ops.registry import FUNCTIONS
from .accessor import register
from .arrival import when_loaded

# Neither loads the other: whichever of the two libraries comes second meets the first.
when_loaded("xarray", register)


def _to_dask(x: Any, chunks: Any, *, keys: int | None) -> Any:
    tasks = importlib.import_module(".tasks", __package__)
    return tasks.to_dask(x, chunks, keys=keys)[0]


# Here, for an array may be asked for its tasks before anything is compiled.
FUNCTIONS["to_dask"] = _to_dask
