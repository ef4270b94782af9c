"""Tables of what was measured, for a terminal and for the README; both come from the rows that the JSON holds."""

from collections.abc import Callable, Sequence
from typing import Any

Rows = list[dict[str, Any]]

# Columns of the tables in a terminal whose names need saying otherwise; None is left out.
_TITLES: dict[str, str | None] = {"defect": None, "ratio_low": None, "ratio_high": None, "note": None}
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
    """A row for each case, shape and number of threads, a column for each peer's ratio.

    Ours was measured once beside each peer: the middle one of those medians stands here.
    """
    merged: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        merged.setdefault((row["case"], row["shape"], row["threads"]), []).append(row)
    return [_merged(key, group) for key, group in merged.items()]


def _merged(key: tuple[Any, ...], rows: Rows) -> dict[str, Any]:
    measured = sorted((row for row in rows if "milliseconds" in row), key=lambda row: float(row["milliseconds"]))
    middle = measured[(len(measured) - 1) // 2] if measured else {}
    ours = {name: middle.get(name) for name in ("milliseconds", "of_peak", "of_bandwidth")}
    named = dict(zip(("case", "shape", "threads"), key, strict=True))
    return {**named, **ours, **{row["peer"]: row.get("ratio") for row in rows}}


def readme(report: dict[str, Any]) -> str:
    """The tables that the README has, to be pasted."""
    parts = [machine_line(report)]
    makers: dict[str, Callable[[Rows], str]] = {
        "variants": _variants,
        "peers": _pivoted,
        "flex": _pivoted,
        "masks": _masks,
        "compile": _compile,
        "peak_memory": _memory,
    }
    for name, make in makers.items():
        if name in report["sections"]:
            section = report["sections"][name]
            parts.append(f"{section['title']}:\n\n{make(section['rows'])}")
    return "\n\n".join(parts)


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
    peers = [name for name in whole[0] if name not in NOT_PEERS]
    header = ("case", "(batch, heads, length, width)", "threads", "of peak", *peers)
    body = [
        (r["case"], r["shape"], str(r["threads"]), _cell("of_peak", r["of_peak"]), *(_times(r[p]) for p in peers))
        for r in whole
    ]
    return "\n".join([markdown(header, body), "", *_notes(rows)])


def _masks(rows: Rows) -> str:
    header = ("mask", "threads", "visible tiles", "of the dense time", "of peak")
    shown = ("visible_tiles", "of_dense", "of_peak")
    return markdown(header, [(r["mask"], str(r["threads"]), *(_cell(n, r.get(n)) for n in shown)) for r in rows])


def _compile(rows: Rows) -> str:
    header = ("case", "library", "seconds, nothing cached", "seconds, from disk")
    shown = ("cold_seconds", "from_disk_seconds")
    return markdown(header, [(r["case"], r["library"], *(_cell(n, r.get(n)) for n in shown)) for r in rows])


def _memory(rows: Rows) -> str:
    header = ("case", "(batch, heads, length, width)", "library", "MiB beyond inputs and output")
    body = [
        (r["case"], r["shape"], r["library"], f"{r['mebibytes']:.0f}" if "mebibytes" in r else r.get("note", ""))
        for r in rows
    ]
    return markdown(header, body)
