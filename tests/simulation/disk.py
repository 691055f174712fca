"""A worker's disk: what stays when its process dies, and what a test makes of it before the next one starts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from simulation.tasks import Killed
from wait_for_me_app.storage.rocks_store import _why_unfit
from wait_for_me_app.storage.store import Change, MemoryStore

CHANGELOG_ID = uuid.UUID("0d0cbd44-3b33-4a5c-9e3a-94c1e5a3d7c1")
Snapshot = tuple[dict[bytes, bytes], int, int]


class Disk:
    """The stores of one data directory, by partition; survives its processes."""

    def __init__(self) -> None:
        self.now: dict[int, Snapshot] = {}
        self.older: dict[int, Snapshot] = {}

    def lose(self) -> None:
        """Empty the directory."""
        self.now.clear()
        self.older.clear()

    def go_back(self) -> None:
        """Lose the end of the write-ahead logs: every store becomes what it was some writes ago."""
        self.now = dict(self.older)


class Place:
    """Stands for the path of a store: `data_directory / "rows" / topic / partition`."""

    __slots__ = ("last", "process")

    def __init__(self, process: Any, last: str = "") -> None:
        self.process, self.last = process, last

    def __truediv__(self, part: str) -> Place:
        return Place(self.process, part)


class DiskStore(MemoryStore):
    """A store that writes through to its disk; implements what `Lanes` asks of a RocksStore."""

    def __init__(self, process: Any, partition: int) -> None:
        super().__init__()
        self._process, self._partition = process, partition
        self.stored_topic = CHANGELOG_ID.bytes
        self.is_closed = False
        self._load()

    def _load(self) -> None:
        rows, self.changelog_offset, self.written_at_ms = self._process.disk.now.get(self._partition) or (
            {},
            -1,
            self._process.wall_ms(),
        )
        self.rows = dict(rows)

    def write(self, changes: Iterable[Change], changelog_offset: int) -> None:
        """Write through, unless the process is dead by now."""
        if self._process.is_dead:
            raise Killed
        self._refuse_closed()
        super().write(changes, changelog_offset)
        self.written_at_ms = self._process.wall_ms()
        disk, partition = self._process.disk, self._partition
        if partition not in disk.older or self._process.world.chance(4):
            disk.older[partition] = disk.now.get(partition) or ({}, -1, self.written_at_ms)
        disk.now[partition] = (self.rows.copy(), self.changelog_offset, self.written_at_ms)

    def get(self, row_key: bytes) -> bytes | None:
        self._refuse_closed()
        return self.rows.get(row_key)

    def get_many(self, row_keys: Sequence[bytes]) -> Sequence[bytes | None]:
        self._refuse_closed()
        return super().get_many(row_keys)

    def read_through(self) -> None:
        """Nothing is ever damaged here."""

    def _refuse_closed(self) -> None:
        if self.is_closed:
            raise Exception("the store is closed")  # noqa: TRY002 - a bare one, as rocksdict raises it

    def wipe(self) -> None:
        """Empty the store."""
        self._process.disk.now.pop(self._partition, None)
        self._load()

    def close(self) -> None:
        self.is_closed = True


def open_store(place: Place, *, topic_id: uuid.UUID | None, oldest_ms: int) -> DiskStore:
    """Stands for `storage.rocks_store.open_store`, with the same judgement of what is unfit."""
    store = DiskStore(place.process, int(place.last))
    if _why_unfit(store, topic_id, oldest_ms) is not None:  # type: ignore[arg-type]
        place.process.world.count("store_too_old")
        store.wipe()
    return store
