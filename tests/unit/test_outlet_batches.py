"""The outlet's batches: what belongs together is in one of them, in order, and none is larger than a topic takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import aiokafka
import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.structs import RecordMetadata, TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wait_for_me_app.faust_lanes import outlet as outlet_module
from wait_for_me_app.faust_lanes.outlet import (
    BATCH_MAX_BYTES,
    BATCH_TARGET_BYTES,
    KafkaOutlet,
    NotAppended,
    _batches,
)
from wait_for_me_app.lane import Message
from wait_for_me_app.topics import COMMANDS_MAX_BYTES, OTHERS_MAX_BYTES

Units = Sequence[Sequence[Message]]


class ScriptedProducer:
    """An aiokafka producer's batches, and answers as a test wants them."""

    def __init__(self, *, create_batch: Any, answers: list[Any] | None = None) -> None:
        self.create_batch = create_batch
        self.sent: list[tuple[str, int, Any]] = []
        self._answers = answers

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[Any]:
        """Note the batch, and answer with the next answer: an offset, or an error."""
        self.sent.append((topic, partition, batch))
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        offset = sum(one.record_count() for _, _, one in self.sent[:-1])
        answer = self._answers[len(self.sent) - 1] if self._answers else offset
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            tp = TopicPartition(topic, partition)
            future.set_result(RecordMetadata(topic, partition, tp, answer, 1_000 + len(self.sent), 1, 0))
        return future


@pytest.fixture
async def create_batch() -> AsyncIterator[Any]:
    """What makes batches of the size that the outlet's producers make; nothing is connected."""
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", max_batch_size=BATCH_MAX_BYTES)
    yield producer.create_batch
    producer._closed = True


def outlet_on(producer: ScriptedProducer, **more: Any) -> KafkaOutlet:
    """An outlet with this one producer."""
    one = KafkaOutlet({}, **more)
    one._producers = [producer]
    return one


def message(size: int, name: int = 0, headers: int = 0) -> Message:
    """A record of some size."""
    return b"k%d" % name, b"v" * size, [("h", b"x" * headers)] if headers else []


def sizes(batches: Sequence[Any]) -> list[int]:
    """How many records each batch has."""
    return [batch.record_count() for batch in batches]


def read(batch: Any) -> list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]]:
    """What a consumer would find in a batch."""
    return [(one.key, one.value, list(one.headers)) for one in DefaultRecordBatch(bytes(batch._build()))]


# -- packing


async def test_small_units_share_a_batch_in_order(create_batch: Any) -> None:
    """One request for a whole run."""
    units: Units = [[message(10, n), message(10, n + 100)] for n in range(3)]
    (batch,) = _batches(create_batch, units)
    assert [key for key, _, _ in read(batch)] == [b"k0", b"k100", b"k1", b"k101", b"k2", b"k102"]


async def test_a_batch_has_everything_that_was_said(create_batch: Any) -> None:
    """Keys and values may be missing, headers too, and a header's value."""
    sent: Any = [(None, b"tick", []), (b"k", None, [("wfm_run", b"7")]), (b"k", b"v", [("a", b""), ("b", None)])]
    (batch,) = _batches(create_batch, [[one] for one in sent])
    assert read(batch) == sent


