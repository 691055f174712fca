"""The audit's judgement: every code on a history that deserves it, and none on the healthy twin.

The twin is written by the product's own lanes (`audited.py`); one thing in it is then spoilt by hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import wait_for_me_app.lane as lane_module
from audited import PARTITIONS, WAIT_MS, Deployment, group_on
from fakes import NOON_MS, TOPIC_ID, TOPICS, Killed
from wait_for_me_app.audit.findings import CODES, FINDINGS_MAX, WARNINGS, Finding, Report, percentiles
from wait_for_me_app.core.rows import Watermark
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import decode_round, encode_other, encode_round

HOUR_MS = 3_600_000
A, B = group_on(0, "a"), group_on(1, "b")
FORGED = f"fire_{'0' * 8}-0000-5000-8000-{'0' * 12}"


def healthy() -> Deployment:
    """A complete group, one that timed out, a removed one, an open one with many, two bad commands, a misplaced one; all long ago."""
    world = Deployment()
    world.add(A, "p1", linger_in_seconds=600)
    world.add(A, "p2", linger_in_seconds=600)
    world.add(group_on(0, "slow"), "p1", of=3)
    world.add(group_on(0, "gone"), "p1")
    world.remove(group_on(0, "gone"))
    for number in range(12):
        world.add(group_on(0, "many"), f"p{number}", of=100, wait_time_in_seconds=86_400, event_id=f"e{number}")
    world.send(b"not json", b"x")
    world.send({"type": "add", "group_key": "x"}, b"x")
    world.add(B, "p1", partition=0)  # misplaced
    world.work()
    world.add(B, "p2")
    world.now_ms += WAIT_MS + 40
    world.tick(0)
    world.tick(1)
    world.now_ms += 10
    world.work()
    world.add(A, "late")
    world.work()
    world.execute(0)
    world.execute(1)
    world.now_ms += 3 * HOUR_MS
    return world


def fires_of(world: Deployment, group: str, partition: int = 0) -> list[int]:
    """Return the indexes of a group's fires in the log."""
    return [index for index, one in enumerate(world.log("fires", partition)) if one.key == group.encode()]


def only(report: Report) -> Finding:
    """Return the one finding that there is."""
    assert [one.code for one in report.findings] == [next(iter(report.counts))]
    return report.findings[0]


# --- the healthy twin ------------------------------------------------------------------------------------------------


def test_a_healthy_deployment_is_clean() -> None:
    """All that can happen to a command, and nothing to say about it; what was read is counted."""
    report = healthy().audit()
    assert report.findings == []
    assert [one.code for one in report.warnings] == []
    assert report.verdict == "clean"
    assert (report.expected, report.found, report.copies, report.complete, report.timeout) == (3, 3, 0, 2, 1)
    assert (report.groups, report.dead_letters, report.pending) == (5, 2, 0)
    assert report.lateness_ms == [50]


def test_copies_of_a_fire_and_of_a_letter_are_no_findings() -> None:
    """A crash makes them, and they change nothing."""
    world = healthy()
    for topic in ("fires", "commands_dead_letters"):
        for one in list(world.log(topic)):
            world.write(topic, one.key, one.value, headers=one.headers)
    report = world.audit()
    assert dict(report.counts) == {}
    assert (report.found, report.copies) == (3, 2)


def test_nothing_at_all_is_clean() -> None:
    """A deployment that nobody has used yet."""
    report = Deployment().audit()
    assert (report.verdict, report.warnings, report.commands) == ("clean", [], 0)


