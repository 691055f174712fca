"""What an executor may be told beside its settings: limits, with the values that fit most."""

from __future__ import annotations

from dataclasses import dataclass

from wait_for_me.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorOptions:
    """Limits of one executor process."""

    threads: int = 16
    """Attempts of plain functions that run at once."""
    tasks: int = 256
    """Attempts of async functions that run at once."""
    stop_grace_ms: int = 10_000
    """How long a stop waits for attempts that run."""
    patience_ms: int = 600_000
    """How long a fire with an unknown callback is parked, so that a deploy can bring the callback."""
    parked_look_ms: int = 30_000
    """How often the registry is asked again while a fire is parked."""
    starts_without_end: int = 3
    """Attempts whose process died; after so many the fire is dead."""
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

    def __post_init__(self) -> None:
        for name in self.__slots__:
            least = 0 if name in ("stop_grace_ms", "patience_ms", "start_margin_ms") else 1
            if name != "outcomes_kept_ms" and getattr(self, name) < least:
                raise ConfigurationError(f"the executor's {name} is {getattr(self, name)}: give {least} or more")
