"""What must be true when a deployment has healed: judged against the reference, which knows no crash.

CRASHED      a worker ended itself although nothing was done to it
STUCK        what is due does not fire, or workers keep ending
ROWS         the rows of a lane are not what the log says
RESTORE      the changelog, compacted or not, does not restore to the rows of the lane that owns it
LOST EXTRA   a fire is missing; a fire, or another version of one, should not be there
COPIES       there are more copies of a fire than lanes were loaded
EARLY        a fire was sent before its deadline by the broker's clock
LETTERS      dead letters are not exactly the records that the reference refuses
REROUTE      a misplaced command was not re-sent
LEFT         rows are left over although every group is forgotten
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from simulation import product, workload
from simulation.disk import CHANGELOG_ID, Disk
from simulation.kafka import COMPACTION_LAG_MS, Partition
from simulation.worker import TOPIC_ID, Process
from simulation.world import Violation, World
from wait_for_me_app.audit.reference import Lane as ReferenceLane
from wait_for_me_app.audit.reference import Outcome
from wait_for_me_app.core.deadlines import NEVER_MS
from wait_for_me_app.core.rows import OpenRound
from wait_for_me_app.lane import Lane
from wait_for_me_app.storage import keys
from wait_for_me_app.storage.row_codec import decode_round
from wait_for_me_app.storage.store import MemoryStore

SWEEPS_BY_A_RIGHT_CLOCK: Final = 5
"""After so many sweeps a second has passed; no healthy worker needs more."""
SWEEPS_BY_A_WRONG_CLOCK: Final = 30
_LATE_MS: Final = 1_000
"""Beyond that comes how long the slowest answer took: its process believes that the broker's clock is as far behind, until the next."""
LEFT_EVERY: Final = 4
"""One schedule in so many waits until every row has been deleted."""
LONGEST_LINGER_MS: Final = 300_000_000
_PARTICIPANT_KINDS: Final = (keys.PARTICIPANT, keys.ARRIVAL)
_OTHER_ROWS: Final = (keys.WATERMARK_KEY, keys.STRIKE_KEY)


def judge(world: World) -> None:
    """Let the deployment heal and drain, and raise Violation if anything is not as it must be."""
    references = [Reference(world, partition) for partition in range(world.options.partitions)]
    reader = Process(world, 0, Disk())
    product.set_limits_for_peace(world.options)
    world.finish()
    for partition, reference in enumerate(references):
        lane = _owner(world, partition)
        _judge_rows(partition, lane, reference.read())
        _judge_restore(world, partition, lane, reader)
    _let_all_fire(world, references)
    are_rows_deleted = world.seed % LEFT_EVERY == 0
    if are_rows_deleted:
        _let_rows_be_deleted(world)
    for partition, reference in enumerate(references):
        expected = reference.read()
        world.words.update(expected.verdicts)
        world.words.update(
            "complete" if b'"reason":"complete"' in value else "timeout" for _, _, value in expected.fires
        )
        _judge_fires(world, partition, expected)
        _judge_letters(world, partition, expected)
        _judge_reroutes(world, partition, expected)
        if are_rows_deleted:
            _judge_leftovers(partition, _owner(world, partition))


class Reference:
    """The reference's fold of one partition, read on as the log grows."""

    def __init__(self, world: World, partition: int) -> None:
        self._log, self._next = world.commands[partition], 0
        self._lane = ReferenceLane(TOPIC_ID, partition, world.options.partitions)

    def read(self) -> Outcome:
        """Say what must have come of the log so far; does what `fold_partition` does."""
        lane = self._lane
        for record in self._log.read_from(self._next, len(self._log.records)):
            lane.now = max(lane.now, record.timestamp_ms)
            lane.time_out(record.offset)
            lane.seen.verdicts.append(lane.judge(record))
        self._next = self._log.end
        lane.seen.open_groups.clear()
        lane.seen.closed.clear()
        return lane.outcome()

    def soonest_deadline(self) -> int:
        """Return the next deadline of an open round."""
        return min((deadline for _, _, deadline in self.read().open_groups.values()), default=NEVER_MS)


def _owner(world: World, partition: int) -> Lane:
    owners = [process for process in world.members if partition in process.positions]
    lanes = [process.lanes.by_partition[partition] for process in owners if partition in process.lanes.by_partition]
    if len(owners) != 1 or not lanes:
        raise Violation("STUCK", f"partition {partition} has {len(owners)} owners and {len(lanes)} lanes")
    records = world.commands[partition].records
    if records and lanes[0].watermark < records[-1].offset:
        raise Violation("STUCK", f"partition {partition} is folded up to {lanes[0].watermark} of {records[-1].offset}")
    return lanes[0]


def _judge_rows(partition: int, lane: Lane, expected: Outcome) -> None:
    rows = {keys.group_key_of(key): decode_round(key, value) for key, value in lane.store.items(keys.GROUP)}
    open_groups = {
        key: (row.opened_offset, row.arrived_count, row.deadline_ms)
        for key, row in rows.items()
        if isinstance(row, OpenRound)
    }
    closed = {
        key: (row.opened_offset, row.late_count, row.closed_at_ms)
        for key, row in rows.items()
        if not isinstance(row, OpenRound) and row.due_ms > expected.stream_time_ms
    }
    if lane.fold.stream_time_ms != expected.stream_time_ms:
        raise Violation(
            "ROWS", f"partition {partition}: T is {lane.fold.stream_time_ms}, not {expected.stream_time_ms}"
        )
    if open_groups != expected.open_groups:
        raise Violation("ROWS", f"partition {partition}: open are {open_groups}, not {expected.open_groups}")
    if closed != expected.closed:
        raise Violation("ROWS", f"partition {partition}: closed are {closed}, not {expected.closed}")


