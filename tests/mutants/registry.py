"""Mistakes that have been made in systems like this one, or were made in this one; each must be noticed."""

from __future__ import annotations

from typing import Any, Final

from mutants.rewriting import Change, Mutant
from wait_for_me_app import commands_log, lane, lanes, restore, sweep
from wait_for_me_app.core import deadlines, fold
from wait_for_me_app.core.retry import RetryPolicy
from wait_for_me_app.executor.ledger import Ledger
from wait_for_me_app.executor.schedule import Schedule
from wait_for_me_app.executor.steps import Steps
from wait_for_me_app.executor.takeover import Takeover
from wait_for_me_app.faust_lanes import intake, outlet
from wait_for_me_app.storage import working_set

Lane, Fold, WorkingSet = lane.Lane, fold.Fold, working_set.WorkingSet


def _one(name: str, mistake: str, *changes: Change) -> Mutant:
    return Mutant(name=name, mistake=mistake, changes=changes)


def _lines(*lines: str) -> str:
    return "\n    ".join(lines)


# --- order of effects ------------------------------------------------------------------------------------------------

_ORDER: Final = (
    _one(
        "rows_before_fires",
        "a row says closed before its fire is safe",
        (Lane, "_commit", "await self._send(effects)", "pass"),
        (Lane, "_commit", 'crash_point("K3")', 'crash_point("K3"); await self._send(effects)'),
    ),
    _one(
        "watermark_before_rows",
        "the watermark vouches for rows that are not there yet",
        (Lane, "_commit", "units.append([self._watermark_change()])", "units.insert(0, [self._watermark_change()])"),
    ),
    _one(
        "store_before_changelog",
        "the local store is ahead of Kafka",
        (
            Lane,
            "_commit",
            "last_offset = await self._append_rows(units)",
            _lines(
                "self.rows.settle(itertools.chain.from_iterable(units), self.changelog_end - 1)",
                "last_offset = await self._append_rows(units)",
            ),
        ),
    ),
    _one(
        "effects_not_awaited",
        "fires and dead letters are on their way, not safe, when the rows are written",
        (Lane, "_send", "await jobs[0]", "asyncio.create_task(jobs[0])"),
        (Lane, "_send", "await asyncio.gather(*jobs)", "asyncio.create_task(asyncio.gather(*jobs))"),
    ),
    _one(
        "only_the_last_batch_is_awaited",
        "the outlet returns when some batches may still be refused",
        (
            outlet.KafkaOutlet,
            "append",
            "[await future for future in pending]",
            "[await future for future in pending[:1]]",
        ),
    ),
    _one(
        "participants_apart_from_their_group",
        "rows of one group reach the changelog in two units",
        (
            WorkingSet,
            "pack",
            "unit: Unit = list(others.items()) if others else []",
            "unit: Unit = []; units.extend([[one] for one in others.items()] if others else [])",
        ),
    ),
    _one(
        "watermark_one_too_far",
        "the watermark names a record that has not been folded",
        (Lane, "_watermark_change", "offset=self._run_end.offset,", "offset=self._run_end.offset + 1,"),
    ),
    _one(
        "goes_on_one_too_far",
        "a lane that is taken over skips a record",
        (commands_log.CommandsLogCheck, "position", "watermark + 1", "watermark + 2"),
    ),
    _one(
        "run_loses_a_record",
        "a run that is cut drops the record behind the cut",
        (
            intake.Intake,
            "_cut_run",
            "self._waiting[:count], self._waiting[count:]",
            "self._waiting[:count], self._waiting[count + 1 :]",
        ),
    ),
)

