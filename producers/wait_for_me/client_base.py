"""What the synchronous and the asynchronous client share: how they are made, how long they wait, how they end."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any, Final, Self

from .errors import DeliveryFailed
from .kafka_properties import properties_from_environment
from .producer_properties import check_timeout, producer_properties
from .producing import Outcome, Receipt, Sending
from .records import Record
from .topic_names import DEFAULT_PREFIX, TopicNames
from .waiting import Waiting

DEFAULT_TIMEOUT: Final = 10.0
QUEUE_FULL_PAUSE_SECONDS: Final = 0.005
_VERDICT_SECONDS: Final = 1.5

_log = logging.getLogger("wait_for_me")


class Patience:
    """How long one call may take."""

    def __init__(self, timeout: float | None, default: float) -> None:
        self.seconds = default if timeout is None else check_timeout(timeout)
        self._deadline = time.monotonic() + self.seconds
        # librdkafka looks for overdue records once a second, and its verdict says more than ours
        self._extra = _VERDICT_SECONDS if timeout is None else 0.0

    def left(self) -> float:
        """Return how many seconds are left to wait for an outcome."""
        return max(0.0, self._deadline - time.monotonic()) + self._extra

    def check_queue(self, record: Record) -> None:
        """Raise if the record has found no place in librdkafka's queue by now."""
        if time.monotonic() >= self._deadline:
            remedy = "send less at once, or raise queue.buffering.max.messages"
            raise DeliveryFailed(f"the client's queue is full: {remedy}", record.event_id) from None


class ClientBase:
    """A connection to the commands topic of one deployment."""

    def __init__(
        self,
        bootstrap_servers: str | None = None,
        *,
        prefix: str = DEFAULT_PREFIX,
        kafka: Mapping[str, Any] | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Begin to connect; Kafka need not be up yet.

        `kafka` takes librdkafka's properties (`{"security.protocol": "ssl"}`), `prefix` names the deployment, and
        `timeout` is how many seconds a command may take.
        """
        self._topic = TopicNames(prefix).commands
        self._timeout = check_timeout(timeout)
        self._sending = Sending(producer_properties(bootstrap_servers, kafka, timeout))
        self._waiting = Waiting(bootstrap_servers, kafka, TopicNames(prefix))
        self._is_closed = threading.Event()
        self._finalizer = weakref.finalize(self, close_and_log, self._sending, timeout)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> Self:
        """Make a client from WAIT_FOR_ME_BOOTSTRAP_SERVERS, WAIT_FOR_ME_KAFKA_* and WAIT_FOR_ME_PREFIX."""
        environ = os.environ if environ is None else environ
        prefix = environ.get("WAIT_FOR_ME_PREFIX") or DEFAULT_PREFIX
        return cls(prefix=prefix, kafka=properties_from_environment(environ), timeout=timeout)


def close_and_log(sending: Sending, timeout: float) -> None:
    """Close, and log what was still without an acknowledgement; whoever sent it has had, or will have, the error."""
    waiting = sending.close(timeout)
    if waiting:
        _log.warning("closed with %d commands unacknowledged: raise the timeout, or check Kafka", waiting)


def receipt_or_raise(outcome: Outcome) -> Receipt:
    """Return the receipt, or raise the error that took its place."""
    if isinstance(outcome, Receipt):
        return outcome
    raise outcome
