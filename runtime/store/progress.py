"""The bar that `KVStore.extend` shows."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(title: str, total: int | None, show: bool | None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while the block runs; gives the function to say how many rows more are done.

    Args:
        title: What stands before it.
        total: Rows in all; None if that is not known.
        show: Whether to show it; None to do so on a terminal.
    """
    if not (sys.stderr.isatty() if show is None else show):
        yield lambda rows: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda rows: bar.advance(task, rows)
