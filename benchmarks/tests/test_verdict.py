"""A fast wrong answer is no answer: what the judge lets through, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from benchmarks.load import Load
from benchmarks.verdict import WrongAnswer, judge, read_ours, read_peers

LOAD = Load(name="group", groups=2, participants=2)


@dataclass(frozen=True)
class Record:
    """A record of the fires topic."""

    group: int
    body: dict[str, Any]
    at_ms: int = 1000
    stored_under: bytes | None = None

    def key(self) -> bytes:
        return self.stored_under or LOAD.key(self.group)

    def value(self) -> bytes:
        return json.dumps(self.body).encode()

    def timestamp(self) -> tuple[int, int]:
        return 2, self.at_ms


def fire(
    group: int,
    *,
    reason: str = "complete",
    participants: Iterable[str] = ("host-0", "host-1"),
    at_ms: int = 1000,
    **more: Any,
) -> Record:
    body = {"group_key": LOAD.key(group).decode(), "reason": reason, "participants": list(participants), **more}
    return Record(group, body, at_ms)


def test_every_group_fired_once_is_right() -> None:
    """The fires are kept with the times at which they were appended."""
    fires = judge([fire(0, at_ms=1005), fire(1, at_ms=1007)], [LOAD], read_peers)
    assert sorted(fires.times(LOAD)) == [1005, 1007]
    assert fires.copies == 0


def test_equal_copies_are_counted_and_the_first_one_has_the_time() -> None:
    """A system may repeat a fire after a crash if both say the same."""
    fires = judge([fire(0, at_ms=1009), fire(1), fire(0, at_ms=1001)], [LOAD], read_peers)
    assert fires.copies == 1
    assert fires.first_at_ms[LOAD.key(0)] == 1001


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([fire(0)], "never fired"),
        ([fire(0), fire(0, more=1), fire(1)], "fired twice"),
        ([fire(0, reason="timeout"), fire(1)], "timeout"),
        ([fire(0, participants=["host-0"]), fire(1)], "fired for 1 members"),
        ([fire(0, participants=["host-0", "host-0"]), fire(1)], "fired for 2 members"),
        ([fire(0, participants=["host-0", "host-7"]), fire(1)], "fired for 2 members"),
        ([fire(0), fire(1), fire(2)], "nobody asked for"),
        ([fire(0), Record(1, fire(0).body)], "nobody asked for"),
    ],
)
def test_a_wrong_fire_ends_the_measurement(records: list[Record], words: str) -> None:
    """Whatever is missing, repeated differently, early, or for other members is no answer."""
    with pytest.raises(WrongAnswer, match=words):
        judge(records, [LOAD], read_peers)


def test_a_fire_of_ours_names_its_members_and_counts_them() -> None:
    """The members are those that arrived."""
    body = {
        "type": "fire",
        "group_key": "g",
        "reason": "complete",
        "arrived_count": 1,
        "arrived": [{"participant_key": "a", "at": "x"}],
    }
    answer = read_ours(json.dumps(body).encode())
    assert (answer.members, answer.count) == (["a"], 1)


def test_a_large_group_needs_to_name_a_thousand_only() -> None:
    """The rest is counted; a fire that names fewer than it could is wrong."""
    load = Load(name="group", groups=1, participants=1500)
    names = [{"participant_key": f"host-{number}"} for number in range(1000)]
    body = {"group_key": load.key(0).decode(), "reason": "complete", "arrived_count": 1500, "arrived": names}
    assert judge([Record(0, body)], [load], read_ours).times(load) == [1000]
    with pytest.raises(WrongAnswer):
        judge([Record(0, {**body, "arrived": names[:-1]})], [load], read_ours)
