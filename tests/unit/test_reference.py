"""The reference itself: its hashing, its reading of JSON and its bytes, against other people's work and by hand."""

from __future__ import annotations

import ast
import json
import random
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from confluent_kafka import murmur2 as librdkafka_murmur2

import wait_for_me_app.audit
from scenarios.transcript import TOPIC_ID, LogRecord, Transcript, parse
from wait_for_me_app.audit.reference import Outcome, fold_partition
from wait_for_me_app.audit.wire import Command, Refused, partition_of, read_command

ADD = {
    "type": "add",
    "group_key": "g",
    "participant_key": "p",
    "number_of_participants_in_group": 2,
    "execute_after_waiting": "c",
    "wait_time_in_seconds": 60,
}
STATES = Path(__file__).parents[2] / "docs" / "state_machine.md"


def add(**fields: Any) -> bytes:
    """An add as bytes, with fields of this test's own; `...` leaves one out."""
    return json.dumps({name: value for name, value in {**ADD, **fields}.items() if value is not ...}).encode()


def read(value: bytes | None, key: bytes | None = b"g", **headers: bytes) -> Command:
    """Read one command as the reference does."""
    named = {name.replace("__", "-"): text for name, text in headers.items()}
    return read_command(LogRecord(offset=0, timestamp_ms=0, key=key, value=value), named)


def fault(value: bytes | None, key: bytes | None = b"g", **headers: bytes) -> str:
    """The code for which the reference refuses this record."""
    with pytest.raises(Refused) as refused:
        read(value, key, **headers)
    return refused.value.code


def fold(text: str) -> Outcome:
    """Fold a transcript's records."""
    transcript: Transcript = parse(text)
    return fold_partition(transcript.records, **transcript.place)


# ------------------------------------------------------------------------------------------------------- independence


def test_the_audit_imports_nothing_but_the_standard_library() -> None:
    """An auditor that shares code with the worker would repeat its mistakes and call them right."""
    for path in Path(wait_for_me_app.audit.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            assert {name.split(".")[0] for name in names} <= set(sys.stdlib_module_names), path.name
            assert not isinstance(node, ast.ImportFrom) or node.level <= 1, path.name


# ------------------------------------------------------------------------------------------------------------ hashing


def test_keys_lie_where_java_aiokafka_and_librdkafka_put_them() -> None:
    """The same partition as the two clients in use, for every length of the tail and for bytes above 127."""
    chance = random.Random(20261124)
    for length in [*range(64), 255, 256]:
        for partitions in (1, 4, 12, 1000):
            key = chance.randbytes(length)
            assert partition_of(key, partitions) == (aiokafka_murmur2(key) & 0x7FFFFFFF) % partitions
            assert partition_of(key, partitions) == librdkafka_murmur2(key, partitions)


@pytest.mark.parametrize(
    ("key", "murmur2"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
    ],
)
def test_the_hash_is_the_one_of_kafkas_own_tests(key: str, murmur2: int) -> None:
    """The vectors of Java's UtilsTest, with the sign bit cleared."""
    assert partition_of(key.encode(), 1 << 31) == murmur2 & 0x7FFFFFFF


# -------------------------------------------------------------------------------------------------------- strict JSON


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b'{"type":"tick"} x', b'{"type":"tick",}', b"{'type':'tick'}", b'{"type":"tick"}\x00',
        b'\xef\xbb\xbf{"type":"tick"}', b'\x0c{"type":"tick"}', b'{"type":"tick","a":NaN}', b'{"type":"tick","a":Infinity}',
        b'{"type":"tick","a":-Infinity}', b'{"type":"tick","a":01}', b'{"type":"tick","a":1.}', b'{"type":"tick","a":.5}',
        b'{"type":"tick","a":+1}', b'{"type":"tick","a":0x1}', b'{"type":"tick","a":"\x01"}', b'{"type":"tick","a":"\\x"}',
        b'{"type":"tick","a":"\\u12"}', b'{"type":"tick","a":tru}', b'{"a" 1}', b'{1:2}', b'{"a":1 "b":2}', b'{"a":}', b"]",
    ],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: bytes) -> None:
    """None of the leniencies of Python's own parser."""
    assert fault(text) == "not_json"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (rb'{"type":"tick","a":"\ud800"}', "not_utf8"),
        (rb'{"type":"tick","a":"\udc00"}', "not_utf8"),
        (rb'{"type":"tick","a":"\udc00\ud800"}', "not_utf8"),
        (rb'{"type":"tick","a":"\ud800\ud800\udc00"}', "not_utf8"),
        (rb'{"type":"tick","a":"\ud800x\udc00"}', "not_utf8"),
        (rb'{"type":"tick","a":"\ud800\n\udc00"}', "not_utf8"),
        (rb'{"type":"tick","\ud800":1}', "not_utf8"),
        (rb'{"type":"tick","a":"\uD800","a":1}', "not_utf8"),
        (b'{"type":"tick","a":"\xed\xa0\x80"}', "not_utf8"),
        (b"\xff", "not_utf8"),
    ],
)
def test_half_characters_are_refused(text: bytes, code: str) -> None:
    """A lone surrogate could not be written back as UTF-8."""
    assert fault(text) == code


