"""Restore: the newest row of each key, whoever appended last; and reading it from a broker."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaError, Producer

from fakes import TOPIC_ID, Messages, Stored, run_header
from wait_for_me.errors import NotReady
from wait_for_me_app import restore as restore_module
from wait_for_me_app.core.deadlines import entry
from wait_for_me_app.core.rows import Watermark
from wait_for_me_app.lane import Gap, LoggedRow
from wait_for_me_app.restore import Applier, Changelog, Restored, RestoreGivenUp, _messages_until_eof, passes
from wait_for_me_app.storage.keys import WATERMARK_KEY
from wait_for_me_app.storage.newest_rows import NewestRows
from wait_for_me_app.storage.rocks_store import open_store
from wait_for_me_app.storage.row_codec import decode_watermark, encode_other
from wait_for_me_app.storage.run_end import NO_RUN, RunEnd, run_end_in
from wait_for_me_app.storage.store import MemoryStore, Store


def watermark(offset: int, closed_until: bytes = b"") -> bytes:
    """A watermark's row."""
    return encode_other(
        Watermark(
            offset=offset,
            stream_time_ms=0,
            topic_id=str(TOPIC_ID),
            partitions=1,
            rerouted={},
            closed_until=closed_until,
        )
    )


def written(*records: tuple[bytes | None, bytes | None, int | RunEnd | None]) -> list[Messages]:
    """Changelog records of (key, value, end of the run that wrote it)."""
    return [
        Messages(
            Stored(
                offset=offset,
                timestamp_ms=0,
                key=key,
                value=value,
                headers=(("other", b"x"),) if end is None else (("other", b"x"), end_of(end).header()),
            )
        )
        for offset, (key, value, end) in enumerate(records)
    ]


def end_of(run: int | RunEnd) -> RunEnd:
    """A number stands for the record behind which a run ended."""
    return run if isinstance(run, RunEnd) else RunEnd(run)


def applied(messages: list[Messages], store: MemoryStore | None = None) -> MemoryStore:
    """Apply all of them."""
    found = store or MemoryStore()
    applier = Applier(found)
    for message in messages:
        applier.take(message)
    applier.flush()
    return found


# -- which records count


def test_the_later_record_of_a_key_wins_while_runs_go_forward() -> None:
    """The usual case: one owner."""
    store = applied(written((b"G1", b"a", 5), (WATERMARK_KEY, watermark(5), 5), (b"G1", b"b", 7)))
    assert store.get(b"G1") == b"b"


def test_a_zombies_row_is_ignored() -> None:
    """Its run ended below a watermark that stands before it: what it says has been overtaken."""
    store = applied(written((b"G1", b"new", 9), (WATERMARK_KEY, watermark(9), 9), (b"G1", b"old", 8)))
    assert store.get(b"G1") == b"new"


def test_a_zombies_tombstone_is_ignored() -> None:
    """It would delete a round that its successor has opened."""
    store = applied(written((b"G1", b"new", 9), (WATERMARK_KEY, watermark(9), 9), (b"G1", None, 8)))
    assert store.get(b"G1") == b"new"


def test_a_zombies_watermark_does_not_lead_back() -> None:
    """Records that have been folded would be folded again, onto rows that know them not all."""
    store = applied(written((WATERMARK_KEY, watermark(9), 9), (WATERMARK_KEY, watermark(3), 3), (b"G1", b"zombie", 4)))
    assert store.get(WATERMARK_KEY) == watermark(9)
    assert store.get(b"G1") is None


def test_a_tombstone_of_the_owner_deletes() -> None:
    """Its run covers it."""
    store = applied(written((b"G1", b"a", 5), (WATERMARK_KEY, watermark(5), 5), (b"G1", None, 6)))
    assert store.get(b"G1") is None


def test_a_run_that_ends_at_the_watermark_counts() -> None:
    """The second half of a healing, or the slices of one record: same watermark, same truth."""
    store = applied(written((WATERMARK_KEY, watermark(9), 9), (b"G1", b"healed", 9)))
    assert store.get(b"G1") == b"healed"


def test_rows_of_a_run_whose_watermark_is_missing_count() -> None:
    """The last run before a crash: its records will be read again, and its rows know them."""
    store = applied(written((WATERMARK_KEY, watermark(5), 5), (b"G1", b"ahead", 8)))
    assert (store.get(b"G1"), store.get(WATERMARK_KEY)) == (b"ahead", watermark(5))


def test_of_two_runs_written_interleaved_the_further_one_counts() -> None:
    """Each worker writes its watermark after its rows: until one is read, the runs' ends are compared row by row."""
    interleaved = (
        (WATERMARK_KEY, watermark(5), 5),
        (b"G1", b"further", 8),
        (b"G1", b"behind", 6),
        (WATERMARK_KEY, watermark(6), 6),
    )
    store = applied(written(*interleaved, (WATERMARK_KEY, watermark(8), 8)))
    assert (store.get(b"G1"), store.get(WATERMARK_KEY)) == (b"further", watermark(8))
    caught_up = applied(written(*interleaved, (b"G1", b"caught up", 8)))
    assert caught_up.get(b"G1") == b"caught up"


