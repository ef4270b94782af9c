"""How much a process grows beyond inputs and output while a long attention runs. Linux only.

Run as a script with a score's name and a length, it measures that one, in a process of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import scores

import attngraph as ag

LENGTH = 16384
NAMES = ("plain", "causal", "ALiBi", "gated", "differential", "Poincaré, direct")


def growth(length: int = LENGTH) -> list[dict[str, object]]:
    """A row for each score, each in a fresh process."""
    rows = []
    for name in NAMES:
        command = [sys.executable, __file__, name, str(length)]
        rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    return rows


def causal(q: object, k: object, v: object) -> object:
    return ag.attention(q, k, v, is_causal=True)


def measure(name: str, length: int) -> dict[str, object]:
    """Run it once at a short length, so that code is compiled and loaded; then watch the long one."""

    def score_of(length: int) -> scores.Score:
        qkv = ((1, 8, length, 64),) * 3
        ours = (scores.Score("plain", scores.plain, qkv), scores.Score("causal", causal, qkv))
        return next(score for score in (*ours, *scores.scores_of(length)) if score.name == name)

    compiled = ag.compile(score_of(length).graph)
    compiled(*scores.arrays_for(score_of(1024)))
    arrays = scores.arrays_for(score_of(length))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is the present from here on
    before = _peak()
    output = compiled(*arrays)
    return {"score": name, "length": length, "mebibytes": (_peak() - before - output.nbytes) / 2**20}


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
