"""Running callbacks: threads, tasks, and whatever they may do to the executor."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from processes import wait_until
from wait_for_me_app.callbacks import Call, Kind
from wait_for_me_app.executor.effects import Start
from wait_for_me_app.executor.runner import Ended, Runner


@pytest.fixture
def runner() -> Iterator[Runner]:
    """A runner with two threads."""
    runner = Runner(threads=2)
    yield runner
    runner.close()


def start(runner: Runner, token: int, function: Callable[..., Any], *args: Any, is_async: bool = False) -> None:
    """Start an attempt."""
    kind: Kind = "task" if is_async else "thread"
    runner.start(Start(token=token, call=Call(function=function, args=args, kwargs={}), kind=kind))


def ended(runner: Runner, count: int = 1) -> list[Ended]:
    """Wait for so many attempts to end."""
    found: list[Ended] = []

    def enough() -> bool:
        found.extend(runner.take_ended())
        return len(found) >= count

    wait_until(enough, 10, lambda: f"ended so far: {found}")
    return found


def test_a_callback_that_returns_has_no_error(runner: Runner) -> None:
    """What it returns is of no interest."""
    start(runner, 7, lambda: "ignored")
    assert ended(runner) == [(7, None)]


def test_a_callback_that_raises_is_told_with_what_it_raised(runner: Runner) -> None:
    """With its traceback, for the log."""
    start(runner, 1, lambda: 1 / 0)
    ((token, error),) = ended(runner)
    assert token == 1
    assert isinstance(error, ZeroDivisionError)
    assert error.__traceback__ is not None


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), BaseException("any")])
def test_nothing_that_a_callback_raises_ends_a_thread_or_the_loop(runner: Runner, raised: BaseException) -> None:
    """sys.exit() in a callback is a failure like any other."""

    def plain() -> None:
        raise raised

    async def later() -> None:
        raise raised

    start(runner, 1, plain)
    start(runner, 2, later, is_async=True)
    assert dict(ended(runner, 2)) == {1: raised, 2: raised}
    start(runner, 3, lambda: None)
    start(runner, 4, asyncio.sleep, 0, is_async=True)
    assert dict(ended(runner, 2)) == {3: None, 4: None}


def test_callbacks_never_run_in_the_thread_that_starts_them(runner: Runner) -> None:
    """That thread talks to Kafka."""
    seen: list[threading.Thread] = []

    async def later() -> None:
        seen.append(threading.current_thread())

    start(runner, 1, lambda: seen.append(threading.current_thread()))
    start(runner, 2, later, is_async=True)
    ended(runner, 2)
    assert threading.current_thread() not in seen
    assert all(thread.daemon for thread in seen), "a callback that hangs must not keep the process alive"


def test_threads_are_used_again_and_never_more_than_allowed(runner: Runner) -> None:
    """Two threads do fifty callbacks."""
    names: set[str] = set()
    for token in range(50):
        start(runner, token, lambda: names.add(threading.current_thread().name))
    ended(runner, 50)
    assert names <= {"callback-1", "callback-2"}


def test_two_callbacks_run_side_by_side(runner: Runner) -> None:
    """They meet at a barrier that one alone would never pass."""
    barrier = threading.Barrier(2, timeout=10)
    for token in (1, 2):
        start(runner, token, barrier.wait)
    assert dict(ended(runner, 2)) == {1: None, 2: None}


def test_async_callbacks_run_side_by_side(runner: Runner) -> None:
    """A hundred of them, in one thread."""
    arrived: list[int] = []

    async def meet() -> None:
        arrived.append(1)
        while len(arrived) < 100:
            await asyncio.sleep(0)

    for token in range(100):
        start(runner, token, meet, is_async=True)
    assert {error for _, error in ended(runner, 100)} == {None}


def test_an_async_callback_can_be_cancelled_and_has_time_to_clean_up(runner: Runner) -> None:
    """It has ended when its cleaning up has."""
    steps: list[str] = []
    begun = threading.Event()

    async def patient() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    start(runner, 1, patient, is_async=True)
    assert begun.wait(10)
    runner.cancel(1)
    ((_, error),) = ended(runner)
    assert isinstance(error, asyncio.CancelledError)
    assert steps == ["cleaned up"]


def test_cancelling_what_cannot_be_cancelled_does_nothing(runner: Runner) -> None:
    """A plain function, one that has ended, and one that never was."""
    release = threading.Event()
    start(runner, 1, release.wait)
    runner.cancel(1)
    runner.cancel(99)
    assert runner.take_ended() == []
    release.set()
    assert ended(runner) == [(1, None)]


def test_a_plain_function_that_returns_a_coroutine_has_failed(runner: Runner) -> None:
    """Nobody would run it, so it must not count as done; the remedy is in the message."""
    start(runner, 1, lambda: asyncio.sleep(0))
    ((_, error),) = ended(runner)
    assert isinstance(error, TypeError)
    assert "make it `async def`" in str(error)


def test_an_idle_thread_keeps_nothing_of_the_last_callback(runner: Runner) -> None:
    """Fires can be large."""
    large = ["parameter"]
    before = sys.getrefcount(large)
    start(runner, 1, lambda _: None, large)
    ended(runner)
    wait_until(lambda: sys.getrefcount(large) <= before, 10)


def test_closing_lets_idle_threads_end() -> None:
    """And waits for none that hangs."""
    runner = Runner(threads=2)
    hang = threading.Event()
    start(runner, 1, hang.wait)
    start(runner, 2, lambda: None)
    ended(runner)
    runner.close()
    wait_until(lambda: sum(one.name.startswith("callback-2") for one in threading.enumerate()) == 0, 10)
    hang.set()
