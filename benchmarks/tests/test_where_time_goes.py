"""Stages of samples, and the model of many workers."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("psutil", reason="what measures needs benchmarks/requirements.txt")

from benchmarks.capacity import GROUP_RECORD_MAX_BYTES, Measured, group_record_bytes, most_workers, need
from benchmarks.scale.written import bytes_per_add
from benchmarks.stack_samples import by_stage, stage_of

FOUND = Measured(
    adds_per_s=100_000,
    commands_bytes=250,
    changelog_bytes=150,
    fires_bytes=100,
    restore_s_per_million=8,
    rss_mib_per_million=150,
)


@pytest.mark.parametrize(
    ("frame", "stage"),
    [
        ("decode_command (wait_for_me/codec.py:60)", "decode and check commands"),
        ("Fold._add (wait_for_me_app/core/fold.py:229)", "fold"),
        ("encode_fire (wait_for_me_app/core/fires.py:70)", "encode fires"),
        ("WorkingSet.pack (wait_for_me_app/storage/working_set.py:110)", "rows: keep, look up, encode"),
        ("RocksStore.write (wait_for_me_app/storage/rocks_store.py:60)", "RocksDB"),
        ("send (aiokafka/conn.py:423)", "other"),
    ],
)
def test_the_innermost_frame_of_ours_names_the_stage(frame: str, stage: str) -> None:
    """Whatever called it, and whatever it calls that is nobody's."""
    found = stage_of(["main (run.py:1)", frame, "loads (json/decoder.py:1)"])
    assert found == ("produce" if "conn.py" in frame else stage)


def test_shares_add_up() -> None:
    """Every sample belongs to one stage."""
    lines = ["a;apply (wait_for_me_app/core/fold.py:1) 3", "b;unknown (x.py:1) 1", "no number"]
    assert by_stage(lines) == {"fold": 0.75, "other": 0.25}


def test_work_multiplies_and_the_group_does_not() -> None:
    """Ten times the workers do ten times the adds; their record in Kafka grows faster than that."""
    ten, hundred = need(10, FOUND), need(100, FOUND)
    assert hundred.adds_per_s == 10 * ten.adds_per_s
    assert hundred.writes_mb_per_s == pytest.approx(10 * ten.writes_mb_per_s)
    assert hundred.group_record_bytes > 50 * ten.group_record_bytes
    assert hundred.group_record_bytes_without_routes == 10 * ten.group_record_bytes_without_routes


def test_the_largest_group_just_fits() -> None:
    """One worker more, and its record is refused."""
    most = most_workers(routes=True)
    assert group_record_bytes(most, 4 * most, routes=True) <= GROUP_RECORD_MAX_BYTES
    assert group_record_bytes(most + 1, 4 * most + 4, routes=True) > GROUP_RECORD_MAX_BYTES
    assert 80 < most < 200


def test_bytes_per_add_do_not_grow_with_the_group() -> None:
    """The real lane, add by add."""
    small, large = (asyncio.run(bytes_per_add(size, adds=1000)) for size in (10, 1000))
    assert large < 2 * small
