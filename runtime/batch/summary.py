"""What a batch has done."""

from dataclasses import dataclass

_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))


@dataclass(frozen=True)
class BatchSummary:
    """What a call of `attngraph.batch` has done; ``str()`` is a report.

    Attributes:
        output: The folder of the results.
        chunks_done: How many chunks were computed.
        chunks_skipped: How many were there already.
        flops: Operations of native kernels, hidden positions among them; what NumPy ran is not counted.
        bytes_read: Bytes of the inputs, and of what is read from disk again for each chunk.
        bytes_written: Bytes of the results.
        seconds: From begin to end.
        fraction_of_peak: What the work takes at the least, by the multiply-adds that the processors can do with the
            threads they were given, over the time that the chunks took, reading and writing included; None where
            nothing was counted.
        instruction_sets: What computed the chunks, those that were skipped, too. With one of them the results are
            the bits of any other run with it; with several, those of each chunk are of its own.
    """

    output: str
    chunks_done: int
    chunks_skipped: int
    flops: int
    bytes_read: int
    bytes_written: int
    seconds: float
    fraction_of_peak: float | None
    instruction_sets: tuple[str, ...]

    def __str__(self) -> str:
        total = self.chunks_done + self.chunks_skipped
        peak = "" if self.fraction_of_peak is None else f", {self.fraction_of_peak:.0%} of peak"
        sets = ", ".join(self.instruction_sets) or "none"
        return (
            f"batch of {total} chunks to {self.output}: "
            f"{self.chunks_done} computed, {self.chunks_skipped} done before\n"
            f"  work {_scaled(self.flops)}flop, read {_scaled(self.bytes_read)}B, "
            f"written {_scaled(self.bytes_written)}B, in {self.seconds:.2f} s{peak}\n"
            f"  instruction sets: {sets}"
        )


def _scaled(number: float) -> str:
    scale, unit = next((each for each in _SCALES if number >= each[0]), _SCALES[-1])
    return f"{number / scale:.3g} {unit}"
