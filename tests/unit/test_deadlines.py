"""The heap of deadlines, against a list that is sorted anew for every question."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wait_for_me_app.core.deadlines import NEVER_MS, Deadlines, entry

KEYS = st.sampled_from([b"a", b"ab", b"b", b"\x00", b"\xff\xff"])
TIMES = st.integers(0, 40)


class DeadlinesAgainstAList(RuleBasedStateMachine):
    """Drives the index as the fold does, beside a dict of what each row's due time is."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Deadlines()
        self.due: dict[bytes, int] = {}
        self.now_ms = 0

    @rule(key=KEYS, wait=TIMES)
    def a_row_opens_or_slides(self, key: bytes, wait: int) -> None:
        """Later is not told to the index, earlier is."""
        due_ms, before = self.now_ms + 1 + wait, self.due.get(key)
        if before is None:
            self.index.watch(key, due_ms)
        elif due_ms < before:
            self.index.watch_earlier(key, due_ms)
        self.due[key] = due_ms

    @rule(key=KEYS)
    def a_row_goes(self, key: bytes) -> None:
        """Its entries stay in the heap and come up for nothing."""
        self.due.pop(key, None)
        self.index.forget(key)

    @rule(ahead=TIMES)
    def the_sweep_looks_ahead(self, ahead: int) -> None:
        """The broker's clock is ahead of stream time: what comes up is looked at and put back."""
        looked_at = []
        while (popped := self.index.pop_due(self.now_ms + ahead)) is not None:
            looked_at.append(popped[0])
        for key in looked_at:
            if key in self.due:
                self.index.watch_again(key, self.due[key])
            else:
                self.index.forget(key)

    @rule(step=TIMES)
    def time_passes(self, step: int) -> None:
        """What comes up, is compared with the rows, and put back if it has slid, is what the dumb list says, in its order."""
        self.now_ms += step
        expected = sorted((due_ms, key) for key, due_ms in self.due.items() if due_ms <= self.now_ms)
        assert self.pop_all() == expected

    def pop_all(self) -> list[tuple[int, bytes]]:
        """Do what the fold does with what comes up."""
        found: list[tuple[int, bytes]] = []
        while (popped := self.index.pop_due(self.now_ms)) is not None:
            key, noted_ms = popped
            due_ms = self.due.get(key)
            if due_ms is None:
                self.index.forget(key)
            elif due_ms > noted_ms:
                self.index.watch_again(key, due_ms)
            else:
                found.append((due_ms, key))
                del self.due[key]
                self.index.forget(key)
        return found

    @invariant()
    def every_row_has_an_entry_in_time(self) -> None:
        """The one rule of the index: for each row, an entry at or before the moment it is due."""
        earliest: dict[bytes, int] = {}
        for one in self.index._heap:
            key, due_ms = one[8:], int.from_bytes(one[:8], "big")
            earliest[key] = min(due_ms, earliest.get(key, NEVER_MS))
        assert all(earliest[key] <= due_ms for key, due_ms in self.due.items())

    @invariant()
    def the_earliest_is_known(self) -> None:
        """`earliest_ms` is the top of the heap: the sweep reads nothing else."""
        heap = self.index._heap
        assert self.index.earliest_ms == (int.from_bytes(min(heap)[:8], "big") if heap else NEVER_MS)


TestDeadlinesAgainstAList = DeadlinesAgainstAList.TestCase
TestDeadlinesAgainstAList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_equal_times_come_up_in_the_order_of_key_bytes() -> None:
    """Bytes, not text and not insertion: the order in which two workers must agree."""
    index = Deadlines([entry(5, key) for key in (b"b", b"\xc3\xa9", b"a", b"B", b"ab")])
    popped = [index.pop_due(5) for _ in range(5)]
    assert popped == [(b"B", 5), (b"a", 5), (b"ab", 5), (b"b", 5), (b"\xc3\xa9", 5)]


def test_the_order_of_entries_is_that_of_times_beyond_a_byte() -> None:
    """Eight big-endian bytes sort like the numbers that they are."""
    times = [1 << 40, 255, 256, 0, (1 << 62) - 1, 65_536]
    index = Deadlines([entry(one, b"k") for one in times])
    assert [index.pop_due(NEVER_MS) for _ in times] == [(b"k", one) for one in sorted(times)]


def test_nothing_is_due_in_an_empty_index() -> None:
    """An empty lane never asks for a tick."""
    index = Deadlines()
    assert (index.earliest_ms, index.pop_due(NEVER_MS - 1), len(index)) == (NEVER_MS, None, 0)


def test_a_wait_that_alternates_leaves_no_pile_of_equal_entries() -> None:
    """A short and a long wait in turn, a thousand times within one stretch of stream time: the heap stays small."""
    index = Deadlines()
    index.watch(b"k", 100)
    for _ in range(1000):
        index.watch_earlier(b"k", 50)
    assert len(index) == 2


def test_an_entry_that_came_up_early_is_put_back_once() -> None:
    """A key with several entries that all come up early ends with one at its true time, not one for each."""
    index = Deadlines()
    index.watch(b"k", 30)
    for early in (20, 10):
        index.watch_earlier(b"k", early)
    while (popped := index.pop_due(30)) is not None:
        index.watch_again(popped[0], 100)
    assert (len(index), index.earliest_ms) == (1, 100)


def test_a_forgotten_key_may_be_watched_anew() -> None:
    """What is kept beside the heap for a key is gone with its row, and a time noted before it counts again."""
    index = Deadlines()
    index.watch(b"k", 30)
    index.watch_earlier(b"k", 10)
    assert index.pop_due(10) == (b"k", 10)
    index.forget(b"k")
    index.watch_earlier(b"k", 10)
    assert index.pop_due(10) == (b"k", 10)


@given(times=st.lists(st.tuples(st.integers(0, 50), KEYS)), wanted=st.integers(0, 60))
def test_the_first_entries_are_the_smallest_in_order_and_stay_where_they_are(
    times: list[tuple[int, bytes]], wanted: int
) -> None:
    """Looked at without popping: the index is as it was."""
    entries = [entry(due_ms, key) for due_ms, key in times]
    index = Deadlines(entries)
    before = list(index._heap)
    assert index.first_entries(wanted) == sorted(entries)[:wanted]
    assert index._heap == before
