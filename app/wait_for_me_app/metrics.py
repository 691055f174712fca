"""What a worker counts, in Prometheus' text format.

Names are a contract with dashboards and alert rules: `wait_for_me_`, base units, `_total` for what only grows, and never a label that
a user chooses (no group, participant or callback name). `NAMES` is checked against `deploy/` by a test.

Most numbers are read from the lanes' own counts at the moment of asking. Only what the lanes do not know is counted here, once a run
or once a fire; nothing is done per command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from wait_for_me.topic_names import TopicNames
from wait_for_me_app.core.effects import FireTimes
from wait_for_me_app.core.rows import COMPLETE, TIMEOUT
from wait_for_me_app.exposition import Histogram, Sample, process_samples
from wait_for_me_app.exposition import exposition as text_of
from wait_for_me_app.exposition import family_of as family_in
from wait_for_me_app.lane import Appended, Lane, Message, Outlet

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
WAITS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0, 2_592_000.0)
RECORDS: Final = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)

FIRE_REASONS: Final = (COMPLETE, TIMEOUT)

NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "wait_for_me_build_info": ("gauge", "The release that runs; always 1."),
    "wait_for_me_ready": ("gauge", "1 while this worker's lanes are restored and fed, else 0."),
    "wait_for_me_lanes": ("gauge", "Partitions that this worker folds."),
    "wait_for_me_takeover_seconds": ("gauge", "How long the last take-over of lanes took."),
    "wait_for_me_groups_waiting": ("gauge", "Groups with an open round on this worker."),
    "wait_for_me_groups_opened_total": ("counter", "Rounds opened."),
    "wait_for_me_groups_fired_total": ("counter", "Rounds that ended with a fire, by reason."),
    "wait_for_me_groups_removed_total": ("counter", "Rounds that a remove has ended."),
    "wait_for_me_participants_total": ("counter", "Adds by what became of them: new, refreshed, duplicate, late."),
    "wait_for_me_conflicts_total": ("counter", "Adds that changed what their group waits for."),
    "wait_for_me_misplaced_commands_total": ("counter", "Commands found on a wrong partition and sent on."),
    "wait_for_me_dead_letters_total": ("counter", "Commands set aside, by stage."),
    "wait_for_me_commands_total": ("counter", "Records folded, ticks included."),
    "wait_for_me_replayed_commands_total": ("counter", "Records met again after a crash and skipped."),
    "wait_for_me_ticks_sent_total": ("counter", "Ticks that the sweep has sent."),
    "wait_for_me_foreign_writers_healed_total": ("counter", "Times that a paused worker's rows were written over."),
    "wait_for_me_run_records": ("histogram", "Records taken at once by a lane."),
    "wait_for_me_run_seconds": ("histogram", "From taking a run to its being safe in Kafka."),
    "wait_for_me_fire_lateness_seconds": ("histogram", "From the deadline to the fire's append, for fires by timeout."),
    "wait_for_me_group_wait_seconds": ("histogram", "From a round's opening to its fire, by reason."),
    "wait_for_me_next_deadline_timestamp_seconds": ("gauge", "The nearest deadline of a partition's open groups."),
    "wait_for_me_oldest_deadline_age_seconds": (
        "gauge",
        "How long the nearest deadline has passed; 0 while it is ahead.",
    ),
    "wait_for_me_lane_watermark_offset": ("gauge", "The last command of a partition whose effects are safe."),
    "wait_for_me_lane_lag_records": ("gauge", "Commands of a partition not folded yet."),
    "wait_for_me_callbacks_total": (
        "counter",
        "Callback attempts by outcome, on this worker's partitions, since it first looked.",
    ),
    "wait_for_me_callback_duration_seconds": ("histogram", "How long the attempts that succeeded took."),
    "wait_for_me_web_requests_total": ("counter", "HTTP answers by class of status."),
    "process_resident_memory_bytes": ("gauge", "Memory in use."),
    "process_cpu_seconds_total": ("counter", "User and system time."),
}


@dataclass(kw_only=True)
class Counters:
    """What the lanes do not count themselves."""

    run_records: Histogram = field(default_factory=lambda: Histogram(RECORDS))
    run_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    fire_lateness: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    group_wait: dict[str, Histogram] = field(default_factory=lambda: {one: Histogram(WAITS) for one in FIRE_REASONS})
    dead_letters: dict[str, int] = field(default_factory=dict)
    callbacks: dict[str, int] = field(default_factory=lambda: {"done": 0, "failed": 0, "dead": 0})
    callback_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    answers: dict[str, int] = field(default_factory=dict)

    _begun: dict[int, float] = field(default_factory=dict)

    def run_begins(self, partition: int) -> None:
        """Note that a lane has taken a run."""
        self._begun[partition] = time.monotonic()

    def run_ends(self, partition: int, records: int) -> None:
        """Count a run that is safe."""
        self.run_records.observe(records)
        self.run_seconds.observe(time.monotonic() - self._begun.pop(partition, time.monotonic()))

    def longest_run_s(self) -> float:
        """Return for how long the oldest run that is under way has been so."""
        return max((time.monotonic() - begun for begun in self._begun.values()), default=0.0)

    def note_fires(self, fires: Sequence[FireTimes], appended_at_ms: int) -> None:
        """Note how long the rounds of these fires waited, and how late those are that timed out."""
        for reason, waits in self.group_wait.items():
            waits.observe_all([(one.fired_at_ms - one.opened_at_ms) / 1000 for one in fires if one.reason == reason])
        late = [max(0, appended_at_ms - one.deadline_ms) / 1000 for one in fires if one.reason == TIMEOUT]
        self.fire_lateness.observe_all(late)

    def note_dead_letter(self, headers: Iterable[tuple[str, bytes]]) -> None:
        """Count a dead letter under its stage."""
        stage = dict(headers).get("wfm_stage", b"unknown").decode()
        self.dead_letters[stage] = self.dead_letters.get(stage, 0) + 1


class CountingOutlet:
    """An outlet that counts the dead letters that pass, by stage."""

    def __init__(self, inner: Outlet, topics: TopicNames, counters: Counters) -> None:
        self._inner = inner
        self._dead_letters = topics.commands_dead_letters
        self._counters = counters

    async def append(self, topic: str, partition: int, units: Sequence[Sequence[Message]]) -> Appended:
        """Append as the inner outlet does, then count what is safe."""
        appended = await self._inner.append(topic, partition, units)
        if topic == self._dead_letters:
            for ((_key, _value, headers),) in units:
                self._counters.note_dead_letter(headers)
        return appended


# -- lanes come and go, their counts stay


class LaneTotals:
    """Sums of counts over every fold that this process has had: a counter must not shrink when a lane moves away.

    A fold's counts are kept, not copied, so what it does between two looks is not missed.
    """

    def __init__(self, lanes: Callable[[], Mapping[int, Lane]]) -> None:
        self._lanes = lanes
        self._seen: dict[int, Any] = {}

    def look(self) -> None:
        """Remember the counts of the lanes of this moment."""
        for lane in self._lanes().values():
            self._seen.setdefault(id(lane.fold.counts), lane.fold.counts)
            self._seen.setdefault(id(lane.counts), lane.counts)

    def sum(self, name: str) -> int:
        """Return the total of one count."""
        return sum(getattr(counts, name, 0) for counts in self._seen.values())

    def closed(self, reason: str) -> int:
        """Return how many rounds ended for this reason."""
        return sum(counts.closed[reason] for counts in self._seen.values() if hasattr(counts, "closed"))


@dataclass(frozen=True, kw_only=True, slots=True)
class LaneReading:
    """What is read of a lane at one moment."""

    partition: int
    watermark: int
    next_deadline_ms: int | None
    waiting: int
    end_offset: int | None

    @property
    def lag(self) -> int | None:
        """Commands that are not folded yet; None where the log's end is not known."""
        return None if self.end_offset is None else max(0, self.end_offset - 1 - self.watermark)


