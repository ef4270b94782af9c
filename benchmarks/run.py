"""What the README's figures come from: ``make bench`` prints the tables and writes build/bench/.

Every ratio compares two ways in one process, in turn (`measure.paired`); errors are against float64.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import accuracy
import calls
import growth
import numpy as np
import peers
import scores
import variants
from measure import paired
from threadpoolctl import threadpool_limits

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.roofline import roofline

Rows = list[dict[str, Any]]


class Section(NamedTuple):
    """A part of the report: what it says, and how its rows are made, from rounds and threads."""

    name: str
    title: str
    rows: Callable[[int, int], Rows]
    every_thread_count: bool = False


SECTIONS = (
    Section("variants", f"{variants.SHAPE}, one thread, against the same in NumPy", lambda r, _: variants.all_rows(r)),
    Section("torch", "against torch's scaled_dot_product_attention", peers.against_torch, every_thread_count=True),
    Section("onnxruntime", "against MultiHeadAttention", peers.against_onnxruntime, every_thread_count=True),
    Section("scores", f"{scores.SHAPE}, time over that of a plain score", scores.beside_plain, every_thread_count=True),
    Section("lanes", "one thread: time of the same kernel of one lane", lambda r, _: scores.beside_scalar(r)),
    Section("accuracy", "largest error against float64, beside torch's float32", lambda *_: accuracy.beside_torch()),
    Section("calls", "small problems, whole calls, against NumPy", lambda r, _: calls.against_numpy(r)),
    Section("growth", "MiB beyond inputs and output", lambda *_: growth.growth()),
)


def machine() -> str:
    """The processor's own name, where the system tells it, and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    with ag.config.set(threads=1):
        limits = roofline(config.settings())
    return (
        f"{name}, {ag.config.threads} threads, Python {platform.python_version()}, NumPy {np.__version__}; "
        f"one thread: {limits.flops / 1e9:.0f} Gflop/s of multiply-adds, {limits.bytes / 1e9:.0f} GB/s read"
    )


def import_milliseconds(rounds: int) -> float:
    """What ``import attngraph`` takes beyond an empty interpreter."""

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    times = paired(lambda: start("import attngraph"), lambda: start("pass"), rounds)
    return (times.ours - times.other) * 1e3


def table(rows: Rows) -> str:
    """Rows as a table in Markdown, a column for each name."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [_line([name.replace("_", " ") for name in names]), _line(["---"] * len(names))]
    lines += [_line([_cell(row.get(name, "")) for name in names]) for row in rows]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1e}" if value < 1e-3 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs")
    parser.add_argument("--only", choices=[section.name for section in SECTIONS], help="one section alone")
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else 15
    report: dict[str, Any] = {"machine": machine(), "import_milliseconds": import_milliseconds(rounds)}
    text = (
        f"{report['machine']}\nimport attngraph: {report['import_milliseconds']:.0f} ms beyond an empty interpreter\n"
    )
    print(text, flush=True)
    for section in SECTIONS:
        if arguments.only in (None, section.name):
            counts = sorted({1, ag.config.threads}) if section.every_thread_count else [1]
            report[section.name] = [row for threads in counts for row in measured(section, rounds, threads)]
            part = f"\n{section.name}: {section.title}\n\n{table(report[section.name])}\n"
            print(part, flush=True)
            text += part
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.output / "results.txt").write_text(text)


def measured(section: Section, rounds: int, threads: int) -> Rows:
    """A section's rows, NumPy's products on as many threads as ours."""
    with threadpool_limits(threads), ag.config.set(threads=threads):
        return section.rows(rounds, threads)


if __name__ == "__main__":
    main()
