"""Tables of what was measured, for a terminal and for the README; both come from the rows that the JSON holds."""

import re
from collections.abc import Callable, Sequence
from typing import Any

Rows = list[dict[str, Any]]

# Columns of the tables in a terminal whose names need saying otherwise; None is left out.
_TITLES: dict[str, str | None] = {"defect": None, "ratio_low": None, "ratio_high": None, "note": None}
# What tells the cases of a pivoted table apart, as far as its rows say it: a decode's shape stands in its name.
_CASE = ("case", "shape", "threads")
# What of a pivoted row is not a peer's.
NOT_PEERS = frozenset({"case", "shape", "threads", "milliseconds", "of_peak", "of_bandwidth"})
_PERCENT = {"of_peak", "of_bandwidth", "visible_tiles", "of_dense"}


def table(rows: Rows) -> str:
    """Rows as a table in Markdown, a column for each name, and what the rows note below."""
    if rows and "peer" in rows[0]:
        rows, notes = pivot(rows), _notes(rows)
    else:
        notes = _notes(rows)
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if _TITLES.get(name, name)]
    lines = [_line([name.replace("_", " ") for name in names]), _line(["---"] * len(names))]
    lines += [_line([_cell(name, row.get(name, "")) for name in names]) for row in rows]
    return "\n".join(lines + (["", *notes] if notes else []))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    if name in _PERCENT:
        return f"{value:.0%}"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _notes(rows: Rows) -> list[str]:
    """What rows note, each once, with the rows that note it."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if "note" in row:
            who = str(row.get("peer", row.get("library", row.get("mask", row.get("score", "")))))
            what = f"{row['case']} {row.get('shape', '')}".strip() if "case" in row else ""
            cases = found.setdefault((who, row["note"]), [])
            if what and what not in cases:
                cases.append(what)
    return [f"- {who}{': ' * bool(cases)}{', '.join(cases)}: {note}" for (who, note), cases in found.items()]


def pivot(rows: Rows) -> Rows:
    """A row for each case and number of threads, a column for each peer's ratio.

    Ours was measured once beside each peer: the middle one of those medians stands here.
    """
    merged: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        merged.setdefault(tuple((name, row[name]) for name in _CASE if name in row), []).append(row)
    return [_merged(dict(key), group) for key, group in merged.items()]


def _merged(case: dict[str, Any], rows: Rows) -> dict[str, Any]:
    measured = sorted((row for row in rows if "milliseconds" in row), key=lambda row: float(row["milliseconds"]))
    middle = measured[(len(measured) - 1) // 2] if measured else {}
    ours = {name: middle.get(name) for name in ("milliseconds", "of_peak", "of_bandwidth")}
    return {**case, **ours, **{row["peer"]: row.get("ratio") for row in rows}}


def readme(text: str, report: dict[str, Any]) -> str:
    """The README with its tables replaced by those of the report: each stands between two comments of its name."""
    is_whole = len(report["sections"]) > 1
    for name, make in _README.items():
        if (name == "machine" and is_whole) or name in report["sections"]:
            made = machine_line(report) if name == "machine" else make(report["sections"][name]["rows"])
            place = re.compile(rf"(<!-- bench: {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
            text, count = place.subn(lambda found: f"{found[1]}\n{made}\n{found[2]}", text)  # noqa: B023
            if count != 1:
                raise ValueError(f"the README has {count} places for {name}")
    return text


def machine_line(report: dict[str, Any]) -> str:
    """The machine, what it can do and what ran on it, in a paragraph."""
    machine = report["machine"]
    versions = ", ".join(f"{name} {version or '(not installed)'}" for name, version in report["versions"].items())
    limits = "; ".join(
        f"{threads} thread{'s' * (threads != '1')}: {limit['flops'] / 1e9:.0f} Gflop/s of multiply-adds, "
        f"{limit['bytes'] / 1e9:.0f} GB/s read"
        for threads, limit in report["limits"].items()
    )
    return (
        f"{machine['processor']}, {machine['processors']} processors, {machine['system']}; {limits}\n"
        f"{versions}\n{report['date']}, at most {report['rounds']} rounds"
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([_line(header), _line(["---"] * len(header)), *map(_line, rows)])


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ×" if value >= 10 else f"{value:.2f} ×"


def _variants(rows: Rows) -> str:
    header = ("expression", "largest error against float64", "the same written in NumPy", "speed against NumPy")
    return markdown(
        header,
        [
            (r["expression"], f"{r['error']:.1e}", f"{r['NumPy_error']:.1e}", _times(r["speed_against_NumPy"]))
            for r in rows
        ],
    )


def _pivoted(rows: Rows) -> str:
    whole = pivot(rows)
    peers = [name for name in whole[0] if name not in NOT_PEERS and any(row[name] for row in whole)]
    header = ("case", "(batch, heads, length, width)", "threads", "of peak", *peers)
    body = [
        (r["case"], r["shape"], str(r["threads"]), _cell("of_peak", r["of_peak"]), *(_times(r[p]) for p in peers))
        for r in whole
    ]
    return markdown(header, body)


def _by_threads(rows: Rows, key: str, names: dict[str, str]) -> str:
    """A row for each value of ``key``, and each number of threads' columns beside each other."""
    groups: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], {})[row["threads"]] = row
    counts = sorted({row["threads"] for row in rows})
    columns = [(name, title, count) for name, title in names.items() for count in counts]
    header = [key, *(f"{title}, {count} thread{'s' * (count > 1)}" for _, title, count in columns)]
    body = [
        [value, *(_cell(name, group.get(count, {}).get(name)) for name, _, count in columns)]
        for value, group in groups.items()
    ]
    return markdown(header, body)


