"""Draws a comparison: throughput, CPU, memory and latency, a panel each, ourselves in colour."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.systems import ALL, OURS, TWO_OF_OURS

_OURS_COLOUR: Final = "#1f6f8b"
_THEIRS_COLOUR: Final = "#b8bec4"
_LABELS: Final = {system.name: system.label for system in ALL}


def draw(document: Mapping[str, Any], path: Path) -> None:
    """Write the picture of `latest.json`; the suffix of the path is its format."""
    import matplotlib as mpl  # type: ignore[import-not-found]

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "wait-for-me"  # equal figures give an equal file
    from matplotlib import pyplot as plt

    systems = document["systems"]
    names = [system.name for system in reversed(ALL) if system.name in systems]
    figure, panels = plt.subplots(1, 4, figsize=(14, 0.6 * len(names) + 1.6), sharey=True, layout="constrained")
    _bars(panels[0], "adds per second (more is better)", names, [systems[name]["adds_per_s"] for name in names])
    _bars(panels[1], "CPU per add, us", names, [systems[name]["cpu_us_per_add"] for name in names])
    _bars(panels[2], "peak RSS, MiB", names, [systems[name]["peak_rss_mib"] for name in names])
    _latencies(panels[3], names, [systems[name]["latency_ms"] for name in names])
    panels[0].set_yticks(range(len(names)), [_LABELS[name] for name in names])
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _bars(panel: Any, title: str, names: Sequence[str], rounds: Sequence[Sequence[float]]) -> None:
    """Draw the median of the rounds as a bar and every round as a point."""
    medians = [statistics.median(values) for values in rounds]
    _style(panel, title)
    panel.barh(range(len(names)), medians, color=_colours(names), height=0.62)
    for row, (values, middle) in enumerate(zip(rounds, medians, strict=True)):
        panel.plot(values, [row] * len(values), ".", color="#333333", markersize=3)
        panel.text(
            max(values), row, f"  {middle:,.0f}" if middle >= 100 else f"  {middle:.1f}", va="center", fontsize=8
        )
    panel.set_xlim(0, max(max(values) for values in rounds) * 1.25)
    panel.locator_params(axis="x", nbins=5)


def _latencies(panel: Any, names: Sequence[str], found: Sequence[Mapping[str, float]]) -> None:
    """Draw p50 as a bar and p99 as a line that leads on from it."""
    _style(panel, "add -> fire at 1,000 adds/s, ms: p50, p99")
    panel.set_xscale("log")
    for row, (name, latency) in enumerate(zip(names, found, strict=True)):
        middle, late = max(1, latency["p50"]), max(1, latency["p99"])
        colour = _colours([name])[0]
        panel.plot([middle, late], [row, row], "-", color=colour, linewidth=4, solid_capstyle="butt")
        panel.plot([middle], [row], "o", color=colour, markersize=8)
        panel.text(late, row, f"  {latency['p50']:.0f} / {latency['p99']:.0f}", va="center", fontsize=8)
    highest = max(latency["p99"] for latency in found)
    panel.set_xlim(0.8, max(200, highest * 12))


def _colours(names: Sequence[str]) -> list[str]:
    return [_OURS_COLOUR if name in (OURS.name, TWO_OF_OURS.name) else _THEIRS_COLOUR for name in names]


def _style(panel: Any, title: str) -> None:
    panel.set_title(title, fontsize=9, loc="left")
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
