"""The gem's calls over Kafka: `WaitForMe.add_participant` and `WaitForMe.remove_wait`.

What a call promises: it returns once Kafka has the command on all replicas that the topic demands, or it raises. A
call that raised DeliveryFailed or NotReady may be repeated with the `event_id` of the error: a copy of an add
changes nothing.

Threads may share a client. So may a process and its forked children: each child makes a connection of its own at
its first call, and commands that were under way in the parent stay the parent's.
"""

from __future__ import annotations

import time
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from .client_base import QUEUE_FULL_PAUSE_SECONDS, ClientBase, Patience, close_and_log, receipt_or_raise
from .fires import Fire
from .outcomes import FinalOutcome
from .producing import Outcome, Receipt
from .records import HeadersToSend, Record, add_record, remove_record
from .waiting import DEFAULT_LOOKBACK_SECONDS, DEFAULT_WAIT_SECONDS


class WaitForMe(ClientBase):
    """Sends adds and removes to Kafka and waits for its acknowledgement."""

    def add_participant(
        self,
        *,
        participant_key: str | None = None,
        group_key: str | None = None,
        number_of_participants_in_group: int | None = None,
        execute_after_waiting: str | None = None,
        execute_after_waiting_params: Any = (),
        wait_time_in_seconds: float | None = None,
        max_wait_in_seconds: float | None = None,
        linger_in_seconds: float | None = None,
        event_id: str | None = None,
        headers: HeadersToSend | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """Tell that a participant has arrived: the callback runs once all have, or when nobody came for the wait time.

        The first six arguments are the gem's; all but the params are required. `max_wait_in_seconds` caps how far
        adds push the deadline, `linger_in_seconds` is how long the group stays closed afterwards (default: the wait
        time).
        """
        record = add_record(
            participant_key=participant_key,
            group_key=group_key,
            number_of_participants_in_group=number_of_participants_in_group,
            execute_after_waiting=execute_after_waiting,
            execute_after_waiting_params=execute_after_waiting_params,
            wait_time_in_seconds=wait_time_in_seconds,
            max_wait_in_seconds=max_wait_in_seconds,
            linger_in_seconds=linger_in_seconds,
            event_id=event_id,
            headers=headers,
        )
        return self._deliver(record, timeout)

    def remove_wait(
        self,
        group_key: str | None = None,
        *,
        reason: str | None = None,
        event_id: str | None = None,
        headers: HeadersToSend | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """End the group's wait without running its callback. Nothing happens if it is not waiting."""
        return self._deliver(
            remove_record(group_key=group_key, reason=reason, event_id=event_id, headers=headers), timeout
        )

    def wait_fired(
        self,
        group_key: str | None = None,
        timeout: float = DEFAULT_WAIT_SECONDS,
        *,
        after: Receipt | None = None,
        lookback: float = DEFAULT_LOOKBACK_SECONDS,
    ) -> Fire:
        """Return the fire of a group, or raise WaitTimeout when there is none within the time.

            receipt = wfm.add_participant(group_key="deploy-42", ...)
            fire = wfm.wait_fired("deploy-42", timeout=90, after=receipt)

        A fire of the last `lookback` seconds counts too. With `after`, the receipt of an add, only a fire of that add's
        round or a later one does. Any number of callers may wait for the same group; each gets the fire.
        """
        return self._waiting.fired(group_key, after, timeout, lookback, self._is_closed.is_set)

    def wait_done(
        self,
        group_key: str | None = None,
        timeout: float = DEFAULT_WAIT_SECONDS,
        *,
        fire_id: str | None = None,
        lookback: float = DEFAULT_LOOKBACK_SECONDS,
    ) -> FinalOutcome:
        """Return what has become of a group's fire, or raise WaitTimeout when that is not final within the time.

        `state` is "done" when the callback has returned, and "dead" when the fire was given up. An outcome of the last
        `lookback` seconds counts too; with `fire_id`, only that fire's.
        """
        return self._waiting.done(group_key, fire_id, timeout, lookback, self._is_closed.is_set)

    def flush(self, timeout: float | None = None) -> int:
        """Wait for commands that other threads have under way; return how many are still without an acknowledgement."""
        return self._sending.flush(self._timeout if timeout is None else timeout)

    def close(self, timeout: float | None = None) -> None:
        """Wait for commands under way, then disconnect. A closed client stays closed; closing twice is fine."""
        self._is_closed.set()
        self._finalizer.detach()
        close_and_log(self._sending, self._timeout if timeout is None else timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _deliver(self, record: Record, timeout: float | None) -> Receipt:
        patience = Patience(timeout, self._timeout)
        outcome: Future[Outcome] = Future()
        self._enqueue(record, outcome, patience)
        try:
            return receipt_or_raise(outcome.result(patience.left()))
        except TimeoutError:
            raise self._sending.overdue(record, patience.seconds) from None

    def _enqueue(self, record: Record, outcome: Future[Outcome], patience: Patience) -> None:
        while True:
            try:
                return self._sending.send(self._topic, record, outcome.set_result)
            except BufferError:
                patience.check_queue(record)
                time.sleep(QUEUE_FULL_PAUSE_SECONDS)