_RACES: Final = (
    _one(
        "looks_before_it_restores",
        "a log that has grown since it was looked at counts as truncated",
        (
            lanes.Lanes,
            "take_over",
            "restored = await step(self._restore, taken, ",
            "check = await asyncio.to_thread(self._commands_log.look); restored = await step(self._restore, taken, ",
        ),
        (
            lanes.Lanes,
            "take_over",
            "\n    check = await asyncio.to_thread(self._commands_log.look)\n",
            "\n",
        ),
    ),
    _one(
        "watermark_newer_than_the_look",
        "a lane that has gone on since the log was looked at counts as ahead of it",
        (
            lanes.Lanes,
            "check_commands_log",
            "check.position(partition, watermarks[partition])",
            "check.position(partition, lane.watermark)",
        ),
    ),
    _one(
        "kafka_failure_is_a_strike",
        "a record is set aside because Kafka did not answer twice",
        (Lane, "_settle_the_rest", "except Exception as error:", "except ZeroDivisionError as error:"),
    ),
)

# --- replays ---------------------------------------------------------------------------------------------------------

_REPLAY: Final = (
    _one(
        "offset_guard_off_by_one",
        "the record that last changed a group is folded into it again",
        (Fold, "_add", "row.changed_offset >= offset:", "row.changed_offset > offset:"),
    ),
    _one(
        "remove_without_offset_guard",
        "a remove that is read again ends the next round",
        (Fold, "_remove", "row.changed_offset >= record.offset", "False"),
    ),
    _one(
        "timeout_marks_the_record_as_applied",
        "a run that is cut behind the timeouts of a record skips the record's own command",
        (Fold, "_close_due", "changed_offset=offset - 1", "changed_offset=offset"),
    ),
    _one(
        "stream_time_not_kept",
        "a successor begins with a stream time of zero",
        (Lane, "_load", "stream_time_ms=watermark.stream_time_ms if watermark else 0", "stream_time_ms=0"),
    ),
    _one(
        "resent_copies_forgotten",
        "a successor takes re-sent commands again",
        (Lane, "_load", "rerouted_from=watermark.rerouted if watermark else None", "rerouted_from=None"),
    ),
    _one(
        "deadlines_not_rebuilt",
        "a successor does not know who is due",
        (Lane, "_load", "Deadlines(self._due_entries())", "Deadlines()"),
    ),
    _one(
        "deletes_in_the_run_that_frees",
        "the tombstone of a row comes before the watermark that covers it",
        (WorkingSet, "discard", "self._discarded_now.append", "self._discarded.append"),
    ),
    _one(
        "strike_not_kept",
        "a record that raises stops the lane for ever",
        (Lane, "_stored_strike", "None if value is None else", "None if True else"),
    ),
)

# --- zombies, restore, healing ---------------------------------------------------------------------------------------

_BEHIND: Final = "run_end < self.end_of(row_key)"

