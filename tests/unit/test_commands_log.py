"""The commands log: continued where it can be, refused with the remedy where it cannot."""

from __future__ import annotations

import uuid

import pytest

from wait_for_me_app.commands_log import CommandsLogCheck, RefusedLog

TOPIC = uuid.UUID("7d3c1f9e-0b5a-4a77-9d2e-3f6a1c8b5e40")
OTHER = uuid.UUID("11111111-2222-5333-8444-555555555555")


def check(first: int = 10, end: int = 20) -> CommandsLogCheck:
    """A topic whose second partition has these offsets."""
    return CommandsLogCheck(
        topic="t.commands", topic_id=TOPIC, partitions=2, first_offsets=[0, first], end_offsets=[0, end]
    )


@pytest.mark.parametrize(
    ("watermark", "expected"),
    [(9, 10), (10, 11), (18, 19), (19, 20)],
    ids=["all of it", "the second", "the last", "what comes next"],
)
def test_a_lane_goes_on_behind_its_watermark(watermark: int, expected: int) -> None:
    """Also at the end, where the next record has not been written yet, and at the very beginning."""
    assert check().position(1, watermark) == expected


@pytest.mark.parametrize(("first", "end"), [(0, 0), (0, 7), (5, 7), (7, 7)])
def test_a_lane_that_has_folded_nothing_begins_with_the_first_record_that_there_is(first: int, end: int) -> None:
    """Even if that is not offset 0: nothing was promised for what came before."""
    assert check(first, end).position(1, -1) == first


def test_a_log_that_begins_after_the_watermark_is_refused() -> None:
    """Retention has deleted commands that nobody folded: which partition, which offsets, and what to do."""
    with pytest.raises(RefusedLog) as caught:
        check().position(1, 8)
    message = str(caught.value)
    assert "t.commands 1 begins at offset 10, but the next command to fold is 9" in message
    assert "To go on with what is left, reset this deployment's changelog" in message
    assert "docs/operations.md" in message
    assert message.endswith("raise retention.ms.")


def test_a_log_that_ends_before_the_watermark_is_refused() -> None:
    """A truncated disk: offsets will be given again, to other commands."""
    with pytest.raises(RefusedLog) as caught:
        check().position(1, 20)
    message = str(caught.value)
    assert "t.commands 1 ends at offset 20, but 20 has been folded: the log was truncated" in message
    assert "Restore the topic, or start anew under another WAIT_FOR_ME_PREFIX" in message


def test_a_topic_that_was_created_again_is_refused() -> None:
    """Its offsets mean something else; both ids are named."""
    with pytest.raises(RefusedLog) as caught:
        check().refuse_other_topic(OTHER, 2)
    message = str(caught.value)
    assert f"was deleted and created again (id {TOPIC}, folded was {OTHER})" in message
    assert message.endswith(
        "Delete this deployment's changelog topic too, or start anew under another WAIT_FOR_ME_PREFIX."
    )


@pytest.mark.parametrize("folded_with", [1, 3])
def test_another_number_of_partitions_is_refused(folded_with: int) -> None:
    """Groups have moved between partitions, whether there are more or fewer now."""
    with pytest.raises(RefusedLog) as caught:
        check().refuse_other_topic(TOPIC, folded_with)
    message = str(caught.value)
    assert f"has 2 partitions, but was folded with {folded_with}" in message
    assert message.endswith("start anew under another WAIT_FOR_ME_PREFIX with the count that you want.")


def test_the_topic_that_was_folded_is_not_refused() -> None:
    """The usual case says nothing."""
    check().refuse_other_topic(TOPIC, 2)


def test_the_sections_that_a_refusal_names_exist() -> None:
    """An operator who is sent to the documentation finds the heading there."""
    from pathlib import Path

    operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    headings = [line.lstrip("#").strip() for line in operations.splitlines() if line.startswith("#")]
    for wanted in ("The log begins after the watermark", "The log ends before the watermark"):
        assert wanted in headings
