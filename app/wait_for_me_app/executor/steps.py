"""Moves a fire from one phase to the next and asks for the record that says so. Pure; nothing is decided here.

The rule of this file: the phase says what the fire waits for, and the effect that it waits for is appended in the same
breath.
"""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from wait_for_me.errors import InvalidFire
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.callbacks import Callback
from wait_for_me_app.executor import records
from wait_for_me_app.executor.effects import (
    Append,
    Effect,
    FireRecord,
    Now,
    Report,
    Step,
    UnreadableFire,
    UnreadableOutcome,
)
from wait_for_me_app.executor.ledger import Damaged
from wait_for_me_app.executor.tenure import Entry, Phase, Tenure
from wait_for_me_app.outcomes import Finished, Progress, encode_outcome, final_key


class Steps:
    """Collects effects, in the order in which they are to be carried out."""

    def __init__(self, topics: TopicNames, executor: str) -> None:
        self._topics = topics
        self._executor = executor
        self._effects: list[Effect] = []
        self.least_level = logging.DEBUG
        """Below this nobody listens to reports."""

    def take_effects(self) -> list[Effect]:
        """Return what has been collected, and begin anew."""
        effects, self._effects = self._effects, []
        return effects

    def ask(self, effect: Effect) -> None:
        """Collect an effect that is no record."""
        self._effects.append(effect)

    def report(self, level: int, event: str, error: BaseException | None = None, **fields: Any) -> None:
        """Ask for a line in the log."""
        self._effects.append(Report(level=level, event=event, fields=fields, error=error))

    # -- a fire goes on

    def accept(self, entry: Entry) -> None:
        """Take the fire on."""
        self._write(entry, Phase.ACCEPTING, "accepted", entry.progress)

    def park(self, entry: Entry, now: Now) -> None:
        """Begin to wait for somebody who knows the callback."""
        self._write(entry, Phase.PARKING, "parked", records.parked(entry.progress, now))
        self.report(logging.WARNING, "callback_unknown", **names(entry))

    def start(self, entry: Entry, callback: Callback, now: Now) -> None:
        """Announce the next attempt."""
        entry.callback, entry.before_start, entry.stamped_steady_ms = callback, entry.progress, now.steady_ms
        self._write(entry, Phase.STARTING, "started", records.started(entry.progress, callback, self._executor, now))

    def stamp_again(self, entry: Entry, now: Now) -> None:
        """Announce the same attempt with a fresh time."""
        entry.stamped_steady_ms = now.steady_ms
        self._write(entry, Phase.STARTING, "started", records.stamped_again(entry.progress, now))

    def take_back(self, entry: Entry) -> None:
        """Undo the announcement, so that nobody waits for the end of an attempt that did not begin."""
        assert entry.before_start is not None
        self._write(entry, Phase.TAKING_BACK, "taken_back", records.taken_back(entry.progress, entry.before_start))

    def fail(self, entry: Entry, progress: Progress, error: BaseException | None = None) -> None:
        """Write down how an attempt has failed, and what is next."""
        self._write(entry, Phase.FAILING, "failed", progress)
        self.report(
            logging.WARNING,
            "attempt_failed",
            error,
            **names(entry),
            attempt=progress.attempt,
            code=progress.error,
            why=progress.reason,
            next_attempt_at_ms=progress.next_attempt_at_ms,
        )

    # -- a fire ends

    def set_aside(self, entry: Entry, code: str, reason: str) -> None:
        """Give the fire up: first its dead letter."""
        entry.code, entry.reason, entry.phase = code, reason, Phase.SETTING_ASIDE
        self.ask(records.dead_letter_of_fire(self._topics, entry, code, reason))

    def finish(self, entry: Entry, outcome: Finished) -> None:
        """Write the final outcome."""
        entry.phase, entry.took_ms = Phase.FINISHING, outcome.took_ms
        self._append("final", entry.tenure.partition, final_key(outcome.fire_id), encode_outcome(outcome), entry)

    def report_final(self, entry: Entry) -> None:
        """Say how a fire has ended; its final outcome is safe."""
        if entry.code is None:
            self.report(
                logging.INFO, "fire_done", **names(entry), attempt=entry.progress.attempt, took_ms=entry.took_ms
            )
        else:
            self.report(logging.ERROR, "fire_dead", **names(entry), code=entry.code, why=entry.reason)

    def delete_progress(self, entry: Entry) -> None:
        """Delete the progress of a final fire."""
        self.delete(entry.tenure.partition, entry.key)

    def delete(self, partition: int, key: bytes) -> None:
        """Delete what is written under a key of the outcomes."""
        self._append("deleted", partition, key, None, None)

    # -- records that cannot be read

    def set_record_aside(self, tenure: Tenure, record: FireRecord, error: InvalidFire) -> None:
        """Set a record aside that is no fire; its offset is safe when that is."""
        ticket = UnreadableFire(tenure=tenure, offset=record.offset)
        self.ask(records.dead_letter_of_record(self._topics, record, error, ticket))
        self.report(logging.ERROR, "bad_fire", partition=record.partition, offset=record.offset, why=error.message)

    def set_damage_aside(self, partition: int, damaged: Damaged) -> None:
        """Set a record of the outcomes aside that is no outcome; it is deleted when that is safe."""
        ticket = UnreadableOutcome(partition=partition, key=damaged.key) if damaged.may_go else None
        self.ask(records.dead_letter_of_damage(self._topics, partition, damaged, ticket))
        self.report(logging.ERROR, "outcome_damaged", partition=partition, offset=damaged.offset, why=damaged.reason)

    # -- writing

    def _write(self, entry: Entry, phase: Phase, step: Step, progress: Progress) -> None:
        entry.phase, entry.progress = phase, replace(progress, tenure=entry.tenure.stamp)
        self._append(step, entry.tenure.partition, entry.key, encode_outcome(entry.progress), entry)

    def _append(self, step: Step, partition: int, key: bytes, value: bytes | None, ticket: Entry | None) -> None:
        topic = self._topics.outcomes
        self.ask(Append(step=step, topic=topic, partition=partition, key=key, value=value, ticket=ticket))


def names(entry: Entry) -> dict[str, Any]:
    """Return what a line in the log says of every fire."""
    progress = entry.progress
    return {"fire_id": progress.fire_id, "callback": progress.callback, "partition": entry.tenure.partition}
