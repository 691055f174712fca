"""The pure parts of the dead letter tool: four families of headers, markers, filters, copies, and what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wait_for_me.topic_names import TopicNames
from wait_for_me_app.dead_letters import dead_letter
from wait_for_me_app.dlq import shown
from wait_for_me_app.dlq.copies import CannotRetry, copy_of
from wait_for_me_app.dlq.handled import Handled, is_marker, markers
from wait_for_me_app.dlq.letters import BRIEF_VALUE_BYTES, Box, Letter, Origin, json_members, letter, origin_of
from wait_for_me_app.dlq.selection import LetterId, NotUnderstood, Selection, parse_id, parse_since

TOPICS = TopicNames()
AT = "2026-11-24T02:10:00Z"


def a_letter(box: Box = "fires", headers: Any = None, **changes: Any) -> Letter:
    """Return a letter as a worker or an executor writes it."""
    key, value, made = dead_letter(
        topic=TOPICS.fires if box == "fires" else TOPICS.commands,
        partition=3,
        offset=1812,
        key=b"deploy-42",
        value=changes.pop("value", b'{"group_key": "deploy-42"}'),
        headers=[("traceparent", b"00-1"), ("wfm_event_id", b"e")],
        group="wait-for-me-executor",
        stage="callback",
        code="callback_failed",
        message="503",
        delivery_count=8,
        fire_id="fire_1" if box == "fires" else None,
    )
    fields = {"partition": 3, "offset": 17, "at_ms": 1_000, "key": key, "value": value, **changes}
    return letter(box, headers=tuple(made) if headers is None else headers, **fields)


# --- families of headers ---------------------------------------------------------------------------------------------


def test_our_own_letters_are_read_as_they_are_written() -> None:
    """Kafka's names, and ours on top."""
    assert a_letter().origin == Origin(
        family="kafka",
        topic="wait-for-me.fires",
        partition=3,
        offset=1812,
        group="wait-for-me-executor",
        deliveries=8,
        stage="callback",
        code="callback_failed",
        message="503",
        fire_id="fire_1",
    )


def test_letters_of_kafka_streams_are_read() -> None:
    """KIP-1034."""
    headers = (
        ("__streams.errors.exception", b"org.apache.kafka.SerializationException"),
        ("__streams.errors.message", b"Size of data"),
        ("__streams.errors.topic", b"wait-for-me.commands"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"1812"),
        ("__streams.errors.stacktrace", b"at ..."),
    )
    assert origin_of(headers) == Origin(
        family="streams",
        topic="wait-for-me.commands",
        partition=3,
        offset=1812,
        code="org.apache.kafka.SerializationException",
        message="Size of data",
    )


def test_letters_of_kafka_connect_are_read() -> None:
    """With the connector for a group."""
    headers = (
        ("__connect.errors.topic", b"t"),
        ("__connect.errors.partition", b"3"),
        ("__connect.errors.offset", b"1812"),
        ("__connect.errors.connector.name", b"sink"),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.exception.class.name", b"DataException"),
        ("__connect.errors.exception.message", b"no schema"),
    )
    assert origin_of(headers) == Origin(
        family="connect",
        topic="t",
        partition=3,
        offset=1812,
        group="sink",
        stage="VALUE_CONVERTER",
        code="DataException",
        message="no schema",
    )


@pytest.mark.parametrize(
    ("partition", "offset"),
    [((3).to_bytes(4, "big"), (1812).to_bytes(8, "big")), (b"3", b"1812"), (b"0003", b"00001812")],
)
def test_letters_of_spring_are_read_numbers_in_bytes_or_text(partition: bytes, offset: bytes) -> None:
    """Spring writes big-endian bytes; text of the same length is told from them by its size."""
    headers = (
        ("kafka_dlt-original-topic", b"t"),
        ("kafka_dlt-original-partition", partition),
        ("kafka_dlt-original-offset", offset),
        ("kafka_dlt-original-consumer-group", b"g"),
        ("kafka_dlt-exception-fqcn", b"ListenerExecutionFailedException"),
        ("kafka_dlt-exception-cause-fqcn", b"IllegalStateException"),
        ("kafka_dlt-exception-message", b"no"),
    )
    assert origin_of(headers) == Origin(
        family="spring", topic="t", partition=3, offset=1812, group="g", code="IllegalStateException", message="no"
    )


@pytest.mark.parametrize("value", [None, b"", b"x", b"-1", b"1" * 30, b"\xff", "٣".encode()])
def test_a_number_that_is_none_counts_as_not_said(value: bytes | None) -> None:
    """Anybody may have written the header."""
    assert origin_of((("__dlq.errors.topic", b"t"), ("__dlq.errors.offset", value))).offset is None


def test_of_two_headers_with_one_name_the_last_counts() -> None:
    """A letter that became a letter again carries both."""
    assert origin_of((("__dlq.errors.topic", b"old"), ("__dlq.errors.topic", b"new"))).topic == "new"


