"""What an audit has found: findings (a promise is broken) and warnings (something could not be judged, or is late).

The codes are stable: scripts and alerts may rely on them. A new case gets a new code, none changes its meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FINDINGS_MAX = 100
"""So many are kept with their details; all are counted."""

CODES = {
    "lost_fire": "a round has closed, its record has been folded, and its fire is not there",
    "overdue_fire": "a round has closed longer ago than the grace, but no worker has folded the record that closes it",
    "ghost_fire": "a fire for which the commands have no round that closed with one",
    "wrong_fire": "a fire of a right round with other bytes than the commands make",
    "early_fire": "a fire of a round that is still open, or one that was appended before its time",
    "double_fire": "two different fires of one round, or two different final outcomes of one fire",
    "state_differs": "the worker's rows are not what the commands make",
    "misplaced": "a command on the wrong partition was not sent on",
    "unfinished_fire": "a fire without a final outcome, and without a sign of life for longer than the patience",
    "ghost_outcome": "an outcome of a fire that is not there",
    "lost_dead_letter": "a command that cannot be obeyed, or a fire that was given up, without its dead letter",
    "ghost_dead_letter": "a dead letter of a command that can be obeyed, or of a record that does not exist",
    "wrong_dead_letter": "a dead letter with other bytes, or another reason, than its command has",
    "unreadable_record": "a record that no release of this project has written",
}
WARNINGS = {
    "log_truncated": "retention has deleted the beginning of the commands: of this partition only what needs no past is judged",
    "fires_truncated": "retention has deleted fires: those that would be as old are not looked for",
    "letters_truncated": "retention has deleted dead letters: those that would be as old are not looked for",
    "outcomes_truncated": "retention has deleted outcomes: fires that are as old are not asked how they ended",
    "topic_missing": "the topic does not exist, so what it should hold is not judged",
    "create_time": "records whose time no broker has set: they pass no time, and how late a fire came is not known",
    "overdue_rounds": "open rounds whose deadline passed longer ago than the grace, and no record has come since: is a worker running?",
    "worker_behind": "commands older than the grace that no worker has folded yet",
    "set_aside": "commands at which the worker's fold raised; they are dead letters, and count as having passed time only",
    "foreign_dead_letters": "records among the dead letters that are not this project's; they are left alone",
    "clock_behind": "this machine's clock is behind the brokers': newer records are taken for settled too late, never too early",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it must be, and where to look."""

    code: str
    topic: str
    partition: int
    offset: int | None = None
    group_key: str | None = None
    fire_id: str | None = None
    detail: str = ""


@dataclass(kw_only=True)
class Report:
    """What has been read and found, of one partition or of many; reports add up."""

    groups: int = 0
    commands: int = 0
    outcomes: int = 0
    dead_letters: int = 0
    rows: int = 0
    expected: int = 0
    pending: int = 0
    found: int = 0
    copies: int = 0
    complete: int = 0
    timeout: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)
    lateness_ms: list[int] = field(default_factory=list)
    resent: list[tuple[int, int, int, str]] = field(default_factory=list)  # from partition, offset, to partition, group
    copies_from: set[tuple[int, int]] = field(default_factory=set)  # (partition, offset) of which a copy is there
    truncated: set[int] = field(default_factory=set)  # partitions whose commands do not begin at 0

    def found_one(self, finding: Finding) -> None:
        """Count a finding, and keep it if there are not too many yet."""
        self.counts[finding.code] += 1
        if self.counts[finding.code] <= FINDINGS_MAX // 4 or len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)

    def add(self, other: Report) -> None:
        """Take in the report of another partition."""
        for name in ("groups", "commands", "outcomes", "dead_letters", "rows", "expected", "pending", "found", "copies",
                     "complete", "timeout"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.counts.update(other.counts)
        self.findings = _of_each_code([*self.findings, *other.findings])
        self.warnings += other.warnings
        self.lateness_ms += other.lateness_ms
        self.resent += other.resent
        self.copies_from |= other.copies_from
        self.truncated |= other.truncated

    @property
    def verdict(self) -> str:
        """`clean` or `findings`."""
        return "findings" if self.counts else "clean"

    def members(self, seconds: float) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "verdict": self.verdict,
            "groups": self.groups,
            "fires": {
                "expected": self.expected,
                "found": self.found,
                "copies": self.copies,
                "complete": self.complete,
                "timeout": self.timeout,
                "pending": self.pending,
            },
            "commands": self.commands,
            "outcomes": self.outcomes,
            "dead_letters": self.dead_letters,
            "rows": self.rows,
            "counts": dict(sorted(self.counts.items())),
            "findings": [_members(one) for one in self.findings],
            "warnings": [_members(one) for one in self.warnings],
            "lateness_ms": percentiles(self.lateness_ms),
            "seconds": round(seconds, 3),
        }


def _of_each_code(findings: Iterable[Finding]) -> list[Finding]:
    """Keep some of every code, so that a thousand of one do not hide the only one of another."""
    ordered = sorted(findings, key=lambda one: (one.code, one.partition, one.offset or 0))
    seen: Counter[str] = Counter()
    few: list[Finding] = []
    many: list[Finding] = []
    for one in ordered:
        seen[one.code] += 1
        (few if seen[one.code] <= FINDINGS_MAX // len(CODES) else many).append(one)
    return few + many[: max(0, FINDINGS_MAX - len(few))]


def percentiles(values: list[int]) -> dict[str, int | None]:
    """Return median, 99th percentile and maximum; None of each without values."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": None, "p99": None, "max": None}
    last = len(ordered) - 1
    return {"p50": ordered[last // 2], "p99": ordered[-(-last * 99 // 100)], "max": ordered[-1]}


def _members(one: Finding) -> Mapping[str, Any]:
    return {
        "code": one.code,
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "group_key": one.group_key,
        "fire_id": one.fire_id,
        "detail": one.detail,
    }
