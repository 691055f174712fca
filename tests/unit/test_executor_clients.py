"""Where the executor meets Kafka's client: full queues, refused records, answers that do not come, errors that do not pass."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from executor_world import fire_value
from processes import wait_until
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.callbacks import Registry
from wait_for_me_app.executor import clients as executor_clients
from wait_for_me_app.executor.effects import Append, UnreadableOutcome
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.outbox import ExecutorFailure, Outbox
from wait_for_me_app.executor.process import Executor, clock
from wait_for_me_app.executor.reader import News, OutcomesReader, ReaderFailed, Restored
from wait_for_me_app.executor.tenure import Hold, Tenure
from wait_for_me_app.settings import Settings

TOPICS = TopicNames("executor-clients")
NOBODY = "127.0.0.1:9"  # nothing listens there


def settings_for(servers: str, **kafka: str) -> Settings:
    """Return settings for the embedded broker, or for none."""
    return Settings(bootstrap_servers=servers, prefix=TOPICS.prefix, demo_broker=True, partitions=4, kafka=kafka)


def make_topics(servers: str) -> None:
    """Make the topics: the embedded broker does when a producer asks for them."""
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for topic in (TOPICS.fires, TOPICS.outcomes):
        producer.list_topics(topic, timeout=10)


def outcome(ticket: UnreadableOutcome | None = None) -> Append:
    """Return a record to write."""
    return Append(step="final", topic=TOPICS.outcomes, partition=1, key=b"k", value=b"v", ticket=ticket)


# --- the outbox ------------------------------------------------------------------------------------------------------


def test_tickets_come_back_in_order_when_kafka_has_their_records(embedded_kafka: str) -> None:
    """Records without a ticket are written all the same, and not spoken of."""
    outbox = Outbox(executor_clients.make_producer(settings_for(embedded_kafka), lambda _: None))
    tickets = [UnreadableOutcome(partition=1, key=b"%d" % number) for number in range(3)]
    for ticket in tickets:
        outbox.append(outcome(ticket))
        outbox.append(outcome())
    safe: list[Any] = []

    def all_safe() -> bool:
        outbox.wait(0.05)
        safe.extend(outbox.take_safe())
        return len(safe) == 3

    wait_until(all_safe, 10)
    assert safe == tickets
    wait_until(lambda: not (outbox.take_safe() or outbox.is_busy), 10)


def test_a_full_queue_is_waited_for_and_a_record_that_is_not_written_is_a_failure() -> None:
    """Nothing is dropped because the client's queue is full; what Kafka never acknowledges ends the executor."""
    properties = {
        "bootstrap.servers": NOBODY,
        "queue.buffering.max.messages": 1,
        "message.timeout.ms": 200,
        "log_level": 0,
    }
    outbox = Outbox(Producer(properties))
    outbox.append(outcome())
    outbox.append(outcome())  # finds the queue full, until the first record is given up
    with pytest.raises(ExecutorFailure, match="see the brokers, then start it again"):
        outbox.take_safe()


# --- the reader ------------------------------------------------------------------------------------------------------


def read(reader: OutcomesReader) -> News:
    """Wait for the next news."""
    news: list[News] = []

    def has_come() -> bool:
        news.extend(reader.take_news())
        return bool(news)

    wait_until(has_come, 20)
    return news[0]


def make_reader(servers: str) -> OutcomesReader:
    """Return a reader that serves."""
    make_topics(servers)
    reader = OutcomesReader(executor_clients.make_reader(settings_for(servers)), TOPICS, None)
    reader.start()
    return reader


def test_an_empty_partition_is_restored_at_once(embedded_kafka: str) -> None:
    """There is nothing to know, and the fires go on at their beginning."""
    reader = make_reader(embedded_kafka)
    reader.restore(Tenure(partition=2))
    was_busy = reader.is_busy
    news = read(reader)
    assert isinstance(news, Restored)
    assert was_busy
    assert (news.tenure.hold, news.ledger.end_offset, news.next_offset) == (Hold.RESTORING, 0, 0)
    assert not reader.is_busy
    reader.close()


