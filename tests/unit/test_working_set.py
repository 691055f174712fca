"""The rows as a run sees them: its own changes first, then what is hot, then the store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wait_for_me_app.core.rows import Arrival, ClosedRound, OpenRound
from wait_for_me_app.storage import keys, working_set
from wait_for_me_app.storage.row_codec import DamagedRow, decode_arrival, decode_round, encode_other, encode_round
from wait_for_me_app.storage.store import MemoryStore
from wait_for_me_app.storage.working_set import Unit, WorkingSet


def opened(offset: int = 5, *, changed: int = 5, arrived: int = 1) -> OpenRound:
    """An open round."""
    return OpenRound(
        rules_version=1,
        changed_offset=changed,
        opened_offset=offset,
        opened_at_ms=0,
        last_add_at_ms=0,
        deadline_ms=100,
        number_of_participants=3,
        callback="c",
        params=b"[]",
        wait_ms=100,
        max_wait_ms=None,
        linger_ms=100,
        conflict_count=0,
        arrived_count=arrived,
        first_arrivals=[Arrival("p", 0, None)],
    )


def closed(offset: int = 5, *, changed: int = 6, arrived: int = 1) -> ClosedRound:
    """A closed round."""
    return ClosedRound(
        rules_version=1,
        changed_offset=changed,
        opened_offset=offset,
        reason="complete",
        closed_at_ms=0,
        closed_offset=changed,
        linger_ms=0,
        number_of_participants=3,
        arrived_count=arrived,
        late_count=0,
    )


def stored(rows: dict[bytes, Any]) -> MemoryStore:
    """A store that holds these rounds."""
    store = MemoryStore()
    store.write([(keys.group_row_key(key), encode_round(row)) for key, row in rows.items()], 0)
    return store


def flat(units: Iterable[Unit]) -> list[Any]:
    """All changes of some units, in order."""
    return [change for unit in units for change in unit]


def settle(rows: WorkingSet) -> list[Unit]:
    """End a run: what `pack` gives is in the changelog."""
    units = rows.pack()
    rows.settle(flat(units), 1)
    return units


# -- reading


def test_a_row_is_found_in_the_store_and_absence_is_none() -> None:
    """Nothing is remembered that is not there."""
    rows = WorkingSet(stored({b"g": opened()}))
    assert rows.get(b"g") == opened()
    assert rows.get(b"h") is None


def test_a_run_sees_its_own_changes() -> None:
    """Before anything is written."""
    store = stored({b"g": opened(changed=5)})
    rows = WorkingSet(store)
    rows.put(b"g", opened(changed=9))
    row = rows.get(b"g")
    assert row is not None
    assert row.changed_offset == 9
    assert decode_round(b"", store.get(keys.group_row_key(b"g")) or b"").changed_offset == 5


@pytest.mark.parametrize("hot_rows", [1, 2, 3])
def test_eviction_never_hides_a_change_that_is_not_written(hot_rows: int) -> None:
    """However small the memory: a row that has changed is found changed until the run is safe."""
    rows = WorkingSet(stored({b"g": opened(changed=5)}), hot_rows=hot_rows)
    rows.put(b"g", opened(changed=9))
    for number in range(20):
        rows.put(b"other%d" % number, opened())
        row = rows.get(b"g")
        assert row is not None
        assert row.changed_offset == 9


@pytest.mark.parametrize("hot_rows", [1, 2, 3])
def test_memory_is_bounded_by_two_generations(hot_rows: int) -> None:
    """A worker with a million open groups holds the hot ones only."""
    rows = WorkingSet(stored({b"%d" % number: opened() for number in range(50)}), hot_rows=hot_rows)
    for number in range(50):
        rows.get(b"%d" % number)
    assert len(rows._young) + len(rows._old) <= 2 * hot_rows


def test_a_row_that_is_used_stays_while_others_come_and_go() -> None:
    """Every use moves it into the young generation: the same object, not one decoded anew."""
    rows = WorkingSet(stored({b"%d" % number: opened() for number in range(50)}), hot_rows=2)
    hot = rows.get(b"0")
    for number in range(1, 50):
        rows.get(b"%d" % number)
        assert rows.get(b"0") is hot


class WorkingSetAgainstADict(RuleBasedStateMachine):
    """Drives a working set with room for two rows, beside a dict that forgets nothing."""

    KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.rows = WorkingSet(self.store, hot_rows=2)
        self.truth: dict[bytes, int] = {}
        self.offset = 0

    @rule(key=KEYS)
    def a_row_changes(self, key: bytes) -> None:
        """The fold puts it."""
        self.offset += 1
        self.rows.put(key, opened(changed=self.offset))
        self.truth[key] = self.offset

    @rule(key=KEYS)
    def a_row_changes_in_place(self, key: bytes) -> None:
        """The fold gets it, changes it and puts it back."""
        row = self.rows.get(key)
        if row is not None:
            self.offset += 1
            row.changed_offset = self.truth[key] = self.offset
            self.rows.put(key, row)

    @rule(key=KEYS)
    def a_row_is_freed_and_deleted_later(self, key: bytes) -> None:
        """Two runs: one frees it, the next deletes it."""
        settle(self.rows)
        row = self.rows.get(key)
        if row is None:
            return
        self.rows.discard(key, closed(row.opened_offset))
        settle(self.rows)
        settle(self.rows)
        del self.truth[key]

    @rule(asked=st.lists(KEYS))
    def a_run_is_prefetched(self, asked: list[bytes]) -> None:
        """All rows of a run are read at once."""
        self.rows.prefetch(asked)

    @rule()
    def a_run_is_safe(self) -> None:
        """Its changes are in the changelog and in the store."""
        settle(self.rows)

    @rule()
    def the_worker_is_restarted(self) -> None:
        """After a run: nothing was hot, nothing is forgotten."""
        settle(self.rows)
        self.rows = WorkingSet(self.store, hot_rows=2)

    @invariant()
    def every_row_is_as_it_was_left(self) -> None:
        """Hot, changed, evicted, or only in the store."""
        for key in (b"a", b"b", b"c", b"d", b"e"):
            row = self.rows.get(key)
            assert (None if row is None else row.changed_offset) == self.truth.get(key)


TestWorkingSetAgainstADict = WorkingSetAgainstADict.TestCase
TestWorkingSetAgainstADict.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# -- prefetch


class CountingStore(MemoryStore):
    """Counts questions."""

    def __init__(self) -> None:
        super().__init__()
        self.singles, self.many = 0, 0

    def get(self, row_key: bytes) -> bytes | None:
        """Count and answer."""
        self.singles += 1
        return super().get(row_key)

    def get_many(self, row_keys: Any) -> Any:
        """Count and answer."""
        self.many += 1
        return super().get_many(row_keys)


def test_a_run_is_read_with_one_question_and_absent_rows_are_not_asked_for_again() -> None:
    """A thousand new groups cost one call, not a thousand."""
    store = CountingStore()
    store.write([(keys.group_row_key(b"g"), encode_round(opened()))], 0)
    rows = WorkingSet(store)
    rows.prefetch([b"g", b"new", b"newer"])
    assert (rows.get(b"g"), rows.get(b"new"), rows.get(b"newer")) == (opened(), None, None)
    assert (store.many, store.singles) == (1, 0)
    rows.prefetch([b"g"])
    assert store.many == 1


def test_a_row_that_was_absent_at_the_prefetch_is_found_once_it_exists() -> None:
    """Within the run, and after it although it has been evicted."""
    rows = WorkingSet(stored({b"x%d" % number: opened() for number in range(5)}), hot_rows=1)
    rows.prefetch([b"g"])
    rows.put(b"g", opened())
    assert rows.get(b"g") == opened()
    settle(rows)
    for number in range(5):
        rows.get(b"x%d" % number)
    assert rows.get(b"g") == opened()


def test_a_damaged_row_does_not_spoil_the_prefetch_of_the_others() -> None:
    """It is met when its own record asks for it, and then it is named."""
    store = stored({b"g": opened()})
    store.write([(keys.group_row_key(b"bad"), b"\x01nonsense")], 0)
    rows = WorkingSet(store)
    rows.prefetch([b"bad", b"g"])
    assert rows.get(b"g") == opened()
    with pytest.raises(DamagedRow) as caught:
        rows.get(b"bad")
    assert caught.value.row_key == keys.group_row_key(b"bad")


# -- participants with rows of their own


def arrive(rows: WorkingSet, index: int, *, group: bytes = b"g", opened_offset: int = 5) -> None:
    """One participant more."""
    rows.put_participant(group, opened_offset, Arrival(f"p{index}", index, f"e{index}"), index)


def test_a_participant_is_known_within_the_run_and_after_it() -> None:
    """With its time and its latest event_id; its name is not stored twice."""
    store = MemoryStore()
    rows = WorkingSet(store)
    arrive(rows, 8)
    assert rows.participant(b"g", 5, "p8") == Arrival("p8", 8, "e8")
    rows.put(b"g", opened())
    settle(rows)
    assert rows.participant(b"g", 5, "p8") == Arrival("p8", 8, "e8")
    value = store.get(keys.participant_row_key(b"g", 5, "p8"))
    assert b"p8" not in (value or b"")


def test_a_participant_belongs_to_its_round() -> None:
    """A new round starts empty, whatever rows of the old one are left."""
    rows = WorkingSet(MemoryStore())
    arrive(rows, 8)
    assert rows.participant(b"g", 6, "p8") is None
    assert list(rows.later_arrivals(b"g", 6, 1000)) == []


def test_a_participant_that_comes_again_keeps_its_place() -> None:
    """Its row changes, the order of arrival does not."""
    rows = WorkingSet(MemoryStore())
    arrive(rows, 8)
    rows.put_participant(b"g", 5, Arrival("p8", 8, "newer"), None)
    arrive(rows, 9)
    assert [one.participant_key for one in rows.later_arrivals(b"g", 5, 1000)] == ["p8", "p9"]
    assert rows.participant(b"g", 5, "p8") == Arrival("p8", 8, "newer")


def test_arrivals_are_named_in_order_whether_written_or_not() -> None:
    """Some are in the store, some are this run's."""
    rows = WorkingSet(MemoryStore())
    arrive(rows, 8)
    rows.put(b"g", opened())
    settle(rows)
    arrive(rows, 9)
    assert [(one.participant_key, one.at_ms) for one in rows.later_arrivals(b"g", 5, 1000)] == [("p8", 8), ("p9", 9)]
    assert [one.participant_key for one in rows.later_arrivals(b"g", 5, 9)] == ["p8"]


