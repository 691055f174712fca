"""`wait-for-me demo`: the whole product on one machine, without Kafka, in under a minute.

Rule of this folder: nothing outside it knows of it, except the command line. Everything that runs here is the product itself (the worker,
the executor, the client, each in a process of its own); only the broker is the one embedded in librdkafka. What is decided is
decided in pure functions (`board.py`, `acts.py`, `view.py`); `show.py` is the shell around them.
"""

from __future__ import annotations


def run(*, json: bool, keep: bool = False, port: int | None = None) -> int:
    """Play the demo and return the exit code; with `json`, print the tally as the only line on stdout.

    With `keep` the processes, and the page that the worker serves at `port`, stay until Ctrl-C.
    """
    from wait_for_me_app.demo import show

    return show.run(json=json, keep=keep, port=port)
