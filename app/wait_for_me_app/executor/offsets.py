"""How far the fires of one partition may be committed: never past one that is not safe. Pure."""

from __future__ import annotations


class Offsets:
    """The fires that have been read in one tenure and are not safe yet; what lies before all of them may be committed.

    A fire is safe when what is to become of it is known to Kafka: accepted, set aside, or final from before. Offsets
    are read in rising order and may have gaps.
    """

    __slots__ = ("_committed", "_next", "_open")

    def __init__(self, next_offset: int) -> None:
        self._next = next_offset
        self._committed = next_offset
        self._open: dict[int, None] = {}  # in the order of reading, so the first is the smallest

    def read(self, offset: int) -> None:
        """Note that the fire at `offset` has been read."""
        self._open[offset] = None
        self._next = offset + 1

    def safe(self, offset: int) -> None:
        """Note that the fire at `offset` is safe; once is enough, and for an unknown one nothing happens."""
        self._open.pop(offset, None)

    @property
    def position(self) -> int:
        """The offset at which a successor may begin."""
        return next(iter(self._open), self._next)

    def to_commit(self) -> int | None:
        """Return the position if it is news, or None; it counts as committed from then on."""
        position = self.position
        if position == self._committed:
            return None
        self._committed = position
        return position
