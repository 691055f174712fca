"""What an executor shows of itself over HTTP: `/livez`, `/readyz` and `/metrics`, on this machine only.

    wait-for-me executor --metrics-port 9309        (or WAIT_FOR_ME_EXECUTOR_METRICS_PORT)

The danger: whoever asks must not disturb the thread that talks to Kafka, nor read what it is just changing. So that thread
leaves a `Reading` here now and then, and answers are made of the latest one. A thread that hangs leaves none: not alive.

Callbacks are a label here, by registered name; groups and participants never are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, get_args

from wait_for_me.errors import ConfigurationError
from wait_for_me_app import version
from wait_for_me_app.callbacks import Kind
from wait_for_me_app.executor.tally import Tally
from wait_for_me_app.exposition import Names, Sample, exposition, process_samples

HOST: Final = "127.0.0.1"
READ_EVERY_SECONDS: Final = 1.0
ALIVE_SECONDS: Final = 30.0
"""A turn is short; the longest that is planned, a commit that is waited for, has its own limit below this."""
_REQUEST_SECONDS: Final = 5.0

NAMES: Final[Names] = {
    "wait_for_me_build_info": ("gauge", "The release that runs; always 1."),
    "wait_for_me_executor_ready": (
        "gauge",
        "1 while the outcomes of all partitions of this executor are known, else 0.",
    ),
    "wait_for_me_executor_partitions": ("gauge", "Partitions of fires that this executor has."),
    "wait_for_me_executor_in_flight": ("gauge", "Attempts that run, by kind: thread, task, process."),
    "wait_for_me_executor_fires_pending": ("gauge", "Fires in memory that are not final."),
    "wait_for_me_executor_retries_waiting": (
        "gauge",
        "Fires whose last attempt has failed and that wait for the next.",
    ),
    "wait_for_me_executor_reading_paused": ("gauge", "1 while memory is full and no fires are read."),
    "wait_for_me_executor_lag_records": ("gauge", "Fires of a partition that are not accepted yet."),
    "wait_for_me_executor_attempts_total": (
        "counter",
        "Attempts by callback and outcome: done, or the code of a failure.",
    ),
    "wait_for_me_executor_attempt_duration_seconds": ("histogram", "How long attempts took, however they ended."),
    "wait_for_me_executor_fire_to_start_seconds": ("histogram", "From a fire's append to its first attempt."),
    "wait_for_me_executor_dead_letters_total": ("counter", "Fires set aside, by code."),
    "process_resident_memory_bytes": ("gauge", "Memory in use."),
    "process_cpu_seconds_total": ("counter", "User and system time."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the executor was at one moment."""

    is_ready: bool = False
    why: str = "it has just been started"
    partitions: int = 0
    in_flight: Mapping[Kind, int] = field(default_factory=dict)
    pending: int = 0
    retries: int = 0
    is_paused: bool = False
    lags: Mapping[int, int] = field(default_factory=dict)


class Watch:
    """The latest reading, and the server that shows it."""

    def __init__(self, tally: Tally, port: int) -> None:
        self._tally = tally
        self._reading = Reading()
        self._beat = time.monotonic()
        self._read_at = 0.0
        self._server = _serve(self, port)

    @property
    def port(self) -> int:
        """Where it is served."""
        return int(self._server.server_address[1])

    def beat(self) -> bool:
        """Note that a turn is made; return whether a new reading is wanted."""
        self._beat = now = time.monotonic()
        return now - self._read_at >= READ_EVERY_SECONDS

    def show(self, reading: Reading) -> None:
        """Show this from now on."""
        self._reading, self._read_at = reading, time.monotonic()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    # -- in the threads of the server

    def answer(self, path: str) -> tuple[int, str]:
        """Return status and text of an answer."""
        silent_s, reading = time.monotonic() - self._beat, self._reading
        is_alive = silent_s < ALIVE_SECONDS
        match path:
            case "/livez":
                return (
                    (200, "alive\n") if is_alive else (503, f"no turn for {silent_s:.0f} s: see the log, restart it\n")
                )
            case "/readyz":
                is_ready = is_alive and reading.is_ready
                return (
                    (200, "ready\n") if is_ready else (503, f"not ready: {reading.why if is_alive else 'it hangs'}\n")
                )
            case "/metrics":
                return 200, exposition(self._samples(reading, is_ready=is_alive and reading.is_ready), NAMES)
        return 404, "look at /livez, /readyz or /metrics\n"

    def _samples(self, reading: Reading, *, is_ready: bool) -> Iterator[Sample]:
        yield Sample("wait_for_me_build_info", {"version": version()}, 1)
        yield Sample("wait_for_me_executor_ready", {}, int(is_ready))
        yield Sample("wait_for_me_executor_partitions", {}, reading.partitions)
        for kind in get_args(Kind):
            yield Sample("wait_for_me_executor_in_flight", {"kind": kind}, reading.in_flight.get(kind, 0))
        yield Sample("wait_for_me_executor_fires_pending", {}, reading.pending)
        yield Sample("wait_for_me_executor_retries_waiting", {}, reading.retries)
        yield Sample("wait_for_me_executor_reading_paused", {}, int(reading.is_paused))
        for partition, lag in reading.lags.items():
            yield Sample("wait_for_me_executor_lag_records", {"partition": str(partition)}, lag)
        yield from _counted(self._tally)
        yield from process_samples()


def _counted(tally: Tally) -> Iterator[Sample]:
    for (callback, outcome), count in sorted(
        tally.attempts.copy().items()
    ):  # a copy: the other thread goes on counting
        yield Sample("wait_for_me_executor_attempts_total", {"callback": callback, "outcome": outcome}, count)
    yield from tally.attempt_seconds.samples("wait_for_me_executor_attempt_duration_seconds")
    yield from tally.fire_to_start_seconds.samples("wait_for_me_executor_fire_to_start_seconds")
    for code, count in sorted(tally.dead_letters.copy().items()):
        yield Sample("wait_for_me_executor_dead_letters_total", {"code": code}, count)


def _serve(watch: Watch, port: int) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_SECONDS

        def do_GET(self) -> None:
            status, text = watch.answer(self.path.partition("?")[0])
            body = text.encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Probes come every second; nobody wants to read of them."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise ConfigurationError(
            f"WAIT_FOR_ME_EXECUTOR_METRICS_PORT (--metrics-port) is {port}, which cannot be used ({error}). Choose another."
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="executor-watch", daemon=True).start()
    return server
