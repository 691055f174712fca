"""Which partition a key belongs to: murmur2, as Java's producer and aiokafka do it.

The danger: librdkafka's own default is CRC32, which agrees with murmur2 on one key in twelve. A group that is split
over two partitions never completes and times out twice, so every client of ours sets PARTITIONER and the worker
checks with this function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

PARTITIONER: Final = "murmur2_random"
"""The value of librdkafka's property `partitioner` that agrees with `partition_for`."""

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_32_BITS: Final = 0xFFFFFFFF

_in_c: Callable[[bytes, int], int] | None = None


def partition_for(key: bytes, partitions: int) -> int:
    """Return the partition of `key` in a topic of that many partitions."""
    return (_in_c or _load())(key, partitions)


def _load() -> Callable[[bytes, int], int]:
    """Find the function in C at the first call, not at import: the schema must stay light. Old clients have none."""
    global _in_c
    try:
        from confluent_kafka import murmur2
    except ImportError:
        _in_c = partition_in_python
    else:
        _in_c = murmur2
    return _in_c


def partition_in_python(key: bytes, partitions: int) -> int:
    """Return the same in plain Python: what `partition_for` is, spelled out."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(key: bytes) -> int:
    whole = len(key) & ~3
    h = _SEED ^ len(key)
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * _M & _32_BITS
        k = (k ^ k >> 24) * _M & _32_BITS
        h = (h * _M & _32_BITS) ^ k
    if key[whole:]:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _32_BITS
    h = (h ^ h >> 13) * _M & _32_BITS
    return h ^ h >> 15
