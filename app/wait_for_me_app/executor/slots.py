"""Who may run next: fair between callbacks, bounded in number. Pure.

The danger: a callback that hangs takes one slot after the other until nothing else runs. So callbacks take turns, and
none may hold more than three quarters of the slots of its kind.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Generic, TypeVar

from wait_for_me_app.callbacks import Callback

_T = TypeVar("_T")


class Slots:
    """Places for attempts that run: threads for plain functions, tasks for async ones."""

    def __init__(self, *, threads: int, tasks: int) -> None:
        self._size = {False: threads, True: tasks}
        self._taken: Counter[bool] = Counter()
        self._held: Counter[str] = Counter()

    def has_room(self, callback: Callback) -> bool:
        """Return whether an attempt of this callback may start now."""
        size = self._size[callback.is_async]
        return self._taken[callback.is_async] < size and self._held[callback.name] < size - size // 4

    def take(self, callback: Callback) -> None:
        """Occupy a slot."""
        self._taken[callback.is_async] += 1
        self._held[callback.name] += 1

    def give_back(self, callback: Callback) -> None:
        """Free a slot."""
        self._taken[callback.is_async] -= 1
        self._held[callback.name] -= 1
        if not self._held[callback.name]:
            del self._held[callback.name]


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
