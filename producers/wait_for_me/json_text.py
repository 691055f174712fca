"""JSON of unknown origin, read strictly: UTF-8 without a mark, no NaN, no half surrogates, bounded depth.

The danger: msgspec checks neither UTF-8 nor depth in what it skips or keeps raw, and its recursion limit depends on
how deep the caller's stack is. Whatever enters through here has been checked by rules that depend on the bytes
alone.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate
from typing import Any, Final, NoReturn

import msgspec
from msgspec import Raw

from .errors import InvalidCommand

_STRING = re.compile(
    rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL
)  # an unfinished string takes all the rest: linear time
_NOT_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder().decode


_DIGITS = tuple(b"%d" % digit for digit in range(10))


def read_object(data: bytes, max_depth: int) -> dict[str, Raw]:
    """Return the members of the one JSON object that `data` is, each as its bytes; the last of duplicate keys wins."""
    text = _as_text(data)
    if data.count(b"[") + data.count(b"{") > max_depth and depth_of(data) > max_depth:
        raise InvalidCommand("too_deep", f"arrays and objects nest deeper than {max_depth} levels: flatten the value")
    try:
        return _decode_members(data)
    except msgspec.ValidationError as error:
        raise InvalidCommand("not_an_object", "the value is JSON but not an object: send a JSON object") from error
    except msgspec.DecodeError as error:
        _explain(text, error)


def read_any(name: str, data: Raw) -> Any:
    """Return the Python value of one member that `read_object` gave."""
    try:
        return _decode_any(data)
    except msgspec.ValidationError as error:
        raise InvalidCommand(
            "out_of_range", f"{name} has a number that no double can hold: send it as a string"
        ) from error


def read_scalar(name: str, data: Raw) -> Any:
    """Return the Python value of a member that should be text or a number; a number beyond every double is infinite.

    So a name that is such a number has the wrong type, and only a quantity is out of range.
    """
    text = bytes(data)
    if text[:1] in (b"-", *_DIGITS):
        try:
            return _decode_any(text)
        except msgspec.ValidationError:
            return -math.inf if text.startswith(b"-") else math.inf
    return read_any(name, data)


def depth_of(data: bytes) -> int:
    """Return how deep arrays and objects nest in `data`, which need not be valid."""
    brackets = _STRING.sub(b"", data).translate(None, _NOT_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0)


def _as_text(data: bytes) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise InvalidCommand("not_json", "the value begins with a byte order mark: write UTF-8 without it")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidCommand(
            "not_utf8", f"the value is not UTF-8 (byte {error.start}): encode the JSON as UTF-8"
        ) from error


def _explain(text: str, error: msgspec.DecodeError) -> NoReturn:
    """Say why the strict reader refused `text`: what Python's lenient reader takes has half a surrogate pair."""
    try:
        json.loads(text, parse_constant=_refuse_constant, parse_int=len, parse_float=len)
    except ValueError as reason:
        raise InvalidCommand("not_json", f"the value is not JSON ({reason}): send one JSON object") from error
    raise InvalidCommand("not_utf8", "a string has half of a surrogate pair: escape whole characters") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
