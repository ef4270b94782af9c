"""What the README's figures come from: ``make bench`` prints the tables and writes build/bench/.

Every ratio compares two ways in one process, in turn (`measure.paired`), on inputs that change from call to call;
results are held against float64 before they are timed. Peers run in a process each; one that is not there has a row
that says so. ``--readme`` writes the README's tables from what the last whole run left.
"""

import argparse
import datetime
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import accuracy
import beside
import calls
import chart
import clusters
import compiling
import decoding
import gradient_accuracy
import graphs
import growth
import linear
import masks
import out_of_core
import portability
import scores
import seed_targets
import small_types
import sparse_masks
import training
import variants
from cases import square
from measure import paired
from peers import PEERS
from processes import ProcessError, run_alone
from report import machine_line, readme, table
from threadpoolctl import threadpool_limits

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.roofline import roofline

Rows = list[dict[str, Any]]

_TRIES = 5


class Run(NamedTuple):
    """How sections are to run: rounds at most, threads, this number of threads' limits, and whether in a hurry."""

    rounds: int
    threads: int
    limits: dict[str, float]
    quick: bool


class Section(NamedTuple):
    """A part of the report: what it says, and how its rows are made."""

    name: str
    title: str
    rows: Callable[[Run], Rows]
    every_thread_count: bool = False


def _peers(run: Run) -> Rows:
    chosen = (*beside.CASES[:2], beside.CASES[-1]) if run.quick else beside.CASES
    return beside.rows(chosen, run.rounds, run.threads, run.limits, 0.5 if run.quick else 2.0)


def _flex(run: Run) -> Rows:
    chosen = [square(case.name, (1, 8, 1024, 64)) if run.quick else case for case in beside.FLEX_CASES]
    rows = beside.rows(tuple(chosen), run.rounds, run.threads, run.limits, 0.5 if run.quick else 2.0)
    return [beside.held_to_target(row) for row in rows]


def _alone(module: str, arguments: dict[str, Any], run: Run) -> Rows:
    """The rows of a module, from a process of its own."""
    try:
        return list(run_alone(module, "rows", arguments, run.threads))
    except ProcessError as error:
        return [{"case": "all", "threads": run.threads, "note": str(error), "defect": True}]


def _masks(run: Run) -> Rows:
    return _alone("masks", masks.every_mask(run.rounds, run.threads, run.quick), run)


def _sparse(run: Run) -> Rows:
    return _alone("sparse_masks", sparse_masks.every_pattern(run.rounds, run.threads, run.quick), run)


SECTIONS = (
    Section(
        "variants",
        f"{variants.SHAPE}, one thread, against the same in NumPy",
        lambda run: variants.all_rows(run.rounds),
    ),
    Section("peers", "time of other libraries over ours", _peers, every_thread_count=True),
    Section("flex", "FlexAttention programs, time of other libraries over ours", _flex, every_thread_count=True),
    Section("masks", f"{masks.SHAPE}, beside the dense attention", _masks, every_thread_count=True),
    Section(
        "sparse",
        f"{sparse_masks.SHAPE}, sparse patterns, time of the dense attention over ours",
        _sparse,
        every_thread_count=True,
    ),
    Section(
        "portability",
        "instruction sets: share of what their multiply-adds reach",
        lambda run: portability.rows(run.rounds, run.threads),
    ),
    Section(
        "scores",
        f"{scores.SHAPE}, time over that of a plain score",
        lambda run: scores.beside_plain(run.rounds, run.threads),
        every_thread_count=True,
    ),
    Section(
        "training",
        "forward and backward in one step, time of PyTorch's over ours",
        lambda run: training.beside_torch(run.rounds, run.threads, run.quick),
        every_thread_count=True,
    ),
    Section(
        "training_scores",
        "backward passes, causal, time over that of a plain score",
        lambda run: training.backward_over_plain(run.rounds, run.threads, 512 if run.quick else 2048),
        every_thread_count=True,
    ),
    Section(
        "linear",
        f"causal linear attention, {linear.LENGTH} positions, time of our exact attention over its",
        lambda run: linear.rows(run.rounds, run.threads, run.quick),
        every_thread_count=True,
    ),
    Section(
        "decoding",
        "one query on caches, time of others over ours; in pages, time over that of one array",
        lambda run: decoding.rows(run.rounds, run.threads, run.limits, run.quick),
        every_thread_count=True,
    ),
    Section(
        "small_types",
        "bfloat16 beside torch's, decoding of 8 and 4 bits beside our float32: time of the other over ours",
        lambda run: small_types.rows(run.rounds, run.threads, run.quick),
        every_thread_count=True,
    ),
    Section("lanes", "one thread: time of the same kernel of one lane", lambda run: scores.beside_scalar(run.rounds)),
    Section("accuracy", "largest error against float64, beside torch's float32", lambda _: accuracy.beside_torch()),
    Section(
        "gradient_accuracy",
        f"{gradient_accuracy.SHAPE}, largest error of a gradient, beside torch's float32",
        lambda _: gradient_accuracy.beside_torch(),
    ),
    Section("calls", "small problems, whole calls, against NumPy", lambda run: calls.against_numpy(run.rounds)),
    Section("compile", "seconds to the first result beyond a call's own", lambda run: compiling.rows(run.quick)),
    Section(
        "compile_steps",
        f"seconds to the first result and gradients beyond a call's own; limit {compiling.STEP_LIMIT:.0f}",
        lambda run: compiling.step_rows(run.quick),
    ),
    Section("growth", f"MiB beyond inputs and output at {growth.LENGTH}", lambda _: growth.of_scores()),
    Section(
        "mask_growth",
        f"MiB beyond inputs and output, the mask included; limit {growth.MASK_LIMIT:.0f}",
        lambda run: growth.of_masks(run.quick),
    ),
    Section(
        "step_growth",
        f"MiB beyond inputs, output and gradients; limit {growth.STEP_LIMIT:.0f}",
        lambda run: growth.of_steps(run.quick),
    ),
    Section(
        "clusters",
        "tasks of dask, time of others over ours",
        lambda run: clusters.rows(run.rounds, run.quick),
    ),
    Section(
        "out_of_core",
        f"keys and values in stores; memory_limit={out_of_core.LIMIT}MiB for growth",
        lambda run: out_of_core.rows(run.rounds, run.quick),
    ),
    Section(
        "graphs", "layers of graph networks, time of others over ours", lambda run: graphs.rows(run.rounds, run.quick)
    ),
    Section(
        "graph_growth",
        "MiB beyond graph, inputs and results; the limit is an array of all messages",
        lambda run: graphs.growth_rows(run.quick),
    ),
    Section(
        "seed_targets",
        "what the first design asked for, one thread: target over measured",
        lambda run: seed_targets.rows(run.rounds),
    ),
    Section("peak_memory", "MiB beyond inputs and output, the mask included", lambda run: growth.of_peers(run.quick)),
)


