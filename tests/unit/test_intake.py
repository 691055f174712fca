"""What a lane has fetched and not yet folded: the intake, the consumer that fills it, and the thread that fetches."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import Producer
from faust.types.tuples import TP
from hypothesis import given
from hypothesis import strategies as st

from fakes import NOON_MS, tick
from wait_for_me_app.faust_lanes import intake as intake_module
from wait_for_me_app.faust_lanes.app import LaneApp, create_app
from wait_for_me_app.faust_lanes.fetch import FetchThread, PositionLost
from wait_for_me_app.faust_lanes.intake import (
    ENOUGH_RUNS,
    FULL_RUNS,
    RUN_MAX_BYTES,
    RUN_MAX_RECORDS,
    FetchedRecord,
    Intake,
    OutOfOrder,
    sizes_of,
)
from wait_for_me_app.faust_lanes.messages import Fetched
from wait_for_me_app.faust_lanes.transport import LaneConsumer


def fetched(offset: int, size: int = 10) -> FetchedRecord:
    """A record of some size."""
    return FetchedRecord(offset, NOON_MS, 1, b"", b"x" * size, ())


def offer(intake: Intake, *records: FetchedRecord) -> None:
    """Offer records with their size."""
    intake.offer(list(records), sizes_of(records))


def taken(intake: Intake) -> list[int]:
    """Take a run, and be done with it."""
    run = intake.take_run()
    intake.run_is_done()
    return [record.offset for record in run]


# -- the intake


def test_everything_that_waits_is_one_run() -> None:
    """Load makes runs longer, not queues."""
    intake = Intake(0)
    offer(intake, fetched(0), fetched(1))
    offer(intake, fetched(2))
    assert taken(intake) == [0, 1, 2]
    assert (len(intake), intake.waiting_bytes) == (0, 0)


def test_one_run_at_a_time_is_out() -> None:
    """The next is taken when the lane is done."""
    intake = Intake(0)
    offer(intake, fetched(0))
    assert intake.take_run()
    offer(intake, fetched(1))
    assert intake.take_run() == []
    intake.run_is_done()
    assert taken(intake) == [1]


def test_nothing_that_waits_is_no_run() -> None:
    """And nothing is out then."""
    intake = Intake(0)
    assert intake.take_run() == []
    assert not intake.run_is_out


def test_a_run_has_a_limit_of_records() -> None:
    """A backlog comes in slices that fit in memory."""
    intake = Intake(0)
    offer(intake, *(fetched(offset, 1) for offset in range(RUN_MAX_RECORDS + 5)))
    assert [len(taken(intake)), len(taken(intake))] == [RUN_MAX_RECORDS, 5]


def test_a_run_has_a_limit_of_bytes() -> None:
    """And it is not exceeded by a record that does not fit any more."""
    intake = Intake(0)
    third = RUN_MAX_BYTES // 3
    offer(intake, *(fetched(offset, third + 1) for offset in range(5)))
    assert [taken(intake), taken(intake), taken(intake)] == [[0, 1], [2, 3], [4]]
    assert intake.waiting_bytes == 0


def test_a_record_that_is_larger_than_a_run_is_a_run() -> None:
    """It must not wait for ever."""
    intake = Intake(0)
    offer(intake, fetched(0, RUN_MAX_BYTES + 1), fetched(1))
    assert [taken(intake), taken(intake)] == [[0], [1]]


def test_holes_between_offsets_are_legal() -> None:
    """Aborted transactions and their markers."""
    intake = Intake(5)
    offer(intake, fetched(7), fetched(9))
    offer(intake, fetched(20))
    assert taken(intake) == [7, 9, 20]


@pytest.mark.parametrize("offset", [0, 4, 7, 9])
def test_a_log_that_goes_backwards_is_an_error(offset: int) -> None:
    """Behind the position at which it was opened, or behind what came last."""
    intake = Intake(5)
    offer(intake, fetched(7), fetched(9))
    with pytest.raises(OutOfOrder, match=f"offset {offset} came after 9"):
        offer(intake, fetched(offset))


def test_records_from_before_the_position_are_an_error() -> None:
    """They have been folded."""
    with pytest.raises(OutOfOrder, match="offset 4 came after 4"):
        offer(Intake(5), fetched(4))


def test_it_is_full_by_bytes_or_by_records() -> None:
    """Then fetching pauses for this lane alone."""
    by_bytes, by_records = Intake(0), Intake(0)
    offer(by_bytes, fetched(0, FULL_RUNS * RUN_MAX_BYTES - 1))
    offer(by_records, *(fetched(offset, 0) for offset in range(FULL_RUNS * RUN_MAX_RECORDS - 1)))
    assert not by_bytes.is_full
    assert not by_records.is_full
    offer(by_bytes, fetched(1, 1))
    offer(by_records, fetched(FULL_RUNS * RUN_MAX_RECORDS, 0))
    assert by_bytes.is_full
    assert by_records.is_full


def test_it_stays_full_until_it_has_had_most_of_what_waits() -> None:
    """A pause for every run would throw away what has been prefetched every time."""
    intake = Intake(0)
    offer(intake, *(fetched(offset, 0) for offset in range(FULL_RUNS * RUN_MAX_RECORDS)))
    still = []
    while len(taken(intake)):
        still.append((len(intake) // RUN_MAX_RECORDS, intake.is_full))
    assert still == [(3, True), (2, True), (1, False), (0, False)]
    assert FULL_RUNS > ENOUGH_RUNS > 1, "it has work while fetching begins again"


def test_it_is_hungry_while_less_than_a_run_waits() -> None:
    """By bytes or by records."""
    by_bytes, by_records = Intake(0), Intake(0)
    assert by_bytes.is_hungry
    offer(by_bytes, fetched(0, RUN_MAX_BYTES - 1))
    offer(by_records, *(fetched(offset, 0) for offset in range(RUN_MAX_RECORDS - 1)))
    assert by_bytes.is_hungry
    assert by_records.is_hungry
    offer(by_bytes, fetched(1, 1))
    offer(by_records, fetched(RUN_MAX_RECORDS, 0))
    assert not by_bytes.is_hungry
    assert not by_records.is_hungry


@given(sizes=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6), max_size=8))
def test_runs_are_the_log_cut_into_pieces(sizes: list[list[int]]) -> None:
    """Nothing is lost, doubled or turned round, whatever the limits cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake_module, "RUN_MAX_RECORDS", 4)
        patch.setattr(intake_module, "RUN_MAX_BYTES", 50)
        intake, offset, runs = Intake(0), 0, list[list[FetchedRecord]]()
        for some in sizes:
            offer(intake, *(fetched(offset + number, size) for number, size in enumerate(some)))
            offset += len(some)
            runs.append(intake.take_run())
            intake.run_is_done()
        while run := intake.take_run():
            runs.append(run)
            intake.run_is_done()
    assert [record.offset for run in runs for record in run] == list(range(offset))
    assert all(len(run) <= 4 for run in runs)
    assert all(len(run) == 1 or sum(sizes_of(run)) <= 50 for run in runs)
    assert intake.waiting_bytes == 0


