"""Audits a whole deployment: fixes the ends of its topics, has each partition judged, in two processes if that is worth it.

The order in which ends are taken is what keeps a running system from being accused; the judge says why. All ends of one topic are taken
before the first of the next.
"""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from wait_for_me.errors import ConfigurationError
from wait_for_me_app import topics
from wait_for_me_app.audit.findings import Report
from wait_for_me_app.audit.judge import TOPICS_IN_READING_ORDER, Case, Log, conclude, judge_partition
from wait_for_me_app.auditing.topic_reader import Bounds, TopicReader
from wait_for_me_app.settings import Settings

PROCESSES: Final = 2
WORTH_A_PROCESS: Final = 100_000
"""Fewer records than this are judged before a second process has started."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long what is late may be late, and whether a missing outcome is one."""

    settle_ms: int = 60_000
    outcome_ms: int = 600_000
    skew_ms: int = 100
    asks_for_outcomes: bool = False


Ends = dict[str, dict[int, Bounds]]


def audit(settings: Settings, patience: Patience | None = None, *, processes: int = PROCESSES) -> Report:
    """Judge a deployment as it is now; raise NotReady or ConfigurationError if it cannot be read."""
    patience = patience or Patience()
    connection = settings.librdkafka(), f"{settings.prefix}-audit"
    reader = TopicReader(*connection)
    try:
        case, ends = _prepare(settings, patience, reader)
        order = _largest_first(ends)
        if processes > 1 and _records(ends) > WORTH_A_PROCESS:
            return conclude(case, _in_processes(processes, connection, case, ends, order))
        return conclude(case, (_judge(reader, case, ends, partition) for partition in order))
    finally:
        reader.close()


def _prepare(settings: Settings, patience: Patience, reader: TopicReader) -> tuple[Case, Ends]:
    names = {name: getattr(settings.topics, name) for name in TOPICS_IN_READING_ORDER}
    counts = reader.partitions()
    if names["commands"] not in counts:
        raise ConfigurationError(
            f"There is no topic {names['commands']} at {settings.bootstrap_servers}: check WAIT_FOR_ME_PREFIX and "
            "WAIT_FOR_ME_BOOTSTRAP_SERVERS, or make the topics with `wait-for-me topics create`."
        )
    topic_id = topics.topic_id(settings, names["commands"], topics.admin_client(settings))
    cut_ms = time.time_ns() // 1_000_000
    ends = {
        name: {number: reader.bounds(names[name], number) for number in range(counts[names[name]])}
        for name in TOPICS_IN_READING_ORDER
        if names[name] in counts
    }
    has_outcomes = any(bounds.end for bounds in ends.get("outcomes", {}).values())
    case = Case(
        topic_id=topic_id,
        partitions=counts[names["commands"]],
        names=names,
        cut_ms=cut_ms,
        settle_ms=patience.settle_ms,
        patience_ms=patience.outcome_ms,
        skew_ms=patience.skew_ms,
        expects_outcomes=has_outcomes or patience.asks_for_outcomes,
        trust_create_time=settings.demo_broker,
    )
    return case, ends


def _records(ends: Ends) -> int:
    return sum(bounds.end - bounds.first for partitions in ends.values() for bounds in partitions.values())


def _largest_first(ends: Ends) -> list[int]:
    """Order partitions so that two processes that take turns end at about the same time."""
    sizes = {
        number: sum(topic[number].end - topic[number].first for topic in ends.values() if number in topic)
        for number in ends["commands"]
    }
    return sorted(sizes, key=lambda number: -sizes[number])


def _judge(reader: TopicReader, case: Case, ends: Ends, partition: int) -> Report:
    logs = {
        name: Log(
            first=partitions[partition].first,
            end=partitions[partition].end,
            records=reader.records(case.names[name], partition, partitions[partition]),
        )
        for name, partitions in ends.items()
        if partition in partitions
    }
    return judge_partition(case, partition, logs)


# --- in processes ----------------------------------------------------------------------------------------------------


class _Child:
    """What a process of the pool keeps from one partition to the next."""

    reader: TopicReader
    case: Case
    ends: Ends


Connection = tuple[Mapping[str, Any], str]


def _in_processes(
    processes: int, connection: Connection, case: Case, ends: Ends, order: Sequence[int]
) -> Iterator[Report]:
    """Judge partitions in processes started anew: a fork of a process with Kafka's threads may stand still."""
    context = multiprocessing.get_context("spawn")
    given = connection, case, ends
    with context.Pool(min(processes, len(order)), _start_child, given) as pool:
        yield from pool.imap_unordered(_judge_in_child, order, chunksize=1)


def _start_child(connection: Connection, case: Case, ends: Ends) -> None:
    gc.disable()  # nothing here has cycles, and a million objects that live are looked at for nothing
    _Child.reader = TopicReader(*connection)
    _Child.case, _Child.ends = case, ends


def _judge_in_child(partition: int) -> Report:
    return _judge(_Child.reader, _Child.case, _Child.ends, partition)
