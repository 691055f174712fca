"""How an attempt in a child process has ended: as bytes between the two, and as an exception in the executor. Pure.

What a callback raises stays in the child; of it come over its description, and what the executor is to make of it.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from wait_for_me_app.callback_errors import RetryAfter, SetAside


class FailedElsewhere(Exception):
    """The callback has raised; the text says what, as it would be described here."""


class ProcessDied(Exception):
    """The child process has ended before the callback has."""


class Ending(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a child says of an attempt."""

    how: Literal["done", "failed", "retry_after", "set_aside"]
    text: str = ""
    seconds: float = 0.0
    code: str = "callback_failed"
    traceback: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Ending).decode


def encode_ending(ending: Ending) -> bytes:
    """Return the bytes that a child sends; text that is no Unicode is mended."""
    mended = {name: getattr(ending, name).encode(errors="replace").decode() for name in ("text", "traceback")}
    return _encode(msgspec.structs.replace(ending, **mended))


def error_in(answer: bytes) -> BaseException | None:
    """Return what the schedule is told of a child's answer, or None for success."""
    try:
        ending = _decode(answer)
        return _error_of(ending)
    except (msgspec.MsgspecError, ValueError) as error:
        return ProcessDied(f"the child process has answered with nonsense ({error})")


def _error_of(ending: Ending) -> BaseException | None:
    match ending.how:
        case "done":
            return None
        case "retry_after":
            return RetryAfter(ending.seconds, ending.text)
        case "set_aside":
            return SetAside(ending.text, ending.code)
        case "failed":
            error = FailedElsewhere(ending.text)
            if ending.traceback:
                error.add_note(ending.traceback)
            return error


def describe(error: BaseException) -> str:
    """Return an exception as one line: what kind it is, and what it says."""
    try:
        return str(error) if isinstance(error, FailedElsewhere) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a foreign exception's own __str__ may raise anything
        return type(error).__name__
