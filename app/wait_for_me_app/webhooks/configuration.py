"""The file of webhooks: what it may say, and everything that is refused at start instead of at the first fire.

    allowed_ports = [443, 8443]                     # for all; [443] if not given

    [webhooks."deploy.finished"]                    # the callback's name
    url = "https://hooks.example.com/deploys"
    secret_files = ["/run/secrets/new", "/run/secrets/old"]    # each holds one `whsec_...`
    secret_env = ["HOOK_SECRET"]                               # or variables that do

The danger: a file of settings is copied and committed, so no secret stands in it; and a URL can hold a token, so
neither is ever shown.
"""

from __future__ import annotations

import base64
import binascii
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.webhooks.addresses import is_numeric, is_public

SHORTEST_SECRET_BYTES: Final = 24
LONGEST_TIMEOUT_SECONDS: Final = 300.0
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One webhook, checked."""

    name: str
    url: str = field(repr=False)
    host: str
    secrets: tuple[str, ...] = field(repr=False)
    """The newest first; a delivery is signed with each, so that the receiver can change over in its own time."""
    timeout_s: float
    attempts: int
    first_wait_s: float
    longest_wait_s: float
    allow_private: bool
    ca_file: str | None
    concurrency: int | None = None
    per_second: float | None = None
    in_order: bool = False


class _Webhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    secret_files: tuple[str, ...] = ()
    secret_env: tuple[str, ...] = ()
    timeout_in_seconds: float = 20.0
    attempts: int = 20
    first_wait_in_seconds: float = 5.0
    longest_wait_in_seconds: float = 6 * 3600.0
    concurrency: int | None = None
    per_second: float | None = None
    in_order: bool = False
    allow_private: bool = False
    allow_insecure: bool = False
    ca_file: str | None = None


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    webhooks: dict[str, _Webhook]
    allowed_ports: tuple[int, ...] = (443,)


def read_endpoints(path: Path, environ: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """Return the webhooks of a file, or raise ConfigurationError with what is wrong and what to do."""
    file = _read(path)
    if not file.webhooks:
        raise ConfigurationError(f'{path} names no webhook: add [webhooks."some.name"], or leave --webhooks out')
    return tuple(_endpoint(name, one, file.allowed_ports, environ) for name, one in file.webhooks.items())


def _read(path: Path) -> _File:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the webhooks of {path} cannot be read ({error}): name a readable file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML ({error}): correct it there") from error
    try:
        return msgspec.convert(document, _File, strict=True)
    except msgspec.ValidationError as error:
        known = ", ".join(_Webhook.__struct_fields__)
        raise ConfigurationError(
            f"{path}: {error}. A webhook has {known}; a secret itself is never written here, but the file or variable "
            "that holds it."
        ) from error


def _endpoint(name: str, given: _Webhook, ports: tuple[int, ...], environ: Mapping[str, str]) -> Endpoint:
    if not 0 < given.timeout_in_seconds <= LONGEST_TIMEOUT_SECONDS:
        raise ConfigurationError(
            f"webhook {name}: timeout_in_seconds is {given.timeout_in_seconds:g}. Give more than 0 and at most 300."
        )
    return Endpoint(
        name=name,
        url=given.url,
        host=_checked_host(name, given, ports),
        secrets=tuple(_secrets(name, given, environ)),
        timeout_s=given.timeout_in_seconds,
        attempts=given.attempts,
        first_wait_s=given.first_wait_in_seconds,
        longest_wait_s=given.longest_wait_in_seconds,
        concurrency=given.concurrency,
        per_second=given.per_second,
        in_order=given.in_order,
        allow_private=given.allow_private,
        ca_file=given.ca_file,
    )


# --- the URL ---------------------------------------------------------------------------------------------------------


def _checked_host(name: str, given: _Webhook, ports: tuple[int, ...]) -> str:
    """Judge the URL with the parser that will later be used to connect, or the two might see different hosts in it."""
    from yarl import URL

    try:
        url = URL(given.url)
        host, port = url.raw_host, url.port
    except ValueError as error:
        raise ConfigurationError(f"webhook {name}: the url is none ({error}). Write https://HOST/PATH.") from error
    if url.scheme != "https" and not (given.allow_insecure and url.scheme == "http"):
        raise ConfigurationError(
            f"webhook {name}: the url does not begin with https://. Use https, or set allow_insecure = true for tests."
        )
    if not host or url.raw_user is not None or url.raw_password is not None or url.raw_fragment:
        raise ConfigurationError(
            f"webhook {name}: the url has no host, or a user, a password or a fragment. Write https://HOST/PATH?QUERY."
        )
    if port not in ports:
        raise ConfigurationError(
            f"webhook {name}: port {port} is not among allowed_ports = {list(ports)}. Add it there if it is meant."
        )
    _check_address(name, host, given.allow_private)
    return host


def _check_address(name: str, host: str, allow_private: bool) -> None:
    if is_numeric(host) and not allow_private and not is_public(host):
        raise ConfigurationError(
            f"webhook {name}: {host} is not a public address. Use the name of a public host, or set "
            "allow_private = true for development."
        )


# --- secrets ---------------------------------------------------------------------------------------------------------


def _secrets(name: str, given: _Webhook, environ: Mapping[str, str]) -> Iterator[str]:
    if not given.secret_files and not given.secret_env:
        raise ConfigurationError(
            f"webhook {name} has no secret: set secret_files or secret_env, so that the receiver can verify who calls"
        )
    for path in given.secret_files:
        yield _checked_secret(name, f"file {path}", _read_secret(name, path))
    for variable in given.secret_env:
        if not environ.get(variable):
            raise ConfigurationError(f"webhook {name}: the variable {variable} is not set. Set it to the secret.")
        yield _checked_secret(name, f"variable {variable}", environ[variable].strip())


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"webhook {name}: the file of a secret cannot be read ({error}). Name a readable file."
        ) from error


def _checked_secret(name: str, where: str, secret: str) -> str:
    """Return the secret if it is base64 of enough bytes; its text is in no message."""
    remedy = "Make one with: echo whsec_$(openssl rand -base64 32)"
    digits = secret.removeprefix(_SECRET_PREFIX)
    try:
        size = len(base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True))
    except (binascii.Error, ValueError):
        raise ConfigurationError(f"webhook {name}: the secret in {where} is not base64. {remedy}") from None
    if size < SHORTEST_SECRET_BYTES:
        raise ConfigurationError(
            f"webhook {name}: the secret in {where} has {size} bytes, and fewer than {SHORTEST_SECRET_BYTES} can be "
            f"guessed. {remedy}"
        )
    return secret
