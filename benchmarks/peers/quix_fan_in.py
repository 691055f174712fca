"""The same job on Quix Streams, at least once. Runs in a virtual environment of its own, so it imports nothing of this folder.

It has no timers of its own, so it is asked for less than the others: groups that complete, and no timeouts.
"""

from __future__ import annotations

import os
import time
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]  # in its own environment


def add(command: dict[str, Any], key: str, _timestamp: int, _headers: Any, state: Any) -> dict[str, Any] | None:
    """Fold one add into its group's state; return the fire if that completes the group."""
    if command["type"] != "add":
        return None
    group = state.get("group") or {"participants": []}
    if command["participant_key"] not in group["participants"]:
        group["participants"].append(command["participant_key"])
    group["deadline"] = time.time() + command["wait_time_in_seconds"]
    group["callback"] = command["execute_after_waiting"]
    group["params"] = command["execute_after_waiting_params"]
    if len(group["participants"]) < command["number_of_participants_in_group"]:
        state.set("group", group)
        return None
    state.delete("group")
    return {**group, "group_key": key, "reason": "complete"}


def main() -> None:
    """Run until stopped."""
    prefix = os.environ["BENCH_PREFIX"]
    app = Application(
        broker_address=os.environ["BENCH_BOOTSTRAP"],
        consumer_group=prefix,
        auto_offset_reset="earliest",
        state_dir=os.environ["BENCH_STATE"],
        processing_guarantee="at-least-once",
        loglevel="WARNING",
    )
    commands = app.topic(f"{prefix}.commands", value_deserializer="json", key_deserializer="str")
    fires = app.topic(f"{prefix}.fires", value_serializer="json", key_serializer="str")
    completed = app.dataframe(commands).apply(add, stateful=True, metadata=True)
    completed.filter(lambda fire: fire is not None).to_topic(fires)
    app.run()


if __name__ == "__main__":
    main()