async def test_a_unit_that_does_not_fit_any_more_begins_a_batch(create_batch: Any) -> None:
    """Between two units, never inside one."""
    half = BATCH_TARGET_BYTES // 2
    units: Units = [[message(half - 50)], [message(half // 2), message(half // 2)], [message(10), message(10)]]
    assert sizes(_batches(create_batch, units)) == [1, 4]


async def test_a_unit_that_is_larger_than_usual_has_a_batch_of_its_own(create_batch: Any) -> None:
    """It is not divided: half of a group must never be in Kafka."""
    big = [message(BATCH_TARGET_BYTES, 1), message(BATCH_TARGET_BYTES // 2, 2)]
    assert sizes(_batches(create_batch, [[message(10)], big, [message(10)]])) == [1, 2, 1]


async def test_a_unit_that_fits_into_no_batch_is_an_error(create_batch: Any) -> None:
    """Nothing of the append is sent."""
    producer = ScriptedProducer(create_batch=create_batch)
    with pytest.raises(NotAppended, match=f"need more than a batch of {BATCH_MAX_BYTES} bytes"):
        await outlet_on(producer).append("t", 0, [[message(10)], [message(BATCH_MAX_BYTES // 2) for _ in range(3)]])
    assert producer.sent == []


some_units = st.lists(
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2_000)), min_size=1, max_size=4), min_size=1, max_size=12
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=some_units)
def test_whatever_the_units_no_batch_of_several_exceeds_the_target(shapes: Any) -> None:
    """Headers weigh as well: the broker refuses a batch above the topic's limit, and with it the worker's run."""

    async def pack() -> None:
        producer = aiokafka.AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", max_batch_size=BATCH_MAX_BYTES)
        units: Units = [
            [message(value, number, headers) for value, headers in shape] for number, shape in enumerate(shapes)
        ]
        batches = _batches(producer.create_batch, units)
        producer._closed = True
        left = [len(unit) for unit in units]
        for batch in batches:
            count, several = batch.record_count(), 0
            while count:
                count -= left.pop(0)
                several += 1
            assert count == 0, "a unit was divided"
            assert several == 1 or len(batch._build()) <= 8_000
        assert left == []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlet_module, "BATCH_TARGET_BYTES", 8_000)
        asyncio.run(pack())


def test_batches_fit_into_the_topics() -> None:
    """Commands that are re-sent go through here too, and their topic takes less than the others."""
    assert BATCH_TARGET_BYTES <= COMMANDS_MAX_BYTES
    assert BATCH_MAX_BYTES <= OTHERS_MAX_BYTES


# -- appending


async def test_an_append_says_where_its_records_are(create_batch: Any) -> None:
    """First and last offset over all batches, and the broker's time of the last."""
    producer = ScriptedProducer(create_batch=create_batch, answers=[40, 41, 43])
    big = message(BATCH_TARGET_BYTES - 100)
    appended = await outlet_on(producer).append("t", 0, [[big], [big, message(1)], [big, message(1), message(1)]])
    assert (appended.first_offset, appended.last_offset, appended.appended_at_ms) == (40, 45, 1_003)
    assert [(topic, partition) for topic, partition, _ in producer.sent] == [("t", 0)] * 3


async def test_what_the_broker_refuses_is_raised(create_batch: Any) -> None:
    """Also if only one of several batches is refused."""
    producer = ScriptedProducer(create_batch=create_batch, answers=[40, RuntimeError("not enough replicas")])
    with pytest.raises(RuntimeError, match="not enough replicas"):
        await outlet_on(producer).append("t", 0, [[message(BATCH_TARGET_BYTES)], [message(10)]])


async def test_an_append_whose_place_is_unknown_is_an_error(create_batch: Any) -> None:
    """A retry that the broker recognised as a copy has no offset: the lane could not tell a foreign writer any more."""
    producer = ScriptedProducer(create_batch=create_batch, answers=[-1])
    with pytest.raises(NotAppended, match="t 3: the broker confirmed a batch without saying where it is"):
        await outlet_on(producer).append("t", 3, [[message(10)]])


async def test_a_lane_always_uses_the_same_producer(create_batch: Any) -> None:
    """Or its appends could overtake each other."""
    outlet = KafkaOutlet({})
    producers = [ScriptedProducer(create_batch=create_batch) for _ in range(3)]
    outlet._producers = producers
    for partition in (0, 4, 1, 7, 4):
        await outlet.append("t", partition, [[message(1)]])
    assert [[partition for _, partition, _ in one.sent] for one in producers] == [[0], [4, 1, 7, 4], []]


async def test_before_anything_is_sent_the_watchdog_is_asked(create_batch: Any) -> None:
    """A process that slept must not send what it has decided before."""
    producer = ScriptedProducer(create_batch=create_batch)

    def asleep() -> None:
        raise SystemExit(70)

    with pytest.raises(SystemExit):
        await outlet_on(producer, before_send=asleep).append("t", 0, [[message(1)]])
    assert producer.sent == []


async def test_the_clock_learns_from_every_append(create_batch: Any) -> None:
    """The broker's time, and the local moment at which it was known."""
    seen: list[tuple[int, float]] = []
    producer = ScriptedProducer(create_batch=create_batch)
    outlet = outlet_on(producer, on_appended=lambda at_ms, local_ms: seen.append((at_ms, local_ms)))
    for _ in range(2):
        await outlet.append("t", 0, [[message(1)]])
    assert [at_ms for at_ms, _ in seen] == [1_001, 1_002]
    assert seen[0][1] <= seen[1][1]


async def test_a_broker_that_stamps_nothing_is_taken_at_the_time_of_sending(create_batch: Any) -> None:
    """The embedded one answers with a constant; the demo's ticks would never be sent."""
    producer = ScriptedProducer(create_batch=create_batch)
    appended = await outlet_on(producer, broker_stamps=False).append("t", 0, [[message(1)]])
    assert appended.appended_at_ms > 1_600_000_000_000


async def test_it_works_on_a_broker(embedded_kafka: str) -> None:
    """Real producers, real batches, offsets that follow each other."""
    outlet = KafkaOutlet({"bootstrap_servers": embedded_kafka})
    await outlet.start()
    first = await outlet.append("t", 1, [[message(1), message(2)], [message(3)]])
    second = await outlet.append("t", 1, [[message(4)]])
    await outlet.stop()
    assert (first.first_offset, first.last_offset, second.first_offset) == (0, 2, 3)
