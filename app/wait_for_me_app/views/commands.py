"""`groups`, `watch`, `fires`, `doctor`, `healthcheck` and `completion`; added to the command line by `register`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from wait_for_me_app.exit_codes import ExitCode
from wait_for_me_app.printable import printable
from wait_for_me_app.views import output as out
from wait_for_me_app.views.asking import NotFound, Server, quoted

if TYPE_CHECKING:
    from wait_for_me_app.settings import Settings

WithSettings = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]
STATES = ("waiting", "complete", "timeout", "removed", "any")
SHELLS = ("bash", "zsh", "fish")
POLL_S = 0.5


def register(cli: click.Group, with_settings: WithSettings) -> None:
    """Add the commands; `with_settings` gives a command flags and the settings that they make."""
    asked = with_settings("server", "output")
    groups = click.Group("groups", help="Look at groups: who has come, how many are missing, until when.")
    fires = click.Group("fires", help="Look at what has fired, and what became of it.")
    for parent, name, command in (
        (groups, "list", _list_groups),
        (groups, "describe", _describe),
        (groups, "history", _history),
        (fires, "list", _list_fires),
        (cli, "watch", _watch),
    ):
        parent.add_command(click.command(name)(_with(command, asked)))
    cli.add_command(groups)
    cli.add_command(fires)
    cluster = (
        "bootstrap_servers",
        "prefix",
        "partitions",
        "replication_factor",
        "unsafe",
        "longest_group_wait_seconds",
    )
    deployment = with_settings(*cluster, "server", "output")
    cli.add_command(click.command("doctor")(_with(_doctor, deployment)))
    cli.add_command(click.command("healthcheck")(_with(_healthcheck, with_settings("server"))))
    cli.add_command(_completion(cli))


def _with(
    command: Callable[..., Any], decorate: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    return decorate(command)


# -- groups


@click.option(
    "--state",
    type=click.Choice(STATES),
    default="waiting",
    show_default=True,
    help="Ended ones are known while they linger.",
)
@click.option("--search", default="", metavar="TEXT", help="Part of a group's, a participant's or a callback's name.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
def _list_groups(settings: Settings, state: str, search: str, limit: int) -> int:
    """List groups by nearest deadline, of all workers."""
    server, found, cursor, meta = Server(settings), [], "", {}  # type: ignore[var-annotated]
    while len(found) < limit and cursor is not None:
        page = server.get(
            f"/api/v1/groups?state={state}&limit={min(500, limit - len(found))}&q={quoted(search)}"
            + (f"&cursor={cursor}" if cursor else "")
        )
        found += page["groups"]
        cursor, meta = page["next_cursor"], page["meta"]
    if settings.output == "json":
        out.write_json({"groups": found, "meta": meta})
    elif settings.output == "jsonl":
        out.write_lines(found)
    else:
        _print_groups(found, meta)
    _tell_what_is_missing(meta, more=cursor is not None)
    return 0


def _print_groups(groups: list[dict[str, Any]], meta: dict[str, Any]) -> None:
    if not groups:
        click.echo("nobody is waiting", err=True)
        return
    rows = [
        [one["group_key"], one["state"], f"{one['arrived_count']}/{one['number_of_participants_in_group']}",
         out.until(one["deadline_at"] or one["frees_at"], meta["now_ms"]), one["execute_after_waiting"] or "-", _who(one)]
        for one in groups
    ]  # fmt: skip
    out.write_table(["GROUP", "STATE", "ARRIVED", "DEADLINE", "CALLBACK", "WHO"], rows)


def _who(group: dict[str, Any]) -> str:
    names = [one["participant_key"] for one in group["arrived"][:8]]
    more = group["arrived_count"] - len(names)
    missing = f"{group['missing_count']} missing" if group["missing_count"] else ""
    return ", ".join([*names, *([f"{more} more"] if more > 0 and names else [])]) + (f" ({missing})" if missing else "")


def _tell_what_is_missing(meta: dict[str, Any], *, more: bool) -> None:
    for silent in meta.get("silent", ()):
        click.echo(
            f"not shown: partitions {list(silent['partitions'])} of {silent['url']}: {printable(silent['why'])}",
            err=True,
        )
    if meta.get("missing_partitions"):
        answered = f"{meta['workers_answered']} of {meta['workers_known']} workers answered"
        click.echo(f"{answered}; groups on partitions {meta['missing_partitions']} are not shown", err=True)
    elif more or not meta.get("is_complete", True):
        click.echo("there are more; raise --limit or use --search", err=True)


@click.argument("group")
def _describe(settings: Settings, group: str) -> int:
    """Show GROUP: who has come, how many are missing, until when. Exit code 3 if nothing is known of it."""
    found = Server(settings).get(f"/api/v1/group?group_key={quoted(group)}")
    if settings.output == "text":
        out.write_facts(_facts(found))
    else:
        _write_one(settings, found)
    return 0


def _facts(group: dict[str, Any]) -> dict[str, object]:
    of = group["number_of_participants_in_group"]
    return {
        "group": group["group_key"],
        "state": group["state"],
        "arrived": f"{group['arrived_count']} of {of}"
        + (f", {group['missing_count']} missing" if group["missing_count"] else ""),
        "who": ", ".join(f"{one['participant_key']} {out.clock(one['at'])}" for one in group["arrived"]) or None,
        "deadline": f"{group['deadline_at']} ({out.until(group['deadline_at'], out.now_ms())})"
        if group["deadline_at"]
        else None,
        "opened": group["opened_at"],
        "ended": group["closed_at"],
        "free from": group["frees_at"],
        "callback": group["execute_after_waiting"],
        "params": "hidden" if group["payloads_hidden"] else _as_json(group["execute_after_waiting_params"]),
        "wait": None if group["wait_time_in_seconds"] is None else out.span(group["wait_time_in_seconds"]),
        "late adds": group["late_count"] or None,
        "conflicting adds": group["conflict_count"] or None,
        "fire id": group["fire_id"],
        "where": f"partition {group['partition']}, opened at offset {group['opened_offset']}",
    }


def _as_json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _write_one(settings: Settings, document: Any) -> None:
    (out.write_json if settings.output == "json" else lambda one: out.write_lines([one]))(document)


@click.argument("group")
def _history(settings: Settings, group: str) -> int:
    """Show what happened to GROUP, as its log tells and the worker judges it."""
    found = Server(settings).get(f"/api/v1/group/events?group_key={quoted(group)}")
    if settings.output == "json":
        out.write_json(found)
    elif settings.output == "jsonl":
        out.write_lines(found["events"])
    else:
        rows = [
            [
                out.clock(one["at"]),
                f"{one['partition']}:{one['offset']}",
                one["kind"],
                one["effect"],
                one["participant_key"] or one["reason"] or "",
            ]
            for one in found["events"]
        ]
        out.write_table(["AT", "OFFSET", "KIND", "EFFECT", "WHO"], rows)
    if not found["is_complete"]:
        click.echo(f"cut: {found['records_read']} records read, from offset {found['first_offset']}", err=True)
    return 0 if found["events"] else int(ExitCode.NOT_FOUND)


# -- fires


@click.option("--reason", type=click.Choice(["complete", "timeout", "any"]), default="any", show_default=True)
@click.option("--search", default="", metavar="TEXT", help="Part of a group's name or of a fire id.")
@click.option("--limit", type=click.IntRange(1, 500), default=50, show_default=True)
def _list_fires(settings: Settings, reason: str, search: str, limit: int) -> int:
    """List recent fires, the newest first."""
    found = Server(settings).get(f"/api/v1/fires?reason={reason}&limit={limit}&q={quoted(search)}")
    if settings.output == "json":
        out.write_json(found)
    elif settings.output == "jsonl":
        out.write_lines(found["fires"])
    else:
        out.write_table(
            ["FIRED", "GROUP", "REASON", "ARRIVED", "WAITED", "LATE", "CALLBACK", "OUTCOME"],
            [_fire_row(one) for one in found["fires"]],
        )
    if found["window"]["failure"]:
        click.echo(f"not up to date: {printable(found['window']['failure'])}", err=True)
    return 0


def _fire_row(fire: dict[str, Any]) -> list[str]:
    outcome = fire["outcome"]
    late = "-" if fire["lateness_seconds"] is None else out.span(fire["lateness_seconds"])
    said = (
        "not taken yet"
        if outcome is None
        else f"{outcome['state']} (attempt {outcome['attempt']})"
        + (f": {outcome['reason']}" if outcome["reason"] else "")
    )
    arrived = f"{fire['arrived_count']}/{fire['number_of_participants_in_group']}"
    return [
        out.clock(fire["fired_at"]),
        fire["group_key"],
        fire["reason"],
        arrived,
        out.span(fire["waited_seconds"]),
        late,
        fire["execute_after_waiting"],
        said,
    ]


# -- watch


@click.argument("group", required=False)
@click.option(
    "--until-fired", is_flag=True, help="End when GROUP has fired: 0, or 1 if it was removed, 4 after --timeout."
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0), metavar="SECONDS", help="Do not watch for longer."
)
def _watch(settings: Settings, group: str | None, until_fired: bool, timeout_s: float | None) -> int:
    """Watch all groups, or GROUP, as they change. Ctrl-C ends it."""
    if until_fired and group is None:
        raise click.UsageError("--until-fired needs the name of a GROUP.")
    give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
    if group is not None:
        return _watch_one(settings, group, until_fired=until_fired, give_up_at=give_up_at)
    return _watch_all(settings, give_up_at)


def _is_over(give_up_at: float | None) -> bool:
    return give_up_at is not None and time.monotonic() >= give_up_at


def _watch_one(settings: Settings, group: str, *, until_fired: bool, give_up_at: float | None) -> int:
    server, started_ms, last = Server(settings), out.now_ms(), None
    while True:
        now = _state_of(server, group, started_ms)
        if now != last:
            _print_change(settings, group, now)
            last = now
        if until_fired and now is not None and now["state"] != "waiting":
            return int(ExitCode.FAILED) if now["state"] == "removed" else 0
        if _is_over(give_up_at):
            return int(ExitCode.WAITED_TOO_LONG) if until_fired else 0
        time.sleep(POLL_S)


def _state_of(server: Server, group: str, started_ms: int) -> dict[str, Any] | None:
    """Return the group, or its fire if the round has ended and its key is free again since the watch began."""
    try:
        found = server.get(f"/api/v1/group?group_key={quoted(group)}")
        return {
            name: found[name] for name in ("state", "arrived_count", "number_of_participants_in_group", "deadline_at")
        }
    except NotFound:
        fires = server.get(f"/api/v1/fires?limit=50&q={quoted(group[:200])}")["fires"]
    for fire in fires:
        if fire["group_key"] == group and out.ms_of(fire["appended_at"]) >= started_ms - 1000:
            return {
                "state": fire["reason"],
                "arrived_count": fire["arrived_count"],
                "number_of_participants_in_group": fire["number_of_participants_in_group"],
                "deadline_at": None,
            }
    return None


def _print_change(settings: Settings, group: str, now: dict[str, Any] | None) -> None:
    if settings.output != "text":
        out.write_lines([{"group_key": group, **(now or {"state": "unknown"})}])
    elif now is None:
        click.echo(f"{printable(group)}: nothing is known of it yet")
    else:
        deadline = f", fires {out.until(now['deadline_at'], out.now_ms())}" if now["deadline_at"] else ""
        click.echo(
            f"{printable(group)}: {now['state']}, {now['arrived_count']} of {now['number_of_participants_in_group']}{deadline}"
        )


def _watch_all(settings: Settings, give_up_at: float | None) -> int:
    server = Server(settings)
    while True:
        page = server.get("/api/v1/groups?limit=40")
        if settings.output == "text":
            click.clear()
            click.echo(
                f"{page['meta']['now']}  {len(page['groups'])} nearest, {page['meta']['workers_answered']} of {page['meta']['workers_known']} workers"
            )
            _print_groups(page["groups"], page["meta"])
        else:
            out.write_lines([page])
        if _is_over(give_up_at):
            return 0
        time.sleep(1)


# -- the deployment


def _doctor(settings: Settings) -> int:
    """Say what is wrong with the setup, a line each with the cure. Changes nothing. Exit code 1 if something is."""
    from wait_for_me_app.views import doctor

    findings = doctor.examine(settings)
    if settings.output == "text":
        for finding in findings:
            mark = {
                "ok": click.style("ok  ", fg="green"),
                "warn": click.style("warn", fg="yellow"),
                "fail": click.style("fail", fg="red"),
            }[finding.verdict]
            click.echo(
                f"{mark}  {finding.check}: {printable(finding.says)}"
                + (f" {printable(finding.cure)}" if finding.cure else "")
            )
    elif settings.output == "json":
        out.write_json({"findings": [finding.members() for finding in findings]})
    else:
        out.write_lines(finding.members() for finding in findings)
    return int(ExitCode.FAILED if any(finding.verdict == "fail" for finding in findings) else ExitCode.OK)


@click.option("--live", is_flag=True, help="Ask whether it lives, not whether it is ready.")
def _healthcheck(settings: Settings, live: bool) -> int:
    """Ask a worker whether it is ready: 0 if it is, 1 if not, 75 if nobody answers. For images without curl."""
    status, document = Server(settings, timeout_s=5).ask("/livez" if live else "/readyz", accept=(200, 503))
    click.echo(
        f"{document.get('worker', '?')}: {document.get('status', status)}"
        + (f", {document['why']}" if document.get("why") else "")
    )
    return int(ExitCode.OK if status == 200 else ExitCode.FAILED)


def _completion(cli: click.Group) -> click.Command:
    @click.command("completion")
    @click.argument("shell", type=click.Choice(SHELLS))
    def completion(shell: str) -> None:
        """Print what makes SHELL complete `wait-for-me`: eval "$(wait-for-me completion bash)"."""
        from click.shell_completion import get_completion_class

        found = get_completion_class(shell)
        assert found is not None, "click knows all three"
        click.echo(found(cli, {}, "wait-for-me", "_WAIT_FOR_ME_COMPLETE").source())

    return completion
