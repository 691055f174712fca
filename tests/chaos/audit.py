"""Reads all topics of a run and judges them by the reference fold, the witness file and what Kafka had acknowledged."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

import witness_callbacks
from chaos.tally import EffectsVerdict, Expected, FiresVerdict, histories, judge_effects, judge_fires
from logs import Logged, read_topic
from wait_for_me_app.audit.reference import Outcome, fold_partition
from wait_for_me_app.settings import Settings
from wait_for_me_app.topics import admin_client, describe_commands_topic


@dataclass(kw_only=True)
class Judgement:
    """Everything that the topics say."""

    fires: FiresVerdict
    effects: EffectsVerdict
    expected: int
    commands: int
    groups: int
    reasons: Counter[str]
    verdicts: Counter[str]
    open_groups: int
    lost_commands: list[tuple[int, int]] = field(default_factory=list)
    letters_missing: list[tuple[int, int]] = field(default_factory=list)
    letters_too_many: list[tuple[int, int]] = field(default_factory=list)
    letters: int = 0

    @property
    def is_settled(self) -> bool:
        """Whether nothing is still to come."""
        return not (self.fires.lost or self.open_groups or self.effects.undone or self.letters_missing)


def judge(settings: Settings, witness: Path, acknowledged: Mapping[tuple[int, int], int]) -> Judgement:
    """Read everything as it is now; fires first, so that the log has what they were made of."""
    topics, servers = settings.topics, settings.bootstrap_servers
    found = [(record.value or b"", record.timestamp_ms) for record in read_topic(servers, topics.fires)]
    logs = _by_partition(read_topic(servers, topics.commands))
    folded = _fold(settings, logs)
    expected = dict(_expected(logs, folded))
    fires = judge_fires(expected, found)
    outcomes = (msgspec.json.decode(r.value) for r in read_topic(servers, topics.outcomes) if r.value)
    done = Counter(line.fire_id for line in witness_callbacks.read(witness) if line.what == "effect")
    verdicts = Counter(word for outcome in folded.values() for word in outcome.verdicts)
    rejected = {(number, offset) for number, outcome in folded.items() for offset, _, _ in outcome.rejected}
    letters = [_origin(record) for record in read_topic(servers, topics.commands_dead_letters)]
    return Judgement(
        fires=fires,
        effects=judge_effects(expected.values(), histories(outcomes), done),
        expected=len(expected),
        commands=sum(map(len, logs.values())),
        groups=len({record.key for log in logs.values() for record in log if record.key}),
        reasons=Counter(fire.reason for fire in expected.values()),
        verdicts=verdicts,
        open_groups=sum(len(outcome.open_groups) for outcome in folded.values()),
        lost_commands=_lost(logs, acknowledged),
        letters_missing=sorted(rejected - set(letters)),
        letters_too_many=sorted(set(letters) - rejected),
        letters=len(letters),
    )


def _by_partition(records: list[Logged]) -> dict[int, list[Logged]]:
    logs: dict[int, list[Logged]] = {}
    for record in records:
        logs.setdefault(record.partition, []).append(record)
    return logs


def _fold(settings: Settings, logs: Mapping[int, list[Logged]]) -> dict[int, Outcome]:
    topic = describe_commands_topic(settings, admin_client(settings))
    return {
        number: fold_partition(log, topic_id=topic.topic_id, partition=number, partitions=topic.partitions)
        for number, log in logs.items()
    }


def _expected(logs: Mapping[int, list[Logged]], folded: Mapping[int, Outcome]) -> Iterator[tuple[bytes, Expected]]:
    for number, outcome in folded.items():
        appended = {record.offset: record.timestamp_ms for record in logs[number]}
        for closed_offset, _, value in outcome.fires:
            fire = msgspec.json.decode(value)
            due_ms = _ms(fire["deadline_at"]) if fire["reason"] == "timeout" else appended[closed_offset]
            yield (
                value,
                Expected(
                    fire_id=fire["fire_id"],
                    reason=fire["reason"],
                    partition=number,
                    due_ms=due_ms,
                    callback=fire["execute_after_waiting"],
                ),
            )


def _ms(rfc3339: str) -> int:
    return round(datetime.fromisoformat(rfc3339).timestamp() * 1000)


def _lost(logs: Mapping[int, list[Logged]], acknowledged: Mapping[tuple[int, int], int]) -> list[tuple[int, int]]:
    """Return what Kafka had acknowledged and does not have there, with those bytes."""
    there = {
        (record.partition, record.offset): zlib.crc32(record.value or b"") for log in logs.values() for record in log
    }
    return [place for place, checksum in acknowledged.items() if there.get(place) != checksum]


def _origin(letter: Logged) -> tuple[int, int]:
    headers = dict(letter.headers)
    return int(headers["__dlq.errors.partition"]), int(headers["__dlq.errors.offset"])


def ask_the_auditor(settings: Settings, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what `wait-for-me audit --json` says about the same topics, or None where there is no such command."""
    command = [sys.executable, "-m", "wait_for_me_app", "audit"]
    told = subprocess.run([*command, "--help"], env=dict(environment), capture_output=True, check=False, timeout=60)
    if told.returncode != 0:
        return None
    done = subprocess.run(
        [*command, "--json", "--settle", "5"],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return {"verdict": "unreadable", "exit_code": done.returncode, "said": (done.stdout + done.stderr)[-500:]}
    return dict(answer)
