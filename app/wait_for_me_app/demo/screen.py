"""Where the demo is shown: a live picture on a terminal, one line an event anywhere else. The only code that prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from wait_for_me_app.demo import view
from wait_for_me_app.demo.board import Line


class Screen(Protocol):
    """What the show needs of a screen."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, scene: view.Scene, new: Sequence[Line]) -> None:
        """Bring the scene up to date; `new` are the events since the last call."""

    def close_with(self, lines: Sequence[Text]) -> None:
        """Print lines below everything else."""


def open_screen(stream: TextIO) -> Screen:
    """Return the screen that fits the stream."""
    console = Console(file=stream, highlight=False)
    return LiveScreen(console) if console.is_terminal and not console.is_dumb_terminal else PlainScreen(console)


class LiveScreen:
    """A picture that is drawn again and again in place, and stays when it is over."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._glyphs = view.UNICODE if console.encoding.startswith("utf") else view.ASCII
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, scene: view.Scene, new: Sequence[Line]) -> None:
        del new  # the picture has its own log
        width, height = self._console.size
        self._live.update(view.frame(scene, width, height, self._glyphs), refresh=True)

    def close_with(self, lines: Sequence[Text]) -> None:
        self._live.stop()
        self._console.print(*lines, sep="\n", soft_wrap=True)


class PlainScreen:
    """Lines for a file, a pipe or a dumb terminal: no colour, no cursor, nothing drawn twice."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._caption = ""
        self._is_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, scene: view.Scene, new: Sequence[Line]) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._print(Text(f"{view.TITLE} ({view.WARNING})"), Text(view.PREMISE))
        self._print(*(view.log_line(line, scene.started_ms) for line in new))
        if scene.caption != self._caption:
            self._caption = scene.caption
            self._print(Text(f" {scene.caption}"))

    def close_with(self, lines: Sequence[Text]) -> None:
        self._print(*lines)

    def _print(self, *lines: Text) -> None:
        for line in lines:
            self._console.print(line.plain.rstrip(), soft_wrap=True, markup=False)
