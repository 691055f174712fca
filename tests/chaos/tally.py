"""Counts what a run has shown, and says which targets it has missed. Pure: records and notes in, figures out.

Effects: a callback runs at least once. Its work may be done again when an attempt has begun and nobody wrote down its end (the executor
died, or was stopped for too long), or when the attempt had outlasted its time limit. The outcomes log names both. What
was done more often than that is `doubled`; what is explained is counted beside it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from chaos.plan import EXECUTOR_POINTS, WORKER_POINTS, Targets

RECOVERY_MARGIN_S: Final = 5.0
_STARTS_WITHOUT_END: Final = 3


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A fire that the log demands."""

    fire_id: str
    reason: str
    partition: int
    due_ms: int
    """From when on it can be: the deadline of a timeout, the append time of the add that completed it."""
    callback: str


@dataclass(frozen=True, kw_only=True)
class Latency:
    """How long after it was due a fire was in Kafka."""

    due_ms: int
    late_ms: int
    partition: int
    reason: str


@dataclass(kw_only=True)
class FiresVerdict:
    """What lies in the fires topic against what the log demands."""

    lost: list[str] = field(default_factory=list)
    ghosts: list[bytes] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    copies: int = 0
    latencies: list[Latency] = field(default_factory=list)


def judge_fires(expected: Mapping[bytes, Expected], found: Iterable[tuple[bytes, int]]) -> FiresVerdict:
    """Compare byte for byte; `found` has values with their append times in the order of the log."""
    verdict = FiresVerdict()
    first: dict[bytes, int] = {}
    for value, appended_ms in found:
        if value in first:
            verdict.copies += 1
            first[value] = min(first[value], appended_ms)
        else:
            first[value] = appended_ms
    verdict.ghosts = [value for value in first if value not in expected]
    for value, fire in expected.items():
        if value not in first:
            verdict.lost.append(fire.fire_id)
            continue
        late_ms = first[value] - fire.due_ms
        if late_ms < 0:
            verdict.early.append(fire.fire_id)
        verdict.latencies.append(
            Latency(due_ms=fire.due_ms, late_ms=late_ms, partition=fire.partition, reason=fire.reason)
        )
    return verdict


@dataclass(kw_only=True)
class History:
    """What the outcomes log says about one fire."""

    starts: set[tuple[int, int]] = field(default_factory=set)
    lost_starts: int = 0
    too_late: set[int] = field(default_factory=set)
    finals: list[str] = field(default_factory=list)
    errors: set[str] = field(default_factory=set)


def histories(outcomes: Iterable[Mapping[str, Any]]) -> dict[str, History]:
    """Read the outcomes, in the order of their log."""
    found: defaultdict[str, History] = defaultdict(History)
    for one in outcomes:
        history = found[one["fire_id"]]
        if one["type"] == "final":
            history.finals.append(one["state"])
            history.errors.add(one.get("error", ""))
            continue
        history.lost_starts = max(history.lost_starts, one.get("starts_without_end", 0))
        if one["state"] == "started":
            history.starts.add((one.get("tenure", 0), one["attempt"]))
        elif one["state"] == "failed" and one.get("error") == "callback_timeout":
            history.too_late.add(one["attempt"])
    return dict(found)


@dataclass(kw_only=True)
class EffectsVerdict:
    """What the callbacks have done against what they should have."""

    done: int = 0
    set_aside: int = 0
    undone: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    """Dead because their process died three times while they ran, and not retried since."""
    retried: int = 0
    """Given up like that, sent again as an operator does it, and done then."""
    without_effect: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    run_again_explained: int = 0
    ghosts: list[str] = field(default_factory=list)
    written_twice: int = 0
    """Fires whose end two executors have written down, both the same."""


def judge_effects(
    fires: Iterable[Expected], known: Mapping[str, History], effects: Mapping[str, int]
) -> EffectsVerdict:
    """Compare every fire's end and its effects with what was to come of it."""
    verdict, wanted = EffectsVerdict(), {fire.fire_id: fire for fire in fires}
    for fire_id, fire in wanted.items():
        _judge_fire(verdict, fire, known.get(fire_id, History()), effects.get(fire_id, 0))
    verdict.ghosts = [fire_id for fire_id in effects if fire_id not in wanted]
    return verdict