def test_all_codes_are_explained_and_tried_here() -> None:
    """A code without a test, or without a word about it, is a guess."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert [code for code in (*CODES, *WARNINGS) if f'"{code}"' not in text] == []


# --- fires -----------------------------------------------------------------------------------------------------------


def test_a_deleted_fire_is_lost() -> None:
    """It is named, with its group and with where its round closed."""
    world = healthy()
    del world.log("fires")[fires_of(world, A)[0]]
    world.log("outcomes").clear()
    finding = only(world.audit(expects_outcomes=False))
    assert (finding.code, finding.topic, finding.partition, finding.group_key) == ("lost_fire", TOPICS.fires, 0, A)
    assert finding.fire_id is not None
    assert "complete at offset 1 " in finding.detail


def test_a_fire_that_is_due_since_a_moment_is_pending() -> None:
    """Not lost: it may be on its way; how long that may take is said by the caller."""
    world = Deployment()
    world.add(A, "p1", of=1)
    world.now_ms += 59_000
    report = world.audit()
    assert (dict(report.counts), report.pending) == ({}, 1)
    assert world.codes(settle_ms=58_000) == {"overdue_fire": 1}


def test_a_fire_that_no_worker_has_come_to_is_overdue_and_not_lost() -> None:
    """The watermark tells the two apart; without a changelog nothing does."""
    world = Deployment()
    world.add(A, "p1", of=1)
    world.now_ms += HOUR_MS
    assert world.codes() == {"overdue_fire": 1}
    assert world.warned() == {"worker_behind"}
    assert world.codes("changelog") == {"lost_fire": 1}
    world.work()
    assert world.codes() == {}


def test_an_open_round_without_a_later_record_is_a_warning() -> None:
    """Nothing in the log has passed its deadline; that nobody sends a tick is not in the log either."""
    world = Deployment()
    world.add(A, "p1")
    world.work()
    world.now_ms += 2 * WAIT_MS - 1
    assert (world.codes(), world.warned()) == ({}, set())
    world.now_ms += 1
    assert (world.codes(), world.warned()) == ({}, {"overdue_rounds"})


def test_a_forged_fire_is_a_ghost() -> None:
    """Somebody has written to fires who is no worker."""
    world = healthy()
    fire = json.loads(world.log("fires")[0].value or b"")
    world.write("fires", A.encode(), json.dumps({**fire, "fire_id": FORGED}).encode())
    assert world.codes(expects_outcomes=False) == {"ghost_fire": 1}


def test_a_fire_of_a_removed_round_is_a_ghost() -> None:
    """`remove` ends a wait without a fire."""
    world = Deployment()
    world.add(A, "p1")
    world.work()
    world.lanes[0].fold.rows.get(A.encode()).deadline_ms = NOON_MS + 1
    world.remove(A)
    spoilt = world.lanes[0].fold
    spoilt._fire(A.encode(), spoilt.rows.get(A.encode()), "timeout", 1)
    for key, value in spoilt.take_effects().fires:
        world.write("fires", key, value)
    world.now_ms += HOUR_MS
    assert world.codes("changelog") == {"ghost_fire": 1}


@pytest.mark.parametrize(
    "changes",
    [{"arrived_count": 1}, {"execute_after_waiting_params": ["E2"]}, {"reason": "timeout"}, {"closed_offset": 7}],
)
def test_a_fire_with_other_bytes_is_wrong(changes: dict[str, Any]) -> None:
    """The right fire_id, and not what the commands say."""
    world = healthy()
    at = fires_of(world, A)[0]
    fire = json.loads(world.log("fires")[at].value or b"")
    world.change("fires", at, value=json.dumps({**fire, **changes}, separators=(",", ":")).encode())
    assert world.codes() == {"wrong_fire": 1}


def test_a_fire_with_another_key_is_wrong() -> None:
    """It would be taken for another group's, and lie anywhere."""
    world = healthy()
    world.change("fires", fires_of(world, A)[0], key=b"other")
    assert world.codes() == {"wrong_fire": 1}


def test_a_fire_of_a_round_that_is_still_open_is_early() -> None:
    """Its round waits until a deadline that nobody's clock has reached."""
    world = Deployment()
    world.add(A, "p1")
    world.work()
    fold = world.lanes[0].fold
    fold._fire(A.encode(), fold.rows.get(A.encode()), "timeout", 0)
    for key, value in fold.take_effects().fires:
        world.write("fires", key, value)
    finding = only(world.audit())
    assert (finding.code, finding.group_key, "still open" in finding.detail) == ("early_fire", A, True)


@pytest.mark.parametrize(("group", "before_ms"), [(group_on(0, "slow"), 51), (A, 1)])
def test_a_fire_that_was_appended_before_its_time_is_early(group: str, before_ms: int) -> None:
    """A timeout before its deadline, a completion before the add that completes."""
    world = healthy()
    at = fires_of(world, group)[0]
    world.change("fires", at, timestamp_ms=world.log("fires")[at].timestamp_ms - before_ms)
    assert world.codes(skew_ms=0) == {"early_fire": 1}
    assert world.codes(skew_ms=1) == {}