def worker_samples(
    *,
    counters: Counters,
    totals: LaneTotals,
    readings: Sequence[LaneReading],
    is_ready: bool,
    taken_over_in_seconds: float,
    ticks_sent: int,
    now_ms: int,
    version: str,
) -> Iterator[Sample]:
    """Yield everything that a worker exports."""
    totals.look()
    yield Sample("wait_for_me_build_info", {"version": version}, 1)
    yield Sample("wait_for_me_ready", {}, int(is_ready))
    yield Sample("wait_for_me_lanes", {}, len(readings))
    yield Sample("wait_for_me_takeover_seconds", {}, taken_over_in_seconds)
    yield Sample("wait_for_me_groups_waiting", {}, sum(reading.waiting for reading in readings))
    yield from _totals(totals)
    yield Sample("wait_for_me_ticks_sent_total", {}, ticks_sent)
    yield from _counted(counters)
    for reading in readings:
        yield from _lane_samples(reading, now_ms)
    yield from process_samples()


def _totals(totals: LaneTotals) -> Iterator[Sample]:
    yield Sample("wait_for_me_groups_opened_total", {}, totals.sum("opened"))
    for reason in ("complete", "timeout"):
        yield Sample("wait_for_me_groups_fired_total", {"reason": reason}, totals.closed(reason))
    yield Sample("wait_for_me_groups_removed_total", {}, totals.closed("removed"))
    new = totals.sum("opened") + totals.sum("joined")  # the add that opens a round brings its first participant
    results = {"new": new, "refreshed": totals.sum("refreshed")}
    results |= {"duplicate": totals.sum("duplicates"), "late": totals.sum("late")}
    for result, count in results.items():
        yield Sample("wait_for_me_participants_total", {"result": result}, count)
    for name, counted in (
        ("conflicts", "conflicts"),
        ("misplaced_commands", "rerouted"),
        ("commands", "records"),
        ("replayed_commands", "replayed"),
        ("foreign_writers_healed", "healed"),
    ):
        yield Sample(f"wait_for_me_{name}_total", {}, totals.sum(counted))


