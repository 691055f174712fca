"""Everything that can go wrong, split by who must act. Every message ends with the remedy.

    WaitForMeError
     +-- InvalidRecord (ValueError)     the record is wrong: whoever wrote it must change it
     |    +-- InvalidCommand            an add, a remove or a tick
     |    +-- InvalidFire               a record of the fires topic
     +-- ConfigurationError (ValueError)  a setting is wrong: whoever deploys must change it
     +-- NotReady                       Kafka is out of reach: try again when it is back
     +-- DeliveryFailed                 Kafka answered, or went silent, and the record is not known to be stored
     +-- WaitTimeout (TimeoutError)     nothing came within the time that the caller allowed
     +-- ClientClosed (RuntimeError)    used after close(): the calling code must change
     +-- ForkedClient (RuntimeError)    a subscription used in a forked child: the calling code must change

`code` and `stage` of an InvalidRecord are stable: they travel in the headers of dead letters and are alerted on.
"""

from __future__ import annotations

from typing import Final, Literal

Stage = Literal["decode", "validate", "route", "apply", "callback"]

STAGE_OF_CODE: Final[dict[str, Stage]] = {
    "null_value": "decode",
    "not_utf8": "decode",
    "not_json": "decode",
    "not_an_object": "decode",
    "too_large": "decode",
    "too_deep": "decode",
    "unknown_type": "validate",
    "missing_field": "validate",
    "wrong_type": "validate",
    "out_of_range": "validate",
    "too_long": "validate",
    "empty": "validate",
    "control_character": "validate",
    "bad_callback_name": "validate",
    "null_key": "validate",
    "key_mismatch": "validate",
    "bad_cloudevent": "validate",
    "misplaced": "route",
    "apply_failed": "apply",
    "damaged_row": "apply",
    "unknown_callback": "callback",
    "bad_parameters": "callback",
    "callback_failed": "callback",
    "callback_killed_process": "callback",
    "bad_fire": "callback",
    "callback_timeout": "callback",
    "callback_backlog": "callback",
    "endpoint_gone": "callback",
    "forbidden_address": "callback",
}
"""Every stable error code and the stage at which it happens (header `wfm_stage` of a dead letter)."""


class WaitForMeError(Exception):
    """Any error that this package raises on purpose."""


class InvalidRecord(WaitForMeError, ValueError):
    """A record breaks the wire contract; `code` says how, for machines, and `message` what to do, for people."""

    def __init__(self, code: str, message: str, stage: Stage | None = None) -> None:
        super().__init__(code, message, stage)
        self.code = code
        self.message = message
        self.stage: Stage = stage or STAGE_OF_CODE[code]

    def __str__(self) -> str:
        return self.message


class InvalidCommand(InvalidRecord):
    """An add, a remove or a tick that cannot be accepted."""


class InvalidFire(InvalidRecord):
    """A record of the fires topic that is not a fire."""


class ConfigurationError(WaitForMeError, ValueError):
    """A setting is missing, unknown, or would break a guarantee."""


class _SendError(WaitForMeError):
    """A command that was not acknowledged; send it again with the same `event_id`, which makes a copy harmless."""

    def __init__(self, message: str, event_id: str | None = None) -> None:
        super().__init__(message, event_id)
        self.message = message
        self.event_id = event_id

    def __str__(self) -> str:
        return self.message


class NotReady(_SendError):
    """Kafka cannot be reached."""


class DeliveryFailed(_SendError):
    """Kafka did not acknowledge the record."""


class WaitTimeout(WaitForMeError, TimeoutError):
    """Nothing arrived within the time allowed."""


class ClientClosed(WaitForMeError, RuntimeError):
    """The client was used after close()."""


class ForkedClient(WaitForMeError, RuntimeError):
    """A subscription was carried over a fork, where librdkafka's threads do not exist."""
