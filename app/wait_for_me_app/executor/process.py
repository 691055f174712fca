"""The executor: reads fires, runs the registered callbacks, and keeps in the outcomes topic how far it is with each.

    wait-for-me executor --callbacks my_module

`schedule.py` decides and this file acts. Order of effects for a fire; each arrow is an awaited acknowledgement
of Kafka:

    read -> accepted -> (its offset may be committed) -> attempt started -> the callback runs -> done
                                                                        `-> failed -> ... -> dead letter -> dead

What a crash does (tests can stop the process at each point, `crash_points.py`):

    X1  before the start is written     the log says accepted, or failed: the successor starts the same attempt number
    X2  written, callback not begun     a start without an end: its time limit is waited out, it counts as spent, the next begins
    X3  callback done, not written      the same; so the callback runs a second time, with the same fire_id: at least once
    X4  written, offset not committed   the fire is read again, and skipped: its outcome is known
    X5  failure or dead letter sent,    it arrived: as if acknowledged, and a dead letter may come twice with the same fire_id;
        not acknowledged                it did not: as X2

A callback that kills its process would do so for ever; the third start without an end makes the fire dead
(`callback_killed_process`). Any failure to write ends the process with code 70 and without a commit: what is not known
to be in Kafka did not happen.

Partitions move by cooperative rebalancing: those that stay keep their fires and running attempts, instead of all being
restored again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import FrameType
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from wait_for_me.errors import ConfigurationError
from wait_for_me_app import topics
from wait_for_me_app.callbacks import DEFAULT_REGISTRY, Registry, load
from wait_for_me_app.crash_points import crash_point
from wait_for_me_app.executor.children import Children
from wait_for_me_app.executor.clients import fire_record, make_consumer, make_producer, make_reader
from wait_for_me_app.executor.effects import Append, Cancel, Effect, Now, ReadAgain, Report, Start
from wait_for_me_app.executor.options import ExecutorOptions, options_from
from wait_for_me_app.executor.outbox import ExecutorFailure, Outbox
from wait_for_me_app.executor.rates import Rate
from wait_for_me_app.executor.reader import News, OutcomesReader, ReadOn, Restored
from wait_for_me_app.executor.runner import Runner
from wait_for_me_app.executor.schedule import Schedule
from wait_for_me_app.executor.spans import Spans
from wait_for_me_app.executor.tenure import Entry, Hold
from wait_for_me_app.executor.watch import Reading, Watch
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.outcomes import NewerOutcome
from wait_for_me_app.resuming import resume
from wait_for_me_app.settings import Settings

log = logging.getLogger(__name__)

_FIRES_AT_ONCE: Final = 500
_IDLE_MS: Final = 100
_BUSY_MS: Final = 10
_SETTLE_MS: Final = 5_000
_HAND_OVER_MS: Final = 1_000
_LOOK_EVERY: Final = 16
"""Records that are handed to the client between two looks at the clock; before a callback starts there is one always."""
_DONE_LINES_A_SECOND: Final = 100.0


def clock() -> Now:
    """Return this moment; the steady clock counts on while the machine sleeps, where there is one that does."""
    return Now(wall_ms=time.time_ns() // 1_000_000, steady_ms=time.clock_gettime_ns(_STEADY) // 1_000_000)


_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def run(
    settings: Settings,
    callbacks: Iterable[str] | None = None,
    *,
    stop: threading.Event | None = None,
    options: ExecutorOptions | None = None,
    registry: Registry = DEFAULT_REGISTRY,
    clock: Callable[[], Now] = clock,
) -> int:
    """Run callbacks for what fires until stopped, and return the exit code: 0 when stopped, 70 after a failure.

    `callbacks` names modules to import; the settings' if not given. Without a `stop` event, SIGTERM and SIGINT stop it.
    Raises ConfigurationError for callbacks or a cluster that cannot do, NotReady when Kafka is out of reach.
    """
    options = options or options_from(settings)
    load(registry, settings.callbacks if callbacks is None else callbacks, defaults=options.callbacks)
    options = _for_this_cluster(settings, options)
    with _stopped_by_signals(stop) as stopped:
        return Executor(settings, registry, options, clock).run(stopped)


def _for_this_cluster(settings: Settings, options: ExecutorOptions) -> ExecutorOptions:
    """Check the topics, and learn how long outcomes are kept; the demo's embedded broker has no settings to check."""
    if settings.demo_broker:
        return options
    admin = topics.admin_client(settings)
    topics.refuse_unfit_cluster(settings, admin)
    kept_ms = int(topics.read(settings, admin)[settings.topics.outcomes].config["retention.ms"])
    return replace(options, outcomes_kept_ms=kept_ms if kept_ms >= 0 else None)


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event | None) -> Iterator[threading.Event]:
    """Give back an event that the first SIGTERM or SIGINT sets; the second one does what it did before."""
    if stop is not None:
        yield stop
        return
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def ask_to_stop(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Executor:
    """The thread that talks to Kafka. It never runs a callback and never waits for one."""

    def __init__(
        self, settings: Settings, registry: Registry, options: ExecutorOptions, clock: Callable[[], Now]
    ) -> None:
        self._settings = settings
        self._options = options
        self._clock = clock
        self._schedule = Schedule(
            topics=settings.topics,
            find=registry.find,
            options=options,
            executor=f"{settings.worker_id}:{os.getpid()}",
        )
        children = Children(log_format=settings.log_format, log_level=settings.log_level)
        self._runner = Runner(threads=options.threads, processes=options.processes, children=children)
        self._reader = OutcomesReader(make_reader(settings), settings.topics, options.outcomes_kept_ms)
        self._outbox = Outbox(make_producer(settings, self._note_error))
        self._consumer = make_consumer(settings, self._note_error)
        self._effects: deque[Effect] = deque()
        self._failure: KafkaError | None = None
        self._spans = Spans(settings.topics.fires, settings.topics.executor_group)
        self._watch: Watch | None = None
        self._done_lines, self._untold = Rate(_DONE_LINES_A_SECOND), 0
        self._schedule.report_from(log.getEffectiveLevel())
        self._is_over = False
        self._is_paused = False
        self._committed_steady_ms = 0
        self._sure_steady_ms = clock().steady_ms

    def run(self, stop: threading.Event) -> int:
        """Serve until the event is set; return the exit code."""
        try:
            self._begin()
            while not stop.is_set():
                self._turn()
            self._wind_down()
        except ConfigurationError:
            raise
        except Exception:
            log.critical("executor_failed", exc_info=True)
            return int(ExitCode.INTERNAL_ERROR)
        finally:
            self._close()
        log.info("executor_stopped")
        return int(ExitCode.OK)

    def _begin(self) -> None:
        if port := self._settings.executor_metrics_port:
            self._watch = Watch(self._schedule.tally, port)
        self._reader.start()
        fires = [self._settings.topics.fires]
        self._consumer.subscribe(fires, self._on_assign, self._on_revoke, self._on_lost)
        log.info("executor_started", extra={"topic": fires[0], "group": self._settings.topics.executor_group})

    def _turn(self) -> None:
        """Take what has happened, decide, act. Short, whatever the callbacks do."""
        self._read_fires()
        if not self._is_sure():
            return
        self._take_news()
        self._schedule.tick(self._clock())
        self._act()
        self._commit_when_due()
        self._pause_or_resume()
        self._show()

    def _show(self) -> None:
        """Leave a reading for whoever asks, now and then."""
        if self._watch is not None and self._watch.beat():
            self._watch.show(self._schedule_reading())

    def _schedule_reading(self) -> Reading:
        schedule = self._schedule
        why = "it is stopping" if schedule.is_stopping else "the outcomes of its partitions are being read"
        held = schedule.positions()
        return Reading(
            is_ready=not schedule.is_stopping and len(held) == len(schedule.tenures),
            why=why,
            partitions=len(schedule.tenures),
            in_flight=schedule.in_flight,
            pending=schedule.pending,
            retries=schedule.retries_waiting(),
            is_paused=self._is_paused,
            lags={partition: self._lag(partition, position) for partition, position in held.items()},
        )

    def _lag(self, partition: int, position: int) -> int:
        """Return how many fires are not accepted yet, as far as the client has heard of the end."""
        _, end = self._consumer.get_watermark_offsets(self._fires_of(partition), cached=True)
        return max(0, end - position)

    def _wind_down(self) -> None:
        """Start nothing, let what runs finish, write down what does not, commit."""
        log.info("executor_stopping", extra={"grace_ms": self._options.stop_grace_ms})
        self._schedule.stop()
        self._turn_while(lambda: self._schedule.is_running, self._options.stop_grace_ms)
        self._schedule.interrupt(self._clock())
        self._act()
        self._turn_while(lambda: bool(self._outbox.is_busy or self._effects), _SETTLE_MS)
        self._commit_now(self._schedule.positions())

    def _turn_while(self, condition: Callable[[], bool], at_most_ms: int) -> None:
        until_ms = self._clock().steady_ms + at_most_ms
        while condition() and self._clock().steady_ms < until_ms:
            self._turn()

    def _close(self) -> None:
        self._is_over = True  # closing revokes all partitions; nothing is written or committed any more
        self._consumer.close()
        self._reader.close()
        self._runner.close()
        if self._watch is not None:
            self._watch.close()

    # -- what has happened

    def _read_fires(self) -> None:
        first = self._consumer.poll(self._patience_seconds())
        messages = [] if first is None else [first, *self._consumer.consume(_FIRES_AT_ONCE, 0)]
        now = self._clock()
        for message in messages:
            error = message.error()
            if error is None:
                self._schedule.fire(fire_record(message), now)
            else:
                self._note_error(error)

    def _patience_seconds(self) -> float:
        """Return how long to wait for a fire: not at all while acknowledgements are due, they are waited for instead."""
        self._outbox.wait(_BUSY_MS / 1000)
        if self._outbox.is_busy or self._effects:
            return 0.0
        wakeup_ms = self._schedule.next_wakeup_in_ms(self._clock())
        longest_ms = _BUSY_MS if self._schedule.attempts or self._reader.is_busy else _IDLE_MS
        return min(longest_ms, longest_ms if wakeup_ms is None else wakeup_ms) / 1000

    def _take_news(self) -> None:
        self._take_acks()
        for token, error in self._runner.take_ended():
            crash_point("X3")
            self._end_span(token, error)
            self._schedule.ended(token, error, self._clock())
        for news in self._reader.take_news():
            self._take_read(news)

    def _end_span(self, token: int, error: BaseException | None) -> None:
        is_late = self._schedule.attempts[token].is_judged
        code = "callback_timeout" if is_late else None if error is None else type(error).__name__
        self._spans.end(token, code, error)

    def _take_acks(self) -> None:
        for ticket in self._outbox.take_safe():
            self._schedule.acked(ticket, self._clock())
        if self._failure is not None:
            raise ExecutorFailure(f"Kafka's client has given up ({self._failure.str()}): start the executor again")

    def _take_read(self, news: News) -> None:
        if isinstance(news, Restored):
            self._schedule.restored(news.tenure, news.ledger, news.next_offset, self._clock())
            if news.tenure.hold is Hold.HELD and not self._is_paused:
                resume(self._consumer, [self._fires_of(news.tenure.partition)])
        elif isinstance(news, ReadOn):
            asked = news.asked
            self._schedule.read_again(asked.tenure, news.records, news.end, asked.asked_steady_ms, self._clock())
        elif isinstance(news.error, NewerOutcome):
            raise ConfigurationError(str(news.error)) from news.error
        else:
            raise ExecutorFailure("the outcomes cannot be read: see the cause, then start it again") from news.error

    def _note_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in _HOPELESS:
            self._failure = error
        log.warning("kafka_error", extra={"code": error.name(), "why": error.str()})

    # -- what is to be done

    def _act(self) -> None:
        """Carry effects out in order, as long as the partitions are known to be this executor's."""
        self._effects.extend(self._schedule.take_effects())
        done = 0
        while self._effects:
            if (done % _LOOK_EVERY == 0 or isinstance(self._effects[0], Start)) and self._stood_still():
                return
            self._carry_out(self._effects.popleft())
            done += 1
            if not self._effects:
                self._effects.extend(self._schedule.take_effects())

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Append(ticket=Entry() as entry) if entry.tenure.hold is Hold.LOST:
                pass  # another executor writes about it now
            case Append():
                self._outbox.append(effect)
            case Start():
                self._start(effect)
            case Cancel():
                self._runner.cancel(effect.token)
            case ReadAgain():
                self._reader.read_on(effect)
            case Report():
                self._tell(effect)

    def _tell(self, report: Report) -> None:
        """Log it; of fires that are done at most so many a second, or a disk would hold thousands of lines that say nothing."""
        if not log.isEnabledFor(report.level):
            return
        fields = report.fields
        if report.event == "fire_done":
            steady_ms = self._clock().steady_ms
            if self._done_lines.wait_ms(steady_ms):
                self._untold += 1
                return
            self._done_lines.take(steady_ms)
            if self._untold:
                fields, self._untold = {**fields, "others_done": self._untold}, 0
        log.log(report.level, report.event, extra=fields, exc_info=report.error)

    def _start(self, start: Start) -> None:
        """Check once more whose partition it is; then hand the callback to a thread or task."""
        if self._schedule.attempts[start.token].entry.tenure.hold is Hold.LOST:
            self._schedule.ended(start.token, None, self._clock())
            return
        crash_point("X2")
        self._runner.start(self._spans.begin(start, self._schedule.attempts[start.token]))

    # -- offsets

    def _commit_when_due(self) -> None:
        now_ms = self._clock().steady_ms
        if now_ms - self._committed_steady_ms < self._options.commit_every_ms:
            return
        self._committed_steady_ms = now_ms
        if offsets := self._schedule.to_commit():
            crash_point("X4")
            self._consumer.commit(offsets=self._fires_at(offsets), asynchronous=True)

    def _commit_now(self, positions: dict[int, int]) -> None:
        """Commit and wait; what cannot be committed is read again, and known."""
        try:
            self._commit(positions)
        except KafkaException as exception:
            log.warning("commit_failed", extra={"why": exception.args[0].str()})

    def _commit(self, positions: dict[int, int]) -> None:
        if positions:
            for partition in self._consumer.commit(offsets=self._fires_at(positions), asynchronous=False):
                if partition.error is not None:
                    raise KafkaException(partition.error)

    def _fires_at(self, offsets: dict[int, int]) -> list[TopicPartition]:
        return [TopicPartition(self._settings.topics.fires, partition, at) for partition, at in offsets.items()]

    def _fires_of(self, partition: int) -> TopicPartition:
        return TopicPartition(self._settings.topics.fires, partition)

    # -- whose partitions they are

    def _stood_still(self) -> bool:
        """Whether this process stood still for so long that others may have its partitions."""
        now_ms = self._clock().steady_ms
        if now_ms - self._sure_steady_ms > self._settings.session_timeout_ms / 2:
            return True
        self._sure_steady_ms = now_ms
        return False

    def _is_sure(self) -> bool:
        """Return whether the partitions are known to be ours; after a standstill only a commit that is accepted says
        so.

        While it is refused, nothing is done but to ask for news of the group, which end in a lost or a confirmed
        assignment.
        """
        if not self._stood_still():
            return True
        log.warning("stood_still", extra={"ms": self._clock().steady_ms - self._sure_steady_ms})
        try:
            self._commit(self._schedule.positions())
        except KafkaException as exception:
            if exception.args[0].code() != KafkaError.REBALANCE_IN_PROGRESS:  # which only a member is told
                log.warning("membership_uncertain", extra={"why": exception.args[0].str()})
                return False
        self._sure_steady_ms = self._clock().steady_ms
        return True

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)  # until their outcomes are known
        for partition in partitions:
            self._reader.restore(self._schedule.assigned(partition.partition))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Hand over in order: start nothing, wait a moment for what is under way, and commit what that makes safe."""
        if self._is_over:
            return
        numbers = [partition.partition for partition in partitions]
        leaving = {
            number: self._schedule.tenures[number] for number in self._schedule.held_partitions() if number in numbers
        }
        for number in numbers:
            self._schedule.revoked(number)
        self._settle(_HAND_OVER_MS)
        self._commit_now({number: tenure.offsets.position for number, tenure in leaving.items()})

    def _settle(self, at_most_ms: int) -> None:
        """Wait for acknowledgements and carry out what follows from them, without reading anything."""
        until_ms = self._clock().steady_ms + at_most_ms
        self._act()
        while self._outbox.is_busy and self._clock().steady_ms < until_ms:
            self._outbox.wait(_BUSY_MS / 1000)
            self._take_acks()
            self._act()

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for partition in partitions:
            self._schedule.lost(partition.partition)

    def _pause_or_resume(self) -> None:
        """Read no more fires while memory is full, or at the end."""
        wanted = self._schedule.is_stopping or self._schedule.check_full()
        if wanted == self._is_paused:
            return
        self._is_paused = wanted
        held = [self._fires_of(partition) for partition in self._schedule.held_partitions()]
        (self._consumer.pause if wanted else self._consumer.resume)(held)
        log.info("reading_paused" if wanted else "reading_resumed")


_HOPELESS: Final = frozenset(
    {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART}
)