def test_nobody_is_named_beyond_what_a_fire_may_name() -> None:
    """The 1,001st participant has a row that says it is there, and none that says it was the 1,001st."""
    rows = WorkingSet(MemoryStore())
    arrive(rows, 999)
    arrive(rows, 1000)
    rows.put(b"g", opened())
    written = dict(flat(rows.pack()))
    assert keys.arrival_row_key(b"g", 5, 999) in written
    assert keys.arrival_row_key(b"g", 5, 1000) not in written
    assert keys.participant_row_key(b"g", 5, "p1000") in written


# -- what goes to the changelog


def test_a_group_is_one_unit_with_its_participants_first() -> None:
    """Half of it can never be there, and a reader that stops between two units has not counted somebody twice."""
    rows = WorkingSet(MemoryStore())
    rows.put(b"g", opened(arrived=10))
    rows.put(b"h", opened())
    arrive(rows, 8)
    arrive(rows, 9)
    units = rows.pack()
    assert [unit[-1][0] for unit in units] == [keys.group_row_key(b"g"), keys.group_row_key(b"h")]
    assert {key[:1] for key, _ in units[0][:-1]} == {keys.PARTICIPANT, keys.ARRIVAL}
    assert len(units[1]) == 1


def test_bytes_written_per_add_do_not_grow_with_the_group() -> None:
    """The ten-thousandth add of a group writes what the tenth wrote."""
    store = MemoryStore()
    rows = WorkingSet(store)

    def written_by(index: int) -> int:
        arrive(rows, index)
        rows.put(b"g", opened(arrived=index + 1))
        return sum(len(key) + len(value or b"") for key, value in flat(settle(rows)))

    assert written_by(9999) <= written_by(11) + 10