def test_of_runs_that_end_behind_the_same_record_the_one_amid_its_timeouts_is_further() -> None:
    """A zombie that stands before the first slice, or between two, must not undo what the second has closed."""
    first, second = RunEnd(5, entry(70, b"a")), RunEnd(5, entry(70, b"b"))
    closed = ((b"G1", b"closed", second), (WATERMARK_KEY, watermark(*second), second))
    for behind in (RunEnd(5), first):
        zombie = ((b"G1", b"open", behind), (WATERMARK_KEY, watermark(*behind), behind))
        store = applied(written(*closed, *zombie))
        assert (store.get(b"G1"), store.get(WATERMARK_KEY)) == (b"closed", watermark(*second))
        assert applied(written(closed[0], zombie[0])).get(b"G1") == b"closed"
    store = applied(written(*closed, (b"G1", b"freed", 6)))
    assert store.get(b"G1") == b"freed"


def test_the_end_of_a_run_is_read_from_the_headers_as_it_was_written() -> None:
    """Keys are any bytes, the sign between the two parts among them."""
    for end in (
        RunEnd(-1),
        RunEnd(0),
        RunEnd(5, entry(58, b"a:b:")),
        RunEnd(1 << 40, entry(1 << 41, bytes(range(256)))),
    ):
        assert run_end_in([("other", b"1:2"), end.header()]) == end
    assert run_end_in(None) == run_end_in([("other", b"7")]) == NO_RUN


def test_a_watermark_of_an_earlier_release_is_read() -> None:
    """It ended with what was re-sent."""
    value = watermark(9)
    earlier = value[:1] + msgspec.msgpack.encode(msgspec.msgpack.decode(value[1:])[:-1])
    assert decode_watermark(WATERMARK_KEY, earlier) == decode_watermark(WATERMARK_KEY, value)


def test_what_no_watermark_covers_is_judged_again_by_the_next_restore() -> None:
    """Once stored, it looks like any other row; what a slower worker writes behind it would take its place."""
    begun = written((WATERMARK_KEY, watermark(1), 1), (b"G1", b"further", 4), (b"G2", b"x", 3))
    slower = written(*[(None, None, None)] * 3, (b"G1", b"behind", 3), (WATERMARK_KEY, watermark(3), 3))[3:]
    store = MemoryStore()
    for some in (begun, slower):
        applier = Applier(store)
        for message in [*begun, *slower] if some is slower else begun:
            if message.offset() > store.changelog_offset:
                applier.take(message)
        applier.flush()
        applier.reach(some[-1].offset())
        assert store.changelog_offset == 0
    assert (store.get(b"G1"), store.get(WATERMARK_KEY)) == (b"further", watermark(3))


def test_a_record_without_a_run_counts_only_before_the_first_watermark() -> None:
    """Nobody of this release wrote it; the oldest of all."""
    store = applied(written((b"G1", b"a", None), (WATERMARK_KEY, watermark(0), 0), (b"G1", b"b", None)))
    assert store.get(b"G1") == b"a"


def test_the_watermark_of_a_store_that_is_brought_forward_counts_from_the_start() -> None:
    """The zombie may stand right behind what the store has; the store's offset stays before it until it is written over."""
    store = applied(written((WATERMARK_KEY, watermark(9), 9)))
    messages = written((b"G1", b"skipped", 1), (b"G1", b"zombie", 8), (b"G2", b"owner", 10))
    applied(messages[1:], store)
    assert (store.get(b"G1"), store.get(b"G2"), store.changelog_offset) == (None, b"owner", 0)


def test_what_ended_before_the_watermark_of_the_store_does_not_count() -> None:
    """At it, and behind it, everything does."""
    newest = NewestRows(applied(written((WATERMARK_KEY, watermark(9), 9))))
    assert [newest.counts(end, b"G1", b"x", RunEnd(end)) for end in (8, 9, 10)] == [False, True, True]


def test_a_deleted_watermark_is_no_watermark() -> None:
    """A tombstone of that key says nothing about offsets."""
    newest = NewestRows(MemoryStore())
    assert newest.counts(0, WATERMARK_KEY, None, NO_RUN)
    assert newest.watermark == NO_RUN


# -- writing


