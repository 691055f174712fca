"""What happened lately: the ends of the fires, outcomes and dead letters topics, followed by one thread once somebody looks.

It starts with the first viewer, or the first reading of the metrics, and ends when nobody has looked for a while; a worker that
nobody looks at pays nothing. All of it is in memory and bounded; Kafka is the archive.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final, TypeVar

import msgspec
from confluent_kafka import KafkaException, TopicPartition

from wait_for_me.codec import decode_fire
from wait_for_me.errors import InvalidRecord, WaitForMeError
from wait_for_me_app import outcomes
from wait_for_me_app.core.fires import rfc3339
from wait_for_me_app.dlq.handled import Handled, is_marker
from wait_for_me_app.dlq.letters import Box, letter
from wait_for_me_app.metrics import Counters
from wait_for_me_app.settings import Settings
from wait_for_me_app.web.documents import DeadLetter, FireView, Outcome, Window
from wait_for_me_app.web.fire_views import dead_letter_view, fire_view, outcome_view
from wait_for_me_app.web.log_reader import SeenRecord, bounds, new_consumer, seen

log = logging.getLogger(__name__)

RECORDS_LOOKED_BACK: Final = 300
FIRES: Final = 1000
OUTCOMES: Final = 4000
DEAD_LETTERS: Final = 1000
IDLE_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 2.0

News = Callable[[str, str], None]
"""Told, on the following thread, that something of a kind has changed, and its id."""
_T = TypeVar("_T")


class Recent:
    """The newest fires with their outcomes, and the newest dead letters."""

    def __init__(
        self, settings: Settings, counters: Counters, *, own_partitions: Callable[[], set[int]], news: News
    ) -> None:
        self._settings, self._counters = settings, counters
        self._own_partitions, self._news = own_partitions, news
        self._lock = threading.Lock()
        self._fires: OrderedDict[str, FireView] = OrderedDict()
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._dead_letters: OrderedDict[str, DeadLetter] = OrderedDict()
        self._handled: dict[tuple[Box, int, str], Handled] = {}
        self._died_at: dict[str, int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._positions: dict[tuple[str, int], int] = {}
        self._since_ms: int | None = None
        self._failure: str | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._wanted_at_s = 0.0

    # -- what viewers call

    def want(self) -> None:
        """Say that somebody looks."""
        self._wanted_at_s = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="wait-for-me-recent", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread. Blocking."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1.5)

    def fires(self) -> list[FireView]:
        """Return fires with what has become of them, the newest first."""
        with self._lock:
            found = [self._with_outcome(fire) for fire in self._fires.values()]
        return sorted(found, key=lambda fire: (fire.appended_at, fire.partition, fire.offset), reverse=True)

    def fire(self, fire_id: str) -> FireView | None:
        """Return one fire."""
        with self._lock:
            fire = self._fires.get(fire_id)
            return None if fire is None else self._with_outcome(fire)

    def dead_letters(self) -> list[DeadLetter]:
        """Return dead letters, the newest first."""
        with self._lock:
            found = list(self._dead_letters.values())
        return sorted(found, key=lambda letter: (letter.at, letter.id), reverse=True)

    def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter."""
        with self._lock:
            return self._dead_letters.get(letter_id)

    def window(self) -> Window:
        """Say how far back this reaches."""
        with self._lock:
            caught_up = bool(self._ends) and all(self._positions.get(one, 0) >= end for one, end in self._ends.items())
            since = None if self._since_ms is None else rfc3339(self._since_ms)
            return Window(since=since, is_caught_up=caught_up, failure=self._failure)

    def _with_outcome(self, fire: FireView) -> FireView:
        outcome = self._outcomes.get(fire.fire_id)
        return fire if outcome is None else _replace(fire, outcome=outcome)

    # -- the thread

    def _run(self) -> None:
        while not self._is_over():
            try:
                with closing(new_consumer(self._settings)) as consumer:
                    self._follow(consumer)
            except (KafkaException, WaitForMeError) as error:
                self._failure = str(error)
                log.warning("recent_records_out_of_reach", extra={"error": str(error)})
                self._stop.wait(RETRY_SECONDS)

    def _is_over(self) -> bool:
        return self._stop.is_set() or time.monotonic() - self._wanted_at_s > IDLE_SECONDS

    def _follow(self, consumer: Any) -> None:
        consumer.assign(self._places(consumer))
        while not self._is_over():
            for message in consumer.consume(500, 0.1):
                if message.error() is None:
                    self._take(seen(message))
                elif not message.error().retriable():
                    raise KafkaException(message.error())
            self._note_positions(consumer)
            self._failure = None

    def _places(self, consumer: Any) -> list[TopicPartition]:
        names = self._settings.topics
        places = []
        for topic in (names.fires, names.outcomes, names.commands_dead_letters, names.fires_dead_letters):
            for partition in range(self._settings.partitions):
                low, high = bounds(consumer, topic, partition)
                start = max(low, self._positions.get((topic, partition), high - RECORDS_LOOKED_BACK))
                places.append(TopicPartition(topic, partition, start))
                self._ends[topic, partition] = high
        return places

    def _note_positions(self, consumer: Any) -> None:
        for place in consumer.position(consumer.assignment()):
            if place.offset >= 0:
                self._positions[place.topic, place.partition] = place.offset
        for one, end in list(self._ends.items()):
            if one not in self._positions and end == 0:
                self._positions[one] = 0

    def _take(self, record: SeenRecord) -> None:
        names = self._settings.topics
        self._positions[record.topic, record.partition] = record.offset + 1
        self._since_ms = record.timestamp if self._since_ms is None else min(self._since_ms, record.timestamp)
        with suppress(InvalidRecord, outcomes.DamagedOutcome, outcomes.NewerOutcome):
            if record.topic == names.fires:
                self._take_fire(record)
            elif record.topic == names.outcomes:
                self._take_outcome(record)
            else:
                self._take_dead_letter(record, is_command=record.topic == names.commands_dead_letters)

    def _take_fire(self, record: SeenRecord) -> None:
        fire = decode_fire(record.value)
        if fire.fire_id in self._fires:
            return  # a copy that a crash has made
        view = fire_view(
            fire, offset=record.offset, appended_ms=record.timestamp, hide=self._settings.web_hide_payloads
        )
        with self._lock:
            _keep(self._fires, fire.fire_id, view, FIRES)
        self._news("fire", fire.fire_id)

    def _take_outcome(self, record: SeenRecord) -> None:
        if record.value is None:
            return
        outcome = outcomes.decode_outcome(record.value)
        view = outcome_view(outcome, record.timestamp)
        with self._lock:
            if self._is_final(outcome):
                return
            if outcome.state == outcomes.DEAD:
                self._died_at[outcome.fire_id] = outcome.offset
            _keep(self._outcomes, outcome.fire_id, view, OUTCOMES)
        if record.offset >= self._ends.get(
            (record.topic, record.partition), 0
        ):  # not what was there before anybody looked
            self._count(record.partition, outcome)
        self._news("fire", outcome.fire_id)

    def _is_final(self, outcome: outcomes.Outcome) -> bool:
        """Return whether the fire is over: done for ever, given up until somebody has it sent once more."""
        known = self._outcomes.get(outcome.fire_id)
        if known is None or known.state not in (outcomes.DONE, outcomes.DEAD):
            return False
        return known.state == outcomes.DONE or outcome.offset <= self._died_at.get(outcome.fire_id, -1)

    def _count(self, partition: int, outcome: outcomes.Outcome) -> None:
        if partition not in self._own_partitions() or outcome.state not in self._counters.callbacks:
            return
        self._counters.callbacks[outcome.state] += 1
        if isinstance(outcome, outcomes.Finished) and outcome.state == outcomes.DONE and outcome.took_ms is not None:
            self._counters.callback_seconds.observe(outcome.took_ms / 1000)

    def _take_dead_letter(self, record: SeenRecord, *, is_command: bool) -> None:
        box: Box = "commands" if is_command else "fires"
        if is_marker(record.headers):
            self._take_marker(record, box)
            return
        found = letter(box, record.partition, record.offset, record.timestamp, record.key, record.value, record.headers)
        view = dead_letter_view(found, hide=self._settings.web_hide_payloads)
        with self._lock:
            _keep(self._dead_letters, view.id, self._as_handled(view), DEAD_LETTERS)
        self._news("dead_letter", view.id)

    def _take_marker(self, record: SeenRecord, box: Box) -> None:
        deed = record.header("wfm_handled") or "retried"
        self._handled.setdefault((box, record.partition, deed), Handled()).take(record.headers)
        with self._lock:
            changed = [one for known in self._dead_letters.values() if (one := self._as_handled(known)) != known]
            for one in changed:
                self._dead_letters[one.id] = one
        for one in changed:
            self._news("dead_letter", one.id)

    def _as_handled(self, view: DeadLetter) -> DeadLetter:
        box, partition, offset = view.id.split(":")
        for deed in ("retried", "discarded"):
            known = self._handled.get((box, int(partition), deed))  # type: ignore[arg-type]  # one of the two boxes
            if known is not None and int(offset) in known:
                return _replace(view, handled=deed)
        return view


def _replace(document: _T, **changes: Any) -> _T:
    changed: _T = msgspec.structs.replace(document, **changes)  # type: ignore[type-var]
    return changed


def _keep(kept: OrderedDict[str, _T], name: str, value: _T, at_most: int) -> None:
    kept[name] = value
    while len(kept) > at_most:
        kept.popitem(last=False)
