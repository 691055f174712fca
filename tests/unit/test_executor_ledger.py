"""What the outcomes of a partition say: final wins, in any order and after any compaction."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from wait_for_me_app.executor.ledger import FinalFires, Ledger, pending_in_order, uuid_text
from wait_for_me_app.outcomes import Finished, NewerOutcome, Progress, encode_outcome, final_key, progress_key

Record = tuple[bytes | None, bytes | None]

FIRES = [f"fire_{uuid.UUID(int=number)}" for number in range(3)]
DAY_MS = 86_400_000


def progress(fire_id: str, revision: int, state: str = "accepted", tenure: int = 0) -> Record:
    """Return a record of progress."""
    outcome = Progress(
        fire_id=fire_id,
        group_key="g",
        callback="c",
        partition=0,
        offset=revision,
        revision=revision,
        attempt=revision,
        state=state,  # type: ignore[arg-type]
        tenure=tenure,
        accepted_at_ms=1,
        fire=Raw(b"{}"),
    )
    return progress_key(fire_id), encode_outcome(outcome)


def final(fire_id: str, state: str = "done") -> Record:
    """Return a final record."""
    outcome = Finished(
        fire_id=fire_id,
        group_key="g",
        callback="c",
        partition=0,
        offset=0,
        revision=9,
        attempt=1,
        state=state,  # type: ignore[arg-type]
        finished_at_ms=1,
    )
    return final_key(fire_id), encode_outcome(outcome)


def deleted(fire_id: str) -> Record:
    """Return the deletion of a fire's progress."""
    return progress_key(fire_id), None


def folded(*records: Record) -> Ledger:
    """Fold records in order."""
    ledger = Ledger()
    for offset, (key, value) in enumerate(records):
        ledger.fold(offset, key, value, 1_800_000_000_000)
    return ledger


def facts(ledger: Ledger) -> tuple[set[str], dict[str, int]]:
    """Return which fires are final and how far the others are."""
    final_fires = {fire_id for fire_id in FIRES if uuid.UUID(fire_id[5:]).bytes in ledger.final}
    return final_fires, {one.fire_id: one.revision for one in ledger.pending.values()}


def test_the_latest_step_of_a_fire_stands() -> None:
    """Each step carries the whole state, so the last is enough."""
    ledger = folded(progress(FIRES[0], 1), progress(FIRES[0], 2, "started"), progress(FIRES[1], 1))
    assert facts(ledger) == (set(), {FIRES[0]: 2, FIRES[1]: 1})
    assert ledger.end_offset == 3


def test_a_step_of_a_paused_executor_is_ignored() -> None:
    """A lower revision comes from one that did not know better."""
    assert facts(folded(progress(FIRES[0], 4), progress(FIRES[0], 3))) == (set(), {FIRES[0]: 4})


def test_a_step_of_an_earlier_tenure_is_ignored_however_late_it_arrives() -> None:
    """It was under way when the partition went to another executor, which has gone on since."""
    ledger = folded(progress(FIRES[0], 2, tenure=8), progress(FIRES[0], 3, tenure=7))
    assert facts(ledger) == (set(), {FIRES[0]: 2})
    assert ledger.latest_tenure == 8


def test_a_later_tenure_may_count_anew() -> None:
    """It has read the fire again, because the acceptance of its predecessor had not arrived."""
    assert facts(folded(progress(FIRES[0], 9, tenure=7), progress(FIRES[0], 1, tenure=8))) == (set(), {FIRES[0]: 1})


@pytest.mark.parametrize("position", range(4))
def test_final_wins_wherever_it_comes(position: int) -> None:
    """Progress before it and after it means nothing."""
    records = [progress(FIRES[0], 1), progress(FIRES[0], 2), progress(FIRES[0], 3)]
    records.insert(position, final(FIRES[0]))
    ledger = folded(*records)
    assert facts(ledger) == ({FIRES[0]}, {})
    assert ledger.leftovers == {progress_key(FIRES[0]): uuid.UUID(FIRES[0][5:]).bytes}


def test_progress_that_was_deleted_leaves_nothing_behind() -> None:
    """The usual end of a fire."""
    ledger = folded(progress(FIRES[0], 1), final(FIRES[0]), deleted(FIRES[0]))
    assert facts(ledger) == ({FIRES[0]}, {})
    assert ledger.leftovers == {}


def test_a_second_final_changes_nothing() -> None:
    """Two executors that both came to an end."""
    assert facts(folded(final(FIRES[0]), final(FIRES[0], "dead"))) == ({FIRES[0]}, {})


def test_an_operator_can_release_a_fire_by_deleting_its_final_record() -> None:
    """As compaction would: what is deleted is unknown."""
    assert facts(folded(final(FIRES[0]), (final_key(FIRES[0]), None))) == (set(), {})


lifelines = st.lists(
    st.sampled_from(["progress", "final", "deleted"]).flatmap(
        lambda kind: st.tuples(st.just(kind), st.sampled_from(FIRES))
    ),
    max_size=20,
)


