"""What the README's figures come from: ``make bench`` prints the table and writes build/bench/.

Every ratio compares two ways in one process, in turn (`measure.paired`); errors are against float64.
"""

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import peers
from measure import paired
from threadpoolctl import threadpool_limits
from variants import VARIANTS, Variant

import attngraph as ag

SHAPE = (1, 8, 512, 64)


def inputs(dtype: str) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(SHAPE).astype(dtype) for _ in range(3)]


def error(result: np.ndarray, truth: np.ndarray) -> float:
    """Largest difference from float64, relative to the largest value."""
    return float(np.abs(result - truth).max() / np.abs(truth).max())


def measure_variant(variant: Variant, rounds: int) -> dict[str, object]:
    arrays = inputs("float32")
    truth = variant.numpy(*(array.astype("float64") for array in arrays))
    compiled = ag.compile(variant.graph)
    times = paired(lambda: compiled(*arrays), lambda: variant.numpy(*arrays), rounds)
    return {
        "variant": variant.name,
        "error": error(compiled(*arrays), truth),
        "numpy_error": error(variant.numpy(*arrays), truth),
        "milliseconds": times.ours * 1e3,
        "numpy_milliseconds": times.other * 1e3,
        "speed_against_numpy": times.ratio,
    }


def machine() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name}, {ag.config.threads} threads, Python {platform.python_version()}, NumPy {np.__version__}"


def import_milliseconds(rounds: int) -> float:
    """What ``import attngraph`` takes beyond an empty interpreter."""

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    times = paired(lambda: start("import attngraph"), lambda: start("pass"), rounds)
    return (times.ours - times.other) * 1e3


def table(rows: list[dict[str, object]]) -> str:
    """The README's table."""
    lines = [
        "| expression | largest error against float64 | the same written in NumPy | speed against NumPy |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        lines.append(
            f"| {row['variant']} | {row['error']:.1e} | {row['numpy_error']:.1e} | {row['speed_against_numpy']:.2f} × |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs")
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else 15
    # One thread for both: NumPy's BLAS is slow for a while after its thread count was changed.
    with threadpool_limits(1), ag.config.set(threads=1):
        rows = [measure_variant(variant, rounds) for variant in VARIANTS]
    beside = [row for threads in sorted({1, ag.config.threads}) for row in peers.against_torch(rounds, threads)]
    report = {
        "machine": machine(),
        "shape": SHAPE,
        "import_milliseconds": import_milliseconds(rounds),
        "variants": rows,
        "torch": beside,
    }
    text = f"{report['machine']}\n(batch, heads, length, width) = {SHAPE}, float32, one thread\n\n{table(rows)}\n"
    text += f"\nagainst torch's scaled_dot_product_attention\n\n{peers.table(beside)}\n"
    text += f"\nimport attngraph: {report['import_milliseconds']:.0f} ms beyond an empty interpreter"
    print(text)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.output / "results.txt").write_text(text + "\n")


if __name__ == "__main__":
    main()
