"""What is sent is equal for all and legal for us."""

from __future__ import annotations

from collections import Counter

from benchmarks.load import VALUE_BYTES, Load, add_around_key

from wait_for_me.codec import decode_command
from wait_for_me.commands import Add


def test_every_value_has_the_same_size_and_is_a_legal_add() -> None:
    """Two hundred and thirty-one bytes, group key included."""
    for key, value in Load(name="group", groups=3).backlog():
        command = decode_command(key, value, ())
        assert isinstance(command, Add)
        assert len(value) == VALUE_BYTES


def test_a_backlog_goes_round_a_block_of_groups_for_each_participant() -> None:
    """So groups stay open for a while, and every one gets all its participants."""
    load = Load(name="group", groups=1001, participants=2)
    keys = [key for key, _ in load.backlog()]
    assert keys[:1000] == keys[1000:2000] == [load.key(group) for group in range(1000)]
    assert set(Counter(keys).values()) == {2}
    assert len(keys) == load.adds


def test_group_by_group_sends_the_same_adds() -> None:
    """Only the order differs."""
    load = Load(name="group", groups=7)
    assert sorted(load.backlog()) == sorted(load.one_after_another())


def test_openings_are_the_first_adds() -> None:
    """One a group, so that all stay open."""
    load = Load(name="group", groups=5)
    assert list(load.openings()) == list(load.one_after_another())[::5]


def test_fields_may_be_others() -> None:
    """A scenario sets what it is about."""
    before, after = add_around_key("host-0", 2, 3, wait_time_in_seconds=0.25)
    command = decode_command(b"abc", before + b"abc" + after, ())
    assert isinstance(command, Add)
    assert command.wait_ms == 250
