"""The documented life of a group and the fold agree: every edge of the table is walked, and every picture shows the same states."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fakes import NOON_MS, TOPIC_ID, add, record, remove, tick
from wait_for_me.partitioner import partition_for
from wait_for_me_app.core import fold as fold_module
from wait_for_me_app.core.deadlines import Deadlines
from wait_for_me_app.core.effects import Effects, Identity
from wait_for_me_app.core.fold import Fold
from wait_for_me_app.core.rows import COMPLETE, REMOVED, TIMEOUT, ClosedRound, OpenRound
from wait_for_me_app.storage.store import MemoryStore
from wait_for_me_app.storage.working_set import WorkingSet

PAGE = (Path(__file__).parents[2] / "docs" / "state_machine.md").read_text()
PARTITIONS = 3
HERE = next(name for name in "abcdefgh" if partition_for(name.encode(), PARTITIONS) == 0)
ELSEWHERE = next(name for name in "abcdefgh" if partition_for(name.encode(), PARTITIONS) == 1)
CLOSED = (COMPLETE, TIMEOUT, REMOVED)
WAIT_MS = LINGER_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Edge:
    """One row of the table."""

    name: str
    state: str
    record: str
    condition: str
    next: str
    effect: str


def table() -> dict[str, Edge]:
    """Read the table of edges."""
    rows = [line.strip().strip("|").split("|") for line in PAGE.splitlines() if re.match(r"\| E\d+ \|", line)]
    edges = [Edge(**dict(zip(Edge.__dataclass_fields__, map(str.strip, row), strict=True))) for row in rows]
    return {edge.name: edge for edge in edges}


EDGES = table()


@dataclass
class Walk:
    """A fold of one partition that is asked for a group's state."""

    group: str = HERE
    fold: Fold = field(
        default_factory=lambda: Fold(
            Identity(topic_id=TOPIC_ID, partition=0, partitions=PARTITIONS), WorkingSet(MemoryStore()), Deadlines()
        )
    )
    offset: int = 0
    now_ms: int = NOON_MS

    def take(self, make: Callable[..., Any], *given: Any, later_ms: int = 0, **more: Any) -> Effects:
        """Read one record, some time later, and return what it wants to be sent."""
        self.now_ms += later_ms
        one = make(self.offset, self.now_ms, *given, **more)
        self.offset += 1
        self.fold.advance(one, 1 << 30)
        self.fold.apply(one)
        return self.fold.take_effects()

    def add(self, participant: str = "p", **more: Any) -> Effects:
        """Read an add to the group."""
        return self.take(add, self.group, participant, **more)

    def remove(self, **more: Any) -> Effects:
        """Read a remove of the group."""
        return self.take(remove, self.group, **more)

    @property
    def row(self) -> Any:
        """The group's row."""
        return self.fold.rows.get(self.group.encode())

    @property
    def state(self) -> str:
        """The group's state in the words of the page."""
        if isinstance(self.row, OpenRound):
            return "open"
        if isinstance(self.row, ClosedRound) and self.row.due_ms > self.fold.stream_time_ms:
            return str(self.row.reason)
        return "absent"


def in_state(state: str, **walk: Any) -> Walk:
    """Bring a group into a state."""
    one = Walk(**walk)
    if state == COMPLETE:
        one.add(of=1)
    elif state != "absent":
        one.add("first", of=3, event_id="e1")
    if state == REMOVED:
        one.remove()
    elif state == TIMEOUT:
        one.take(tick, later_ms=WAIT_MS)
    assert one.state == state
    return one


def nothing(effects: Effects) -> bool:
    """Whether nothing is to be sent."""
    return not (effects.fires or effects.rejected or effects.rerouted)


def fired(effects: Effects, reason: str) -> bool:
    """Whether exactly one fire is to be sent, for this reason."""
    return len(effects.fires) == 1 and f'"reason":"{reason}"'.encode() in effects.fires[0][1]


def refused(effects: Effects, code: str, stage: str) -> bool:
    """Whether exactly one dead letter is to be sent."""
    return [(one.error.code, one.error.stage) for one in effects.rejected] == [(code, stage)]


def copy_headers(origin: str) -> list[tuple[str, bytes]]:
    """The header of a command that has been re-sent."""
    return [("wfm_rerouted", origin.encode())]


# -- each edge, from each of its states: returns where it led, and whether its effect was the one that is written


def e1(walk: Walk) -> bool:
    return fired(walk.add(of=1), "complete")


def e2(walk: Walk) -> bool:
    return nothing(walk.add(of=2)) and (walk.row.opened_offset, walk.row.arrived_count) == (walk.offset - 1, 1)


def e3(walk: Walk) -> bool:
    walk.group = ELSEWHERE
    sent = [(one.partition, one.needs_event_id) for one in walk.add(of=1).rerouted + walk.remove(event_id="e").rerouted]
    return sent == [(1, True), (1, False)]


def e4(walk: Walk) -> bool:
    walk.group = ELSEWHERE
    effects = walk.add(of=1, headers=copy_headers("1:7")), walk.remove(headers=copy_headers("2:7"))
    return all(refused(one, "misplaced", "route") and not one.rerouted for one in effects)


def e5(walk: Walk) -> bool:
    return nothing(walk.remove())


