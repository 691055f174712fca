"""One suite for both stores, then what only a disk can do: lie, be locked, be old, be another's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wait_for_me_app.storage.rocks_store import RocksStore, open_store
from wait_for_me_app.storage.store import MemoryStore

TOPIC = uuid.UUID("7d3c1f9e-0b5a-4a77-9d2e-3f6a1c8b5e40")
OTHER_TOPIC = uuid.UUID("11111111-2222-5333-8444-555555555555")
NOW_MS = 1_000_000


def reopened(path: Path, *, topic: uuid.UUID | None = TOPIC, oldest_ms: int = 0, now_ms: int = NOW_MS) -> RocksStore:
    """Open what is at a path."""
    return open_store(path, topic_id=topic, oldest_ms=oldest_ms, now_ms=lambda: now_ms)


@pytest.fixture(params=["memory", "rocks"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An empty store of either kind."""
    one = MemoryStore() if request.param == "memory" else reopened(tmp_path / "rows")
    yield one
    one.close()


# -- what every store does


def test_a_store_begins_empty_and_before_the_first_offset(store: Any) -> None:
    """-1: the changelog is read from its beginning."""
    assert (store.changelog_offset, store.get(b"Gx"), list(store.items(b"G"))) == (-1, None, [])


def test_what_is_written_is_read_with_its_offset(store: Any) -> None:
    """Rows and the offset that they reach to go together."""
    store.write([(b"Gx", b"1"), (b"Gy", b"2")], 7)
    assert (store.get(b"Gx"), store.get(b"Gy"), store.changelog_offset) == (b"1", b"2", 7)


def test_a_none_deletes_and_deleting_nothing_is_fine(store: Any) -> None:
    """Tombstones come from changelogs in any order."""
    store.write([(b"Gx", b"1")], 0)
    store.write([(b"Gx", None), (b"Gnever", None)], 1)
    assert (store.get(b"Gx"), store.changelog_offset) == (None, 1)


def test_the_last_change_of_a_key_in_one_write_wins(store: Any) -> None:
    """A restore hands over thousands of records at once, the same key among them more than once."""
    store.write([(b"Gx", b"1"), (b"Gx", None), (b"Gx", b"3"), (b"Gy", b"1"), (b"Gy", None)], 4)
    assert (store.get(b"Gx"), store.get(b"Gy")) == (b"3", None)


def test_many_rows_come_in_the_order_asked_with_gaps_as_none(store: Any) -> None:
    """A run is prefetched with one call; nothing asked is nothing answered."""
    store.write([(b"Ga", b"1"), (b"Gc", b"3")], 0)
    assert list(store.get_many([b"Gc", b"Gb", b"Ga", b"Gc"])) == [b"3", None, b"1", b"3"]
    assert list(store.get_many([])) == []


def test_keys_come_in_byte_order_from_a_start_up_to_a_number(store: Any) -> None:
    """Rounds are deleted a slice at a time; the start itself is included."""
    store.write([(key, b"") for key in (b"Pb", b"Pa\xff", b"Pa", b"W", b"G")], 0)
    assert list(store.keys_from(b"Pa", 2)) == [b"Pa", b"Pa\xff"]
    assert list(store.keys_from(b"Pa\xff", 9)) == [b"Pa\xff", b"Pb", b"W"]
    assert list(store.keys_from(b"X", 9)) == list(store.keys_from(b"P", 0)) == []


def test_items_are_those_of_one_kind_in_order(store: Any) -> None:
    """The deadline index reads all group rows and nothing else."""
    store.write([(b"Gb", b"2"), (b"A", b"9"), (b"Ga", b"1"), (b"Pa", b"9"), (b"W", b"9")], 0)
    assert list(store.items(b"G")) == [(b"Ga", b"1"), (b"Gb", b"2")]


def test_an_empty_value_is_a_row(store: Any) -> None:
    """Empty is not absent."""
    store.write([(b"Gx", b"")], 0)
    assert store.get(b"Gx") == b""


def test_an_offset_may_be_written_without_rows(store: Any) -> None:
    """Compaction leaves holes: the end of a changelog may have nothing for the store."""
    store.write((), 41)
    assert store.changelog_offset == 41


