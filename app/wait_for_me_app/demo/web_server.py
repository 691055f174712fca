"""A web server of the story: a process of its own that is told to refresh, does so, and reports.

Run as `python -m wait_for_me_app.demo.web_server NAME`. Each line on standard input is one order (JSON, see `Order`); the end of the
input ends the process. This file is also the example of what a service of yours does: the two calls on `WaitForMe`.
"""

from __future__ import annotations

import sys
import time

import msgspec

from wait_for_me import WaitForMe


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """Refresh for a deployment; then report, or roll back."""

    deployment: str
    number_of_servers: int
    takes_s: float
    wait_s: int
    callback: str
    params: tuple[str, ...]
    finds_it_broken: bool = False


def refresh(wfm: WaitForMe, name: str, order: Order) -> None:
    """Carry out one order."""
    time.sleep(order.takes_s)  # stands for fetching and starting the new code
    if order.finds_it_broken:
        wfm.remove_wait(order.deployment, reason=f"rolled back by {name}")
        return
    wfm.add_participant(
        participant_key=name,
        group_key=order.deployment,
        number_of_participants_in_group=order.number_of_servers,
        execute_after_waiting=order.callback,
        execute_after_waiting_params=list(order.params),
        wait_time_in_seconds=order.wait_s,
    )


def main() -> None:
    """Carry out orders until there are no more."""
    name = sys.argv[1]
    with WaitForMe.from_env() as wfm:
        for line in sys.stdin.buffer:
            refresh(wfm, name, msgspec.json.decode(line, type=Order))


if __name__ == "__main__":
    main()
