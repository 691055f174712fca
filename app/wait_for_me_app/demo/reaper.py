"""Ends the demo's children when the demo is gone, however it went: even SIGKILL cannot leave a worker behind.

Run as `python -I -S reaper.py DIRECTORY`. It reads lines from the demo: `+PID` a child has started (as leader of its own process
group), `-PID` it has been waited for. When the pipe closes, it ends the groups that are left and removes the directory. It only
ever signals process ids that the demo has named.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable

GRACE_SECONDS = 2.0


def left_over(lines: Iterable[str]) -> set[int]:
    """Return the process ids that were started and not waited for."""
    alive: set[int] = set()
    for line in lines:
        pid = int(line[1:])
        if line.startswith("+"):
            alive.add(pid)
        else:
            alive.discard(pid)
    return alive


def end(pids: set[int]) -> None:
    """Ask each process group to end, and kill what has not ended after a while."""
    for pid in pids:
        signal_group(pid, signal.SIGTERM)
    give_up_at = time.monotonic() + GRACE_SECONDS
    while any(signal_group(pid, 0) for pid in pids) and time.monotonic() < give_up_at:
        time.sleep(0.05)
    for pid in pids:
        signal_group(pid, signal.SIGKILL)


def signal_group(pid: int, number: int) -> bool:
    """Signal the process group that `pid` leads; return whether there still was one."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> None:
    """Wait for the end of the demo, then tidy up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(left_over(sys.stdin))
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
