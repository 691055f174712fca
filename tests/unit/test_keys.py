"""Row keys: told apart, taken apart, and in an order that keeps a round together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wait_for_me_app.storage import keys

GROUP_KEYS = st.binary(min_size=1, max_size=256)
OFFSETS = st.integers(0, 2**63 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


def test_the_layout_is_the_one_that_is_drawn() -> None:
    """The bytes are in changelogs of deployments that run: they never change."""
    assert keys.group_row_key(b"ab") == b"G\x00\x02ab"
    assert keys.participant_row_key(b"ab", 258, "é") == b"P\x00\x02ab\x00\x00\x00\x00\x00\x00\x01\x02\xc3\xa9"
    assert keys.arrival_row_key(b"ab", 258, 9) == b"A\x00\x02ab\x00\x00\x00\x00\x00\x00\x01\x02\x00\x00\x00\x09"
    assert (keys.WATERMARK_KEY, keys.STRIKE_KEY) == (b"W", b"S")


@given(group_key=GROUP_KEYS, offset=OFFSETS, name=NAMES, index=st.integers(0, 2**32 - 1))
def test_a_row_key_says_whose_it_is(group_key: bytes, offset: int, name: str, index: int) -> None:
    """Group key and round come back out of every key that has them."""
    for row_key in (keys.participant_row_key(group_key, offset, name), keys.arrival_row_key(group_key, offset, index)):
        assert keys.group_key_of(row_key) == group_key
        assert keys.opened_offset_of(row_key) == offset
    assert keys.group_key_of(keys.group_row_key(group_key)) == group_key


@given(
    one=st.tuples(st.binary(min_size=1, max_size=5), st.integers(0, 300), NAMES),
    other=st.tuples(st.binary(min_size=1, max_size=5), st.integers(0, 300), NAMES),
)
def test_no_key_of_one_round_looks_like_a_key_of_another(
    one: tuple[bytes, int, str], other: tuple[bytes, int, str]
) -> None:
    """The length in front keeps group `a` with participant `bx` apart from group `ab` with participant `x`."""
    inside = keys.participant_row_key(*one).startswith(keys.round_prefix(keys.PARTICIPANT, other[0], other[1]))
    assert inside == (one[:2] == other[:2])


@given(group_key=GROUP_KEYS, offset=OFFSETS, indexes=st.lists(st.integers(0, 2**32 - 1), unique=True))
def test_arrivals_stand_in_the_order_of_arrival(group_key: bytes, offset: int, indexes: list[int]) -> None:
    """Big-endian numbers: the order of bytes is the order of arrival."""
    by_bytes = sorted(indexes, key=lambda index: keys.arrival_row_key(group_key, offset, index))
    assert by_bytes == sorted(indexes)


@given(prefix=st.binary(min_size=1, max_size=12).map(b"P".__add__), tail=st.binary(max_size=6))
def test_what_comes_after_a_prefix_is_above_all_that_begins_with_it(prefix: bytes, tail: bytes) -> None:
    """The end of a round's keys, however many 0xff bytes it ends with."""
    assert prefix + tail < keys.after(prefix)


@pytest.mark.parametrize(("prefix", "expected"), [(b"P\x01", b"P\x02"), (b"P\x01\xff\xff", b"P\x02"), (b"P\xff", b"Q")])
def test_what_comes_after_a_prefix_is_the_smallest_such_key(prefix: bytes, expected: bytes) -> None:
    """Not too far either: the next round must not be skipped."""
    assert keys.after(prefix) == expected
