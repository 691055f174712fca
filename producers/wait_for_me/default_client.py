"""The gem's calls as functions: one client for the process, made from the environment at the first call."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import WaitForMe
    from .fires import Fire
    from .outcomes import FinalOutcome
    from .producing import Receipt
    from .records import HeadersToSend

_lock = threading.Lock()
_client: WaitForMe | None = None


def add_participant(
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
    """Tell that a participant has arrived: the callback runs once all have, or when nobody came for the wait time."""
    return _default().add_participant(
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
        timeout=timeout,
    )


def remove_wait(
    group_key: str | None = None,
    *,
    reason: str | None = None,
    event_id: str | None = None,
    headers: HeadersToSend | None = None,
    timeout: float | None = None,
) -> Receipt:
    """End the group's wait without running its callback. Nothing happens if it is not waiting."""
    return _default().remove_wait(group_key, reason=reason, event_id=event_id, headers=headers, timeout=timeout)


def wait_fired(
    group_key: str | None = None,
    timeout: float = 60.0,
    *,
    after: Receipt | None = None,
    lookback: float = 60.0,
) -> Fire:
    """Return the fire of a group, or raise WaitTimeout when there is none within the time."""
    return _default().wait_fired(group_key, timeout, after=after, lookback=lookback)


def wait_done(
    group_key: str | None = None,
    timeout: float = 60.0,
    *,
    fire_id: str | None = None,
    lookback: float = 60.0,
) -> FinalOutcome:
    """Return what has become of a group's fire, or raise WaitTimeout when that is not final within the time."""
    return _default().wait_done(group_key, timeout, fire_id=fire_id, lookback=lookback)


def _default() -> WaitForMe:
    """Return the process's client. The environment is read now, not at import, so that a program may still set it."""
    global _client
    with _lock:
        if _client is None:
            from .client import WaitForMe

            _client = WaitForMe.from_env()
        return _client


def _unlock_after_fork() -> None:
    """Another thread of the parent may have held the lock, and does not exist in the child."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_unlock_after_fork)