def test_the_weight_of_a_record_is_its_key_and_value() -> None:
    """Either may be missing."""
    assert sizes_of([FetchedRecord(0, 0, 1, b"ab", b"xyz", ()), FetchedRecord(0, 0, 1, None, None, ())]) == [5, 0]


# -- the consumer


class NotedFetch:
    """Notes what the fetch thread is told."""

    def __init__(self) -> None:
        self.assigned: list[tuple[int, dict[int, int]]] = []
        self.full: frozenset[int] = frozenset()
        self.somebody_is_hungry = False

    def assign(self, epoch: int, positions: Mapping[int, int]) -> None:
        """Note an assignment."""
        self.assigned.append((epoch, dict(positions)))

    def order(self, full: frozenset[int], somebody_is_hungry: bool) -> None:
        """Note who is full, and whether anybody wants more."""
        self.full, self.somebody_is_hungry = full, somebody_is_hungry


class HushedMember:
    """A group member that prefetches nothing."""

    async def hush(self) -> None:
        """Be silent already."""


@pytest.fixture
async def consumer(tmp_path: Path) -> Any:
    """The consumer of a real Faust app, with what it delivers in `delivered`; nothing is connected."""
    app: LaneApp = create_app(
        app_id="t",
        partitions=4,
        data_directory=tmp_path,
        session_timeout_ms=10_000,
        standby_replicas=0,
        commands_topic="t.commands",
        fetch_properties={},
        logging_config={"version": 1, "incremental": True},
        faust_settings={"broker": "lanes://127.0.0.1:1"},
    )
    delivered: list[Any] = []

    async def deliver(message: Any) -> None:
        delivered.append(message)

    one: Any = app.transport.create_consumer(
        callback=deliver, on_partitions_revoked=deliver, on_partitions_assigned=deliver
    )
    one._thread.thread_loop.close()
    one._thread, one._fetch = HushedMember(), NotedFetch()
    one.delivered, one.failures = delivered, []
    app.lanes = type("NoLanes", (), {"fail": staticmethod(one.failures.append)})
    return one


