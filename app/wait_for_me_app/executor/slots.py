"""Who may run next: fair between callbacks, bounded in number and in speed. Pure; time is passed in.

The danger: a callback that hangs takes one slot after the other until nothing else runs. So callbacks take turns, and
none may hold more than three quarters of the slots of its kind, or than it has asked for (`concurrency`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from wait_for_me_app.callbacks import Callback, Kind
from wait_for_me_app.executor.rates import Rate

_T = TypeVar("_T")


class Slots:
    """Places for attempts that run: threads for plain functions, tasks for async ones, processes for those that ask for one."""

    def __init__(self, *, threads: int, tasks: int, processes: int = 1, at_most: int | None = None) -> None:
        self._size: dict[Kind, int] = {"thread": threads, "task": tasks, "process": processes}
        self._at_most = threads + tasks + processes if at_most is None else at_most
        self._taken: Counter[Kind] = Counter()
        self._all = 0
        self._held: Counter[str] = Counter()
        self._rates: dict[str, Rate] = {}

    def has_room(self, callback: Callback, steady_ms: int) -> bool:
        """Return whether an attempt of this callback may start now."""
        size, held = self._size[callback.kind], self._held[callback.name]
        return (
            self._taken[callback.kind] < size
            and self._all < self._at_most
            and held < size - size // 4
            and (callback.concurrency is None or held < callback.concurrency)
            and (callback.per_second is None or self._rate_of(callback, callback.per_second).wait_ms(steady_ms) == 0)
        )

    def wait_ms(self, callback: Callback, steady_ms: int) -> int | None:
        """Return in how long the callback's own speed lets it start, or None when time alone will not."""
        if callback.per_second is None:
            return None
        return self._rate_of(callback, callback.per_second).wait_ms(steady_ms) or None

    def take(self, callback: Callback, steady_ms: int) -> None:
        """Occupy a slot."""
        self._taken[callback.kind] += 1
        self._all += 1
        self._held[callback.name] += 1
        if callback.per_second is not None:
            self._rate_of(callback, callback.per_second).take(steady_ms)

    def give_back(self, callback: Callback) -> None:
        """Free a slot."""
        self._taken[callback.kind] -= 1
        self._all -= 1
        self._held[callback.name] -= 1
        if not self._held[callback.name]:
            del self._held[callback.name]

    @property
    def taken(self) -> dict[Kind, int]:
        """How many slots are taken, by kind."""
        return {kind: self._taken[kind] for kind in self._size}

    def _rate_of(self, callback: Callback, per_second: float) -> Rate:
        rate = self._rates.get(callback.name)
        if rate is None:
            rate = self._rates[callback.name] = Rate(per_second)
        return rate


class Turns(Generic[_T]):
    """Queues by name that are served in turn."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[_T]] = {}  # in the order of their turns

    def put(self, name: str, item: _T) -> None:
        """Append an item to the queue of that name."""
        self._queues.setdefault(name, deque()).append(item)

    def take(self, may_start: Callable[[str], bool]) -> _T | None:
        """Return the first item of the next queue whose name may start, or None."""
        name = next((name for name in self._queues if may_start(name)), None)
        if name is None:
            return None
        queue = self._queues.pop(name)
        item = queue.popleft()
        if queue:
            self._queues[name] = queue  # at the end: the others come first
        return item

    @property
    def names(self) -> Iterable[str]:
        """The names that somebody waits under."""
        return self._queues.keys()
