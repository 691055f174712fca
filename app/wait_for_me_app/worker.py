"""The worker: `faust -A wait_for_me_app.worker worker`, or `wait-for-me worker`.

This is where the parts are put together; nothing is decided here. An agent hands each run to its lane, a timer sweeps, and the app
stops by ending its lanes first. The module reads the environment, because that is how Faust is told what to do.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

from wait_for_me_app import data_directory
from wait_for_me_app.broker_clock import BrokerClock
from wait_for_me_app.commands_log import CommandsLog
from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.faust_lanes.app import LaneApp, RunSchema, announce, create_app, owners
from wait_for_me_app.faust_lanes.outlet import KafkaOutlet
from wait_for_me_app.faust_lanes.versions import check_classes
from wait_for_me_app.kafka_translation import auth_settings, faust_settings
from wait_for_me_app.lanes import Lanes
from wait_for_me_app.logging_setup import logging_config
from wait_for_me_app.metrics import Counters, CountingOutlet
from wait_for_me_app.restore import Changelog
from wait_for_me_app.settings import Settings, settings_or_exit
from wait_for_me_app.sweep import INTERVAL_SECONDS
from wait_for_me_app.topics import refuse_unfit_cluster
from wait_for_me_app.tracing import TracingOutlet, tracing_is_on
from wait_for_me_app.watchdog import Watchdog
from wait_for_me_app.web.cluster import Parts
from wait_for_me_app.web.server import Web

FOREIGN_WRITER_CHECK_SECONDS = 1.0
COMMANDS_LOG_CHECK_SECONDS = 60.0


class Worker:
    """The parts of one worker process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.watchdog = Watchdog(limit_seconds=settings.session_timeout_ms / 2000)
        clock = BrokerClock()
        self.outlet = KafkaOutlet(
            {
                "bootstrap_servers": settings.bootstrap_servers,
                "client_id": "wait-for-me-worker",
                **auth_settings(settings),
            },
            broker_stamps=not settings.demo_broker,
            before_send=self.watchdog.check,
            on_appended=clock.observe,
        )
        self.counters = Counters()
        counting = CountingOutlet(self.outlet, settings.topics, self.counters)
        self.tracing = TracingOutlet(counting, settings.topics) if tracing_is_on() else None
        group = {"group.id": settings.topics.worker_group}
        self.lanes = Lanes(
            settings,
            outlet=self.tracing or counting,
            changelog=Changelog({**settings.librdkafka(), **group}, settings.topics.changelog),
            commands_log=CommandsLog(settings),
            clock=clock,
            on_fired=self.counters.note_fires,
        )
        self.app = self._create_app({**settings.librdkafka(), **group})
        self.web = Web(self._parts_for_the_web(clock))

    def _create_app(self, fetch_properties: dict[str, Any]) -> LaneApp:
        settings = self.settings
        app = create_app(
            app_id=settings.topics.worker_group,
            partitions=settings.partitions,
            data_directory=settings.data_directory,
            session_timeout_ms=settings.session_timeout_ms,
            standby_replicas=settings.standby_replicas,
            commands_topic=settings.topics.commands,
            fetch_properties=fetch_properties,
            logging_config=logging_config(settings),
            faust_settings=faust_settings(settings, scheme="lanes"),
        )
        app.lanes, app.before_lanes, app.after_lanes = self.lanes, self._start, self._stop
        return app

    def _parts_for_the_web(self, clock: BrokerClock) -> Parts:
        """Return what the page and the API may read."""
        lanes = self.lanes
        return Parts(
            settings=self.settings,
            lanes=lambda: lanes.by_partition,
            is_ready=lambda: lanes.is_ready,
            taken_over_in_seconds=lambda: lanes.taken_over_in_seconds,
            ticks_sent=lambda: lanes.sweep.ticks_sent,
            clock=clock,
            look_at_log=CommandsLog(self.settings).look,
            owners=lambda: owners(self.app, self.settings.topics.changelog),
            counters=self.counters,
        )

    async def _start(self) -> None:
        """Refuse what cannot work, then connect; before the worker joins its group."""
        check_classes(self.app)
        if not self.settings.demo_broker:
            await asyncio.to_thread(refuse_unfit_cluster, self.settings)
        await self.outlet.start()
        self.watchdog.start()
        await self.web.start()
        announce(self.app, self.web.url)  # before it joins: its address travels with its membership
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)

    async def _stop(self) -> None:
        """Close what the lanes used, after the last run has been acknowledged."""
        self.watchdog.stop()
        await self.web.stop()
        await self.outlet.stop()
        if not await asyncio.to_thread(self.lanes.close):
            # All that was taken is acknowledged and the group is left; but Python would wait for the thread that hangs.
            logging.shutdown()
            os._exit(ExitCode.OK)


def build(settings: Settings) -> Worker:
    """Put a worker together and give its app the agent and the timers."""
    worker = Worker(settings)
    app, lanes = worker.app, worker.lanes
    commands = app.topic(settings.topics.commands, schema=RunSchema(), partitions=settings.partitions, maxsize=4096)
    app.Table("groups", key_type=bytes, value_type=bytes, partitions=settings.partitions)
    running: set[asyncio.Task[None]] = set()

    async def fold(event: Any) -> None:
        partition = event.message.partition
        worker.counters.run_begins(partition)
        if worker.tracing is not None:
            worker.tracing.note_run(event.value)
        if not await lanes.fold(partition, event.value):
            return  # the lane was given up before the run began: not acknowledged, its next owner reads it
        worker.counters.run_ends(partition, len(event.value))
        event.ack()
        consumer: Any = app.consumer  # a LaneConsumer
        consumer.run_is_done(partition)

    @app.agent(commands, name="fold")
    async def fold_runs(runs: Any) -> None:
        """Start every run on its lane; lanes work side by side, and a lane has one run at a time."""
        async for event in runs.noack().events():
            task = asyncio.create_task(fold(event))
            running.add(task)
            task.add_done_callback(running.discard)

    async def sweep() -> None:
        """Let the logs know of deadlines that have passed."""
        if lanes.is_ready:
            await lanes.sweep.run_once()

    for seconds, job in (
        (INTERVAL_SECONDS, sweep),
        (FOREIGN_WRITER_CHECK_SECONDS, lanes.look_for_foreign_writers),
        (COMMANDS_LOG_CHECK_SECONDS, lanes.check_commands_log),
    ):
        app.timer(interval=seconds)(_ending_on_failure(job, lanes))
    return worker


def _ending_on_failure(job: Callable[[], Awaitable[object]], lanes: Lanes) -> Callable[[], Awaitable[None]]:
    """Wrap a periodic job: what it raises ends the process on purpose, with a code, instead of by Faust's crash."""

    @functools.wraps(job)
    async def run() -> None:
        try:
            await job()
        except Exception as error:  # noqa: BLE001  # whatever it is, going on without the job would be silence
            lanes.fail(error)

    return run


def _settings() -> Settings:
    settings = settings_or_exit()
    data_directory.claim(settings.data_directory)
    return settings


worker = build(_settings())
app = worker.app
