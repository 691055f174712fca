"""Names come from strangers and end up on terminals and in logs; nothing in them may act there: no escape, no new line, no turned text."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return the text with everything that a terminal would not show as a character written out: escapes, direction marks."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def printable_json(text: str) -> str:
    """Return the same JSON with what is not printable as JSON's own escapes, so that it still says the same."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _json_escape(one) for one in text)


def _json_escape(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
