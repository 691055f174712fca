"""Every flag has a variable that its help names.

A flag that is a setting has the setting's variable (`settings.py`), and its help says so already. Every other flag gets one made of
its command and its name: `wait-for-me groups list --state` reads `WAIT_FOR_ME_GROUPS_LIST_STATE`. Made from the tree of commands, so
that no flag can be forgotten; what looks like such a variable and is none is refused, as a misspelt setting is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import ClassVar, Final

import click
from click.core import ParameterSource

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.settings import COMMAND_LINE_PREFIXES, VARIABLE_NAMES

WITHOUT: Final = frozenset({"help", "version"})
"""They end the command; there is nothing to set for a whole environment."""
OUTPUT: Final = "WAIT_FOR_ME_OUTPUT"


class Line(click.types.StringParamType):
    """A text; in the variable of a flag that may be repeated, each line is one."""

    envvar_list_splitter: ClassVar[str] = "\n"


def options_of(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Option]]:
    """Yield every option below a command with the words that lead to it."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name not in WITHOUT:
            yield path, parameter
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from options_of(below, (*path, name))


def give_variables(command: click.Command) -> frozenset[str]:
    """Give each flag without a variable one, and name it in its help; return the names that were given."""
    given: set[str] = set()
    for path, option in options_of(command):
        if "[WAIT_FOR_ME_" in (option.help or ""):
            continue
        flag = max(option.opts, key=len)
        variable = OUTPUT if flag == "--output" else _named("WAIT_FOR_ME", *path, flag.lstrip("-"))
        option.envvar = variable
        option.help = f"{option.help or ''} [{variable}]".strip()
        given.add(variable)
    return frozenset(given)


def _named(*words: str) -> str:
    return "_".join(word.upper().replace("-", "_") for word in words)


def tell_source(error: click.ClickException) -> None:
    """Say which variable a wrong value came from: the flag was not given, so its name alone would mislead."""
    option = getattr(error, "param", None)
    if not (isinstance(error, click.BadParameter) and isinstance(option, click.Option) and error.ctx and option.name):
        return
    if error.ctx.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT:
        click.echo(f"It comes from the environment: {option.envvar}.", err=True)


def refuse_unknown(environ: Mapping[str, str], known: Collection[str]) -> None:
    """Raise ConfigurationError for a variable that begins as a flag's does, and is none's."""
    for name in sorted(environ):
        if not name.startswith(COMMAND_LINE_PREFIXES) or name in known or name in VARIABLE_NAMES:
            continue
        close = get_close_matches(name, known, n=1, cutoff=0.6)
        remedy = f"Did you mean {close[0]}?" if close else "`--help` of each command names the variables of its flags."
        raise ConfigurationError(f"{name} is no flag's variable. {remedy}")
