"""One partition for a key in every language: murmur2, with the vectors of Apache Kafka's own tests."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wait_for_me import partitioner
from wait_for_me.partitioner import partition_for, partition_in_python

JAVA = {  # UtilsTest.testMurmur2 of Apache Kafka
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), JAVA.items(), ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("partitions", [1, 4, 12, 100])
def test_keys_go_where_javas_producer_puts_them(key: bytes, hashed: int, partitions: int) -> None:
    """A Java service and a Python service meet in one partition."""
    expected = (hashed & 0x7FFFFFFF) % partitions
    assert partition_for(key, partitions) == partition_in_python(key, partitions) == expected


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_plain_python_agrees_with_the_function_in_c(key: bytes, partitions: int) -> None:
    """What is spelled out here is what runs there."""
    assert partition_for(key, partitions) == partition_in_python(key, partitions)


@given(st.binary(max_size=64), st.integers(1, 100))
def test_the_workers_own_client_agrees(key: bytes, partitions: int) -> None:
    """Faust produces and the worker re-sends through aiokafka."""
    aiokafka = pytest.importorskip("aiokafka.partitioner")
    everywhere = list(range(partitions))
    assert aiokafka.DefaultPartitioner()(key, everywhere, everywhere) == partition_for(key, partitions)


def test_a_client_without_the_function_in_c_is_served_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Older releases of confluent-kafka do not export it."""
    monkeypatch.setattr(partitioner, "_in_c", None)
    monkeypatch.delattr("confluent_kafka.murmur2", raising=False)
    assert partition_for(b"abc", 12) == (479470107 & 0x7FFFFFFF) % 12
    assert partitioner._in_c is partition_in_python
    monkeypatch.setattr(partitioner, "_in_c", None)


def test_librdkafka_is_loaded_at_the_first_question_only() -> None:
    """Importing the schema stays light."""
    program = (
        "import sys; from wait_for_me.partitioner import partition_for; before = 'confluent_kafka' in sys.modules;"
        "print(before, partition_for(b'abc', 12), 'confluent_kafka' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert answer.stdout == f"False {partition_for(b'abc', 12)} True\n"
