"""How the demo looks: pure functions from a board to what rich draws, or to plain lines when nobody looks at a terminal.

The layout is made for 80 columns and 24 lines and grows with the terminal. A state is never told by colour alone, so NO_COLOR and
a monochrome terminal lose nothing; colours are the terminal's own sixteen, so they follow its theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from wait_for_me_app.demo.acts import Act, Closing, Opening, Playing
from wait_for_me_app.demo.board import Board, Line, Outcome, Row, State, Tally
from wait_for_me_app.demo.scenario import FIRES_BY_TIMEOUT, FIRES_COMPLETE, IS_REMOVED, SERVERS, WAIT_SECONDS

TITLE: Final = "WaitForMe"
WARNING: Final = "demo broker in memory, not for production"
PREMISE: Final = "Six web servers refresh; then the CDN cache is invalidated, once a deployment."

STATE_STYLE: Final = {
    State.NOT_STARTED: "dim",
    State.WAITING: "cyan",
    State.COMPLETE: "bold green",
    State.TIMEOUT: "bold yellow",
    State.REMOVED: "bold magenta",
}
TOPIC_STYLE: Final = {
    "commands": "cyan",
    "fires": "yellow",
    "outcomes": "green",
    "dead letter": "bold red",
    "demo": "dim",
}
OUTCOME_STYLE: Final = {"done": "green", "failed": "yellow", "dead": "bold red"}

STORY: Final = {
    FIRES_COMPLETE: f"{FIRES_COMPLETE}: all six report.",
    FIRES_BY_TIMEOUT: f"{FIRES_BY_TIMEOUT}: web-4 is killed; {WAIT_SECONDS} s after the last report the wait is over.",
    IS_REMOVED: f"{IS_REMOVED}: web-6 finds it broken and rolls back; nothing may fire.",
}

INDENT: Final = 12
FIXED_COLUMNS: Final = 12 + 2 + 3 + 2 + 14 + 2 + 29
"""Columns of a row's first line beside its bar: name, count, state, callback."""
LINES_BESIDE_THE_LOG: Final = 17


class Glyphs(msgspec.Struct, frozen=True):
    """The characters that not every terminal can show."""

    done: str
    todo: str
    here: str
    absent: str
    rule: str
    up: str
    died: str
    ended: str


UNICODE: Final = Glyphs(done="━", todo="─", here="✓", absent="·", rule="─", up="●", died="✗", ended="○")
ASCII: Final = Glyphs(done="#", todo="-", here="+", absent=".", rule="-", up="*", died="x", ended="o")


class Process(msgspec.Struct, frozen=True):
    """A child as the footer shows it."""

    name: str
    pid: int
    light: Literal["up", "died", "ended"]


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one frame shows."""

    board: Board
    caption: str
    processes: tuple[Process, ...]
    now_ms: int
    started_ms: int
    lines_below: int = 0
    """How many lines of the terminal are wanted below the picture."""


def caption(act: Act, board: Board) -> str:
    """Return what is going on, in one sentence."""
    match act:
        case Opening():
            return "Starting, some seconds: a first add has to come through worker and executor."
        case Playing():
            started = [row for row in board.rows if row.state is not State.NOT_STARTED]
            return STORY[started[-1].group_key] if started else "Telling six web servers to refresh."
        case Closing():
            return f"Checking that {IS_REMOVED} stays silent: its deadline has passed."
        case _:
            return ""


def frame(scene: Scene, width: int, height: int, glyphs: Glyphs = UNICODE) -> RenderableType:
    """Return the whole picture for a terminal of this size."""
    room = max(3, height - LINES_BESIDE_THE_LOG - scene.lines_below)
    parts: list[Text] = [*header(scene, width), Text()]
    for row in scene.board.rows:
        parts += row_lines(row, scene.now_ms, width, glyphs)
    parts += [rule("what the topics say", width, glyphs)]
    parts += log_lines(scene.board.lines[-room:], scene.started_ms, room)
    parts += [rule("", width, glyphs), footer(scene, glyphs)]
    for part in parts:
        part.no_wrap, part.overflow = True, "ellipsis"
    return Group(*parts)


def header(scene: Scene, width: int) -> list[Text]:
    """Return the banner: what this is, and what it is not."""
    gap = max(2, width - 2 - len(TITLE) - len(WARNING))
    return [
        Text.assemble(" ", (TITLE, "bold"), " " * gap, (WARNING, "yellow")),
        Text(f" {PREMISE}"),
        Text(f" {scene.caption}", style="dim"),
    ]


def row_lines(row: Row, now_ms: int, width: int, glyphs: Glyphs) -> list[Text]:
    """Return a deployment's two lines and the blank one after them."""
    return [_summary(row, now_ms, width, glyphs), _participants(row, glyphs), Text()]


def _summary(row: Row, now_ms: int, width: int, glyphs: Glyphs) -> Text:
    style = STATE_STYLE[row.state]
    return Text.assemble(
        (f" {row.group_key:<{INDENT - 1}}", "bold" if row.arrived else "dim"),
        bar(len(row.arrived), len(row.expected), max(10, min(40, width - FIXED_COLUMNS)), style, glyphs),
        (f"  {len(row.arrived)}/{len(row.expected)}  ", ""),
        (f"{row.state:<14}", style),
        "  ",
        _right(row, now_ms),
    )


def _right(row: Row, now_ms: int) -> Text:
    if row.outcome is not None:
        return outcome_text(row.outcome)
    if row.fires:
        return Text("callback not started yet", style="dim")
    if row.removed is not None:
        return Text(_silence(row, now_ms), style="dim")
    return countdown(row.deadline_ms, now_ms)