def _masks(rows: Rows) -> str:
    tiles = {row["mask"]: _cell("visible_tiles", row.get("visible_tiles")) for row in rows}
    shown = {"of_dense": "of the dense time", "of_dense_and_tiles": "of that and tiles", "of_peak": "of peak"}
    renamed = [{**row, "mask": f"{row['mask']} ({tiles[row['mask']]})"} for row in rows]
    return _by_threads(renamed, "mask", shown)


def _scores(rows: Rows) -> str:
    return _by_threads(rows, "score", {"times_plain": "times the plain one's"})


def _training(rows: Rows) -> str:
    named = [{**row, "step": f"{row['case']} {row['shape']}, beside {row['peer']}"} for row in rows]
    return _by_threads(named, "step", {"ratio": "times as fast"})


def _sparse(rows: Rows) -> str:
    named = [{**row, "pattern": f"{row['pattern']}, {row['direction']}"} for row in rows]
    return _by_threads(named, "pattern", {"ratio": "times as fast"})


def _linear(rows: Rows) -> str:
    directions = {False: "forward", True: "forward and backward"}
    named = [{**row, "features": f"{row['map']}, {directions[row['backward']]}"} for row in rows]
    return _by_threads(named, "features", {"ratio": "times as fast"})


def _calls(rows: Rows) -> str:
    header = ("call", "microseconds", "speed against NumPy")
    return markdown(header, [(r["call"], f"{r['microseconds']:.1f}", _times(r["speed_against_numpy"])) for r in rows])


def _growth(rows: Rows) -> str:
    return markdown(("score", "MiB"), [(r["score"], f"{r['mebibytes']:.1f}") for r in rows])


def _mask_growth(rows: Rows) -> str:
    most = max(rows, key=lambda row: float(row["mebibytes"]))
    return f"With any of the {len(rows)} masks, the making of the mask included: {most['mebibytes']:.1f} MiB at most."


def _compile(rows: Rows) -> str:
    header = ("case", "library", "seconds, nothing cached", "seconds, from disk")
    shown = ("cold_seconds", "from_disk_seconds")
    return markdown(header, [(r["case"], r["library"], *(_cell(n, r.get(n)) for n in shown)) for r in rows])


def _memory(rows: Rows) -> str:
    header = ("case", "(batch, heads, length, width)", "library", "MiB beyond inputs and output")
    measured = [row for row in rows if "mebibytes" in row]
    return markdown(header, [(r["case"], r["shape"], r["library"], f"{r['mebibytes']:.0f}") for r in measured])


def _shown(**titles: str) -> Callable[[Rows], str]:
    """A table of some of a section's columns, under these titles; what was not measured is left out."""

    def made(rows: Rows) -> str:
        measured = [row for row in rows if any(isinstance(row.get(name), float) for name in titles)]
        names = [name for name in titles if any(row.get(name) is not None for row in measured)]
        header = [titles[name] for name in names]
        return markdown(header, [[_cell(name, row.get(name)) for name in names] for row in measured])

    return made


_RATIO = {"ratio": "times as fast"}


def _decoding(rows: Rows) -> str:
    # Of pages it is measured how much longer they take than one array.
    rows = [
        {**row, "ratio": 1 / row["ratio"]} if row["peer"] == "contiguous" and "ratio" in row else row for row in rows
    ]
    shown = {"case": "case", "threads": "threads", "peer": "beside", "milliseconds": "milliseconds"}
    return _shown(**shown, of_bandwidth="bandwidth", **_RATIO)(rows)


# What the README shows of each section.
_README: dict[str, Callable[[Rows], str]] = {
    "machine": lambda _: "",
    "variants": _variants,
    "peers": _pivoted,
    "flex": _pivoted,
    "masks": _masks,
    "scores": _scores,
    "training": _training,
    "training_scores": _scores,
    "calls": _calls,
    "compile": _compile,
    "growth": _growth,
    "mask_growth": _mask_growth,
    "peak_memory": _memory,
    "out_of_core": _shown(case="case", seconds="seconds", ratio="times as fast", mebibytes="MiB of growth"),
    "clusters": _shown(case="case", beside="beside", **_RATIO),
    "graphs": _shown(case="layer", shape="graph", peer="beside", milliseconds="milliseconds", **_RATIO),
    "decoding": _decoding,
    "small_types": _shown(case="case", threads="threads", peer="beside", **_RATIO),
    "sparse": _sparse,
    "linear": _linear,
    "seed_targets": _shown(
        case="case", size="size", target_microseconds="target, µs", microseconds="measured, µs", factor="times as fast"
    ),
}