def test_a_record_without_any_such_header_has_an_unknown_origin() -> None:
    """Somebody has written it by hand."""
    assert origin_of(()) == Origin()


@given(st.lists(st.tuples(st.text(), st.none() | st.binary())), st.none() | st.binary(), st.none() | st.binary())
def test_no_headers_key_or_value_make_reading_or_showing_fail(headers: Any, key: Any, value: Any) -> None:
    """Whatever was set aside must be listed, or nobody can deal with it."""
    one = letter("commands", 0, 0, 0, key, value, tuple(headers))
    assert "\n" not in shown.line(one)
    assert list(shown.page(one))
    json.dumps([json_members(one), shown.members(one)])


# --- markers ---------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_what_markers_say_is_what_was_handled(first: set[int], second: set[int]) -> None:
    """In any order, with overlaps."""
    handled = Handled()
    for offsets in (second, first):
        for headers in markers(offsets, "retried", "ann", AT):
            assert is_marker(headers)
            handled.take(headers)
    assert {offset for offset in range(62) if offset in handled} == first | second


def test_thousands_of_neighbours_take_one_short_marker() -> None:
    """It names ranges."""
    (headers,) = markers(range(100_000), "discarded", "ann", AT)
    assert dict(headers) == {
        "wfm_handled": b"discarded",
        "wfm_handled_offsets": b"0-99999",
        "wfm_handled_by": b"ann",
        "wfm_handled_at": AT.encode(),
    }


def test_scattered_letters_take_several_markers() -> None:
    """None of which is too large for Kafka."""
    made = list(markers(range(0, 20_000, 2), "retried", "ann", AT))
    assert len(made) == 3
    assert all(sum(len(value or b"") for _, value in headers) < 100_000 for headers in made)


def test_a_marker_that_cannot_be_read_hides_no_letter() -> None:
    """Better shown twice than never."""
    handled = Handled()
    for text in (b"", b"x", b"5-", b"-5", b"9-5", b"\xff", None):
        handled.take((("wfm_handled_offsets", text),))
    assert not any(offset in handled for offset in range(20))


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selection", "takes"),
    [
        (Selection(), True),
        (Selection(box="fires"), True),
        (Selection(box="commands"), False),
        (Selection(stage="callback", code="callback_failed"), True),
        (Selection(stage="decode"), False),
        (Selection(code="callback_failed", group="other"), False),
        (Selection(group="deploy-42"), True),
        (Selection(fire_id="fire_1"), True),
        (Selection(fire_id="fire_2"), False),
        (Selection(since_ms=1_000), True),
        (Selection(since_ms=1_001), False),
        (Selection(ids=frozenset({LetterId("fires", 3, 17)})), True),
        (Selection(ids=frozenset({LetterId("commands", 3, 17)})), False),
        (Selection(ids=frozenset({LetterId("fires", 3, 17)}), stage="decode"), False),
    ],
)
def test_a_letter_is_meant_if_it_fits_all_filters(selection: Selection, takes: bool) -> None:
    """Ids are a filter too."""
    assert selection.takes(a_letter()) is takes


def test_the_group_is_that_of_the_value_or_else_the_key() -> None:
    """They differ when that is what the letter was set aside for."""
    assert a_letter(key=b"other").group_key == "deploy-42"
    assert a_letter(value=b"{").group_key == "deploy-42"
    assert a_letter(value=None, key=b"\xff").group_key == "�"
    assert a_letter(value=None, key=None).group_key is None


def test_only_the_topics_that_are_meant_are_read() -> None:
    """A cluster of dead commands need not be read for one fire."""
    assert Selection().boxes == ("commands", "fires")
    assert Selection(box="fires").boxes == ("fires",)
    assert Selection(ids=frozenset({LetterId("commands", 0, 0)})).boxes == ("commands",)


@pytest.mark.parametrize("text", ["", "fires", "fires:1", "fires:x:1", "fires:1:-1", "other:1:1", "fires:1:1:1", "1:1"])
def test_an_id_that_is_none_is_told_how_to_be_one(text: str) -> None:
    """As `dlq list` shows them."""
    with pytest.raises(NotUnderstood, match="write such as fires:3:17"):
        parse_id(text)


def test_ids_read_as_they_are_shown() -> None:
    """So that they can be copied."""
    assert str(parse_id(a_letter().id)) == a_letter().id


@pytest.mark.parametrize(
    ("text", "ms"),
    [("10s", 90_000), ("1m", 40_000), ("1970-01-01T00:00:05Z", 5_000), ("1970-01-01T01:00:05+01:00", 5_000)],
)
def test_a_time_is_an_age_or_a_date(text: str, ms: int) -> None:
    """UTC if it does not say otherwise."""
    assert parse_since(text, 100_000) == ms
    assert parse_since("1970-01-01 00:00:05", 100_000) == 5_000


