"""The bytes of a fire: a function of the round, the same for ever, and never too large."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import NOON_MS, TOPIC_ID
from wait_for_me.codec import decode_fire
from wait_for_me_app.core.fires import ARRIVED_MAX_BYTES, FireIds, encode_fire, rfc3339
from wait_for_me_app.core.rows import Arrival, OpenRound

FIVE_OF_SIX = (
    b'{"type":"fire","fire_id":"fire_7","group_key":"deploy-42","reason":"timeout","number_of_participants_in_group":6,'
    b'"arrived_count":1,"missing_count":5,"arrived":[{"participant_key":"web-1","at":"2026-11-24T12:00:00.120Z"}],'
    b'"arrived_truncated":false,"conflict_count":2,"execute_after_waiting":"cloudfront.invalidate",'
    b'"execute_after_waiting_params":["E1", "/*"],"wait_time_in_seconds":60,"opened_at":"2026-11-24T12:00:00.120Z",'
    b'"last_add_at":"2026-11-24T12:00:01.000Z","deadline_at":"2026-11-24T12:01:01.000Z",'
    b'"fired_at":"2026-11-24T12:01:01.007Z","partition":3,"opened_offset":1812,"closed_offset":1977,"version":1}'
)
"""The wire, written by hand from the contract: order of fields, no spaces but the params' own, times in UTC with three digits."""


def fire(*, arrivals: list[Arrival] | None = None, group_key: bytes = b"deploy-42", **changed: Any) -> bytes:
    """Encode a round, with what differs from the one above."""
    row: dict[str, Any] = {
        "rules_version": 1,
        "changed_offset": 1900,
        "opened_offset": 1812,
        "opened_at_ms": NOON_MS + 120,
        "last_add_at_ms": NOON_MS + 1_000,
        "deadline_ms": NOON_MS + 61_000,
        "number_of_participants": 6,
        "callback": "cloudfront.invalidate",
        "params": b'["E1", "/*"]',
        "wait_ms": 60_000,
        "max_wait_ms": None,
        "linger_ms": 60_000,
        "conflict_count": 2,
        "arrived_count": 1,
        "first_arrivals": [],
        **changed,
    }
    return encode_fire(
        fire_id="fire_7",
        group_key=group_key,
        reason="timeout",
        row=OpenRound(**row),
        arrivals=[Arrival("web-1", NOON_MS + 120, "e")] if arrivals is None else arrivals,
        fired_at_ms=NOON_MS + 61_007,
        partition=3,
        closed_offset=1977,
    )


def read(value: bytes) -> dict[str, Any]:
    """Return the fire as an executor's JSON reader sees it."""
    found: dict[str, Any] = json.loads(value)
    return found


def test_a_fire_is_written_as_the_contract_says() -> None:
    """To the byte."""
    assert fire() == FIVE_OF_SIX


def test_what_is_written_is_what_the_schema_reads() -> None:
    """Writer and reader are two pieces of code."""
    found = decode_fire(fire())
    assert (found.fire_id, found.group_key, found.reason, found.arrived_count) == ("fire_7", "deploy-42", "timeout", 1)
    assert [(one.participant_key, one.at) for one in found.arrived] == [("web-1", "2026-11-24T12:00:00.120Z")]


@pytest.mark.parametrize("params", [b"[]", b"null", b'{"b":1,"a":[ 1.0 , 1e2 ]}', '"ü\\u00fc"'.encode(), b"0.10"])
def test_params_travel_as_the_bytes_that_they_came_as(params: bytes) -> None:
    """A number that is read and written again may be another number."""
    assert b'"execute_after_waiting_params":' + params + b"," in fire(params=params)


@pytest.mark.parametrize(
    ("wait_ms", "written"),
    [(60_000, b"60"), (250, b"0.25"), (1_100, b"1.1"), (1, b"0.001"), (2_592_000_000, b"2592000")],
)
def test_a_wait_is_an_integer_when_it_is_whole_seconds(wait_ms: int, written: bytes) -> None:
    """And else the shortest decimal."""
    assert b'"wait_time_in_seconds":' + written + b',"opened_at"' in fire(wait_ms=wait_ms)


@pytest.mark.parametrize(
    ("name", "written"),
    [("ü", b'"\xc3\xbc"'), ('a"b\\c', b'"a\\"b\\\\c"'), ("\u2028", b'"\xe2\x80\xa8"'), ("😀", b'"\xf0\x9f\x98\x80"')],
)
def test_names_are_utf8_and_escaped_only_where_json_demands_it(name: str, written: bytes) -> None:
    """Group and participants alike."""
    value = fire(group_key=name.encode(), arrivals=[Arrival(name, NOON_MS, None)])
    assert b'"group_key":' + written + b"," in value
    assert b'"participant_key":' + written + b"," in value


