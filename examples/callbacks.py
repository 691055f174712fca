"""Callbacks for an executor.

PYTHONPATH=examples wait-for-me executor --callbacks callbacks
wait-for-me add deploy-42 web-1 --of 1 --wait 60 --do deploy.announce --params '{"channel": "#deploys"}'
"""

import asyncio

from wait_for_me import Fire
from wait_for_me_app.callback_errors import RetryAfter, SetAside
from wait_for_me_app.callbacks import callback

CHANNELS = {"#deploys", "#quiet"}


@callback("deploy.announce", attempts=5, timeout_in_seconds=10)
def announce(channel: str, *, fire: Fire) -> None:
    """Say who has arrived. A plain function runs in a thread."""
    if channel not in CHANNELS:  # trying again would not help: a dead letter now
        raise SetAside(f"there is no channel {channel}: add it to CHANNELS, and retry the dead letter")
    print(f"{channel}: {fire.group_key} {fire.reason}, {fire.arrived_count} arrived, {fire.missing_count} missing")


@callback("deploy.warm_up", attempts=5, timeout_in_seconds=30)
async def warm_up(*paths: str, fire: Fire) -> None:
    """Do several things at once. An async function runs on the event loop, and is cancelled when it takes too long."""
    busy = [path for path, ready in zip(paths, await asyncio.gather(*map(_fetch, paths)), strict=True) if not ready]
    if busy:
        raise RetryAfter(30, f"not ready yet: {busy}")
    print(f"{len(paths)} paths are warm for {fire.group_key}")


async def _fetch(path: str) -> bool:
    await asyncio.sleep(0)  # your HTTP client here; give it fire.fire_id as the idempotency key
    return path.startswith("/")