@pytest.mark.parametrize(
    "text",
    [
        rb'{"type":"tick","a":"\ud83d\ude00"}',
        rb'{"type":"tick","a":"\\ud800"}',
        rb'{"type":"tick","a":"\\\ud83d\uDE00"}',
    ],
)
def test_whole_characters_are_taken_however_they_are_written(text: bytes) -> None:
    """A pair is a character, and an escaped backslash before a `u` is not an escape."""
    assert read(text).kind == "tick"


def test_nesting_is_bounded_before_anything_recurses() -> None:
    """Thirty-two levels below the command are taken, thirty-three or a hundred thousand are too deep."""
    assert read(b'{"type":"tick","a":%s1%s}' % (b"[" * 32, b"]" * 32)).kind == "tick"
    assert fault(b'{"type":"tick","a":%s1%s}' % (b"[" * 33, b"]" * 33)) == "too_deep"
    assert fault(b'{"a":' * 100_00) == "too_deep"
    assert fault(b"[" * 100_000) == "too_deep"
    assert read(b'{"type":"tick","a":"%s"}' % (b"[" * 100)).kind == "tick"


def test_params_keep_every_byte_between_their_first_and_last() -> None:
    """Spaces inside, spelling of numbers, escapes and repeated names are kept; spaces around are not theirs."""
    for params in (
        b"[ 1,\n 2 ]",
        b'{"a" : 1.0e1, "a":2}',
        rb'"\u00e9\/"',
        b"-0.0",
        b"true",
        b'[12345678901234567890123, "\xc3\xa9"]',
    ):
        value = add()[:-1] + b' , "execute_after_waiting_params" :\t' + params + b" }"
        assert read(value).settings[2] == params


