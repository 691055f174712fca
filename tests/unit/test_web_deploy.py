"""Dashboards and alert rules ask for metrics that exist, with labels and values that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from wait_for_me_app.metrics import NAMES, family_of
from web_world import REPOSITORY, WebWorld, served, web_settings

NAME = re.compile(r"\b((?:wait_for_me|process)_[a-z_]+)(\{[^}]*\})?")
MATCHER = re.compile(r'(\w+)\s*=~?\s*"([^"]*)"')
GIVEN_BY_PROMETHEUS = {"job", "instance", "le"}


def board() -> dict[str, Any]:
    """Return the Grafana board."""
    document: dict[str, Any] = json.loads((REPOSITORY / "deploy/grafana/wait-for-me.json").read_text(encoding="utf-8"))
    return document


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    document = yaml.safe_load((REPOSITORY / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where an expression stands, and the expression."""
    for panel in board()["panels"]:
        yield from ((f"panel {panel['title']}", target["expr"]) for target in panel["targets"])
    yield from ((rule["alert"], rule["expr"]) for rule in rules())


@pytest.fixture
async def exported() -> dict[str, set[tuple[str, str]]]:
    """The labels with their values that a worker exports, by the name of the sample."""
    world = WebWorld(web_settings())
    await world.add("g", "p")
    async with served(world) as ask:
        await ask("/livez")
        text = (await ask("/metrics")).text
    found: dict[str, set[tuple[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels.items())
    return found


def test_everything_asked_for_is_exported(exported: dict[str, set[tuple[str, str]]]) -> None:
    """A renamed metric must not leave an empty panel or an alert that never fires."""
    for where, expression in expressions():
        for name, matchers in NAME.findall(expression):
            assert name in exported, f"{where}: {name}"
            known = {label for label, _ in exported[name]}
            for label, value in MATCHER.findall(matchers):
                if label not in GIVEN_BY_PROMETHEUS:
                    assert label in known, f"{where}: {name} has no label {label}"
                    assert (label, value) in exported[name], f"{where}: {label} is never {value}"
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            names = {name for name, _ in NAME.findall(expression)}
            for label in {one.strip() for one in labels.split(",")} - GIVEN_BY_PROMETHEUS:
                assert any(label in {known for known, _ in exported[name]} for name in names), f"{where}: by ({label})"


def test_rates_are_taken_of_what_grows_only_and_every_metric_is_on_the_board_or_told_why_not() -> None:
    """rate() of a gauge is nonsense; a metric that nobody shows is a metric that nobody needs."""
    for where, expression in expressions():
        for name in re.findall(r"(?:rate|increase)\(((?:wait_for_me|process)_[a-z_]+)", expression):
            assert NAMES[family_of(name)][0] in ("counter", "histogram"), where
    shown = {family_of(name) for _, expression in expressions() for name, _ in NAME.findall(expression)}
    shown |= {name for name in NAMES if name in json.dumps(board()["templating"])}
    not_shown = {"wait_for_me_ticks_sent_total", "wait_for_me_web_requests_total", "process_cpu_seconds_total"}
    assert set(NAMES) - shown == not_shown


def test_every_alert_says_what_it_means_and_where_to_look() -> None:
    """Woken at night, one reads two sentences."""
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")
        assert len(rule["annotations"]["description"]) > 20


def test_panels_do_not_cover_one_another() -> None:
    """A board is looked at."""
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