def _judge_fire(verdict: EffectsVerdict, fire: Expected, history: History, ran: int) -> None:
    ends = set(history.finals)
    verdict.written_twice += len(history.finals) > len(ends)
    killed = "callback_killed_process" in history.errors and history.lost_starts >= _STARTS_WITHOUT_END
    if ends == {"dead", "done"} and history.finals[-1] == "done" and killed:
        verdict.done += 1
        verdict.retried += 1
    elif len(ends) > 1:
        verdict.torn.append(fire.fire_id)
    elif not ends:
        verdict.undone.append(fire.fire_id)
    elif ends == {"done"}:
        verdict.done += 1
        if not ran:
            verdict.without_effect.append(fire.fire_id)
    elif fire.callback == "chaos.hopeless":
        verdict.set_aside += 1
    elif killed:
        verdict.given_up.append(fire.fire_id)
    else:
        verdict.undone.append(fire.fire_id)
    if ran > 1:
        if ran <= 1 + history.lost_starts + len(history.too_late):
            verdict.run_again_explained += ran - 1
        else:
            verdict.doubled.append(fire.fire_id)


# -- recovery


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value that so large a share of the values does not exceed, or None of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else None


def recovery_ms(latencies: Iterable[Latency], kills: Iterable[Mapping[str, Any]], session_s: float) -> list[int]:
    """Return how late the rounds were that fell due on a killed worker's lanes within session timeout + 5 s of its end."""
    window_ms = (session_s + RECOVERY_MARGIN_S) * 1000
    windows = [(kill["at_ms"], kill["at_ms"] + window_ms, set(kill["partitions"])) for kill in kills]
    return [
        one.late_ms
        for one in latencies
        if any(begin <= one.due_ms <= end and one.partition in lanes for begin, end, lanes in windows)
    ]


def kills_of_workers(events: Sequence[Mapping[str, Any]], *, calm: bool) -> list[Mapping[str, Any]]:
    """Return the kills of workers that held lanes: the calm ones, or all but those near a time without a broker."""
    kills = [one for one in events if one["what"] in ("sigkill", "crash_point") and one.get("partitions")]
    if calm:
        return [one for one in kills if one.get("why") == "calm"]
    outages = [
        (one["at_ms"] - 12_000, one.get("until_ms", one["at_ms"] + 60_000))
        for one in events
        if one["what"] == "broker_sigkill"
    ]
    return [one for one in kills if not any(begin <= one["at_ms"] <= end for begin, end in outages)]


# -- the verdict


@dataclass(kw_only=True)
class Figures:
    """The last line of a run, and what decides about its exit code."""

    seed: int
    minutes: float
    sigkills: int
    zombies: int
    broker_kills: int
    network_faults: int
    groups: int
    lost: int
    doubled: int
    early: int
    recovery_p99_s: float | None
    hits: Mapping[str, int] = field(default_factory=dict)
    ghosts: int = 0
    unfinished: int = 0
    letters_wrong: int = 0
    strange_ends: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_line(self) -> dict[str, Any]:
        """Return the members of the last line."""
        members = asdict(self)
        return {**{name: value for name, value in members.items() if name != "more"}, **self.more}


_NONE_OF: Final = ("lost", "doubled", "early", "ghosts", "unfinished", "letters_wrong", "strange_ends")


def missed(figures: Figures, targets: Targets, session_s: float) -> list[str]:
    """Return every target that was not reached, in words."""
    found = [
        f"{name} {getattr(figures, name)} of {wanted}"
        for name, wanted in asdict(targets).items()
        if name != "hits_a_point" and getattr(figures, name) < wanted
    ]
    found += [
        f"{point} hit {figures.hits.get(point, 0)} times of {targets.hits_a_point}"
        for point in (*WORKER_POINTS, *EXECUTOR_POINTS)
        if figures.hits.get(point, 0) < targets.hits_a_point
    ]
    found += [f"{name} {number}, must be 0" for name in _NONE_OF if (number := getattr(figures, name))]
    limit = session_s + RECOVERY_MARGIN_S
    if figures.recovery_p99_s is None:
        found.append("no recovery was measured")
    elif figures.recovery_p99_s > limit:
        found.append(f"recovery_p99_s {figures.recovery_p99_s}, must be at most {limit:g}")
    return found


def count_kinds(events: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Count what has happened, by kind."""
    return Counter(one["what"] for one in events)
