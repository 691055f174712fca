"""Judges one partition of a deployment: all its topics against what the reference makes of its commands. Pure: records in, findings out.

The danger is a false accusation: an auditor that cries wolf is switched off. So what is young is pending and not lost, what retention has
taken is not looked for, and every rule below relies on the order in which the ends of the topics were taken: whatever follows from
something else first (outcomes, changelog), fires next, commands last. Then the cause of everything that was read has been read too.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .endings import read_endings
from .findings import WARNINGS, Finding, Report
from .fires import Seen, read_fires
from .letters import fingerprint, read_letters
from .reference import Lane
from .rows import read_changelog
from .state import differences
from .wire import Record

TOPICS_IN_READING_ORDER = ("outcomes", "fires_dead_letters", "changelog", "fires", "commands_dead_letters", "commands")
"""Take the ends of the topics in this order, all of one before the first of the next."""


@dataclass(kw_only=True)
class Log:
    """One partition of a topic: its first offset, the end that it had when the audit began, and the records between."""

    first: int = 0
    end: int
    records: Iterable[Record]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is the same for all partitions of an audit."""

    topic_id: uuid.UUID
    partitions: int
    names: Mapping[str, str] = field(default_factory=lambda: {name: name for name in TOPICS_IN_READING_ORDER})
    cut_ms: int
    """When the audit began, before the first end was taken."""
    settle_ms: int = 60_000
    patience_ms: int = 600_000
    skew_ms: int = 100
    """How far the clocks of two brokers may be apart."""
    expects_outcomes: bool = False
    trust_create_time: bool = False

    @property
    def settled_ms(self) -> int:
        """What was due at this time must have happened."""
        return self.cut_ms - self.settle_ms


def judge_partition(case: Case, partition: int, logs: Mapping[str, Log]) -> Report:
    """Judge one partition; a topic that does not exist has no log."""
    return _Partition(case, partition, logs).judge()


def conclude(case: Case, reports: Iterable[Report]) -> Report:
    """Add up the partitions, and judge what lies between them: misplaced commands that were sent on."""
    total = Report()
    for report in reports:
        total.add(report)
    for partition, offset, target, group in total.resent:
        if (partition, offset) not in total.copies_from and target not in total.truncated:
            detail = f"it belongs to partition {target} and was not sent there: its group waits for it"
            total.found_one(
                Finding(code="misplaced", topic=case.names["commands"], partition=partition, offset=offset,
                        group_key=group, detail=detail)
            )  # fmt: skip
    return total


