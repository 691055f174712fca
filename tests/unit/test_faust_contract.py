"""What `faust_lanes` relies on in the libraries that it reaches into: it is there, and it is what was read.

When a test here fails, a library was changed or replaced. Read the new source of what is named, decide whether the override in
`faust_lanes` still does what it must, correct the line that its docstring cites, and only then put the new digest here.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiokafka
import faust
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.producer.message_accumulator import BatchBuilder, MessageBatch
from faust.stores.base import SerializedStore
from faust.streams import Stream
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, Fetcher
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage
from faust.web.base import Web
from mode.services import ServiceTask

from fakes import NOON_MS, MemoryOutlet, add, new_lane
from wait_for_me_app import faust_lanes
from wait_for_me_app.faust_lanes import app as app_module
from wait_for_me_app.faust_lanes import fetch, intake, outlet, recovery, table, transport, versions
from wait_for_me_app.faust_lanes.app import LaneApp, RunSchema, announce, create_app
from wait_for_me_app.faust_lanes.recovery import LaneRecovery, LaneTableManager
from wait_for_me_app.faust_lanes.transport import LaneConsumer, MemberThread
from wait_for_me_app.kafka_translation import faust_settings
from wait_for_me_app.settings import Settings

SITE_PACKAGES = Path(faust.__file__).parents[1]
MODULES: list[ModuleType] = [app_module, fetch, intake, outlet, recovery, table, transport, versions, faust_lanes]

DIGESTS = {
    "faust.transport.consumer:Consumer._drain_messages": "d29d37519f2ddf3a",
    "faust.transport.consumer:Consumer._new_offset": "43262143bdacdcc6",
    "faust.transport.consumer:Consumer.perform_seek": "5358eac6c2120a50",
    "faust.transport.consumer:Consumer.stop_flow": "e8a58a4e8a746e49",
    "faust.transport.consumer:Consumer.on_stop": "f3e2190f9fe8fdc0",
    "faust.transport.drivers.aiokafka:Consumer._new_consumer_thread": "cd26d06ef170e339",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer": "df784c24f01ee3a8",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread.verify_event_path": "42f1cd8a20f07254",
    "faust.tables.recovery:Recovery._restart_recovery": "2bc1989fda0e00fd",
    "faust.tables.recovery:Recovery._slurp_changelogs": "6f289a0225f88390",
    "faust.tables.recovery:Recovery._publish_stats": "f5e222aaa907b98b",
    "faust.tables.recovery:Recovery.on_recovery_completed": "b60527bae562be3f",
    "faust.tables.recovery:Recovery._wait": "7afb39ec5555ba8e",
    "faust.tables.manager:TableManager.recovery": "f7226be333bc9af7",
    "faust.app.base:App._on_partitions_revoked": "2e4a20a3b4e81b99",
    "faust.app.base:App._on_partitions_assigned": "2dbbc0a122e549f0",
    "faust.app.base:App.on_stop": "cca5460ebd6fae6f",
    "aiokafka.producer.message_accumulator:BatchBuilder.append": "45522999af2258e7",
    "aiokafka.producer.message_accumulator:MessageBatch.done": "ce1fd4bb6996ddb5",
    "aiokafka.producer.producer:AIOKafkaProducer.send_batch": "d9fe29eae4a50ba2",
    "aiokafka.producer.sender:SendProduceReqHandler.handle_response": "dafdae02412eef84",
}
"""Source of what is replaced, extended, or copied in part, as it was read."""


def found(dotted: str) -> Any:
    """Return what a dotted name means."""
    module, _, rest = dotted.partition(":")
    one: Any = importlib.import_module(module)
    for name in rest.split("."):
        one = inspect.getattr_static(one, name)
    if isinstance(one, ServiceTask):
        one = one.fun
    return one.fget if isinstance(one, property) else one


def digest(dotted: str) -> str:
    """Return a short digest of a function's source, without the indentation."""
    return hashlib.sha256(inspect.cleandoc(inspect.getsource(found(dotted))).encode()).hexdigest()[:16]


@pytest.mark.parametrize("dotted", DIGESTS)
def test_what_is_overridden_is_what_was_read(dotted: str) -> None:
    """The override was written against this very source."""
    assert digest(dotted) == DIGESTS[dotted], (
        f"{dotted} has changed upstream: read it anew, check the override in faust_lanes, correct the line that is cited there, "
        f"then write {digest(dotted)} into DIGESTS of {Path(__file__).name}"
    )


