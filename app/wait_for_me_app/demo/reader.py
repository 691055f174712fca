"""Reads the topics of the demo from their beginning, and translates records into what the board folds.

Danger: this must stay a reader. It joins no consumer group and commits nothing, so it cannot disturb the worker or the executor.
"""

from __future__ import annotations

from typing import Final, cast

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from wait_for_me.codec import decode_command, decode_fire
from wait_for_me.commands import Add, Remove
from wait_for_me.errors import InvalidRecord
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.demo.board import Arrived, Fired, Outcome, Place, Removed, Seen, SetAside, Ticked
from wait_for_me_app.outcomes import Finished, decode_outcome

RECORDS_AT_ONCE: Final = 100


class Reader:
    """All records of commands, fires, outcomes and dead letters, in the order of their arrival here."""

    def __init__(self, bootstrap_servers: str, topics: TopicNames, partitions: int) -> None:
        self._topics = topics
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "wait-for-me-demo-view",  # librdkafka wants a name; nothing is joined or committed
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        read = (topics.commands, topics.fires, topics.outcomes, topics.commands_dead_letters, topics.fires_dead_letters)
        self._consumer.assign([TopicPartition(name, number, 0) for name in read for number in range(partitions)])

    def read(self, timeout_s: float) -> list[Seen]:
        """Return what has been written since the last call, by the time it was written; wait that long for the first record."""
        seen = [self._translate(message) for message in self._consumer.consume(RECORDS_AT_ONCE, timeout_s)]
        return sorted((one for one in seen if one is not None), key=lambda one: one.place.at_ms)

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()

    def _translate(self, message: Message) -> Seen | None:
        error = message.error()
        if error is not None:
            if error.retriable():
                return None
            raise KafkaException(error)
        topics, topic = self._topics, message.topic()
        if topic == topics.commands:
            return command_seen(_place("commands", message), message)
        if topic == topics.fires:
            return fire_seen(_place("fires", message), message)
        if topic == topics.outcomes:
            return outcome_seen(_place("outcomes", message), message)
        return _set_aside_seen(_place("dead letter", message), message)


def _place(topic: str, message: Message) -> Place:
    return Place(topic, message.partition() or 0, message.offset() or 0, message.timestamp()[1])


def command_seen(place: Place, message: Message) -> Seen | None:
    """Return what a command says; one that is not valid will be read again as a dead letter."""
    try:
        command = decode_command(message.key(), message.value(), _headers(message))
    except InvalidRecord:
        return None
    if isinstance(command, Add):
        return Arrived(
            place=place,
            group_key=command.group_key,
            participant_key=command.participant_key,
            number_of_participants=command.number_of_participants_in_group,
            wait_ms=command.wait_ms,
        )
    if isinstance(command, Remove):
        return Removed(place=place, group_key=command.group_key, reason=command.reason or "")
    return Ticked(place=place)


def fire_seen(place: Place, message: Message) -> Fired:
    """Return what a fire says."""
    fire = decode_fire(message.value())
    return Fired(
        place=place,
        group_key=fire.group_key,
        fire_id=fire.fire_id,
        reason=fire.reason,
        arrived_count=fire.arrived_count,
        missing_count=fire.missing_count,
    )


def outcome_seen(place: Place, message: Message) -> Outcome | None:
    """Return how far the executor is with a fire; the deletion of an earlier step says nothing new."""
    value = message.value()
    if value is None:
        return None
    outcome = decode_outcome(value)
    return Outcome(
        place=place,
        group_key=outcome.group_key,
        fire_id=outcome.fire_id,
        callback=outcome.callback,
        state=outcome.state,
        attempt=outcome.attempt,
        took_ms=outcome.took_ms if isinstance(outcome, Finished) else None,
        is_final=isinstance(outcome, Finished),
    )


def _set_aside_seen(place: Place, message: Message) -> SetAside:
    headers = {name: (value or b"").decode(errors="replace") for name, value in _headers(message)}
    error = f"{headers.get('wfm_error', 'unknown error')}: {headers.get('__dlq.errors.message', '')}"
    return SetAside(place=place, group_key=(message.key() or b"").decode(errors="replace"), error=error)


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    """librdkafka gives bytes; its type hints allow more."""
    return cast("list[tuple[str, bytes | None]]", message.headers() or [])
