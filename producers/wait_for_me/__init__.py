"""Wait for N participants, or until nothing has happened for a while: the client and the wire schema.

    from wait_for_me import WaitForMe

    with WaitForMe("localhost:9092") as wfm:
        wfm.add_participant(participant_key="web-3", group_key="deploy-42", number_of_participants_in_group=6,
                            execute_after_waiting="cloudfront.invalidate", execute_after_waiting_params=["E1"],
                            wait_time_in_seconds=60)
        wfm.remove_wait("deploy-42")

Names are loaded at their first use, so that who needs only the schema does not load librdkafka. The package stands
alone: it imports confluent-kafka and msgspec, never the worker.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .default_client import add_participant, remove_wait, wait_done, wait_fired
from .errors import (
    ClientClosed,
    ConfigurationError,
    DeliveryFailed,
    ForkedClient,
    InvalidCommand,
    InvalidFire,
    InvalidRecord,
    NotReady,
    WaitForMeError,
    WaitTimeout,
)

if TYPE_CHECKING:
    from .aio import AsyncWaitForMe
    from .client import WaitForMe
    from .fires import Arrival, Fire
    from .outcomes import FinalOutcome
    from .producing import Receipt
    from .subscriber import Subscription, subscribe

__all__ = [
    "Arrival",
    "AsyncWaitForMe",
    "ClientClosed",
    "ConfigurationError",
    "DeliveryFailed",
    "FinalOutcome",
    "Fire",
    "ForkedClient",
    "InvalidCommand",
    "InvalidFire",
    "InvalidRecord",
    "NotReady",
    "Receipt",
    "Subscription",
    "WaitForMe",
    "WaitForMeError",
    "WaitTimeout",
    "add_participant",
    "remove_wait",
    "subscribe",
    "wait_done",
    "wait_fired",
]

_MODULE_OF_NAME = {
    "Arrival": "fires",
    "AsyncWaitForMe": "aio",
    "FinalOutcome": "outcomes",
    "Fire": "fires",
    "Receipt": "producing",
    "Subscription": "subscriber",
    "WaitForMe": "client",
    "subscribe": "subscriber",
}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF_NAME.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