# -- citations

CITATION = re.compile(r"(?P<name>[A-Za-z]+\.\w+),?\s+(?P<file>(?:faust|mode|aiokafka)/[\w/]+\.py)(?::(?P<line>\d+))?")


def citations() -> Iterator[tuple[str, str, str, int | None]]:
    """Yield (module, name, file, line) for everything that a docstring of the package cites."""
    for module in MODULES:
        for one in CITATION.finditer(module.__doc__ or ""):
            yield module.__name__.rpartition(".")[2], one["name"], one["file"], int(one["line"] or 0) or None


def line_of(file: str, name: str) -> int:
    """Return the line of a method's `def`."""
    class_name, _, method = name.partition(".")
    for one in ast.parse((SITE_PACKAGES / file).read_text()).body:
        if isinstance(one, ast.ClassDef) and one.name == class_name:
            for part in one.body:
                if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name == method:
                    return part.lineno
    raise AssertionError(f"{file} has no {name}: correct the docstring")


@pytest.mark.parametrize(("module", "name", "file", "line"), list(citations()), ids=str)
def test_a_cited_line_is_where_the_function_begins(module: str, name: str, file: str, line: int | None) -> None:
    """A reader who opens the file there finds what is spoken of."""
    assert line == line_of(file, name), (
        f"faust_lanes/{module}.py cites {file}:{line} for {name}: it is at {line_of(file, name)}"
    )


def test_everything_is_cited_in_the_form_that_is_checked() -> None:
    """A line number in another form would grow old unnoticed."""
    for module in MODULES:
        numbers = re.findall(r"\.py:\d+|\(:\d+", module.__doc__ or "")
        assert len(numbers) == sum(1 for name, *_ in citations() if name == module.__name__.rpartition(".")[2])


FACTORIES = {"_new_consumer_thread"}
"""Hooks that Faust has for being overridden: there is nothing to cite."""


@pytest.mark.parametrize("ours", [MemberThread, LaneConsumer, LaneRecovery, LaneTableManager])
def test_every_override_that_replaces_upstream_is_cited(ours: type) -> None:
    """The rule of the folder: what does not call `super()` names the line that it replaces."""
    module = inspect.getmodule(ours)
    cited = {name.partition(".")[2] for _, name, _, _ in citations()}
    assert module is not None
    for name, member in vars(ours).items():
        upstream = any(name in vars(base) for base in ours.__mro__[1:])
        if not upstream or name.startswith("__") or not (callable(member) or isinstance(member, property)):
            continue
        function = member.fun if isinstance(member, ServiceTask) else getattr(member, "fget", member)
        if "super()" not in inspect.getsource(function):
            assert name in cited | FACTORIES, (
                f"{ours.__name__}.{name} replaces upstream's: cite it in {module.__name__}"
            )


# -- what is called or set


def tasks_of(service: Any) -> list[ServiceTask]:
    """Return what mode will start for a service of this class."""
    return list(object.__new__(service)._get_tasks())


@pytest.mark.parametrize("name", ["_restart_recovery", "_slurp_changelogs", "_publish_stats"])
def test_recovery_is_made_of_service_tasks_and_stays_so(name: str) -> None:
    """Mode starts what it finds by name: an override that is no task would leave the stock one running, or nothing."""
    assert isinstance(inspect.getattr_static(Recovery, name), ServiceTask)
    assert isinstance(inspect.getattr_static(LaneRecovery, name), ServiceTask)
    tasks = tasks_of(LaneRecovery)
    assert sum(task.fun.__name__ == name for task in tasks) == 1
    assert all(task.fun.__module__ == recovery.__name__ for task in tasks if task.fun.__name__ == name)


def test_no_stock_task_runs_beside_the_recovery_of_lanes() -> None:
    """A task that a later version adds might read changelogs after all."""
    tasks = {task.fun.__name__ for task in tasks_of(LaneRecovery)}
    assert tasks == {"_restart_recovery", "_slurp_changelogs", "_publish_stats"}


def test_the_table_manager_makes_its_recovery_in_a_property() -> None:
    """Which is where the lanes' one comes in."""
    assert isinstance(inspect.getattr_static(TableManager, "recovery"), property)