def test_two_different_fires_of_a_round_are_double() -> None:
    """Both are named as one finding, the wrong one as another."""
    world = healthy()
    at = fires_of(world, A)[0]
    fire = json.loads(world.log("fires")[at].value or b"")
    world.write("fires", A.encode(), json.dumps({**fire, "arrived_count": 9}, separators=(",", ":")).encode())
    assert world.codes() == {"double_fire": 1, "wrong_fire": 1}


def test_two_different_ghosts_with_one_id_are_double_as_well() -> None:
    """Neither is right, and they differ."""
    world = healthy()
    for count in (1, 2):
        world.write("fires", A.encode(), json.dumps({"fire_id": FORGED, "n": count}).encode())
    assert world.codes(expects_outcomes=False) == {"double_fire": 1, "ghost_fire": 1}


@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"[]", b"7", b'{"fire_id":7}', b'{"fire_id":"fire_1"}', b"[" * 100_000]
)
def test_what_is_no_fire_is_unreadable(value: bytes | None) -> None:
    """No release of this project has written it."""
    world = healthy()
    world.write("fires", b"g", value)
    assert world.codes() == {"unreadable_record": 1}


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_a_fire_that_nobody_ended_is_unfinished_after_the_patience() -> None:
    """Where executors run; where services act on fires themselves there are no outcomes at all."""
    world = healthy()
    world.log("outcomes")[:] = world.log("outcomes")[3:]
    assert world.codes() == {"unfinished_fire": 1}
    assert world.codes(patience_ms=4 * HOUR_MS) == {}
    world.log("outcomes").clear()
    world.log("outcomes", 1).clear()
    assert world.codes() == {}
    assert world.codes(expects_outcomes=True) == {"unfinished_fire": 3}


@pytest.mark.parametrize(
    ("fields", "is_alive"),
    [
        ({"state": "failed", "next_attempt_at_ms": NOON_MS + 4 * HOUR_MS}, True),
        ({"state": "started", "started_at_ms": NOON_MS, "time_limit_ms": 3 * HOUR_MS}, True),
        ({"state": "started", "started_at_ms": NOON_MS, "time_limit_ms": 1000}, False),
    ],
)
def test_a_fire_that_waits_for_its_next_attempt_is_alive(fields: dict[str, Any], is_alive: bool) -> None:
    """So is one whose attempt may still run."""
    world = Deployment()
    world.add(A, "p1", of=1)
    world.work()
    world.accept(world.log("fires")[0], **fields)
    world.now_ms += 3 * HOUR_MS
    assert world.codes() == ({} if is_alive else {"unfinished_fire": 1})


def test_a_fire_that_ended_twice_in_two_ways_is_double() -> None:
    """Done and dead, or done twice: the effect may have happened twice."""
    world = healthy()
    world.finish(world.log("fires")[0], state="done", took_ms=7)
    finding = only(world.audit())
    assert (finding.code, finding.topic) == ("double_fire", TOPICS.outcomes)


def test_the_same_end_written_twice_is_a_copy() -> None:
    """A producer's retry."""
    world = healthy()
    final = next(one for one in world.log("outcomes") if one.key and not one.key.endswith(b"/progress"))
    world.write("outcomes", final.key, final.value)
    assert world.codes() == {}


def test_a_dead_fire_that_was_sent_once_more_may_end_anew() -> None:
    """Somebody asked for it with `dlq retry`: it lies further on in fires."""
    world = Deployment()
    world.add(A, "p1", of=1)
    world.work()
    world.execute(state="dead")
    fire = world.log("fires")[0]
    world.write("fires", fire.key, fire.value, headers=[("wfm_retried_at", b"2026-11-24T12:00:00Z")])
    again = world.log("fires")[1]
    world.accept(again, headers=(("wfm_retried_at", b"2026-11-24T12:00:00Z"),))
    world.finish(again)
    world.now_ms += HOUR_MS
    assert world.codes() == {}
    world.finish(fire, state="dead")
    assert world.codes() == {"double_fire": 1}