class _Partition:
    def __init__(self, case: Case, partition: int, logs: Mapping[str, Log]) -> None:
        self.case, self.partition, self.logs = case, partition, logs
        self.report = Report()
        self.commands = logs["commands"]
        self.is_whole = self.commands.first == 0
        self.unjudged = self.behind = self.untimed = self.newest_ms = 0

    def judge(self) -> Report:
        """Read everything that follows from the commands, then the commands, and compare."""
        self.changelog = read_changelog(self.records("changelog")) if "changelog" in self.logs else None
        self.letters = read_letters(self.records("commands_dead_letters"), self.case.names["commands"], self.partition)
        self.fires = read_fires(self.records("fires"), trust_create_time=self.case.trust_create_time)
        self.endings = read_endings(
            self.records("outcomes"), self.records("fires_dead_letters"), self.case.names["fires"]
        )
        self.report_reading()
        self.judge_endings()
        self.fold()
        self.judge_ghosts()
        self.judge_letters()
        self.count()
        self.warn_all()
        return self.report

    def records(self, topic: str) -> Iterable[Record]:
        return self.logs[topic].records if topic in self.logs else ()

    # -- the commands

    def fold(self) -> None:
        case, letters = self.case, self.letters
        self.lane = lane = Lane(case.topic_id, self.partition, case.partitions,
                                trust_create_time=case.trust_create_time, skipped=letters.apply_failed)  # fmt: skip
        changelog = self.changelog
        compare_behind = changelog.watermark if changelog and changelog.mark and self.is_whole else 1 << 62
        watermark = changelog.watermark if changelog else 1 << 62
        seen, settled_ms = lane.seen, case.settled_ms
        for record in self.commands.records:
            offset = record.offset
            if offset > watermark:
                if offset > compare_behind:
                    self.compare_state(record)
                    compare_behind = 1 << 62
                self.behind += record.timestamp_ms <= settled_ms
            verdict = lane.read(record)
            self.report.commands += 1
            if seen.fires:
                self.expect_fires(record)
            if verdict == "rejected":
                _, code, stage = seen.rejected.pop()
                self.expect_letter(record, code, stage)
            elif verdict == "rerouted":
                self.note_resent(record, seen.rerouted.pop()[1])
            if record.headers:
                self.note_copy(record)
            if record.timestamp_type != 1:
                self.untimed += 1
            elif record.timestamp_ms > self.newest_ms:
                self.newest_ms = record.timestamp_ms
        if compare_behind < 1 << 62:
            self.compare_state(None)

    def expect_fires(self, record: Record) -> None:
        seen = self.lane.seen
        for (offset, key, value), (fire_id, reason, deadline, now) in zip(seen.fires, seen.fired_rounds, strict=True):
            found = self.fires.by_id.pop(fire_id, None)
            if found is None:
                self.miss_fire(offset, key, fire_id, reason, now)
            else:
                due = deadline if reason == "timeout" else record.timestamp_ms
                self.match_fire(found, hash((key, value)), fire_id, reason, due)
        seen.fires.clear()
        seen.fired_rounds.clear()

    def miss_fire(self, offset: int, key: bytes, fire_id: str, reason: str, now: int) -> None:
        report, log = self.report, self.logs.get("fires")
        if not self.is_whole or (log and log.first and now <= self.fires.oldest_ms):
            self.unjudged += 1
            return
        report.expected += 1
        if now > self.case.settled_ms:
            report.pending += 1
            return
        is_folded = self.changelog is None or offset <= self.changelog.watermark
        code = "lost_fire" if is_folded else "overdue_fire"
        detail = f"its round closed by {reason} at offset {offset} of the commands, {self.age(now)} before the audit"
        self.found(code, "fires", None, key, fire_id, detail)

    def match_fire(self, found: Seen, right: int, fire_id: str, reason: str, due: int) -> None:
        report, others = self.report, self.fires.others.pop(fire_id, ())
        if found.print != right or others:
            if not self.is_whole and not others:
                self.unjudged += 1
                return
            self.judge_versions(fire_id, [found, *others], right if self.is_whole else None)
        report.expected += 1
        if reason == "timeout":
            report.timeout += 1
            if found.is_timed:
                report.lateness_ms.append(found.at_ms - due)
        else:
            report.complete += 1
        if found.is_timed and found.at_ms < due - self.case.skew_ms:
            what = "its deadline" if reason == "timeout" else "the add that completes its round"
            detail = f"it was appended {due - found.at_ms} ms before {what}"
            self.found("early_fire", "fires", found.offset, found.key, fire_id, detail)

    def judge_versions(self, fire_id: str, versions: list[Seen], right: int | None) -> None:
        """Report versions of a fire that are not the right one, and that there is more than one at all."""
        for one in versions:
            if right is not None and one.print != right:
                detail = "its bytes are not those that the commands make; `wait-for-me fires` and kcat show them"
                self.found("wrong_fire", "fires", one.offset, one.key, fire_id, detail)
        if len({one.print for one in versions}) > 1:
            where = ", ".join(str(one.offset) for one in versions[:5])
            detail = f"{len(versions)} versions with different bytes, at offsets {where}"
            self.found("double_fire", "fires", versions[-1].offset, versions[-1].key, fire_id, detail)

    def note_resent(self, record: Record, target: int) -> None:
        if record.offset in self.letters.by_offset:
            letter = self.letters.by_offset.pop(record.offset)
            if letter.code == "misplaced":
                return  # too large to be sent on
        if self.is_certain(record) and self.is_whole:
            self.report.resent.append((self.partition, record.offset, target, _text(record.key) or ""))

    def note_copy(self, record: Record) -> None:
        origin = dict(record.headers).get("wfm_rerouted")
        if origin:
            source, _, offset = origin.partition(b":")
            if source.isdigit() and offset.isdigit():
                self.report.copies_from.add((int(source), int(offset)))

    def is_certain(self, record: Record) -> bool:
        """Return whether what follows from a record must be there: it is old enough, and has been folded if that is known."""
        if record.timestamp_ms > self.case.settled_ms:
            return False
        return self.changelog is None or record.offset <= self.changelog.watermark

    # -- dead letters

    def expect_letter(self, record: Record, code: str, stage: str) -> None:
        letter = self.letters.by_offset.pop(record.offset, None)
        log = self.logs.get("commands_dead_letters")
        if letter is None:
            is_gone = log is not None and log.first and record.timestamp_ms <= self.letters.oldest_ms
            if log and self.is_certain(record) and not is_gone and (self.is_whole or stage != "route"):
                detail = f"it cannot be obeyed ({code}), and no dead letter says so"
                self.found("lost_dead_letter", "commands", record.offset, record.key, None, detail)
            return
        if (letter.code, letter.stage) != (code, stage) and (self.is_whole or stage != "route"):
            detail = f"it says {letter.code} at {letter.stage}, and the command of offset {record.offset} is refused for {code} at {stage}"
        elif not letter.is_cut and letter.print != fingerprint(record):
            detail = f"its bytes are not those of the command at offset {record.offset}"
        else:
            return
        self.found("wrong_dead_letter", "commands_dead_letters", letter.offset, letter.key, None, detail)

    def judge_letters(self) -> None:
        """Judge the letters that no refused command has asked for."""
        for origin, letter in self.letters.by_offset.items():
            if origin < self.commands.first or origin in self.letters.apply_failed:
                continue
            if not self.is_whole and letter.code == "misplaced":
                continue
            beyond = origin >= self.commands.end
            why = "which does not exist" if beyond else "which can be obeyed"
            detail = f"it is about the command at offset {origin}, {why}"
            self.found("ghost_dead_letter", "commands_dead_letters", letter.offset, letter.key, None, detail)

    # -- fires that nobody has asked for

    def judge_ghosts(self) -> None:
        for fire_id, found in self.fires.by_id.items():
            others = self.fires.others.pop(fire_id, [])
            if others:
                self.judge_versions(fire_id, [found, *others], None)
            if not self.is_whole:
                self.unjudged += 1
                continue
            open_round = self.open_round(found.key, fire_id)
            if open_round is None:
                detail = "the commands of this partition have no round that closed with this fire"
                self.found("ghost_fire", "fires", found.offset, found.key, fire_id, detail)
            else:
                detail = f"its round, opened at offset {open_round}, is still open"
                self.found("early_fire", "fires", found.offset, found.key, fire_id, detail)

    def open_round(self, key: bytes | None, fire_id: str) -> int | None:
        """Return where the open round of a key was opened, if a fire is of that round."""
        round_ = self.lane.rounds.get(key or b"")
        if round_ is None or round_.closed_at is not None:
            return None
        own = f"fire_{uuid.uuid5(self.case.topic_id, f'{self.partition}:{round_.opened_offset}')}"
        return round_.opened_offset if own == fire_id else None

    # -- rows

    def compare_state(self, behind: Record | None) -> None:
        """Compare the rows with the fold, which stands at the watermark now; `behind` is the record behind that."""
        changelog = self.changelog
        assert changelog is not None
        assert changelog.mark is not None
        if changelog.mark.offset >= self.commands.end:
            detail = f"the watermark is {changelog.mark.offset}, but the commands end at {self.commands.end}"
            self.found("state_differs", "changelog", None, None, None, detail)
            return
        for group, detail in differences(self.lane, changelog, behind):
            self.found("state_differs", "changelog", None, group, None, detail)

    # -- outcomes

    def judge_endings(self) -> None:
        endings, fires, case = self.endings, self.fires, self.case
        for offset, key, detail in endings.double:
            self.found("double_fire", "outcomes", offset, None, key, detail)
        if "fires" in self.logs and not self.logs["fires"].first:
            for fire_id, offset in endings.first_offset.items():
                if fire_id not in fires.by_id:
                    self.found("ghost_outcome", "outcomes", offset, None, fire_id, "the fires topic has no such fire")
        if "outcomes" in self.logs and case.expects_outcomes:
            self.judge_unfinished()
        if "fires_dead_letters" in self.logs:
            self.judge_dead()

    def judge_unfinished(self) -> None:
        oldest = self.endings.oldest_ms if self.logs["outcomes"].first else -1
        give_up = self.case.cut_ms - self.case.patience_ms
        for fire_id, found in self.fires.by_id.items():
            if fire_id in self.endings.final or found.at_ms <= oldest:
                continue
            last = max(found.at_ms, self.endings.alive_ms.get(fire_id, 0))
            if last < give_up:
                state = self.endings.state.get(fire_id, "never accepted")
                detail = f"{state}, and no sign of life for {self.age(last)}: is an executor running?"
                self.found("unfinished_fire", "fires", found.offset, found.key, fire_id, detail)

    def judge_dead(self) -> None:
        letters_log, endings = self.logs["fires_dead_letters"], self.endings
        for fire_id, (state, offset, at_ms) in endings.final.items():
            gone = letters_log.first and at_ms <= endings.oldest_letter_ms
            if state == "dead" and fire_id not in endings.letters and not gone:
                detail = "its callback was given up, and no dead letter says so"
                self.found("lost_dead_letter", "outcomes", offset, None, fire_id, detail)
        for offset, origin in endings.letter_origins:
            if "fires" in self.logs and origin >= self.logs["fires"].end:
                detail = f"it is about the fire at offset {origin}, which does not exist"
                self.found("ghost_dead_letter", "fires_dead_letters", offset, None, None, detail)

    # -- what is said

    def report_reading(self) -> None:
        unreadable = [("fires", *one) for one in self.fires.unreadable]
        unreadable += [("outcomes", *one) for one in self.endings.unreadable]
        unreadable += [("changelog", *one) for one in (self.changelog.unreadable if self.changelog else ())]
        for topic, offset, why in unreadable:
            self.found("unreadable_record", topic, offset, None, None, why)

    def count(self) -> None:
        report = self.report
        report.groups = len(self.lane.rounds)
        report.found, report.copies = self.fires.distinct, self.fires.copies
        report.outcomes = self.endings.count
        report.dead_letters = self.letters.count + self.endings.letter_count
        report.rows = len(self.changelog.rows) if self.changelog else 0
        if not self.is_whole:
            report.truncated.add(self.partition)

    def warn_all(self) -> None:
        case, first = self.case, self.commands.first
        for topic in TOPICS_IN_READING_ORDER:
            if topic not in self.logs and self.partition == 0:
                self.warn("topic_missing", topic)
        if not self.is_whole:
            self.warn("log_truncated", "commands", first, f"it begins at {first}; {self.unjudged} fires are not judged")
        for topic, code in (("fires", "fires_truncated"), ("commands_dead_letters", "letters_truncated"),
                            ("outcomes", "outcomes_truncated"), ("fires_dead_letters", "letters_truncated")):  # fmt: skip
            if topic in self.logs and self.logs[topic].first:
                self.warn(code, topic, self.logs[topic].first)
        if self.untimed and not case.trust_create_time:
            self.warn("create_time", "commands", None, f"{self.untimed} records")
        late = [round_.deadline for round_ in self.lane.rounds.values() if round_.closed_at is None]
        late = [deadline for deadline in late if deadline <= case.settled_ms]
        if late and self.is_whole:
            self.warn("overdue_rounds", "commands", None, f"{len(late)} rounds, the first for {self.age(min(late))}")
        if self.behind:
            assert self.changelog is not None
            self.warn("worker_behind", "commands", self.changelog.watermark + 1, f"{self.behind} records")
        if self.letters.apply_failed:
            self.warn("set_aside", "commands", None, f"{len(self.letters.apply_failed)} records")
        if self.letters.foreign:
            self.warn("foreign_dead_letters", "commands_dead_letters", None, f"{self.letters.foreign} records")
        if self.newest_ms > case.cut_ms + case.skew_ms:
            self.warn("clock_behind", "commands", None, f"by {self.newest_ms - case.cut_ms} ms at least")

    def age(self, at_ms: int) -> str:
        """Return how long ago something was, in words."""
        return f"{max(0, self.case.cut_ms - at_ms) / 1000:.1f} s"

    def found(
        self, code: str, topic: str, offset: int | None, group: bytes | None, fire_id: str | None, detail: str
    ) -> None:
        self.report.found_one(
            Finding(code=code, topic=self.case.names[topic], partition=self.partition, offset=offset,
                    group_key=_text(group), fire_id=fire_id, detail=detail)
        )  # fmt: skip

    def warn(self, code: str, topic: str, offset: int | None = None, detail: str = "") -> None:
        said = f"{WARNINGS[code]} ({detail})" if detail else WARNINGS[code]
        self.report.warnings.append(
            Finding(code=code, topic=self.case.names[topic], partition=self.partition, offset=offset, detail=said)
        )


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="replace")
