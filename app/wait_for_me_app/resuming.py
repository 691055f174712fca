"""Fetching again from partitions that were paused, at once.

librdkafka does not wake the thread that fetches when partitions are resumed (rd_kafka_toppar_op_pause_resume in rdkafka_partition.c only
raises their version): if nothing else is fetched from that broker, it sleeps on for up to a second. A question to the leader wakes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

ANSWER_SECONDS: Final = 0.001
"""The answer is not needed, so it is hardly waited for."""


def resume(consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
    """Fetch these partitions again; waits for at most `ANSWER_SECONDS` for each."""
    consumer.resume(list(partitions))
    for partition in partitions:
        with suppress(KafkaException):
            consumer.get_watermark_offsets(partition, timeout=ANSWER_SECONDS)