def test_two_requests_for_one_partition_are_both_answered(embedded_kafka: str) -> None:
    """A partition that came, went and came again."""
    reader = make_reader(embedded_kafka)
    tenures = [Tenure(partition=2), Tenure(partition=2), Tenure(partition=3)]
    for tenure in tenures:
        reader.restore(tenure)
    answered: list[News] = []

    def all_answered() -> bool:
        answered.extend(reader.take_news())
        return len(answered) == 3

    wait_until(all_answered, 20)
    assert {id(news.tenure) for news in answered if isinstance(news, Restored)} == {id(tenure) for tenure in tenures}
    reader.close()


def test_outcomes_that_cannot_be_read_are_a_failure(embedded_kafka: str) -> None:
    """A partition that does not exist, for one; waiting would be for ever."""
    reader = make_reader(embedded_kafka)
    reader.restore(Tenure(partition=99))
    news = read(reader)
    assert isinstance(news, ReaderFailed)
    assert isinstance(news.error, KafkaException)
    reader.close()


def test_fires_that_are_gone_before_they_were_read_are_told_aloud(
    embedded_kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The group stands where the log is not: something was lost, and the executor says so before it goes on with what there is."""
    producer = Producer({"bootstrap.servers": embedded_kafka})
    producer.produce(TOPICS.fires, partition=2, value=fire_value())
    producer.flush(10)
    group = Consumer({"bootstrap.servers": embedded_kafka, "group.id": TOPICS.executor_group})
    group.commit(offsets=[TopicPartition(TOPICS.fires, 2, 50)], asynchronous=False)
    group.close()
    reader = make_reader(embedded_kafka)
    with caplog.at_level(logging.ERROR):
        reader.restore(Tenure(partition=2))
        news = read(reader)
    assert isinstance(news, Restored)
    assert news.next_offset == 0
    (record,) = [one for one in caplog.records if one.message == "fires_gone"]
    assert (record.committed, record.end) == (50, 1)  # type: ignore[attr-defined]
    reader.close()


def test_a_question_is_repeated_until_kafka_answers(embedded_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is away comes back; an answer that will not change is an error."""
    monkeypatch.setattr("wait_for_me_app.executor.reader._PAUSE_SECONDS", 0)
    reader = make_reader(embedded_kafka)
    answers: list[Any] = [
        KafkaException(KafkaError(KafkaError._TRANSPORT)),
        KafkaException(KafkaError(KafkaError._TIMED_OUT)),
        KafkaException(KafkaError(KafkaError._DESTROY_BROKER)),
        KafkaException(KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)),
        7,
    ]

    def ask() -> int:
        answer = answers.pop(0)
        if isinstance(answer, KafkaException):
            raise answer
        return int(answer)

    assert reader._insist(ask) == 7
    answers.append(KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)))
    with pytest.raises(KafkaException):
        reader._insist(ask)
    reader.close()
    answers.append(KafkaException(KafkaError(KafkaError._TRANSPORT)))
    with pytest.raises(KafkaException):
        reader._insist(ask)


# --- errors of the client --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (KafkaError(KafkaError._ALL_BROKERS_DOWN), 0),
        (KafkaError(KafkaError._FATAL, "fenced", fatal=True), 70),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), 70),
    ],
)
def test_an_error_that_does_not_pass_ends_the_executor(embedded_kafka: str, error: KafkaError, exit_code: int) -> None:
    """One that does is logged, and the client goes on trying."""
    make_topics(embedded_kafka)
    one = Executor(settings_for(embedded_kafka), Registry(), ExecutorOptions(stop_grace_ms=0), clock)
    stop = threading.Event()
    one._note_error(error)
    threading.Timer(0.3, stop.set).start()
    assert one.run(stop) == exit_code


def test_a_commit_that_fails_is_logged_and_no_reason_to_end(caplog: pytest.LogCaptureFixture) -> None:
    """The fires are read again, and known."""
    executor_clients._note_commit(KafkaError(KafkaError.REBALANCE_IN_PROGRESS), [])
    executor_clients._note_commit(None, [])
    assert [record.message for record in caplog.records] == ["commit_failed"]


def test_the_operators_properties_reach_the_clients_that_can_use_them(embedded_kafka: str) -> None:
    """A producer's property is no error at a consumer; what carries a guarantee is not the operator's to change."""
    settings = settings_for(embedded_kafka, **{"linger.ms": "5", "fetch.min.bytes": "1", "enable.auto.commit": "true"})
    for make in (executor_clients.make_producer, executor_clients.make_consumer):
        client = make(settings, lambda _: None)
        assert client.list_topics(timeout=10).brokers
        if isinstance(client, Consumer):
            client.close()
