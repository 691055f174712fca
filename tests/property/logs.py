"""Random logs of one partition: few groups, few participants, every kind of command, odd clocks, and faults.

Names are few and times are small on purpose: what goes wrong goes wrong where deadlines, lingers and adds meet.
"""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import strategies as st

from scenarios.transcript import CREATE_TIME, LOG_APPEND_TIME, MIDNIGHT, TOPIC_ID, LogRecord

GROUPS = ("a", "b", "é c", "d" * 40)
PARTICIPANTS = ("p", "q", "r", "ß")
PARAMS = ("[]", "[1]", "[ 1 ]", '{"a":"\\u00e9"}', "null", '"x"')
SECONDS = ("0.001", "0.002", "0.005", "0.01", "0.0101", "0.02", "0.05", "1e-2", "1")

_texts = st.sampled_from([None, "e1", "e2", "e3"])
_seconds = st.sampled_from(SECONDS)
_maybe_seconds = st.none() | _seconds


def _value(members: dict[str, str | None]) -> bytes:
    return ("{" + ",".join(f'"{name}":{text}' for name, text in members.items() if text is not None) + "}").encode()


def _quoted(text: str | None) -> str | None:
    return None if text is None else json.dumps(text, ensure_ascii=False)


@st.composite
def adds(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Key and value of an add that may be obeyed."""
    group = draw(st.sampled_from(GROUPS))
    members = {
        "type": '"add"',
        "group_key": _quoted(group),
        "participant_key": _quoted(draw(st.sampled_from(PARTICIPANTS))),
        "number_of_participants_in_group": str(draw(st.integers(1, 4))),
        "execute_after_waiting": _quoted(draw(st.sampled_from(["c", "d"]))),
        "execute_after_waiting_params": draw(st.none() | st.sampled_from(PARAMS)),
        "wait_time_in_seconds": draw(_seconds),
        "event_id": _quoted(draw(_texts)),
        "max_wait_in_seconds": draw(_maybe_seconds),
        "linger_in_seconds": draw(_maybe_seconds | st.just("0")),
    }
    return group.encode(), _value(members)


@st.composite
def removes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Key and value of a remove."""
    group = draw(st.sampled_from(GROUPS))
    return group.encode(), _value({"type": '"remove"', "group_key": _quoted(group), "event_id": _quoted(draw(_texts))})


FAULTS: list[tuple[bytes | None, bytes | None]] = [
    (b"a", None),
    (b"a", b""),
    (b"a", b"\xff"),
    (b"a", b"[]"),
    (b"a", b'{"type":"add","group_key":"a"}'),
    (b"a", b'{"type":"remove","group_key":"b"}'),
    (None, b'{"type":"remove","group_key":"a"}'),
    (b"a", b'{"type":"what"}'),
    (b"a", b'{"type":"remove","group_key":"a","event_id":7}'),
    (b"a", b'{"type":"tick","x":NaN}'),
]
_ticks = st.tuples(st.none() | st.just(b"a"), st.just(b'{"type":"tick"}'))
_origins = st.builds(lambda p, o: f"{p}:{o}".encode(), st.integers(0, 2), st.integers(0, 6)) | st.just(b"nonsense")
_headers = st.one_of(
    st.just(()),
    st.just(()),
    st.just(()),
    st.builds(lambda origin: (("wfm_rerouted", origin),), _origins),
    st.builds(lambda origin: (("wfm_event_id", b"e1"), ("wfm_rerouted", origin)), _origins),
    st.just((("other", b"\xff"), ("ce_specversion", b"1.0"), ("ce_type", b"waitforme.add.v1"), ("ce_id", b"e2"))),
)
_commands = st.one_of(adds(), adds(), adds(), adds(), removes(), _ticks, st.sampled_from(FAULTS))


@st.composite
def logs(draw: st.DrawFn, *, headers: Any = _headers, longest_step: int = 30) -> list[LogRecord]:
    """A log: offsets with holes, times that mostly grow, stand still, or step back, and some CreateTime."""
    records: list[LogRecord] = []
    offset, now = draw(st.integers(0, 3)), int(MIDNIGHT.timestamp() * 1000)
    for key, value in draw(st.lists(_commands, max_size=40)):
        now += draw(st.one_of(st.just(0), st.integers(0, 3), st.integers(-5, longest_step)))
        records.append(
            LogRecord(
                offset=offset,
                timestamp_ms=now,
                timestamp_type=draw(st.sampled_from([LOG_APPEND_TIME] * 9 + [CREATE_TIME])),
                key=key,
                value=value,
                headers=draw(headers),
            )
        )
        offset += draw(st.sampled_from([1, 1, 1, 2, 5]))
    return records


@st.composite
def places(draw: st.DrawFn) -> dict[str, Any]:
    """Where the log lives; with several partitions some of the groups are misplaced."""
    partitions = draw(st.sampled_from([1, 1, 3]))
    return {
        "topic_id": TOPIC_ID,
        "partition": draw(st.integers(0, partitions - 1)),
        "partitions": partitions,
        "trust_create_time": draw(st.booleans()),
    }


def crowded(seed: int, *, length: int = 1500, groups: int = 3, participants: int = 250) -> list[LogRecord]:
    """A long log from a seed, for what needs numbers: rounds of hundreds, more groups than a cache holds."""
    chance = random.Random(seed)
    now = int(MIDNIGHT.timestamp() * 1000)
    records: list[LogRecord] = []
    for at in range(length):
        now += chance.choice([0, 0, 1, 2, 5, 20])
        group = f"g{chance.randrange(groups)}"
        key, value = group.encode(), _crowd_add(chance, group, participants)
        if chance.random() < 0.01:
            value = _value({"type": '"remove"', "group_key": _quoted(group)})
        elif chance.random() < 0.02:
            key, value = b"", b'{"type":"tick"}'
        records.append(LogRecord(offset=at + at // 7, timestamp_ms=now, key=key, value=value))
    return records


def _crowd_add(chance: random.Random, group: str, participants: int) -> bytes:
    return _value(
        {
            "type": '"add"',
            "group_key": _quoted(group),
            "participant_key": _quoted(f"p{chance.randrange(participants)}"),
            "number_of_participants_in_group": str(
                chance.choice([2, participants // 3, participants // 2, participants])
            ),
            "execute_after_waiting": '"c"',
            "wait_time_in_seconds": chance.choice(["0.05", "0.5", "5"]),
            "event_id": chance.choice([None, '"e1"', '"e2"']),
            "max_wait_in_seconds": chance.choice([None, None, "3"]),
            "linger_in_seconds": chance.choice([None, "0", "0.02", "1"]),
        }
    )
