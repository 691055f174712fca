"""Decides what becomes of each fire: accept, start, retry, set aside, finish. Pure: no Kafka, no threads, no clock; time is passed in.

What happens comes in by method calls, what is to be done goes out as effects (`take_effects`), in order. The order that loses nothing:

    fire read     -> `accepted` is in Kafka       -> its offset may be committed
    attempt       -> `started` is in Kafka        -> the callback runs
    it returned   -> `done` is in Kafka           -> its progress is deleted
    it failed     -> `failed` is in Kafka         -> it waits for its time; or, at the last attempt:
                  -> the dead letter is in Kafka  -> `dead` is in Kafka -> its progress is deleted

A wait blocks nobody: fires that wait lie in a heap by their time. Every step is in Kafka before anything rests on it, so whoever takes
the partition over goes on from there. See `executor_tenure.py` for the phases and `executor.py` for what a crash does.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Iterable
from itertools import count
from typing import Final
from zlib import crc32

from wait_for_me.errors import InvalidFire
from wait_for_me.topic_names import TopicNames
from wait_for_me_app import executor_records as records
from wait_for_me_app.callbacks import BadParameters, Callback
from wait_for_me_app.core.retry import GiveUp, RetryPolicy
from wait_for_me_app.executor_effects import (
    Append,
    Cancel,
    Effect,
    FireRecord,
    Now,
    ReadAgain,
    Report,
    Start,
    Step,
    UnreadableFire,
)
from wait_for_me_app.executor_ledger import Ledger, pending_in_order, read_progress, supersedes
from wait_for_me_app.executor_offsets import Offsets
from wait_for_me_app.executor_options import ExecutorOptions
from wait_for_me_app.executor_slots import Slots, Turns
from wait_for_me_app.executor_tenure import Attempt, Entry, Hold, Phase, Tenure
from wait_for_me_app.outcomes import (
    FAILED,
    STARTED,
    DamagedOutcome,
    Finished,
    Progress,
    encode_outcome,
    final_key,
    parse_key,
    progress_key,
)

OutcomeRecord = tuple[bytes | None, bytes | None, int]
"""Key, value and append time of a record of the outcomes topic."""

_UNKNOWN: Final = RetryPolicy()  # for a fire whose callback is not registered here
_RESUME_AT: Final = 0.8  # of the bound: pausing and resuming at every fire would refetch all the time


class Schedule:
    """The fires of all partitions that this executor holds."""

    def __init__(
        self,
        *,
        topics: TopicNames,
        find: Callable[[str], Callback | None],
        options: ExecutorOptions,
        executor: str,
    ) -> None:
        self.tenures: dict[int, Tenure] = {}
        self.attempts: dict[int, Attempt] = {}
        self.is_stopping = False
        self._topics = topics
        self._find = find
        self._options = options
        self._executor = executor
        self._effects: list[Effect] = []
        self._due: list[tuple[int, int, Entry]] = []
        self._limits: list[tuple[int, int]] = []
        self._turns: Turns[Entry] = Turns()
        self._slots = Slots(threads=options.threads, tasks=options.tasks)
        self._numbers = count(1)
        self._fires = 0
        self._bytes = 0
        self._is_full = False

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, in order, and forget it."""
        effects, self._effects = self._effects, []
        return effects

    # -- partitions come and go

    def assigned(self, partition: int) -> Tenure:
        """A partition is this executor's from now on; nothing happens with it until its outcomes have been read."""
        tenure = self.tenures[partition] = Tenure(partition=partition)
        return tenure

    def restored(self, tenure: Tenure, ledger: Ledger, next_offset: int, now: Now) -> None:
        """The outcomes of a partition have been read: go on where they end."""
        if tenure.hold is not Hold.RESTORING:
            return
        tenure.hold = Hold.HELD
        tenure.final = ledger.final
        tenure.offsets = Offsets(next_offset)
        tenure.outcomes_end = ledger.end_offset
        for uuid, progress in pending_in_order(ledger):
            self._resume(self._enter(tenure, uuid, progress, Phase.WAITING), now)
        self._clean_up(tenure, ledger)
        self._report(
            logging.INFO,
            "partition_taken",
            partition=tenure.partition,
            final=len(tenure.final),
            pending=len(tenure.entries),
            elsewhere=len(tenure.elsewhere),
        )

    def revoked(self, partition: int) -> None:
        """A partition goes to another executor in order: finish what runs and write it down, start nothing."""
        self._leave(partition, Hold.LEAVING, {Phase.STARTING, Phase.RUNNING, Phase.FAILING, *_ENDING})

    def lost(self, partition: int) -> None:
        """Another executor may have a partition already: write nothing more about it."""
        tenure = self._leave(partition, Hold.LOST, set())
        for token, attempt in self.attempts.items():
            if attempt.entry.tenure is tenure and not attempt.is_judged:
                attempt.is_judged = True
                self._effects.append(Cancel(token=token))

    def _leave(self, partition: int, hold: Hold, phases_kept: set[Phase]) -> Tenure | None:
        tenure = self.tenures.pop(partition, None)
        if tenure is None:
            return None
        tenure.hold = hold
        for entry in [entry for entry in tenure.entries.values() if entry.phase not in phases_kept]:
            self._drop(entry)
        self._report(logging.INFO, "partition_left", partition=partition, hold=hold.name.lower())
        return tenure

    # -- what is read

    def fire(self, record: FireRecord, now: Now) -> None:
        """A record of the fires topic has been read."""
        tenure = self.tenures.get(record.partition)
        if tenure is None or self.is_stopping:
            return  # not committed, so the successor reads it
        if tenure.hold is not Hold.HELD:
            raise AssertionError(f"partition {record.partition} is read before its outcomes are known")
        tenure.offsets.read(record.offset)
        try:
            fire, uuid = records.read_fire(record)
        except InvalidFire as error:
            ticket = UnreadableFire(tenure=tenure, offset=record.offset)
            self._effects.append(records.dead_letter_of_record(self._topics, record, error, ticket))
            self._report(logging.ERROR, "bad_fire", partition=record.partition, offset=record.offset, why=error.message)
            return
        if uuid in tenure.final:
            tenure.offsets.safe(record.offset)
        elif (known := tenure.entries.get(uuid)) is None:
            entry = self._enter(tenure, uuid, records.accepted(record, fire, now), Phase.ACCEPTING)
            entry.copies.append(record.offset)
            self._write(entry, "accepted")
        elif known.phase is Phase.ACCEPTING:
            known.copies.append(record.offset)
        else:
            tenure.offsets.safe(record.offset)

    def read_again(
        self, tenure: Tenure, read: Iterable[OutcomeRecord], end: int, asked_steady_ms: int, now: Now
    ) -> None:
        """Outcomes have been read again, to the end that they had at `asked_steady_ms` or later."""
        if tenure.hold is not Hold.HELD:
            return
        for key, value, appended_at_ms in read:
            self._take_foreign(tenure, key, value, appended_at_ms, now)
        tenure.outcomes_end = max(tenure.outcomes_end, end)
        tenure.look_again_steady_ms = now.steady_ms + self._options.look_again_ms
        for entry in [one for one in tenure.elsewhere.values() if one.until_steady_ms <= asked_steady_ms]:
            del tenure.elsewhere[entry.uuid]
            self._count_lost_start(entry, now)

    # -- what has happened

    def acked(self, ticket: Entry | UnreadableFire, now: Now) -> None:
        """The record with this ticket is in Kafka."""
        if isinstance(ticket, UnreadableFire):
            ticket.tenure.offsets.safe(ticket.offset)
        elif ticket.tenure.hold is not Hold.LOST and ticket.tenure.entries.get(ticket.uuid) is ticket:
            self._acked_entry(ticket, now)

    def _acked_entry(self, entry: Entry, now: Now) -> None:
        match entry.phase:
            case Phase.ACCEPTING:
                for offset in entry.copies:
                    entry.tenure.offsets.safe(offset)
                entry.copies.clear()
                self._wait(entry, entry.progress.next_attempt_at_ms or 0)
            case Phase.PARKING:
                self._wait_parked(entry, now)
            case Phase.STARTING:
                self._begin(entry, now)
            case Phase.TAKING_BACK:
                self._wait(entry, entry.progress.next_attempt_at_ms or 0)
            case Phase.FAILING:
                self._after_failure(entry)
            case Phase.SETTING_ASIDE:
                self._finish(entry, records.dead(entry.progress, entry.code or "", entry.reason or "", now))
            case Phase.FINISHING:
                self._forget_final(entry, now)
            case _:
                raise AssertionError(f"{entry.progress.fire_id} awaits no acknowledgement while {entry.phase}")

    def ended(self, token: int, error: BaseException | None, now: Now) -> None:
        """The callback of an attempt has returned, or raised."""
        attempt = self.attempts.pop(token)
        self._slots.give_back(attempt.callback)
        entry = attempt.entry
        if attempt.is_judged:
            self._report(logging.WARNING, "attempt_ended_late", **_names(entry), attempt=attempt.number)
        elif error is None:
            took_ms = now.steady_ms - attempt.began_steady_ms
            self._finish(entry, records.done(entry.progress, took_ms, now))
        else:
            self._fail(entry, attempt.callback.policy, "callback_failed", _describe(error), now, error)

    def tick(self, now: Now) -> None:
        """Time has passed: start what is due, judge what is late."""
        self._judge_late(now)
        if self.is_stopping:
            return
        while self._due and self._due[0][0] <= now.wall_ms:
            due_ms, _, entry = heapq.heappop(self._due)
            if entry.phase is Phase.WAITING and entry.due_ms == due_ms and entry.tenure.hold is Hold.HELD:
                self._is_due(entry, now)
        while (ready := self._turns.take(self._has_room)) is not None:
            if ready.phase is Phase.READY and ready.tenure.hold is Hold.HELD:
                self._start(ready, now)
        for tenure in self.tenures.values():
            self._look_again(tenure, now)

    def stop(self) -> None:
        """Start nothing more; what runs may finish."""
        self.is_stopping = True

    def interrupt(self, now: Now) -> None:
        """The time to finish is over: the attempts that still run count as failed, and are tried again elsewhere."""
        for token, attempt in self.attempts.items():
            if not attempt.is_judged:
                self._judge(token, attempt, "callback_failed", "the executor was stopped while the callback ran", now)

    # -- what the shell asks

    @property
    def is_running(self) -> bool:
        """Whether an attempt runs whose outcome is still to be written."""
        return any(not attempt.is_judged for attempt in self.attempts.values())

    @property
    def is_full(self) -> bool:
        """Whether so much is in memory that no more fires should be read for now."""
        scale = _RESUME_AT if self._is_full else 1.0
        options = self._options
        self._is_full = (
            self._fires >= options.pending_fires * scale or self._bytes >= options.pending_bytes * scale
        )
        return self._is_full

    def next_wakeup_in_ms(self, now: Now) -> int | None:
        """Return in how long `tick` has something to do, or None while nothing waits for a time."""
        times = [self._due[0][0] - now.wall_ms] if self._due else []
        times += [self._limits[0][0] - now.steady_ms] if self._limits else []
        times += [
            tenure.look_again_steady_ms - now.steady_ms
            for tenure in self.tenures.values()
            if tenure.elsewhere and tenure.look_again_steady_ms is not None
        ]
        return max(0, min(times)) if times else None

    def to_commit(self) -> dict[int, int]:
        """Return the offsets of fires that are news to the group; they count as committed from then on."""
        held = ((partition, tenure) for partition, tenure in self.tenures.items() if tenure.hold is Hold.HELD)
        found = ((partition, tenure.offsets.to_commit()) for partition, tenure in held)
        return {partition: offset for partition, offset in found if offset is not None}

    # -- starting

    def _is_due(self, entry: Entry, now: Now) -> None:
        if self._find(entry.progress.callback) is None:
            self._park(entry, now)
        else:
            entry.phase = Phase.READY
            self._turns.put(entry.progress.callback, entry)

    def _park(self, entry: Entry, now: Now) -> None:
        since_ms = entry.progress.parked_since_ms
        if since_ms is None:
            entry.progress = records.parked(entry.progress, now)
            entry.phase = Phase.PARKING
            self._write(entry, "parked")
            self._report(logging.WARNING, "callback_unknown", **_names(entry), patience_ms=self._options.patience_ms)
        elif now.wall_ms < since_ms + self._options.patience_ms:
            self._wait_parked(entry, now)
        else:
            reason = f"no executor has registered {entry.progress.callback!r}: deploy one that has, and send the fire again"
            self._set_aside(entry, "unknown_callback", reason)

    def _wait_parked(self, entry: Entry, now: Now) -> None:
        since_ms = entry.progress.parked_since_ms or 0
        self._wait(entry, min(now.wall_ms + self._options.parked_look_ms, since_ms + self._options.patience_ms))

    def _has_room(self, name: str) -> bool:
        callback = self._find(name)
        return callback is not None and self._slots.has_room(callback)

    def _start(self, entry: Entry, now: Now) -> None:
        callback = self._find(entry.progress.callback)
        assert callback is not None, "the registry only grows"
        try:
            entry.call = callback.bind(entry.fire)
        except BadParameters as error:
            self._set_aside(entry, "bad_parameters", str(error))
            return
        self._slots.take(callback)
        entry.callback = callback
        entry.before_start = entry.progress
        entry.progress = records.started(entry.progress, callback, self._executor, now)
        entry.stamped_steady_ms = now.steady_ms
        entry.phase = Phase.STARTING
        self._write(entry, "started")

    def _begin(self, entry: Entry, now: Now) -> None:
        """The start is in Kafka. Run it, unless the partition or the time stamp is no longer good."""
        if entry.tenure.hold is not Hold.HELD or self.is_stopping:
            self._take_back(entry)
        elif now.steady_ms - entry.stamped_steady_ms > self._options.start_margin_ms:
            entry.progress = records.stamped_again(entry.progress, now)
            entry.stamped_steady_ms = now.steady_ms
            self._write(entry, "started")
        else:
            self._run(entry, now)

    def _take_back(self, entry: Entry) -> None:
        """Nobody shall wait for the end of an attempt that did not begin."""
        assert entry.callback is not None
        assert entry.before_start is not None
        self._slots.give_back(entry.callback)
        entry.progress = records.taken_back(entry.progress, entry.before_start)
        entry.phase = Phase.TAKING_BACK
        self._write(entry, "taken_back")

    def _run(self, entry: Entry, now: Now) -> None:
        assert entry.callback is not None
        assert entry.call is not None
        token = next(self._numbers)
        entry.phase = Phase.RUNNING
        self.attempts[token] = Attempt(
            entry=entry, callback=entry.callback, number=entry.progress.attempt, began_steady_ms=now.steady_ms
        )
        heapq.heappush(self._limits, (now.steady_ms + entry.callback.time_limit_ms, token))
        self._effects.append(Start(token=token, call=entry.call, is_async=entry.callback.is_async))
        entry.call = None

    # -- ending

    def _judge_late(self, now: Now) -> None:
        while self._limits and self._limits[0][0] <= now.steady_ms:
            _, token = heapq.heappop(self._limits)
            attempt = self.attempts.get(token)
            if attempt is not None and not attempt.is_judged:
                seconds = attempt.callback.time_limit_ms / 1000
                self._judge(token, attempt, "callback_timeout", f"no end within {seconds:g} s", now)

    def _judge(self, token: int, attempt: Attempt, code: str, reason: str, now: Now) -> None:
        """The attempt has failed although its callback runs on; its slot stays taken until it returns."""
        attempt.is_judged = True
        self._effects.append(Cancel(token=token))
        self._fail(attempt.entry, attempt.callback.policy, code, reason, now)

    def _fail(
        self,
        entry: Entry,
        policy: RetryPolicy,
        code: str,
        reason: str,
        now: Now,
        error: BaseException | None = None,
    ) -> None:
        decision = policy.after(entry.progress.attempt, _roll(entry))
        next_at_ms = None if isinstance(decision, GiveUp) else now.wall_ms + decision.wait_ms
        entry.progress = records.failed(entry.progress, code=code, reason=reason, next_at_ms=next_at_ms)
        self._write_failure(entry, error)

    def _count_lost_start(self, entry: Entry, now: Now) -> None:
        """Nobody has written the end of an attempt: it is spent, and whoever ran it has probably died of it."""
        callback, progress = self._find(entry.progress.callback), entry.progress
        policy = callback.policy if callback else _UNKNOWN
        is_last = progress.starts_without_end + 1 >= self._options.starts_without_end or progress.attempt >= policy.attempts
        entry.progress = records.failed(
            progress,
            code="callback_killed_process",
            reason=f"attempt {progress.attempt} on {progress.executor} has no end: see what ended that process",
            next_at_ms=None if is_last else now.wall_ms,
            lost_start=True,
        )
        self._write_failure(entry)

    def _write_failure(self, entry: Entry, error: BaseException | None = None) -> None:
        progress = entry.progress
        entry.phase = Phase.FAILING
        self._write(entry, "failed")
        self._report(
            logging.WARNING,
            "attempt_failed",
            **_names(entry),
            attempt=progress.attempt,
            code=progress.error,
            why=progress.reason,
            next_attempt_at_ms=progress.next_attempt_at_ms,
            error=error,
        )

    def _after_failure(self, entry: Entry) -> None:
        progress = entry.progress
        if progress.next_attempt_at_ms is None:
            self._set_aside(entry, progress.error or "callback_failed", progress.reason or "")
        else:
            self._wait(entry, progress.next_attempt_at_ms)

    def _set_aside(self, entry: Entry, code: str, reason: str) -> None:
        entry.code, entry.reason = code, reason
        entry.phase = Phase.SETTING_ASIDE
        letter = records.dead_letter_of_fire(self._topics, entry.progress, code, reason)
        self._effects.append(_with_ticket(letter, entry))

    def _finish(self, entry: Entry, outcome: Finished) -> None:
        entry.phase = Phase.FINISHING
        entry.took_ms = outcome.took_ms
        key = final_key(outcome.fire_id)
        self._append("final", entry.tenure.partition, key, encode_outcome(outcome), entry)

    def _forget_final(self, entry: Entry, now: Now) -> None:
        """The final outcome is safe: the progress may go, and only now, or a crash would lose both."""
        progress = entry.progress
        entry.tenure.final.add(entry.uuid, now.wall_ms)
        self._drop(entry)
        self._append("deleted", entry.tenure.partition, progress_key(progress.fire_id), None, None)
        if entry.code is None:
            fields = {**_names(entry), "attempt": progress.attempt, "took_ms": entry.took_ms}
            self._report(logging.INFO, "fire_done", **fields)
        else:
            self._report(logging.ERROR, "fire_dead", **_names(entry), code=entry.code, why=entry.reason)

    # -- taking over

    def _resume(self, entry: Entry, now: Now) -> None:
        """Go on with a fire whose progress was read from the outcomes."""
        progress, kept_ms = entry.progress, self._options.outcomes_kept_ms
        if kept_ms is not None and progress.accepted_at_ms + kept_ms < now.wall_ms:
            reason = "it was accepted longer ago than outcomes are kept, so it may have been finished: look, and send it again"
            self._set_aside(entry, "callback_failed", reason)
        elif progress.state == STARTED:
            self._wait_elsewhere(entry, now)
        elif progress.state == FAILED:
            self._after_failure(entry)
        else:
            self._wait(entry, progress.next_attempt_at_ms or 0)

    def _wait_elsewhere(self, entry: Entry, now: Now) -> None:
        """Another executor may still run this attempt: wait out its time limit, counted from its start."""
        progress = entry.progress
        longest_ms = (progress.time_limit_ms or 0) + self._options.start_margin_ms
        ran_ms = now.wall_ms - (progress.started_at_ms or 0)
        entry.phase = Phase.ELSEWHERE
        entry.until_steady_ms = now.steady_ms + min(longest_ms, max(0, longest_ms - ran_ms))
        entry.tenure.elsewhere[entry.uuid] = entry

    def _look_again(self, tenure: Tenure, now: Now) -> None:
        if tenure.elsewhere and tenure.look_again_steady_ms is not None and tenure.look_again_steady_ms <= now.steady_ms:
            tenure.look_again_steady_ms = None
            self._effects.append(
                ReadAgain(tenure=tenure, from_offset=tenure.outcomes_end, asked_steady_ms=now.steady_ms)
            )

    def _take_foreign(
        self, tenure: Tenure, key: bytes | None, value: bytes | None, appended_at_ms: int, now: Now
    ) -> None:
        """Take what another executor has written about a fire that this one has not touched yet; its own it knows."""
        parsed = parse_key(key)
        if parsed is None or value is None:
            return
        uuid, is_progress = parsed
        entry = tenure.entries.get(uuid)
        if not is_progress:
            self._take_foreign_final(tenure, entry, uuid, appended_at_ms)
        elif entry is not None and entry.phase is Phase.ELSEWHERE:
            self._take_foreign_progress(entry, value, now)

    def _take_foreign_final(self, tenure: Tenure, entry: Entry | None, uuid: bytes, appended_at_ms: int) -> None:
        tenure.final.add(uuid, appended_at_ms)
        if entry is None:
            return
        if entry.phase in (Phase.ELSEWHERE, Phase.WAITING, Phase.READY):
            self._drop(entry)
        elif entry.phase is Phase.RUNNING:
            self._report(logging.ERROR, "attempts_overlap", **_names(entry), attempt=entry.progress.attempt)

    def _take_foreign_progress(self, entry: Entry, value: bytes, now: Now) -> None:
        try:
            progress = read_progress(entry.uuid, value)
        except DamagedOutcome:
            return  # set aside at the next takeover
        if supersedes(progress, entry.progress) and progress != entry.progress:
            del entry.tenure.elsewhere[entry.uuid]
            entry.progress = progress
            self._resume(entry, now)

    def _clean_up(self, tenure: Tenure, ledger: Ledger) -> None:
        for fire_id in ledger.leftovers.values():
            self._append("deleted", tenure.partition, progress_key(fire_id), None, None)
        for damaged in ledger.damaged:
            self._effects.append(records.dead_letter_of_damage(self._topics, tenure.partition, damaged))
            self._report(logging.ERROR, "outcome_damaged", partition=tenure.partition, offset=damaged.offset)

    # -- bookkeeping

    def _enter(self, tenure: Tenure, uuid: bytes, progress: Progress, phase: Phase) -> Entry:
        entry = tenure.entries[uuid] = Entry(tenure=tenure, uuid=uuid, progress=progress, phase=phase)
        self._fires += 1
        self._bytes += entry.size
        return entry

    def _drop(self, entry: Entry) -> None:
        """Forget a fire; its outcomes are in Kafka."""
        if entry.tenure.entries.pop(entry.uuid, None) is None:
            return
        entry.tenure.elsewhere.pop(entry.uuid, None)
        self._fires -= 1
        self._bytes -= entry.size
        if entry.phase is Phase.STARTING and entry.callback is not None:
            self._slots.give_back(entry.callback)

    def _wait(self, entry: Entry, due_ms: int) -> None:
        if entry.tenure.hold is not Hold.HELD:
            self._drop(entry)
            return
        entry.phase = Phase.WAITING
        entry.due_ms = due_ms
        heapq.heappush(self._due, (due_ms, next(self._numbers), entry))

    def _write(self, entry: Entry, step: Step) -> None:
        key = progress_key(entry.progress.fire_id)
        self._append(step, entry.tenure.partition, key, encode_outcome(entry.progress), entry)

    def _append(self, step: Step, partition: int, key: bytes, value: bytes | None, ticket: Entry | None) -> None:
        self._effects.append(
            Append(step=step, topic=self._topics.outcomes, partition=partition, key=key, value=value, ticket=ticket)
        )

    def _report(self, level: int, event: str, *, error: BaseException | None = None, **fields: object) -> None:
        self._effects.append(Report(level=level, event=event, fields=fields, error=error))


_ENDING: Final = (Phase.SETTING_ASIDE, Phase.FINISHING, Phase.TAKING_BACK)


def _names(entry: Entry) -> dict[str, object]:
    progress = entry.progress
    return {"fire_id": progress.fire_id, "callback": progress.callback, "partition": entry.tenure.partition}


def _roll(entry: Entry) -> float:
    """Return a number in [0, 1) that differs from fire to fire and is the same at every replay."""
    return crc32(b"%d" % entry.progress.attempt, crc32(entry.uuid)) / 2**32


def _describe(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - a foreign exception's own __str__ may raise anything
        return type(error).__name__
