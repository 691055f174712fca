"""What is sent when a dead letter is retried: key, value and headers as they were before it became one. Pure.

The dangers: a letter that names a topic could make the operator's rights write anywhere, so it goes back to the one
topic of this deployment that its box belongs to, or nowhere. And a command that was once sent on by a worker must not
keep that mark, or the lane that gets it takes it for a copy of what it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wait_for_me.topic_names import TopicNames
from wait_for_me_app.dlq.letters import FAMILY_PREFIXES, TRUNCATED, Headers, Letter
from wait_for_me_app.retries import RETRIED_AT, RETRIED_BY

_ADDED: Final = frozenset(
    {
        "wfm_stage",
        "wfm_error",
        "wfm_fire_id",
        "wfm_attempt",
        "wfm_exception_type",
        "wfm_first_failed_at",
        "wfm_sha256",
        TRUNCATED,
        "wfm_rerouted",
        RETRIED_BY,
        RETRIED_AT,
    }
)


class CannotRetry(Exception):
    """A letter cannot be sent again; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A record to send."""

    topic: str
    partition: int | None
    """None: where its key belongs, which mends what was misplaced."""
    key: bytes | None
    value: bytes | None
    headers: Headers


def copy_of(letter: Letter, topics: TopicNames, by: str, at: str) -> Copy:
    """Return what to send, or raise CannotRetry. A fire keeps its fire_id, for that is in its value."""
    topic = topics.commands if letter.box == "commands" else topics.fires
    _check(letter, topic)
    asked = ((RETRIED_BY, by.encode()), (RETRIED_AT, at.encode()))
    return Copy(
        topic=topic,
        partition=letter.partition if letter.box == "fires" else None,
        key=letter.key,
        value=letter.value,
        headers=(*original_headers(letter.headers), *asked),
    )


def original_headers(headers: Headers) -> Headers:
    """Return the headers without what was added when the record was set aside, by whatever family's rules."""
    return tuple((name, value) for name, value in headers if not (name in _ADDED or name.startswith(FAMILY_PREFIXES)))


def _check(letter: Letter, topic: str) -> None:
    if any(name == TRUNCATED for name, _ in letter.headers):
        raise CannotRetry("only the beginning of its value was kept: have it sent again from where it came from")
    if letter.origin.topic is None:
        raise CannotRetry("its headers do not say which topic it came from: send it again yourself, or discard it")
    if letter.origin.topic != topic:
        raise CannotRetry(
            f"it came from {letter.origin.topic[:200]!r}, and only {topic} is written to: "
            "discard it when it is dealt with"
        )
