"""The codec and the reference read every record alike: the same command, or refused for the same reason."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.transcript import LogRecord
from wait_for_me.codec import decode_command
from wait_for_me.errors import InvalidCommand
from wait_for_me.milliseconds import to_ms
from wait_for_me_app.audit.wire import Refused, read_command

OFTEN = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ADD = {
    "type": '"add"',
    "group_key": '"g"',
    "participant_key": '"p"',
    "number_of_participants_in_group": "2",
    "execute_after_waiting": '"c"',
    "wait_time_in_seconds": "60",
    "execute_after_waiting_params": "[1]",
    "event_id": '"e"',
    "max_wait_in_seconds": "900",
    "linger_in_seconds": "5",
}
REMOVE = {"type": '"remove"', "group_key": '"g"', "event_id": '"e"', "reason": '"why"'}
TEXTS = st.sampled_from(
    ['""', '"g"', '"' + "é" * 64 + '"', '"' + "é" * 65 + '"', '"' + "x" * 256 + '"', '"' + "x" * 257 + '"', r'"\u0000"', r'"\u0085"',
     '"\x7f"', r'"\ud83d\ude00"', r'"\ud800"', r'"a\"b\\"', '"a.b:c-d_E9"', '"' + "x" * 1025 + '"', '"add"', '"remove"', '"tick"'],
)  # fmt: skip
NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "1", "-1", "1.0", "1e0", "0.5", "1.1", "0.0001", "1e-300", "1e-400", "100000", "100001", "2592000",
     "2592000.0", "2592000.001", "1e400", "-1e400", "9" * 30, "9" * 400, "33.3333333333333333", "1E2", "1.0010000000000001"],
)  # fmt: skip
OTHERS = st.sampled_from(
    ["true", "false", "[]", "{}", "[ 1 , {} ]", '{"a":1,"a":2}', "[" * 32 + "]" * 32, "[" * 33 + "]" * 33]
)
NONSENSE = st.sampled_from(
    ["", "NaN", "Infinity", "01", "1.", "tru", "'a'", '"\x01"', r'"\x"', "[1,]", "{1:2}", "[[", '"', "+1"]
)
FLOATS = st.floats(0, 40 * 86400, allow_nan=False).map(repr) | st.decimals(0, 100, places=5).map(str)
HEADERS = st.sampled_from(
    [
        (),
        (("wfm_event_id", b"resent"),),
        (("ce_specversion", b"1.0"), ("ce_type", b"waitforme.add.v1")),
        (("ce_specversion", b"1.0"), ("ce_type", b"waitforme.remove.v1"), ("ce_id", b"cloud")),
        (("ce_specversion", b"1.0"), ("ce_type", b"waitforme.tick.v1"), ("wfm_event_id", b"resent")),
        (("ce_specversion", b"0.3"), ("ce_type", b"waitforme.add.v1")),
        (("ce_type", b"waitforme.add.v1"), ("ce_id", b"cloud")),
        (("content-type", b"application/json"),),
    ]
)


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """A command with at most one member changed, added, repeated or left out, and odd white space."""
    members = list(draw(st.sampled_from([ADD, REMOVE])).items())
    at = draw(st.integers(0, len(members) - 1))
    text = draw(TEXTS | NUMBERS | OTHERS | NONSENSE | FLOATS | st.just("null"))
    change = draw(st.sampled_from(["none", "replace", "remove", "repeat", "unknown"]))
    if change == "replace":
        members[at] = (members[at][0], text)
    elif change == "remove":
        del members[at]
    elif change == "repeat":
        members.insert(0, (members[at][0], text))
    elif change == "unknown":
        members.insert(at, ("colour", text))
    space = draw(st.sampled_from(["", " ", "\n\t", "\r\n "]))
    return ("{" + ",".join(f'{space}"{name}"{space}:{text}{space}' for name, text in members) + "}" + space).encode()


def by_reference(record: LogRecord) -> Any:
    """What the reference reads, as plain values."""
    try:
        command = read_command(record, dict(record.headers))
    except Refused as refused:
        return refused.code, refused.stage
    settings = command.settings if command.kind == "add" else None
    return command.kind, command.group_key, command.participant_key, command.event_id, settings


def by_codec(record: LogRecord) -> Any:
    """What the codec reads, as the same plain values."""
    try:
        command: Any = decode_command(record.key, record.value, record.headers)
    except InvalidCommand as invalid:
        return invalid.code, invalid.stage
    kind = type(command).__name__.lower()
    if kind == "tick":
        return kind, "", "", None, None
    if kind == "remove":
        return kind, command.group_key, "", command.event_id, None
    wait, cap, linger = command.wait_time_in_seconds, command.max_wait_in_seconds, command.linger_in_seconds
    settings = (
        command.number_of_participants_in_group,
        command.execute_after_waiting,
        bytes(command.raw_params) or b"[]",
        to_ms(wait),
        None if cap is None else to_ms(cap),
        to_ms(wait if linger is None else linger),
    )
    return kind, command.group_key, command.participant_key, command.event_id, settings


def agree(value: bytes | None, key: bytes | None = b"g", headers: tuple[tuple[str, bytes], ...] = ()) -> None:
    """Both read the same."""
    record = LogRecord(offset=0, timestamp_ms=0, key=key, value=value, headers=headers)
    assert by_codec(record) == by_reference(record)


@OFTEN
@given(value=values(), key=st.sampled_from([b"g", b"g", b"g", b"", None, b"x"]))
def test_a_command_with_one_fault_is_read_alike(value: bytes, key: bytes | None) -> None:
    """The same values to the byte, or the same code and stage."""
    agree(value, key)


@OFTEN
@given(
    members=st.sampled_from([ADD, REMOVE, {**ADD, "type": "null"}, {"group_key": '"g"'}, {"type": '"tick"'}]),
    headers=HEADERS,
    without=st.sets(st.sampled_from(["type", "event_id"])),
)
def test_headers_are_read_alike(
    members: dict[str, str], headers: tuple[tuple[str, bytes], ...], without: set[str]
) -> None:
    """Kind and event_id may come from headers, and may contradict the value."""
    text = ",".join(f'"{name}":{text}' for name, text in members.items() if name not in without)
    agree(f"{{{text}}}".encode(), b"g", headers)


@OFTEN
@given(value=values(), at=st.floats(0, 1), byte=st.integers(0, 255), how=st.sampled_from(["flip", "cut", "insert"]))
def test_damaged_bytes_are_refused_alike(value: bytes, at: float, byte: int, how: str) -> None:
    """One byte that is wrong makes neither of them more lenient than the other."""
    place = round(at * (len(value) - 1))
    kept = value[:place] if how == "cut" else value[:place] + bytes([byte]) + value[place + (how == "flip") :]
    record = LogRecord(offset=0, timestamp_ms=0, key=b"g", value=kept)
    ours, theirs = by_codec(record), by_reference(record)
    assert (len(ours) == 2) == (len(theirs) == 2)
    assert len(ours) == 2 or ours == theirs


@OFTEN
@given(
    data=st.sampled_from([ADD, REMOVE]),
    change=st.sampled_from(["none", "id", "no id", "specversion", "type", "data", "no data"]),
)
def test_structured_cloud_events_are_read_alike(data: dict[str, str], change: str) -> None:
    """The envelope with one thing wrong at a time."""
    kind = json.loads(data["type"])
    inner = "{ " + ",".join(f'"{name}": {text}' for name, text in data.items() if name != "event_id") + " }"
    event = {"specversion": '"1.0"', "type": f'"waitforme.{kind}.v1"', "id": '"cloud"', "source": '"s"', "data": inner}
    wrong = {"id": "7", "specversion": '"0.3"', "type": '"com.example"', "data": "[1]"}
    if change.startswith("no "):
        del event[change[3:]]
    elif change != "none":
        event[change] = wrong[change]
    text = "{" + ",".join(f'"{name}":{text}' for name, text in event.items()) + "}"
    agree(text.encode(), b"g", (("content-type", b"application/cloudevents+json; charset=utf-8"),))