async def settled() -> None:
    """Let the deliveries that were begun be made."""
    for _ in range(5):
        await asyncio.sleep(0)


def records(*offsets: int, size: int = 10) -> tuple[list[FetchedRecord], list[int]]:
    """What the fetch thread hands over for one partition."""
    return [fetched(offset, size) for offset in offsets], [size] * len(offsets)


async def test_a_run_is_delivered_as_one_message(consumer: Any) -> None:
    """Its offset is that of its last record: acknowledging it acknowledges all."""
    await consumer.open_intakes({0: 5, 1: 0})
    consumer._offer(consumer._epoch, {0: records(5, 7)})
    await settled()
    (message,) = consumer.delivered
    assert (message.topic, message.partition, message.offset) == ("t.commands", 0, 7)
    assert [record.offset for record in message.value] == [5, 7]
    assert message.tp == TP("t.commands", 0)


async def test_the_next_run_follows_when_the_first_is_done(consumer: Any) -> None:
    """With all that has come meanwhile; lanes do not wait for each other."""
    await consumer.open_intakes({0: 0, 1: 0})
    consumer._offer(consumer._epoch, {0: records(0), 1: records(0)})
    consumer._offer(consumer._epoch, {0: records(1)})
    consumer._offer(consumer._epoch, {0: records(2)})
    await settled()
    assert [(one.partition, one.offset) for one in consumer.delivered] == [(0, 0), (1, 0)]
    consumer.run_is_done(0)
    await settled()
    assert [(one.partition, one.offset) for one in consumer.delivered][2:] == [(0, 2)]


async def test_records_for_lanes_that_were_given_up_are_dropped(consumer: Any) -> None:
    """They were read under an old assignment: whoever has the lane now reads them itself."""
    await consumer.open_intakes({0: 0})
    old = consumer._epoch
    consumer.close_intakes()
    consumer._offer(old, {0: records(0)})
    await consumer.open_intakes({0: 0})
    consumer._offer(old, {0: records(0)})
    await settled()
    assert consumer.delivered == []
    consumer.run_is_done(3)


async def test_each_assignment_has_an_epoch_of_its_own(consumer: Any) -> None:
    """By which records of the old are told from those of the new, and by which the fetch thread knows that there is something new."""
    await consumer.open_intakes({0: 5})
    consumer.close_intakes()
    await consumer.open_intakes({0: 9})
    epochs = [epoch for epoch, _ in consumer._fetch.assigned]
    assert consumer._fetch.assigned[-1] == (consumer._epoch, {0: 9})
    assert len(set(epochs)) == len(epochs)


async def test_a_full_lane_is_paused_until_it_has_room(consumer: Any) -> None:
    """It alone."""
    await consumer.open_intakes({0: 0, 1: 0})
    consumer._offer(consumer._epoch, {0: records(0), 1: records(0)})
    consumer._offer(consumer._epoch, {0: records(1, 2, 3, 4, size=1 << 20)})
    assert consumer._fetch.full == {0}
    for _ in range(3):
        assert consumer._fetch.somebody_is_hungry, "the other lane"
        consumer.run_is_done(0)
    assert consumer._fetch.full == frozenset()


async def test_nothing_is_fetched_while_every_lane_has_a_run_waiting(consumer: Any) -> None:
    """What is not taken stays with librdkafka, which stops asking for more."""
    await consumer.open_intakes({0: 0, 1: 0})
    assert consumer._fetch.somebody_is_hungry
    consumer._offer(consumer._epoch, {0: records(0, 1, size=1 << 20), 1: records(0)})
    assert consumer._fetch.somebody_is_hungry
    consumer._offer(consumer._epoch, {1: records(1, 2, size=1 << 20)})
    assert not consumer._fetch.somebody_is_hungry
    consumer.run_is_done(0)
    assert consumer._fetch.somebody_is_hungry


