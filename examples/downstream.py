"""A service that acts on fires itself: it only reads them, and needs neither an executor nor a callback.

WAIT_FOR_ME_BOOTSTRAP_SERVERS=localhost:9092 python examples/downstream.py cdn
"""

import signal
import sys

from wait_for_me.subscriber import subscribe_from_env


def main(group_id: str) -> None:
    """Print a line for each fire until SIGTERM or Ctrl-C; all processes with one group_id share the fires."""
    with subscribe_from_env(group_id=group_id) as fires:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: fires.stop())
        for fire in fires:  # it is committed when the loop comes back for the next one
            print(f"{fire.group_key} {fire.reason} {fire.fire_id}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
