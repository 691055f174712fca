"""Coroutines without an event loop: who runs next is the schedule's choice, so every interleaving and every crash is possible.

The product's own coroutines run unchanged. What they `await` is, in the end, a `Pending`; a task that waits is not ready, and
whoever settles what it waits for makes it ready again. Within one process tasks run in the order in which they became ready, as
asyncio promises; between processes there is no order. Work for a thread is a `Job`: it runs as one piece, except where it asks
Kafka something, for there the world may go on meanwhile (`World.meanwhile`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import TracebackType
from typing import Any


class Killed(BaseException):
    """The process is dead: nothing of it runs any more. Not an Exception, as nobody can handle a SIGKILL."""


class Cancelled(BaseException):
    """The coroutine has been cancelled, as asyncio does it."""


class Pending:
    """A value that somebody will bring."""

    __slots__ = ("error", "is_settled", "value", "waiting")

    def __init__(self) -> None:
        self.is_settled = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.waiting: list[Task] = []

    def __await__(self) -> Generator[Pending, None, Any]:
        while not self.is_settled:
            yield self
        if self.error is not None:
            raise self.error
        return self.value

    def settle(self, value: Any = None, error: BaseException | None = None) -> None:
        """Bring the value, or the error, and make ready who waits for it."""
        self.is_settled, self.value, self.error = True, value, error
        for task in self.waiting:
            task.wake()
        self.waiting.clear()


class Task:
    """A coroutine of one process. One with a name is awaited by nobody: its process is told when it fails."""

    __slots__ = ("coroutine", "ended", "is_over", "name", "process")

    def __init__(self, process: Any, coroutine: Coroutine[Any, Any, Any], name: str = "") -> None:
        self.process, self.coroutine, self.name = process, coroutine, name
        self.ended = Pending()
        self.is_over = False
        process.tasks[self] = None
        process.make_ready(self)

    def wake(self) -> None:
        """Make the task ready to go on."""
        if not self.is_over and not self.process.is_dead:
            self.process.make_ready(self)

    def run(self) -> None:
        """Go on to the next await."""
        if self.is_over:
            return
        try:
            waits_for = self.coroutine.send(None)
        except StopIteration as stop:
            self._end(stop.value, None)
        except Killed:
            self._end(None, None)
        except Cancelled as error:
            self._end(None, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends this coroutine and nothing else
            self._end(None, error)
            if self.name and not self.process.is_dead:
                self.process.task_failed(self.name, error)
        else:
            self._wait(waits_for)

    def cancel(self) -> None:
        """Throw `Cancelled` into the coroutine where it waits."""
        if self.is_over:
            return
        try:
            self.coroutine.throw(Cancelled())
        except BaseException as error:  # noqa: BLE001 - as above, cancellation included
            self._end(None, error)
        else:
            raise AssertionError("a cancelled coroutine went on")

    def drop(self) -> None:
        """Forget the coroutine of a dead process."""
        self.is_over = True
        self.coroutine.close()

    def _wait(self, waits_for: Pending | None) -> None:
        if waits_for is None or waits_for.is_settled:
            self.process.make_ready(self)
        else:
            waits_for.waiting.append(self)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self.is_over = True
        self.process.tasks.pop(self, None)
        self.ended.settle(value, error)


class Job:
    """A function that a thread of one process runs."""

    __slots__ = ("done", "function", "process")

    def __init__(self, process: Any, function: Callable[[], Any]) -> None:
        self.process, self.function = process, function
        self.done = Pending()
        process.world.jobs.append(self)

    def forget(self) -> None:
        """Nobody waits for it any more: it does not run if no thread has taken it on by now."""
        jobs = self.process.world.jobs
        if self in jobs and self.process.world.chance(2):
            jobs.remove(self)

    def run(self) -> None:
        """Run it to its end."""
        try:
            value = self.function()
        except Killed:
            return
        except Blocked:
            self.process.world.jobs.append(self)  # it waits for a lock that another thread holds, and tries again later
        except Exception as error:  # noqa: BLE001 - it is brought to whoever waits
            if not self.process.is_dead:
                self.done.settle(None, error)
        else:
            self.done.settle(value)


class Blocked(Exception):
    """A thread found a lock taken, before it had done anything."""


class ThreadLock:
    """What `threading.Lock` is, where a thread that must wait is run again from its start."""

    __slots__ = ("_is_taken",)

    def __init__(self) -> None:
        self._is_taken = False

    def acquire(self, *, timeout: float) -> bool:
        """Take the lock; a simulated thread that must wait never waits too long."""
        assert timeout > 0
        if self._is_taken:
            raise Blocked
        self._is_taken = True
        return True

    def release(self) -> None:
        """Give it back."""
        self._is_taken = False


class Lock:
    """What `asyncio.Lock` is: whoever comes first is served first."""

    __slots__ = ("_is_taken", "_queue")

    def __init__(self) -> None:
        self._is_taken = False
        self._queue: list[Pending] = []

    async def __aenter__(self) -> None:
        if self._is_taken:
            turn = Pending()
            self._queue.append(turn)
            try:
                await turn
            except Cancelled:
                if turn in self._queue:
                    self._queue.remove(turn)
                else:
                    self._hand_on()
                raise
        self._is_taken = True

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        if self._queue:
            self._queue.pop(0).settle()
        else:
            self._is_taken = False


class _GiveWay:
    def __await__(self) -> Generator[None, None, None]:
        yield None


class Asyncio:
    """Stands for the module `asyncio` in the product's modules."""

    Lock = Lock
    CancelledError = Cancelled

    def __init__(self, running: Callable[[], Any]) -> None:
        self._running = running

    async def gather(self, *awaitables: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines side by side."""
        tasks = [Task(self._running(), one) for one in awaitables]
        return [await task.ended for task in tasks]

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> Task:
        """Run a coroutine by itself."""
        return Task(self._running(), coroutine)

    async def to_thread(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Have a thread run the function; a cancelled caller does not stop it."""
        job = Job(self._running(), lambda: function(*args, **kwargs))
        try:
            return await job.done
        except Cancelled:
            job.forget()
            raise

    def sleep(self, _seconds: float) -> Awaitable[None]:
        """Give way once."""
        return _GiveWay()
