"""Reads transcripts, plays them through a fold, and turns them into records for a real Kafka.

The language is described in README.md beside this file. Danger: the printed text is the contract; a detail that is not
printed is not tested by the text, so the fires are compared as bytes as well (test_transcripts.py).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

TOPIC_ID = uuid.UUID("7d3c1f9e-0b5a-4a77-9d2e-3f6a1c8b5e40")
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
CREATE_TIME, LOG_APPEND_TIME = 0, 1


@dataclass(frozen=True, kw_only=True)
class LogRecord:
    """A record of the commands topic as a consumer would see it."""

    offset: int
    timestamp_ms: int
    timestamp_type: int = LOG_APPEND_TIME
    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Send:
    """One record to produce to a real Kafka: `after_s` counts from the first one."""

    after_s: float
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


@dataclass(kw_only=True)
class Transcript:
    """A parsed transcript: `lines` pairs each input line with the record, the order to show, or nothing."""

    partition: int = 0
    partitions: int = 1
    on_paper: str | None = None
    trust_create_time: bool = False
    lines: list[tuple[str, LogRecord | str | None]] = field(default_factory=list)

    @property
    def records(self) -> list[LogRecord]:
        """The log, in order."""
        return [step for _, step in self.lines if isinstance(step, LogRecord)]

    @property
    def place(self) -> dict[str, Any]:
        """What a fold must know besides the records."""
        return {
            "topic_id": TOPIC_ID,
            "partition": self.partition,
            "partitions": self.partitions,
            "trust_create_time": self.trust_create_time,
        }

    def sends(self) -> list[Send]:
        """The log as records to produce at their times; refuses a transcript that needs a clock made of paper."""
        if self.on_paper is not None:
            raise ValueError(f"this transcript cannot be replayed: {self.on_paper}")
        log = self.records
        return [
            Send(
                after_s=(record.timestamp_ms - log[0].timestamp_ms) / 1000,
                partition=self.partition,
                key=record.key,
                value=record.value,
                headers=record.headers,
            )
            for record in log
        ]


def parse(text: str, *, scale: float = 1.0) -> Transcript:
    """Read a transcript; `scale` shrinks the times between records and the waits in them alike, for a real Kafka."""
    transcript = Transcript()
    offset = 0
    for line in text.removesuffix("\n").split("\n"):  # not splitlines: a name may hold U+2028
        if line.startswith("->"):
            continue
        step: LogRecord | str | None = None
        words = line.split()
        if line.startswith("at "):
            step = _record(line, offset, scale)
            offset += 1
        elif line in ("show", "show fires"):
            step = line
        elif words[:1] == ["hole"]:
            offset += int(words[1])
        elif words[:1] == ["partition"]:
            transcript.partition, transcript.partitions = int(words[1]), int(words[3])
        elif line.startswith("on paper: "):
            transcript.on_paper = line.removeprefix("on paper: ")
        elif line == "trust producer time":
            transcript.trust_create_time = True
        elif line and not line.startswith("#"):
            raise ValueError(f"not a line of a transcript: {line!r}; see README.md beside the file")
        transcript.lines.append((line, step))
    return transcript


def play(transcript: Transcript, fold: Callable[..., Any]) -> str:
    """Print the transcript with the output that this fold makes of it."""
    printed: list[str] = []
    printer = _Printer(fold(transcript.records, **transcript.place))
    done: list[LogRecord] = []
    for line, step in transcript.lines:
        printed.append(line)
        if isinstance(step, LogRecord):
            done.append(step)
            printed += printer.record(step, len(done) - 1)
        elif step == "show":
            printed += _state(fold(done, **transcript.place))
        elif step == "show fires":
            printed += [
                f"-> {value.decode()}" for offset, _, value in printer.outcome.fires if offset <= done[-1].offset
            ]
    return "\n".join(printed) + "\n"


def summary(fires: list[tuple[int, bytes, bytes]]) -> list[tuple[str, str, tuple[str, ...]]]:
    """What must hold on a real Kafka too, whatever the exact times: group, reason and who had arrived, in order."""
    values = [json.loads(value) for _, _, value in fires]
    return [(v["group_key"], v["reason"], tuple(p["participant_key"] for p in v["arrived"])) for v in values]


class _Printer:
    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.rejected = {offset: (code, stage) for offset, code, stage in outcome.rejected}
        self.rerouted = dict(outcome.rerouted)

    def record(self, record: LogRecord, index: int) -> Iterator[str]:
        fires = [json.loads(value) for offset, _, value in self.outcome.fires if offset == record.offset]
        own = [fire for fire in fires if fire["reason"] == "complete" or fire["last_add_at"] == fire["fired_at"]]
        yield from (_fire(fire) for fire in fires if fire not in own)
        yield f"-> {self.verdict(record.offset, index)}"
        yield from (_fire(fire) for fire in own)

    def verdict(self, offset: int, index: int) -> str:
        word = self.outcome.verdicts[index]
        if word == "rejected":
            code, stage = self.rejected[offset]
            return f"rejected {code} at {stage}"
        return f"rerouted to {self.rerouted[offset]}" if word == "rerouted" else str(word)


def _fire(fire: dict[str, Any]) -> str:
    names = " ".join(one["participant_key"] for one in fire["arrived"])
    conflicts = f" conflicts {fire['conflict_count']}" if fire["conflict_count"] else ""
    params = json.dumps(fire["execute_after_waiting_params"], ensure_ascii=False)
    return (
        f"-> fire {fire['reason']} {fire['group_key']} {fire['arrived_count']} of"
        f" {fire['number_of_participants_in_group']} [{names}] do {fire['execute_after_waiting']} {params}"
        f" opened #{fire['opened_offset']} deadline {_clock(fire['deadline_at'])} fired {_clock(fire['fired_at'])}{conflicts}"
    )


def _state(outcome: Any) -> Iterator[str]:
    for key, (opened, arrived, deadline) in sorted(outcome.open_groups.items()):
        yield f"-> open {key.decode()} opened #{opened} arrived {arrived} deadline {_clock(deadline)}"
    for key, (opened, late, closed_at) in sorted(outcome.closed.items()):
        yield f"-> lingers {key.decode()} opened #{opened} late {late} closed {_clock(closed_at)}"
    yield f"-> stream time {_clock(outcome.stream_time_ms)}"


def _clock(time: str | int) -> str:
    """Print a time of the transcripts' day as HH:MM:SS[.mmm], any other one in full."""
    moment = datetime.fromisoformat(time) if isinstance(time, str) else datetime.fromtimestamp(0, UTC) + _ms(time)
    full = moment.isoformat(timespec="milliseconds").replace("+00:00", "").removesuffix(".000")
    return full.removeprefix("2026-11-24T")


