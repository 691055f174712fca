"""Writes measured figures into the documents, between the marks that name them: `make bench-docs`.

    <!-- figures: NAME -->
    ... replaced ...
    <!-- end -->

A figure that has not been measured leaves its place as it is, and is named. Prose around the marks is written by people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from benchmarks import capacity, results, stages
from benchmarks.place import DOCS, RESULTS, say
from benchmarks.scale import __main__ as scale

_BLOCK: Final = re.compile(r"(<!-- figures: (?P<name>[a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


class NotMeasured(Exception):
    """The results that a figure needs are not there."""


def _document(name: str) -> dict[str, Any]:
    path = RESULTS / name
    if not path.exists():
        raise NotMeasured(f"{path.name} is missing")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _comparison() -> str:
    document = _document("latest.json")
    if document["mode"] != "full":
        raise NotMeasured(f"latest.json is of a {document['mode']} run")
    return f"{_where(document)}\n\n{results.table(document)}"


def _scale_promises() -> str:
    document = _document("scale.json")
    return f"{_where(document)}\n\n" + "\n".join(scale.table(document))


def _scale_figures() -> str:
    scenarios = _document("scale.json")["scenarios"]
    lines = ["| Scenario | Figure | Value |", "|---|---|---|"]
    for scenario, found in scenarios.items():
        lines += [f"| {scenario} | {name} | {_value(value)} |" for name, value in found["figures"].items()]
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value(one)}" for name, one in value.items())
    return f"{value:,.6g}" if isinstance(value, (int, float)) else str(value)


def _stages() -> str:
    document = _document("stages.json")
    return f"{_where(document)}\n\n{stages.table(document)}"


def _capacity() -> str:
    try:
        return capacity.table(capacity.measured(_document("latest.json"), _document("scale.json")))
    except KeyError as missing:
        raise NotMeasured(f"the results have no {missing}") from missing


def _where(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, broker included; "
        f"Kafka {machine['kafka']}; Python {machine['python']}; {machine['java']}."
    )


_FIGURES: Final[Mapping[str, Callable[[], str]]] = MappingProxyType(
    {
        "comparison": _comparison,
        "scale_promises": _scale_promises,
        "scale_figures": _scale_figures,
        "stages": _stages,
        "capacity": _capacity,
    }
)


def fill(text: str, figures: Mapping[str, Callable[[], str]] = _FIGURES) -> tuple[str, list[str]]:
    """Return the text with its figures replaced, and what could not be."""
    problems: list[str] = []

    def replaced(match: re.Match[str]) -> str:
        try:
            return f"{match[1]}{figures[match['name']]()}\n{match[3]}"
        except (NotMeasured, KeyError) as problem:
            problems.append(f"{match['name']}: {problem}")
            return match[0]

    return _BLOCK.sub(replaced, text), problems


def fill_file(path: Path) -> list[str]:
    """Fill in one document; return what could not be."""
    text, problems = fill(path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    return problems


def main() -> int:
    """Fill in both documents."""
    for name in ("performance.md", "scaling.md"):
        for problem in fill_file(DOCS / name):
            say(f"{name}: left as it is: {problem}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
