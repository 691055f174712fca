"""Child processes of tests: on a leash, logged to a file, ended by their process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")


class Running:
    """A started command; its output goes to `log`."""

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.log = log
        log.touch()
        self._leash = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LEASH), str(log), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=None if env is None else dict(env),
            start_new_session=True,  # Ctrl-C reaches pytest alone, which then ends its children in order
        )
        assert self._leash.stdout is not None
        first = self._leash.stdout.readline()
        if not first:
            raise RuntimeError(f"{command[0]} could not be started: {self.tail()}")
        self.pid = int(first)
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        if self._exit_code is None and self._leash.poll() is not None:
            self._read_exit_code()
        return self._exit_code

    def signal(self, number: signal.Signals) -> None:
        """Signal the command itself."""
        if self.exit_code is None:
            with suppress(ProcessLookupError):  # it has ended, and its leash has not yet
                os.kill(self.pid, number)

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for its end and return the exit code."""
        self._leash.wait(timeout)
        code = self.exit_code
        assert code is not None
        return code

    def kill(self) -> int:
        """End it as a power cut would: SIGKILL, no goodbye."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def stop(self, timeout: float = 20.0) -> int:
        """Ask it to end (SIGTERM); kill it when it does not within the time. Return the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def close(self) -> None:
        """End it whatever happens; safe to call twice."""
        if self.exit_code is None:
            self.stop()
        for pipe in (self._leash.stdin, self._leash.stdout):
            if pipe is not None:
                pipe.close()

    def output(self) -> str:
        """Return everything it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 60) -> str:
        """Return the last lines that it has printed."""
        return "\n".join(self.output().splitlines()[-lines:])

    def wait_for_output(self, text: str, timeout: float = 30.0) -> None:
        """Wait until it has printed this text; fail with what it printed instead when it ends or takes too long."""
        wait_until(lambda: text in self.output() or self.exit_code is not None, timeout, lambda: self.tail())
        assert text in self.output(), f"it ended with {self.exit_code} and never said {text!r}:\n{self.tail()}"

    def _read_exit_code(self) -> None:
        assert self._leash.stdout is not None
        rest = b"" if self._leash.stdout.closed else self._leash.stdout.read()
        self._exit_code = int(rest) if rest.strip() else -signal.SIGKILL


def wait_until(condition: Callable[[], bool], timeout: float = 30.0, explain: Callable[[], str] = lambda: "") -> None:
    """Poll until the condition holds; fail with an explanation after the timeout."""
    give_up_at = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up_at, f"not within {timeout:g} s. {explain()}"
        time.sleep(0.02)
