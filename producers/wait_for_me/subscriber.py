"""Iterates fires, for services that act on them themselves instead of registering a callback with the executor.

What it promises: at least once. A fire is committed after the loop has come back for the next one, so a fire whose
handling raised, or during which the process died, comes again. A copy that a worker's crash has made is skipped, as
far as this process remembers; who must be sure across processes keeps the `fire_id` beside what the handling
changes.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from . import forks
from .codec import decode_fire
from .errors import ClientClosed, ConfigurationError, ForkedClient, InvalidFire, NotReady, WaitTimeout
from .fires import Fire
from .kafka_properties import for_consumer, properties_from_environment
from .producer_properties import choose_servers
from .producing import explain
from .topic_names import DEFAULT_PREFIX, TopicNames

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

_log = logging.getLogger("wait_for_me")
_kafka_log = logging.getLogger("wait_for_me.kafka")

_POLL_SECONDS: Final = 0.2
_FIRST_CONTACT_SECONDS: Final = 10.0
_GUARANTEES: Final = {
    "isolation.level": "read_committed",
    "enable.auto.commit": True,  # of what was stored, which is what was handled
    "enable.auto.offset.store": False,
}


def subscribe(
    bootstrap_servers: str | None = None,
    *,
    group_id: str,
    prefix: str = DEFAULT_PREFIX,
    kafka: Mapping[str, Any] | None = None,
    start: Literal["earliest", "latest"] = "earliest",
    idle_timeout: float | None = None,
    remember: int = 100_000,
) -> Subscription:
    """Return an iterator of the fires of one deployment, shared among all that subscribe with the same `group_id`.

        with subscribe("localhost:9092", group_id="cdn") as fires:
            for fire in fires:
                invalidate(fire.group_key, idempotency_key=fire.fire_id)

    A new group begins with the earliest fire kept (7 days) unless `start` is "latest". The loop ends when nothing
    has come for `idle_timeout` seconds, or after `stop()`, which a signal handler or another thread may call.
    `remember` bounds how many fire_ids are known.
    """
    properties = _properties(bootstrap_servers, group_id, dict(kafka or {}), start)
    return Subscription(properties, TopicNames(prefix).fires, idle_timeout=idle_timeout, remember=remember)


def subscribe_from_env(
    *, group_id: str, environ: Mapping[str, str] | None = None, idle_timeout: float | None = None
) -> Subscription:
    """Return the same, with WAIT_FOR_ME_BOOTSTRAP_SERVERS, WAIT_FOR_ME_KAFKA_* and WAIT_FOR_ME_PREFIX."""
    environ = os.environ if environ is None else environ
    prefix = environ.get("WAIT_FOR_ME_PREFIX") or DEFAULT_PREFIX
    kafka = properties_from_environment(environ)
    kafka.pop("group.id", None)
    return subscribe(group_id=group_id, prefix=prefix, kafka=kafka, idle_timeout=idle_timeout)


class Subscription(Iterator[Fire]):
    """Fires of one deployment, in the order of each partition. One thread iterates; any may stop or close."""

    def __init__(self, properties: dict[str, Any], topic: str, *, idle_timeout: float | None, remember: int) -> None:
        self._topic = topic
        self._idle_timeout = idle_timeout
        self._handled = _Memory(remember)
        self._current: tuple[Message, Fire] | None = None
        self._repeat = False
        self._met = False
        self._stop = threading.Event()
        self._reading = threading.Lock()
        self._forked = False
        self._consumer: Consumer | None = _make_consumer(properties)
        self._consumer.subscribe([topic])
        forks.watch(self)

    def __iter__(self) -> Self:
        """Begin a loop. A fire that an earlier loop was left with is not known to be handled, so it comes first."""
        self._repeat = self._current is not None
        return self

    def __next__(self) -> Fire:
        try:
            return self.receive(self._idle_timeout)
        except (WaitTimeout, ClientClosed):
            self.close()
            raise StopIteration from None

    def receive(self, timeout: float | None = None) -> Fire:
        """Return the next fire, which says that the one before is handled; raise WaitTimeout if none comes in time."""
        with self._reading:
            if self._repeat and self._current:
                self._repeat = False
                return self._current[1]
            try:
                self._mark_handled()
                self._current = self._await_fire(timeout)
            except ClientClosed:
                self._let_go()
                raise
            return self._current[1]

    def commit(self) -> None:
        """Say that the latest fire is handled too, and wait until Kafka knows: for before a `break`."""
        with self._reading:
            consumer = self._usable()
            self._mark_handled()
            _commit(consumer)

    def stop(self) -> None:
        """End the loop once the fire in hand is handled, and commit it: for signal handlers and other threads."""
        self._stop.set()

    def close(self) -> None:
        """Commit what was handled and leave the group, now. A fire still being handled will come again."""
        self._stop.set()
        if not self._reading.acquire(blocking=False):
            return  # whoever reads sees the signal and lets go; it may be this very thread, in a signal handler
        try:
            self._let_go()
        finally:
            self._reading.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def abandon_after_fork(self) -> None:
        """Refuse service in the child: the parent goes on reading, and two cannot share one place in the group."""
        if self._consumer:
            forks.never_free(self._consumer)
        self._consumer, self._forked = None, True
        self._reading = threading.Lock()

    def _usable(self) -> Consumer:
        if self._forked:
            raise ForkedClient("the subscription was made before the fork: subscribe in the child")
        if self._consumer is None:
            raise ClientClosed("the subscription is closed: subscribe again")
        return self._consumer

    def _poll(self, seconds: float) -> Message | None:
        consumer = self._usable()
        if self._stop.is_set():
            raise ClientClosed("the subscription was stopped: subscribe again")
        return consumer.poll(seconds)

    def _await_fire(self, timeout: float | None) -> tuple[Message, Fire]:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._meet()
        while True:
            pause = _POLL_SECONDS if deadline is None else min(_POLL_SECONDS, max(0.0, deadline - time.monotonic()))
            message = self._poll(pause)
            fire = self._fire_in(message) if message else None
            if message and fire:
                return message, fire
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(f"no fire within {timeout:g} s: wait longer, or look at the worker's lag")

    def _fire_in(self, message: Message) -> Fire | None:
        """Return the fire to handle, if the message is one that has not been handled yet."""
        error = message.error()
        if error:
            _judge(error)
            return None
        try:
            fire = decode_fire(message.value())
        except InvalidFire as invalid:
            _log.error("skipped %s[%s]@%s: %s", message.topic(), message.partition(), message.offset(), invalid)
            self._store(message)
            return None
        if fire.fire_id in self._handled:
            self._store(message)
            return None
        return fire

    def _mark_handled(self) -> None:
        self._repeat = False
        if self._current:
            message, fire = self._current
            self._current = None
            self._handled.add(fire.fire_id)
            self._store(message)

    def _store(self, message: Message) -> None:
        """Let the next commit include this message."""
        from confluent_kafka import KafkaException

        try:
            self._usable().store_offsets(message)
        except KafkaException as error:  # the partition has gone to another member, who will see the message again
            _kafka_log.info("not committed: %s", explain(error))

    def _meet(self) -> None:
        """Make sure, once, that Kafka is there and has the topic: a consumer would wait for ever in silence."""
        from confluent_kafka import KafkaException

        if self._met:
            return
        try:
            topic = self._usable().list_topics(self._topic, timeout=_FIRST_CONTACT_SECONDS).topics[self._topic]
        except KafkaException as error:
            remedy = "check its address, the network and the credentials"
            raise NotReady(f"Kafka cannot be reached ({explain(error)}): {remedy}") from error
        if topic.error:
            _judge(topic.error)
        self._met = True

    def _let_go(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._current = None
        if consumer:
            consumer.close()  # commits what was stored


class _Memory:
    """The latest keys, at most so many."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ConfigurationError(f"remember is {size}: make it 1 or more")
        self._size = size
        self._keys: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        self._keys[key] = None
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)