def test_rows_are_written_in_batches_with_the_offset_that_they_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle, the next restore goes on behind the last whole run: what no watermark covers is judged again."""
    monkeypatch.setattr(restore_module, "BATCH_RECORDS", 2)
    store = MemoryStore()
    applier = Applier(store)
    reached = []
    for message in written(*((b"G%d" % number, b"x", 0) for number in range(5))):
        applier.take(message)
        reached.append((store.changelog_offset, len(store.rows)))
    assert reached == [(-1, 0), (-1, 2), (-1, 2), (-1, 4), (-1, 4)]
    applier.take(written(*((b"G%d" % number, b"x", 0) for number in range(5)), (WATERMARK_KEY, watermark(0), 0))[5])
    applier.flush()
    assert (store.changelog_offset, len(store.rows)) == (5, 6)


def test_a_record_without_a_key_is_passed_over() -> None:
    """Somebody wrote it by hand; what stands behind it counts."""
    store = applied(written((None, b"x", 0), (WATERMARK_KEY, watermark(0), 0)))
    assert (list(store.rows), store.changelog_offset) == ([WATERMARK_KEY], 1)


def test_the_end_is_reached_over_holes_and_never_backwards() -> None:
    """Compaction may have taken the last records."""
    store = applied(written((b"G1", b"x", 0)))
    applier = Applier(store)
    applier.reach(7)
    assert store.changelog_offset == 7
    applier.reach(3)
    assert store.changelog_offset == 7


# -- reading from a broker


@pytest.fixture
def topic(embedded_kafka: str) -> Iterator[tuple[Producer, str]]:
    """A topic that does not exist yet, and a producer to it."""
    producer = Producer({"bootstrap.servers": embedded_kafka, "linger.ms": 0, "log_level": 0})
    yield producer, f"rows-{uuid.uuid4().hex[:8]}"
    producer.flush(10)


@pytest.fixture
def changelog(embedded_kafka: str, topic: tuple[Producer, str]) -> Changelog:
    """A reader of that topic."""
    return Changelog({"bootstrap.servers": embedded_kafka, "group.id": "g", "log_level": 0}, topic[1])


def send(topic: tuple[Producer, str], partition: int, *records: tuple[bytes, bytes | None, int]) -> None:
    """Append to a partition and wait until it is there."""
    producer, name = topic
    for key, value, end in records:
        producer.produce(name, value, key, partition, headers=[run_header(end)])
    assert producer.flush(10) == 0


def ends(restored: dict[int, Restored]) -> dict[int, tuple[int, int]]:
    """Where each partition begins to be somebody else's, and where it ends."""
    return {partition: (one.own_until, one.end) for partition, one in restored.items()}


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen in 10 s"
        time.sleep(0.01)


def test_a_store_is_restored_from_the_beginning(changelog: Changelog, topic: tuple[Producer, str]) -> None:
    """Each partition by itself, zombies left out, and up to where its records are the owners' own."""
    send(topic, 0, (b"G1", b"a", 1), (WATERMARK_KEY, watermark(1), 1), (b"G1", b"zombie", 0), (b"G2", b"b", 2))
    send(topic, 1, (b"G3", b"c", 0))
    stores = {0: MemoryStore(), 1: MemoryStore(), 2: MemoryStore()}
    assert ends(changelog.restore(stores)) == {0: (2, 4), 1: (1, 1), 2: (0, 0)}
    assert stores[0].rows == {b"G1": b"a", b"G2": b"b", WATERMARK_KEY: watermark(1)}
    assert (stores[1].rows, stores[2].rows) == ({b"G3": b"c"}, {})
    assert [store.changelog_offset for store in stores.values()] == [1, -1, -1]


def test_a_store_is_brought_forward_from_where_it_is(
    changelog: Changelog, topic: tuple[Producer, str], tmp_path: Path
) -> None:
    """Only what is missing is read: a row that was changed behind the store's back stays."""
    send(topic, 0, (b"G1", b"a", 1))
    store = open_store(tmp_path / "rows", topic_id=TOPIC_ID, oldest_ms=0)
    changelog.restore({0: store})
    store.write([(b"G1", b"mine")], 0)
    send(topic, 0, (b"G2", b"b", 2), (b"G3", None, 2), (WATERMARK_KEY, watermark(2), 2))
    assert ends(changelog.restore({0: store})) == {0: (4, 4)}
    assert (store.get(b"G1"), store.get(b"G2"), store.changelog_offset) == (b"mine", b"b", 3)
    store.close()


def test_a_store_at_the_end_reads_nothing(changelog: Changelog, topic: tuple[Producer, str]) -> None:
    """The usual restart."""
    send(topic, 0, (b"G1", b"a", 1))
    store = MemoryStore()
    store.write((), 0)
    assert ends(changelog.restore({0: store})) == {0: (1, 1)}
    assert store.rows == {}


def test_no_partitions_need_no_broker() -> None:
    """A worker without lanes asks nobody."""
    assert Changelog({"bootstrap.servers": "127.0.0.1:1", "group.id": "g"}, "t").restore({}) == {}


