"""The textbook Faust app under the same crash: it must lose fires, or these tests prove nothing about the worker."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from logs import Sender, read_topic
from processes import Running, wait_until

GROUPS, PARTICIPANTS, KILLS = 120, 3, 3


def test_the_textbook_app_loses_a_group_at_every_kill(deployment: Any, tmp_path: Path) -> None:
    """Killed between its table and its fire, stock Faust never sends that fire; the worker passes the same in test_crashes."""
    sender = Sender(deployment)
    for kill in range(KILLS):
        running = textbook(deployment, tmp_path, die_at=5)
        send(sender, kill, range(PARTICIPANTS - 1))
        wait_until(lambda: all_committed(deployment) or running.exit_code is not None, 60, running.tail)  # noqa: B023
        send(sender, kill, range(PARTICIPANTS - 1, PARTICIPANTS))
        wait_until(lambda: running.exit_code is not None, 60, running.tail)  # noqa: B023
        assert running.exit_code == -signal.SIGKILL, running.tail()
    last = textbook(deployment, tmp_path, die_at=0)
    marker = [f"marker-{n}" for n in range(8)]
    for group in marker:
        sender.add(group, "web-0", of=1, wait=600)
    sender.flush()
    wait_until(lambda: {group.encode() for group in marker} <= fired(deployment), 90, last.tail)
    expected = {f"group-{n}".encode() for n in range(KILLS * GROUPS)}
    lost = expected - fired(deployment)
    assert len(lost) >= KILLS, (
        f"stock Faust lost {len(lost)} of {len(expected)}: is it fixed? Then say so in docs/decisions"
    )


def send(sender: Sender, share: int, participants: range) -> None:
    """Have these participants of a share of the groups arrive."""
    for participant in participants:
        for group in range(share * GROUPS, (share + 1) * GROUPS):
            sender.add(f"group-{group}", f"web-{participant}", of=PARTICIPANTS, wait=600)
    sender.flush()


def all_committed(deployment: Any) -> bool:
    """Return whether the textbook app has committed everything that is in the log."""
    settings = deployment.settings
    consumer = Consumer(
        {"bootstrap.servers": settings.bootstrap_servers, "group.id": f"{settings.prefix}-textbook", "log_level": 0}
    )
    try:
        partitions = [TopicPartition(settings.topics.commands, number) for number in range(4)]
        committed = [found.offset for found in consumer.committed(partitions, timeout=10)]
        return committed == [consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions]
    except KafkaException:  # the group is just being made
        return False
    finally:
        consumer.close()


def fired(deployment: Any) -> set[bytes | None]:
    """Return the groups that have a fire."""
    return {
        record.key for record in read_topic(deployment.settings.bootstrap_servers, deployment.settings.topics.fires)
    }


def textbook(deployment: Any, directory: Path, *, die_at: int) -> Running:
    """Start the textbook app with its one data directory."""
    settings = deployment.settings
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent.parent / "stock_faust"),
        "TEXTBOOK_APP": f"{settings.prefix}-textbook",
        "TEXTBOOK_TOPICS": f"{settings.topics.commands},{settings.topics.fires}",
        "TEXTBOOK_BROKER": settings.bootstrap_servers,
        "TEXTBOOK_DATA": str(directory / "textbook"),
        "TEXTBOOK_DIE_AT": str(die_at),
    }
    command = [sys.executable, "-m", "faust", "-A", "textbook", "worker", "-l", "info", "--without-web"]
    process = Running(command, log=directory / f"textbook-{len(deployment.processes)}.log", env=environment)
    deployment.processes.append(process)
    return process
