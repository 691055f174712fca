"""Dead letters that are sent once more or discarded from the page: the same deeds, marked in the same way, as `wait-for-me dlq`."""

from __future__ import annotations

from collections.abc import Callable

from wait_for_me_app.core.fires import rfc3339
from wait_for_me_app.dlq.copies import CannotRetry, copy_of
from wait_for_me_app.dlq.letters import Box, Letter
from wait_for_me_app.dlq.post import DeadLetters
from wait_for_me_app.dlq.selection import LetterId
from wait_for_me_app.settings import Settings
from wait_for_me_app.web.documents import Accepted
from wait_for_me_app.web.problems import Refusal, not_found

BY = "the page of worker {}"


class Resender:
    """Acts on single dead letters. Blocking: call it in a thread."""

    def __init__(self, settings: Settings, now_ms: Callable[[], int]) -> None:
        self._settings, self._now_ms = settings, now_ms
        self._post = DeadLetters(settings)
        self._by = BY.format(settings.worker_id)

    def send_again(self, letter_id: str) -> Accepted:
        """Send the record as it was before it was set aside; a command to where its key belongs, a fire to run once more."""
        letter, at = self._find(letter_id), rfc3339(self._now_ms())
        try:
            copy = copy_of(letter, self._settings.topics, self._by, at)
        except CannotRetry as error:
            raise Refusal(409, "cannot_retry", str(error)) from error
        _letter, sent = next(iter(self._post.send([(letter, copy)], self._by, at)))
        return Accepted(topic=sent.topic, partition=sent.partition, offset=sent.offset, event_id="")

    def discard(self, letter_id: str) -> None:
        """Mark the letter as dealt with; its bytes stay until the topic's retention deletes them."""
        self._post.discard([self._find(letter_id)], self._by, rfc3339(self._now_ms()))

    def _find(self, letter_id: str) -> Letter:
        name, partition, offset = letter_id.split(":")
        box: Box = "fires" if name == "fires" else "commands"
        found = next(iter(self._post.fetch({LetterId(box, int(partition), int(offset))})), None)
        if found is None:
            raise not_found("There is no such dead letter, or retention has deleted it. Have its sender send it again.")
        return found
