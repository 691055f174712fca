"""What the outcomes of one partition say, folded from its records: which fires are final, and how far the others are.
Pure.

The rule: final wins, whatever comes before or after it, so a log and what compaction leaves of it fold to the same
ledger. A final fire costs 16 bytes of knowledge; it is remembered as long as Kafka remembers it. One thing overrules a
final outcome, and only a dead one: the progress of the same fire sent once more on purpose (`retries.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from wait_for_me_app.outcomes import (
    DEAD,
    DamagedOutcome,
    Finished,
    NewerOutcome,
    Progress,
    decode_outcome,
    key_of,
    parse_key,
)
from wait_for_me_app.retries import runs_again

_WEEK_MS: Final = 7 * 24 * 3_600_000
_DEAD_MARK: Final = b'"state":"dead"'  # no text in a record can hold it: there, quotes are escaped


class FinalFires:
    """The fires that are over: 16 bytes each, and an offset for the dead; forgotten a week at a time when Kafka has, too."""

    __slots__ = ("_by_week", "_died_at", "_kept_ms")

    def __init__(self, kept_ms: int | None = None) -> None:
        self._kept_ms = kept_ms
        self._by_week: dict[int, set[bytes]] = {}
        self._died_at: dict[bytes, int] = {}

    def add(self, uuid: bytes, at_ms: int, died_at: int | None = None) -> None:
        """Remember a fire that became final at that time, if dead then where it lay; forget those that are too old for it."""
        week = at_ms // _WEEK_MS
        if week not in self._by_week:
            self._by_week[week] = set()
            if self._kept_ms is not None:
                self._forget_before(at_ms - self._kept_ms)
        self._by_week[week].add(uuid)
        if died_at is not None:
            self._died_at[uuid] = died_at
        elif self._died_at:
            self._died_at.pop(uuid, None)

    def discard(self, uuid: bytes) -> None:
        """Forget one fire."""
        for fires in self._by_week.values():
            fires.discard(uuid)
        self._died_at.pop(uuid, None)

    def died_at(self, uuid: bytes) -> int | None:
        """Return the offset of the dead fire in the fires topic, or None for one that is done or unknown."""
        return self._died_at.get(uuid)

    def __contains__(self, uuid: bytes) -> bool:
        for fires in self._by_week.values():  # noqa: SIM110 - asked four times for each fire; a generator takes three times as long
            if uuid in fires:
                return True
        return False

    def __len__(self) -> int:
        return sum(map(len, self._by_week.values()))

    def _forget_before(self, ms: int) -> None:
        for week in [week for week in self._by_week if (week + 1) * _WEEK_MS <= ms]:
            del self._by_week[week]
        self._died_at = {uuid: offset for uuid, offset in self._died_at.items() if uuid in self}


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A record of the outcomes topic that cannot be read."""

    offset: int
    key: bytes
    value: bytes
    reason: str
    may_go: bool
    """Whether it can be deleted once it is set aside; not while an earlier record under its key is still good."""


