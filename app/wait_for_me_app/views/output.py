"""How answers are written: a table for people, JSON or a JSON line each for programs. Nothing in a name reaches the terminal as a command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from wait_for_me_app.printable import printable, printable_json


def write_json(document: Any) -> None:
    """Write one document: indented for a terminal, one line for a pipe."""
    click.echo(_json(document, indent=2 if sys.stdout.isatty() else None))


def write_lines(items: Iterable[Any]) -> None:
    """Write one JSON object a line."""
    for item in items:
        click.echo(_json(item))


def _json(document: Any, indent: int | None = None) -> str:
    lines = json.dumps(document, ensure_ascii=not _is_utf8(), indent=indent).split("\n")
    return "\n".join(map(printable_json, lines))


def write_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write columns as wide as they must be, the last one as it is."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [list(head), *shown]) for n in range(len(head) - 1)]
    for row in [list(head), *shown]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[-1]]).rstrip())


def write_facts(facts: Mapping[str, object]) -> None:
    """Write names and values below one another; what is None is left out."""
    known = {name: value for name, value in facts.items() if value is not None}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        click.echo(f"{name.ljust(width)}  {printable(str(value))}")


def span(seconds: float) -> str:
    """Return a length of time as people say it."""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{minutes // 1440} d"


def until(text: str | None, now_ms: int) -> str:
    """Return how far ahead a time is."""
    if text is None:
        return "-"
    left = ms_of(text) - now_ms
    return f"in {span(left / 1000)}" if left > 0 else "now"


def ms_of(text: str) -> int:
    """Return the milliseconds of an RFC 3339 time."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def clock(text: str | None) -> str:
    """Return a time in this machine's zone."""
    return "-" if text is None else datetime.fromisoformat(text).astimezone().strftime("%H:%M:%S.%f")[:-3]


def now_ms() -> int:
    """Return this machine's time."""
    return round(datetime.now(UTC).timestamp() * 1000)


def _is_utf8() -> bool:
    return (getattr(sys.stdout, "encoding", "") or "").lower().replace("-", "") == "utf8"
