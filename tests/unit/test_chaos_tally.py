"""What a chaos run counts, and what it says about it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from chaos.plan import EXECUTOR_POINTS, WORKER_POINTS, Targets
from chaos.report import page, picture, row_of
from chaos.slots import last_error
from chaos.tally import (
    Expected,
    Figures,
    Latency,
    histories,
    judge_effects,
    judge_fires,
    kills_of_workers,
    missed,
    percentile,
    recovery_ms,
)


def expected(
    fire_id: str = "f1", *, due_ms: int = 1000, reason: str = "timeout", callback: str = "chaos.note"
) -> Expected:
    """A fire that the log demands."""
    return Expected(fire_id=fire_id, reason=reason, partition=0, due_ms=due_ms, callback=callback)


def progress(state: str, attempt: int = 1, **more: Any) -> dict[str, Any]:
    """A step in the outcomes log."""
    return {"type": "progress", "fire_id": "f1", "state": state, "attempt": attempt, **more}


def final(state: str = "done", **more: Any) -> dict[str, Any]:
    """An end in the outcomes log."""
    return {"type": "final", "fire_id": "f1", "state": state, **more}


def effects_of(outcomes: list[dict[str, Any]], ran: int, *, callback: str = "chaos.note") -> Any:
    """Judge one fire."""
    return judge_effects([expected(callback=callback)], histories(outcomes), {"f1": ran} if ran else {})


# -- fires


def test_a_fire_that_is_there_is_judged_by_its_first_copy() -> None:
    """Copies are counted and are no fault."""
    verdict = judge_fires({b"a": expected()}, [(b"a", 1200), (b"a", 5000)])
    assert (verdict.lost, verdict.ghosts, verdict.early, verdict.copies) == ([], [], [], 1)
    assert [one.late_ms for one in verdict.latencies] == [200]


def test_lost_ghost_and_early_fires_are_named() -> None:
    """Each by what it is."""
    fires = {b"a": expected("lost"), b"b": expected("early")}
    verdict = judge_fires(fires, [(b"b", 999), (b"c", 2000)])
    assert (verdict.lost, verdict.ghosts, verdict.early) == (["lost"], [b"c"], ["early"])


# -- effects


def test_one_start_one_end_one_effect_is_done() -> None:
    """The ordinary case."""
    verdict = effects_of([progress("accepted", 0), progress("started"), final()], 1)
    assert (verdict.done, verdict.doubled, verdict.run_again_explained) == (1, [], 0)


def test_a_second_effect_after_a_start_without_an_end_is_explained() -> None:
    """The executor died, or was stopped, during the first attempt."""
    lost = progress("failed", starts_without_end=1)
    verdict = effects_of([progress("started"), lost, progress("started", 2, starts_without_end=1), final()], 2)
    assert (verdict.doubled, verdict.run_again_explained) == ([], 1)


def test_a_second_effect_after_a_time_limit_is_explained() -> None:
    """The first attempt was judged while it ran on."""
    late = progress("failed", error="callback_timeout")
    assert effects_of([progress("started"), late, progress("started", 2), final()], 2).doubled == []


@pytest.mark.parametrize("extra", [[], [progress("failed", error="callback_failed"), progress("started", 2)]])
def test_an_effect_that_nothing_explains_is_doubled(extra: list[dict[str, Any]]) -> None:
    """Every start has its end, and yet it was done twice."""
    assert effects_of([progress("started"), *extra, final()], 2).doubled == ["f1"]


def test_two_effects_more_than_one_lost_start_explains_are_doubled() -> None:
    """Each lost start explains one."""
    outcomes = [progress("started"), progress("failed", starts_without_end=1), progress("started", 2), final()]
    assert effects_of(outcomes, 3).doubled == ["f1"]


def test_a_fire_without_an_end_is_undone() -> None:
    """Whether it was begun or never seen."""
    assert effects_of([progress("started")], 1).undone == ["f1"]
    assert effects_of([], 0).undone == ["f1"]


def test_done_without_an_effect_is_named() -> None:
    """The outcome says that the callback has returned; the witness does not know of it."""
    assert effects_of([progress("started"), final()], 0).without_effect == ["f1"]


def test_a_fire_that_is_done_and_dead_is_torn() -> None:
    """Two ends that contradict each other."""
    assert effects_of([final("done"), final("dead")], 1).torn == ["f1"]


def test_the_same_end_twice_is_counted() -> None:
    """A zombie may write down what its successor has written."""
    verdict = effects_of([progress("started"), final(), final()], 1)
    assert (verdict.written_twice, verdict.torn, verdict.done) == (1, [], 1)


def test_dead_is_right_for_what_asks_for_it_and_explained_after_three_deaths() -> None:
    """Anything else that is dead is undone."""
    killed = [progress("failed", 3, starts_without_end=3), final("dead", error="callback_killed_process")]
    assert effects_of([final("dead", error="callback_failed")], 0, callback="chaos.hopeless").set_aside == 1
    assert effects_of(killed, 0).given_up == ["f1"]
    assert effects_of([final("dead", error="callback_failed")], 0).undone == ["f1"]


def test_what_was_given_up_and_retried_is_done() -> None:
    """An operator has sent it again; dead after done would be torn all the same."""
    killed = [progress("failed", 3, starts_without_end=3), final("dead", error="callback_killed_process")]
    verdict = effects_of([*killed, final("done")], 1)
    assert (verdict.done, verdict.retried, verdict.torn) == (1, 1, [])
    assert effects_of([final("done"), *killed], 1).torn == ["f1"]


def test_an_effect_of_no_fire_is_a_ghost() -> None:
    """Nothing may run that the log does not demand."""
    assert judge_effects([], {}, {"f9": 1}).ghosts == ["f9"]


# -- recovery


def test_recovery_is_measured_on_the_killed_workers_lanes_in_its_window() -> None:
    """Other lanes, and rounds due before or long after, do not count."""
    kills = [{"at_ms": 10_000, "partitions": [0]}]
    rounds = [(9_000, 0), (12_000, 0), (12_000, 1), (20_999, 0), (21_001, 0)]
    latencies = [Latency(due_ms=due, late_ms=due // 1000, partition=lane, reason="timeout") for due, lane in rounds]
    assert recovery_ms(latencies, kills, 6) == [12, 20]


def test_kills_near_a_time_without_a_broker_are_left_out() -> None:
    """And of the others, the calm ones are told apart."""
    events = [
        {"at_ms": 1_000, "what": "sigkill", "partitions": [1], "why": "calm"},
        {"at_ms": 50_000, "what": "broker_sigkill", "until_ms": 70_000},
        {"at_ms": 60_000, "what": "crash_point", "partitions": [1]},
        {"at_ms": 90_000, "what": "crash_point", "partitions": [1]},
        {"at_ms": 95_000, "what": "sigkill", "partitions": []},
    ]
    assert [one["at_ms"] for one in kills_of_workers(events, calm=True)] == [1_000]
    assert [one["at_ms"] for one in kills_of_workers(events, calm=False)] == [1_000, 90_000]


def test_percentiles_of_nothing_and_of_something() -> None:
    """The largest value that the share does not exceed."""
    assert percentile([], 0.99) is None
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(list(range(100)), 0.99) == 99


# -- the verdict


def figures(**changes: Any) -> Figures:
    """A run that has reached everything."""
    hits = dict.fromkeys((*WORKER_POINTS, *EXECUTOR_POINTS), 20)
    right: dict[str, Any] = {
        "seed": 1, "minutes": 20.0, "sigkills": 60, "zombies": 8, "broker_kills": 6, "network_faults": 20, "groups": 30_000,
        "lost": 0, "doubled": 0, "early": 0, "recovery_p99_s": 10.9, "hits": hits,
    }  # fmt: skip
    return Figures(**(right | changes))


def test_a_run_that_has_reached_everything_misses_nothing() -> None:
    """And its line has what others read."""
    assert missed(figures(), Targets(), 6) == []
    line = figures(more={"copies": 3}).as_line()
    assert (line["seed"], line["lost"], line["copies"]) == (1, 0, 3)
    assert "more" not in line


@pytest.mark.parametrize(
    "change",
    [
        {"sigkills": 59}, {"zombies": 7}, {"broker_kills": 5}, {"network_faults": 19}, {"groups": 29_999},
        {"lost": 1}, {"doubled": 1}, {"early": 1}, {"ghosts": 1}, {"unfinished": 1}, {"letters_wrong": 1}, {"strange_ends": 1},
        {"recovery_p99_s": 11.1}, {"recovery_p99_s": None},
        {"hits": dict.fromkeys((*WORKER_POINTS, *EXECUTOR_POINTS[:-1]), 20)},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_is_missed_is_named(change: dict[str, Any]) -> None:
    """One thing at a time."""
    assert len(missed(figures(**change), Targets(), 6)) == 1


# -- the report


def test_the_picture_is_well_formed_and_has_a_mark_for_each_fault() -> None:
    """Also without a single fire."""
    events = [
        {"at_ms": 1000, "what": "sigkill", "slot": "w1"},
        {"at_ms": 3000, "what": "network", "until_ms": 9000},
        {"at_ms": 4000, "what": "start", "slot": "w1"},
    ]
    latencies = [Latency(due_ms=at, late_ms=at // 10, partition=0, reason="timeout") for at in range(0, 20_000, 100)]
    root = ElementTree.fromstring(picture(latencies, events))
    assert len(root.findall("{*}rect")) == 2
    assert root.findall("{*}circle")
    ElementTree.fromstring(picture([], []))


def test_the_page_says_what_was_missed_and_escapes_what_it_shows() -> None:
    """It stands alone: nothing is loaded from anywhere."""
    text = page(
        title="Chaos <1>", figures={"lost": 0}, missed=["K7 hit 0 times"], notes=["a & b"], latencies=[], events=[]
    )
    assert "Chaos &lt;1&gt;" in text
    assert "K7 hit 0 times" in text
    assert "a &amp; b" in text
    assert "<script" not in text
    assert "src=" not in text


@pytest.mark.parametrize(
    ("event", "row"),
    [
        ({"what": "crash_point", "slot": "x1"}, "executor at a point"),
        ({"what": "sigstop", "slot": "w2"}, "worker stopped"),
        ({"what": "broker_sigkill"}, "broker down"),
        ({"what": "start", "slot": "w1"}, None),
        ({"what": "sigterm", "slot": "x1"}, None),
    ],
)
def test_every_fault_has_its_row(event: dict[str, Any], row: str | None) -> None:
    """What is no fault has none."""
    assert row_of(event) == row


def test_the_last_error_of_a_log_is_found() -> None:
    """Or its last line, where there is no error."""
    log = '{"level": "critical", "message": "worker_ends", "error": "no"}\n{"level": "info", "message": "later"}\n'
    assert last_error(log) == "worker_ends no"
    assert last_error("Traceback\nKeyError: 1\n") == "KeyError: 1"
    assert last_error("") == ""