def _judge_restore(world: World, partition: int, lane: Lane, reader: Process) -> None:
    log = world.changelogs[partition]
    _compare_restored(partition, lane, reader, "as it is")
    kept, log.records = log.records, list(log.records)
    log.compact(world.broker_now_ms + COMPACTION_LAG_MS + 1_000_000, log.end)
    _compare_restored(partition, lane, reader, "compacted")
    log.records = kept


def _compare_restored(partition: int, lane: Lane, reader: Process, how: str) -> None:
    restored, own = _that_count(_restored(partition, reader)), _that_count(lane.store)
    if restored != own:
        names = sorted(key for key in restored.keys() | own.keys() if restored.get(key) != own.get(key))
        differences = [f"{key!r}: restored {restored.get(key)!r}, owned {own.get(key)!r}" for key in names]
        raise Violation("RESTORE", f"partition {partition}, changelog {how}: {'; '.join(differences)}")


def _that_count(store: Any) -> dict[bytes, bytes]:
    """Return a store's rows but for participants of rounds that are over: a lane deletes those when it is loaded."""
    rows: dict[bytes, bytes] = store.rows
    rounds = {
        keys.group_key_of(key): decode_round(key, rows[key]).opened_offset for key in rows if key[:1] == keys.GROUP
    }
    return {
        key: value
        for key, value in rows.items()
        if key[:1] not in _PARTICIPANT_KINDS or rounds.get(keys.group_key_of(key)) == keys.opened_offset_of(key)
    }


def _restored(partition: int, reader: Process) -> MemoryStore:
    store = MemoryStore()
    before, product.Running.process = product.Running.process, reader
    reader.lanes._changelog.restore({partition: store})
    product.Running.process = before
    return store


def _let_all_fire(world: World, references: list[Reference]) -> None:
    """Let time pass until no round is open any more."""
    fruitless, before = 0, NEVER_MS
    while (due := min((reference.soonest_deadline() for reference in references), default=NEVER_MS)) != NEVER_MS:
        fruitless = fruitless + 1 if due == before else 0
        before = due
        late_ms = world.broker_now_ms - due
        if fruitless > _sweeps_allowed(world) and late_ms > _LATE_MS + world.slowest_answer_ms:
            raise Violation("STUCK", f"a deadline passed {late_ms} ms ago and its group has not fired")
        world.now = max(world.now, due - world.broker_ahead_ms) + (30 << min(fruitless, 22))
        world.sweep_all()
        if None in world.processes:
            world.finish()


def _sweeps_allowed(world: World) -> int:
    return SWEEPS_BY_A_RIGHT_CLOCK if world.options.clock_rates == (1.0,) else SWEEPS_BY_A_WRONG_CLOCK


def _let_rows_be_deleted(world: World) -> None:
    """Rows are freed when a record shows that their linger has passed, and deleted by a later run, a few at a time."""
    for _ in range(400):
        world.now += LONGEST_LINGER_MS  # more than once: a worker whose clock is ahead looks at a row that lingers later than it could
        world.send_ticks()
        if not any(_leftovers(_owner(world, partition)) for partition in range(world.options.partitions)):
            return


def _judge_fires(world: World, partition: int, expected: Outcome) -> None:
    wanted = {(key, value) for _, key, value in expected.fires}
    found = Counter((record.key, record.value) for record in world.fires[partition].records)
    if missing := wanted - found.keys():
        raise Violation("LOST", f"partition {partition}: {min(missing)!r}; there is {sorted(found.keys() - wanted)}")
    if extra := found.keys() - wanted:
        raise Violation("EXTRA", f"partition {partition}: {min(extra)!r}")
    most = max(found.values(), default=0)
    if most > world.loads[partition]:
        raise Violation("COPIES", f"partition {partition}: {most} copies of one fire by {world.loads[partition]} lanes")


def _judge_letters(world: World, partition: int, expected: Outcome) -> None:
    raising = {record.offset for record in world.commands[partition].records if record.value == workload.RAISES}
    wanted = {(offset, code, stage) for offset, code, stage in expected.rejected}
    wanted |= {(offset, "apply_failed", "apply") for offset in raising}
    found = {_origin(record) for record in world.letters[partition].records}
    if found != wanted:
        raise Violation("LETTERS", f"partition {partition}: missing {wanted - found}, too many {found - wanted}")


def _origin(letter: Any) -> tuple[int, str, str]:
    headers = dict(letter.headers)
    return int(headers["__dlq.errors.offset"]), headers["wfm_error"].decode(), headers["wfm_stage"].decode()


def _judge_reroutes(world: World, partition: int, expected: Outcome) -> None:
    for offset, home in expected.rerouted:
        origin = ("wfm_rerouted", b"%d:%d" % (partition, offset))
        if not any(origin in record.headers for record in world.commands[home].records):
            raise Violation("REROUTE", f"partition {partition}, offset {offset} was not re-sent to {home}")


def _leftovers(lane: Lane) -> list[bytes]:
    return [key for key in lane.store.rows if key not in _OTHER_ROWS]  # type: ignore[attr-defined]


def _judge_leftovers(partition: int, lane: Lane) -> None:
    if left := _leftovers(lane):
        raise Violation("LEFT", f"partition {partition}: {left}")


__all__ = ["CHANGELOG_ID", "Partition", "judge"]