@given(lifelines, st.data())
def test_compaction_changes_nothing(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    """Any records that a later one of the same key makes superfluous may be gone; the ledger is the same.

    Deletions come after the final outcome, as the executor writes them, and revisions rise.
    """
    finished: set[str] = set()
    records: list[Record] = []
    for revision, (kind, fire_id) in enumerate(steps, start=1):
        if kind == "progress":
            records.append(progress(fire_id, revision))
        elif kind == "final":
            finished.add(fire_id)
            records.append(final(fire_id))
        elif fire_id in finished:
            records.append(deleted(fire_id))
    last = {key: index for index, (key, _) in enumerate(records)}
    superfluous = [index for index, (key, _) in enumerate(records) if last[key] != index]
    gone = data.draw(st.sets(st.sampled_from(superfluous))) if superfluous else set()
    compacted = [record for index, record in enumerate(records) if index not in gone]
    assert facts(folded(*compacted)) == facts(folded(*records))


# --- what should not be there ----------------------------------------------------------------------------------------


def test_a_record_that_cannot_be_read_is_kept_with_its_bytes_and_the_reason() -> None:
    """So that it can be set aside; the rest of the partition is folded."""
    ledger = folded((b"no key of ours", b"x"), (progress_key(FIRES[0]), b"not JSON"), progress(FIRES[1], 1))
    assert facts(ledger) == (set(), {FIRES[1]: 1})
    assert [(one.key, one.value, one.may_go) for one in ledger.damaged.values()] == [
        (b"no key of ours", b"x", True),
        (progress_key(FIRES[0]), b"not JSON", True),
    ]


def test_a_key_and_a_value_that_disagree_are_damaged() -> None:
    """Progress of one fire under the key of another, and a final outcome under a key of progress."""
    ledger = folded((progress_key(FIRES[0]), progress(FIRES[1], 1)[1]), (progress_key(FIRES[2]), final(FIRES[2])[1]))
    assert [one.reason for one in ledger.damaged.values()] == [
        "the record's key and value speak of different things"
    ] * 2
    assert facts(ledger) == (set(), {})


def test_a_damaged_record_over_a_good_one_does_not_lose_the_fire() -> None:
    """The good one stands, and its key must not be deleted before the next step is written."""
    ledger = folded(progress(FIRES[0], 3), (progress_key(FIRES[0]), b"garbage"))
    assert facts(ledger) == (set(), {FIRES[0]: 3})
    assert [one.may_go for one in ledger.damaged.values()] == [False]


@pytest.mark.parametrize("later", [progress(FIRES[0], 1), deleted(FIRES[0])])
def test_a_damaged_record_that_was_written_over_is_gone(later: Record) -> None:
    """What Kafka would compact away is not set aside again."""
    assert folded((progress_key(FIRES[0]), b"garbage"), later).damaged == {}


def test_a_deleted_stranger_and_a_record_without_a_key_are_nothing() -> None:
    """Neither is worth a dead letter."""
    assert folded((b"stranger", None), (None, b"x")).damaged == {}


def test_a_record_of_a_later_release_stops_the_fold() -> None:
    """It must not be skipped, or its fire is forgotten."""
    with pytest.raises(NewerOutcome):
        folded((progress_key(FIRES[0]), b'{"type":"progress","version":2}'))


# --- memory ----------------------------------------------------------------------------------------------------------


def test_final_fires_are_forgotten_when_kafka_has_forgotten_them() -> None:
    """By the week, never earlier than Kafka."""
    final_fires = FinalFires(kept_ms=30 * DAY_MS)
    for day in range(0, 100, 2):
        final_fires.add(b"%16d" % day, day * DAY_MS)
        assert all(b"%16d" % earlier in final_fires for earlier in range(max(0, day - 30) // 2 * 2, day, 2))
    assert b"%16d" % 0 not in final_fires
    assert len(final_fires) <= (30 + 7 + 7) // 2


def test_without_a_limit_nothing_is_forgotten() -> None:
    """A topic that is kept for ever is remembered for ever."""
    final_fires = FinalFires()
    final_fires.add(b"x" * 16, 0)
    final_fires.add(b"y" * 16, 10_000 * DAY_MS)
    assert b"x" * 16 in final_fires


@given(st.uuids())
def test_a_fire_id_is_its_16_bytes(of: uuid.UUID) -> None:
    """Nothing else is remembered of a final fire, and its key can be made of them."""
    assert uuid_text(of.bytes) == f"fire_{of}"


def test_pending_fires_are_taken_up_in_the_order_in_which_they_were_accepted() -> None:
    """The oldest first."""
    ledger = folded(progress(FIRES[1], 2), progress(FIRES[0], 5), progress(FIRES[2], 1))
    assert [one.fire_id for _, one in pending_in_order(ledger)] == [FIRES[2], FIRES[1], FIRES[0]]
