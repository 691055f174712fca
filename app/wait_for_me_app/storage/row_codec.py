r"""The bytes of a row's value.

    group row      format (1) | due time in ms (8, big-endian) | msgpack array of an OpenRound or a ClosedRound
    every other    format (1) | msgpack array

The due time stands first so that the deadline index can be rebuilt from a million rows without decoding one. The format byte is
raised when the layout changes; a release reads the format before its own.
"""

from __future__ import annotations

from typing import Final

import msgspec

from wait_for_me_app.core.rows import Arrival, ClosedRound, OpenRound, Round, Strike, Watermark

FORMAT: Final = b"\x01"
_BODY: Final = 9

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_round: Final = msgspec.msgpack.Decoder(OpenRound | ClosedRound).decode
_decode_arrival: Final = msgspec.msgpack.Decoder(Arrival).decode
_decode_watermark: Final = msgspec.msgpack.Decoder(Watermark).decode
_decode_strike: Final = msgspec.msgpack.Decoder(Strike).decode


class DamagedRow(Exception):
    """A row's bytes cannot be read: they were not written by this release or the one before it."""

    def __init__(self, row_key: bytes, value: bytes, reason: str) -> None:
        self.row_key = row_key
        self.value = value
        super().__init__(f"the row {row_key!r} cannot be read ({reason}); it is set aside the second time it is met")


def encode_round(row: Round) -> bytes:
    """Return the value of a group's row."""
    return FORMAT + row.due_ms.to_bytes(8, "big") + _encode(row)


def decode_round(row_key: bytes, value: bytes) -> Round:
    """Return a group's row, or raise `DamagedRow`."""
    _check_format(row_key, value)
    try:
        row: Round = _decode_round(memoryview(value)[_BODY:])
        return row
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedRow(row_key, value, str(error)) from error


def due_bytes_of(value: bytes) -> bytes:
    """Return the eight bytes of a group row's due time."""
    return value[1:_BODY]


def is_open_round(value: bytes) -> bool:
    """Tell an open round from a closed one by its bytes: an array of 16 begins with dc, one of 11 with 9b."""
    return value[_BODY : _BODY + 1] == b"\xdc"


def encode_other(row: Arrival | Watermark | Strike) -> bytes:
    """Return the value of a row that is not a group's."""
    return FORMAT + _encode(row)


def decode_arrival(row_key: bytes, value: bytes) -> Arrival:
    """Return a participant's or an arrival's row, or raise `DamagedRow`."""
    _check_format(row_key, value)
    try:
        return _decode_arrival(memoryview(value)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedRow(row_key, value, str(error)) from error


def decode_watermark(row_key: bytes, value: bytes) -> Watermark:
    """Return the watermark row, or raise `DamagedRow`."""
    _check_format(row_key, value)
    try:
        return _decode_watermark(memoryview(value)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedRow(row_key, value, str(error)) from error


def decode_strike(row_key: bytes, value: bytes) -> Strike:
    """Return the strike row, or raise `DamagedRow`."""
    _check_format(row_key, value)
    try:
        return _decode_strike(memoryview(value)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedRow(row_key, value, str(error)) from error


def _check_format(row_key: bytes, value: bytes) -> None:
    if value[:1] != FORMAT:
        raise DamagedRow(
            row_key, value, f"its format is {value[:1].hex() or 'missing'}, this release reads {FORMAT.hex()}"
        )
