"""How graphs are run: compiled functions, explanations, jobs."""

from .accessor import register
from .arrival import when_loaded

# Neither loads the other: whichever of the two libraries comes second meets the first.
when_loaded("xarray", register)
