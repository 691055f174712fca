"""The gem's calls for asyncio: the same producer as the synchronous client, awaited.

It does not stand on confluent_kafka.aio, which refuses headers. Acknowledgements come in on the collecting thread
and are handed to the event loop that made the call; a call that was cancelled meanwhile is simply not told.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from .client_base import QUEUE_FULL_PAUSE_SECONDS, ClientBase, Patience, close_and_log, receipt_or_raise
from .fires import Fire
from .outcomes import FinalOutcome
from .producing import Outcome, Receipt
from .records import HeadersToSend, Record, add_record, remove_record
from .waiting import DEFAULT_LOOKBACK_SECONDS, DEFAULT_WAIT_SECONDS, IsOver

_T = TypeVar("_T")


class AsyncWaitForMe(ClientBase):
    """Sends adds and removes to Kafka and awaits its acknowledgement; any number of calls may be under way."""

    async def add_participant(
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
        """Tell that a participant has arrived; the arguments are those of `WaitForMe.add_participant`."""
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
        return await self._deliver(record, timeout)

    async def remove_wait(
        self,
        group_key: str | None = None,
        *,
        reason: str | None = None,
        event_id: str | None = None,
        headers: HeadersToSend | None = None,
        timeout: float | None = None,
    ) -> Receipt:
        """End the group's wait without running its callback. Nothing happens if it is not waiting."""
        record = remove_record(group_key=group_key, reason=reason, event_id=event_id, headers=headers)
        return await self._deliver(record, timeout)

    async def wait_fired(
        self,
        group_key: str | None = None,
        timeout: float = DEFAULT_WAIT_SECONDS,
        *,
        after: Receipt | None = None,
        lookback: float = DEFAULT_LOOKBACK_SECONDS,
    ) -> Fire:
        """Return the fire of a group, or raise WaitTimeout; the arguments are those of `WaitForMe.wait_fired`."""
        return await self._in_own_thread(
            lambda is_over: self._waiting.fired(group_key, after, timeout, lookback, is_over)
        )

    async def wait_done(
        self,
        group_key: str | None = None,
        timeout: float = DEFAULT_WAIT_SECONDS,
        *,
        fire_id: str | None = None,
        lookback: float = DEFAULT_LOOKBACK_SECONDS,
    ) -> FinalOutcome:
        """Return the final outcome of a fire, or raise WaitTimeout; arguments as for `WaitForMe.wait_done`."""
        return await self._in_own_thread(
            lambda is_over: self._waiting.done(group_key, fire_id, timeout, lookback, is_over)
        )

    async def _in_own_thread(self, wait: Callable[[IsOver], _T]) -> _T:
        """Wait in a thread of its own: long waits would take the few threads that the loop has for short work.

        A cancelled wait ends its thread within one poll.
        """
        told: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        is_cancelled = threading.Event()

        def run() -> None:
            try:
                result = wait(lambda: is_cancelled.is_set() or self._is_closed.is_set())
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                _call_on_loop(told, told.set_exception, error)
            else:
                _call_on_loop(told, told.set_result, result)

        threading.Thread(target=run, name="wait-for-me-waiting", daemon=True).start()
        try:
            return await told
        finally:
            is_cancelled.set()

    async def flush(self, timeout: float | None = None) -> int:
        """Wait for commands under way; return how many are still without an acknowledgement."""
        return await asyncio.to_thread(self._sending.flush, self._timeout if timeout is None else timeout)

    async def close(self, timeout: float | None = None) -> None:
        """Wait for commands under way, then disconnect. A closed client stays closed; closing twice is fine."""
        self._is_closed.set()
        self._finalizer.detach()
        await asyncio.to_thread(close_and_log, self._sending, self._timeout if timeout is None else timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _deliver(self, record: Record, timeout: float | None) -> Receipt:
        patience = Patience(timeout, self._timeout)
        told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        await self._enqueue(record, told, patience)
        try:
            async with asyncio.timeout(patience.left()):
                return receipt_or_raise(await told)
        except TimeoutError:
            raise self._sending.overdue(record, patience.seconds) from None

    async def _enqueue(self, record: Record, told: asyncio.Future[Outcome], patience: Patience) -> None:
        loop = told.get_loop()
        while True:
            try:
                return self._sending.send(self._topic, record, lambda outcome: _hand_over(loop, told, outcome))
            except BufferError:
                patience.check_queue(record)
                await asyncio.sleep(QUEUE_FULL_PAUSE_SECONDS)


def _hand_over(loop: asyncio.AbstractEventLoop, told: asyncio.Future[Outcome], outcome: Outcome) -> None:
    """Pass the outcome from the collecting thread to the loop, unless the loop has ended meanwhile."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_tell, told, outcome)


def _call_on_loop(told: asyncio.Future[_T], tell: Callable[[Any], None], what: object) -> None:
    """Tell a future from another thread, unless its loop has ended or it is done already."""
    with contextlib.suppress(RuntimeError):
        told.get_loop().call_soon_threadsafe(lambda: None if told.done() else tell(what))


def _tell(told: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not told.done():  # cancelled, or given up
        told.set_result(outcome)
