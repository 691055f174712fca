"""The dumbest correct fold of one partition of commands, to be compared byte for byte with the worker's.

It was written from the rules alone (docs/state_machine.md), parses and hashes by itself, keeps everything in memory and
knows no crash. Danger: an `import` from `wait_for_me` or from the rest of this package would make it agree with the
code it judges.
"""

from __future__ import annotations

import heapq
import json
import re
import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

from .wire import Command, Record, Refused, Settings, partition_of, read_command

LOG_APPEND_TIME = 1
MAX_ARRIVED, MAX_ARRIVED_BYTES = 1000, 262144
_RESENT = re.compile(rb"([0-9]{1,10}):([0-9]{1,19})")


@dataclass(kw_only=True)
class Outcome:
    """What the log says: every list is in log order, `verdicts` has one word for each record."""

    fires: list[tuple[int, bytes, bytes]] = field(default_factory=list)  # closed offset, key, value
    fired_rounds: list[tuple[str, str, int, int]] = field(default_factory=list)  # beside: fire_id, reason, deadline, T
    rejected: list[tuple[int, str, str]] = field(default_factory=list)  # offset, code, stage
    rerouted: list[tuple[int, int]] = field(default_factory=list)  # offset, right partition
    verdicts: list[str] = field(default_factory=list)
    open_groups: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)  # opened offset, arrived, deadline
    closed: dict[bytes, tuple[int, int, int]] = field(default_factory=dict)  # opened offset, late adds, closed at
    stream_time_ms: int = 0


@dataclass(kw_only=True, slots=True)
class Round:
    """One life of a group. It lingers from `closed_at`: its deadline if that had passed, else the record that closed it."""

    opened_offset: int
    opened_at: int
    settings: Settings
    deadline: int = 0
    last_add_at: int = 0
    arrived: dict[str, tuple[int, str | None]] = field(default_factory=dict)  # participant -> first at, latest event_id
    conflicts: int = 0
    closed_at: int | None = None
    fired_at: int = 0
    late: int = 0


def fold_partition(records: Iterable[Record], *, topic_id: uuid.UUID, partition: int, partitions: int,
                   trust_create_time: bool = False) -> Outcome:  # fmt: skip
    """Read the records of one partition from its first one on and say what must have come of them."""
    lane = Lane(topic_id, partition, partitions, trust_create_time=trust_create_time)
    for record in records:
        lane.seen.verdicts.append(lane.read(record))
    return lane.outcome()