def _properties(bootstrap_servers: str | None, group_id: str, kafka: dict[str, Any], start: str) -> dict[str, Any]:
    if not group_id:
        raise ConfigurationError("group_id is required: name the service that reads, all its processes alike")
    given = for_consumer(kafka)
    for name, value in given.items():
        if name in ("group.id", "auto.offset.reset", "auto.commit.enable", "error_cb", "logger"):
            raise ConfigurationError(f"{name} cannot be set as a property: use the arguments of subscribe()")
        if name in _GUARANTEES and str(value).lower() != str(_GUARANTEES[name]).lower():
            raise ConfigurationError(f"{name}={value} would break a guarantee: leave it out")
    if start not in ("earliest", "latest"):
        raise ConfigurationError(f"start is {start!r}: make it 'earliest' or 'latest'")
    defaults = {"client.id": "wait-for-me-subscriber", "auto.commit.interval.ms": 1000}
    servers = choose_servers(bootstrap_servers, given)
    given.pop("metadata.broker.list", None)
    return {
        **defaults,
        **given,
        **_GUARANTEES,
        "bootstrap.servers": servers,
        "group.id": group_id,
        "auto.offset.reset": start,
    }


def _make_consumer(properties: dict[str, Any]) -> Consumer:
    from confluent_kafka import Consumer, KafkaException

    try:
        return Consumer({**properties, "logger": _kafka_log})
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigurationError(f"librdkafka refuses a property ({explain(error)}): correct or remove it") from error


def _judge(error: KafkaError) -> None:
    """Raise what someone must act on; the rest librdkafka repairs by itself."""
    code = error.code()
    if code in (error.UNKNOWN_TOPIC_OR_PART, error._UNKNOWN_TOPIC):
        raise ConfigurationError(f"{error.str()}: create the topics with `wait-for-me topics create`")
    if code in (error.TOPIC_AUTHORIZATION_FAILED, error.GROUP_AUTHORIZATION_FAILED):
        raise ConfigurationError(f"{error.str()}: allow this user to READ the fires topic and the group")
    if error.fatal():
        raise NotReady(f"{error.str()}: subscribe again")
    if code != error._PARTITION_EOF:
        _kafka_log.warning("%s", error.str())


def _commit(consumer: Consumer) -> None:
    from confluent_kafka import KafkaError, KafkaException

    try:
        consumer.commit(asynchronous=False)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._NO_OFFSET:
            raise NotReady(f"not committed ({explain(error)}): the fires come again, handle them by fire_id") from error