_ZOMBIES: Final = (
    _one(
        "last_record_wins",
        "a restore takes what a zombie has appended",
        (restore.NewestRows, "counts", f"if {_BEHIND}:", "if False:"),
    ),
    _one(
        "own_records_ignored",
        "a restore ignores what was written under the same watermark",
        (restore.NewestRows, "counts", f"if {_BEHIND}:", f"if {_BEHIND.replace('<', '<=', 1)}:"),
    ),
    _one(
        "interleaved_runs",
        "of two workers' runs that were written interleaved, a restore takes the last row instead of the furthest",
        (restore.NewestRows, "counts", "run_end < self.end_of(row_key)", "run_end < self.watermark"),
    ),
    _one(
        "uncovered_rows_passed",
        "a restore that goes on behind rows of no watermark takes older ones in their place",
        (restore.Applier, "reach", "offset = self._newest.reachable(offset)", "pass"),
    ),
    _one(
        "slices_look_alike",
        "runs that end amid the timeouts of the same record count as equally new",
        (Lane, "_settle_the_rest", "RunEnd(folded, self.fold.closed_until)", "RunEnd(folded)"),
    ),
    _one(
        "tombstones_skipped",
        "a restore brings deleted rows back",
        (restore.Applier, "take", "if key is not None:", "if key is not None and value is not None:"),
    ),
    _one(
        "store_is_past_a_zombie",
        "what a zombie has left is never written over, since the store is past it",
        (restore.Applier, "reach", " and self.first_ignored is None", ""),
    ),
    _one(
        "tombstones_not_written",
        "rows are deleted in the local store only",
        (Lane, "_append_rows", "for key, value in unit]", "for key, value in unit if value is not None]"),
    ),
    _one(
        "gaps_not_healed",
        "what a zombie has written stays the last word",
        (Lane, "heal", "if self._is_retired or log_end <= self.changelog_end:", "if True:"),
    ),
    _one(
        "heals_the_watermark_only",
        "a zombie's rows stay the last word",
        (Lane, "heal", "for row_key in behind if row_key != keys.WATERMARK_KEY", "for row_key in ()"),
    ),
    _one(
        "leaves_what_is_ahead",
        "an owner that is behind a zombie puts older rows behind the zombie's newer ones",
        (Lane, "_take_what_counts", "if row.offset < self.restored_until", "if True"),
    ),
    _one(
        "heals_beside_a_run",
        "healing writes rows that a run has just replaced",
        (Lane, "heal", "async with self._busy:", "if True:"),
    ),
    _one(
        "old_store_trusted",
        "a store that has missed deletions is used",
        (lanes, "_oldest_ms", "- STORE_MAX_AGE_MS", "- STORE_MAX_AGE_MS * 1000"),
    ),
    _one(
        "old_copy_trusted",
        "a standby's store that has missed deletions while it was open is used",
        (lanes, "_why_unfit", "store.written_at_ms < _oldest_ms()", "False"),
    ),
    _one(
        "restores_under_a_lane",
        "a lane that is kept does not know of rows that a restore has put under it",
        (lanes.Lanes, "take_over", "await step(self._restore, taken, ", "await step(self._restore, active, "),
    ),
    _one(
        "restore_stops_early",
        "the last batch of a restore is forgotten",
        (restore.Applier, "flush", "self._changes.items()", "list(self._changes.items())[:-1]"),
    ),
)

# --- the rules -------------------------------------------------------------------------------------------------------

_RULES: Final = (
    _one(
        "deadline_is_in_time",
        "a deadline that is now has not passed",
        (deadlines.Deadlines, "pop_due", "if due_ms > stream_time_ms:", "if due_ms >= stream_time_ms:"),
    ),
    _one(
        "stream_time_goes_back",
        "stream time follows a broker clock that steps back",
        (Fold, "advance", "record.timestamp > self.stream_time_ms and", "record.timestamp and"),
    ),
    _one(
        "number_lowered_is_missed",
        "a group is complete only when exactly N have arrived",
        (
            Fold,
            "_settle",
            "row.arrived_count >= row.number_of_participants",
            "row.arrived_count == row.number_of_participants",
        ),
    ),
    _one(
        "counts_messages",
        "a participant that comes again is counted again",
        (Fold, "_find", "if arrival.participant_key == participant_key:", "if False:"),
    ),
    _one(
        "fire_named_after_its_close",
        "two copies of a fire have different names",
        (Fold, "_fire", "self._fire_ids(row.opened_offset)", "self._fire_ids(offset)"),
    ),
    _one(
        "misplaced_groups_open",
        "a group on the wrong partition opens a round of its own",
        (Fold, "_is_home", "if home == self.identity.partition:", "if True:"),
    ),
    _one(
        "tick_once",
        "a tick that came too early is not repeated",
        (sweep, "needs_tick", "lane.last_tick_offset > lane.watermark", "lane.last_tick_offset >= 0"),
    ),
    _one(
        "own_tick_never_read",
        "a lane waits for a tick that it has read",
        (sweep, "needs_tick", "lane.last_tick_offset > lane.watermark", "lane.last_tick_offset >= lane.watermark >= 0"),
    ),
    _one(
        "slides_are_forgotten",
        "a deadline that moves forward is not looked at again",
        (Fold, "_join", "self.deadlines.watch_earlier(group_key, deadline_ms)", "pass"),
    ),
)

