"""The barrier as a Faust tutorial would write it: one table, mutate, send, delete. It loses fires; a test shows it.

Environment: TEXTBOOK_TOPICS=commands,fires  TEXTBOOK_DIE_AT=n kills the process when the n-th group has been deleted from the table and
its fire is about to be sent.
"""

import json
import os
import signal

import faust

commands_name, fires_name = os.environ["TEXTBOOK_TOPICS"].split(",")
die_at = int(os.environ.get("TEXTBOOK_DIE_AT", "0"))
completed = 0

app = faust.App(
    os.environ["TEXTBOOK_APP"],
    broker=f"kafka://{os.environ['TEXTBOOK_BROKER']}",
    store="rocksdb://",
    datadir=os.environ["TEXTBOOK_DATA"],
    topic_partitions=4,
    topic_disable_leader=True,
    web_enabled=False,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_request_timeout=20.0,
)
commands = app.topic(commands_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
fires = app.topic(fires_name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
groups = app.Table("groups", partitions=4, key_type=bytes, value_type=bytes)


@app.agent(commands)
async def handle(stream):
    """Collect participants; when all are there, forget the group and fire."""
    global completed
    async for event in stream.events():
        add = json.loads(event.value)
        arrived = json.loads(groups.get(event.key) or b"[]")
        if add["participant_key"] not in arrived:
            arrived.append(add["participant_key"])
        if len(arrived) < add["number_of_participants_in_group"]:
            groups[event.key] = json.dumps(arrived).encode()
            continue
        groups.pop(event.key, None)
        completed += 1
        if completed == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        await fires.send(key=event.key, value=json.dumps(arrived).encode())