def parameters(function: Any) -> list[str]:
    """Return the names of a function's parameters."""
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Consumer._drain_messages, ["self", "fetcher"]),
        (Consumer._new_offset, ["self", "tp"]),
        (Consumer.perform_seek, ["self"]),
        (Consumer.stop_flow, ["self"]),
        (Consumer.resume_flow, ["self"]),
        (Consumer.verify_event_path, ["self", "now", "tp"]),
        (driver.Consumer._new_consumer_thread, ["self"]),
        (driver.AIOKafkaConsumerThread._create_worker_consumer, ["self", "transport"]),
        (driver.AIOKafkaConsumerThread.verify_event_path, ["self", "now", "tp"]),
        (driver.AIOKafkaConsumerThread._ensure_consumer, ["self"]),
        (Recovery._set_recovery_started, ["self"]),
        (Recovery._set_recovery_ended, ["self"]),
        (TableManager.on_actives_ready, ["self"]),
        (TableManager.on_standbys_ready, ["self"]),
        (faust.App.on_first_start, ["self"]),
        (faust.App.on_stop, ["self"]),
        (faust.App.on_rebalance_end, ["self"]),
        (faust.App.create_event, ["self", "key", "value", "headers", "message"]),
        (Fetcher.maybe_start, ["self"]),
        (Stream.noack, ["self"]),
        (Stream.events, ["self"]),
        (SerializedStore.persisted_offset, ["self", "tp"]),
        (SerializedStore._get, ["self", "key"]),
        (SerializedStore._set, ["self", "key", "value"]),
        (SerializedStore._del, ["self", "key"]),
        (SerializedStore._iterkeys, ["self"]),
        (SerializedStore._itervalues, ["self"]),
        (SerializedStore._iteritems, ["self"]),
        (SerializedStore._size, ["self"]),
        (SerializedStore._contains, ["self", "key"]),
        (SerializedStore._clear, ["self"]),
        (BatchBuilder.append, ["self", "timestamp", "key", "value", "headers"]),
        (BatchBuilder.size, ["self"]),
        (BatchBuilder.record_count, ["self"]),
        (aiokafka.AIOKafkaProducer.create_batch, ["self"]),
        (aiokafka.AIOKafkaProducer.send_batch, ["self", "batch", "topic", "partition"]),
    ],
    ids=lambda part: getattr(part, "__qualname__", ""),
)
def test_a_function_that_is_overridden_or_called_takes_what_it_took(function: Any, expected: list[str]) -> None:
    """Names and order."""
    assert parameters(function) == expected


def test_a_store_has_no_more_to_refuse() -> None:
    """Every way to write a table that Faust's base class knows is closed or abstract here."""
    writers = {"_set", "_del", "_clear", "backup_partition", "restore_backup", "reset_state"}
    assert writers <= set(vars(table.LaneRowsStore))
    assert {name for name in ("backup_partition", "restore_backup", "reset_state") if hasattr(faust.types.StoreT, name)}


def test_a_consumer_message_is_built_in_the_order_that_is_used() -> None:
    """Its fields are handed over by position: this is the hot path."""
    expected = "topic partition offset timestamp timestamp_type headers key value checksum serialized_key_size"
    names = parameters(ConsumerMessage.__init__)[1:]
    assert names[:12] == [*expected.split(), "serialized_value_size", "tp"]
    assert "generation_id" in names


def test_an_appended_batch_says_where_and_when() -> None:
    """Offset of its first record, and the broker's time."""
    assert {"offset", "timestamp"} <= set(aiokafka.structs.RecordMetadata._fields)


def test_a_batch_that_is_full_says_so_by_none() -> None:
    """The outlet takes that for a unit that fits nowhere."""

    def batch() -> BatchBuilder:
        return BatchBuilder(200, 0, is_transactional=0)

    full = batch()
    assert full.append(timestamp=1, key=b"k", value=b"v" * 100, headers=[]) is not None
    assert full.append(timestamp=1, key=b"k", value=b"v" * 100, headers=[]) is None
    assert full.record_count() == 1
    assert batch().append(timestamp=1, key=b"k", value=b"v" * 1000, headers=[]) is not None, (
        "a first record always fits"
    )


async def test_a_batch_whose_place_is_unknown_is_confirmed_with_minus_one() -> None:
    """aiokafka resolves a recognised copy like any other batch: only the offset tells."""
    one = MessageBatch(aiokafka.TopicPartition("t", 0), BatchBuilder(200, 0, is_transactional=0), 10, 0)
    one.done(-1, 5, 0)
    assert (await one.future).offset == -1


