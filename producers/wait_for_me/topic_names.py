"""The names that one deployment uses in a cluster, all made from its prefix.

The danger: two deployments with one prefix share topics and consumer groups. Nothing else in the code spells a
topic's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .errors import ConfigurationError

DEFAULT_PREFIX: Final = "wait-for-me"
_LEGAL = re.compile(r"[A-Za-z0-9._-]{1,200}")  # Kafka allows 249; the longest suffix of ours takes 21


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Topics and group ids of the deployment `prefix`."""

    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not _LEGAL.fullmatch(self.prefix) or self.prefix in (".", ".."):
            raise ConfigurationError(
                f"{self.prefix!r} cannot begin the name of a topic: "
                "set WAIT_FOR_ME_PREFIX to at most 200 letters, digits, '.', '_' or '-'"
            )

    @property
    def commands(self) -> str:
        """Adds, removes and ticks, keyed by group_key."""
        return f"{self.prefix}.commands"

    @property
    def fires(self) -> str:
        """What fired, keyed by group_key."""
        return f"{self.prefix}.fires"

    @property
    def outcomes(self) -> str:
        """The executor's durable queue, keyed by fire_id."""
        return f"{self.prefix}.outcomes"

    @property
    def commands_dead_letters(self) -> str:
        """Commands that were set aside, with the reason."""
        return f"dlq.{self.prefix}.commands"

    @property
    def fires_dead_letters(self) -> str:
        """Fires whose callback was given up, with the reason."""
        return f"dlq.{self.prefix}.fires"

    @property
    def changelog(self) -> str:
        """The worker's rows; the name is Faust's: app id, table, `changelog`."""
        return f"{self.prefix}-groups-changelog"

    @property
    def worker_group(self) -> str:
        """Consumer group of the workers, which is also Faust's app id."""
        return self.prefix

    @property
    def executor_group(self) -> str:
        """Consumer group of the executors."""
        return f"{self.prefix}-executor"
