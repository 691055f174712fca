"""The records of the outcomes topic: what has become of each fire. The executor's durable queue, and the only place
where it lives.

Two keys a fire, in the same partition number as the fire:

    fire_<uuid>/progress    Progress, the whole state at each step, the fire's own bytes included: one record is enough to go on
    fire_<uuid>             Finished, `done` or `dead`; whatever comes later, this stands

A dead fire that is sent once more has progress under a key of its own, `fire_<uuid>/progress@<offset>`. So an executor
that was paused while it set the fire aside, and wakes up to clean up after itself, deletes nothing of the new round.

A fire that has become final has its progress deleted (a null value), which saves space and means nothing: a reader that
sees a final ignores progress, before it or after it. Everything is JSON, so `kcat` shows it. `revision` counts the
steps of one fire, and `tenure` rises with each takeover of the partition: a step of an earlier tenure than is known was
under way for too long, and is ignored.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

from wait_for_me_app.retries import is_retry

OUTCOME_VERSION: Final = 1
"""The newest version that this release reads and writes; a record without a version is of version 1."""

_PROGRESS_SUFFIX: Final = "/progress"
_FIRE_ID = re.compile(r"fire_([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
_FINAL_KEY_BYTES, _PROGRESS_KEY_BYTES = 41, 50
_KEY = re.compile(rb"(fire_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})(/progress(?:@[0-9]{1,19})?)?")

ProgressState = Literal["accepted", "parked", "started", "failed"]
FinishedState = Literal["done", "dead"]

ACCEPTED: Final = "accepted"
PARKED: Final = "parked"
STARTED: Final = "started"
FAILED: Final = "failed"
DONE: Final = "done"
DEAD: Final = "dead"


class DamagedOutcome(Exception):
    """A record of the outcomes topic that no release of this project has written."""


class NewerOutcome(Exception):
    """A record of the outcomes topic that a later release has written."""


class _Outcome(Struct, frozen=True, kw_only=True):
    fire_id: str
    group_key: str
    callback: str
    partition: int
    """Where the fire lies in the fires topic."""
    offset: int
    revision: int
    attempt: int
    """Number of the attempt that runs or ran last, from 1; 0 before the first."""


class Progress(_Outcome, frozen=True, kw_only=True, omit_defaults=True, tag="progress", tag_field="type"):
    """A fire that is not final: enough to go on with it on another machine.

    accepted   it has been read; its offset may be committed
    parked     no executor so far knew its callback; no attempt is spent
    started    an attempt runs, until `started_at_ms + time_limit_ms` at the latest
    failed     an attempt has ended badly; the next is due at `next_attempt_at_ms`, or there is none and it will be set aside
    """

    state: ProgressState
    tenure: int = 0
    """Stamp of the tenure that wrote it; a later tenure has a larger one."""
    accepted_at_ms: int
    next_attempt_at_ms: int | None = None
    started_at_ms: int | None = None
    time_limit_ms: int | None = None
    executor: str | None = None
    """Who made the attempt."""
    starts_without_end: int = 0
    parked_since_ms: int | None = None
    error: str | None = None
    """Code of the last failure."""
    reason: str | None = None
    """The last failure in words."""
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    fire: Raw
    """The fire's value as it was read."""
    version: int = 1

    @property
    def fire_bytes(self) -> bytes:
        """The value of the fire's record, byte for byte."""
        return bytes(self.fire)


class Finished(_Outcome, frozen=True, kw_only=True, omit_defaults=True, tag="final", tag_field="type"):
    """A fire that is over: its callback has returned, or it has been set aside as a dead letter."""

    state: FinishedState
    finished_at_ms: int
    took_ms: int | None = None
    """How long the attempt took that did it."""
    executor: str | None = None
    error: str | None = None
    reason: str | None = None
    version: int = 1


Outcome = Progress | Finished

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Progress | Finished] = msgspec.json.Decoder(Progress | Finished)


class _Version(Struct):
    version: int = 1


_decode_version = msgspec.json.Decoder(_Version).decode


def uuid_of(fire_id: str) -> bytes | None:
    """Return the 16 bytes that make a fire_id what it is, or None for anything else than `fire_` and a UUID."""
    match = _FIRE_ID.fullmatch(fire_id)
    return bytes.fromhex(match[1].replace("-", "")) if match else None


def final_key(fire_id: str) -> bytes:
    """Return the key under which the final outcome of a fire is written."""
    return fire_id.encode()


def progress_key(fire_id: str, sent_again_at: int | None = None) -> bytes:
    """Return the key under which the progress of a fire is written; of one sent once more, that of this round.

    >>> progress_key("fire_1", sent_again_at=20)
    b'fire_1/progress@20'
    """
    suffix = _PROGRESS_SUFFIX if sent_again_at is None else f"{_PROGRESS_SUFFIX}@{sent_again_at}"
    return f"{fire_id}{suffix}".encode()


def key_of(progress: Progress) -> bytes:
    """Return the key under which this progress is written."""
    return progress_key(progress.fire_id, progress.offset if is_retry(progress.headers) else None)


def parse_key(key: bytes | None) -> tuple[bytes, bool] | None:
    """Return the 16 bytes of the fire_id in a record's key and whether it is a progress key, or None if it is no key of ours."""
    if key is None:
        return None
    # A restore asks this for millions of keys, nearly all of the two plain forms; the expression knows all of them.
    is_progress = len(key) == _PROGRESS_KEY_BYTES and key.endswith(b"/progress")
    if (is_progress or len(key) == _FINAL_KEY_BYTES) and key.startswith(b"fire_"):
        if key[13:29:5] != b"----" or not key.islower():
            return None
        try:
            return unhexlify(key[5:13] + key[14:18] + key[19:23] + key[24:28] + key[29:41]), is_progress
        except ValueError:
            return None
    match = _KEY.fullmatch(key)
    return (unhexlify(match[1][5:].replace(b"-", b"")), match[2] is not None) if match else None


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the record value of an outcome."""
    return _encode(outcome)


def decode_outcome(value: bytes) -> Outcome:
    """Return the outcome that a record's value is; raise NewerOutcome or DamagedOutcome."""
    try:
        version = _decode_version(value).version
        if version > OUTCOME_VERSION:
            raise NewerOutcome(f"an outcome has version {version}: run the release that wrote it, or a later one")
        return _decoder.decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedOutcome(f"not an outcome ({error}): only executors may write to the outcomes topic") from error
