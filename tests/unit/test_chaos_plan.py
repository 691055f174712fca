"""The plan and the load of a chaos run: functions of the seed, and large enough for their targets."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from chaos.damage import FLIPPED, damage, flip
from chaos.fault_log import FaultLog
from chaos.load import HUGE, merged, stream
from chaos.plan import EXECUTOR_POINTS, FULL_MINUTES, WORKER_POINTS, Plan, Targets, fault_seconds, make_plan, make_up


def points(plan: Plan) -> Counter[str]:
    """Count the steps of a plan by point."""
    scenes = (*plan.scenes, *plan.executor_scenes)
    return Counter(step.point for scene in scenes for action in scene.actions for step in action.steps)


def test_a_plan_is_a_function_of_its_seed() -> None:
    """The same seed gives the same plan, another seed another one."""
    assert make_plan(7, 20) == make_plan(7, 20)
    assert make_plan(7, 20).scenes != make_plan(8, 20).scenes


def test_a_full_run_has_the_full_targets() -> None:
    """Twenty minutes are what the targets are written for."""
    assert Targets.scaled(FULL_MINUTES) == Targets()


def test_a_shorter_run_has_proportional_targets() -> None:
    """Half of the time for faults, half of the targets, rounded up."""
    minutes = next(m / 10 for m in range(10, 200) if fault_seconds(m / 10) >= fault_seconds(FULL_MINUTES) / 2)
    assert Targets.scaled(minutes).groups == pytest.approx(15_000, rel=0.02)
    assert Targets.scaled(0.1).hits_a_point >= 1


@pytest.mark.parametrize("minutes", [4, 8, 20])
@pytest.mark.parametrize("seed", range(5))
def test_a_plan_reaches_its_targets_if_all_of_it_happens(seed: int, minutes: float) -> None:
    """Every point often enough; enough zombies, broker kills and network faults."""
    plan = make_plan(seed, minutes)
    kinds = Counter(action.kind for scene in (*plan.scenes, *plan.executor_scenes) for action in scene.actions)
    assert all(points(plan)[point] >= plan.targets.hits_a_point for point in (*WORKER_POINTS, *EXECUTOR_POINTS))
    assert kinds["zombie"] >= plan.targets.zombies
    assert kinds["kill_broker"] >= plan.targets.broker_kills
    assert kinds["network"] >= plan.targets.network_faults
    assert kinds["calm_kill"] >= 1


def test_nothing_else_happens_beside_a_calm_kill() -> None:
    """The recovery is measured on it."""
    calm = [scene for scene in make_plan(3, 20).scenes if scene.name == "calm_kill"]
    assert calm
    assert all(len(scene.actions) == 1 for scene in calm)


def test_what_was_owed_is_made_up_for() -> None:
    """Each point that is owed is in the new volleys, once."""
    owed = ["K7", "K7", "K3", "K8"]
    scenes = make_up(1, ("w1", "w2", "w3"), owed)
    steps = [step.point for scene in scenes for action in scene.actions for step in action.steps]
    assert sorted(steps) == sorted(owed)


def test_the_plan_is_in_the_fault_log_before_what_happens(tmp_path: Path) -> None:
    """Plan lines first, then notes with times; each is JSON."""
    log = FaultLog(tmp_path / "log")
    for line in make_plan(1, 4).lines():
        log.plan(line)
    log.note("sigkill", slot="w1")
    log.close()
    lines = [msgspec.json.decode(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert lines[0]["plan"]["seed"] == 1
    assert lines[-1]["what"] == "sigkill"
    assert lines[-1]["at_ms"] > 0


def test_the_load_is_a_function_of_its_seed() -> None:
    """The same seed sends the same bytes at the same times."""
    one, two, other = (list(islice(stream(seed, groups=50, seconds=10, partitions=6), 200)) for seed in (1, 1, 2))
    assert [(s.at_s, s.key, s.value, s.partition) for s in one] == [(s.at_s, s.key, s.value, s.partition) for s in two]
    assert [s.value for s in one] != [s.value for s in other]


def test_the_load_is_in_the_order_of_its_times() -> None:
    """Whoever sends it only has to wait."""
    times = [sent.at_s for sent in merged(1, groups=500, seconds=60, partitions=6)]
    assert times == sorted(times)


def test_the_load_has_every_kind_of_command() -> None:
    """Adds, removes, copies with the same event_id, misplaced ones, garbage, a hot group and a huge one."""
    sent = list(merged(1, groups=3000, seconds=120, partitions=6))
    keys = Counter(one.key for one in sent)
    kinds = {(key or b"").split(b"-")[0] for key in keys}
    assert {b"complete", b"timeout", b"removed", b"duplicate", b"late", b"misplaced", b"hot", b"huge"} <= kinds
    assert keys[b"huge-0"] == HUGE
    assert keys[b"hot"] == 1200
    copies = Counter(one.value for one in sent if (one.key or b"").startswith(b"duplicate"))
    assert 2 in copies.values()
    assert any(one.value is None for one in sent)


@pytest.mark.parametrize("kind", ["flip_sst", "flip_manifest", "flip_wal"])
def test_damage_changes_one_file_and_not_its_length(tmp_path: Path, kind: str) -> None:
    """Bytes are flipped in a file of the kind that was asked for."""
    names = {"flip_sst": "000009.sst", "flip_manifest": "MANIFEST-000005", "flip_wal": "000008.log"}
    folder = tmp_path / "rows" / "topic" / "0"
    folder.mkdir(parents=True)
    for name in names.values():
        (folder / name).write_bytes(bytes(1000))
    assert names[kind] in damage(kind, tmp_path, random.Random(1))
    changed = {path.name for path in folder.iterdir() if path.read_bytes() != bytes(1000)}
    assert changed == {names[kind]}
    assert (folder / names[kind]).read_bytes().count(0xFF) == FLIPPED


def test_damage_says_when_there_was_nothing_to_damage(tmp_path: Path) -> None:
    """A store without such a file stays as it is."""
    assert damage("flip_sst", tmp_path, random.Random(1)).startswith("nothing")


def test_a_wiped_store_is_gone_and_the_rest_is_not(tmp_path: Path) -> None:
    """Only the rows go; the worker's lock stays."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "worker.lock").touch()
    damage("wipe", tmp_path, random.Random(1))
    assert [path.name for path in tmp_path.iterdir()] == ["worker.lock"]


def test_a_short_file_is_flipped_as_far_as_it_goes(tmp_path: Path) -> None:
    """No more bytes than it has."""
    (tmp_path / "file").write_bytes(b"\x00\x00")
    flip(tmp_path / "file", random.Random(1))
    assert (tmp_path / "file").read_bytes() == b"\xff\xff"