def _ms(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)


_LINE = re.compile(r"at (\d\d):(\d\d):(\d\d)(?:\.(\d{3}))? (?:\(([^)]*)\) )?(.*)")


def _record(line: str, offset: int, scale: float) -> LogRecord:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"not 'at HH:MM:SS[.mmm] [(MARKS)] COMMAND': {line!r}")
    hours, minutes, seconds, millis = (int(part or 0) for part in found.groups()[:4])
    since_midnight = ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis
    marks = [mark.strip() for mark in (found[5] or "").split(",") if mark.strip()]
    key, value = _key_and_value(_Words(found[6]), scale)
    return LogRecord(
        offset=offset,
        timestamp_ms=int(MIDNIGHT.timestamp() * 1000) + round(since_midnight * scale),
        timestamp_type=CREATE_TIME if "producer-time" in marks else LOG_APPEND_TIME,
        key=key,
        value=value,
        headers=tuple((name, text.encode()) for name, _, text in (m.partition("=") for m in marks) if text),
    )


class _Words:
    """The words of a command, left to right; a JSON value may stand where a word may."""

    def __init__(self, text: str) -> None:
        self.rest = text

    def word(self) -> str:
        if self.rest.startswith('"'):
            return str(json.loads(self.json()))
        word, _, self.rest = self.rest.partition(" ")
        return word

    def as_written(self) -> str:
        """One word, with its quotes if it has some."""
        return self.json() if self.rest.startswith('"') else self.word()

    def json(self) -> str:
        _, end = json.JSONDecoder().raw_decode(self.rest)
        text, self.rest = self.rest[:end], self.rest[end:].lstrip()
        return text

    def expect(self, word: str) -> None:
        if (got := self.word()) != word:
            raise ValueError(f"expected {word!r}, not {got!r}, before {self.rest!r}")


def _key_and_value(words: _Words, scale: float) -> tuple[bytes | None, bytes | None]:
    command = words.word()
    if command == "add":
        return _add(words, scale)
    if command == "remove":
        return _remove(words)
    if command == "tick":
        return None, b'{"type":"tick"}'
    if command == "send":
        key = words.word()
        return None if key == "null" else key.encode(), None if words.rest == "null" else words.rest.encode()
    raise ValueError(f"no such command: {command!r}")


def _add(words: _Words, scale: float) -> tuple[bytes, bytes]:
    group, participant = words.word(), words.word()
    words.expect("of")
    expected = words.as_written()
    words.expect("wait")
    wait = _scaled(words.as_written(), scale)
    words.expect("do")
    members = {
        "type": '"add"',
        "group_key": _text(group),
        "participant_key": _text(participant),
        "number_of_participants_in_group": expected,
        "execute_after_waiting": _text(words.word()),
        "wait_time_in_seconds": wait,
    }
    while words.rest:
        option = words.word()
        if option == "params":
            members["execute_after_waiting_params"] = words.json()
        elif option == "id":
            members["event_id"] = _text(words.word())
        elif option in ("max-wait", "linger"):
            members[f"{option.replace('-', '_')}_in_seconds"] = _scaled(words.word(), scale)
        else:
            raise ValueError(f"no such option of add: {option!r}")
    return group.encode(), _object(members)


def _remove(words: _Words) -> tuple[bytes, bytes]:
    group = words.word()
    members = {"type": '"remove"', "group_key": _text(group)}
    while words.rest:
        option = words.word()
        members[{"id": "event_id", "reason": "reason"}[option]] = _text(words.word())
    return group.encode(), _object(members)


def _scaled(seconds: str, scale: float) -> str:
    return seconds if scale == 1.0 else repr(round(float(seconds) * scale, 3))


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _object(members: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()
