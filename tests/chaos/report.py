"""One page about one run: figures, targets, a picture of faults and fire latency over time. No script, no library. Pure."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from chaos.tally import Latency, percentile

_WIDTH, _LEFT, _RIGHT = 1100, 150, 15
_TOP, _PANEL = 24, 260
_ROW: Final = 17
_LEAST_MS, _MOST_MS = 1.0, 100_000.0
_BIN_S: Final = 2.0
_ROWS: Final = (
    ("worker at a point", "#b3261e"),
    ("worker SIGKILL", "#d9534f"),
    ("worker stopped", "#7b4fb5"),
    ("worker SIGTERM", "#8a8a8a"),
    ("store damaged", "#a0522d"),
    ("disk full", "#5d4037"),
    ("network", "#0b7285"),
    ("broker down", "#c77700"),
    ("executor at a point", "#1b5e20"),
    ("executor SIGKILL", "#43a047"),
    ("executor stopped", "#7cb342"),
)


def page(
    *,
    title: str,
    figures: Mapping[str, Any],
    missed: Sequence[str],
    notes: Sequence[str],
    latencies: Sequence[Latency],
    events: Sequence[Mapping[str, Any]],
) -> str:
    """Return the whole page."""
    verdict = "every target was reached" if not missed else "missed: " + "; ".join(missed)
    color = "#1b5e20" if not missed else "#b3261e"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1120px; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; margin: 1rem 0 }} td, th {{ padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top }}
td:first-child {{ color: #555 }} svg {{ width: 100%; height: auto; border: 1px solid #ddd }}
</style></head><body>
<h1>{_text(title)}</h1>
<p style="color:{color}"><strong>{_text(verdict)}</strong></p>
{picture(latencies, events)}
<p>Above: how long after it was due each fire was in Kafka, in bins of {_BIN_S:g} s; the line is the median, the dots are the largest of timeouts
(red) and completions (blue). Below: what was done to whom.</p>
<table>{"".join(f"<tr><td>{_text(name)}</td><td>{_text(value)}</td></tr>" for name, value in figures.items())}</table>
<ul>{"".join(f"<li>{_text(note)}</li>" for note in notes)}</ul>
</body></html>
"""


def _text(value: object) -> str:
    return html.escape(str(value))


def picture(latencies: Sequence[Latency], events: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture as SVG."""
    times = [one.due_ms for one in latencies] + [one["at_ms"] for one in events]
    begin, end = (min(times), max(times)) if times else (0, 1)
    span = max(1, end - begin)
    height = _TOP + _PANEL + 20 + _ROW * len(_ROWS) + 30

    def x(at_ms: float) -> float:
        return _LEFT + (min(max(at_ms, begin), end) - begin) / span * (_WIDTH - _LEFT - _RIGHT)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="fire latency and faults over time" ']
    parts.append('font-family="system-ui, sans-serif" font-size="12" xmlns="http://www.w3.org/2000/svg">')
    parts += _grid(x, begin, span, height)
    parts += _latency_marks(x, begin, latencies)
    parts += _fault_marks(x, events)
    return "".join([*parts, "</svg>"])


def _y(late_ms: float) -> float:
    share = math.log10(min(max(late_ms, _LEAST_MS), _MOST_MS) / _LEAST_MS) / math.log10(_MOST_MS / _LEAST_MS)
    return _TOP + _PANEL * (1 - share)


def _grid(x: Any, begin: int, span: int, height: int) -> Iterable[str]:
    for late_ms, name in (
        (1, "1 ms"),
        (10, "10 ms"),
        (100, "100 ms"),
        (1000, "1 s"),
        (10_000, "10 s"),
        (100_000, "100 s"),
    ):
        y = _y(late_ms)
        yield f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#e4e4e4"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{name}</text>'
    step_s = next((step for step in (10, 30, 60, 120, 300) if span / 1000 / step <= 14), 600)
    for second in range(0, int(span / 1000) + 1, step_s):
        at = x(begin + second * 1000)
        yield f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{height - 22}" stroke="#f0f0f0"/>'
        yield f'<text x="{at:.1f}" y="{height - 8}" text-anchor="middle">{second // 60}:{second % 60:02d}</text>'


def _latency_marks(x: Any, begin: int, latencies: Sequence[Latency]) -> Iterable[str]:
    bins: dict[int, list[Latency]] = {}
    for one in latencies:
        bins.setdefault(int((one.due_ms - begin) / 1000 / _BIN_S), []).append(one)
    median: list[str] = []
    for number, some in sorted(bins.items()):
        at = x(begin + (number + 0.5) * _BIN_S * 1000)
        median.append(f"{at:.1f},{_y(percentile([one.late_ms for one in some], 0.5) or 0):.1f}")
        for reason, color in (("complete", "#1565c0"), ("timeout", "#c62828")):
            if late := [one.late_ms for one in some if one.reason == reason]:
                yield f'<circle cx="{at:.1f}" cy="{_y(max(late)):.1f}" r="2" fill="{color}" fill-opacity="0.75"/>'
    yield f'<polyline points="{" ".join(median)}" fill="none" stroke="#222" stroke-width="1"/>'


def _fault_marks(x: Any, events: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    names = [name for name, _ in _ROWS]
    for number, (name, _) in enumerate(_ROWS):
        yield f'<text x="{_LEFT - 8}" y="{_row_y(number) + 10}" text-anchor="end">{name}</text>'
    for event in events:
        if (row := row_of(event)) is None:
            continue
        number = names.index(row)
        begin = x(event["at_ms"])
        until = x(event.get("until_ms", event["at_ms"] + event.get("seconds", 0) * 1000))
        yield (
            f'<rect x="{begin:.1f}" y="{_row_y(number)}" width="{max(1.6, until - begin):.1f}" height="{_ROW - 5}" '
            f'fill="{_ROWS[number][1]}" fill-opacity="0.8"/>'
        )


def _row_y(number: int) -> int:
    return _TOP + _PANEL + 20 + number * _ROW


_KINDS: Final = {
    "crash_point": "at a point",
    "sigkill": "SIGKILL",
    "sigstop": "stopped",
    "sigterm": "SIGTERM",
}


def row_of(event: Mapping[str, Any]) -> str | None:
    """Return the row of the picture that an event belongs to, or None."""
    single = {
        "network": "network",
        "broker_sigkill": "broker down",
        "damage": "store damaged",
        "disk_full": "disk full",
    }
    if (what := event["what"]) in single:
        return single[what]
    if what not in _KINDS:
        return None
    who = "worker" if str(event.get("slot", "")).startswith("w") else "executor"
    name = f"{who} {_KINDS[what]}"
    return name if name in [row for row, _ in _ROWS] else None