def test_a_settled_run_is_not_written_again() -> None:
    """Each change goes out once."""
    rows = WorkingSet(MemoryStore())
    rows.put(b"g", opened())
    arrive(rows, 8)
    assert settle(rows)
    assert settle(rows) == []


def test_a_settled_run_is_in_the_store_with_its_offset() -> None:
    """A cache of the changelog, at the offset that the changelog confirmed."""
    store = MemoryStore()
    rows = WorkingSet(store)
    rows.put(b"g", opened())
    rows.settle(flat(rows.pack()), 77)
    assert store.changelog_offset == 77
    assert decode_round(b"", store.get(keys.group_row_key(b"g")) or b"") == opened()


# -- deletions


def test_the_run_that_frees_a_row_does_not_delete_it() -> None:
    """Its watermark is not safe yet; the next run deletes it."""
    rows = WorkingSet(stored({b"g": closed()}))
    rows.discard(b"g", closed())
    assert settle(rows) == []
    assert settle(rows) == [[(keys.group_row_key(b"g"), None)]]
    assert settle(rows) == []


def test_a_deleted_row_is_gone_before_and_after_its_deletion_is_written() -> None:
    """While the tombstone is on its way, the row on disk must not come back."""
    store = stored({b"g": closed()})
    rows = WorkingSet(store)
    rows.discard(b"g", closed())
    settle(rows)
    units = rows.pack()
    assert rows.get(b"g") is None
    rows.settle(flat(units), 2)
    assert rows.get(b"g") is None
    assert store.get(keys.group_row_key(b"g")) is None