def limits_of(threads: int) -> dict[str, float]:
    """What the machine can do. A process of its own measures it: `measured_limits` takes the best of several."""
    with ag.config.set(threads=threads):
        found = roofline(config.settings())
    return {"flops": found.flops, "bytes": found.bytes}


def measured_limits(threads: int) -> dict[str, float]:
    """The best of several processes: one figure for the whole report, which no noise can make smaller."""
    tries = [run_alone("run", "limits_of", {"threads": threads}, threads) for _ in range(_TRIES)]
    return {name: max(each[name] for each in tries) for name in ("flops", "bytes")}


def machine() -> dict[str, Any]:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return {"processor": name, "processors": ag.config.threads, "system": f"{platform.system()} {platform.machine()}"}


def import_milliseconds(rounds: int) -> float:
    """What ``import attngraph`` takes beyond an empty interpreter."""

    def start(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True)

    times = paired(lambda: start("import attngraph"), lambda: start("pass"), rounds)
    return (times.ours - times.other) * 1e3


def new_report(rounds: int, counts: list[int], quick: bool) -> dict[str, Any]:
    """The report without its sections."""
    packages = {peer.package: peer.version() for peer in PEERS}
    return {
        "machine": machine(),
        "versions": {"Python": platform.python_version(), "attngraph": ag.__version__, **packages},
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "rounds": rounds,
        "quick": quick,
        "limits": {str(threads): measured_limits(threads) for threads in counts},
        "import_milliseconds": import_milliseconds(rounds),
        "sections": {},
    }


def measured(section: Section, run: Run) -> Rows:
    """A section's rows, NumPy's products on as many threads as ours."""
    with threadpool_limits(run.threads), ag.config.set(threads=run.threads):
        try:
            return section.rows(run)
        except ImportError as error:  # a peer that the section is about
            return [{"note": f"not run: {error}"}]


def fill(report: dict[str, Any], chosen: list[Section], counts: list[int]) -> str:
    """Run the sections into the report, printing each; the text of all."""
    texts = [f"{machine_line(report)}\nimport attngraph: {report['import_milliseconds']:.0f} ms beyond an interpreter"]
    print(texts[0], flush=True)
    for section in chosen:
        start, rows = time.perf_counter(), []
        for threads in counts if section.every_thread_count else [1]:
            rows += measured(section, Run(report["rounds"], threads, report["limits"][str(threads)], report["quick"]))
        took = time.perf_counter() - start
        report["sections"][section.name] = {"title": section.title, "seconds": took, "rows": rows}
        texts.append(f"\n{section.name}: {section.title} ({took:.0f} s)\n\n{table(rows)}")
        print(texts[-1], flush=True)
    return "\n".join(texts) + "\n"


def arguments_of() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and cases: to see that it runs")
    parser.add_argument("--only", choices=[section.name for section in SECTIONS], help="one section alone")
    parser.add_argument(
        "--readme", action="store_true", help="measure nothing: write the last run's tables into the README"
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench"))
    return parser.parse_args()


def main() -> None:
    arguments = arguments_of()
    # What is not the whole has another name: it never stands for the whole.
    stem = "-".join(["results", *(["quick"] if arguments.quick else []), *([arguments.only] if arguments.only else [])])
    path = arguments.output / f"{stem}.json"
    if arguments.readme:
        page = Path(__file__).parents[1] / "README.md"
        page.write_text(readme(page.read_text(), json.loads(path.read_text())))
        return
    arguments.output.mkdir(parents=True, exist_ok=True)
    counts = sorted({1, ag.config.threads})
    report = new_report(3 if arguments.quick else 11, counts, arguments.quick)
    text = fill(report, [each for each in SECTIONS if arguments.only in (None, each.name)], counts)
    path.write_text(json.dumps(report, indent=2) + "\n")
    path.with_suffix(".txt").write_text(text)
    rows = [row for name in ("peers", "flex") for row in report["sections"].get(name, {"rows": []})["rows"]]
    if rows:
        picture = path.with_suffix(".png")
        caption = f"{report['machine']['processor']}, {report['date']}, at most {report['rounds']} rounds"
        print(chart.draw(rows, caption, picture) or picture)
    wrong = [row for section in report["sections"].values() for row in section["rows"] if row.get("defect")]
    if wrong:
        sys.exit("attngraph itself failed, or was wrong:\n" + "\n".join(map(str, wrong)))


if __name__ == "__main__":
    main()
