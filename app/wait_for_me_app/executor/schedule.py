"""Decides what becomes of each fire: accept, start, retry, set aside, finish. Pure: no Kafka, no threads, no clock;
time is passed in.

What happens comes in by method calls, what is to be done goes out as effects (`take_effects`), in order. The order that
loses nothing:

    fire read     -> `accepted` is in Kafka       -> its offset may be committed
    attempt       -> `started` is in Kafka        -> the callback runs
    it returned   -> `done` is in Kafka           -> its progress is deleted
    it failed     -> `failed` is in Kafka         -> it waits for its time; or, after the last attempt:
                  -> the dead letter is in Kafka  -> `dead` is in Kafka -> its progress is deleted

A wait blocks nobody: fires that wait lie in a heap by their time. Every step is in Kafka before anything rests on it,
so whoever takes the partition over goes on from there. See `tenure.py` for the phases and `process.py` for
what a crash does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final
from zlib import crc32

from wait_for_me.codec import decode_fire
from wait_for_me.errors import InvalidFire
from wait_for_me.topic_names import TopicNames
from wait_for_me_app.callback_errors import RetryAfter, SetAside
from wait_for_me_app.callbacks import BadParameters, Callback, Kind
from wait_for_me_app.core.retry import Decision, GiveUp, TryAgain
from wait_for_me_app.executor import records
from wait_for_me_app.executor.child_ends import ProcessDied, describe
from wait_for_me_app.executor.effects import (
    Cancel,
    Effect,
    FireRecord,
    Now,
    Start,
    Ticket,
    UnreadableFire,
    UnreadableOutcome,
)
from wait_for_me_app.executor.fires import Fires, is_here
from wait_for_me_app.executor.ledger import Ledger
from wait_for_me_app.executor.offsets import Offsets
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.slots import Slots, Turns
from wait_for_me_app.executor.steps import Steps, names
from wait_for_me_app.executor.takeover import OutcomeRecord, Takeover
from wait_for_me_app.executor.tally import Tally
from wait_for_me_app.executor.tenure import Attempt, Entry, Hold, Phase, Tenure
from wait_for_me_app.executor.timers import Timers
from wait_for_me_app.outcomes import FAILED
from wait_for_me_app.retries import is_retry, runs_again

_FINISHED_WHEN_LEAVING: Final = frozenset(
    {
        Phase.ACCEPTING,  # so that its offset can still be committed
        Phase.STARTING,
        Phase.TAKING_BACK,
        Phase.RUNNING,
        Phase.FAILING,
        Phase.SETTING_ASIDE,
        Phase.FINISHING,
    }
)


_BACKLOG: Final = (
    "its callback only fails, and fires that wait for it fill half of the executor's memory: mend the cause, then retry the "
    "dead letters with this code"
)


class Schedule:
    """The fires of all partitions that this executor holds."""

    def __init__(
        self,
        *,
        topics: TopicNames,
        find: Callable[[str], Callback | None],
        options: ExecutorOptions,
        executor: str,
        tally: Tally | None = None,
    ) -> None:
        self.tenures: dict[int, Tenure] = {}
        self.attempts: dict[int, Attempt] = {}
        self.is_stopping = False
        self._find = find
        self._options = options
        self._steps = Steps(topics, executor)
        self._fires = Fires(options, find)
        self._takeover = Takeover(self._fires, self._steps, find, options)
        self._limits = Timers[Attempt](lambda _, attempt: not attempt.is_judged and attempt.token in self.attempts)
        self._turns: Turns[Entry] = Turns()
        self._slots = Slots(
            threads=options.threads,
            tasks=options.tasks,
            processes=options.processes,
            at_most=options.max_in_flight,
        )
        self._failures_in_a_row: Counter[str] = Counter()
        self._tokens = count(1)
        self.tally = tally or Tally()

    def report_from(self, level: int) -> None:
        """Make no reports below this level of the log."""
        self._steps.least_level = level

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, in order, and forget it."""
        return self._steps.take_effects()

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
        tenure.final, tenure.outcomes_end, tenure.offsets = ledger.final, ledger.end_offset, Offsets(next_offset)
        # The clock stands in for predecessors of whom nothing has arrived yet; their records may, and must not count.
        tenure.stamp = max(ledger.latest_tenure + 1, now.wall_ms)
        self._takeover.take_over(tenure, ledger, now)
        self._steps.report(
            logging.INFO,
            "partition_taken",
            partition=tenure.partition,
            final=len(tenure.final),
            pending=len(tenure.entries),
            elsewhere=len(tenure.elsewhere),
        )

    def read_again(
        self, tenure: Tenure, read: Iterable[OutcomeRecord], end: int, asked_steady_ms: int, now: Now
    ) -> None:
        """Outcomes have been read on, to the end that they had at `asked_steady_ms` or later."""
        if tenure.hold is Hold.HELD:
            self._takeover.read_again(tenure, read, end, asked_steady_ms, now)

    def revoked(self, partition: int) -> None:
        """A partition goes to another executor in order: finish what runs and write it down, start nothing."""
        self._leave(partition, Hold.LEAVING, _FINISHED_WHEN_LEAVING)

    def lost(self, partition: int) -> None:
        """Another executor may have a partition already: write nothing more about it."""
        tenure = self._leave(partition, Hold.LOST, frozenset())
        for attempt in self.attempts.values():
            if attempt.entry.tenure is tenure and not attempt.is_judged:
                attempt.is_judged = True
                self._steps.ask(Cancel(token=attempt.token))
                self._steps.report(logging.ERROR, "attempt_orphaned", **names(attempt.entry), attempt=attempt.number)

    def _leave(self, partition: int, hold: Hold, kept: frozenset[Phase]) -> Tenure | None:
        tenure = self.tenures.pop(partition, None)
        if tenure is None:
            return None
        tenure.hold = hold
        for entry in [entry for entry in tenure.entries.values() if entry.phase not in kept]:
            if entry.phase is Phase.STARTING:
                self._give_slot_back(entry)
            self._fires.drop(entry)
        self._steps.report(logging.INFO, "partition_left", partition=partition, hold=hold.name.lower())
        return tenure

    # -- fires are read

    def fire(self, record: FireRecord, now: Now) -> None:
        """A record of the fires topic has been read."""
        tenure = self.tenures.get(record.partition)
        if tenure is None or self.is_stopping:
            return  # never committed, so whoever comes next reads it
        if tenure.hold is not Hold.HELD:
            raise AssertionError(f"partition {record.partition} is read before its outcomes are known")
        tenure.offsets.read(record.offset)
        try:
            fire, uuid = records.read_fire(record)
        except InvalidFire as error:
            self._steps.set_record_aside(tenure, record, error)
            return
        known = tenure.entries.get(uuid)
        if uuid in tenure.final and is_retry(record.headers):
            self._reopen(tenure, uuid, record, fire.fire_id)
        if known is None and uuid not in tenure.final:
            known = self._fires.enter(tenure, uuid, records.accepted(record, fire, now), Phase.ACCEPTING)
            known.appended_at_ms = record.appended_at_ms
            self._steps.accept(known)
        if known is not None and known.phase is Phase.ACCEPTING:
            known.copies.append(record.offset)
        else:
            tenure.offsets.safe(record.offset)

    def _reopen(self, tenure: Tenure, uuid: bytes, record: FireRecord, fire_id: str) -> None:
        """Somebody has sent a fire once more: if it is dead, and this is not a copy, it is no longer final."""
        if runs_again(record.headers, record.offset, tenure.final.died_at(uuid)):
            tenure.final.discard(uuid)
        event = "retry_ignored" if uuid in tenure.final else "retry_taken"
        self._steps.report(logging.INFO, event, fire_id=fire_id, partition=record.partition, offset=record.offset)

    # -- Kafka has a record

    def acked(self, ticket: Ticket, now: Now) -> None:
        """The record with this ticket is in Kafka."""
        if isinstance(ticket, UnreadableFire):
            ticket.tenure.offsets.safe(ticket.offset)
        elif isinstance(ticket, UnreadableOutcome):
            self._steps.delete(ticket.partition, ticket.key)
        elif ticket.tenure.hold is not Hold.LOST and is_here(ticket):
            self._acked_entry(ticket, now)

    def _acked_entry(self, entry: Entry, now: Now) -> None:
        match entry.phase:
            case Phase.ACCEPTING:
                self._accepted(entry)
            case Phase.PARKING:
                self._wait_parked(entry, now)
            case Phase.STARTING:
                self._begin(entry, now)
            case Phase.TAKING_BACK:
                self._fires.wait(entry, entry.progress.next_attempt_at_ms or 0)
            case Phase.FAILING:
                self._takeover.after_failure(entry)
            case Phase.SETTING_ASIDE:
                self._steps.finish(entry, records.dead(entry.progress, entry.code or "", entry.reason or "", now))
            case Phase.FINISHING:
                self._finished(entry, now)
            case _:
                raise AssertionError(
                    f"{entry.progress.fire_id} awaits nothing from Kafka while it is {entry.phase.name}"
                )

    def _accepted(self, entry: Entry) -> None:
        for offset in entry.copies:
            entry.tenure.offsets.safe(offset)
        entry.copies.clear()
        if entry.tenure.hold is Hold.HELD and self._is_hopeless(entry.progress.callback):
            self._steps.set_aside(entry, "callback_backlog", _BACKLOG)
        else:
            self._fires.wait(entry, entry.progress.next_attempt_at_ms or 0)

    def _is_hopeless(self, name: str) -> bool:
        """Return whether a callback only fails and has filled its half of the memory: others need the rest of it."""
        return self._failures_in_a_row[name] >= self._options.failures_in_a_row and self._fires.has_its_share(name)

    def _finished(self, entry: Entry, now: Now) -> None:
        """The final outcome is safe. Only now may the progress go, or a crash between the two would lose the fire."""
        entry.tenure.final.add(entry.uuid, now.wall_ms, None if entry.code is None else entry.progress.offset)
        self._fires.drop(entry)
        self._steps.delete_progress(entry)
        self._steps.report_final(entry)
        if entry.code is not None:
            self.tally.dead(entry.code)

    # -- time passes

    def tick(self, now: Now) -> None:
        """Judge what is late, start what is due."""
        while (late := self._limits.pop_due(now.steady_ms)) is not None:
            self._judge(late, "callback_timeout", f"no end within {late.callback.time_limit_ms / 1000:g} s", now)
        if self.is_stopping:
            return
        while (due := self._fires.pop_due(now.wall_ms)) is not None:
            self._is_due(due, now)
        while (ready := self._turns.take(lambda name: self._has_room(name, now))) is not None:
            if ready.phase is Phase.READY and is_here(ready):
                self._start(ready, now)
        for tenure in self.tenures.values():
            self._takeover.look_again(tenure, now)

    def next_wakeup_in_ms(self, now: Now) -> int | None:
        """Return in how long `tick` may have something to do, or None while nothing waits for a time."""
        due_ms, limit_ms = self._fires.earliest_due_ms, self._limits.earliest_ms
        looks = (tenure.look_again_steady_ms for tenure in self.tenures.values() if tenure.elsewhere)
        times = [look_ms - now.steady_ms for look_ms in looks if look_ms is not None]
        times += self._waits_for_speed(now)
        times += [] if due_ms is None else [due_ms - now.wall_ms]
        times += [] if limit_ms is None else [limit_ms - now.steady_ms]
        return max(0, min(times)) if times else None

    def _waits_for_speed(self, now: Now) -> Iterator[int]:
        """Yield in how long callbacks that are ready may start, as far as their own speed keeps them back."""
        for name in self._turns.names:
            callback = self._find(name)
            wait_ms = None if callback is None else self._slots.wait_ms(callback, now.steady_ms)
            if wait_ms is not None:
                yield wait_ms

    # -- starting

    def _is_due(self, entry: Entry, now: Now) -> None:
        if entry.uuid in entry.tenure.final:  # another executor has finished it in the meantime
            self._fires.drop(entry)
        elif self._find(entry.progress.callback) is None:
            self._park(entry, now)
        elif self._fires.is_behind(entry):
            entry.phase = Phase.BEHIND
        else:
            entry.phase = Phase.READY
            self._turns.put(entry.progress.callback, entry)

    def _park(self, entry: Entry, now: Now) -> None:
        since_ms, name = entry.progress.parked_since_ms, entry.progress.callback
        if since_ms is None:
            self._steps.park(entry, now)
        elif now.wall_ms < since_ms + self._options.patience_ms:
            self._wait_parked(entry, now)
        else:
            reason = f"no executor has registered {name!r}: deploy one that has, and send the fire again"
            self._steps.set_aside(entry, "unknown_callback", reason)

    def _wait_parked(self, entry: Entry, now: Now) -> None:
        until_ms = (entry.progress.parked_since_ms or 0) + self._options.patience_ms
        self._fires.wait(entry, min(now.wall_ms + self._options.parked_look_ms, until_ms))

    def _has_room(self, name: str, now: Now) -> bool:
        callback = self._find(name)
        return callback is not None and self._slots.has_room(callback, now.steady_ms)

    def _start(self, entry: Entry, now: Now) -> None:
        callback = self._find(entry.progress.callback)
        assert callback is not None, "a registry only grows"
        try:
            entry.call = callback.bind(decode_fire(entry.progress.fire_bytes))
        except BadParameters as error:
            self._steps.set_aside(entry, "bad_parameters", str(error))
        except InvalidFire as error:  # another release has accepted it
            self._steps.set_aside(entry, error.code, error.message)
        else:
            self._slots.take(callback, now.steady_ms)
            self._steps.start(entry, callback, now)

    def _begin(self, entry: Entry, now: Now) -> None:
        """The announcement is safe. Run the callback, if partition and time stamp are still good."""
        if entry.uuid in entry.tenure.final:
            self._give_slot_back(entry)
            self._fires.drop(entry)
            self._steps.delete_progress(entry)
        elif entry.tenure.hold is not Hold.HELD or self.is_stopping:
            self._give_slot_back(entry)
            self._steps.take_back(entry)
        elif now.steady_ms - entry.stamped_steady_ms > self._options.start_margin_ms:
            self._steps.stamp_again(entry, now)
        else:
            self._run(entry, now)

    def _run(self, entry: Entry, now: Now) -> None:
        assert entry.callback is not None
        assert entry.call is not None
        attempt = Attempt(
            token=next(self._tokens),
            entry=entry,
            callback=entry.callback,
            number=entry.progress.attempt,
            began_steady_ms=now.steady_ms,
        )
        self.attempts[attempt.token] = attempt
        self._limits.set(now.steady_ms + entry.callback.time_limit_ms, attempt)
        self._steps.ask(Start(token=attempt.token, call=entry.call, kind=entry.callback.kind))
        if self._steps.least_level <= logging.DEBUG:
            self._steps.report(logging.DEBUG, "attempt_started", **names(entry), attempt=attempt.number)
        if entry.appended_at_ms is not None and attempt.number == 1:
            self.tally.fire_to_start_ms(now.wall_ms - entry.appended_at_ms)
        entry.phase, entry.call = Phase.RUNNING, None

    def _give_slot_back(self, entry: Entry) -> None:
        assert entry.callback is not None
        self._slots.give_back(entry.callback)

    # -- ending

    def ended(self, token: int, error: BaseException | None, now: Now) -> None:
        """The callback of an attempt has returned, or raised."""
        attempt = self.attempts.pop(token)
        self._slots.give_back(attempt.callback)
        entry = attempt.entry
        if attempt.is_judged:
            self._steps.report(logging.WARNING, "attempt_ended_late", **names(entry), attempt=attempt.number)
        elif error is None:
            self._succeed(attempt, now)
        elif isinstance(error, ProcessDied):
            self._fail(attempt, "callback_killed_process", str(error), now, error)
        else:
            self._fail(attempt, "callback_failed", describe(error), now, error)

    def _succeed(self, attempt: Attempt, now: Now) -> None:
        took_ms = now.steady_ms - attempt.began_steady_ms
        self._failures_in_a_row.pop(attempt.callback.name, None)
        self.tally.attempt(attempt.callback.name, "done", took_ms)
        self._steps.finish(attempt.entry, records.done(attempt.entry.progress, took_ms, now))

    def _judge(self, attempt: Attempt, code: str, reason: str, now: Now) -> None:
        """The attempt has failed although its callback runs on; its slot stays taken until that returns."""
        attempt.is_judged = True
        self._steps.ask(Cancel(token=attempt.token))
        self._fail(attempt, code, reason, now)

    def _fail(self, attempt: Attempt, code: str, reason: str, now: Now, error: BaseException | None = None) -> None:
        decision, progress = _decide(attempt, error), attempt.entry.progress
        has_died = isinstance(error, ProcessDied)
        if has_died and progress.starts_without_end + 1 >= self._options.starts_without_end:
            decision = GiveUp(attempts=attempt.number)
        next_at_ms = None if isinstance(decision, GiveUp) else now.wall_ms + decision.wait_ms
        code = error.code if isinstance(error, SetAside) else code
        self._failures_in_a_row[attempt.callback.name] += 1
        self.tally.attempt(attempt.callback.name, code, now.steady_ms - attempt.began_steady_ms)
        failed = records.failed(progress, code=code, reason=reason, next_at_ms=next_at_ms, lost_start=has_died)
        self._steps.fail(attempt.entry, failed, None if has_died else error)

    # -- stopping, and what the shell asks

    def stop(self) -> None:
        """Start nothing more; what runs may finish."""
        self.is_stopping = True

    def interrupt(self, now: Now) -> None:
        """The time to finish is over: the attempts that still run count as failed, and are tried again elsewhere."""
        for attempt in self.attempts.values():
            if not attempt.is_judged:
                self._judge(attempt, "callback_failed", "the executor was stopped while the callback ran", now)

    @property
    def is_running(self) -> bool:
        """Whether an attempt runs whose outcome is still to be written."""
        return any(not attempt.is_judged for attempt in self.attempts.values())

    @property
    def in_flight(self) -> dict[Kind, int]:
        """How many attempts run or are about to, by kind."""
        return self._slots.taken

    @property
    def pending(self) -> int:
        """How many fires are in memory."""
        return len(self._fires)

    def retries_waiting(self) -> int:
        """Return how many fires wait for another attempt."""
        entries = (entry for tenure in self.tenures.values() for entry in tenure.entries.values())
        return sum(entry.phase is Phase.WAITING and entry.progress.state == FAILED for entry in entries)

    def check_full(self) -> bool:
        """Return whether so much is in memory that no more fires should be read for now."""
        return self._fires.check_full()

    def to_commit(self) -> dict[int, int]:
        """Return the offsets of fires that are news to the group; they count as committed from then on."""
        news = {partition: self.tenures[partition].offsets.to_commit() for partition in self.held_partitions()}
        return {partition: offset for partition, offset in news.items() if offset is not None}

    def positions(self) -> dict[int, int]:
        """Return, for every partition that is held, the offset at which a successor may begin."""
        return {partition: self.tenures[partition].offsets.position for partition in self.held_partitions()}

    def held_partitions(self) -> list[int]:
        """Return the partitions whose outcomes are known and whose fires are read."""
        return [partition for partition, tenure in self.tenures.items() if tenure.hold is Hold.HELD]


def _decide(attempt: Attempt, error: BaseException | None) -> Decision:
    """Return what follows a failure: what the policy says, unless the callback has asked for the end or for a longer wait."""
    policy, roll = attempt.callback.policy, _roll(attempt)
    decision = policy.after(attempt.number, roll)
    if isinstance(error, SetAside):
        return GiveUp(attempts=attempt.number)
    if isinstance(error, RetryAfter) and isinstance(decision, TryAgain):
        asked_ms = int(error.wait_ms * (1 + policy.jitter * roll))  # never earlier than asked, and not all at once
        return TryAgain(wait_ms=max(decision.wait_ms, min(asked_ms, policy.longest_wait_ms)))
    return decision


def _roll(attempt: Attempt) -> float:
    """Return a number in [0, 1) that differs from fire to fire and is the same at every replay."""
    return crc32(b"%d" % attempt.number, crc32(attempt.entry.uuid)) / 2**32