def _counted(counters: Counters) -> Iterator[Sample]:
    for stage in sorted({"decode", "validate", "route", "apply", *counters.dead_letters}):
        yield Sample("wait_for_me_dead_letters_total", {"stage": stage}, counters.dead_letters.get(stage, 0))
    yield from counters.run_records.samples("wait_for_me_run_records")
    yield from counters.run_seconds.samples("wait_for_me_run_seconds")
    yield from counters.fire_lateness.samples("wait_for_me_fire_lateness_seconds")
    for reason, waits in counters.group_wait.items():
        for one in waits.samples("wait_for_me_group_wait_seconds"):
            yield Sample(one.name, {"reason": reason, **one.labels}, one.value)
    for outcome, count in counters.callbacks.items():
        yield Sample("wait_for_me_callbacks_total", {"outcome": outcome}, count)
    yield from counters.callback_seconds.samples("wait_for_me_callback_duration_seconds")
    for status, count in sorted(counters.answers.items()):
        yield Sample("wait_for_me_web_requests_total", {"status": status}, count)


def _lane_samples(reading: LaneReading, now_ms: int) -> Iterator[Sample]:
    labels = {"partition": str(reading.partition)}
    yield Sample("wait_for_me_lane_watermark_offset", labels, reading.watermark)
    if reading.lag is not None:
        yield Sample("wait_for_me_lane_lag_records", labels, reading.lag)
    next_ms = reading.next_deadline_ms
    age_ms = 0 if next_ms is None else max(0, now_ms - next_ms)
    yield Sample("wait_for_me_oldest_deadline_age_seconds", labels, age_ms / 1000)
    if next_ms is not None:
        yield Sample("wait_for_me_next_deadline_timestamp_seconds", labels, next_ms / 1000)


# -- the text format


def exposition(samples: Iterable[Sample]) -> str:
    """Write a worker's samples in Prometheus' text format."""
    return text_of(samples, NAMES)


def family_of(name: str) -> str:
    """Return the name that a sample of a worker belongs to: a histogram has three kinds of them."""
    return family_in(name, NAMES)