def test_an_outcome_of_no_fire_is_a_ghost() -> None:
    """Unless retention has taken the fire."""
    world = healthy()
    world.write("outcomes", FORGED.encode(), b'{"state":"done","offset":0}')
    assert world.codes() == {"ghost_outcome": 1}
    world.forget("fires", 0)
    world.first["fires", 0] = 1
    assert "ghost_outcome" not in world.codes()


@pytest.mark.parametrize(
    ("key", "value"), [(b"x", b"{}"), (None, b"{}"), (FORGED.encode(), b"{"), (FORGED.encode(), b"[]")]
)
def test_what_is_no_outcome_is_unreadable(key: bytes | None, value: bytes) -> None:
    """By its key or by its value."""
    world = healthy()
    world.write("outcomes", key, value)
    assert world.codes() == {"unreadable_record": 1}


# --- dead letters ----------------------------------------------------------------------------------------------------


def test_a_refused_command_without_its_letter_is_a_lost_letter() -> None:
    """Bad input is never dropped in silence."""
    world = healthy()
    del world.log("commands_dead_letters")[0]
    finding = only(world.audit())
    assert (finding.code, finding.topic, finding.offset) == ("lost_dead_letter", TOPICS.commands, 17)
    assert "not_json" in finding.detail


def test_a_letter_of_a_command_that_nobody_has_read_yet_is_not_missed() -> None:
    """The worker is behind, which is said once."""
    world = Deployment()
    world.send(b"not json", b"x")
    world.now_ms += HOUR_MS
    assert (world.codes(), world.warned()) == ({}, {"worker_behind"})
    world.work()
    world.log("commands_dead_letters").clear()
    assert world.codes() == {"lost_dead_letter": 1}


@pytest.mark.parametrize("offset", [0, 1_000])
def test_a_letter_of_a_good_command_or_of_none_is_a_ghost(offset: int) -> None:
    """The command was set aside although it can be obeyed, or was never there."""
    world = healthy()
    letter = world.log("commands_dead_letters")[0]
    headers = [(name, b"%d" % offset if name == "__dlq.errors.offset" else value) for name, value in letter.headers]
    world.write("commands_dead_letters", letter.key, letter.value, headers=headers)
    assert world.codes() == {"ghost_dead_letter": 1}


@pytest.mark.parametrize(("fields", "says"), [({"value": b"other"}, "bytes"), ({"headers": "too_deep"}, "too_deep")])
def test_a_letter_that_is_not_its_commands_is_wrong(fields: dict[str, Any], says: str) -> None:
    """Other bytes, or another reason."""
    world = healthy()
    if "headers" in fields:
        old = world.log("commands_dead_letters")[0].headers
        fields = {"headers": tuple((name, b"too_deep" if name == "wfm_error" else value) for name, value in old)}
    world.change("commands_dead_letters", 0, **fields)
    finding = only(world.audit())
    assert (finding.code, says in finding.detail) == ("wrong_dead_letter", True)


def test_markers_and_foreign_letters_are_left_alone() -> None:
    """Other tools write there too; that there is something is said."""
    world = healthy()
    world.write("commands_dead_letters", None, None, headers=[("wfm_handled", b"retried")])
    assert world.warned() == set()
    world.write("commands_dead_letters", b"k", b"v", headers=[("kafka_dlt-original-topic", b"t")])
    assert (world.codes(), world.warned()) == ({}, {"foreign_dead_letters"})


def test_a_letter_that_was_cut_is_judged_by_its_reason_alone() -> None:
    """Its bytes are the beginning of the command's."""
    world = Deployment()
    world.send(b"x" * 300_000, b"x")
    world.work()
    assert world.codes() == {}


def test_a_dead_fire_without_its_letter_is_a_lost_letter() -> None:
    """It was given up, and nobody can see it."""
    world = healthy()
    world.log("outcomes").clear()
    world.execute(state="dead")
    assert world.codes() == {}
    del world.log("fires_dead_letters")[0]
    finding = only(world.audit())
    assert (finding.code, finding.topic) == ("lost_dead_letter", TOPICS.outcomes)