# --- memory ----------------------------------------------------------------------------------------------------------

_MEMORY: Final = (
    _one(
        "changed_rows_forgotten",
        "a row that a run has changed leaves the memory before it is written",
        (WorkingSet, "get", " or self._changed.get(group_key)", ""),
    ),
    _one(
        "absence_outlives_its_run",
        "a row that was not there stays missing",
        (WorkingSet, "settle", "self._absent.clear()", "pass"),
    ),
    _one(
        "participants_of_a_key",
        "a new round finds the participants of the one before",
        (working_set.keys, "round_prefix", 'opened_offset.to_bytes(8, "big")', "bytes(8)"),
    ),
    _one(
        "arrivals_out_of_place",
        "the order of arrival has a hole",
        (Fold, "_arrive", "arrival, row.arrived_count)", "arrival, row.arrived_count + 1)"),
    ),
    _one(
        "orphans_stay",
        "participants of a deleted group are never deleted",
        (Lane, "_load", "self.rows.note_orphan(group_key, opened_offset)", "pass"),
    ),
)

# --- the executor ----------------------------------------------------------------------------------------------------

_EXECUTOR: Final = (
    _one(
        "fire_committed_when_read",
        "the offset of a fire is committed before it is accepted",
        (Schedule, "fire", "tenure.offsets.read(record.offset)", "tenure.offsets._next = record.offset + 1"),
    ),
    _one(
        "done_before_it_ran",
        "the outcome is written when the callback starts",
        (
            Schedule,
            "_run",
            "entry.phase, entry.call = Phase.RUNNING, None",
            "entry.phase, entry.call = Phase.RUNNING, None; self._steps.finish(entry, records.done(entry.progress, 0, now)); entry.phase = Phase.RUNNING",
        ),
    ),
    _one(
        "progress_deleted_too_soon",
        "a crash between the two finds neither progress nor outcome",
        (
            Steps,
            "finish",
            'self._append("final"',
            'self.delete_progress(entry); self._append("final"',
        ),
    ),
    _one(
        "final_is_forgotten",
        "a copy of a fire that is done runs again",
        (Ledger, "_fold_final", "self.final.add(", "(lambda *_: None)("),
    ),
    _one(
        "start_without_end_is_free",
        "a callback that kills its process is run for ever",
        (
            Takeover,
            "_count_lost_start",
            "progress.starts_without_end + 1 >= self._options.starts_without_end or progress.attempt >= allowed",
            "False",
        ),
    ),
    _one(
        "started_attempts_run_at_once",
        "a successor does not wait for an attempt that may still run",
        (Takeover, "_resume", "elif progress.state == STARTED:", "elif False:"),
    ),
    _one(
        "dead_without_a_letter",
        "a fire is given up and not set aside",
        (
            Steps,
            "set_aside",
            "self.ask(records.dead_letter_of_fire(self._topics, entry, code, reason))",
            "entry.phase = Phase.SETTING_ASIDE; self._append('final', entry.tenure.partition, entry.key, encode_outcome(entry.progress), entry)",
        ),
    ),
    _one(
        "retries_for_ever",
        "a callback that fails has no last attempt",
        (RetryPolicy, "after", "if attempt >= self.attempts:", "if False:"),
    ),
    _one(
        "lost_lease_goes_on",
        "an executor starts attempts although another has the partition",
        (Schedule, "lost", "Hold.LOST, frozenset()", "Hold.LOST, frozenset(Phase)"),
        (Schedule, "lost", "tenure = self._leave", "return; tenure = self._leave"),
    ),
)

MUTANTS: Final[tuple[Mutant, ...]] = (*_ORDER, *_RACES, *_REPLAY, *_ZOMBIES, *_RULES, *_MEMORY, *_EXECUTOR)


def by_name(name: str) -> Mutant:
    """Return the mutant of that name."""
    return next(mutant for mutant in MUTANTS if mutant.name == name)


__all__: list[Any] = ["MUTANTS", "by_name"]
