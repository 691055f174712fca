"""Child processes that callbacks run in, from the executor's side: started when needed, used again, killed when late.

The rule: an attempt that is given up is over at once. Its process is killed with everything that it has started (they
are a process group of their own), so no slot stays taken and nothing runs on. The executor itself is not touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from multiprocessing.connection import Connection
from typing import Final

from wait_for_me_app.callbacks import Call
from wait_for_me_app.executor.child_ends import ProcessDied, error_in

_PROGRAM: Final = (
    "import json, sys; given = sys.argv[1]; sys.path[:] = json.loads(given)['path']; "
    "from wait_for_me_app.executor.child import main; main(given)"
)


class Children:
    """The children of one executor, and which attempt each of them makes."""

    def __init__(self, *, log_format: str = "text", log_level: str = "info") -> None:
        self._logs = {"log_format": log_format, "log_level": log_level}
        self._lock = threading.Lock()
        self._attempts: dict[int, Child | None] = {}
        """Attempts that are asked for, and their children as soon as there is one."""
        self._given_up: set[int] = set()
        self._all: list[Child] = []
        self._leash: tuple[int, int] | None = None

    def expect(self, token: int) -> None:
        """Note that an attempt is going to be made; from now on it can be killed."""
        with self._lock:
            self._attempts[token] = None

    def new(self) -> Child:
        """Return a child that is not started yet."""
        with self._lock:
            if self._leash is None:
                self._leash = os.pipe()
            child = Child(self._leash[0], self._logs)
            self._all.append(child)
            return child

    def run(self, child: Child, token: int, call: Call) -> BaseException | None:
        """Make an attempt and wait for its end; return what is wrong with it."""
        with self._lock:
            if token in self._given_up:
                return self._forget(token, ProcessDied("given up before it began"))
            try:
                child.ensure()
            except OSError as error:  # no more processes, or no memory: the next attempt may find some
                return self._forget(token, error)
            self._attempts[token] = child
        outcome = child.run(call)
        with self._lock:
            return self._forget(token, outcome)

    def _forget(self, token: int, error: BaseException | None) -> BaseException | None:
        self._attempts.pop(token, None)
        self._given_up.discard(token)
        return error

    def kill(self, token: int) -> None:
        """End an attempt; of one that has ended already nothing is left to do."""
        with self._lock:
            if token not in self._attempts:
                return
            self._given_up.add(token)
            if (child := self._attempts[token]) is not None:
                child.kill()

    def close(self) -> None:
        """Kill them all."""
        with self._lock:
            for child in self._all:
                child.kill()
            if self._leash is not None:
                for end in self._leash:
                    os.close(end)
                self._leash = None


class Child:
    """One process, and the connection to it."""

    def __init__(self, leash: int, logs: dict[str, str]) -> None:
        self._leash = leash
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._is_killed = False

    def ensure(self) -> None:
        """Start the process, if it is not there or no longer."""
        if self._process is None or self._is_killed or self._process.poll() is not None:
            self.end()
            self._start()

    def run(self, call: Call) -> BaseException | None:
        """Make one attempt and return what is wrong with it."""
        assert self._socket is not None
        try:
            request = pickle.dumps((call.function, call.args, call.kwargs))
        except Exception as error:  # noqa: BLE001 - a function that cannot travel is a failure like any other
            return error
        connection = Connection(os.dup(self._socket.fileno()))
        try:
            with connection:
                connection.send_bytes(request)
                return error_in(connection.recv_bytes())
        except (EOFError, OSError):
            return ProcessDied(f"the callback's process has ended ({self.end()}): see what ended it")

    def kill(self) -> None:
        """End the process and all that it has started; whoever waits for its answer hears of it at once."""
        if self._process is None or self._socket is None:
            return
        self._is_killed = True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        requests = theirs.fileno()
        path = [part or os.getcwd() for part in sys.path]
        given = {"path": path, "requests": requests, "leash": self._leash, "logs": self._logs}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, json.dumps(given)],
                stdin=subprocess.DEVNULL,
                pass_fds=(requests, self._leash),
                start_new_session=True,
            )
        self._socket, self._is_killed = ours, False

    def end(self) -> str:
        """Say how the process has ended. What it had started ends too, and so does one that only let go of the connection."""
        if (process := self._process) is None:
            return "it was not there"
        self.kill()  # before it is waited for: until then its number is nobody else's
        code = process.wait()
        if self._socket is not None:
            self._socket.close()
        self._socket = self._process = None
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