writes = st.lists(
    st.lists(st.tuples(st.sampled_from([b"Ga", b"Gb", b"Pa", b"Pb", b"W"]), st.none() | st.binary(max_size=3)), max_size=6),
    max_size=6,
)  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(batches=writes)
def test_both_stores_say_the_same_after_any_writes(tmp_path_factory: pytest.TempPathFactory, batches: Any) -> None:
    """The twin in memory is what tests trust, so it must be like the one on disk."""
    path = tmp_path_factory.mktemp("rows")
    memory, rocks = MemoryStore(), reopened(path / "x")
    for offset, changes in enumerate(batches):
        memory.write(changes, offset)
        rocks.write(changes, offset)
    for kind in (b"G", b"P", b"W"):
        assert list(rocks.items(kind)) == list(memory.items(kind))
    assert list(rocks.keys_from(b"A", 99)) == list(memory.keys_from(b"A", 99))
    assert rocks.changelog_offset == memory.changelog_offset
    rocks.close()
    shutil.rmtree(path)


# -- what only a disk does


def filled(path: Path, rows: int = 4000) -> list[bytes]:
    """Fill a store with one SST of several blocks, close it, and return its row keys."""
    store = reopened(path)
    row_keys = [b"G%05d" % number for number in range(rows)]
    for offset, start in enumerate(range(0, rows, 500)):
        store.write([(key, uuid.uuid4().bytes * 6) for key in row_keys[start : start + 500]], offset)
    store._db.flush()
    store.close()
    return row_keys


def flip(path: Path, share: float) -> None:
    """Turn all bits of one byte of a file."""
    content = bytearray(path.read_bytes())
    content[min(len(content) - 1, int(len(content) * share))] ^= 0xFF
    path.write_bytes(content)


def only(path: Path, pattern: str) -> Path:
    """Return the one file that matches."""
    (found,) = path.glob(pattern)
    return found


def test_a_store_is_found_again_with_its_rows_and_offset(tmp_path: Path) -> None:
    """A restart of a worker restores only what is missing."""
    keys = filled(tmp_path / "rows")
    store = reopened(tmp_path / "rows", oldest_ms=NOW_MS)
    assert ([key for key, _ in store.items(b"G")], store.changelog_offset) == (keys, 7)
    store.close()


def test_a_store_is_for_its_owner_only(tmp_path: Path) -> None:
    """Rows name participants; nobody else on the machine reads them."""
    reopened(tmp_path / "rows").close()
    assert (tmp_path / "rows").stat().st_mode & 0o077 == 0


SST_SHARES = [0.0, 0.2, 0.5, 0.8, 0.95, 0.999]


@pytest.mark.parametrize("share", SST_SHARES)
def test_a_flipped_byte_in_a_table_file_never_makes_rows_vanish_in_silence(tmp_path: Path, share: float) -> None:
    """The store opens empty and is restored, or has every row: a deadline index with a hole would lose fires for ever."""
    row_keys = filled(tmp_path / "rows")
    flip(only(tmp_path / "rows", "*.sst"), share)
    store = reopened(tmp_path / "rows")
    found = [key for key, _ in store.items(b"G")]
    assert (store.changelog_offset, found) in [(-1, []), (7, row_keys)]
    assert all(store.get(key) is not None for key in found[::97])
    store.close()


@pytest.mark.parametrize("ask", ["items", "keys_from"])
def test_a_block_that_goes_bad_under_an_open_store_is_an_error(tmp_path: Path, ask: str) -> None:
    """RocksDB's iterator just ends at such a block; taken for the end of the rows it would forget all that comes behind it."""
    filled(tmp_path / "rows")
    store = RocksStore(tmp_path / "rows", topic_id=TOPIC, now_ms=lambda: NOW_MS)
    flip(only(tmp_path / "rows", "*.sst"), 0.5)
    with pytest.raises(Exception, match="checksum"):
        list(store.items(b"G") if ask == "items" else store.keys_from(b"G", 10**6))
    store.close()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("file", ["MANIFEST-*", "CURRENT"])
