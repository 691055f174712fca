"""Bytes of rows: what is written is read again, by this release and by those that come."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wait_for_me_app.core.rows import Arrival, ClosedRound, OpenRound, Strike, Watermark
from wait_for_me_app.storage import row_codec
from wait_for_me_app.storage.row_codec import DamagedRow

MS = st.integers(0, 2**50)
COUNTS = st.integers(0, 100_000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
arrivals = st.builds(Arrival, participant_key=TEXTS, at_ms=MS, event_id=st.none() | TEXTS)
open_rounds = st.builds(
    OpenRound,
    rules_version=st.just(1),
    changed_offset=MS,
    opened_offset=MS,
    opened_at_ms=MS,
    last_add_at_ms=MS,
    deadline_ms=MS,
    number_of_participants=COUNTS,
    callback=TEXTS,
    params=st.binary(max_size=30),
    wait_ms=MS,
    max_wait_ms=st.none() | MS,
    linger_ms=MS,
    conflict_count=COUNTS,
    arrived_count=COUNTS,
    first_arrivals=st.lists(arrivals, max_size=3),
)
closed_rounds = st.builds(
    ClosedRound,
    rules_version=st.just(1),
    changed_offset=MS,
    opened_offset=MS,
    reason=st.sampled_from(["complete", "timeout", "removed"]),
    closed_at_ms=MS,
    closed_offset=MS,
    linger_ms=MS,
    number_of_participants=COUNTS,
    arrived_count=COUNTS,
    late_count=COUNTS,
)
watermarks = st.builds(
    Watermark,
    offset=st.integers(-1, 2**50),
    stream_time_ms=MS,
    topic_id=TEXTS,
    partitions=COUNTS,
    rerouted=st.dictionaries(COUNTS, MS, max_size=3),
)
strikes = st.builds(Strike, offset=MS, error=TEXTS)

OPEN = OpenRound(
    rules_version=1,
    changed_offset=7,
    opened_offset=5,
    opened_at_ms=1_000,
    last_add_at_ms=2_000,
    deadline_ms=62_000,
    number_of_participants=3,
    callback="c",
    params=b"[1]",
    wait_ms=60_000,
    max_wait_ms=None,
    linger_ms=60_000,
    conflict_count=0,
    arrived_count=1,
    first_arrivals=[Arrival("p", 1_000, "e")],
)
OPEN_BYTES = bytes.fromhex(
    "01000000000000f230dc001001010705cd03e8cd07d0cdf23003a163c4035b315dcdea60c0cdea60000191"
) + bytes.fromhex("93a170cd03e8a165")
"""What the first release writes for OPEN. A later one must still read it."""


@given(row=open_rounds | closed_rounds)
def test_a_round_comes_back_as_it_went(row: Any) -> None:
    """Every field, whichever of the two states it is."""
    assert row_codec.decode_round(b"G", row_codec.encode_round(row)) == row


@given(row=open_rounds | closed_rounds)
def test_the_due_time_stands_where_the_index_looks_for_it(row: Any) -> None:
    """Rebuilding the deadlines reads eight bytes a row and decodes nothing."""
    assert int.from_bytes(row_codec.due_bytes_of(row_codec.encode_round(row)), "big") == row.due_ms


@given(row=arrivals)
def test_an_arrival_comes_back_as_it_went(row: Arrival) -> None:
    """Participants' and arrivals' rows share a form."""
    assert row_codec.decode_arrival(b"P", row_codec.encode_other(row)) == row


@given(row=watermarks)
def test_a_watermark_comes_back_as_it_went(row: Watermark) -> None:
    """Also -1, when nothing has been folded, and the offsets of re-sent commands."""
    assert row_codec.decode_watermark(b"W", row_codec.encode_other(row)) == row


@given(row=strikes)
def test_a_strike_comes_back_as_it_went(row: Strike) -> None:
    """Offset and error."""
    assert row_codec.decode_strike(b"S", row_codec.encode_other(row)) == row


def test_rows_that_were_written_by_the_first_release_are_read_for_ever() -> None:
    """Recorded bytes: they are in changelogs, and a rewrite of the codec must not lose them."""
    assert row_codec.encode_round(OPEN) == OPEN_BYTES
    assert row_codec.decode_round(b"G", OPEN_BYTES) == OPEN


DECODERS = [
    row_codec.decode_round,
    row_codec.decode_arrival,
    row_codec.decode_watermark,
    row_codec.decode_strike,
]


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x01",
        b"\x02" + OPEN_BYTES[1:],
        b"\x01" + bytes(8) + b"\xc1",
        b"\x01\x93\xa1p",
        b"\x01\x90",
        b"{}",
        b"\x01\x93\xa1\x80\x00\xc0",
        OPEN_BYTES.replace(b"\xa1c\xc4", b"\xa1\x80\xc4"),
    ],
)
def test_bytes_that_are_no_row_are_a_damaged_row(decode: Any, value: bytes) -> None:
    """Not a crash of another kind: the lane judges a DamagedRow, and the message says which row and why."""
    with pytest.raises(DamagedRow, match="cannot be read") as caught:
        decode(b"Gkey", value)
    assert (caught.value.row_key, caught.value.value) == (b"Gkey", value)


@pytest.mark.parametrize("decode", DECODERS)
@given(value=st.binary(max_size=40).map(b"\x01".__add__))
def test_whatever_stands_in_a_row_it_is_read_or_it_is_damaged(decode: Any, value: bytes) -> None:
    """There is no third way: a raw error of a library would be taken for the record's fault."""
    with contextlib.suppress(DamagedRow):
        decode(b"Gkey", value)


@given(row=open_rounds | closed_rounds)
def test_an_open_round_is_told_from_a_closed_one_by_its_bytes(row: Any) -> None:
    """Counting those that wait must not decode a million rows."""
    assert row_codec.is_open_round(row_codec.encode_round(row)) == isinstance(row, OpenRound)


def test_nonsense_is_no_open_round() -> None:
    """A damaged row is not counted, and does not stop the count."""
    assert not any(row_codec.is_open_round(value) for value in (b"", b"\x01", b"\x01damaged!"))


def test_another_format_is_named_with_the_one_that_this_release_reads() -> None:
    """After a downgrade the operator learns which of the two is older."""
    with pytest.raises(DamagedRow, match="its format is 02, this release reads 01"):
        row_codec.decode_round(b"G", b"\x02" + OPEN_BYTES[1:])