@pytest.mark.parametrize("text", ["", "yesterday", "5", "m", "-5m", "5w"])
def test_a_time_that_is_none_is_told_how_to_be_one(text: str) -> None:
    """With an example of each form."""
    with pytest.raises(NotUnderstood, match="write an age such as 30m"):
        parse_since(text, 0)


# --- copies ----------------------------------------------------------------------------------------------------------


def test_a_fire_goes_back_to_its_own_partition_with_who_asked_and_when() -> None:
    """Its value is untouched, so the fire_id is the same; headers of others stay, those of dead letters go."""
    copy = copy_of(a_letter(), TOPICS, "ann", AT)
    assert (copy.topic, copy.partition, copy.key) == ("wait-for-me.fires", 3, b"deploy-42")
    assert copy.value == b'{"group_key": "deploy-42"}'
    assert copy.headers == (
        ("traceparent", b"00-1"),
        ("wfm_event_id", b"e"),
        ("wfm_retried_by", b"ann"),
        ("wfm_retried_at", AT.encode()),
    )


def test_a_command_goes_where_its_key_belongs() -> None:
    """Which mends one that was misplaced; the mark that it was sent on must go, or it would be dropped as a copy."""
    one = a_letter("commands")
    rerouted = a_letter("commands", headers=(*one.headers, ("wfm_rerouted", b"1:2")))
    copy = copy_of(rerouted, TOPICS, "ann", AT)
    assert (copy.topic, copy.partition) == ("wait-for-me.commands", None)
    assert "wfm_rerouted" not in dict(copy.headers)


def test_a_second_retry_says_only_who_asked_last() -> None:
    """The marks of the first one are replaced."""
    first = copy_of(a_letter(), TOPICS, "ann", AT)
    again = copy_of(a_letter(headers=(*a_letter().headers, *first.headers[-2:])), TOPICS, "bob", AT)
    assert [value for name, value in again.headers if name == "wfm_retried_by"] == [b"bob"]


@pytest.mark.parametrize(
    "name",
    [
        "__dlq.errors.message",
        "__streams.errors.stacktrace",
        "__connect.errors.task.id",
        "kafka_dlt-exception-stacktrace",
    ],
)
def test_headers_of_all_families_are_taken_off(name: str) -> None:
    """Or they would grow with every round."""
    one = a_letter(headers=(*a_letter().headers, (name, b"x")))
    assert name not in dict(copy_of(one, TOPICS, "ann", AT).headers)


@pytest.mark.parametrize(
    ("box", "headers", "said"),
    [
        ("fires", (), "do not say which topic"),
        ("fires", (("__dlq.errors.topic", b"__consumer_offsets"),), r"only wait-for-me\.fires is written to"),
        ("fires", (("__dlq.errors.topic", b"wait-for-me.commands"),), r"only wait-for-me\.fires is written to"),
        ("fires", (("__dlq.errors.topic", b"wait-for-me.outcomes"),), r"only wait-for-me\.fires is written to"),
        ("commands", (("__dlq.errors.topic", b"wait-for-me.fires"),), r"only wait-for-me\.commands is written to"),
        (
            "fires",
            (("__dlq.errors.topic", b"wait-for-me.fires"), ("wfm_truncated_bytes", b"9")),
            "only the beginning of its value was kept",
        ),
    ],
)
def test_a_letter_that_cannot_go_back_says_why(box: Box, headers: Any, said: str) -> None:
    """Nothing in it can make the operator's rights write to another topic."""
    with pytest.raises(CannotRetry, match=said):
        copy_of(a_letter(box, headers=headers), TOPICS, "ann", AT)


# --- what is shown ---------------------------------------------------------------------------------------------------


def test_a_line_is_one_line_and_steers_no_terminal() -> None:
    """Whatever the headers hold."""
    evil = a_letter(headers=(("__dlq.errors.message", b"\x1b[2Jgone\r\nfake line"), ("wfm_error", b"a\nb")))
    text = shown.line(evil)
    assert text.isprintable()
    assert r"\x1b[2Jgone\r\nfake line" in text


def test_long_things_are_cut_and_say_so() -> None:
    """A page has an end."""
    assert shown.escaped("x" * 30, 10) == "x" * 10 + "…"
    page = "\n".join(shown.page(a_letter(value=b"y" * 100_000)))
    assert "value       100000 bytes: yyy" in page
    assert len(page) < 10_000


def test_in_brief_a_letter_keeps_its_size_and_the_beginning_of_its_value() -> None:
    """So that a list of thousands fits into memory."""
    brief = a_letter(value=b"y" * 100_000).brief()
    assert (len(brief.value or b""), brief.size) == (BRIEF_VALUE_BYTES, 100_000)
    assert a_letter(value=None).brief().value is None


def test_bytes_that_are_no_text_are_shown_as_base64_in_json() -> None:
    """JSON has no other way."""
    assert shown.members(a_letter(value=b"\xff"))["value"] == {"base64": "/w=="}
    assert shown.members(a_letter(value=None))["value"] == {"text": None}