def test_a_damaged_index_of_files_means_an_empty_store(tmp_path: Path, file: str, share: float) -> None:
    """What cannot be opened is wiped: the changelog has it all."""
    filled(tmp_path / "rows", 600)
    flip(only(tmp_path / "rows", file), share)
    store = reopened(tmp_path / "rows")
    assert (store.changelog_offset, list(store.items(b"G"))) == (-1, [])
    store.close()


@pytest.mark.parametrize("attempt", range(4))
def test_damage_that_a_compaction_meets_first_means_an_empty_store(tmp_path: Path, attempt: int) -> None:
    """The compaction begins as the store is opened, and its failure comes up when the store is closed to be wiped.

    Raised from there, it would end the worker at every start.
    """
    store = reopened(tmp_path / "rows")
    for offset in range(3):
        store.write([(b"G%05d" % number, b"%020d" % offset) for number in range(2000)], offset)
        store._db.flush()
    store.write([(b"G00001", b"newest")], 9)
    store.close()
    first = min((tmp_path / "rows").glob("*.sst"))
    content = bytearray(first.read_bytes())
    content[5] ^= 0xFF
    first.write_bytes(content)
    store = reopened(tmp_path / "rows")
    assert (store.changelog_offset, list(store.items(b"G"))) == (-1, [])
    store.close()


def test_a_missing_table_file_means_an_empty_store(tmp_path: Path) -> None:
    """Somebody tidied up."""
    filled(tmp_path / "rows", 600)
    only(tmp_path / "rows", "*.sst").unlink()
    store = reopened(tmp_path / "rows")
    assert (store.changelog_offset, list(store.items(b"G"))) == (-1, [])
    store.close()


def test_a_wiped_store_is_a_store_like_any_other(tmp_path: Path) -> None:
    """It is written, closed and found again."""
    filled(tmp_path / "rows", 600)
    flip(only(tmp_path / "rows", "CURRENT"), 0.5)
    store = reopened(tmp_path / "rows")
    store.write([(b"Gnew", b"1")], 3)
    store.close()
    again = reopened(tmp_path / "rows")
    assert (list(again.items(b"G")), again.changelog_offset) == ([(b"Gnew", b"1")], 3)
    again.close()


@pytest.mark.parametrize("lost", [1, 40, 400])
def test_a_torn_tail_of_the_log_takes_its_offset_with_it(tmp_path: Path, lost: int) -> None:
    """After a loss of power the store is older: its last rows and its offset are missing together."""
    store = reopened(tmp_path / "rows")
    for offset in range(20):
        store.write([(b"G%03d" % offset, b"x" * 50)], offset)
    shutil.copytree(tmp_path / "rows", tmp_path / "torn")
    store.close()
    log = only(tmp_path / "torn", "*.log")
    log.write_bytes(log.read_bytes()[:-lost])
    torn = reopened(tmp_path / "torn")
    assert torn.changelog_offset < 19
    assert len(list(torn.items(b"G"))) == torn.changelog_offset + 1
    torn.close()


@pytest.mark.parametrize(("age_ms", "kept"), [(0, True), (999, True), (1001, False)])
def test_a_store_that_is_too_old_is_emptied(tmp_path: Path, age_ms: int, kept: bool) -> None:
    """It may have missed deletions that the changelog has forgotten, and would bring deleted rows back."""
    store = reopened(tmp_path / "rows", now_ms=NOW_MS - age_ms)
    store.write([(b"Gx", b"1")], 5)
    store.close()
    again = reopened(tmp_path / "rows", oldest_ms=NOW_MS - 1000)
    assert (again.get(b"Gx"), again.changelog_offset) == ((b"1", 5) if kept else (None, -1))
    again.close()


def test_writing_keeps_a_store_young(tmp_path: Path) -> None:
    """Age is counted from the last write, not from the first."""
    for now_ms in (1_000, 9_000):
        store = reopened(tmp_path / "rows", now_ms=now_ms)
        store.write([(b"G%d" % now_ms, b"1")], now_ms)
        store.close()
    again = reopened(tmp_path / "rows", oldest_ms=8_000)
    assert len(list(again.items(b"G"))) == 2
    again.close()