def _silence(row: Row, now_ms: int) -> str:
    """Say whether the wait that was removed would be over by now."""
    left_ms = (row.deadline_ms or 0) - now_ms
    return f"would fire in {left_ms / 1000:.1f} s" if left_ms > 0 else "did not fire"


def countdown(deadline_ms: int | None, now_ms: int) -> Text:
    """Return how long the wait still lasts."""
    if deadline_ms is None:
        return Text()
    left_ms = max(0, deadline_ms - now_ms)
    return Text(f"fires in {left_ms / 1000:.1f} s", style="yellow" if left_ms < 2000 else "")


def outcome_text(outcome: Outcome) -> Text:
    """Return what became of the callback."""
    took = f" {outcome.took_ms} ms" if outcome.took_ms is not None else ""
    state = "" if outcome.state == "done" else f" {outcome.state}"
    return Text(f"{outcome.callback}{state}{took}", style=OUTCOME_STYLE.get(outcome.state, "dim"))


def bar(count: int, total: int, width: int, style: str, glyphs: Glyphs) -> Text:
    """Return a bar that is full when all have arrived."""
    filled = width * min(count, total) // max(1, total)
    return Text.assemble((glyphs.done * filled, style), (glyphs.todo * (width - filled), "dim"))


def _participants(row: Row, glyphs: Glyphs) -> Text:
    line = Text(" " * INDENT)
    for name in row.expected:
        here = name in row.arrived
        line.append(f"{glyphs.here if here else glyphs.absent} {name}  ", style="green" if here else "dim")
    if row.arrived and row.missing:
        names = row.missing[0] if len(row.missing) == 1 else str(len(row.missing))
        line.append(f"missing {names}", style="yellow" if row.state in (State.WAITING, State.TIMEOUT) else "dim")
    return line


def rule(title: str, width: int, glyphs: Glyphs) -> Text:
    """Return a thin line with a title in it."""
    label = f" {title} " if title else ""
    return Text.assemble((glyphs.rule * 2, "dim"), (label, "dim"), (glyphs.rule * (width - 2 - len(label)), "dim"))


def log_lines(lines: Sequence[Line], started_ms: int, room: int) -> list[Text]:
    """Return the latest events, padded so that the picture keeps its height."""
    shown = [log_line(line, started_ms) for line in lines]
    return shown + [Text() for _ in range(room - len(shown))]


def log_line(line: Line, started_ms: int) -> Text:
    """Return one event: when, where it lies, whom it is about, what it says."""
    place = line.place
    where = f"{place.partition}:{place.offset}" if place.offset >= 0 else ""
    return Text.assemble(
        (f" {_seconds(place.at_ms - started_ms):>7}  ", "dim"),
        (f"{place.topic:<11}", TOPIC_STYLE.get(place.topic, "")),
        (f"{where:<6}", "dim"),
        (f"{line.subject:<11}", "bold"),
        line.text,
    )


def _seconds(ms: int) -> str:
    return f"{max(0, ms) / 1000:.1f} s"


def footer(scene: Scene, glyphs: Glyphs) -> Text:
    """Return the processes, the named ones by pid, the web servers as a row of lights, and how long the demo has been running."""
    line = Text(" ")
    for process in scene.processes:
        if process.name not in SERVERS:
            line.append_text(_light(process, glyphs)).append(f" {process.name} ").append(
                f"{process.pid}  ", style="dim"
            )
    line.append("web servers ")
    for process in scene.processes:
        if process.name in SERVERS:
            line.append_text(_light(process, glyphs)).append(" ")
    return line.append(f" {_seconds(scene.now_ms - scene.started_ms)}", style="dim")


def _light(process: Process, glyphs: Glyphs) -> Text:
    sign = {"up": glyphs.up, "died": glyphs.died, "ended": glyphs.ended}[process.light]
    return Text(sign, style={"up": "green", "died": "red", "ended": "dim"}[process.light])


def closing_lines(tally: Tally, faults: Sequence[str], took_ms: int) -> list[Text]:
    """Return the tally and, if something is not as the story says, what."""
    counts = [
        _count(tally.complete, "complete", "green"),
        _count(tally.timeout, "timeout", "yellow"),
        _count(tally.removed, "removed", "magenta"),
        _count(tally.callbacks_run, "callbacks run", "green"),
        _count(tally.duplicates, "duplicates", "red" if tally.duplicates else ""),
    ]
    lines = [Text.assemble(" ", Text(", ").join(counts), (f"  in {_seconds(took_ms)}", "dim"))]
    lines += [Text(f" Wrong: {fault}", style="bold red") for fault in faults]
    return lines


def page_line(url: str | None, *, keep: bool) -> Text:
    """Return where the page is, or how to have it stay."""
    if url is None:
        return Text(" The worker serves no page: its ports are taken, or --port is 0.", style="dim")
    if keep:
        return Text.assemble(
            " See it, and add a participant yourself: ", (url, "bold"), ("  Ctrl-C ends the demo.", "dim")
        )
    return Text.assemble(
        (" The page has ended with the demo; ", "dim"), "wait-for-me demo --keep", (f" holds it open at {url}", "dim")
    )


def failure_lines(message: str) -> list[Text]:
    """Return what went wrong, in red, and under it what else is to be read, such as the end of a log."""
    what, *rest = message.splitlines()
    return [Text(f" The demo failed: {what}", style="bold red"), *(Text(f"   {line}") for line in rest)]


def _count(number: int, word: str, style: str) -> Text:
    return Text.assemble((str(number), f"bold {style}".strip()), f" {word}")
