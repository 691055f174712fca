"""What the working set and a restore ask of a partition's rows on disk, and a twin of it in memory."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

Change = tuple[bytes, bytes | None]
"""A row's key and its new value; None deletes it."""


class Store(Protocol):
    """The rows of one partition and how far into the changelog they reach."""

    @property
    def changelog_offset(self) -> int:
        """The last changelog offset whose record is in the store; -1 for none."""
        ...

    def get(self, row_key: bytes) -> bytes | None:
        """Return a row's value."""
        ...

    def get_many(self, row_keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """Return the values of many rows, in the order asked."""
        ...

    def write(self, changes: Iterable[Change], changelog_offset: int) -> None:
        """Apply the changes and the offset they reach to, all or nothing."""
        ...

    def keys_from(self, start: bytes, at_most: int) -> Iterator[bytes]:
        """Yield up to `at_most` row keys in order, from `start` on."""
        ...

    def items(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield every row whose key starts with `kind`, in order."""
        ...

    def close(self) -> None:
        """Release the files."""
        ...


class MemoryStore:
    """A store that lives as long as its process: for tests and simulation."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.changelog_offset = -1

    def get(self, row_key: bytes) -> bytes | None:
        return self.rows.get(row_key)

    def get_many(self, row_keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return [self.rows.get(key) for key in row_keys]

    def write(self, changes: Iterable[Change], changelog_offset: int) -> None:
        for key, value in changes:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.changelog_offset = changelog_offset

    def keys_from(self, start: bytes, at_most: int) -> Iterator[bytes]:
        ordered = sorted(self.rows)
        first = bisect_left(ordered, start)
        yield from ordered[first : first + at_most]

    def items(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        yield from ((key, self.rows[key]) for key in sorted(self.rows) if key.startswith(kind))

    def close(self) -> None:
        """Keep everything: there are no files to release."""