def e6(walk: Walk) -> bool:
    before = (walk.row.deadline_ms, walk.row.conflict_count)
    effects = walk.add("first", of=1, event_id="e1", later_ms=1)
    return nothing(effects) and (walk.row.deadline_ms, walk.row.conflict_count) == before


def e7(walk: Walk) -> bool:
    walk.add("second", of=3)
    return fired(walk.add("third", of=3), "complete")


def e8(walk: Walk) -> bool:
    return fired(walk.add("second", of=9, max_wait_in_seconds=1, later_ms=1_000), "timeout")


def e9(walk: Walk) -> bool:
    effects = walk.add("second", of=5, later_ms=7)
    row = walk.row
    found = (row.arrived_count, row.number_of_participants, row.conflict_count, row.deadline_ms)
    return nothing(effects) and found == (2, 5, 1, walk.now_ms + WAIT_MS)


def e10(walk: Walk) -> bool:
    return nothing(walk.remove())


def e11(walk: Walk) -> bool:
    return fired(walk.take(record, b"whatever", later_ms=WAIT_MS), "timeout")


def e12(walk: Walk) -> bool:
    before = walk.row.late_count
    return nothing(walk.add("late", of=1, later_ms=LINGER_MS - 1)) and walk.row.late_count == before + 1


def e13(walk: Walk) -> bool:
    return nothing(walk.remove(later_ms=LINGER_MS - 1))


def e14(walk: Walk) -> bool:
    return nothing(walk.take(tick, later_ms=LINGER_MS))


def e15(walk: Walk) -> bool:
    before = walk.row
    return nothing(walk.take(tick, later_ms=1)) and walk.row == before


def e16(walk: Walk) -> bool:
    bad = record(0, 0, b"not json").value, record(0, 0, b'{"type":"what"}').value
    one = walk.take(record, bad[0], walk.group.encode()), walk.take(record, bad[1], walk.group.encode())
    return refused(one[0], "not_json", "decode") and refused(one[1], "unknown_type", "validate")


def e17(walk: Walk) -> bool:
    walk.fold.rerouted_from[2] = 7
    sent = walk.add("copy", of=1, headers=copy_headers("2:7")), walk.remove(headers=copy_headers("2:5"))
    return all(nothing(one) for one in sent)


WALKS = {name.upper(): walk for name, walk in globals().items() if re.fullmatch(r"e\d+", name)}


def states_of(edge: Edge) -> list[str]:
    """The states that a row of the table speaks of."""
    return {"closed": list(CLOSED), "any": ["absent", "open", *CLOSED]}.get(edge.state, [edge.state])


CASES = [(edge.name, state) for edge in EDGES.values() for state in states_of(edge)]


@pytest.mark.parametrize(("name", "state"), CASES)
def test_an_edge_leads_where_the_table_says_with_the_effect_that_it_says(name: str, state: str) -> None:
    """From every state that the row of the table speaks of."""
    edge, walk = EDGES[name], in_state(state)
    assert WALKS[name](walk), f"{name}: the effect is not {edge.effect!r}"
    expected = state if edge.next == "the same" else edge.next
    assert walk.state == expected


def test_every_edge_of_the_table_is_walked_and_no_other() -> None:
    """A rule that is written down is tried, and what is tried is written down."""
    assert list(EDGES) == list(WALKS)
    assert list(EDGES) == [f"E{number}" for number in range(1, len(EDGES) + 1)]


def test_the_table_uses_the_words_that_it_explains() -> None:
    """States, and the group of the three closed ones."""
    states = {"absent", "open", *CLOSED}
    assert {edge.state for edge in EDGES.values()} <= states | {"closed", "any"}
    assert {edge.next for edge in EDGES.values()} <= states | {"the same"}


def drawn() -> set[tuple[str, str]]:
    """Arrows of the diagram between two different states."""
    (picture,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
    arrows = re.findall(r"^\s*(\S+) --> (\S+)", picture, re.MULTILINE)
    return {(start, end) for start, end in arrows if start != "[*]"}


def test_the_diagram_has_the_arrows_of_the_table() -> None:
    """Those that change the state; nothing more, nothing less."""
    told = {
        (state, edge.next)
        for edge in EDGES.values()
        for state in states_of(edge)
        if edge.next not in ("the same", edge.state)
    }
    assert drawn() == told


@pytest.mark.interpreted
def test_the_docstring_of_the_fold_names_the_same_states() -> None:
    """The picture that a reader of the code sees."""
    picture = (fold_module.__doc__ or "").split("A round, and what happens to it")[1].split("Replays are harmless")[0]
    assert set(re.findall(r"CLOSED (\w+)", picture)) == set(CLOSED)
    assert "OPEN" in picture
    assert picture.count("(none)") == 2
    assert "docs/state_machine.md" in picture


def test_the_rows_have_the_states_of_the_page() -> None:
    """One type for open, one for closed with its three reasons, and no row for absent."""
    assert {in_state(state).state for state in ("absent", "open", *CLOSED)} == {"absent", "open", *CLOSED}
    assert in_state("absent").row is None
    assert isinstance(in_state("open").row, OpenRound)
    assert all(isinstance(in_state(state).row, ClosedRound) for state in CLOSED)
