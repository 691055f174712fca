"""The demo's picture fits 80 columns, says everything in words, and needs neither colour nor a terminal."""

from __future__ import annotations

import io
from itertools import count

import msgspec
import pytest
from rich.console import Console

from wait_for_me_app.demo import view
from wait_for_me_app.demo.acts import AS_PLANNED, Act, Closing, Failed, Finished, Opening, Playing
from wait_for_me_app.demo.board import Arrived, Board, Fired, Outcome, Place, Removed, Seen, Tally
from wait_for_me_app.demo.scenario import CALLBACK, DEPLOYMENTS, SERVERS
from wait_for_me_app.demo.screen import LiveScreen, PlainScreen, open_screen

_offsets = count(1000)
PROCESSES = (
    view.Process("worker", 4194301, "up"),
    view.Process("executor", 4194302, "up"),
    *(view.Process(name, 4194303, "died" if name == "web-4" else "up") for name in SERVERS),
)


def place(topic: str, at_ms: int) -> Place:
    return Place(topic, 3, next(_offsets), at_ms)


def arrivals(group: str, names: tuple[str, ...], at_ms: int) -> list[Seen]:
    return [
        Arrived(
            place=place("commands", at_ms),
            group_key=group,
            participant_key=name,
            number_of_participants=6,
            wait_ms=6000,
        )
        for name in names
    ]


def fire(group: str, reason: str, missing: int) -> list[Seen]:
    fired = Fired(
        place=place("fires", 9000),
        group_key=group,
        fire_id=group,
        reason=reason,
        arrived_count=6 - missing,
        missing_count=missing,
    )
    done = Outcome(
        place=place("outcomes", 9040),
        group_key=group,
        fire_id=group,
        callback=CALLBACK,
        state="done",
        attempt=1,
        took_ms=138,
        is_final=True,
    )
    return [fired, done]


def scene(*seen: Seen, now_ms: int = 10_000, caption: str = "caption") -> view.Scene:
    board = Board.of(DEPLOYMENTS, SERVERS)
    for one in seen:
        board = board.read(one)
    return view.Scene(board=board, caption=caption, processes=PROCESSES, now_ms=now_ms, started_ms=0)


FULL = scene(
    *arrivals("deploy-41", SERVERS, 5000),
    *fire("deploy-41", "complete", 0),
    *arrivals("deploy-42", tuple(name for name in SERVERS if name != "web-4"), 6000),
    *fire("deploy-42", "timeout", 1),
    *arrivals("deploy-43", SERVERS[:3], 8000),
    Removed(place=place("commands", 9000), group_key="deploy-43", reason="rolled back by web-6"),
)


def drawn(what: view.Scene, width: int = 80, height: int = 24, glyphs: view.Glyphs = view.UNICODE) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(view.frame(what, width, height, glyphs))
    return captured.get().splitlines()


def line_of(lines: list[str], start: str) -> str:
    return next(line for line in lines if line.startswith(start))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (120, 40), (200, 60)])
def test_the_picture_fits_the_terminal(width: int, height: int) -> None:
    """Nothing wraps and nothing scrolls, with the longest process ids and times."""
    lines = drawn(FULL, width, height)
    assert max(map(len, lines)) <= width
    assert len(lines) < height
    assert not any("…" in line for line in lines)


def test_the_picture_keeps_its_height_while_the_log_fills() -> None:
    """A picture that jumps is no pleasure to look at."""
    assert len(drawn(scene())) == len(drawn(FULL))


def test_each_row_says_state_count_and_result_in_words() -> None:
    """Whoever sees no colour still sees everything."""
    lines = drawn(FULL)
    assert "6/6  FIRED complete  cloudfront.invalidate 138 ms" in line_of(lines, " deploy-41")
    assert "5/6  FIRED timeout   cloudfront.invalidate 138 ms" in line_of(lines, " deploy-42")
    assert "3/6  REMOVED         would fire in 4.0 s" in line_of(lines, " deploy-43")


def test_the_missing_server_is_named() -> None:
    """One missing server is named, more are counted."""
    lines = drawn(FULL)
    assert any("· web-4" in line and line.endswith("missing web-4") for line in lines)
    assert any(line.endswith("missing 3") for line in lines)


