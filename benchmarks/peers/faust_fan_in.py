"""The same job on stock Faust, as its manual would have it: a table, an agent, one record at a time.

It loses fires when it is killed, because it commits what it has not yet sent; that is not held against its figures.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

import faust
import msgspec

_PREFIX: Final = os.environ["BENCH_PREFIX"]
_RAW: Final[dict[str, Any]] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}

app = faust.App(
    _PREFIX,
    broker=f"kafka://{os.environ['BENCH_BOOTSTRAP']}",
    store="rocksdb://",
    datadir=os.environ["BENCH_STATE"],
    topic_partitions=4,
    topic_disable_leader=True,
    web_enabled=False,
    stream_buffer_maxsize=32_768,
)
commands = app.topic(f"{_PREFIX}.commands", partitions=4, **_RAW)
fires = app.topic(f"{_PREFIX}.fires", partitions=4, **_RAW)
groups = app.Table("groups", key_type=bytes, value_type=bytes, partitions=4)


@app.agent(commands)
async def fold(stream: Any) -> None:
    """Fold adds into the table and send the fire of each group that they complete."""
    async for event in stream.events():
        add = msgspec.json.decode(event.value)
        if add["type"] != "add":
            continue
        known = groups.get(event.key)
        group = msgspec.json.decode(known) if known else {"participants": []}
        if add["participant_key"] not in group["participants"]:
            group["participants"].append(add["participant_key"])
        group["deadline"] = time.time() + add["wait_time_in_seconds"]
        if len(group["participants"]) < add["number_of_participants_in_group"]:
            groups[event.key] = msgspec.json.encode(group)
            continue
        del groups[event.key]
        fire = {"group_key": add["group_key"], "reason": "complete", "participants": group["participants"]}
        await fires.send(key=event.key, value=msgspec.json.encode(fire))  # type: ignore[unused-awaitable]  # not waited for
