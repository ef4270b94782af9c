"""A kernel's share of what the processor can do: it runs in turn with multiply-adds alone, about as many."""

from collections.abc import Callable
from typing import NamedTuple

from measure import paired

from attngraph.engine.codegen.target import named_target
from attngraph.engine.config import config
from attngraph.engine.roofline import MultiplyAdds


class Share(NamedTuple):
    """Operations a second, of the kernel and of multiply-adds alone, and the median of both speeds' ratios.

    A processor's clock changes from second to second: a peak of another minute would be no measure.
    """

    flops: float
    peak_flops: float
    of_peak: float


def share_of_peak(run: Callable[[], object], work: float, rounds: int) -> Share:
    """Run the kernel beside multiply-adds, for the processor and the threads that are set.

    Args:
        run: A call.
        work: Its operations that count, two for a multiply-add.
        rounds: How many pairs.
    """
    settings = config.settings()
    target = named_target(settings.target)
    once = MultiplyAdds(target, settings.threads, settings.cache_dir)
    adding = MultiplyAdds(target, settings.threads, settings.cache_dir, times=max(1, round(work / once.operations)))
    times = paired(run, adding, rounds)
    return Share(work / times.ours, adding.operations / times.other, times.ratio * work / adding.operations)
