"""What an executor may be told: limits, with the values that fit most. `options_from` takes them from the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.callbacks import DEFAULT_PATIENCE, Patience
from wait_for_me_app.settings import Settings

_MAY_BE_ZERO: Final = ("stop_grace_ms", "patience_ms", "start_margin_ms")
_MAY_BE_NONE: Final = ("max_in_flight", "outcomes_kept_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Limits of one executor process."""

    threads: int = 16
    """Attempts of plain functions that run at once."""
    tasks: int = 256
    """Attempts of async functions that run at once."""
    processes: int = 4
    """Attempts in child processes that run at once."""
    max_in_flight: int | None = None
    """Attempts of any kind that run at once; None is what the three kinds have together."""
    stop_grace_ms: int = 10_000
    """How long a stop waits for attempts that run."""
    patience_ms: int = 600_000
    """How long a fire with an unknown callback is parked, so that a deploy can bring the callback."""
    parked_look_ms: int = 30_000
    """How often the registry is asked again while a fire is parked."""
    starts_without_end: int = 3
    """Attempts whose process died; after so many the fire is dead."""
    failures_in_a_row: int = 20
    """After so many failures without a success between them, a callback may no longer fill more than half of the memory."""
    start_margin_ms: int = 2_000
    """How much later than recorded an attempt may begin; a successor waits that much longer. The same for all executors."""
    look_again_ms: int = 1_000
    """How often outcomes are read again while another executor may still run an attempt."""
    outcomes_kept_ms: int | None = None
    """How long Kafka keeps outcomes; None is for ever. `run` reads it from the topic.

    A final fire is remembered for that long. A fire that was accepted longer ago is set aside: its end may have been
    forgotten.
    """
    pending_fires: int = 20_000
    """Fires in memory at which the consumer pauses."""
    pending_bytes: int = 128 * 1024 * 1024
    commit_every_ms: int = 500
    callbacks: Patience = DEFAULT_PATIENCE
    """What callbacks have that do not say how often and how long they are tried."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            least, value = 0 if name in _MAY_BE_ZERO else 1, getattr(self, name)
            if name == "callbacks" or (value is None and name in _MAY_BE_NONE):
                continue
            if value < least:
                raise ConfigurationError(f"the executor's {name} is {value}: give {least} or more")


def options_from(settings: Settings) -> ExecutorOptions:
    """Return the limits that the settings name."""
    return ExecutorOptions(
        threads=settings.executor_threads,
        tasks=settings.executor_tasks,
        processes=settings.executor_processes,
        max_in_flight=settings.executor_max_in_flight,
        stop_grace_ms=round(settings.executor_stop_grace_seconds * 1000),
        patience_ms=round(settings.executor_unknown_callback_seconds * 1000),
        starts_without_end=settings.executor_starts_without_end,
        pending_fires=settings.executor_pending_fires,
        callbacks=Patience(
            attempts=settings.executor_attempts,
            timeout_in_seconds=settings.executor_timeout_seconds,
            first_wait_in_seconds=settings.executor_first_wait_seconds,
            longest_wait_in_seconds=settings.executor_longest_wait_seconds,
        ),
    )