async def test_a_lane_that_was_full_before_a_rebalance_is_fetched_after_it(consumer: Any) -> None:
    """Its intake is empty then; if it stayed paused, a worker with this one lane would stand still for ever."""
    await consumer.open_intakes({0: 0})
    consumer._offer(consumer._epoch, {0: records(0)})
    consumer._offer(consumer._epoch, {0: records(1, 2, 3, 4, size=1 << 20)})
    assert consumer._fetch.full == {0}
    consumer.close_intakes()
    await consumer.open_intakes({0: 0})
    assert consumer._fetch.full == frozenset()


async def test_a_log_that_goes_backwards_ends_the_worker(consumer: Any) -> None:
    """Nobody awaits what the fetch thread hands over: an error that is only logged there would be silence."""
    await consumer.open_intakes({0: 5})
    consumer._offer(consumer._epoch, {0: records(3)})
    (error,) = consumer.failures
    assert isinstance(error, OutOfOrder)


async def test_an_acknowledged_run_moves_the_group_offset_behind_it(consumer: Any) -> None:
    """Whatever holes there are: the watermark is what counts, this is for lag tools."""
    tp = TP("t.commands", 0)
    assert consumer._new_offset(tp) is None
    consumer._acked[tp].extend([7, 42])
    consumer._acked_index[tp].update([7, 42])
    assert consumer._new_offset(tp) == 43
    assert consumer._new_offset(tp) is None


async def test_faust_does_not_move_the_position(consumer: Any) -> None:
    """A lane's position is its watermark; the committed offset is not asked for."""
    assert await consumer.perform_seek() is None


# -- the fetch thread


class Inbox:
    """Gathers what a fetch thread delivers."""

    def __init__(self) -> None:
        self.records: dict[int, list[FetchedRecord]] = {}
        self.epochs: list[int] = []
        self.failures: list[BaseException] = []

    def take(self, epoch: int, some: Fetched) -> None:
        """Note records."""
        self.epochs.append(epoch)
        for partition, (found, sizes) in some.items():
            assert sizes == sizes_of(found)
            self.records.setdefault(partition, []).extend(found)

    def offsets(self, partition: int) -> list[int]:
        """What has come from a partition."""
        return [record.offset for record in self.records.get(partition, [])]


async def eventually(condition: Any) -> None:
    """Wait for what another thread does."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it did not happen in 10 s"
        await asyncio.sleep(0.01)


@pytest.fixture
async def not_started(embedded_kafka: str) -> AsyncIterator[tuple[FetchThread, Inbox, Any]]:
    """A fetch thread, what it delivers, and a function that produces to its topic."""
    topic, inbox = f"commands-{uuid.uuid4().hex[:8]}", Inbox()
    producer = Producer({"bootstrap.servers": embedded_kafka, "linger.ms": 0, "log_level": 0})

    def produce(partition: int, count: int) -> None:
        for number in range(count):
            producer.produce(topic, b"v%d" % number, b"k", partition, headers=[("h", b"1")], timestamp=NOON_MS)
        assert producer.flush(10) == 0

    for partition in range(2):
        produce(partition, 3)
    thread = FetchThread(
        {"bootstrap.servers": embedded_kafka, "group.id": "g", "log_level": 0},
        topic,
        loop=asyncio.get_running_loop(),
        on_fetched=inbox.take,
        on_failure=inbox.failures.append,
    )
    yield thread, inbox, produce
    await asyncio.to_thread(thread.stop)


@pytest.fixture
def fetching(not_started: tuple[FetchThread, Inbox, Any]) -> tuple[FetchThread, Inbox, Any]:
    """The same, at work."""
    not_started[0].start()
    return not_started


async def test_records_come_from_the_positions_that_were_given(fetching: Any) -> None:
    """With all that the fold reads of them; the embedded broker's timestamps are the producer's."""
    thread, inbox, _ = fetching
    thread.assign(7, {0: 1, 1: 0})
    await eventually(lambda: inbox.offsets(0) == [1, 2] and inbox.offsets(1) == [0, 1, 2])
    assert set(inbox.epochs) == {7}
    assert inbox.records[0][0] == FetchedRecord(1, NOON_MS, 0, b"k", b"v1", [("h", b"1")])


async def test_a_paused_partition_waits_and_the_others_do_not(fetching: Any) -> None:
    """And it goes on where it was."""
    thread, inbox, produce = fetching
    thread.assign(1, {0: 3, 1: 3})
    thread.order(frozenset({0}), True)
    await eventually(lambda: thread._paused == {0})
    produce(0, 2)
    produce(1, 2)
    await eventually(lambda: inbox.offsets(1) == [3, 4])
    assert inbox.offsets(0) == []
    thread.order(frozenset(), True)
    await eventually(lambda: inbox.offsets(0) == [3, 4])


async def test_a_partition_that_is_resumed_is_fetched_at_once(fetching: Any) -> None:
    """librdkafka's thread would sleep on for up to a second, with a backlog behind it."""
    thread, inbox, produce = fetching
    thread.assign(1, {0: 3})
    for number in range(3):
        thread.order(frozenset({0}), True)
        await eventually(lambda: thread._paused == {0})
        produce(0, 1)
        await asyncio.sleep(0.3)
        resumed = time.monotonic()
        thread.order(frozenset(), True)
        await eventually(lambda many=number + 1: len(inbox.offsets(0)) == many)
        assert time.monotonic() - resumed < 0.3


