"""Which dead letters are meant: those with these ids, or those that fit all of the given filters. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from wait_for_me_app.dlq.letters import BOXES, Box, Letter

_ID = re.compile(r"(commands|fires):([0-9]{1,9}):([0-9]{1,19})")
_AGO = re.compile(r"([0-9]{1,9})([smhd])")
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class NotUnderstood(Exception):
    """A filter or an id that means nothing; the message says what to write instead."""


class LetterId(NamedTuple):
    """Where a letter lies."""

    box: Box
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.box}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What somebody has asked for; a filter that is None lets all through."""

    ids: frozenset[LetterId] = frozenset()
    box: Box | None = None
    stage: str | None = None
    code: str | None = None
    group: str | None = None
    fire_id: str | None = None
    since_ms: int | None = None

    @property
    def is_everything(self) -> bool:
        """Whether nothing narrows it."""
        return self == Selection()

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The topics that need to be read at all."""
        if self.ids:
            return tuple(box for box in BOXES if any(one.box == box for one in self.ids))
        return BOXES if self.box is None else (self.box,)

    def takes(self, letter: Letter) -> bool:
        """Return whether a letter is meant."""
        if self.ids and LetterId(letter.box, letter.partition, letter.offset) not in self.ids:
            return False
        origin = letter.origin
        wanted = (
            (self.box, letter.box),
            (self.stage, origin.stage),
            (self.code, origin.code),
            (self.group, letter.group_key),
            (self.fire_id, origin.fire_id),
        )
        fits = all(asked is None or asked == found for asked, found in wanted)
        return fits and (self.since_ms is None or letter.at_ms >= self.since_ms)

    def missing(self, letters: Iterable[Letter]) -> list[str]:
        """Return the ids that were asked for and are not among the letters."""
        found = {LetterId(one.box, one.partition, one.offset) for one in letters}
        return sorted(map(str, self.ids - found))


def parse_id(text: str) -> LetterId:
    """Return the id that is written so: `fires:3:17`."""
    match = _ID.fullmatch(text)
    if match is None:
        raise NotUnderstood(f"{text!r} is no id of a dead letter: write such as fires:3:17, as `dlq list` shows them")
    return LetterId(match[1], int(match[2]), int(match[3]))  # type: ignore[arg-type]  # the pattern allows no other


def parse_since(text: str, now_ms: int) -> int:
    """Return a moment in ms, written as an age (`90s`, `30m`, `6h`, `2d`) or as a date.

    >>> parse_since("2h", 10_000_000)
    2800000
    """
    if (ago := _AGO.fullmatch(text)) is not None:
        return now_ms - int(ago[1]) * _UNIT_MS[ago[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise NotUnderstood(
            f"{text!r} is no time: write an age such as 30m, or a date such as 2026-11-24T02:00Z"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
