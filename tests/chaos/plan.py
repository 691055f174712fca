"""What is to happen in a run: a pure function of the seed and the minutes.

A run is a row of scenes for the workers, the brokers and the network, played one after another, and beside it a row of scenes for the
executors. A scene has actions, each so many seconds after the scene's begin. When a scene begins depends on how fast the
machine recovers, so what really happened, with times, is in the fault log; the plan is written there first.

    volley      several workers die at named points, life after life; between two lives a store may be wiped or damaged
    broker      the leader of a partition, or the coordinator of the workers' group, is killed; a worker, too
    zombie      workers are stopped past their session timeout and go on
    calm_kill   one worker is killed while nothing else is wrong: what `recovery_p99_s` is measured on
    rolling     every worker is restarted in order
    scale       a fourth worker joins and leaves
    disk_full   a worker can write no more to its disk
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from chaos.proxy import FAULTS

WORKERS: Final = ("w1", "w2", "w3")
EXTRA_WORKER: Final = "w4"
EXECUTORS: Final = ("x1", "x2")
BROKERS: Final = (1, 2, 3)
WORKER_POINTS: Final = ("K1", "K3", "K4", "K6", "K7", "K8", "K9")
EXECUTOR_POINTS: Final = ("X1", "X2", "X3", "X4", "X5")
SESSION_S: Final = 6.0

FULL_MINUTES: Final = 20.0
SECONDS_AROUND: Final = 55.0
SECONDS_TO_JUDGE_A_MINUTE: Final = 2.0
"""Starting three brokers and everything else, healing, draining; and judging, which takes longer the more there is to judge."""
_SHORT_MINUTES: Final = 6.0
"""A run shorter than this has its volleys last: what is left over of them can be made up for, another scene cannot."""
_LEAST_FAULTS_S: Final = 60.0

STEPS_A_VOLLEY: Final = 6
_TOGETHER: Final = 0.75
_MOST_PASSES: Final = {"K7": 1, "K8": 2, "K9": 3, "X4": 6, "X5": 4}
_DAMAGE: Final = ("wipe", "flip_sst", "flip_manifest", "flip_wal")


@dataclass(frozen=True, kw_only=True)
class Targets:
    """What a run must reach to count."""

    sigkills: int = 60
    zombies: int = 8
    broker_kills: int = 6
    network_faults: int = 20
    groups: int = 30_000
    hits_a_point: int = 20

    @classmethod
    def scaled(cls, minutes: float) -> Targets:
        """Return the targets of a shorter run: each times the share of the time for faults, rounded up."""
        share = fault_seconds(minutes) / fault_seconds(FULL_MINUTES)
        return cls(**{name: math.ceil(value * share) for name, value in asdict(cls()).items()})


def fault_seconds(minutes: float) -> float:
    """Return for how long faults happen in a run of so many minutes: what start and end leave."""
    return max(_LEAST_FAULTS_S, minutes * (60 - SECONDS_TO_JUDGE_A_MINUTE) - SECONDS_AROUND)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One life of a process: what is done to its store before, and at which point it dies after how many passes."""

    point: str
    passes: int = 1
    meanwhile: str = ""


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing that is done."""

    kind: str
    after_s: float = 0.0
    target: str = ""
    seconds: float = 0.0
    mode: str = ""
    brokers: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Actions that belong together; the next scene begins when all of them are over."""

    name: str
    actions: tuple[Action, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run."""

    seed: int
    minutes: float
    targets: Targets
    scenes: tuple[Scene, ...]
    executor_scenes: tuple[Scene, ...]

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the plan as it is written into the fault log."""
        yield {"seed": self.seed, "minutes": self.minutes, "targets": asdict(self.targets)}
        for row, scenes in (("workers", self.scenes), ("executors", self.executor_scenes)):
            for number, scene in enumerate(scenes):
                yield {"row": row, "number": number, **asdict(scene)}


def make_plan(seed: int, minutes: float) -> Plan:
    """Return what is to happen."""
    targets, rng = Targets.scaled(minutes), random.Random(f"chaos {seed}")
    share = fault_seconds(minutes) / fault_seconds(FULL_MINUTES)
    scenes = [
        *_volleys(rng, WORKERS, WORKER_POINTS, targets.hits_a_point),
        *(_broker(rng, number) for number in range(math.ceil(targets.broker_kills / 2))),
        *(_zombies(rng) for _ in range(math.ceil(targets.zombies * 0.7 / 2))),
        *(_calm_kill(rng) for _ in range(max(1, round(5 * share)))),
    ]
    scenes = _with_broker_kills(rng, scenes, targets.broker_kills // 2 + _spare(targets.broker_kills))
    for kind, in_full in ((_rolling, 2), (_scale, 2), (_disk_full, 2)):
        scenes += [kind(rng) for _ in range(int(in_full * share + rng.random()))]
    rng.shuffle(scenes)
    scenes.sort(key=lambda scene: scene.name == "volley" if minutes < _SHORT_MINUTES else False)
    executors = [
        *_volleys(rng, EXECUTORS, EXECUTOR_POINTS, targets.hits_a_point),
        *(_executor_zombie(rng) for _ in range(math.ceil(targets.zombies * 0.4))),
        *(_executor_restart(rng) for _ in range(round(2 * share))),
    ]
    rng.shuffle(executors)
    return Plan(
        seed=seed,
        minutes=minutes,
        targets=targets,
        scenes=tuple(_with_network_faults(rng, scenes, targets.network_faults)),
        executor_scenes=tuple(executors),
    )


def _spare(count: int) -> int:
    return 1 if count > 3 else 0


def make_up(seed: int, slots: Sequence[str], owed: Sequence[str]) -> list[Scene]:
    """Return volleys for points that were not hit when they should have been."""
    rng = random.Random(f"make up {seed} {','.join(owed)}")
    return _volley_scenes(rng, slots, [_step(rng, point, quick=True) for point in owed])


# -- volleys


def _volleys(rng: random.Random, slots: Sequence[str], points: Sequence[str], each: int) -> list[Scene]:
    steps = [_step(rng, point) for point in points for _ in range(each)]
    rng.shuffle(steps)
    return _volley_scenes(rng, slots, steps)


def _volley_scenes(rng: random.Random, slots: Sequence[str], steps: Sequence[Step]) -> list[Scene]:
    size = STEPS_A_VOLLEY * len(slots)
    return [_volley(rng, slots, steps[start : start + size]) for start in range(0, len(steps), size)]


def _volley(rng: random.Random, slots: Sequence[str], steps: Sequence[Step]) -> Scene:
    """Deal the steps out to the slots; most volleys have workers die together, in the others each begins and goes on for itself."""
    actions, at = [], 0.0
    together = slots == WORKERS and rng.random() < _TOGETHER
    for number, slot in enumerate(slots):
        if own := tuple(steps[number :: len(slots)]):
            actions.append(
                Action(kind="chain", target=slot, after_s=round(at, 2), mode="together" if together else "", steps=own)
            )
            at += 0.0 if together else rng.uniform(0.0, 3.0)
    return Scene(name="volley", actions=tuple(actions))


def _step(rng: random.Random, point: str, *, quick: bool = False) -> Step:
    most = 3 if quick else _MOST_PASSES.get(point, 12)
    passes = rng.randint(1, min(most, _MOST_PASSES.get(point, most)))
    meanwhile = ""
    if point in WORKER_POINTS:
        wipe = point == "K7" and rng.random() < 0.5
        meanwhile = "wipe" if wipe else (rng.choice(_DAMAGE) if rng.random() < 0.35 else "")
    return Step(point=point, passes=passes, meanwhile=meanwhile)


# -- other scenes


def _broker(rng: random.Random, number: int) -> Scene:
    target = "coordinator" if number % 3 == 2 else f"leader:{rng.randrange(100)}"
    actions = [Action(kind="kill_broker", target=target, seconds=round(rng.uniform(2.0, 7.0), 2))]
    if rng.random() < 0.7:
        actions.append(Action(kind="kill", target=rng.choice(WORKERS), after_s=round(rng.uniform(0.0, 8.0), 2)))
    return Scene(name="broker", actions=tuple(actions))


def _with_broker_kills(rng: random.Random, scenes: Sequence[Scene], count: int) -> list[Scene]:
    """Let a broker die in the middle of some volleys."""
    volleys = [number for number, scene in enumerate(scenes) if scene.name == "volley"]
    chosen = set(rng.sample(volleys, min(count, len(volleys))))
    found = []
    for number, scene in enumerate(scenes):
        if number in chosen:
            after_s, down_s = round(rng.uniform(5.0, 40.0), 2), round(rng.uniform(2.0, 7.0), 2)
            kill = Action(kind="kill_broker", target=f"leader:{rng.randrange(100)}", after_s=after_s, seconds=down_s)
            scene = Scene(name=scene.name, actions=(*scene.actions, kill))
        found.append(scene)
    return found


def _zombies(rng: random.Random) -> Scene:
    actions = [
        Action(kind="zombie", target=slot, after_s=round(rng.uniform(0.0, 3.0), 2), seconds=_past_session(rng))
        for slot in rng.sample(WORKERS, 2)
    ]
    return Scene(name="zombie", actions=tuple(actions))


def _past_session(rng: random.Random) -> float:
    return round(SESSION_S + rng.uniform(1.5, 5.0), 2)


def _calm_kill(rng: random.Random) -> Scene:
    return Scene(name="calm_kill", actions=(Action(kind="calm_kill", target=rng.choice(WORKERS)),))


def _rolling(_rng: random.Random) -> Scene:
    return Scene(name="rolling", actions=(Action(kind="rolling", target=",".join(WORKERS)),))


def _scale(rng: random.Random) -> Scene:
    return Scene(
        name="scale", actions=(Action(kind="scale", target=EXTRA_WORKER, seconds=round(rng.uniform(6, 12), 2)),)
    )


def _disk_full(rng: random.Random) -> Scene:
    return Scene(name="disk_full", actions=(Action(kind="disk_full", target=rng.choice(WORKERS)),))


def _executor_zombie(rng: random.Random) -> Scene:
    return Scene(
        name="zombie", actions=(Action(kind="zombie", target=rng.choice(EXECUTORS), seconds=_past_session(rng)),)
    )


def _executor_restart(_rng: random.Random) -> Scene:
    return Scene(name="rolling", actions=(Action(kind="rolling", target=",".join(EXECUTORS)),))


# -- the network


def _with_network_faults(rng: random.Random, scenes: Sequence[Scene], count: int) -> Iterator[Scene]:
    """Spread the faults over the scenes that can bear one: all but the calm kills."""
    noisy = [number for number, scene in enumerate(scenes) if scene.name not in ("calm_kill", "disk_full")]
    extra: dict[int, list[Action]] = {}
    for place in range(math.ceil(count * 1.1) if noisy else 0):
        number = noisy[place % len(noisy)]
        extra.setdefault(number, []).append(
            _network_fault(rng, within_s=40.0 if scenes[number].name == "volley" else 8.0)
        )
    for number, scene in enumerate(scenes):
        yield Scene(name=scene.name, actions=(*scene.actions, *extra.get(number, ())))


def _network_fault(rng: random.Random, *, within_s: float) -> Action:
    some = tuple(sorted(rng.sample(BROKERS, rng.choice((1, 1, 2, 3)))))
    seconds = rng.uniform(3.0, 9.0) if rng.random() < 0.7 else SESSION_S + rng.uniform(1.0, 4.0)
    return Action(
        kind="network",
        target=rng.choice(WORKERS),
        mode=rng.choice(FAULTS),
        brokers=some,
        after_s=round(rng.uniform(0.0, within_s), 2),
        seconds=round(seconds, 2),
    )
