"""The Faust table of rows: Faust sees its changelog, assigns it with the commands, and may read it; only lanes write it.

Registered as the store `lanes://`. A write through Faust would bypass the order of effects, so it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from faust.stores.base import SerializedStore
from faust.types.tuples import TP

from wait_for_me_app.storage import keys


class LaneRowsStore(SerializedStore[Any, Any]):
    """A read-only view on the stores of this worker's lanes."""

    def persisted_offset(self, tp: TP) -> int | None:  # noqa: ARG002
        """Return nothing: where a restore begins is between the lane and its store."""
        return None

    def _get(self, key: bytes) -> bytes | None:
        row_key = keys.group_row_key(key)
        for store in self._stores():
            if (value := store.get(row_key)) is not None:
                return bytes(value)
        return None

    def _contains(self, key: bytes) -> bool:
        return self._get(key) is not None

    def _iteritems(self) -> Iterator[tuple[bytes, bytes]]:
        for store in self._stores():
            for row_key, value in store.items(keys.GROUP):
                yield keys.group_key_of(row_key), value

    def _iterkeys(self) -> Iterator[bytes]:
        return (key for key, _ in self._iteritems())

    def _itervalues(self) -> Iterator[bytes | None]:
        return (value for _, value in self._iteritems())

    def _size(self) -> int:
        return sum(1 for _ in self._iteritems())

    def _set(self, key: bytes, value: bytes | None) -> NoReturn:  # noqa: ARG002
        _refuse()

    def _del(self, key: bytes) -> NoReturn:  # noqa: ARG002
        _refuse()

    def _clear(self) -> NoReturn:
        _refuse()

    async def backup_partition(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refuse: the changelog is the backup."""
        _refuse()

    def restore_backup(self, *_args: Any, **_options: Any) -> NoReturn:
        """Refuse: a lane restores from its changelog."""
        _refuse()

    def reset_state(self) -> NoReturn:
        """Refuse: `faust reset` would delete every lane's store while another process may hold it."""
        _refuse()

    def _stores(self) -> list[Any]:
        app: Any = self.app  # a LaneApp
        return [lane.store for lane in app.lanes.by_partition.values()]


def _refuse() -> NoReturn:
    raise TypeError("rows are written by lanes only; to change a group, send a command to the commands topic")
