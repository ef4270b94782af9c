"""The picture of the peers' table: how many times as long as attngraph each library takes."""

import importlib
from pathlib import Path
from typing import Any

from report import NOT_PEERS, pivot

Rows = list[dict[str, Any]]

# Distinct without colour too.
_MARKERS = "osD^vPX*"


def draw(rows: Rows, title: str, path: Path) -> str | None:
    """Write the picture; returns why not, if it cannot be."""
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError:
        return "no picture: matplotlib is not installed"
    matplotlib.use("Agg")
    pyplot = importlib.import_module("matplotlib.pyplot")
    whole = [row for row in pivot(rows) if row["milliseconds"] is not None]
    if not whole:
        return "no picture: nothing was measured"
    counts = sorted({row["threads"] for row in whole})
    height = 1.9 + 0.36 * max(sum(row["threads"] == n for row in whole) for n in counts)
    figure, axes = pyplot.subplots(
        1, len(counts), figsize=(4.2 + 4.4 * len(counts), height), sharex=True, squeeze=False
    )
    for number, (count, panel) in enumerate(zip(counts, axes[0], strict=True)):
        _panel(panel, [row for row in whole if row["threads"] == count], count, names=number == 0)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.suptitle("Time of other libraries, as a multiple of attngraph's (right of the line: attngraph is faster)")
    figure.legend(
        handles, labels, loc="lower center", bbox_to_anchor=(0.5, 0.2 / height), ncols=len(labels), frameon=False
    )
    figure.text(0.995, 0.005, title, ha="right", va="bottom", fontsize=7, color="0.4")
    figure.tight_layout(rect=(0, 0.3 / height + 0.05, 1, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return None


def _panel(panel: Any, rows: Rows, threads: int, names: bool) -> None:
    peers = [name for name in rows[0] if name not in NOT_PEERS]
    for marker, peer in zip(_MARKERS, peers, strict=False):
        points = [(row[peer], place) for place, row in enumerate(rows) if row[peer] is not None]
        panel.scatter(*(zip(*points, strict=True) if points else ((), ())), marker=marker, s=34, label=peer, zorder=3)
    panel.axvline(1, color="0.2", linewidth=1)
    panel.set_xscale("log")
    most = max([2.0, *(row[peer] for row in rows for peer in peers if row[peer] is not None)])
    least = min([1.0, *(row[peer] for row in rows for peer in peers if row[peer] is not None)])
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if least / 2 <= tick <= most * 2]
    panel.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    panel.minorticks_off()
    labels = [f"{row['case']}  {row['shape']}" for row in rows]
    panel.set_yticks(range(len(rows)), labels if names else [""] * len(rows))
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.grid(axis="both", color="0.9", zorder=0)
    panel.set_title(f"{threads} thread{'s' * (threads > 1)}; % of the FMA peak that attngraph reaches", fontsize=9)
    for place, row in enumerate(rows):
        text = f" {row['of_peak']:.0%}"
        panel.text(1.0, place, text, transform=panel.get_yaxis_transform(), va="center", fontsize=8)
