"""Whether the commands topic still is the one that was folded, and still has what comes next.

A re-created topic starts its offsets anew, and a log may lose records that nobody has folded (retention, a truncated disk). Going
on would skip commands in silence; so the worker stops, and says what to do.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wait_for_me_app.settings import Settings
from wait_for_me_app.topics import admin_client, describe_commands_topic, topic_id


class RefusedLog(Exception):
    """The commands log cannot be continued; the message ends with the remedy."""


@dataclass(frozen=True, kw_only=True)
class CommandsLogCheck:
    """What the commands topic looked like a moment ago."""

    topic: str
    topic_id: uuid.UUID
    partitions: int
    first_offsets: Sequence[int]
    end_offsets: Sequence[int]

    def position(self, partition: int, watermark: int) -> int:
        """Return the offset that a lane reads next; raise RefusedLog if the log does not have it."""
        first, end, wanted = self.first_offsets[partition], self.end_offsets[partition], watermark + 1
        if watermark < 0:
            return first
        if wanted < first:
            raise RefusedLog(
                f"{self.topic} {partition} begins at offset {first}, but the next command to fold is {wanted}: retention has deleted "
                "commands that were never folded. Their groups may never fire. To go on with what is left, reset this deployment's "
                "changelog (see docs/operations.md, 'The log begins after the watermark') and raise retention.ms."
            )
        if wanted > end:
            raise RefusedLog(
                f"{self.topic} {partition} ends at offset {end}, but {watermark} has been folded: the log was truncated. Restore the "
                "topic, or start anew under another WAIT_FOR_ME_PREFIX (see docs/operations.md, 'The log ends before the watermark')."
            )
        return wanted

    def refuse_other_topic(self, topic_id: uuid.UUID, partitions: int) -> None:
        """Raise RefusedLog if this is not the topic that was folded, or it has other partitions."""
        if topic_id != self.topic_id:
            raise RefusedLog(
                f"{self.topic} was deleted and created again (id {self.topic_id}, folded was {topic_id}): its offsets mean something "
                "else now. Delete this deployment's changelog topic too, or start anew under another WAIT_FOR_ME_PREFIX."
            )
        if partitions != self.partitions:
            raise RefusedLog(
                f"{self.topic} has {self.partitions} partitions, but was folded with {partitions}: groups have moved between "
                "partitions. The count is for ever; start anew under another WAIT_FOR_ME_PREFIX with the count that you want."
            )


class CommandsLog:
    """Asks the brokers about the commands topic. Blocking: call it in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin: Any = None

    def look(self) -> CommandsLogCheck:
        """Return the topic's id, partitions and offsets as they are now."""
        found = describe_commands_topic(self._settings, self._client())
        return CommandsLogCheck(
            topic=self._settings.topics.commands,
            topic_id=found.topic_id,
            partitions=found.partitions,
            first_offsets=found.earliest_offsets,
            end_offsets=found.latest_offsets,
        )

    def changelog_id(self) -> uuid.UUID:
        """Return the id of the changelog topic, which a local store is bound to."""
        return topic_id(self._settings, self._settings.topics.changelog, self._client())

    def _client(self) -> Any:
        if self._admin is None:
            self._admin = admin_client(self._settings)
        return self._admin