def test_bounds_are_where_a_partition_begins_and_ends(changelog: Changelog, topic: tuple[Producer, str]) -> None:
    """By which a store that does not fit is found out."""
    send(topic, 1, (b"G1", b"a", 1), (b"G1", b"b", 1))
    found = changelog.bounds([0, 1])
    assert [(one.first, one.end) for one in found.values()] == [(0, 0), (0, 2)]


def test_the_rows_of_a_gap_are_read_to_the_end(changelog: Changelog, topic: tuple[Producer, str]) -> None:
    """What a foreign writer has touched."""
    send(topic, 0, (b"G1", b"a", 1), (b"G2", b"b", 1), (b"G2", None, 1))
    assert changelog.read_gap(0, 1) == Gap(
        [LoggedRow(1, b"G2", b"b", RunEnd(1)), LoggedRow(2, b"G2", None, RunEnd(1))], 3
    )
    assert changelog.read_gap(0, 3) == Gap([], 3)


def test_a_broker_that_does_not_answer_is_an_error_with_a_remedy(
    embedded_kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that waited for ever would look like a slow one."""
    monkeypatch.setattr(restore_module, "TIMEOUT_SECONDS", 0.05)
    consumer = Consumer({"bootstrap.servers": embedded_kafka, "group.id": "g"})
    with pytest.raises(NotReady, match="while reading a changelog; check the brokers"):
        list(_messages_until_eof(consumer, 1))
    consumer.close()


def test_a_broker_out_of_reach_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker ends, and is started again."""
    monkeypatch.setattr(restore_module, "TIMEOUT_SECONDS", 0.05)
    out_of_reach = Changelog({"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}, "t")
    monkeypatch.setattr(restore_module, "ATTEMPT_SECONDS", 0.05)
    with pytest.raises(NotReady, match="check that its leader is up"):
        out_of_reach.bounds([0])


def test_errors_of_a_failover_pass_and_others_do_not() -> None:
    """A broker's death must not end the workers that ask it every second; a missing permission must."""
    for code in (KafkaError._DESTROY_BROKER, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError._UNKNOWN_PARTITION):
        assert passes(KafkaError(code))
    assert not passes(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


def test_a_restore_that_nobody_waits_for_ends(changelog: Changelog, topic: tuple[Producer, str]) -> None:
    """The next assignment's restore must not have to wait for it."""
    send(topic, 0, (b"G1", b"a", 1))
    with pytest.raises(RestoreGivenUp):
        changelog.restore({0: MemoryStore()}, lambda: False)


# -- standby


def test_a_standby_follows_until_it_is_stopped(changelog: Changelog, topic: tuple[Producer, str]) -> None:
    """New rows, zombies left out; stopped, its store stands still at a whole batch."""
    send(topic, 0, (b"G1", b"a", 1), (WATERMARK_KEY, watermark(1), 1))
    stores: dict[int, Store] = {0: MemoryStore(), 1: MemoryStore()}
    tail = changelog.tail(stores)
    eventually(lambda: stores[0].changelog_offset == 1)
    send(topic, 0, (b"G1", b"zombie", 0), (b"G2", b"b", 2))
    send(topic, 1, (b"G3", b"c", 0), (WATERMARK_KEY, watermark(0), 0))
    eventually(lambda: (stores[0].get(b"G2"), stores[1].changelog_offset) == (b"b", 1))
    tail.stop()
    send(topic, 0, (b"G1", b"later", 3))
    assert (stores[0].get(b"G1"), stores[0].get(b"G2"), stores[1].get(b"G3")) == (b"a", b"b", b"c")
    assert not tail._thread.is_alive()


def test_a_standby_goes_on_where_its_store_is(changelog: Changelog, topic: tuple[Producer, str]) -> None:
    """Not from the beginning: a restart must not read a million rows."""
    send(topic, 0, (b"G1", b"a", 1), (b"G2", b"b", 1), (WATERMARK_KEY, watermark(1), 1))
    store = MemoryStore()
    store.write([(b"G1", b"mine")], 0)
    tail = changelog.tail({0: store})
    eventually(lambda: store.changelog_offset == 2)
    tail.stop()
    assert store.rows == {b"G1": b"mine", b"G2": b"b", WATERMARK_KEY: watermark(1)}


def test_a_standby_that_fails_is_only_behind(
    changelog: Changelog, topic: tuple[Producer, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A take-over restores the rest; the worker with its lanes lives on, and the log says why the copy is old."""

    class Full(MemoryStore):
        def write(self, *_: Any) -> None:
            raise OSError("no space left")

    send(topic, 0, (b"G1", b"a", 1))
    tail = changelog.tail({0: Full()})
    eventually(lambda: not tail._thread.is_alive())
    tail.stop()
    assert "standby_stopped" in caplog.text