def test_the_last_of_a_repeated_name_counts() -> None:
    """Also when the earlier one could not be obeyed."""
    value = (
        b'{"execute_after_waiting_params":[1],"wait_time_in_seconds":"x",' + add(execute_after_waiting_params=[2])[1:]
    )
    assert read(value).settings[2:4] == (b"[2]", 60000)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"participant_key": ...}, "missing_field"), ({"group_key": None}, "missing_field"),
        ({"number_of_participants_in_group": None}, "missing_field"), ({"execute_after_waiting": ...}, "missing_field"),
        ({"wait_time_in_seconds": None}, "missing_field"), ({"type": ...}, "missing_field"), ({"type": 5}, "wrong_type"),
        ({"type": "Add"}, "unknown_type"), ({"participant_key": 5}, "wrong_type"), ({"participant_key": ""}, "empty"),
        ({"participant_key": "é" * 129}, "too_long"), ({"participant_key": "a\u0085"}, "control_character"),
        ({"group_key": "x\x7f"}, "control_character"), ({"event_id": ""}, "empty"), ({"event_id": "x" * 129}, "too_long"),
        ({"event_id": 7}, "wrong_type"), ({"event_id": "\t"}, "control_character"),
        ({"number_of_participants_in_group": 0}, "out_of_range"), ({"number_of_participants_in_group": 100001}, "out_of_range"),
        ({"number_of_participants_in_group": 2.0}, "wrong_type"), ({"number_of_participants_in_group": True}, "wrong_type"),
        ({"number_of_participants_in_group": "2"}, "wrong_type"), ({"execute_after_waiting": "a b"}, "bad_callback_name"),
        ({"execute_after_waiting": "a\n"}, "bad_callback_name"), ({"execute_after_waiting": "x" * 129}, "bad_callback_name"),
        ({"execute_after_waiting": []}, "wrong_type"), ({"wait_time_in_seconds": 0}, "out_of_range"),
        ({"wait_time_in_seconds": 2592000.0001}, "out_of_range"), ({"wait_time_in_seconds": False}, "wrong_type"),
        ({"max_wait_in_seconds": 0}, "out_of_range"), ({"max_wait_in_seconds": "9"}, "wrong_type"),
        ({"linger_in_seconds": -1}, "out_of_range"), ({"linger_in_seconds": 2592001}, "out_of_range"),
        ({"execute_after_waiting_params": "x" * 65535}, "too_large"), ({"execute_after_waiting_params": 10**5000}, "out_of_range"),
        ({"colour": "x" * 262144}, "too_large"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_obeyed_is_named_by_its_code(
    fields: dict[str, Any], code: str, long_numbers: None
) -> None:
    """One fault, one code."""
    assert fault(add(**fields)) == code


@pytest.fixture
def long_numbers() -> Any:
    """Let this test write a number that Python is asked not to write."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("seconds", "ms"),
    [
        ("60", 60000), ("60.0", 60000), ("6e1", 60000), ("1.1", 1100), ("0.0001", 1), ("1e-300", 1), ("0.2505", 251),
        ("0.25", 250), ("1.0010000000000001", 1002), ("2592000", 2592000000), ("2592000.0", 2592000000), ("33.333", 33333),
    ],
)  # fmt: skip
def test_waits_are_whole_milliseconds_rounded_up(seconds: str, ms: int) -> None:
    """As written in decimal, never as the nearest binary fraction."""
    assert read(add(wait_time_in_seconds=...)[:-1] + f',"wait_time_in_seconds":{seconds}}}'.encode()).settings[3] == ms


def test_a_key_must_be_the_groups_own_bytes() -> None:
    """A missing or empty key, another one, or the same letters in another spelling."""
    assert fault(add(), None) == fault(add(), b"") == "null_key"
    assert fault(add(), b"h") == fault(add(group_key="e\u0301"), "é".encode()) == "key_mismatch"
    assert read(add(group_key="é"), "é".encode()).group_key == "é"
    assert read(b'{"type":"tick"}', b"anything").kind == "tick"


def test_the_event_id_is_the_commands_own_then_the_cloud_events_then_the_resends() -> None:
    """The nearest one counts, and one that does not count is not even looked at."""
    cloud = {"ce_specversion": b"1.0", "ce_type": b"waitforme.add.v1", "ce_id": b"cloud", "wfm_event_id": b"resent"}
    assert read(add(event_id="own"), **cloud).event_id == "own"
    assert read(add(), **cloud).event_id == "cloud"
    assert read(add(), wfm_event_id=b"resent", ce_id=b"no CloudEvent without ce_specversion").event_id == "resent"
    assert read(add(event_id="own"), wfm_event_id=b"\xff").event_id == "own"
    assert fault(add(), wfm_event_id=b"\xff") == "not_utf8"
    assert fault(add(), wfm_event_id=b"") == "empty"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"ce_specversion": b"0.3", "ce_type": b"waitforme.add.v1"}, "bad_cloudevent"),
        ({"ce_specversion": b"1.0"}, "bad_cloudevent"),
        ({"ce_specversion": b"1.0", "ce_type": b"\xff"}, "bad_cloudevent"),
        ({"ce_specversion": b"1.0", "ce_type": b"com.example"}, "unknown_type"),
        ({"ce_specversion": b"1.0", "ce_type": b"waitforme.tick.v1"}, "bad_cloudevent"),
        ({"ce_specversion": b"1.0", "ce_type": b"waitforme.add.v1", "ce_id": b""}, "empty"),
        ({"content__type": b"application/cloudevents+json"}, "bad_cloudevent"),
        ({"content__type": b"application/cloudevents+avro"}, "bad_cloudevent"),
    ],
)
def test_a_cloud_event_that_is_none_is_refused(headers: dict[str, bytes], code: str) -> None:
    """The value is a bare add each time; it is the headers that are wrong."""
    assert fault(add(), **headers) == code


def test_a_structured_cloud_event_carries_the_command_in_its_data() -> None:
    """Params keep their bytes in there as well."""
    data = add()[:-1] + b',"execute_after_waiting_params": [ 1 ] }'
    event = b'{"specversion":"1.0","type":"waitforme.add.v1","id":"e","source":"s", "data" : %s }' % data
    command = read(event, content__type=b"Application/CloudEvents+JSON; charset=utf-8")
    assert (command.event_id, command.settings[2]) == ("e", b"[ 1 ]")
    assert fault(event.replace(data, b"[]"), content__type=b"application/cloudevents+json") == "not_an_object"


# --------------------------------------------------------------------------------------------------- the fire's bytes


def test_a_fire_is_these_bytes() -> None:
    """Every byte by hand: order of the names, no spaces, params verbatim, times with three digits."""
    outcome = fold(
        'at 10:00:00.120 add deploy-42 web-1 of 2 wait 0.25 do cdn.flush params ["E1", "/*"]\nat 10:00:01 tick\n'
    )
    fire_id = f"fire_{uuid.uuid5(TOPIC_ID, '0:0')}"
    assert outcome.fires == [
        (
            1,
            b"deploy-42",
            (
                '{"type":"fire","fire_id":"' + fire_id + '","group_key":"deploy-42","reason":"timeout",'
                '"number_of_participants_in_group":2,"arrived_count":1,"missing_count":1,'
                '"arrived":[{"participant_key":"web-1","at":"2026-11-24T10:00:00.120Z"}],"arrived_truncated":false,'
                '"conflict_count":0,"execute_after_waiting":"cdn.flush","execute_after_waiting_params":["E1", "/*"],'
                '"wait_time_in_seconds":0.25,"opened_at":"2026-11-24T10:00:00.120Z","last_add_at":"2026-11-24T10:00:00.120Z",'
                '"deadline_at":"2026-11-24T10:00:00.370Z","fired_at":"2026-11-24T10:00:01.000Z","partition":0,'
                '"opened_offset":0,"closed_offset":1,"version":1}'
            ).encode(),
        )
    ]


def many(count: int, name: str) -> dict[str, Any]:
    """The fire of one group that `count` participants complete."""
    log = (f'at 10:00:00 add g "{name.format(number)}" of {count} wait 60 do c' for number in range(count))
    return dict(json.loads(fold("\n".join(log)).fires[0][2]))


def test_a_fire_names_at_most_a_thousand() -> None:
    """The first thousand by arrival; the count stays exact."""
    full, cut = many(1000, "w{}"), many(1001, "w{}")
    assert (len(full["arrived"]), full["arrived_truncated"], full["arrived_count"]) == (1000, False, 1000)
    assert (len(cut["arrived"]), cut["arrived_truncated"], cut["arrived_count"]) == (1000, True, 1001)
    assert cut["arrived"][999]["participant_key"] == "w999"


def test_a_fire_names_no_more_than_fit_into_256_kib() -> None:
    """Counted as the JSON array is written: brackets, commas, and two bytes for an escaped quote."""
    fire = many(600, '\\"' * 250 + "{:03d}")
    array = json.dumps(fire["arrived"], separators=(",", ":"), ensure_ascii=False).encode()
    one = len(json.dumps(fire["arrived"][0], separators=(",", ":"), ensure_ascii=False).encode())
    assert fire["arrived_truncated"]
    assert fire["arrived_count"] == 600
    assert len(array) <= 262144 < len(array) + 1 + one


# --------------------------------------------------------------------------------------------- docs/state_machine.md


def edges() -> list[dict[str, str]]:
    """The rows of the table of edges in the page."""
    lines = re.findall(r"^\| (E\d+) \|(.*)\|$", STATES.read_text(encoding="utf-8"), re.MULTILINE)
    names = ("state", "record", "condition", "next", "effect")
    return [
        {"edge": edge, **dict(zip(names, (cell.strip() for cell in rest.split(" | ")), strict=True))}
        for edge, rest in lines
    ]


OPEN = "at 10:00:00 add g p of 2 wait 60 do c id e\n"
CLOSED = "at 10:00:00 add g p of 1 wait 60 do c\n"
TAKEN: dict[str, tuple[str, str, str]] = {  # edge -> log, the last record's verdict, the state after it
    "E1": ("at 10:00:00 add g p of 1 wait 60 do c", "new", "complete"),
    "E2": ("at 10:00:00 add g p of 2 wait 60 do c", "new", "open"),
    "E3": ("partition 0 of 4\nat 10:00:00 add g p of 1 wait 60 do c", "rerouted", "absent"),
    "E4": ("partition 0 of 4\nat 10:00:00 (wfm_rerouted=1:1) add g p of 1 wait 60 do c", "rejected", "absent"),
    "E5": ("at 10:00:00 remove g", "nothing", "absent"),
    "E6": (OPEN + "at 10:00:01 add g p of 1 wait 9 do c id e", "duplicate", "open"),
    "E7": (OPEN + "at 10:00:01 add g q of 2 wait 60 do c", "new", "complete"),
    "E8": (OPEN + "at 10:00:30 add g q of 3 wait 60 do c max-wait 20", "new", "timeout"),
    "E9": (OPEN + "at 10:00:01 add g p of 2 wait 60 do c", "refresh", "open"),
    "E10": (OPEN + "at 10:00:01 remove g", "removed", "removed"),
    "E11": (OPEN + "at 10:01:00 tick", "tick", "timeout"),
    "E12": (CLOSED + "at 10:00:01 add g q of 1 wait 60 do c", "late", "complete"),
    "E13": (CLOSED + "at 10:00:01 remove g", "nothing", "complete"),
    "E14": (CLOSED + "at 10:01:00 tick", "tick", "absent"),
    "E15": (OPEN + "at 10:00:01 tick", "tick", "open"),
    "E16": (OPEN + 'at 10:00:01 send g {"type":"nonsense"}', "rejected", "open"),
    "E17": (OPEN + "at 10:00:01 (wfm_rerouted=0:7) add other p of 1 wait 1 do c\nat 10:00:02 (wfm_rerouted=0:7) add g q of 2 wait 1 do c",
            "duplicate", "open"),
}  # fmt: skip


def test_every_edge_of_the_page_is_taken_by_a_log_here() -> None:
    """A row that nobody can reach, or a log whose row is gone, is a page that lies."""
    assert [row["edge"] for row in edges()] == list(TAKEN)


@pytest.mark.parametrize("row", edges(), ids=lambda row: row["edge"])
def test_the_reference_takes_the_edge_as_the_page_says(row: dict[str, str]) -> None:
    """From the state, by the record, to the next state, with a fire where the page says so."""
    log, verdict, state = TAKEN[row["edge"]]
    outcome = fold(log)
    expected = state if row["next"] == "the same" else row["next"]
    reasons = [json.loads(value)["reason"] for _, key, value in outcome.fires if key == b"g"]
    if b"g" in outcome.open_groups:
        now = "open"
    elif b"g" in outcome.closed:
        now = reasons[-1] if reasons else "removed"
    else:
        now = "absent"
    assert (outcome.verdicts[-1], now, expected) == (verdict, state, state)
    last_fires = [value for offset, _, value in outcome.fires if offset == len(outcome.verdicts) - 1]
    assert ("fire" in row["effect"].split(":")[0]) == bool(last_fires)


def test_the_diagram_draws_the_table() -> None:
    """Each arrow of the mermaid diagram is a row of the table, and each row that changes the state is an arrow."""
    page = STATES.read_text(encoding="utf-8")
    drawn = {(a, b) for a, b in re.findall(r"^ +(\w+) --> (\w+) ?:", page, re.MULTILINE)}
    expanded = [
        (state, row["next"])
        for row in edges()
        for state in (("complete", "timeout", "removed") if row["state"] == "closed" else (row["state"],))
    ]
    written = {(state, after) for state, after in expanded if after not in (state, "the same")}
    assert drawn == written
