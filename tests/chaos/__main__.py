"""`python -m chaos`: plays a seeded run on three real brokers and judges it. The last line is JSON; 0 if every target held."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from chaos.audit import Judgement, ask_the_auditor, judge
from chaos.conductor import Conductor, Interrupted
from chaos.fault_log import FaultLog
from chaos.plan import FULL_MINUTES, SESSION_S, make_plan
from chaos.report import page
from chaos.tally import Figures, count_kinds, kills_of_workers, missed, percentile, recovery_ms
from kafka_broker import NoKafka

RESULTS: Final = Path(__file__).parent / "results"
_SETTLE_S: Final = 100.0


def main() -> int:
    """Play one run; return the exit code."""
    arguments = _arguments()
    plan = make_plan(arguments.seed, arguments.minutes)
    results: Path = arguments.results / f"seed-{arguments.seed}"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    fault_log = FaultLog(results / "fault-log.jsonl")
    for line in plan.lines():
        fault_log.plan(line)
    if arguments.plan:
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="wait-for-me-chaos-", ignore_cleanup_errors=True) as directory:
        conductor = Conductor(plan, Path(directory), fault_log, _say)
        try:
            return _run(conductor, results)
        except (Interrupted, NoKafka) as reason:
            _say(str(reason))
            _keep_logs(Path(directory), results)
            return 1
        except KeyboardInterrupt:
            _say("interrupted; ending everything")
            return 130
        finally:
            conductor.close()
            fault_log.close()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=FULL_MINUTES, help="all of it, start and judgement included")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plan", action="store_true", help="write the plan into the fault log, and do nothing")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _run(conductor: Conductor, results: Path) -> int:
    began = time.monotonic()
    _say(f"seed {conductor.plan.seed}, {conductor.plan.minutes:g} minutes, targets {conductor.plan.targets}")
    conductor.start()
    _say("brokers, workers and executors are up; the load begins")
    conductor.play()
    _say("healing and draining")
    conductor.heal()
    judgement = _settled(conductor)
    if judgement.effects.given_up:
        conductor.retry_given_up()
        judgement = _settled(conductor)
    second = ask_the_auditor(conductor.settings, conductor.environment)
    figures = _figures(conductor, judgement, second)
    figures_line = figures.as_line() | {"took_s": round(time.monotonic() - began)}
    not_reached = missed(figures, conductor.plan.targets, SESSION_S)
    if second is not None:
        (results / "audit.json").write_text(json.dumps(second, indent=1), encoding="utf-8")
        if second.get("verdict") != "clean":
            not_reached.append(f"`wait-for-me audit` says {second.get('verdict')}: {second.get('counts')}")
    _report(conductor, results, judgement, figures_line, not_reached)
    if not_reached or conductor.failures:
        _keep_logs(conductor.home, results)
    print(json.dumps(figures_line), flush=True)
    return 1 if not_reached else 0


def _settled(conductor: Conductor) -> Judgement:
    """Judge until nothing is still to come, or for too long."""
    assert conductor.loader is not None
    give_up_at = time.monotonic() + _SETTLE_S
    while True:
        judgement = judge(conductor.settings, conductor.witness, conductor.loader.acknowledged)
        settled = judgement.is_settled and not (conductor.has_retried and judgement.effects.given_up)
        if settled or time.monotonic() > give_up_at:
            return judgement
        time.sleep(3)


def _figures(conductor: Conductor, judgement: Judgement, second: Mapping[str, Any] | None) -> Figures:
    keeper, counts, effects = conductor.keeper, conductor.counts, judgement.effects
    events = conductor.log.events
    calm = recovery_ms(judgement.fires.latencies, kills_of_workers(events, calm=True), SESSION_S)
    storm = recovery_ms(judgement.fires.latencies, kills_of_workers(events, calm=False), SESSION_S)
    assert conductor.loader is not None
    return Figures(
        seed=conductor.plan.seed,
        minutes=conductor.plan.minutes,
        sigkills=keeper.sigkills + counts["broker_kills"],
        zombies=counts["zombies"],
        broker_kills=counts["broker_kills"],
        network_faults=counts["network_faults"],
        groups=len(conductor.loader.groups),
        lost=len(judgement.fires.lost) + len(judgement.lost_commands),
        doubled=len(effects.doubled),
        early=len(judgement.fires.early),
        recovery_p99_s=_seconds(percentile(calm, 0.99)),
        hits=dict(sorted(keeper.hits.items())),
        ghosts=len(judgement.fires.ghosts) + len(effects.ghosts),
        unfinished=len(effects.undone)
        + len(effects.torn)
        + len(effects.without_effect)
        + len(effects.given_up)
        + judgement.open_groups,
        letters_wrong=len(judgement.letters_missing) + len(judgement.letters_too_many),
        strange_ends=len(keeper.strange),
        more={
            "fires": judgement.expected,
            "fires_by_reason": dict(judgement.reasons),
            "copies": judgement.fires.copies,
            "commands": judgement.commands,
            "dead_letters": judgement.letters,
            "done": effects.done,
            "set_aside": effects.set_aside,
            "retried_after_three_deaths": effects.retried,
            "run_again_explained": effects.run_again_explained,
            "ends_written_twice": effects.written_twice,
            "recovery_rounds": len(calm),
            "recovery_max_s": _seconds(max(calm, default=None)),
            "recovery_storm_p99_s": _seconds(percentile(storm, 0.99)),
            "recovery_storm_rounds": len(storm),
            "rolling_restarts": counts["rolling_restarts"],
            "scalings": counts["scalings"],
            "disks_full": counts["disks_full"],
            "stores_damaged": sum(one["what"] == "damage" for one in events),
            "not_sent": len(conductor.loader.refused),
            "audit_command": "absent" if second is None else second.get("verdict"),
        },
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds / 1000, 3)


def _report(
    conductor: Conductor, results: Path, judgement: Judgement, line: Mapping[str, Any], not_reached: list[str]
) -> None:
    keeper = conductor.keeper
    notes = [
        (
            "recovery_p99_s: rounds due on the killed worker's lanes within session timeout + 5 s of a kill while all else was well; "
            "recovery_storm_p99_s: the same for every kill at which no broker was away, whatever else was wrong."
        ),
        f"what the fault log has: {dict(count_kinds(conductor.log.events))}",
        f"how processes ended: {dict(keeper.exits)}",
        f"what the commands were: {dict(judgement.verdicts)}",
        *(f"strange: {text}" for text in keeper.strange),
        *(f"not done: {text}" for text in conductor.failures),
    ]
    for name, some in _findings(judgement).items():
        notes += [f"{name}: {some[:5]}"] if some else []
    title = f"Chaos, seed {conductor.plan.seed}, {conductor.plan.minutes:g} minutes"
    text = page(
        title=title,
        figures=line,
        missed=not_reached,
        notes=notes,
        latencies=judgement.fires.latencies,
        events=conductor.log.events,
    )
    (results / "chaos-report.html").write_text(text, encoding="utf-8")
    for note in notes:
        print(f"  {note}")
    for text in not_reached:
        print(f"  MISSED {text}")
    print(f"  see {results / 'chaos-report.html'} and {results / 'fault-log.jsonl'}")


def _findings(judgement: Judgement) -> dict[str, list[Any]]:
    return {
        "lost fires": judgement.fires.lost,
        "lost commands": judgement.lost_commands,
        "ghost fires": judgement.fires.ghosts,
        "early": judgement.fires.early,
        "unfinished": judgement.effects.undone,
        "torn": judgement.effects.torn,
        "done without effect": judgement.effects.without_effect,
        "doubled": judgement.effects.doubled,
        "given up": judgement.effects.given_up,
        "dead letters missing": judgement.letters_missing,
        "dead letters too many": judgement.letters_too_many,
    }


def _keep_logs(home: Path, results: Path) -> None:
    """Copy what the processes said beside the report."""
    logs = results / "logs"
    logs.mkdir(exist_ok=True)
    for path in [*home.glob("*.log"), *home.glob("*.hits"), *home.glob("witness"), *home.glob("broker-*/broker.log")]:
        name = path.name if path.parent == home else f"{path.parent.name}.log"
        shutil.copyfile(path, logs / name)


if __name__ == "__main__":
    sys.exit(main())
