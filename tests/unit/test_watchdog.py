"""The watchdog: a loop that stands still for too long is the end of its process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from wait_for_me_app import watchdog as watchdog_module
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.watchdog import EXIT_CODE, Watchdog


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look more often than in production."""
    monkeypatch.setattr(watchdog_module, "_INTERVAL_SECONDS", 0.01)


def stand_still(until: threading.Event) -> None:
    """Block the event loop's thread, as a long computation does, until something is noticed."""
    assert until.wait(timeout=10)


async def test_a_loop_that_stands_still_ends_the_process() -> None:
    """Noticed from another thread while it stands: it may never move again."""
    ended, stood = threading.Event(), list[float]()

    def end(seconds: float) -> None:
        stood.append(seconds)
        ended.set()

    watchdog = Watchdog(limit_seconds=0.05, end=end)
    watchdog.start()
    stand_still(ended)
    watchdog.stop()
    assert stood[0] > 0.05


async def test_a_loop_that_turns_is_left_alone() -> None:
    """For many times the limit."""
    ended = threading.Event()
    watchdog = Watchdog(limit_seconds=0.5, end=lambda _: ended.set())
    watchdog.start()
    until = time.monotonic() + 0.7
    while time.monotonic() < until:
        await asyncio.sleep(0.01)
    watchdog.stop()
    assert not ended.is_set()


async def test_nothing_is_sent_after_a_pause() -> None:
    """The outlet asks before each send: after a frozen machine wakes up, the loop may be quicker than the thread."""
    stood: list[float] = []
    watchdog = Watchdog(limit_seconds=5, end=stood.append)
    watchdog.start()
    watchdog.check()
    assert stood == []
    watchdog._last_turn -= 6
    watchdog.check()
    watchdog.stop()
    assert stood[0] > 5


async def test_the_loop_judges_itself_before_it_says_that_it_lives() -> None:
    """Its first turn after a pause must not wipe out the traces of the pause."""
    stood: list[float] = []
    watchdog = Watchdog(limit_seconds=5, end=stood.append)
    watchdog.start()
    watchdog._last_turn -= 6
    watchdog._turn(asyncio.get_running_loop())
    watchdog.stop()
    assert stood


async def test_a_planned_end_may_take_its_time() -> None:
    """Stopped, it is silent: closing stores may block the loop."""
    stood: list[float] = []
    watchdog = Watchdog(limit_seconds=0.01, end=stood.append)
    watchdog.start()
    watchdog.stop()
    watchdog._last_turn -= 6
    watchdog.check()
    watchdog._thread.join(timeout=5)
    assert stood == []
    assert not watchdog._thread.is_alive()


async def test_the_longest_stall_is_known() -> None:
    """For metrics: the target is that a stall never exceeds 200 ms."""
    watchdog = Watchdog(limit_seconds=60)
    watchdog.start()
    watchdog._last_turn -= 0.3
    watchdog._turn(asyncio.get_running_loop())
    watchdog.stop()
    assert 0.28 < watchdog.longest_stall_seconds < 5


def test_the_exit_code_is_that_of_an_internal_error() -> None:
    """Supervisors restart on it: nothing was acknowledged."""
    assert EXIT_CODE == ExitCode.INTERNAL_ERROR


SLEEPER = """
import asyncio
from wait_for_me_app.watchdog import Watchdog

async def main():
    Watchdog(limit_seconds=0.3).start()
    print("started", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")
def test_a_process_that_was_stopped_and_goes_on_ends_at_once() -> None:
    """SIGSTOP, as a frozen container: both threads wake together, and whichever is first ends it with code 70."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(0.4)  # the pause is what is tested
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(timeout=10) == EXIT_CODE
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
