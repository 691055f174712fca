"""The way into Kafka for outcomes and dead letters. What comes back is which of them are safe; an error is the end of the executor."""

from __future__ import annotations

from collections import deque
from typing import Final

from confluent_kafka import KafkaError, Producer

from wait_for_me_app.crash_points import crash_point
from wait_for_me_app.executor.effects import Append, Ticket

_QUEUE_FULL_SECONDS: Final = 0.01


class ExecutorFailure(Exception):
    """The executor has lost track of what Kafka has and must end without a commit."""


class Outbox:
    """Sends records in order and collects their acknowledgements."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._acks: deque[tuple[KafkaError | None, Ticket | None]] = deque()

    def append(self, append: Append) -> None:
        """Send a record; its acknowledgement comes later."""
        if append.step == "started":
            crash_point("X1")
        while True:
            try:
                self._produce(append)
                break
            except BufferError:  # the client's queue is full: let it send
                self._producer.poll(_QUEUE_FULL_SECONDS)
        if append.step in ("failed", "dead_letter"):
            self._producer.poll(0)
            crash_point("X5")

    def _produce(self, append: Append) -> None:
        ticket = append.ticket
        self._producer.produce(
            append.topic,
            partition=append.partition,
            key=append.key,
            value=append.value,
            headers=list(append.headers),
            on_delivery=lambda error, _message: self._acks.append((error, ticket)),
        )

    def wait(self, seconds: float) -> None:
        """Wait that long for an acknowledgement if any is due."""
        if not self._acks and len(self._producer):
            self._producer.poll(seconds)

    def take_safe(self) -> list[Ticket]:
        """Return the tickets of the records that Kafka has since the last call; raise ExecutorFailure if one was refused."""
        self._producer.poll(0)
        safe: list[Ticket] = []
        while self._acks:
            error, ticket = self._acks.popleft()
            if error is not None:
                raise ExecutorFailure(f"a record was not written ({error.str()}): see the brokers, then start it again")
            if ticket is not None:
                safe.append(ticket)
        return safe

    @property
    def is_busy(self) -> bool:
        """Whether records are under way, or acknowledgements wait to be taken."""
        return bool(self._acks or len(self._producer))
