"""Goes on with what another executor has left: fires that wait, and attempts that may still run somewhere. Pure.

The danger: an attempt that has started and has no end may have died with its process, or may run on in an executor that
handed the partition over in order and will write the end soon. So its time limit is waited out, counted from its start,
and then the outcomes are read once more before it counts as failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Final

from wait_for_me_app.callbacks import Callback
from wait_for_me_app.core.retry import RetryPolicy
from wait_for_me_app.executor import records
from wait_for_me_app.executor.effects import Now, ReadAgain
from wait_for_me_app.executor.fires import Fires
from wait_for_me_app.executor.ledger import (
    Ledger,
    offset_of_dead,
    overrules,
    pending_in_order,
    read_progress,
    supersedes,
)
from wait_for_me_app.executor.options import ExecutorOptions
from wait_for_me_app.executor.steps import Steps, names
from wait_for_me_app.executor.tenure import Entry, Phase, Tenure
from wait_for_me_app.outcomes import FAILED, STARTED, DamagedOutcome, Progress, parse_key

OutcomeRecord = tuple[bytes | None, bytes | None, int]
"""Key, value and append time of a record of the outcomes topic."""

_UNKNOWN_POLICY: Final = RetryPolicy()  # of a callback that is not registered here


class Takeover:
    """What is done when a partition's outcomes have been read, and while attempts of others may still run."""

    def __init__(
        self, fires: Fires, steps: Steps, find: Callable[[str], Callback | None], options: ExecutorOptions
    ) -> None:
        self._fires = fires
        self._steps = steps
        self._find = find
        self._options = options

    def take_over(self, tenure: Tenure, ledger: Ledger, now: Now) -> None:
        """Go on with every fire that is not final, and clean up after executors that died."""
        for uuid, progress in pending_in_order(ledger):
            self._resume(self._fires.enter(tenure, uuid, progress, Phase.WAITING), now)
        for key in ledger.leftovers:
            self._steps.delete(tenure.partition, key)
        for damaged in ledger.damaged.values():
            self._steps.set_damage_aside(tenure.partition, damaged)

    def look_again(self, tenure: Tenure, now: Now) -> None:
        """Ask for the outcomes to be read on, if somebody else's attempt is waited for and it is time."""
        at_ms = tenure.look_again_steady_ms
        if tenure.elsewhere and at_ms is not None and at_ms <= now.steady_ms:
            tenure.look_again_steady_ms = None
            self._steps.ask(ReadAgain(tenure=tenure, from_offset=tenure.outcomes_end, asked_steady_ms=now.steady_ms))

    def read_again(
        self, tenure: Tenure, read: Iterable[OutcomeRecord], end: int, asked_steady_ms: int, now: Now
    ) -> None:
        """Take what others have written; then give up the attempts whose time was over before that was asked for."""
        for key, value, appended_at_ms in read:
            self._take_foreign(tenure, key, value, appended_at_ms, now)
        tenure.outcomes_end = max(tenure.outcomes_end, end)
        tenure.look_again_steady_ms = now.steady_ms + self._options.look_again_ms
        for entry in [one for one in tenure.elsewhere.values() if one.until_steady_ms <= asked_steady_ms]:
            del tenure.elsewhere[entry.uuid]
            self._count_lost_start(entry, now)

    def after_failure(self, entry: Entry) -> None:
        """The failure is written down: wait for the next attempt, or set the fire aside."""
        progress = entry.progress
        if progress.next_attempt_at_ms is None:
            self._steps.set_aside(entry, progress.error or "callback_failed", progress.reason or "")
        else:
            self._fires.wait(entry, progress.next_attempt_at_ms)

    # -- one fire

    def _resume(self, entry: Entry, now: Now) -> None:
        progress, kept_ms = entry.progress, self._options.outcomes_kept_ms
        if kept_ms is not None and progress.accepted_at_ms + kept_ms < now.wall_ms:
            reason = (
                "accepted longer ago than outcomes are kept, so it may have been done: look, and send it again if not"
            )
            self._steps.set_aside(entry, "callback_failed", reason)
        elif progress.state == STARTED:
            self._wait_elsewhere(entry, now)
        elif progress.state == FAILED:
            self.after_failure(entry)
        else:
            self._fires.wait(entry, progress.next_attempt_at_ms or 0)

    def _wait_elsewhere(self, entry: Entry, now: Now) -> None:
        """Wait out the time limit, counted from the start; a foreign clock that runs ahead makes it no longer."""
        progress = entry.progress
        longest_ms = (progress.time_limit_ms or 0) + self._options.start_margin_ms
        ran_ms = max(0, now.wall_ms - (progress.started_at_ms or 0))
        entry.phase = Phase.ELSEWHERE
        entry.until_steady_ms = now.steady_ms + max(0, longest_ms - ran_ms)
        entry.tenure.elsewhere[entry.uuid] = entry

    def _count_lost_start(self, entry: Entry, now: Now) -> None:
        """Nobody has written the end of an attempt: it is spent, and whoever ran it has probably died of it."""
        progress, callback = entry.progress, self._find(entry.progress.callback)
        allowed = (callback.policy if callback else _UNKNOWN_POLICY).attempts
        is_last = progress.starts_without_end + 1 >= self._options.starts_without_end or progress.attempt >= allowed
        lost = records.failed(
            progress,
            code="callback_killed_process",
            reason=f"attempt {progress.attempt} on {progress.executor} has no end: see what ended that process",
            next_at_ms=None if is_last else now.wall_ms,
            lost_start=True,
        )
        self._steps.fail(entry, lost)

    # -- what others write

    def _take_foreign(
        self, tenure: Tenure, key: bytes | None, value: bytes | None, appended_at_ms: int, now: Now
    ) -> None:
        """Take a record about a fire that this executor has not touched since; its own records it knows."""
        parsed = parse_key(key)
        if parsed is None or value is None:
            return
        uuid, is_progress = parsed
        entry = tenure.entries.get(uuid)
        if not is_progress:
            died_at = offset_of_dead(value)
            if entry is not None and overrules(entry.progress, died_at):
                return  # it died before it was sent once more
            tenure.final.add(uuid, appended_at_ms, died_at)
            if entry is not None:
                self._finished_elsewhere(entry)
        elif entry is not None and entry.phase is Phase.ELSEWHERE:
            self._went_on_elsewhere(entry, value, now)

    def _finished_elsewhere(self, entry: Entry) -> None:
        """Final wins: what has not begun here will not begin."""
        if entry.phase in (Phase.ELSEWHERE, Phase.WAITING, Phase.BEHIND, Phase.READY):
            self._fires.drop(entry)
        elif entry.phase is Phase.RUNNING:
            self._steps.report(logging.ERROR, "attempts_overlap", **names(entry), attempt=entry.progress.attempt)

    def _went_on_elsewhere(self, entry: Entry, value: bytes, now: Now) -> None:
        progress = _read(entry, value)
        if progress is not None and supersedes(progress, entry.progress) and progress != entry.progress:
            del entry.tenure.elsewhere[entry.uuid]
            entry.progress = progress
            self._resume(entry, now)


def _read(entry: Entry, value: bytes) -> Progress | None:
    try:
        return read_progress(entry.uuid, value)
    except DamagedOutcome:
        return None  # set aside at the next takeover
