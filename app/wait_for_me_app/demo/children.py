"""The demo's child processes: started, watched and ended by their process id, never by name.

Each child leads its own session, so Ctrl-C in the terminal reaches the demo alone and the demo ends its children in order. The
reaper (see `reaper.py`) ends them if the demo cannot. Everything a child prints goes to a file, whose end is shown if it fails.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self

from wait_for_me_app.demo import reaper

GRACE_SECONDS: Final = 6.0
LOG_TAIL_LINES: Final = 25


class ChildDied(Exception):
    """A child ended that should not have; the message says which, how, and what it printed last."""


class Child:
    """One running process and the file that it prints to."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self.was_asked_to_end = False
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def light(self) -> Literal["up", "died", "ended"]:
        """Whether it runs; if not, whether it was asked to end or died."""
        if self.is_alive:
            return "up"
        return "ended" if self.was_asked_to_end else "died"

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def tell(self, line: bytes) -> None:
        """Write one line to the child's standard input; whether a dead one reads it is for `check` to say."""
        if self._process.stdin is None:
            raise ValueError(f"{self.name} was started without a pipe; start it with pipe=True")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Close the pipe to the child, if it has one."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Signal the child and whatever it has started itself."""
        reaper.signal_group(self.pid, number)

    def wait(self, until: float) -> bool:
        """Wait until the given monotonic time; return whether the child has ended."""
        try:
            self._process.wait(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self) -> str:
        """Return the last lines that the child printed."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


class Children:
    """All children of one demo and their common directory; leaving the context ends the first and removes the second."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="wait-for-me-demo-"))
        self._children: dict[str, Child] = {}
        self._doomed: set[str] = set()
        try:
            self._reaper = _start_reaper(self.directory)
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(*self._children)
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait()

    def __getitem__(self, name: str) -> Child:
        return self._children[name]

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children.values())

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], *, pipe: bool = False) -> Child:
        """Start a child under a name; with `pipe`, it can be told lines."""
        log = self.directory / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._note("+", process.pid)
        self._children[name] = child = Child(name, process, log)
        return child

    def kill(self, name: str) -> None:
        """Kill a child on purpose: it may be dead from now on."""
        self._doomed.add(name)
        self._children[name].signal(signal.SIGKILL)

    def check(self) -> None:
        """Raise if a child has ended that should be alive."""
        for child in self._children.values():
            if not child.is_alive and child.name not in self._doomed:
                raise ChildDied(f"{child.name} (process {child.pid}) {child.ending}. It printed last:\n{child.tail()}")

    def end(self, *names: str) -> None:
        """End children: ask all at once, give them some seconds, kill what is left."""
        children = [self._children[name] for name in names]
        self._doomed.update(names)
        for child in children:
            if child.is_alive:
                child.was_asked_to_end = True
                child.signal(signal.SIGTERM)
        give_up_at = time.monotonic() + GRACE_SECONDS
        for child in children:
            child.wait(give_up_at)
            child.signal(signal.SIGKILL)  # the group: also what the child has started and left behind
            child.wait(time.monotonic() + GRACE_SECONDS)
            child.close()
            self._note("-", child.pid)

    def _note(self, sign: str, pid: int) -> None:
        assert self._reaper.stdin is not None
        self._reaper.stdin.write(f"{sign}{pid}\n".encode())
        self._reaper.stdin.flush()


def _start_reaper(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(Path(reaper.__file__)), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