def test_a_waiting_row_counts_down_and_never_below_zero() -> None:
    """The countdown is the last add plus the wait."""
    seen = arrivals("deploy-41", ("web-1",), 5000)
    assert line_of(drawn(scene(*seen, now_ms=6500)), " deploy-41").endswith("fires in 4.5 s")
    assert line_of(drawn(scene(*seen, now_ms=99_000)), " deploy-41").endswith("fires in 0.0 s")


def test_a_fired_row_waits_for_its_callback() -> None:
    """Between the fire and the first outcome the row says so."""
    seen = [*arrivals("deploy-41", SERVERS, 5000), fire("deploy-41", "complete", 0)[0]]
    assert line_of(drawn(scene(*seen)), " deploy-41").endswith("callback not started yet")


def test_a_removed_row_says_that_it_did_not_fire_once_that_is_known() -> None:
    """After the deadline of a removed wait, silence is the result."""
    seen = [
        *arrivals("deploy-43", SERVERS[:3], 5000),
        Removed(place=place("commands", 6000), group_key="deploy-43", reason=""),
    ]
    assert line_of(drawn(scene(*seen, now_ms=12_000)), " deploy-43").endswith("did not fire")


def test_the_footer_shows_a_dead_web_server() -> None:
    """The fourth light is the killed one."""
    assert line_of(drawn(FULL), " ● worker").endswith("web servers ● ● ● ✗ ● ●  10.0 s")


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Everything of ours can be written in ASCII."""
    "\n".join(drawn(FULL, glyphs=view.ASCII)).encode("ascii")


def test_every_act_has_a_caption() -> None:
    """The third line says what is going on."""
    playing: Act = Playing(0, 0)
    board = scene(*arrivals("deploy-42", ("web-1",), 0)).board
    assert view.caption(Opening(0), board).startswith("Starting")
    assert view.caption(playing, board).startswith("deploy-42:")
    assert view.caption(playing, scene().board) == "Telling six web servers to refresh."
    assert "deploy-43" in view.caption(Closing(0, "check-2"), board)
    assert view.caption(Finished(), board) == view.caption(Failed("why"), board) == ""


def test_the_tally_is_one_line_and_each_fault_another() -> None:
    """A success is one line; what went wrong is said under it."""
    assert [line.plain for line in view.closing_lines(AS_PLANNED, (), 24_300)] == [
        " 1 complete, 1 timeout, 1 removed, 2 callbacks run, 0 duplicates  in 24.3 s"
    ]
    wrong = Tally(complete=1, timeout=1, removed=1, callbacks_run=3, duplicates=1)
    assert (
        view.closing_lines(wrong, ("duplicates is 1, expected 0",), 0)[1].plain == " Wrong: duplicates is 1, expected 0"
    )


def test_a_pipe_gets_plain_lines_once_each() -> None:
    """No control characters, no line twice."""
    stream = io.StringIO()
    with open_screen(stream) as screen:
        assert isinstance(screen, PlainScreen)
        screen.show(FULL, FULL.board.lines[:2])
        screen.show(FULL, FULL.board.lines[2:3])
        screen.close_with(view.closing_lines(AS_PLANNED, (), 0))
    text = stream.getvalue()
    assert "\x1b" not in text
    assert [text.count(f"web-{number} arrived, {number} of 6") for number in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert text.count(view.WARNING) == text.count("caption") == text.count("1 complete") == 1


def test_no_color_leaves_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is obeyed on a terminal: styles without colour may stay."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=True, width=80, height=24, _environ={"NO_COLOR": "1", "TERM": "xterm"}
    )
    with LiveScreen(console) as screen:
        screen.show(FULL, ())
    assert "FIRED complete" in stream.getvalue()
    assert not any(
        f"\x1b[{code}m" in stream.getvalue() for code in ("31", "32", "33", "35", "36", "1;32", "1;33", "1;35")
    )


def test_the_last_picture_leaves_room_for_the_tally() -> None:
    """The banner must not scroll away when the tally is printed below."""
    last = msgspec.structs.replace(FULL, lines_below=2)
    assert len(drawn(last)) == len(drawn(FULL)) - 2


def test_a_failure_says_what_first_and_the_log_below() -> None:
    """The reason is in red; the log that follows is not."""
    what, log = view.failure_lines("worker ended. It printed last:\nno such topic")
    assert (what.plain, log.plain) == (" The demo failed: worker ended. It printed last:", "   no such topic")
    assert not log.style
