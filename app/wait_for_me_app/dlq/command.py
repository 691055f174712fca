"""`wait-for-me dlq`: list, show, retry and discard dead letters.

The rule: retry and discard act on what is named, by ids or filters or `--all`, and ask first. Data goes to stdout; what
was done also goes to the log on stderr, a line each, with who did it.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from wait_for_me_app.dlq import shown
from wait_for_me_app.dlq.copies import CannotRetry, Copy, copy_of
from wait_for_me_app.dlq.letters import BOXES, Letter, json_members
from wait_for_me_app.dlq.selection import LetterId, NotUnderstood, Selection, parse_id, parse_since
from wait_for_me_app.exit_codes import ExitCode

if TYPE_CHECKING:
    from wait_for_me_app.dlq.post import DeadLetters
    from wait_for_me_app.settings import Settings

log = logging.getLogger(__name__)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_FILTERS: tuple[Decorator, ...] = (
    click.option("--from", "box", type=click.Choice(BOXES), help="Only letters of this topic."),
    click.option("--stage", help="Only of this stage: decode, validate, route, apply, callback."),
    click.option("--code", help="Only with this error code, such as callback_failed."),
    click.option("--group", metavar="GROUP_KEY", help="Only of this group."),
    click.option("--fire-id", help="Only of this fire."),
    click.option("--since", metavar="TIME", help="Only set aside since then: an age such as 30m, 6h, 2d, or a date."),
)
_output = click.option(
    "-o",
    "--output",
    type=click.Choice(("text", "json", "jsonl")),
    default="text",
    help="How to print; text if not given.",
)
_ACTING: tuple[Decorator, ...] = (
    click.option("--all", "everything", is_flag=True, help="All open dead letters of both topics."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("--by", metavar="NAME", help="Who is doing it, for the record; the login name if not given."),
)


def make_group(settings_from: Decorator) -> click.Group:
    """Return the command group; `settings_from` hands a command its settings."""
    group = click.Group("dlq", help="List, show, retry and discard dead letters: what was set aside, and why.")
    common = (_output, settings_from)
    ids = click.argument("ids", nargs=-1, metavar="[ID]...")
    listing = click.option(
        "--handled", is_flag=True, help="Those that were retried or discarded, instead of the open ones."
    )
    group.command("list")(_dressed(_list, *_FILTERS, listing, *common))
    group.command("show")(_dressed(_show, click.argument("ids", nargs=-1, required=True, metavar="ID..."), *common))
    group.command("retry")(_dressed(_retry, ids, *_FILTERS, *_ACTING, *common))
    group.command("discard")(_dressed(_discard, ids, *_FILTERS, *_ACTING, *common))
    return group


def _dressed(command: Callable[..., Any], *decorators: Decorator) -> Callable[..., Any]:
    @functools.wraps(command)
    def dressed(**arguments: Any) -> Any:
        try:
            return command(**arguments)
        except NotUnderstood as error:
            raise click.UsageError(str(error)) from None

    result: Callable[..., Any] = dressed
    for decorate in reversed(decorators):
        result = decorate(result)
    return result


# --- reading ---------------------------------------------------------------------------------------------------------


def _list(settings: Settings, output: str, handled: bool, **filters: Any) -> None:
    """List the open dead letters of both topics, the oldest first."""
    selection = _selection((), filters)
    found = sorted(_dead_letters(settings).find(selection, handled=handled), key=lambda one: one.at_ms)
    if output != "text":
        _print([json_members(one) for one in found], output)
        return
    for one in found:
        click.echo(shown.line(one))
    if not found:
        click.echo("no dead letters" if selection.is_everything else "no dead letters fit", err=True)


def _show(settings: Settings, ids: tuple[str, ...], output: str) -> int:
    """Show all of a dead letter: where it came from, why it was set aside, headers, key and value."""
    wanted = [parse_id(text) for text in ids]
    found = {LetterId(one.box, one.partition, one.offset): one for one in _dead_letters(settings).fetch(wanted)}
    letters = [found[name] for name in wanted if name in found]
    if output != "text":
        _print([shown.members(one) for one in letters], output)
    else:
        click.echo("\n\n".join("\n".join(shown.page(one)) for one in letters), nl=bool(letters))
    return _not_found(str(name) for name in wanted if name not in found)


# --- acting ----------------------------------------------------------------------------------------------------------


def _retry(settings: Settings, ids: tuple[str, ...], output: str, dry_run: bool, yes: bool, **named: Any) -> int:
    """Send dead letters back to where they came from; a fire keeps its fire_id, and its callback is run again."""
    post, by, at = _dead_letters(settings), _name(named.pop("by")), shown.moment(_now_ms())
    found, code = _meant(post, ids, named)
    refused: list[tuple[Letter, str]] = []
    names = [LetterId(one.box, one.partition, one.offset) for one in found]
    if not found or code:
        return code
    if dry_run:
        would = [one for one, _ in _copies(settings, post.fetch(names), by, at, refused)]
        _report([{"id": one.id, "would": "be retried"} for one in would], output)
        return _refusals(refused)
    _ask(f"Retry {len(found)} dead letters?", yes)
    done = []
    for one, sent in post.send(_copies(settings, post.fetch(names), by, at, refused), by, at):
        place = {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset}
        done.append({"id": one.id, "retried": place})
        log.info("dead_letter_retried", extra={**_audit(one, by), **{f"copy_{name}": at for name, at in place.items()}})
    _report(done, output)
    return _refusals(refused)


def _discard(settings: Settings, ids: tuple[str, ...], output: str, dry_run: bool, yes: bool, **named: Any) -> int:
    """Mark dead letters as dealt with: they are listed no more, and stay in the topic as long as Kafka keeps them."""
    post, by, at = _dead_letters(settings), _name(named.pop("by")), shown.moment(_now_ms())
    found, code = _meant(post, ids, named)
    if not found or code:
        return code
    if dry_run:
        _report([{"id": one.id, "would": "be discarded"} for one in found], output)
        return code
    _ask(f"Discard {len(found)} dead letters?", yes)
    post.discard(found, by, at)
    for one in found:
        log.info("dead_letter_discarded", extra=_audit(one, by))
    _report([{"id": one.id, "discarded": True} for one in found], output)
    return int(ExitCode.OK)


def _meant(post: DeadLetters, ids: tuple[str, ...], named: dict[str, Any]) -> tuple[list[Letter], int]:
    """Return the open letters that are meant, and the exit code if one of them is not there."""
    everything = named.pop("everything")
    selection = _selection(ids, named)
    if selection.is_everything != everything:
        raise click.UsageError("Name dead letters by ids or by filters, or all of them with --all.")
    found = post.find(selection)
    code = _not_found(selection.missing(found))
    if not found and not code:
        click.echo("no open dead letters fit", err=True)
    return found, code


def _copies(
    settings: Settings, letters: Iterable[Letter], by: str, at: str, refused: list[tuple[Letter, str]]
) -> Iterator[tuple[Letter, Copy]]:
    for one in letters:
        try:
            yield one, copy_of(one, settings.topics, by, at)
        except CannotRetry as error:
            refused.append((one, str(error)))


def _refusals(refused: list[tuple[Letter, str]]) -> int:
    for one, why in refused:
        click.echo(f"{one.id} cannot be retried: {shown.escaped(why)}", err=True)
    return int(ExitCode.FAILED if refused else ExitCode.OK)


def _not_found(missing: Iterable[str]) -> int:
    names = list(missing)
    if names:
        click.echo(
            f"no open dead letter {', '.join(names)}: see `wait-for-me dlq list`. Nothing was changed.", err=True
        )
    return int(ExitCode.NOT_FOUND if names else ExitCode.OK)


def _ask(question: str, yes: bool) -> None:
    if not yes:
        click.confirm(question, abort=True, err=True)


def _audit(letter: Letter, by: str) -> dict[str, Any]:
    return {"letter": letter.id, "fire_id": letter.origin.fire_id, "code": letter.origin.code, "by": by}


# --- small things ----------------------------------------------------------------------------------------------------


def _dead_letters(settings: Settings) -> DeadLetters:
    from wait_for_me_app.dlq.post import DeadLetters
    from wait_for_me_app.logging_setup import configure_logging

    configure_logging(settings)
    return DeadLetters(settings)


def _selection(ids: Iterable[str], filters: dict[str, Any]) -> Selection:
    since = filters.get("since")
    given = {name: value for name, value in filters.items() if name != "since"}
    since_ms = None if since is None else parse_since(since, _now_ms())
    return Selection(ids=frozenset(map(parse_id, ids)), since_ms=since_ms, **given)


def _name(given: str | None) -> str:
    """Return who is doing it: a name that is given, or the login name."""
    import getpass

    try:
        name = given or getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in many containers
        name = "unknown"
    return shown.escaped(name, 200)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _report(done: list[dict[str, Any]], output: str) -> None:
    if output != "text":
        _print(done, output)
        return
    for one in done:
        click.echo(_sentence(one))


def _sentence(done: dict[str, Any]) -> str:
    if "would" in done:
        return f"{done['id']} would {done['would']}"
    if "retried" in done:
        place = done["retried"]
        return f"{done['id']} retried: {place['topic']} partition {place['partition']} offset {place['offset']}"
    return f"{done['id']} discarded"


def _print(documents: list[dict[str, Any]], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(documents, ensure_ascii=False, indent=2))
        return
    for one in documents:
        click.echo(json.dumps(one, ensure_ascii=False))
