"""What many workers need, reckoned from what one was measured to need. Pure, but for the sizes that Faust's own classes tell.

The model is linear where the work is: lanes share nothing, so adds, bytes and rows multiply. Where it is not, in the group protocol and
in the number of partitions, it says so. `docs/scaling.md` holds its table and the reasons.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from faust.assignor.client_assignment import ClientAssignment, ClientMetadata

WORKERS: Final = (1, 10, 100, 1_000)
LANES_PER_WORKER: Final = 4
OPEN_GROUPS_PER_WORKER: Final = 1_000_000
HEADROOM: Final = 0.5
"""Part of the measured rate that is planned for, so that a worker can catch up twice as fast as commands come."""
COPIES: Final = 3
TOPICS: Final = 6
BROKER_WRITES_MB_PER_S: Final = 100
"""What one broker is trusted to append and replicate, all copies counted."""
BROKER_REPLICAS: Final = 4_000
GROUP_RECORD_MAX_BYTES: Final = 1_048_588
"""A group's members must fit into one record of Kafka's offsets topic: the broker's message.max.bytes."""
_MB: Final = 1e6


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one worker was measured to do."""

    adds_per_s: float
    commands_bytes: float
    changelog_bytes: float
    fires_bytes: float
    restore_s_per_million: float
    rss_mib_per_million: float

    @property
    def bytes_per_add(self) -> float:
        """What an add takes in all logs, one copy of each."""
        return self.commands_bytes + self.changelog_bytes + self.fires_bytes


def measured(latest: Mapping[str, Any], scale: Mapping[str, Any]) -> Measured:
    """Take the model's constants from the results."""
    cost = scale["scenarios"]["cost_by_partitions"]["figures"]
    written = scale["scenarios"]["large_groups"][
        "figures"
    ]  # at a steady pace: a drain writes a tenth, since its runs are long
    opened = scale["scenarios"]["open_groups"]["figures"]
    millions = opened["open_groups"] / 1e6
    return Measured(
        adds_per_s=statistics.median(latest["systems"]["wait_for_me"]["adds_per_s"]),
        commands_bytes=cost["log_bytes_per_add commands"],
        changelog_bytes=written["changelog_bytes_per_add_in_groups_of_10"],
        fires_bytes=cost["log_bytes_per_add fires"],
        restore_s_per_million=opened["restore_s"] / millions,
        rss_mib_per_million=max(0.0, opened["rss_mib_after_restore"] - opened["rss_mib_empty"]) / millions,
    )


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a number of workers can do and needs."""

    workers: int
    adds_per_s: float
    partitions: int
    replicas: int
    writes_mb_per_s: float
    reads_mb_per_s: float
    brokers: int
    group_record_bytes: int
    group_record_bytes_without_routes: int


def need(workers: int, found: Measured) -> Need:
    """Return what that many workers need, each with a standby elsewhere and an executor reading its fires."""
    adds, partitions = workers * found.adds_per_s * HEADROOM, max(12, workers * LANES_PER_WORKER)
    writes = adds * found.bytes_per_add * COPIES / _MB
    reads = adds * (found.commands_bytes + found.changelog_bytes + found.fires_bytes) / _MB
    replicas = partitions * TOPICS * COPIES
    by_writes, by_replicas = -(-writes // BROKER_WRITES_MB_PER_S), -(-replicas // BROKER_REPLICAS)
    return Need(
        workers=workers,
        adds_per_s=adds,
        partitions=partitions,
        replicas=replicas,
        writes_mb_per_s=writes,
        reads_mb_per_s=reads,
        brokers=max(COPIES, int(by_writes), int(by_replicas)),
        group_record_bytes=group_record_bytes(workers, partitions, routes=True),
        group_record_bytes_without_routes=group_record_bytes(workers, partitions, routes=False),
    )


def group_record_bytes(workers: int, partitions: int, *, routes: bool) -> int:
    """Return what Kafka must store of the worker group in one record: every member's subscription and assignment.

    Faust puts the address and the partitions of every worker into every member's metadata (`routes`), so that it grows with the
    square of the workers.
    """
    lanes = list(range(max(1, partitions // workers)))
    topics = {"wait-for-me.commands": lanes, "wait-for-me-groups-changelog": lanes}
    table = {
        f"http://worker-{number}.wait-for-me:6066": {"wait-for-me-groups-changelog": lanes} for number in range(workers)
    }
    metadata = ClientMetadata(
        assignment=ClientAssignment(actives=topics, standbys={"wait-for-me-groups-changelog": lanes}),
        url="http://worker-0.wait-for-me:6066",
        changelog_distribution=table if routes else {},
        external_topic_distribution={},
        topic_groups=dict.fromkeys(topics, 1),
    )
    subscription: bytes = metadata.dumps()
    return workers * (len(subscription) + len(zlib.compress(subscription)))


def most_workers(*, routes: bool) -> int:
    """Return how many workers fit into one group before its record is too large."""
    low, high = 1, 100_000
    while low < high:
        middle = (low + high + 1) // 2
        fits = group_record_bytes(middle, middle * LANES_PER_WORKER, routes=routes) <= GROUP_RECORD_MAX_BYTES
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def table(found: Measured) -> str:
    """Return the model in Markdown."""
    rows = [need(workers, found) for workers in WORKERS]
    lines = [
        "| Workers | adds/s | partitions | replicas on brokers | written, all copies | read | brokers | group record, Faust's | without routes |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {row.workers:,} | {row.adds_per_s:,.0f} | {row.partitions:,} | {row.replicas:,} | {row.writes_mb_per_s:,.0f} MB/s "
            f"| {row.reads_mb_per_s:,.0f} MB/s | {row.brokers:,} | {row.group_record_bytes / 1024:,.0f} KiB "
            f"| {row.group_record_bytes_without_routes / 1024:,.0f} KiB |"
            for row in rows
        ),
        "",
        _constants(found),
    ]
    return "\n".join(lines)


def _constants(found: Measured) -> str:
    return (
        f"Measured on one machine: {found.adds_per_s:,.0f} adds/s a worker, of which {HEADROOM:.0%} is planned for; "
        f"{found.commands_bytes:.0f} + {found.changelog_bytes:.0f} + {found.fires_bytes:.0f} bytes an add in commands, changelog and fires; "
        f"{found.restore_s_per_million:.1f} s to restore a million open groups; {found.rss_mib_per_million:.0f} MiB for them in memory."
    )
