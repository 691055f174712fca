"""The thin shell of the demo: starts the processes, reads the topics, does what `acts.next_act` says, and shows it.

Order at the end: the children end first (the executor finishes what it is running), then the topics are read to their end, then the
callback's own witness is counted. So a copy that came late is counted too.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import KafkaException
from rich.text import Text

from wait_for_me import WaitForMe
from wait_for_me.errors import WaitForMeError
from wait_for_me_app.demo import acts, callbacks, view, web_server
from wait_for_me_app.demo.board import Board, Note, Place, Tally, tally
from wait_for_me_app.demo.broker import PARTITIONS, EmbeddedBroker
from wait_for_me_app.demo.callbacks import WITNESS_VARIABLE, read_witness
from wait_for_me_app.demo.children import ChildDied, Children
from wait_for_me_app.demo.interruption import Interrupted, Interruption
from wait_for_me_app.demo.reader import Reader
from wait_for_me_app.demo.scenario import (
    CALLBACK,
    CALLBACK_PARAMS,
    CHECK_CALLBACK,
    DEPLOYMENTS,
    SERVERS,
    WAIT_SECONDS,
    Kill,
    Refresh,
)
from wait_for_me_app.demo.screen import Screen, open_screen
from wait_for_me_app.demo.web_server import Order
from wait_for_me_app.settings import DEFAULT_WEB_PORT, Settings

FRAME_S: Final = 0.08
SILENCE_S: Final = 0.3
QUICK_FETCHES: Final = {"WAIT_FOR_ME_KAFKA_FETCH_WAIT_MAX_MS": "20"}
"""The embedded broker answers a fetch when its wait is over; a real one answers as soon as there is something."""


class NotAsPlanned(Exception):
    """The demo could not come to its end; the message says why."""


def run(*, json: bool, keep: bool, port: int | None) -> int:
    """Play the story and return the exit code; with `json`, stdout gets one line and the show goes to stderr."""
    with Interruption() as interruption, open_screen(sys.stderr if json else sys.stdout) as screen:
        try:
            return _run(interruption, screen, json=json, keep=keep, port=port)
        except (Interrupted, NotAsPlanned, ChildDied, WaitForMeError, KafkaException, OSError) as error:
            interrupted = interruption.wanted  # whatever fails once it is wanted is part of the stopping
            if interrupted is None:
                screen.close_with(view.failure_lines(str(error)))
                return 1
            screen.close_with([Text(f" Stopped by {interrupted}; all processes have ended.")])
            return interrupted.exit_code


def _run(interruption: Interruption, screen: Screen, *, json: bool, keep: bool, port: int | None) -> int:
    with ExitStack() as stack:
        show = Show(stack, interruption, screen, port)
        show.play()
        page = view.page_line(show.page_url, keep=keep)
        counted, faults = show.count() if keep else show.finish()
        closing_lines = [*view.closing_lines(counted, faults, show.elapsed_ms), page]
        if keep:
            _close(screen, closing_lines, counted if json else None)
            show.hold()
    if not keep:  # not before everything has ended and is cleared away
        _close(screen, closing_lines, counted if json else None)
    return 1 if faults else 0


def _close(screen: Screen, lines: Sequence[Text], counted: Tally | None) -> None:
    """Print what was counted, and last where the page is; the tally as JSON too, if it is wanted."""
    screen.close_with(lines)
    if counted is not None:
        sys.stdout.write(counted.as_json() + "\n")
        sys.stdout.flush()


class Show:
    """One performance; everything that it opens is closed by the stack it is given, last first."""

    def __init__(self, stack: ExitStack, interruption: Interruption, screen: Screen, port: int | None = None) -> None:
        self._port = port
        self._interruption, self._screen = interruption, screen
        self._started_ms = _now_ms()
        self._board = Board.of(DEPLOYMENTS, SERVERS)
        self._lines_shown = 0
        self._lines_below = 0
        self._broker = EmbeddedBroker()
        self._children = stack.enter_context(Children())
        self._settings = self._make_settings()
        self._broker.make_topics(_topic_names(self._settings))
        self._reader = stack.enter_context(closing(Reader(self._broker.address, self._settings.topics, PARTITIONS)))
        self._client = stack.enter_context(WaitForMe(self._broker.address))
        self._start_children()

    @property
    def elapsed_ms(self) -> int:
        """How long the show has been running."""
        return _now_ms() - self._started_ms

    def play(self) -> None:
        """Go from act to act until the story has ended; raise if it cannot."""
        act, actions = acts.open_the_show(_now_ms())
        while not isinstance(act, acts.Finished):
            for action in actions:
                self._do(action)
            self._look(view.caption(act, self._board), FRAME_S)
            self._children.check()
            act, actions = acts.next_act(act, self._board, _now_ms(), PARTITIONS)
            if isinstance(act, acts.Failed):
                raise NotAsPlanned(f"{act.why}\n{self._tails()}")

    def finish(self) -> tuple[Tally, tuple[str, ...]]:
        """End the processes, read what is left, and count."""
        self._look("Ending the processes, then counting.", 0)
        self._children.end(*(child.name for child in self._children))
        self._lines_below = 2  # the tally and the shell's prompt
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < SILENCE_S:
            if self._look("Done. All processes have ended.", FRAME_S):
                quiet_since = time.monotonic()
        counted = tally(self._board, read_witness(self._witness))
        return counted, acts.faults(self._board, counted)

    def count(self) -> tuple[Tally, tuple[str, ...]]:
        """Count while everything goes on."""
        counted = tally(self._board, read_witness(self._witness))
        return counted, acts.faults(self._board, counted)

    def hold(self) -> None:
        """Keep everything going until somebody ends it; that is not a fault."""
        with suppress(Interrupted):
            while True:
                self._interruption.obey()
                self._children.check()
                time.sleep(FRAME_S)

    @property
    def page_url(self) -> str | None:
        """Where the worker serves its page, as it has said itself: its port may have been taken."""
        found = _PAGE.search(self._children["worker"].log.read_text(errors="replace"))
        return found[1] if found else None

    def _look(self, caption: str, timeout_s: float) -> int:
        """Read what is new, show it, and return how much it was."""
        self._interruption.obey()
        new = self._reader.read(timeout_s)
        for seen in new:
            self._board = self._board.read(seen)
        lines = self._board.lines[self._lines_shown :]
        self._lines_shown += len(lines)
        self._screen.show(self._scene(caption), lines)
        return len(new)

    def _scene(self, caption: str) -> view.Scene:
        return view.Scene(
            board=self._board,
            caption=caption,
            processes=tuple(view.Process(child.name, child.pid, child.light) for child in self._children),
            now_ms=_now_ms(),
            started_ms=self._started_ms,
            lines_below=self._lines_below,
        )

    # -- what the acts ask for

    def _do(self, action: acts.Action) -> None:
        match action:
            case Refresh():
                self._children[action.server].tell(msgspec.json.encode(_order(action)))
            case Kill():
                self._children.kill(action.server)
                self._note(action.server, f"process {self._children[action.server].pid} killed; it cannot report")
            case acts.Check():
                self._check(action.group_key)

    def _check(self, group_key: str) -> None:
        self._client.add_participant(
            participant_key="demo",
            group_key=group_key,
            number_of_participants_in_group=1,
            execute_after_waiting=CHECK_CALLBACK,
            wait_time_in_seconds=60,
        )

    def _note(self, subject: str, text: str) -> None:
        self._board = self._board.read(Note(place=Place("demo", 0, -1, _now_ms()), subject=subject, text=text))

    # -- the processes

    def _make_settings(self) -> Settings:
        return Settings(
            bootstrap_servers=self._broker.address,
            data_dir=self._children.directory / "worker",
            partitions=PARTITIONS,
            replication_factor=1,
            demo_broker=True,
            worker_id="demo",
            web_port=DEFAULT_WEB_PORT if self._port is None else self._port,
        )

    @property
    def _witness(self) -> Path:
        return self._children.directory / "witness"

    def _start_children(self) -> None:
        ours = {**self._settings.environment(), WITNESS_VARIABLE: str(self._witness)}
        environment = {**_without_settings(os.environ), **ours}
        self._start("worker", [*_COMMAND, "worker"], environment)
        self._start(
            "executor", [*_COMMAND, "executor", "--callbacks", callbacks.__name__], {**environment, **QUICK_FETCHES}
        )
        for server in SERVERS:
            self._start(server, [sys.executable, "-m", web_server.__name__, server], environment)

    def _start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._interruption.obey()
        self._children.start(name, command, environment, pipe=name in SERVERS)

    def _tails(self) -> str:
        return "\n".join(f"{name} printed last:\n{self._children[name].tail()}" for name in ("worker", "executor"))


_PAGE: Final = re.compile(r"web_ready url=(\S+)")
_COMMAND: Final = (sys.executable, "-m", "wait_for_me_app")


def _order(refresh: Refresh) -> Order:
    return Order(
        deployment=refresh.deployment,
        number_of_servers=len(SERVERS),
        takes_s=refresh.takes_s,
        wait_s=WAIT_SECONDS,
        callback=CALLBACK,
        params=CALLBACK_PARAMS,
        finds_it_broken=refresh.finds_it_broken,
    )


def _topic_names(settings: Settings) -> tuple[str, ...]:
    names = settings.topics
    live = (names.commands, names.fires, names.outcomes)
    return (*live, names.commands_dead_letters, names.fires_dead_letters, names.changelog)


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The demo must not inherit settings of a real deployment: they could name its brokers and secrets."""
    return {name: value for name, value in environ.items() if not name.startswith("WAIT_FOR_ME_")}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
