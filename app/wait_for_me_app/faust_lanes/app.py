"""Builds the Faust app with this package's parts in place; nothing is registered twice and nothing runs at import."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.stores import STORES
from faust.transport.drivers import TRANSPORTS
from yarl import URL

from wait_for_me_app.faust_lanes.recovery import LaneTableManager
from wait_for_me_app.faust_lanes.transport import LaneConsumer
from wait_for_me_app.faust_lanes.versions import check_versions

TRANSPORTS.aliases["lanes"] = "wait_for_me_app.faust_lanes.transport:LaneTransport"
STORES.aliases["lanes"] = "wait_for_me_app.faust_lanes.table:LaneRowsStore"

NEVER_SECONDS = 10.0 * 365 * 86_400


class RunSchema(faust.Schema[Any, Any]):
    """Hands a run to the agent as it is: `value` is a list of fetched records."""

    def compile(self, app: Any, **_options: Any) -> Any:
        """Return the decoder that Faust calls for each message."""
        create_event = app.create_event

        async def decode(message: Any, **_propagate: bool) -> Any:
            return create_event(None, message.value, None, message)

        return decode


class LaneBoot(BootStrategy):
    """Leaves Faust's own web server out: it listens on every address, and shows every table to whoever asks.

    `faust worker` switches the setting on whatever the app says (faust/cli/worker.py:94); this stands above the setting.
    """

    enable_web = False


class LaneApp(faust.App):
    """A Faust app that knows its lanes; `before_lanes` runs before it joins its group, `after_lanes` when no run is out any more."""

    BootStrategy = LaneBoot
    lanes: Any = None
    before_lanes: Callable[[], Awaitable[None]] | None = None
    after_lanes: Callable[[], Awaitable[None]] | None = None

    async def on_first_start(self) -> None:
        """Refuse what cannot work before anything is joined or sent."""
        await super().on_first_start()
        if self.before_lanes is not None:
            try:
                await self.before_lanes()
            except Exception as error:  # noqa: BLE001  # whatever it is, the process must end with its remedy
                self.lanes.fail(error)

    async def on_stop(self) -> None:
        """Stop the consumer, which waits for the runs that are out, then what they used."""
        await super().on_stop()
        if self.after_lanes is not None:
            await self.after_lanes()


def create_app(
    *,
    app_id: str,
    partitions: int,
    data_directory: Path,
    session_timeout_ms: int,
    standby_replicas: int,
    commands_topic: str,
    fetch_properties: Mapping[str, Any],
    logging_config: Mapping[str, Any],
    faust_settings: Mapping[str, Any],
) -> LaneApp:
    """Return the app; `faust_settings` say how to reach the cluster and win over what is set here."""
    check_versions()
    LaneConsumer.fetch_properties = fetch_properties
    LaneConsumer.commands_topic = commands_topic
    session_seconds = session_timeout_ms / 1000
    options: dict[str, Any] = {
        "store": "lanes://",
        "TableManager": LaneTableManager,
        "datadir": str(data_directory),
        "topic_partitions": partitions,
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "table_standby_replicas": standby_replicas,
        "processing_guarantee": "at_least_once",
        "web_enabled": False,
        "broker_rebalance_timeout": max(30.0, session_seconds),
        "broker_request_timeout": max(40.0, session_seconds + 5),
        "broker_max_poll_interval": 86_400.0,
        "broker_commit_interval": 1.0,
        "broker_commit_every": 1_000_000,
        "stream_recovery_delay": 0.0,
        "stream_processing_timeout": NEVER_SECONDS,
        "worker_redirect_stdouts": False,
        "logging_config": dict(logging_config),
    }
    return LaneApp(app_id, **{**options, **faust_settings})


def announce(app: LaneApp, url: str) -> None:
    """Let this worker's address travel with its membership of the group; no two workers may have the same.

    It is known once the port is bound, after Faust's banner has read the setting and before anything else does: the
    assignment would be told the old one, and Faust would warn of it, were it not set around that check.
    """
    object.__setattr__(app.conf, "canonical_url", URL(url))


def owners(app: LaneApp, changelog_topic: str) -> dict[str, tuple[int, ...]]:
    """Return each worker's address and its partitions, as the group's leader has last told everybody."""
    distribution = app.assignor.tables_metadata()
    return {url: tuple(sorted(topics.get(changelog_topic, ()))) for url, topics in distribution.items()}
