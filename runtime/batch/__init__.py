"""Batch jobs: a function mapped over arrays larger than memory, piece by piece, that goes on where it was stopped."""

from .run import batch as batch
from .summary import BatchSummary as BatchSummary