# -- the app that Faust builds of it


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Any]:
    """A worker's app with its table and its agent's topic; nothing is connected."""
    one: LaneApp = create_app(
        app_id="t",
        partitions=4,
        data_directory=tmp_path,
        session_timeout_ms=10_000,
        standby_replicas=0,
        commands_topic="t.commands",
        fetch_properties={},
        logging_config={"version": 1, "incremental": True},
        faust_settings=faust_settings(Settings(prefix="t"), scheme="lanes"),
    )
    one.Table("groups", key_type=bytes, value_type=bytes, partitions=4)
    yield one
    one.consumer._thread.thread_loop.close()  # type: ignore[attr-defined]


async def test_what_the_lanes_read_and_set_in_faust_is_there(app: Any) -> None:
    """Attributes by name, on the objects of a real app."""
    for name in ("_acked", "_acked_index", "callback", "_thread", "stop_flow", "resume_flow"):
        assert hasattr(app.consumer, name), name
    for name in (
        "signal_recovery_start",
        "_generation_id",
        "active_tps",
        "standby_tps",
        "completed",
        "_wait",
        "wait_for_stopped",
    ):
        assert hasattr(app.tables.recovery, name), name
    for name in ("flow_control", "consumer_generation_id", "_fetcher", "on_rebalance_complete"):
        assert hasattr(app, name), name
    assert hasattr(app.consumer._thread, "call_thread")


async def test_a_fetcher_ends_when_it_is_told_to(app: Any) -> None:
    """`_drain_messages` waits for this event."""
    assert hasattr(app._fetcher, "_stopped")
    draining = app.consumer._drain_messages(app._fetcher)
    app._fetcher._stopped.set()
    await draining


async def test_the_changelog_has_the_name_that_topics_are_made_under(app: Any) -> None:
    """Faust decides it; `topics create` must guess right."""
    from wait_for_me.topic_names import TopicNames

    assert app.tables["groups"].changelog_topic.get_topic_name() == TopicNames("t").changelog


async def test_nothing_is_committed_or_created_behind_the_lanes(app: Any) -> None:
    """At least once, no topics by Faust, no web server with table pages, and no processing timeout."""
    conf = app.conf
    assert str(conf.processing_guarantee) == "ProcessingGuarantee.AT_LEAST_ONCE" or conf.processing_guarantee.value == (
        "at_least_once"
    )
    assert (conf.topic_allow_declare, conf.topic_disable_leader, conf.web_enabled) == (False, True, False)
    assert conf.stream_processing_timeout > 10**8


async def test_fausts_own_web_server_never_starts_and_nothing_is_configured_late(app: Any) -> None:
    """`faust worker` switches it on and reads the settings for its banner before ours are known; no warning in the log."""
    app.conf.web_enabled = True  # as faust/cli/worker.py does
    assert app.conf.web_enabled
    _ = app.conf.canonical_url
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        services = list(app.on_init_dependencies())
        announce(app, "http://127.0.0.1:6066/#w1")
    assert str(app.conf.canonical_url) == "http://127.0.0.1:6066/#w1"
    assert not [one for one in services if isinstance(one, Web)]
    assert list(app.boot_strategy.web_server()) == []


async def test_an_idle_member_never_leaves_its_group(app: Any) -> None:
    """Nobody polls it, on purpose: aiokafka would have it leave after the poll interval, and never join again."""
    thread = app.consumer._thread
    member = thread._create_worker_consumer(app.transport)
    member._closed = True
    assert member._max_poll_interval_ms == float("inf")
    assert "max_poll_interval_ms=self._max_poll_interval_ms" in inspect.getsource(aiokafka.AIOKafkaConsumer.start)
    assert "self._max_poll_interval = max_poll_interval_ms / 1000" in inspect.getsource(GroupCoordinator.__init__)


async def test_a_run_reaches_the_agent_as_it_is(app: Any) -> None:
    """The schema decodes nothing: the event's value is the list of records."""
    run = [add(0, NOON_MS), add(1, NOON_MS)]
    message = ConsumerMessage("t.commands", 0, 1, 0.0, 1, None, None, run, None, 0, 0, TP("t.commands", 0))
    event = await RunSchema().compile(app)(message)
    assert event.value is run
    assert event.message is message


