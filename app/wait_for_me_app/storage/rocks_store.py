r"""One partition's rows in a RocksDB of its own.

    rows            as `keys.py` and `row_codec.py` draw them
    b"\0"            changelog offset (8, signed) | time of the last write in ms (8) | changelog topic id (16)

The last entry is written in the same WriteBatch as the rows, so a tail of the write-ahead log that is lost takes its offset with
it. The write-ahead log is not fsynced: after a loss of power the store is older, never wrong, and the changelog brings it forward.
"""

from __future__ import annotations

import gc
import logging
import shutil
import struct
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import rocksdict

from wait_for_me_app.storage.store import Change

log = logging.getLogger(__name__)

_META_KEY: Final = b"\0"
_META: Final = struct.Struct(">qQ16s")
_NO_TOPIC: Final = bytes(16)

CACHE_BYTES: Final = 32 << 20
WRITE_BUFFER_BYTES: Final = 8 << 20

_shared_cache: rocksdict.Cache | None = None


class RocksStore:
    """The rows of one partition; implements `storage.store.Store`."""

    def __init__(self, path: Path, *, topic_id: uuid.UUID | None, now_ms: Callable[[], int]) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._topic_bytes = topic_id.bytes if topic_id else _NO_TOPIC
        self._now_ms = now_ms
        self._path = path
        self._db: Any = rocksdict.Rdict(str(path), _options())  # its types are those of its pickling mode
        try:
            self.changelog_offset, self.written_at_ms, self.stored_topic = self._read_meta()
        except BaseException:
            self.close()  # else its lock would be in the way of the store that replaces it
            raise

    def get(self, row_key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(row_key)
        return value

    def get_many(self, row_keys: Sequence[bytes]) -> Sequence[bytes | None]:
        values: Sequence[bytes | None] = self._db.get(list(row_keys)) if row_keys else []
        return values

    def write(self, changes: Iterable[Change], changelog_offset: int) -> None:
        batch = rocksdict.WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for row_key, value in changes:
            if value is None:
                delete(row_key)
            else:
                put(row_key, value)
        self.written_at_ms = self._now_ms()
        put(_META_KEY, _META.pack(changelog_offset, self.written_at_ms, self._topic_bytes))
        self._db.write(batch)
        self.changelog_offset = changelog_offset

    def keys_from(self, start: bytes, at_most: int) -> Iterator[bytes]:
        found = list(islice(self._db.keys(from_key=start), at_most))
        if len(found) < at_most:
            self._refuse_damage_behind(found[-1] if found else start)
        yield from found

    def items(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        row_key = kind
        for row_key, value in self._db.items(from_key=kind):
            if row_key[:1] != kind:
                return
            yield row_key, value
        self._refuse_damage_behind(row_key)

    def read_through(self) -> None:
        """Read every block once; raises if one is damaged."""
        last = deque(self._db.keys(), maxlen=1)
        self._refuse_damage_behind(last[0] if last else _META_KEY)

    def wipe(self) -> None:
        """Empty the store; it will be restored from the first record of its changelog."""
        self.close()
        shutil.rmtree(self._path)
        self._path.mkdir(mode=0o700)
        self._db = rocksdict.Rdict(str(self._path), _options())
        self.changelog_offset, self.written_at_ms, self.stored_topic = self._read_meta()

    def close(self) -> None:
        """Close the store; what RocksDB cannot flush is lost with its offset, and the changelog has it."""
        try:
            self._db.close()
        except Exception as error:  # noqa: BLE001  # rocksdict raises bare Exceptions: a compaction may have met a damaged block
            log.warning("store_not_flushed", extra={"path": str(self._path), "reason": str(error)})
        gc.collect(0)

    def _refuse_damage_behind(self, row_key: bytes) -> None:
        """Raise if rows end here because a block cannot be read: RocksDB's iterator just stops there, and only its status tells."""
        iterator = self._db.iter()
        iterator.seek(row_key)
        if iterator.valid():
            iterator.next()
        iterator.status()

    def _read_meta(self) -> tuple[int, int, bytes]:
        meta: bytes | None = self._db.get(_META_KEY)
        return _META.unpack(meta) if meta else (-1, self._now_ms(), self._topic_bytes)


def open_store(
    path: Path,
    *,
    topic_id: uuid.UUID | None,
    oldest_ms: int,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> RocksStore:
    """Open a partition's store, empty if what is on disk is corrupt, older than `oldest_ms`, or another topic's.

    A store that has not been written to for longer than half of the changelog's `delete.retention.ms` may have missed deletions
    and would bring deleted rows back.
    """
    try:
        store = RocksStore(path, topic_id=topic_id, now_ms=now_ms)
    except Exception as error:  # rocksdict raises bare Exceptions; a lock held by another process is not ours to wipe
        if str(path / "LOCK") in str(error):
            raise
        log.warning("store_wiped", extra={"path": str(path), "reason": str(error)})
        return _wipe_and_open(path, topic_id=topic_id, now_ms=now_ms)
    reason = _why_unfit(store, topic_id, oldest_ms)
    if reason is None:
        return store
    log.warning("store_wiped", extra={"path": str(path), "reason": reason})
    store.close()
    return _wipe_and_open(path, topic_id=topic_id, now_ms=now_ms)


def _why_unfit(store: RocksStore, topic_id: uuid.UUID | None, oldest_ms: int) -> str | None:
    if topic_id is not None and store.stored_topic != topic_id.bytes:
        return "it belongs to another changelog topic"
    if store.written_at_ms < oldest_ms:  # also one whose first restore was cut short: it has rows, and no offset yet
        return "it is older than half of the changelog's delete.retention.ms"
    try:
        store.read_through()  # 1.7 s for a million rows; a damaged block found later would stop the worker at every start
    except Exception as error:  # noqa: BLE001  # rocksdict raises bare Exceptions
        return str(error)
    return None


def _wipe_and_open(path: Path, *, topic_id: uuid.UUID | None, now_ms: Callable[[], int]) -> RocksStore:
    shutil.rmtree(path)
    return RocksStore(path, topic_id=topic_id, now_ms=now_ms)


def _options() -> rocksdict.Options:
    """Small buffers and one cache for all partitions: a worker may hold dozens of them."""
    global _shared_cache
    if _shared_cache is None:
        _shared_cache = rocksdict.Cache(CACHE_BYTES)
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_max_open_files(128)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_max_total_wal_size(4 * WRITE_BUFFER_BYTES)
    options.set_keep_log_file_num(2)
    options.set_max_background_jobs(2)
    table = rocksdict.BlockBasedOptions()
    table.set_block_cache(_shared_cache)
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(True)
    table.set_format_version(5)
    options.set_block_based_table_factory(table)
    return options
