"""Bytes on the wire to commands and fires, and back.

`decode_command` is on the worker's hot path. It is total: for any key, value and headers it returns a command or
raises InvalidCommand, nothing else. The fast path takes only what is provably fine: msgspec checks types, ranges
and known names in one pass, and the params are decoded against a type of bounded depth, so nothing skipped or raw
has gone unchecked. Whatever it does not take is decoded again by the book (`careful.py`), which accepts it after
all or says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GenericAlias
from typing import Any, Final

import msgspec
from msgspec import Raw

from .careful import EVENT_ID_HEADER, decode_carefully
from .cloudevents import Headers, speaks_cloudevents
from .commands import MAX_KEY_BYTES, MAX_PARAMS_BYTES, Add, Command, Remove, Tick
from .errors import InvalidFire
from .fires import Fire

_FAST_CHARACTERS: Final = 64  # at most 256 bytes, whatever they are
_KNOWN_CALLBACKS_SIZE: Final = 4096
_KNOWN_PARAMS_SIZE: Final = 1024
_KNOWN_PARAMS_BYTES: Final = 1024
# Params that have been checked: the adds of a group have the same, and so have many groups.
_known_params: Final[set[bytes]] = set()
# Names that the careful path has accepted: a lookup instead of a pattern.
_known_callbacks: Final[set[str]] = set()


def _bounded_json(depth: int) -> Any:
    """Return the type of JSON values that nest at most `depth` levels."""
    scalar: Any = str | int | float | bool | None
    value = scalar
    for _ in range(depth):
        value = scalar | GenericAlias(list, (value,)) | GenericAlias(dict, (str, value))
    return value


def _params_decoder() -> Callable[[Raw], Any]:
    """Return what decodes ordinary params; it refuses null, which means absent, and leaves deeper ones to the book."""
    inner = _bounded_json(3)
    params: Any = str | int | float | bool | GenericAlias(list, (inner,)) | GenericAlias(dict, (str, inner))
    return msgspec.json.Decoder(params).decode


_encode: Final = msgspec.json.Encoder().encode
_decode_strictly: Final = msgspec.json.Decoder(Add | Remove | Tick).decode
_check_params: Final = _params_decoder()
_decode_fire: Final = msgspec.json.Decoder(Fire).decode
_decode_any: Final = msgspec.json.Decoder().decode


def decode_command(key: bytes | None, value: bytes | None, headers: Headers | None = None) -> Command:
    """Return the valid command that this record is, or raise InvalidCommand with a stable code."""
    if value is not None and len(value) <= MAX_PARAMS_BYTES and (not headers or not _headers_matter(headers)):
        try:
            command = _decode_strictly(value)
            if type(command) is Add:
                group_key = command.group_key
                participant_key = command.participant_key
                event_id = command.event_id
                if (
                    key == group_key.encode()
                    and len(key) <= MAX_KEY_BYTES
                    and len(participant_key) <= _FAST_CHARACTERS
                    and group_key.isprintable()
                    and participant_key.isprintable()
                    and command.execute_after_waiting in _known_callbacks
                    and (event_id is None or (event_id.isascii() and event_id.isprintable()))
                ):
                    params = bytes(command.raw_params)
                    if params not in _known_params:
                        _check_params(command.raw_params)
                        _remember_params(params)
                    return command
            elif type(command) is Tick:
                return command
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
    return _decode_by_the_book(key, value, headers or ())


def _remember_params(params: bytes) -> None:
    if len(params) <= _KNOWN_PARAMS_BYTES:
        if len(_known_params) >= _KNOWN_PARAMS_SIZE:  # a hostile stream of ever new params must not grow the worker
            _known_params.clear()
        _known_params.add(params)


def _headers_matter(headers: Headers) -> bool:
    for name, value in headers:  # noqa: SIM110 - any() over a generator costs several times as much
        if name == EVENT_ID_HEADER or speaks_cloudevents(name, value):
            return True
    return False


def _decode_by_the_book(key: bytes | None, value: bytes | None, headers: Headers) -> Command:
    command = decode_carefully(key, value, headers)
    if type(command) is Add:
        if (
            len(_known_callbacks) >= _KNOWN_CALLBACKS_SIZE
        ):  # a hostile stream of ever new names must not grow the worker
            _known_callbacks.clear()
        _known_callbacks.add(command.execute_after_waiting)
    return command


def encode_command(command: Command) -> bytes:
    """Return the record value of `command`; the record's key is the UTF-8 bytes of its group_key."""
    return _encode(command)


def encode_fire(fire: Fire) -> bytes:
    """Return the record value of `fire`: the same fire gives the same bytes, for ever."""
    return _encode(fire)


def decode_fire(value: bytes | None) -> Fire:
    """Return the fire that this record of the fires topic is, or raise InvalidFire."""
    if value is None:
        raise InvalidFire("bad_fire", "the record has no value: only workers may write to the fires topic")
    try:
        if not value.isascii():
            value.decode()  # msgspec checks UTF-8 neither in what it skips nor in what it keeps raw
        fire = _decode_fire(value)
        _decode_any(fire.raw_params)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidFire("bad_fire", f"not a fire ({error}): only workers may write to the fires topic") from error
    return fire
