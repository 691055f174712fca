"""The commands that are sent: equal bytes for every system.

An add's value has `VALUE_BYTES` bytes, group key included. A backlog comes in blocks of a thousand groups, first everyone's first
participant, then everyone's second, and so on, so that groups stay open for a while and fires come at an even rate.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from confluent_kafka import Producer

VALUE_BYTES: Final = 231
BLOCK_GROUPS: Final = 1000
CALLBACK: Final = "cdn.invalidate"
_FAR_AWAY_SECONDS: Final = 36_000
_MARK: Final = "<group key>"

Command = tuple[bytes, bytes]
"""Key and value of a record."""


class LoadFailed(Exception):
    """The commands could not all be written."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """Groups of a certain size, numbered from 0; every group gets all its participants."""

    name: str
    groups: int
    participants: int = 5

    @property
    def adds(self) -> int:
        """How many commands that makes."""
        return self.groups * self.participants

    def key(self, group: int) -> bytes:
        """Return a group's key; all have the same length."""
        return b"%s-%07d" % (self.name.encode(), group)

    def members(self) -> frozenset[str]:
        """Return the participants that every group must have."""
        return frozenset(f"host-{number}" for number in range(self.participants))

    def backlog(self) -> Iterator[Command]:
        """Yield the adds in blocks of groups."""
        values = self._values()
        for first in range(0, self.groups, BLOCK_GROUPS):
            keys = [self.key(group) for group in range(first, min(first + BLOCK_GROUPS, self.groups))]
            for before, after in values:
                yield from ((key, before + key + after) for key in keys)

    def openings(self) -> Iterator[Command]:
        """Yield each group's first add only: the groups stay open."""
        before, after = self._values()[0]
        yield from ((key, before + key + after) for key in map(self.key, range(self.groups)))

    def one_after_another(self) -> Iterator[Command]:
        """Yield the adds group by group."""
        values = self._values()
        for key in map(self.key, range(self.groups)):
            yield from ((key, before + key + after) for before, after in values)

    def _values(self) -> list[tuple[bytes, bytes]]:
        key_bytes = len(self.key(0))
        return [add_around_key(f"host-{number}", self.participants, key_bytes) for number in range(self.participants)]


def add_around_key(participant: str, participants: int, key_bytes: int, **fields: Any) -> tuple[bytes, bytes]:
    """Return an add's value in two pieces, before and after the group key, padded to `VALUE_BYTES` if it is shorter."""
    path = ["/*"]
    add = {
        "type": "add",
        "group_key": _MARK,
        "participant_key": participant,
        "number_of_participants_in_group": participants,
        "wait_time_in_seconds": _FAR_AWAY_SECONDS,
        "execute_after_waiting": CALLBACK,
        "execute_after_waiting_params": {"paths": path},
        **fields,
    }
    missing = VALUE_BYTES - (len(_json(add)) - len(_MARK) + key_bytes)
    path[0] = f"/{'x' * missing}*"
    before, _, after = _json(add).partition(_MARK.encode())
    return before, after


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


class Loader:
    """Writes commands; `close` raises LoadFailed unless every one of them was acknowledged."""

    def __init__(self, bootstrap_servers: str, topic: str, *, linger_ms: int) -> None:
        self._topic = topic
        self._errors: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "linger.ms": linger_ms,
                "batch.size": 262_144,  # below any topic's max.message.bytes, which the default of 1 MB is not
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 500_000,
                "delivery.report.only.error": True,
            }
        )

    def send(self, command: Command) -> None:
        """Hand a command to the producer, waiting while its queue is full."""
        key, value = command
        while True:
            try:
                self._producer.produce(self._topic, key=key, value=value, on_delivery=self._note)
                return
            except BufferError:
                self._producer.poll(0.05)

    def turn(self) -> None:
        """Let the producer report."""
        self._producer.poll(0)

    def close(self) -> None:
        """Wait until everything is written."""
        left = self._producer.flush(60)
        if left or self._errors:
            raise LoadFailed(f"{left} commands unwritten, {len(self._errors)} refused: {self._errors[:1]}")

    def _note(self, error: Any, _message: Any) -> None:
        if error is not None:
            self._errors.append(str(error))


def load_backlog(bootstrap_servers: str, topic: str, commands: Iterator[Command]) -> None:
    """Write commands as fast as they go."""
    loader = Loader(bootstrap_servers, topic, linger_ms=20)
    while chunk := list(islice(commands, 5000)):
        for command in chunk:
            loader.send(command)
        loader.turn()
    loader.close()


def load_paced(
    bootstrap_servers: str,
    topic: str,
    commands: Iterator[Command],
    per_second: float,
    *,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Write commands at an even rate, each at once, to their end or until told to stop."""
    loader = Loader(bootstrap_servers, topic, linger_ms=0)
    started, sent = time.monotonic(), 0
    while not until():
        due = int((time.monotonic() - started) * per_second)
        chunk = list(islice(commands, max(0, due - sent)))
        for command in chunk:
            loader.send(command)
        loader.turn()
        if due > sent and len(chunk) < due - sent:
            break
        sent = due
        time.sleep(0.002)
    loader.close()