def test_a_letter_of_a_fire_that_does_not_exist_is_a_ghost() -> None:
    """It points behind the end of the fires."""
    world = healthy()
    world.letter_of_fire(world.log("fires")[0], offset=99)
    assert world.codes() == {"ghost_dead_letter": 1}


def test_a_command_at_which_the_fold_raised_passes_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the worker's word; it is said, so that somebody reports it."""
    world = Deployment()
    world.add(A, "p1", of=1)
    letter = [("__dlq.errors.topic", TOPICS.commands.encode()), ("__dlq.errors.partition", b"0"),
              ("__dlq.errors.offset", b"0"), ("wfm_error", b"apply_failed"), ("wfm_stage", b"apply")]  # fmt: skip
    world.write("commands_dead_letters", A.encode(), world.log("commands")[0].value, headers=letter)
    world.now_ms += HOUR_MS
    assert (world.codes("changelog"), world.warned("changelog")) == ({}, {"set_aside", "topic_missing"})


# --- misplaced commands ----------------------------------------------------------------------------------------------


def test_a_misplaced_command_that_was_not_sent_on_is_found() -> None:
    """Its group waits for it in another partition."""
    world = Deployment()
    world.add(B, "p1", partition=0)
    world.work(0)
    world.log("commands", 1).clear()
    world.now_ms += HOUR_MS
    finding = only(world.audit())
    assert (finding.code, finding.partition, finding.offset, finding.group_key) == ("misplaced", 0, 0, B)


def test_a_misplaced_command_that_was_sent_on_or_is_young_is_not() -> None:
    """The healthy history has the first; here is the second."""
    world = Deployment()
    world.add(B, "p1", partition=0)
    assert world.codes() == {}


def test_a_misplaced_command_too_large_to_be_sent_on_is_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sets it aside."""
    monkeypatch.setattr(lane_module, "COPY_MAX_BYTES", 10)
    world = Deployment()
    world.add(B, "p1", partition=0)
    world.work()
    world.now_ms += HOUR_MS
    assert len(world.log("commands_dead_letters")) == 1
    assert world.codes() == {}


# --- rows ------------------------------------------------------------------------------------------------------------


def spoil_row(world: Deployment, group: str, **fields: Any) -> None:
    """Change fields of a group's last row in the changelog."""
    log, key = world.log("changelog"), keys.group_row_key(group.encode())
    at = max(index for index, one in enumerate(log) if one.key == key)
    row = decode_round(key, log[at].value or b"")
    for name, value in fields.items():
        setattr(row, name, value)
    world.change("changelog", at, value=encode_round(row))


@pytest.mark.parametrize(
    ("group", "fields"),
    [
        (group_on(0, "many"), {"deadline_ms": 1}),
        (group_on(0, "many"), {"arrived_count": 13}),
        (group_on(0, "many"), {"params": b'["E2"]'}),
        (group_on(0, "many"), {"conflict_count": 1}),
        (group_on(0, "many"), {"opened_offset": 0}),
        (group_on(0, "many"), {"first_arrivals": []}),
        (A, {"late_count": 2}),
        (A, {"closed_at_ms": NOON_MS + 61_000}),
    ],
)
def test_a_row_that_is_not_what_the_commands_make_is_found(group: str, fields: dict[str, Any]) -> None:
    """Each of them would end in a wrong fire, an early one or none."""
    world = healthy()
    spoil_row(world, group, **fields)
    finding = only(world.audit())
    assert (finding.code, finding.topic, finding.group_key) == ("state_differs", TOPICS.changelog, group)


@pytest.mark.parametrize("kind", [keys.PARTICIPANT, keys.ARRIVAL, keys.GROUP])
def test_a_row_that_is_missing_is_found(kind: bytes) -> None:
    """A participant beyond the eighth, its place in the order, or the group itself."""
    world = healthy()
    prefix = kind + keys.group_row_key(group_on(0, "many").encode())[1:]
    log = world.log("changelog")
    log[:] = [one for one in log if not (one.key or b"").startswith(prefix)]
    assert only(world.audit()).group_key == group_on(0, "many")