def test_a_key_that_is_used_again_keeps_its_row() -> None:
    """A round that opened in the run of the deletion, or between, is not deleted with the old one."""
    for when in ("before", "between", "with"):
        rows = WorkingSet(stored({b"g": closed(5)}))
        if when == "before":
            rows.put(b"g", opened(9))
        rows.discard(b"g", closed(5))
        settle(rows)
        if when == "between":
            rows.put(b"g", opened(9))
            settle(rows)
        elif when == "with":
            rows.put(b"g", opened(9))
        assert (keys.group_row_key(b"g"), None) not in flat(settle(rows))
        assert rows.get(b"g") == opened(9)


def test_a_row_that_changed_in_the_run_of_its_deletion_is_not_deleted() -> None:
    """A late add may touch a freed row's key first: whatever changed it has the word."""
    rows = WorkingSet(stored({b"g": closed(5)}))
    rows.discard(b"g", closed(5))
    settle(rows)
    rows.put(b"g", closed(5, changed=8))
    assert [value for _, value in flat(settle(rows))] == [encode_round(closed(5, changed=8))]


def large(count: int, *, opened_offset: int = 5) -> MemoryStore:
    """A closed round with participants' and arrivals' rows in the store."""
    store = stored({b"g": closed(opened_offset, arrived=8 + count)})
    changes = []
    for index in range(8, 8 + count):
        arrival = encode_other(Arrival(f"p{index}", 0, None))
        changes.append((keys.participant_row_key(b"g", opened_offset, f"p{index}"), arrival))
        changes.append((keys.arrival_row_key(b"g", opened_offset, index), arrival))
    store.write(changes, 1)
    return store


@pytest.mark.interpreted
def test_a_large_round_is_deleted_with_its_participants_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slice by slice, so that a run stays short; the group's row goes last, or a crash would leave rows that nobody knows of."""
    monkeypatch.setattr(working_set, "DELETIONS_A_RUN", 7)
    store = large(10)
    rows = WorkingSet(store)
    rows.discard(b"g", closed(5, arrived=18))
    settle(rows)
    slices = []
    while units := settle(rows):
        slices.append([key for key, _ in flat(units)])
    assert all(len(one) <= 8 for one in slices)
    assert [one[:1] for one in slices[-1]][-1] == keys.GROUP
    assert [key for one in slices for key in one].count(keys.group_row_key(b"g")) == 1
    assert store.rows == {}


@pytest.mark.interpreted
def test_deletions_of_one_run_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand freed rows do not become one enormous run."""
    monkeypatch.setattr(working_set, "DELETIONS_A_RUN", 3)
    groups = {b"%02d" % number: closed() for number in range(8)}
    rows = WorkingSet(stored(groups))
    for key, row in groups.items():
        rows.discard(key, row)
    settle(rows)
    assert [len(settle(rows)) for _ in range(4)] == [3, 3, 2, 0]


def test_participants_of_other_rounds_and_groups_are_left_alone() -> None:
    """Deletion follows the prefix of one round exactly."""
    store = large(3)
    neighbours = [
        (keys.participant_row_key(b"g", 6, "p"), b"x"),
        (keys.arrival_row_key(b"g", 4, 8), b"x"),
        (keys.participant_row_key(b"g2", 5, "p"), b"x"),
    ]
    store.write(neighbours, 2)
    rows = WorkingSet(store)
    rows.discard(b"g", closed(5, arrived=11))
    settle(rows)
    settle(rows)
    assert store.rows == dict(neighbours)


def test_orphaned_participants_are_deleted_without_touching_the_round_that_followed() -> None:
    """A crash between two slices of a deletion, or a restore, leaves rows of a round that no group row names."""
    store = large(3, opened_offset=5)
    store.write([(keys.group_row_key(b"g"), encode_round(opened(9)))], 2)
    rows = WorkingSet(store)
    rows.note_orphan(b"g", 5)
    settle(rows)
    assert list(store.rows) == [keys.group_row_key(b"g")]


def test_a_damaged_participant_is_named() -> None:
    """The lane sets that row aside, not the group's."""
    store = MemoryStore()
    row_key = keys.participant_row_key(b"g", 5, "p8")
    store.write([(row_key, b"\x01\xc1"), (keys.arrival_row_key(b"g", 5, 8), b"\x09")], 0)
    rows = WorkingSet(store)
    with pytest.raises(DamagedRow) as caught:
        rows.participant(b"g", 5, "p8")
    assert caught.value.row_key == row_key
    with pytest.raises(DamagedRow):
        list(rows.later_arrivals(b"g", 5, 1000))


def test_an_arrival_row_says_no_more_than_who_and_when() -> None:
    """Its event_id may grow old; it is kept in one place only."""
    rows = WorkingSet(MemoryStore())
    arrive(rows, 8)
    rows.put(b"g", opened())
    written = dict(flat(rows.pack()))
    assert decode_arrival(b"", written[keys.arrival_row_key(b"g", 5, 8)] or b"") == Arrival("p8", 8, None)
