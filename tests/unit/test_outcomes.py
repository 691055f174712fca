"""The records of the outcomes topic: layout, keys, and what is refused."""

from __future__ import annotations

import json
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from executor_world import fire_value
from wait_for_me_app.outcomes import (
    DamagedOutcome,
    Finished,
    NewerOutcome,
    Progress,
    decode_outcome,
    encode_outcome,
    final_key,
    parse_key,
    progress_key,
    uuid_of,
)

FIRE_ID = "fire_6f1de2cb-7b3a-5a3b-8a51-0d4a4ac2b9d0"
FIRE = fire_value(fire_id=FIRE_ID, params={"pfad": "/ü", "n": 1.50})


def progress(**changes: object) -> Progress:
    """Return the progress of a fire whose attempt has started."""
    fields: dict[str, object] = {
        "fire_id": FIRE_ID,
        "group_key": "deploy-42",
        "callback": "cdn.clear",
        "partition": 2,
        "offset": 7,
        "revision": 2,
        "attempt": 1,
        "state": "started",
        "accepted_at_ms": 1_800_000_000_000,
        "started_at_ms": 1_800_000_000_100,
        "time_limit_ms": 60_000,
        "executor": "host:12",
        "key": b"deploy-42",
        "fire": Raw(FIRE),
    }
    return Progress(**{**fields, **changes})  # type: ignore[arg-type]


RECORDED_STARTED = (
    b'{"type":"progress","fire_id":"fire_6f1de2cb-7b3a-5a3b-8a51-0d4a4ac2b9d0","group_key":"deploy-42",'
    b'"callback":"cdn.clear","partition":2,"offset":7,"revision":2,"attempt":1,"state":"started",'
    b'"accepted_at_ms":1800000000000,"started_at_ms":1800000000100,"time_limit_ms":60000,"executor":"host:12",'
    b'"key":"ZGVwbG95LTQy","fire":' + FIRE + b"}"
)
RECORDED_DEAD = (
    b'{"type":"final","fire_id":"fire_6f1de2cb-7b3a-5a3b-8a51-0d4a4ac2b9d0","group_key":"deploy-42",'
    b'"callback":"cdn.clear","partition":2,"offset":7,"revision":9,"attempt":3,"state":"dead",'
    b'"finished_at_ms":1800000009000,"executor":"host:12","error":"callback_failed","reason":"ValueError: no"}'
)


def test_progress_is_written_as_recorded() -> None:
    """The bytes of version 1: a change here needs a new version and a reader for both."""
    assert encode_outcome(progress()) == RECORDED_STARTED
    assert decode_outcome(RECORDED_STARTED) == progress()


def test_a_final_outcome_is_read_as_recorded() -> None:
    """The bytes of version 1 are read for ever."""
    outcome = decode_outcome(RECORDED_DEAD)
    assert isinstance(outcome, Finished)
    assert (outcome.state, outcome.error, outcome.reason) == ("dead", "callback_failed", "ValueError: no")
    assert encode_outcome(outcome) == RECORDED_DEAD


def test_the_fire_comes_back_byte_for_byte() -> None:
    """Its params are not re-encoded: 1.50 stays 1.50, and what is not ASCII stays as it was."""
    read = decode_outcome(encode_outcome(progress()))
    assert isinstance(read, Progress)
    assert read.fire_bytes == FIRE
    assert json.loads(read.fire_bytes)["execute_after_waiting_params"]["n"] == 1.5


@given(
    st.text(max_size=20),
    st.binary(max_size=20) | st.none(),
    st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5) | st.none()), max_size=3),
    st.integers(0, 2**53),
)
def test_whatever_is_written_is_read_back(
    group_key: str, key: bytes | None, headers: list[tuple[str, bytes | None]], offset: int
) -> None:
    """Keys and headers are bytes of any kind."""
    written = progress(group_key=group_key, key=key, headers=tuple(headers), offset=offset)
    assert decode_outcome(encode_outcome(written)) == written


@given(st.uuids())
def test_keys_name_their_fire(of: uuid.UUID) -> None:
    """Both keys lead back to the 16 bytes of the fire_id, and tell which of the two they are."""
    fire_id = f"fire_{of}"
    assert uuid_of(fire_id) == of.bytes
    assert parse_key(final_key(fire_id)) == (of.bytes, False)
    assert parse_key(progress_key(fire_id)) == (of.bytes, True)


@pytest.mark.parametrize("text", ["", "fire_", FIRE_ID.upper(), FIRE_ID[5:], FIRE_ID + "0", "fire_{x}", FIRE_ID + "\n"])
def test_what_is_no_fire_id_is_not_taken_for_one(text: str) -> None:
    """One spelling only: two spellings of one id would be run twice."""
    assert uuid_of(text) is None
    assert parse_key(text.encode()) is None
    assert parse_key(None) is None


@given(
    st.binary(max_size=60) | st.sampled_from([b"null", b"{}", b'{"type":"progress"}', b'{"type":"final"}', b"[" * 2000])
)
def test_bytes_of_any_kind_are_an_outcome_or_damaged(value: bytes) -> None:
    """Nothing else comes out of decoding."""
    with pytest.raises(DamagedOutcome):
        decode_outcome(value)


def test_a_record_of_a_later_release_is_not_judged() -> None:
    """Skipping it would forget a fire; the remedy is to run that release."""
    with pytest.raises(NewerOutcome, match="run the release that wrote it"):
        decode_outcome(b'{"type":"progress","version":2,"new":"layout"}')
