"""Runs callbacks: plain functions in a bounded set of threads, async ones on a loop in a thread of its own, and those that
ask for it in child processes (`children.py`), each with a thread here that waits for it.

The danger: a callback can hang, exit, raise anything, or block the loop. Nothing of it reaches the thread that talks to
Kafka; how an attempt ended comes back through a queue. The threads are daemons, because one that hangs must not keep a
stopped executor alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, Final

from wait_for_me_app.callbacks import Call
from wait_for_me_app.executor.children import Children
from wait_for_me_app.executor.effects import Start

_CLEAN_UP_SECONDS: Final = 0.5

Ended = tuple[int, BaseException | None]
Attempting = Callable[[int, Call], BaseException | None]
"""Runs one attempt to its end and returns what was wrong with it."""


class Runner:
    """Starts attempts and tells how they ended, in the order in which they did."""

    def __init__(self, *, threads: int, processes: int = 1, children: Children | None = None) -> None:
        self._ended: SimpleQueue[Ended] = SimpleQueue()
        self._children = children or Children()
        self._threads = _Threads(threads, self._ended, "callback", lambda: contextlib.nullcontext(_run_plain))
        self._processes = _Threads(processes, self._ended, "callback-process", self._in_new_child)
        self._tasks = _Tasks(self._ended)

    def start(self, start: Start) -> None:
        """Run a callback; return at once."""
        match start.kind:
            case "thread":
                self._threads.start(start.token, start.call)
            case "task":
                self._tasks.start(start.token, start.call)
            case "process":
                self._children.expect(start.token)
                self._processes.start(start.token, start.call)

    def cancel(self, token: int) -> None:
        """End an attempt if it is async or in a process; a plain function cannot be ended and runs on."""
        self._tasks.cancel(token)
        self._children.kill(token)

    @contextlib.contextmanager
    def _in_new_child(self) -> Iterator[Attempting]:
        child = self._children.new()
        try:
            yield lambda token, call: self._children.run(child, token, call)
        finally:
            child.end()

    def take_ended(self) -> list[Ended]:
        """Return the attempts that have ended since the last call: token, and what was raised if anything was."""
        ended: list[Ended] = []
        with contextlib.suppress(Empty):
            while True:
                ended.append(self._ended.get_nowait())
        return ended

    def close(self) -> None:
        """Take no more work; what runs is left to itself, but for child processes, which are killed."""
        self._threads.close()
        self._processes.close()
        self._children.close()
        self._tasks.close()


class _Threads:
    """At most `size` threads, made when they are needed and kept."""

    def __init__(
        self,
        size: int,
        ended: SimpleQueue[Ended],
        name: str,
        new_place: Callable[[], AbstractContextManager[Attempting]],
    ) -> None:
        self._size = size
        self._ended = ended
        self._name = name
        self._new_place = new_place
        """Makes what one thread runs its attempts with, as long as it lives."""
        self._work: SimpleQueue[tuple[int, Call] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def start(self, token: int, call: Call) -> None:
        self._work.put((token, call))
        if not self._idle.acquire(blocking=False) and self._count < self._size:
            self._count += 1
            threading.Thread(target=self._run, name=f"{self._name}-{self._count}", daemon=True).start()

    def close(self) -> None:
        for _ in range(self._count):
            self._work.put(None)

    def _run(self) -> None:
        with self._new_place() as run:
            self._serve(run)

    def _serve(self, run: Attempting) -> None:
        while (work := self._work.get()) is not None:
            token, call = work
            error = run(token, call)
            del work, call  # an idle thread must not keep the last fire in memory
            self._idle.release()
            self._ended.put((token, error))


def _run_plain(_token: int, call: Call) -> BaseException | None:
    try:
        result = call()
        if inspect.isawaitable(result):
            _discard(result)
            raise TypeError("a plain function has returned an awaitable, which nobody runs: make it `async def`")
    except BaseException as error:  # noqa: BLE001 - sys.exit() in a callback is a failure of the callback like any other
        return error
    return None


def _discard(result: Any) -> None:
    if isinstance(result, Coroutine):
        result.close()  # or Python warns that it was never awaited


class _Tasks:
    """One event loop in a thread of its own, made when it is needed."""

    def __init__(self, ended: SimpleQueue[Ended]) -> None:
        self._ended = ended
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="callbacks-async", daemon=True)
        self._running: dict[int, asyncio.Task[None]] = {}  # touched on the loop only

    def start(self, token: int, call: Call) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread.start()
        self._loop.call_soon_threadsafe(self._spawn, token, call)

    def cancel(self, token: int) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, token)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(2 * _CLEAN_UP_SECONDS)  # not for ever: a callback may block the loop

    def _serve(self) -> None:
        assert self._loop is not None
        self._loop.run_forever()
        if left := asyncio.all_tasks(self._loop):
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(left, timeout=_CLEAN_UP_SECONDS))
        self._loop.close()

    def _spawn(self, token: int, call: Call) -> None:
        self._running[token] = asyncio.get_running_loop().create_task(self._run(token, call))

    def _cancel(self, token: int) -> None:
        if (task := self._running.get(token)) is not None:
            task.cancel()

    async def _run(self, token: int, call: Call) -> None:
        error: BaseException | None = None
        try:
            await call()
        except BaseException as raised:  # noqa: BLE001 - cancellation and exit too: the attempt has ended, the loop goes on
            error = raised
        self._running.pop(token, None)
        self._ended.put((token, error))