class Ledger:
    """Folds outcome records; afterwards `final` and `pending` say all there is to know."""

    def __init__(self, kept_ms: int | None = None) -> None:
        self.final = FinalFires(kept_ms)
        self.pending: dict[bytes, Progress] = {}
        self.leftovers: dict[bytes, bytes] = {}
        """Progress that is of no use any more: keys to be deleted, each with the 16 bytes of its fire."""
        self.damaged: dict[bytes, Damaged] = {}
        """Records that cannot be read and stand under their keys still."""
        self.end_offset = 0
        self.latest_tenure = 0
        """The largest stamp of a tenure that has written here."""

    def fold(self, offset: int, key: bytes | None, value: bytes | None, appended_at_ms: int) -> None:
        """Take the next record; raise NewerOutcome for one that this release must not judge."""
        self.end_offset = offset + 1
        if key is None:
            return  # a compacted topic has no such records
        self.damaged.pop(key, None)
        parsed = parse_key(key)
        if parsed is None:
            self._note_damage(offset, key, value, "the key is no fire_id", may_go=True)
        elif parsed[1]:
            self._fold_progress(offset, key, parsed[0], value)
        else:
            self._fold_final(parsed[0], value, appended_at_ms)

    def _fold_final(self, uuid: bytes, value: bytes | None, appended_at_ms: int) -> None:
        if value is None:
            self.final.discard(uuid)
            return
        died_at = offset_of_dead(value)
        if overrules(self.pending.get(uuid), died_at):
            return
        self.final.add(uuid, appended_at_ms, died_at)
        if (progress := self.pending.pop(uuid, None)) is not None:
            self.leftovers[key_of(progress)] = uuid

    def _fold_progress(self, offset: int, key: bytes, uuid: bytes, value: bytes | None) -> None:
        known = self.pending.get(uuid)
        if value is None:
            if known is not None and key_of(known) == key:
                del self.pending[uuid]
            self.leftovers.pop(key, None)
            return
        try:
            progress = read_progress(uuid, value)
        except DamagedOutcome as error:
            self._note_damage(offset, key, value, str(error), may_go=known is None or key_of(known) != key)
            return
        self.latest_tenure = max(self.latest_tenure, progress.tenure)
        if overrules(progress, self.final.died_at(uuid)):
            self.final.discard(uuid)
        if uuid in self.final:
            self.leftovers[key] = uuid
        else:
            self._take_step(key, uuid, progress, known)

    def _take_step(self, key: bytes, uuid: bytes, progress: Progress, known: Progress | None) -> None:
        """Keep the later one of two steps. Under another key, of an earlier round of the fire, the other is left over."""
        is_news = supersedes(progress, known)
        if known is not None and (earlier := key_of(known)) != key:
            self.leftovers[earlier if is_news else key] = uuid
        if is_news:
            self.pending[uuid] = progress
            self.leftovers.pop(key, None)

    def _note_damage(self, offset: int, key: bytes, value: bytes | None, reason: str, *, may_go: bool) -> None:
        if value is not None:
            self.damaged[key] = Damaged(offset=offset, key=key, value=value, reason=reason, may_go=may_go)


def read_progress(uuid: bytes, value: bytes) -> Progress:
    """Return the progress that is written under the key of this fire, or raise DamagedOutcome or NewerOutcome."""
    outcome = decode_outcome(value)
    if isinstance(outcome, Finished) or uuid_text(uuid) != outcome.fire_id:
        raise DamagedOutcome("the record's key and value speak of different things")
    return outcome


def supersedes(new: Progress, known: Progress | None) -> bool:
    """Return whether `new` is the later step: of a later tenure, or later within one; arrival says nothing about that."""
    return known is None or (new.tenure, new.revision) >= (known.tenure, known.revision)


def offset_of_dead(value: bytes) -> int | None:
    """Return where the fire lay that this final outcome calls dead, or None if it does not: done, or not for this release to say."""
    if _DEAD_MARK not in value:
        return None  # nearly all, and decoding a million of them takes seconds
    try:
        outcome = decode_outcome(value)
    except (DamagedOutcome, NewerOutcome):
        return None
    return outcome.offset if isinstance(outcome, Finished) and outcome.state == DEAD else None


def overrules(progress: Progress | None, died_at: int | None) -> bool:
    """Return whether this progress is of a fire that was sent once more after it had died at that offset."""
    return progress is not None and runs_again(progress.headers, progress.offset, died_at)


def uuid_text(uuid: bytes) -> str:
    """Return the fire_id of which these are the 16 bytes."""
    digits = uuid.hex()
    return f"fire_{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def pending_in_order(ledger: Ledger) -> Iterator[tuple[bytes, Progress]]:
    """Return the fires that are not final in the order in which they were accepted."""
    return iter(sorted(ledger.pending.items(), key=lambda item: (item[1].accepted_at_ms, item[1].offset)))
