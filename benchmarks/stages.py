"""Where the time of an add goes, stage by stage, with what the machine could do beside each: `make profile`.

Every stage calls the worker's own functions on the same commands as the comparison, a run at a time, one lane, the stages one after the
other; so their sum is what an add costs, and says nothing of what overlaps. A limit does the same work without ours: the same bytes
consumed or produced by librdkafka alone, or written to RocksDB alone. Processor time counts all threads of the process.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import stack_samples
from benchmarks.broker import Broker, running_broker
from benchmarks.cluster import TOPIC_CONFIG, Cluster
from benchmarks.lane_stages import (
    RUN_RECORDS,
    Pieces,
    fold_pieces,
    timed_batches,
    timed_decode,
    timed_fires,
    timed_fold,
    timed_lane,
    timed_outlet,
    timed_pack,
    timed_plain_decode,
    timed_prefetch,
    timed_raw_store,
    timed_store,
)
from benchmarks.load import Load, load_backlog
from benchmarks.place import RESULTS, say
from benchmarks.results import machine, write_json
from benchmarks.stopwatch import Spent
from benchmarks.transfers import timed_fetch, timed_raw_consume, timed_raw_produce

_ADDS: Final = 200_000
_PARTITIONS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage's share of an add, and its limit's."""

    name: str
    cpu_us: float
    wall_us: float
    limit: str = ""
    limit_cpu_us: float | None = None
    limit_wall_us: float | None = None
    sums_up: bool = True
    """Whether it is a part of the sum; the whole lane is not, being the sum itself."""


@dataclass(kw_only=True)
class _Bench:
    """What the stages need."""

    broker: Broker
    cluster: Cluster
    adds: int
    directory: Path
    stages: list[Stage] = field(default_factory=list)

    def note(self, name: str, spent: Spent, limit: tuple[str, Spent] | None = None, *, sums_up: bool = True) -> None:
        """Keep a stage and print it."""
        per_add = 1e6 / self.adds
        stage = Stage(
            name=name,
            cpu_us=round(spent.cpu_s * per_add, 3),
            wall_us=round(spent.wall_s * per_add, 3),
            limit=limit[0] if limit else "",
            limit_cpu_us=round(limit[1].cpu_s * per_add, 3) if limit else None,
            limit_wall_us=round(limit[1].wall_s * per_add, 3) if limit else None,
            sums_up=sums_up,
        )
        self.stages.append(stage)
        beside = f"   {stage.limit}: {stage.limit_cpu_us:.2f} us, {stage.limit_wall_us:.2f} us wall" if limit else ""
        say(f"{name:<42} {stage.cpu_us:>6.2f} us  {stage.wall_us:>6.2f} us wall{beside}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all stages, print them, and write benchmarks/results/stages.json."""
    parser = argparse.ArgumentParser(description="Say where the time of an add goes.")
    parser.add_argument("--adds", type=int, default=_ADDS)
    parser.add_argument("--output", type=Path, default=RESULTS / "stages.json")
    parser.add_argument("--no-samples", action="store_true", help="leave out the sampled worker")
    given = parser.parse_args(arguments)
    with running_broker() as broker, tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(broker.bootstrap_servers)
        bench = _Bench(broker=broker, cluster=cluster, adds=given.adds, directory=Path(directory))
        _measure(bench)
        samples = None if given.no_samples else stack_samples.take(broker, cluster, adds=5 * given.adds)
    document = {
        "machine": machine(),
        "adds": given.adds,
        "run_records": RUN_RECORDS,
        "stages": [asdict(stage) for stage in bench.stages],
        "samples": samples,
    }
    write_json(given.output, document)
    say("\n" + table(document))
    return 0


def _measure(bench: _Bench) -> None:
    load = Load(name="stage", groups=bench.adds // 5)
    pieces = fold_pieces(load)
    servers = bench.broker.bootstrap_servers
    with _topic(bench, "stages.commands") as commands:
        load_backlog(servers, commands, load.backlog())
        bench.note(
            "fetch: records into the lanes' intakes",
            timed_fetch(servers, commands, _PARTITIONS, load.adds),
            (
                "librdkafka consumes the same",
                _best(lambda: timed_raw_consume(servers, commands, _PARTITIONS, load.adds)),
            ),
        )
    decoding, firing = _best(lambda: timed_decode(pieces)), _best(lambda: timed_fires(pieces))
    bench.note(
        "decode and check commands",
        decoding,
        ("msgspec, no checks", _best(lambda: timed_plain_decode(pieces))),
    )
    bench.note("look up rows (RocksDB multi-get)", timed_prefetch(pieces, bench.directory / "prefetch"))
    bench.note("fold, less decoding and fires", _best(lambda: timed_fold(pieces)).less(decoding).less(firing))
    bench.note("encode fires", firing)
    bench.note("encode rows", _best(lambda: timed_pack(pieces)))
    bench.note("build record batches", _best(lambda: timed_batches(pieces)))
    _measure_writes(bench, pieces)


def _measure_writes(bench: _Bench, pieces: Pieces) -> None:
    servers = bench.broker.bootstrap_servers
    with _topic(bench, "stages.rows") as rows, _topic(bench, "stages.fires") as fires:
        sent = asyncio.run(timed_outlet(pieces, servers, rows, fires))
        raw = timed_raw_produce(pieces, servers, rows, fires)
        batches = _best(lambda: timed_batches(pieces))
        bench.note(
            "produce rows and fires, awaited",
            sent.less(batches),
            ("librdkafka, record by record, batches included", raw),
        )
    bench.note(
        "write rows to RocksDB",
        timed_store(pieces, bench.directory / "store"),
        ("rocksdict, the same batches", timed_raw_store(pieces, bench.directory / "raw")),
    )
    with _topic(bench, "whole-groups-changelog"), _topic(bench, "whole.fires"):
        whole = asyncio.run(timed_lane(pieces, servers, "whole", bench.directory / "lane"))
        bench.note("a whole lane, decode to store", whole, sums_up=False)


@contextmanager
def _topic(bench: _Bench, name: str) -> Iterator[str]:
    bench.cluster.create(name, _PARTITIONS, TOPIC_CONFIG)
    try:
        yield name
    finally:
        bench.cluster.delete_matching(name)
        time.sleep(0.5)


def _best(measure: Callable[[], Spent]) -> Spent:
    """Return the cheapest of three, which the others on this machine have disturbed least."""
    return min((measure() for _ in range(3)), key=lambda spent: spent.cpu_s)


def table(document: dict[str, Any]) -> str:
    """Return the stages in Markdown, and what samples of a running worker say."""
    lines = ["| Stage | CPU per add | wall per add | Limit | CPU | wall |", "|---|---|---|---|---|---|"]
    parts = [stage for stage in document["stages"] if stage["sums_up"]]
    lines += [_row(stage) for stage in parts]
    total = [sum(stage[column] for stage in parts) for column in ("cpu_us", "wall_us")]
    lines.append(f"| **sum of the stages** | {total[0]:.2f} us | {total[1]:.2f} us ||||")
    lines += [_row(stage) for stage in document["stages"] if not stage["sums_up"]]
    if document["samples"]:
        lines += ["", *stack_samples.table(document["samples"])]
    return "\n".join(lines)


def _row(stage: dict[str, Any]) -> str:
    limit = [stage["limit"], _us(stage["limit_cpu_us"]), _us(stage["limit_wall_us"])]
    return f"| {stage['name']} | {_us(stage['cpu_us'])} | {_us(stage['wall_us'])} | {' | '.join(limit)} |"


def _us(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} us"


if __name__ == "__main__":
    raise SystemExit(main())