async def test_a_table_shows_the_rows_of_this_workers_lanes_and_takes_none(app: Any) -> None:
    """A write through Faust would bypass the order of effects; the message says what to do instead."""
    lane = new_lane(MemoryOutlet())
    await lane.take([add(0, NOON_MS, "g"), add(1, NOON_MS, "h")])
    app.lanes = type("Lanes", (), {"by_partition": {0: lane}})
    store = app.tables["groups"].data
    assert sorted(store._iterkeys()) == [b"g", b"h"]
    assert store._get(b"g") == next(iter(store._itervalues()))
    assert (store._size(), store._contains(b"h"), store._contains(b"x"), store._get(b"x")) == (2, True, False, None)
    assert store.persisted_offset(TP("t", 0)) is None
    for write in (
        lambda: store._set(b"g", b"x"),
        lambda: store._del(b"g"),
        lambda: store._clear(),
        lambda: store.reset_state(),
        lambda: store.restore_backup(),
    ):
        with pytest.raises(TypeError, match="send a command to the commands topic"):
            write()
    with pytest.raises(TypeError, match="send a command"):
        await store.backup_partition()


# -- a takeover, in order


class NotedApp:
    """Notes what a takeover does to Faust, in order."""

    def __init__(self, generation: int = 1) -> None:
        self.did: list[str] = []
        self.consumer_generation_id = generation
        self.lanes, self.consumer, self.flow_control = self, self, self
        self._fetcher, self.on_rebalance_complete = self, self
        self.failure: BaseException | None = None

    async def take_over(self, active: Any, standby: Any) -> dict[int, int]:
        """Restore; a test may have it fail."""
        self.did.append(f"take over {active} {standby}")
        if self.failure is not None:
            raise self.failure
        return {0: 7}

    def fail(self, error: BaseException) -> None:
        """End the process."""
        self.did.append(f"fail {error}")

    def resume(self) -> None:
        """Resume queues."""
        self.did.append("queues flow")

    def resume_flow(self) -> None:
        """Resume the consumer."""
        self.did.append("consumer flows")

    async def open_intakes(self, positions: Any) -> None:
        """Begin to deliver."""
        self.did.append(f"open {positions}")

    async def maybe_start(self) -> None:
        """Start the fetcher."""
        self.did.append("fetcher")

    def on_rebalance_end(self) -> None:
        """The rebalance is over."""
        self.did.append("rebalance ends")

    async def send(self) -> None:
        """Tell who listens."""
        self.did.append("told")

    def on_ready(self) -> None:
        """Lanes are fed."""
        self.did.append("ready")


def taking_over(app: NotedApp) -> Any:
    """A recovery with an assignment."""
    one: Any = object.__new__(LaneRecovery)
    one.app, one.completed = app, type("Event", (), {"set": lambda _self: app.did.append("completed")})()
    one.active_tps, one.standby_tps = {TP("c", 2), TP("c", 0), TP("x", 0)}, {TP("c", 1)}
    one._set_recovery_started = lambda: app.did.append("started")
    one._set_recovery_ended = lambda: app.did.append("ended")
    one.tables = type("Tables", (), {"on_actives_ready": lambda _self: None, "on_standbys_ready": lambda _self: None})()
    return one


async def test_nothing_is_delivered_before_the_lanes_are_restored() -> None:
    """Queues are cleared by their resumption, so intakes open after it: the race that loses events in stock Faust."""
    app = NotedApp()
    await taking_over(app)._take_over(1)
    assert app.did[:2] == ["started", "take over [0, 2] [1]"]
    assert app.did.index("queues flow") < app.did.index("open {0: 7}") < app.did.index("ready")
    assert app.did[-1] == "ready"


async def test_a_takeover_that_a_rebalance_has_overtaken_opens_nothing() -> None:
    """The lanes may be another's by now."""
    app = NotedApp(generation=2)
    await taking_over(app)._take_over(1)
    assert app.did == ["started", "take over [0, 2] [1]"]


async def test_a_takeover_that_fails_ends_the_worker() -> None:
    """Upstream swallows it, and reads on without rows."""
    app = NotedApp()
    app.failure = RuntimeError("no disk")
    with pytest.raises(RuntimeError):
        await taking_over(app)._take_over(1)
    assert app.did[-1] == "fail no disk"
    assert not any(step.startswith("open") for step in app.did)
