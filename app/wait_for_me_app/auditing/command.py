"""`wait-for-me audit`: does what happened agree with the commands? Read-only; exit code 0 if it does, 1 if not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import click

from wait_for_me_app.exit_codes import ExitCode

if TYPE_CHECKING:
    from wait_for_me_app.audit.findings import Finding, Report
    from wait_for_me_app.settings import Settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
SHOWN: Final = 20

_seconds = click.FloatRange(min=0)


def make_audit(settings_from: Decorator) -> click.Command:
    """Return the command; `settings_from` hands it its settings."""
    options: tuple[Decorator, ...] = (
        click.option("--settle", type=_seconds, default=60.0, show_default=True, metavar="SECONDS",
                     help="What was due less than this ago may still be on its way."),
        click.option("--patience", type=_seconds, default=600.0, show_default=True, metavar="SECONDS",
                     help="How long a fire may be without an outcome and without a sign of life."),
        click.option("--clock-skew", "skew_ms", type=click.IntRange(min=0), default=100, show_default=True, metavar="MS",
                     help="How far the brokers' clocks may be apart."),
        click.option("--outcomes", "asks_for_outcomes", is_flag=True,
                     help="Miss outcomes even if no executor has ever written one."),
        click.option("--processes", type=click.IntRange(1, 64), default=2, show_default=True,
                     help="How many partitions are judged at once."),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout."),
        settings_from,
    )  # fmt: skip
    command: Callable[..., Any] = _audit
    for option in reversed(options):
        command = option(command)
    return click.command("audit")(command)


def _audit(
    settings: Settings,
    settle: float,
    patience: float,
    skew_ms: int,
    asks_for_outcomes: bool,
    processes: int,
    as_json: bool,
) -> int:
    """Check every fire, row, outcome and dead letter against the commands, without the worker's code. Changes nothing."""
    from wait_for_me_app.auditing.deployment import Patience, audit

    started = time.monotonic()
    allowed = Patience(
        settle_ms=round(settle * 1000),
        outcome_ms=round(patience * 1000),
        skew_ms=skew_ms,
        asks_for_outcomes=asks_for_outcomes,
    )
    report = audit(settings, allowed, processes=processes)
    took_s = time.monotonic() - started
    if as_json:
        click.echo(json.dumps(report.members(took_s), ensure_ascii=False))
    else:
        _print(report, took_s)
    return int(ExitCode.FAILED if report.counts else ExitCode.OK)


def _print(report: Report, took_s: float) -> None:
    click.echo(
        f"{report.commands:,} commands of {report.groups:,} groups: {report.expected:,} fires expected, {report.found:,} found "
        f"({report.complete:,} complete, {report.timeout:,} by timeout, {report.copies:,} copies, {report.pending:,} pending); "
        f"{report.outcomes:,} outcomes, {report.dead_letters:,} dead letters, {report.rows:,} rows; {took_s:.1f} s"
    )
    late = report.members(took_s)["lateness_ms"]
    if late["max"] is not None:
        click.echo(f"timeouts fired {late['p50']} ms late (median), {late['p99']} ms (p99), {late['max']} ms (worst)")
    for one in report.findings[:SHOWN]:
        click.echo(f"{click.style(one.code, fg='red')} {_line(one)}")
    for one in report.warnings:
        click.echo(f"{click.style(one.code, fg='yellow')} {_line(one)}", err=True)
    click.echo(_last_line(report))


def _line(one: Finding) -> str:
    place = f"{one.topic} {one.partition}" + ("" if one.offset is None else f" offset {one.offset}")
    group = "" if one.group_key is None else f" group {_escaped(one.group_key)}"
    fire = "" if one.fire_id is None else f" {one.fire_id}"
    return f"{place}{group}{fire}: {_escaped(one.detail)}"


def _escaped(text: str) -> str:
    """Return text of unknown origin so that it cannot move the cursor; one line, not too long."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[:300])


def _last_line(report: Report) -> str:
    if not report.counts:
        return "clean"
    counted = ", ".join(f"{count:,} {code}" for code, count in sorted(report.counts.items()))
    return f"{counted}: see docs/reliability.md, 'The audit', for what each code means and where to look"