class Lane:
    """One partition as far as it has been read; `skipped` are offsets whose command does nothing but pass time."""

    def __init__(self, topic_id: uuid.UUID, partition: int, partitions: int, *, trust_create_time: bool = False,
                 skipped: Container[int] = ()) -> None:  # fmt: skip
        self.topic_id, self.partition, self.partitions = topic_id, partition, partitions
        self.trust_create_time, self.skipped = trust_create_time, skipped
        self.now = 0
        self.rounds: dict[bytes, Round] = {}  # the newest round of each key; older ones have no say any more
        self.due: list[tuple[int, bytes]] = []  # a heap; an entry that is no round's deadline any more is skipped
        self.resent: dict[int, int] = {}  # source partition -> largest source offset taken
        self.seen = Outcome()

    def read(self, record: Record) -> str:
        """Read the next record and say in a word what it was."""
        if record.timestamp_ms > self.now and (self.trust_create_time or record.timestamp_type == LOG_APPEND_TIME):
            self.now = record.timestamp_ms
        self.time_out(record.offset)
        return self.judge(record) if record.offset not in self.skipped else "skipped"

    def time_out(self, offset: int) -> None:
        """Close what is due, before the record at `offset` is looked at."""
        while self.due and self.due[0][0] <= self.now:
            deadline, key = heapq.heappop(self.due)
            round_ = self.rounds[key]
            if round_.closed_at is None and round_.deadline == deadline:
                self.fire(key, round_, "timeout", offset, closed_at=deadline)

    def find(self, key: bytes) -> Round | None:
        """Give the round of a key, open or lingering; None if there is none, or it is free again."""
        round_ = self.rounds.get(key)
        if round_ is None or round_.closed_at is None:
            return round_
        linger = round_.settings[-1]
        return None if self.now >= round_.closed_at + linger else round_

    def judge(self, record: Record) -> str:
        """Do what the record's command says, and say what that was."""
        headers = {name: value for name, value in record.headers if value is not None} if record.headers else {}
        try:
            command = read_command(record, headers)
            if command.kind == "tick":
                return "tick"
            if headers and self.is_copy(headers):
                return "duplicate"
            return self.obey(command, record.offset, headers)
        except Refused as refused:
            self.seen.rejected.append((record.offset, refused.code, refused.stage))
            return "rejected"

    def is_copy(self, headers: dict[str, bytes]) -> bool:
        origin = _RESENT.fullmatch(headers.get("wfm_rerouted", b""))
        if origin is None or int(origin[1]) >= self.partitions:  # not of a worker's making
            return False
        source, offset = int(origin[1]), int(origin[2])
        if offset <= self.resent.get(source, -1):
            return True
        self.resent[source] = offset
        return False

    def obey(self, command: Command, offset: int, headers: dict[str, bytes]) -> str:
        key = command.group_key.encode()
        round_ = self.find(key)
        target = partition_of(key, self.partitions) if round_ is None else self.partition
        if target != self.partition:
            if "wfm_rerouted" in headers:
                raise Refused("misplaced", "route")
            self.seen.rerouted.append((offset, target))
            return "rerouted"
        if command.kind == "remove":
            return self.remove(round_)
        return self.add(key, round_, command, offset)

    def remove(self, round_: Round | None) -> str:
        if round_ is None or round_.closed_at is not None:
            return "nothing"
        round_.closed_at = self.now
        return "removed"

    def add(self, key: bytes, round_: Round | None, command: Command, offset: int) -> str:
        if round_ is None:
            round_ = Round(opened_offset=offset, opened_at=self.now, settings=command.settings)
            self.rounds[key] = round_
        if round_.closed_at is not None:
            round_.late += 1
            return "late"
        known = round_.arrived.get(command.participant_key)
        if known and command.event_id is not None and command.event_id == known[1]:
            return "duplicate"
        first_at, latest_id = known or (self.now, None)
        round_.arrived[command.participant_key] = first_at, command.event_id or latest_id
        round_.conflicts += command.settings != round_.settings
        round_.settings = command.settings
        self.accept(key, round_, offset)
        return "refresh" if known else "new"

    def accept(self, key: bytes, round_: Round, offset: int) -> None:
        expected, _, _, wait, max_wait, _ = round_.settings
        cap = round_.opened_at + max_wait if max_wait is not None else self.now + wait
        round_.deadline = min(self.now + wait, cap)
        round_.last_add_at = self.now
        if len(round_.arrived) >= expected:
            self.fire(key, round_, "complete", offset)
        elif round_.deadline <= self.now:
            self.fire(key, round_, "timeout", offset)
        else:
            heapq.heappush(self.due, (round_.deadline, key))

    def fire(self, key: bytes, round_: Round, reason: str, offset: int, closed_at: int | None = None) -> None:
        round_.closed_at, round_.fired_at = self.now if closed_at is None else closed_at, self.now
        fire_id = f"fire_{uuid.uuid5(self.topic_id, f'{self.partition}:{round_.opened_offset}')}"
        place = {"partition": self.partition, "opened_offset": round_.opened_offset, "closed_offset": offset}
        self.seen.fires.append((offset, key, _fire_value(fire_id, key, reason, round_, place)))
        self.seen.fired_rounds.append((fire_id, reason, round_.deadline, self.now))
        round_.arrived = {}  # nobody asks for the names again, and a million rounds have many

    def outcome(self) -> Outcome:
        """Give all that has come of the log so far."""
        for key, round_ in self.rounds.items():
            if round_.closed_at is None:
                self.seen.open_groups[key] = (round_.opened_offset, len(round_.arrived), round_.deadline)
            elif self.find(key) is not None:
                self.seen.closed[key] = (round_.opened_offset, round_.late, round_.closed_at)
        self.seen.stream_time_ms = self.now
        return self.seen


def _fire_value(fire_id: str, key: bytes, reason: str, round_: Round, place: dict[str, int]) -> bytes:
    expected, callback, params, wait, _, _ = round_.settings
    arrived, names = len(round_.arrived), _arrived(round_)
    members = {
        "type": '"fire"',
        "fire_id": _quoted(fire_id),
        "group_key": _quoted(key.decode()),
        "reason": _quoted(reason),
        "number_of_participants_in_group": expected,
        "arrived_count": arrived,
        "missing_count": max(0, expected - arrived),
        "arrived": f"[{','.join(names)}]",
        "arrived_truncated": "true" if len(names) < arrived else "false",
        "conflict_count": round_.conflicts,
        "execute_after_waiting": _quoted(callback),
        "execute_after_waiting_params": params.decode(),  # as they came: read and written again, they would change
        "wait_time_in_seconds": wait // 1000 if wait % 1000 == 0 else wait / 1000,
        "opened_at": _quoted(_rfc3339(round_.opened_at)),
        "last_add_at": _quoted(_rfc3339(round_.last_add_at)),
        "deadline_at": _quoted(_rfc3339(round_.deadline)),
        "fired_at": _quoted(_rfc3339(round_.fired_at)),
        **place,
        "version": 1,
    }
    return ("{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}").encode()


def _arrived(round_: Round) -> list[str]:
    names: list[str] = []
    size = len("[]")
    for participant, (at, _) in list(round_.arrived.items())[:MAX_ARRIVED]:
        name = f'{{"participant_key":{_quoted(participant)},"at":{_quoted(_rfc3339(at))}}}'
        size += len(name.encode()) + len("," if names else "")
        if size > MAX_ARRIVED_BYTES:
            break
        names.append(name)
    return names


_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _rfc3339(ms: int) -> str:
    return f"{_second(ms // 1000)}.{ms % 1000:03}Z"


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