async def test_nothing_is_taken_while_nobody_is_hungry(fetching: Any) -> None:
    """Until somebody is."""
    thread, inbox, produce = fetching
    thread.assign(1, {0: 3})
    thread.order(frozenset(), False)
    await asyncio.sleep(0.1)  # the poll that is under way
    produce(0, 2)
    await asyncio.sleep(0.2)
    assert inbox.offsets(0) == []
    thread.order(frozenset(), True)
    await eventually(lambda: inbox.offsets(0) == [3, 4])


async def test_a_new_assignment_takes_the_place_of_the_old(not_started: Any) -> None:
    """Pauses and positions included."""
    thread, inbox, produce = not_started
    thread.assign(1, {0: 3})
    thread._follow_orders()  # as the thread does, which has not been started yet
    thread.order(frozenset({0}), True)
    thread._follow_orders()
    thread.order(frozenset(), True)
    thread.assign(2, {0: 0, 1: 3})
    thread.start()
    produce(1, 1)
    await eventually(lambda: inbox.offsets(0) == [0, 1, 2] and inbox.offsets(1) == [3])
    assert set(inbox.epochs) == {2}


async def test_a_position_that_the_log_does_not_have_is_a_failure(fetching: Any) -> None:
    """It is never moved in silence: the worker stops, and the check of the log says why."""
    thread, inbox, _ = fetching
    thread.assign(1, {0: 99})
    await eventually(lambda: inbox.failures)
    assert isinstance(inbox.failures[0], PositionLost)
    assert "partition 0" in str(inbox.failures[0])


class NoText(str):
    """A header name that some other language's client has written without asking what UTF-8 is."""

    def encode(self, *_: Any) -> bytes:
        """Return bytes that are not UTF-8."""
        return b"\xff\xfe"


async def test_a_record_whose_header_is_not_text_comes_without_headers(fetching: Any, embedded_kafka: str) -> None:
    """Whoever may send commands could otherwise stop the worker, and every worker that is started in its place."""
    thread, inbox, _ = fetching
    producer = AIOKafkaProducer(bootstrap_servers=embedded_kafka)
    await producer.start()
    batch = producer.create_batch()
    batch._builder = _DefaultRecordBatchBuilderPy(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=10_000
    )
    batch.append(timestamp=NOON_MS, key=b"k", value=b"odd", headers=[(NoText("n"), b"1")])
    batch.append(timestamp=NOON_MS, key=b"k", value=b"even", headers=[("n", None)])
    await (await producer.send_batch(batch, thread._topic, partition=0))
    await producer.stop()
    thread.assign(1, {0: 3})
    await eventually(lambda: inbox.failures or inbox.offsets(0) == [3, 4])
    assert inbox.failures == []
    assert [(one.value, one.headers) for one in inbox.records[0]] == [(b"odd", ()), (b"even", [("n", None)])]


async def test_nothing_comes_after_the_end(fetching: Any) -> None:
    """Stopping waits for the thread, and stopping twice is fine."""
    thread, inbox, produce = fetching
    thread.assign(1, {0: 0})
    await eventually(lambda: inbox.offsets(0) == [0, 1, 2])
    await asyncio.to_thread(thread.stop)
    produce(0, 1)
    await asyncio.sleep(0)
    assert inbox.offsets(0) == [0, 1, 2]
    assert not thread._thread.is_alive()


def test_a_fetched_record_is_what_the_fold_reads() -> None:
    """The fakes of these tests hand out the real type."""
    assert isinstance(tick(0, NOON_MS), FetchedRecord)
    assert LaneConsumer.__mro__[1].__name__ == "Consumer"
