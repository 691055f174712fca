"""Plays a plan on a real deployment: starts it, does what the scenes say, heals everything, and waits until it has drained."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from chaos.cluster import PARTITIONS, Cluster
from chaos.fault_log import FaultLog
from chaos.load import Loader, merged
from chaos.plan import (
    EXECUTORS,
    EXTRA_WORKER,
    SESSION_S,
    WORKERS,
    Action,
    Plan,
    Scene,
    Step,
    fault_seconds,
    make_up,
)
from chaos.ports import Ports
from chaos.proxy import ProxyThread
from chaos.slots import Keeper, clean_environment, executor_slot, worker_slot
from wait_for_me_app.settings import Settings
from witness_callbacks import WITNESS

TESTS: Final = Path(__file__).parent.parent
PREFIX: Final = "chaos"
_VOLLEY_S: Final = 75.0
_CALM_AFTER_S: Final = SESSION_S + 6.0
_BREATH_S: Final = 2.0
_EXECUTOR_BREATH_S: Final = (4.0, 12.0)


class Interrupted(Exception):
    """The run is to end now."""


class Conductor:
    """One run."""

    def __init__(self, plan: Plan, home: Path, fault_log: FaultLog, say: Callable[[str], None]) -> None:
        self.plan, self.home, self.log, self.say = plan, home, fault_log, say
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.has_retried = False
        ports = Ports()
        self.cluster = Cluster(home, ports)
        self.witness = home / "witness"
        self.settings = self._settings(self.cluster.bootstrap_servers)
        self.keeper = Keeper(self._slots(), fault_log, seed=plan.seed)
        self.proxy: ProxyThread | None = None
        self.loader: Loader | None = None
        self._random = random.Random(f"conductor {plan.seed}")
        self._broker_lock = threading.Lock()
        self._over_at = 0.0
        self._stopping = threading.Event()
        self._owed: dict[str, list[Step]] = {"workers": [], "executors": []}

    def _settings(self, bootstrap_servers: str) -> Settings:
        return Settings(
            bootstrap_servers=bootstrap_servers,
            prefix=PREFIX,
            partitions=PARTITIONS,
            replication_factor=3,
            session_timeout_ms=int(SESSION_S * 1000),
            log_format="json",
        )

    def _environment(self, bootstrap_servers: str) -> dict[str, str]:
        own = self._settings(bootstrap_servers).environment()
        own = {
            name: value for name, value in own.items() if name not in ("WAIT_FOR_ME_WORKER_ID", "WAIT_FOR_ME_OUTPUT")
        }
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        own |= {"PYTHONPATH": path, "PYTHONFAULTHANDLER": "1", WITNESS: str(self.witness)}
        return {**clean_environment(), **own}

    def _slots(self) -> dict[str, Any]:
        start = [sys.executable, "-m", "wait_for_me_app"]
        workers = {
            name: worker_slot(
                name, [*start, "worker"], self._environment(self.cluster.bootstrap_servers_of(name)), self.home
            )
            for name in (*WORKERS, EXTRA_WORKER)
        }
        environment = self._environment(self.cluster.bootstrap_servers)
        executor = [*start, "executor", "--callbacks", "chaos.callbacks"]
        return workers | {name: executor_slot(name, executor, environment, self.home) for name in EXECUTORS}

    @property
    def environment(self) -> dict[str, str]:
        """What a command line beside the deployment needs to know."""
        return self._environment(self.cluster.bootstrap_servers)

    # -- begin and end

    def start(self) -> None:
        """Start brokers, topics, proxy, workers and executors, then the load."""
        self.cluster.start()
        self.proxy = ProxyThread(self.cluster.ways(), seed=self.plan.seed)
        self._create_topics()
        for name in (*WORKERS, *EXECUTORS):
            self.keeper.keep(name, True)
        self.keeper.start()
        self._wait_until(lambda: self._all_ready((*WORKERS, *EXECUTORS)), 60, "the deployment did not start")
        seconds = fault_seconds(self.plan.minutes)
        groups = int(self.plan.targets.groups * 1.02) + 20
        seed = self.plan.seed
        self.loader = Loader(
            self.cluster.bootstrap_servers,
            self.settings.topics.commands,
            lambda: merged(seed, groups=groups, seconds=seconds, partitions=PARTITIONS),
        )
        self._over_at = time.monotonic() + seconds
        self.log.note("load_begins", groups=groups, seconds=seconds)
        self.loader.start()

    def _create_topics(self) -> None:
        command = [sys.executable, "-m", "wait_for_me_app", "topics", "create"]
        environment = self._environment(self.cluster.bootstrap_servers)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"topics create ended with {done.returncode}: {done.stdout}{done.stderr}")
        self._wait_until(self.cluster.is_healthy, 30, "the topics have not all their replicas")

    def play(self) -> None:
        """Do what the plan says, the executors' scenes beside the others."""
        beside = threading.Thread(target=self._play_executors, name="executors", daemon=True)
        beside.start()
        for number, scene in enumerate(self.plan.scenes):
            self._play(scene, f"{number + 1}/{len(self.plan.scenes)}")
        self._make_up("workers", WORKERS)
        beside.join()

    def heal(self) -> None:
        """End every fault, have everybody up, and let the load come to its end."""
        self.log.note("heal")
        if self.proxy is not None:
            self.proxy.heal()
        for name in self.keeper.slots:
            self.keeper.end_chain(name)
        for broker in self.cluster.brokers.values():
            if not broker.is_up:
                broker.start()
        assert self.loader is not None
        self.loader.finish()
        self._wait_until(self.cluster.is_healthy, 90, "the brokers did not heal")
        self._wait_until(lambda: self._all_ready((*WORKERS, *EXECUTORS)), 60, "not everybody came up after the faults")
        self.log.note("healed")

    def retry_given_up(self) -> None:
        """Send the fires once more whose process died too often, as an operator would."""
        command = [sys.executable, "-m", "wait_for_me_app", "dlq", "retry", "--from", "fires", "-y"]
        done = subprocess.run(
            [*command, "--code", "callback_killed_process"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        self.has_retried = True
        self.log.note("dlq_retry", code=done.returncode, said=(done.stdout + done.stderr)[-500:])

    def close(self) -> None:
        """End everything that was started."""
        self._stopping.set()
        for end in (self.keeper.close, self.cluster.close, self._close_proxy):
            try:
                end()
            except Exception as error:  # noqa: BLE001  # the others have to be ended all the same
                self.say(f"while ending: {error!r}")

    def _close_proxy(self) -> None:
        if self.proxy is not None:
            self.proxy.close()

    # -- scenes

    @property
    def _is_over(self) -> bool:
        return time.monotonic() > self._over_at or self._stopping.is_set()

    def _play(self, scene: Scene, number: str) -> None:
        if self._is_over:
            self.log.note("left_out", scene=scene.name)
            self._owed["workers"] += [step for action in scene.actions for step in action.steps]
            return
        self.say(
            f"scene {number} {scene.name}, hits {sum(self.keeper.hits.values())}, {self._seconds_left():.0f} s left"
        )
        self.log.note("scene", name=scene.name, number=number)
        self._do_all(scene.actions, "workers")
        self._wait_calmly(lambda: self._all_ready(WORKERS), 40)
        self._stopping.wait(_BREATH_S)

    def _play_executors(self) -> None:
        for scene in self.plan.executor_scenes:
            if self._is_over:
                self.log.note("left_out", scene=scene.name, row="executors")
                self._owed["executors"] += [step for action in scene.actions for step in action.steps]
                continue
            self.log.note("scene", name=scene.name, row="executors")
            self._do_all(scene.actions, "executors")
            self._stopping.wait(self._random.uniform(*_EXECUTOR_BREATH_S))
        self._make_up("executors", EXECUTORS)

    def _make_up(self, row: str, slots: Sequence[str]) -> None:
        for turn in range(3):
            owed, self._owed[row] = self._owed[row], []
            if not owed or self._is_over:
                self._owed[row] = owed
                return
            for scene in make_up(self.plan.seed + turn, slots, [step.point for step in owed]):
                if not self._is_over:
                    self.log.note("scene", name="make_up", row=row)
                    self._do_all(scene.actions, row)

    def _do_all(self, actions: Sequence[Action], row: str) -> None:
        """Do all actions, each in its time, and return when all are over."""
        threads = [
            threading.Thread(target=self._do, args=(action, row), name=action.kind, daemon=True) for action in actions
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _do(self, action: Action, row: str) -> None:
        if self._stopping.wait(action.after_s):
            return
        try:
            if action.kind == "chain":
                self._chain(action, row)
            else:
                getattr(self, f"_{action.kind}")(action)
        except Exception as error:  # noqa: BLE001  # one fault that cannot be made does not end the run
            self.failures.append(f"{action.kind} {action.target}: {error!r}")
            self.log.note("not_done", kind=action.kind, target=action.target, error=repr(error))

    # -- actions

    def _chain(self, action: Action, row: str) -> None:
        if not self.keeper.begin_chain(action.target, action.steps, together=action.mode == "together"):
            self._owed[row] += action.steps
            return
        patience = _VOLLEY_S * max(1.0, len(action.steps) / 3)
        self._wait_calmly(lambda: self._is_over or not self.keeper.is_in_chain(action.target), patience)
        left = self.keeper.end_chain(action.target)
        if left:
            self.log.note("not_hit", slot=action.target, points=[step.point for step in left])
            self._owed[row] += left

    def _kill(self, action: Action) -> None:
        self.keeper.kill(action.target, "at random")

    def _calm_kill(self, action: Action) -> None:
        """Kill a worker while nothing else is wrong, and leave the deployment alone until it has recovered."""
        self._wait_calmly(lambda: self._all_ready(WORKERS) and self.cluster.is_healthy(), 40)
        self._stopping.wait(3.0)
        if (event := self.keeper.kill(action.target, "calm")) is not None:
            event["calm"] = True
        self._stopping.wait(_CALM_AFTER_S)

    def _zombie(self, action: Action) -> None:
        slot = self.keeper.slots[action.target]
        self._wait_calmly(lambda: slot.is_ready, 20)
        if self.keeper.pause(action.target, action.seconds):
            self.counts["zombies"] += 1
        self._wait_calmly(lambda: slot.is_ready, 15)

    def _rolling(self, action: Action) -> None:
        for name in action.target.split(","):
            self.keeper.stop(name)
            self.counts["rolling_restarts"] += 1
            self._wait_calmly(partial(self._all_ready, (name,)), 30)

    def _scale(self, action: Action) -> None:
        """Let a worker join, and leave again in order."""
        slot = self.keeper.slots[action.target]
        self.keeper.keep(action.target, True)
        self.log.note("scale_out", slot=action.target)
        self._wait_calmly(lambda: slot.is_ready, 30)
        self.counts["scalings"] += slot.is_ready
        self._stopping.wait(action.seconds)
        self.keeper.keep(action.target, False)
        self.log.note("scale_in", slot=action.target)
        self.keeper.stop(action.target)

    def _disk_full(self, action: Action) -> None:
        """Let a worker write no file longer than it is now: what a full disk does to RocksDB, without a disk of its own."""
        slot = self.keeper.slots[action.target]
        self._wait_calmly(lambda: slot.is_ready, 20)
        process = slot.process
        if process is None or not slot.is_ready:
            return
        self.log.note("disk_full", slot=action.target)
        slot.ended_by = "disk full"  # its own log may have no room left for the reason
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, hard))
        if self._wait_calmly(lambda: process.exit_code is not None, 20):
            self.counts["disks_full"] += 1
        else:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            self.failures.append(f"{action.target} did not notice a full disk within 20 s")

    def _network(self, action: Action) -> None:
        assert self.proxy is not None
        about = {"worker": action.target, "brokers": action.brokers, "mode": action.mode}
        event = self.log.note("network", seconds=action.seconds, **about)
        self.proxy.set_mode(action.target, action.brokers, action.mode)
        self._stopping.wait(action.seconds)
        self.proxy.set_mode(action.target, action.brokers, "open")
        self.counts["network_faults"] += 1
        event["until_ms"] = self.log.note("network_heals", **about)["at_ms"]

    def _kill_broker(self, action: Action) -> None:
        """Kill a broker that matters when all replicas are in sync; start it again; wait until they are."""
        with self._broker_lock:
            if not self._wait_calmly(self.cluster.is_healthy, 60):
                self.failures.append("no broker was killed: the replicas were not in sync within 60 s")
                return
            number = self._find_broker(action.target)
            event = self.log.note("broker_sigkill", broker=number, because=action.target)
            self.cluster.brokers[number].kill()
            self.counts["broker_kills"] += 1
            self._stopping.wait(action.seconds)
            self.cluster.brokers[number].start()
            self.cluster.brokers[number].wait()
            self.log.note("broker_up", broker=number)
            self._wait_calmly(self.cluster.is_healthy, 90)
            event["until_ms"] = self.log.note("broker_in_sync", broker=number)["at_ms"]

    def _find_broker(self, target: str) -> int:
        if target == "coordinator":
            return self.cluster.coordinator_of(self.settings.topics.worker_group)
        return self.cluster.leader_of(self.settings.topics.commands, int(target.partition(":")[2]) % PARTITIONS)

    # -- waiting

    def _all_ready(self, names: Sequence[str]) -> bool:
        return all(self.keeper.slots[name].is_ready for name in names)

    def _seconds_left(self) -> float:
        return self._over_at - time.monotonic()

    def _wait_calmly(self, condition: Callable[[], bool], at_most_s: float) -> bool:
        """Wait for a condition, not for ever; return whether it holds."""
        give_up_at = time.monotonic() + at_most_s
        while not condition():
            if time.monotonic() > give_up_at or self._stopping.wait(0.1):
                return False
        return True

    def _wait_until(self, condition: Callable[[], bool], at_most_s: float, otherwise: str) -> None:
        if not self._wait_calmly(condition, at_most_s):
            names = ", ".join(name for name, slot in self.keeper.slots.items() if slot.wanted and not slot.is_ready)
            raise Interrupted(f"{otherwise} within {at_most_s:.0f} s (not ready: {names or 'nobody'})")