@pytest.mark.parametrize(("wanted", "arrived", "missing"), [(6, 5, 1), (2, 2, 0), (1, 3, 0)])
def test_missing_is_never_negative(wanted: int, arrived: int, missing: int) -> None:
    """N may have been lowered below what had arrived."""
    found = read(fire(number_of_participants=wanted, arrived_count=arrived))
    assert found["missing_count"] == missing


# -- who has arrived


def arrivals(count: int, name_size: int = 4, *, letter: str = "x") -> list[Arrival]:
    """Participants with names of a size."""
    return [Arrival(f"{number:04d}{letter * (name_size - 4)}", NOON_MS, None) for number in range(count)]


def test_all_are_named_while_they_fit() -> None:
    """A thousand short names do."""
    found = read(fire(arrivals=arrivals(1000), arrived_count=1000))
    assert len(found["arrived"]) == 1000
    assert not found["arrived_truncated"]


def test_the_count_is_exact_though_not_all_are_named() -> None:
    """The rows name the first thousand; the 1,001st is counted."""
    found = read(fire(arrivals=arrivals(1000), arrived_count=1001))
    assert (found["arrived_count"], len(found["arrived"]), found["arrived_truncated"]) == (1001, 1000, True)


@pytest.mark.parametrize("letter", ["x", "ü", '"', "\u2028"])
@pytest.mark.parametrize("size", [200, 251, 256])
def test_the_list_is_cut_at_its_size_and_not_one_name_earlier(size: int, letter: str) -> None:
    """As JSON is written, escapes and commas included."""
    everybody = arrivals(1000, size, letter=letter)
    value = fire(arrivals=everybody, arrived_count=1000)
    named = read(value)["arrived"]
    array = json.dumps(named, ensure_ascii=False, separators=(",", ":")).encode()
    one_more = json.dumps(
        [*named, {"participant_key": everybody[len(named) % 1000].participant_key, "at": rfc3339(NOON_MS)}],
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()
    assert b'"arrived":' + array + b"," in value
    assert len(array) <= ARRIVED_MAX_BYTES
    assert len(named) == 1000 or len(one_more) > ARRIVED_MAX_BYTES
    assert read(value)["arrived_truncated"] == (len(named) < 1000)


def test_a_short_list_of_the_longest_names_fits_unmeasured() -> None:
    """A hundred are not measured: 256 bytes each that JSON doubles, the most a key can do without control characters."""
    value = fire(arrivals=arrivals(100, 256, letter='"'), arrived_count=100)
    assert len(read(value)["arrived"]) == 100
    assert len(value) < ARRIVED_MAX_BYTES


def test_the_largest_fire_fits_into_its_topic() -> None:
    """The fullest list, the largest params and keys: well below the 4 MiB of the fires topic."""
    value = fire(
        arrivals=arrivals(1000, 256),
        arrived_count=100_000,
        params=b'"' + b"x" * 65_534 + b'"',
        group_key=b"g" * 256,
        callback="c" * 128,
    )
    assert len(value) < 512 * 1024


# -- names and times


@given(partition=st.integers(0, 100_000), offset=st.integers(0, 2**62), topic=st.uuids())
def test_a_fire_id_is_the_uuid5_that_it_says_it_is(partition: int, offset: int, topic: uuid.UUID) -> None:
    """The quick way to it is the standard's."""
    assert FireIds(topic, partition)(offset) == f"fire_{uuid.uuid5(topic, f'{partition}:{offset}')}"


def test_rounds_of_other_partitions_offsets_and_topics_have_other_ids() -> None:
    """Never a counter, which would begin anew when rows are purged."""
    ids = {
        FireIds(topic, partition)(offset)
        for topic in (TOPIC_ID, uuid.UUID(int=0))
        for partition in (0, 1, 11)
        for offset in (0, 1, 11)
    }
    assert len(ids) == 18


@given(at_ms=st.integers(0, 4_102_444_800_000))
def test_times_are_utc_with_three_digits(at_ms: int) -> None:
    """Whole milliseconds, truncated nowhere."""
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    assert rfc3339(at_ms) == expected.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_time_zero_is_the_epoch() -> None:
    """Before the first broker timestamp, T is 0."""
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