def test_a_store_whose_first_restore_was_cut_short_grows_old_too(tmp_path: Path) -> None:
    """It has rows and no offset yet; what has been deleted since would come back."""
    store = reopened(tmp_path / "rows", now_ms=1_000)
    store.write([(b"Gx", b"1")], -1)
    store.close()
    again = reopened(tmp_path / "rows", oldest_ms=8_000)
    assert list(again.items(b"G")) == []
    again.close()


def test_an_empty_store_is_never_too_old(tmp_path: Path) -> None:
    """There is nothing in it that could be out of date."""
    reopened(tmp_path / "rows", now_ms=1).close()
    again = reopened(tmp_path / "rows", oldest_ms=NOW_MS)
    assert again.changelog_offset == -1
    again.close()


def test_a_store_of_another_topic_is_emptied(tmp_path: Path) -> None:
    """A changelog that was deleted and created again has offsets that mean something else."""
    store = reopened(tmp_path / "rows")
    store.write([(b"Gx", b"1")], 5)
    store.close()
    again = reopened(tmp_path / "rows", topic=OTHER_TOPIC)
    assert (again.get(b"Gx"), again.changelog_offset) == (None, -1)
    again.close()


def test_wiping_leaves_an_open_store_of_the_same_topic(tmp_path: Path) -> None:
    """A lane wipes a store whose offset does not fit its changelog, and goes on with it."""
    store = reopened(tmp_path / "rows")
    store.write([(b"Gx", b"1")], 5)
    store.wipe()
    assert (store.get(b"Gx"), store.changelog_offset) == (None, -1)
    store.write([(b"Gy", b"2")], 0)
    assert store.get(b"Gy") == b"2"
    store.close()


def test_the_bookkeeping_row_is_no_row(tmp_path: Path) -> None:
    """The offset stands below all kinds of rows and is not among them."""
    store = reopened(tmp_path / "rows")
    store.write([(b"A", b"1"), (b"W", b"2")], 5)
    assert list(store.keys_from(b"A", 9)) == [b"A", b"W"]
    store.close()


OPEN = """
import sys
from pathlib import Path
from wait_for_me_app.storage.rocks_store import open_store
try:
    open_store(Path(sys.argv[1]), topic_id=None, oldest_ms=0).close()
    print("opened")
except Exception as error:
    print(error)
"""


def in_another_process(path: Path) -> str:
    """Open a store in a process that knows nothing of this one's; return what came of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    command = [sys.executable, "-c", OPEN, str(path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("where", ["this process", "another process"])
def test_a_store_that_somebody_holds_is_not_wiped(tmp_path: Path, where: str) -> None:
    """A lock is an error: emptying the files under a running worker would lose its rows."""
    store = reopened(tmp_path / "rows")
    store.write([(b"Gx", b"1")], 5)
    if where == "another process":
        assert "lock" in in_another_process(tmp_path / "rows").lower()
    else:
        with pytest.raises(Exception, match=r"(?i)lock"):
            reopened(tmp_path / "rows")
    assert store.get(b"Gx") == b"1"
    store.close()


def test_a_path_with_lock_in_its_name_can_be_damaged_too(tmp_path: Path) -> None:
    """The word in a message is not a lock: a deployment may be called `locksmith`."""
    filled(tmp_path / "locksmith", 600)
    flip(only(tmp_path / "locksmith", "MANIFEST-*"), 0.5)
    store = reopened(tmp_path / "locksmith")
    assert store.changelog_offset == -1
    store.close()


def test_rows_survive_many_openings(tmp_path: Path) -> None:
    """Each opening starts a new log file; none loses what was there."""
    for offset in range(5):
        store = reopened(tmp_path / "rows")
        store.write([(b"G%d" % offset, b"1")], offset)
        store.close()
    store = reopened(tmp_path / "rows")
    found = [key for key, _ in store.items(b"G")]
    assert all(one < other for one, other in pairwise(found))
    assert len(found) == 5
    store.close()
