"""The wire schema of commands: add, remove, tick, and their caps.

The rule of this file: a value of these types that came out of `codec.decode_command` is valid, so nobody downstream
checks again. The structs refuse unknown fields only because that is what makes the codec's fast path safe (a
skipped field is not checked for UTF-8 or depth); the codec itself ignores unknown fields, as the contract says.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Raw, Struct, field

from .milliseconds import to_ms

MAX_KEY_BYTES: Final = 256
"""Largest group_key or participant_key, in UTF-8 bytes."""
MAX_EVENT_ID_BYTES: Final = 128
MAX_REASON_BYTES: Final = 1024
MAX_CALLBACK_CHARACTERS: Final = 128
MAX_PARTICIPANTS: Final = 100_000
MAX_SECONDS: Final = 30 * 24 * 60 * 60
"""Largest wait, cap and linger: 30 days."""
MAX_PARAMS_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 32
"""How deep arrays and objects may nest inside any field of a command."""
MAX_RECORD_BYTES: Final = 256 * 1024

REQUIRED_TO_ADD: Final = (
    "participant_key",
    "group_key",
    "number_of_participants_in_group",
    "execute_after_waiting",
    "wait_time_in_seconds",
)
"""The required fields of an add, in the order in which the gem complains about them."""

NO_PARAMS: Final = Raw(b"[]")


class _Command(Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True, tag_field="type"):
    """What the three commands have in common: immutable, invisible to the garbage collector, told apart by `type`."""


_Key = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_BYTES)]
_EventId = Annotated[str, Meta(min_length=1, max_length=MAX_EVENT_ID_BYTES)]
_PositiveSeconds = Annotated[int, Meta(gt=0, le=MAX_SECONDS)] | Annotated[float, Meta(gt=0, le=MAX_SECONDS)]
_Seconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS)] | Annotated[float, Meta(ge=0, le=MAX_SECONDS)]


class Add(_Command, frozen=True, kw_only=True, tag="add"):
    """A participant has arrived; opens the group's round if there is none."""

    group_key: _Key
    participant_key: _Key
    number_of_participants_in_group: Annotated[int, Meta(ge=1, le=MAX_PARTICIPANTS)]
    execute_after_waiting: Annotated[str, Meta(min_length=1, max_length=MAX_CALLBACK_CHARACTERS)]
    raw_params: Raw = field(default=NO_PARAMS, name="execute_after_waiting_params")
    wait_time_in_seconds: _PositiveSeconds
    event_id: _EventId | None = None
    max_wait_in_seconds: _PositiveSeconds | None = None
    linger_in_seconds: _Seconds | None = None

    @property
    def params_bytes(self) -> bytes:
        """The params as JSON, byte for byte as they came. A copy: keeping it does not keep the whole record alive."""
        return bytes(self.raw_params)

    @property
    def wait_ms(self) -> int:
        """How long nothing may happen before the group fires."""
        return to_ms(self.wait_time_in_seconds)

    @property
    def max_wait_ms(self) -> int | None:
        """How far adds can push the deadline from the opening of the round; None: as far as they like."""
        seconds = self.max_wait_in_seconds
        return None if seconds is None else to_ms(seconds)

    @property
    def linger_ms(self) -> int:
        """How long the group stays closed after its round; the wait, unless the add says otherwise."""
        seconds = self.linger_in_seconds
        return to_ms(self.wait_time_in_seconds if seconds is None else seconds)


class Remove(_Command, frozen=True, kw_only=True, tag="remove"):
    """Ends the group's wait without a fire."""

    group_key: _Key
    event_id: _EventId | None = None
    reason: Annotated[str, Meta(max_length=MAX_REASON_BYTES)] | None = None


class Tick(_Command, frozen=True, kw_only=True, tag="tick"):
    """Does nothing but let the broker's clock pass."""


Command = Add | Remove | Tick
