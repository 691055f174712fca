"""Runs one command for exactly as long as the process that started it lives.

    python leash.py LOG COMMAND...

The starter holds the other end of this process's standard input. When that closes, for whatever reason (a teardown, a
crash, a kill -9 of pytest), the command and everything it has started are killed. The first line on standard output is
the command's process id, so that a test can signal the command itself; the second is its exit code, negative for a signal.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(log: str, *command: str) -> None:
    """Start the command, say its process id, and wait for its end or for the starter's."""
    with open(log, "ab", buffering=0) as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    _say(child.pid)
    threading.Thread(target=_kill_at_end_of_input, args=(child.pid,), daemon=True).start()
    code = child.wait()
    _kill_group(child.pid)  # what the command has left behind
    _say(code)


def _kill_at_end_of_input(pid: int) -> None:
    while os.read(0, 1024):
        pass
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _say(number: int) -> None:
    with contextlib.suppress(OSError):  # the starter may be gone
        os.write(1, f"{number}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