def test_a_damaged_row_is_found() -> None:
    """Its bytes cannot be read."""
    world = healthy()
    at = max(i for i, one in enumerate(world.log("changelog")) if one.key == keys.group_row_key(A.encode()))
    world.change("changelog", at, value=b"\x01nonsense")
    assert "cannot be read" in only(world.audit()).detail


def test_a_row_of_a_group_that_was_never_there_is_found() -> None:
    """It would fire by itself when its time has come."""
    world = healthy()
    log = world.log("changelog")
    row = next(one for one in log if one.key == keys.group_row_key(group_on(0, "many").encode()))
    mark = log.pop()
    world.write("changelog", keys.group_row_key(b"nobody"), row.value, headers=mark.headers)
    world.write("changelog", mark.key, mark.value, headers=mark.headers)
    assert only(world.audit()).group_key == "nobody"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"offset": 99}, "the commands end at"),
        ({"stream_time_ms": 1}, "stream time"),
        ({"topic_id": str(FORGED)}, "another"),
        ({"partitions": 3}, "another"),
        ({"rerouted": {1: 5}}, "re-sent"),
    ],
)
def test_a_watermark_that_is_not_the_logs_is_found(fields: dict[str, Any], says: str) -> None:
    """Beyond the end, of another time, of another topic."""
    world = healthy()
    good = {
        "offset": 21,
        "stream_time_ms": NOON_MS + WAIT_MS + 50,
        "topic_id": str(TOPIC_ID),
        "partitions": PARTITIONS,
        "rerouted": {},
    }
    run = [("wfm_run", b"99")]
    assert world.log("commands")[-1].offset == 21
    world.write("changelog", keys.WATERMARK_KEY, encode_other(Watermark(**{**good, **fields})), headers=run)
    finding = only(world.audit())
    assert (finding.code, says in finding.detail) == ("state_differs", True)


def test_a_watermark_that_cannot_be_read_is_unreadable() -> None:
    """A restore would stop at it."""
    world = healthy()
    world.write("changelog", keys.WATERMARK_KEY, b"\x01\xc1", headers=[("wfm_run", b"99")])
    assert world.codes() == {"unreadable_record": 1}


def test_a_zombies_rows_are_ignored_as_a_restore_ignores_them() -> None:
    """They carry the end of a run that was overtaken."""
    world = healthy()
    old = next(one for one in world.log("changelog") if one.key == keys.group_row_key(A.encode()))
    world.write("changelog", old.key, old.value, headers=[("wfm_run", b"1")])
    assert world.codes() == {}


def test_rows_of_a_run_without_its_watermark_are_not_judged() -> None:
    """They are of later commands; a worker died amid its run, or is in it right now."""
    world = healthy()
    world.add(group_on(0, "many"), "p12", of=100, wait_time_in_seconds=86_400)
    world.work()
    log = world.log("changelog")
    assert log[-1].key == keys.WATERMARK_KEY
    log.pop()
    assert world.codes() == {}


def test_compaction_changes_nothing() -> None:
    """The last record of each key is enough."""
    world = healthy()
    for partition in range(PARTITIONS):
        world.outlet.compact(TOPICS.changelog, partition)
        world.outlet.compact(TOPICS.outcomes, partition)
    assert world.codes() == {}


def killed_amid_slices(monkeypatch: pytest.MonkeyPatch, *, groups: int, append: int) -> Deployment:
    """A deployment whose worker dies in this append of a closing that goes two rounds at a time."""
    monkeypatch.setattr(lane_module, "CLOSINGS_A_SLICE", 2)
    world = Deployment()
    for number in range(groups):
        world.add(group_on(0, f"s{number}-"), "p1")
    world.work()
    world.now_ms += WAIT_MS
    world.tick()
    world.outlet.die_at(append)
    with pytest.raises(Killed):
        world.work(0)
    return world


def test_a_closing_in_slices_is_judged_by_what_it_vouches_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watermark has the next record's time already, and some of what is due is still open."""
    world = killed_amid_slices(monkeypatch, groups=7, append=4)
    assert 0 < len(world.log("fires")) < 7
    assert world.codes() == {}


def test_a_round_that_is_open_behind_its_settled_slice_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watermark says that all that was due up to there has been closed."""
    world = killed_amid_slices(monkeypatch, groups=5, append=3)
    opened, mark = world.log("changelog")[0], world.log("changelog")[-1]
    assert (mark.key, opened.key[:1]) == (keys.WATERMARK_KEY, keys.GROUP)
    assert world.codes() == {}
    world.write("changelog", opened.key, opened.value, headers=mark.headers)
    assert world.codes() == {"state_differs": 1}


# --- what can only be judged in part ---------------------------------------------------------------------------------


def test_a_log_without_its_beginning_is_judged_in_part_and_says_so() -> None:
    """Whose rounds were open before it cannot be known: nobody is accused."""
    world = healthy()
    world.forget("commands", 1)
    report = world.audit()
    assert dict(report.counts) == {}
    assert [one.code for one in report.warnings] == ["log_truncated"]
    assert report.expected == report.complete + report.timeout


def test_what_needs_no_past_is_judged_all_the_same() -> None:
    """Two versions of a fire, and a bad command without its letter."""
    world = healthy()
    world.forget("commands", 1)
    fire = json.loads(world.log("fires")[0].value or b"")
    world.write("fires", A.encode(), json.dumps({**fire, "arrived_count": 9}).encode())
    del world.log("commands_dead_letters")[0]
    assert world.codes() == {"double_fire": 1, "lost_dead_letter": 1}


def test_fires_that_retention_has_taken_are_not_missed() -> None:
    """Younger ones are."""
    world = healthy()
    world.log("outcomes").clear()
    world.forget("fires", 1)
    assert (world.codes(expects_outcomes=False), world.warned()) == ({}, {"fires_truncated"})
    assert len(world.log("fires")) == 1


def test_letters_and_outcomes_that_retention_has_taken_are_not_missed() -> None:
    """They are as old as what they are about."""
    world = healthy()
    world.forget("commands_dead_letters", 2)
    world.forget("outcomes", len(world.log("outcomes")))
    assert (world.codes(), world.warned()) == ({}, {"letters_truncated", "outcomes_truncated"})


def test_a_topic_that_does_not_exist_is_said_once() -> None:
    """What it would hold is not judged."""
    world = healthy()
    report = world.audit("commands_dead_letters", "outcomes")
    assert dict(report.counts) == {}
    assert [(one.code, one.topic) for one in report.warnings] == [
        ("topic_missing", TOPICS.outcomes),
        ("topic_missing", TOPICS.commands_dead_letters),
    ]


def test_a_local_clock_that_is_behind_the_brokers_is_said() -> None:
    """What is newer than it counts as young."""
    world = healthy()
    assert world.warned(cut_ms=NOON_MS) == {"clock_behind"}
    assert world.warned() == set()


def test_commands_whose_time_no_broker_has_set_are_said() -> None:
    """They pass no time: a worker would refuse the topic."""
    world = Deployment()
    world.add(A, "p1")
    world.timestamp_type = 0
    assert (world.codes(), world.warned()) == ({}, {"create_time", "overdue_rounds"})
    assert world.warned(trust_create_time=True) == set()


# --- reports ---------------------------------------------------------------------------------------------------------


def test_a_thousand_of_one_code_do_not_hide_another() -> None:
    """All are counted; of each some are kept."""
    many, one = Report(), Report()
    for number in range(1000):
        many.found_one(Finding(code="lost_fire", topic="t", partition=0, offset=number))
    one.found_one(Finding(code="misplaced", topic="t", partition=1))
    total = Report()
    total.add(many)
    total.add(one)
    assert dict(total.counts) == {"lost_fire": 1000, "misplaced": 1}
    assert {finding.code for finding in total.findings} == {"lost_fire", "misplaced"}
    assert len(total.findings) <= FINDINGS_MAX
    assert total.members(1.0)["counts"] == {"lost_fire": 1000, "misplaced": 1}


def test_percentiles_are_those_of_the_values() -> None:
    """Of none, of one, of a hundred."""
    assert percentiles([]) == {"p50": None, "p99": None, "max": None}
    assert percentiles([7]) == {"p50": 7, "p99": 7, "max": 7}
    assert percentiles(list(range(1, 101))) == {"p50": 50, "p99": 100, "max": 100}
