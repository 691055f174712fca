"""librdkafka's property names, said in the words of the worker's client (Faust, and aiokafka below it).

The operator writes one set of names, `WAIT_FOR_ME_KAFKA_*`, for the client, the executor and the worker. The first two
hand them to librdkafka as they are. The worker's client is another library, so each name is looked up here.

Rule: a property is translated, or found to say what the worker does anyway, or it stops the start by name. It is never
dropped: a dropped `ssl.crl.location` is a check that everybody believes in and nobody makes.

Faust is imported only when credentials are built, so this module costs nothing to import.
"""

from __future__ import annotations

import importlib.util
import os
import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from wait_for_me.errors import ConfigurationError

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

    from wait_for_me_app.settings import Settings

_T = TypeVar("_T")

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_PASSWORD_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_SASL_NAMES = frozenset(
    {"sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password", "sasl.kerberos.service.name"}
)
_SSL_NAMES = frozenset(
    {
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.cipher.suites",
        "ssl.endpoint.identification.algorithm",
        "enable.ssl.certificate.verification",
    }
)
_SECURITY_NAMES = _SASL_NAMES | _SSL_NAMES | {"security.protocol"}


def _seconds(milliseconds: str) -> float:
    return int(milliseconds) / 1000.0


_FAUST_NAMES: Mapping[str, tuple[tuple[str, ...], Callable[[str], object]]] = MappingProxyType(
    {
        "client.id": (("broker_client_id",), str),
        "group.instance.id": (("consumer_group_instance_id",), str),
        "heartbeat.interval.ms": (("broker_heartbeat_interval",), _seconds),
        "max.poll.interval.ms": (("broker_max_poll_interval",), _seconds),
        "socket.timeout.ms": (("broker_request_timeout", "producer_request_timeout"), _seconds),
        "metadata.max.age.ms": (("consumer_metadata_max_age_ms", "producer_metadata_max_age_ms"), int),
        "connections.max.idle.ms": (("consumer_connections_max_idle_ms", "producer_connections_max_idle_ms"), int),
        "compression.type": (("producer_compression_type",), str),
        "compression.codec": (("producer_compression_type",), str),
        "max.partition.fetch.bytes": (("consumer_max_fetch_size",), int),
        "fetch.message.max.bytes": (("consumer_max_fetch_size",), int),
    }
)

# What the worker does whatever is written: the property is welcome if it says the same.
_WHAT_THE_WORKER_DOES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "acks": frozenset({"all", "-1"}),
        "request.required.acks": frozenset({"all", "-1"}),
        "enable.auto.commit": frozenset({"false"}),
        "isolation.level": frozenset({"read_committed"}),
        "partitioner": frozenset({"murmur2", "murmur2_random"}),
    }
)

_REMEDY_BY_NAME: Mapping[str, str] = MappingProxyType(
    {
        "ssl.certificate.pem": "Put it in a file and name it in WAIT_FOR_ME_KAFKA_SSL_CERTIFICATE_LOCATION.",
        "ssl.key.pem": "Put it in a file and name it in WAIT_FOR_ME_KAFKA_SSL_KEY_LOCATION.",
        "ssl.keystore.location": "Export it to PEM and use SSL_CERTIFICATE_LOCATION and SSL_KEY_LOCATION.",
        "ssl.keystore.password": "Export the store to PEM and use SSL_CERTIFICATE_LOCATION and SSL_KEY_LOCATION.",
    }
)


def faust_settings(settings: Settings, *, scheme: str = "kafka") -> dict[str, Any]:
    """Return the keyword arguments of `faust.App` that reach the operator's cluster, credentials included."""
    refuse_untranslatable(settings.kafka)
    session_s = settings.session_timeout_ms / 1000.0
    chosen: dict[str, Any] = {
        "broker": broker_urls(settings.bootstrap_servers, scheme=scheme),
        "broker_client_id": "wait-for-me-worker",
        "broker_session_timeout": session_s,
        "broker_heartbeat_interval": min(1.0, session_s / 3),  # how soon a survivor hears that it must take over
    }
    for name, (keys, convert) in _FAUST_NAMES.items():
        if name in settings.kafka:
            chosen.update(dict.fromkeys(keys, _converted(name, settings.kafka[name], convert)))
    _check_timeouts(chosen)
    credentials = faust_credentials(settings.kafka)
    return chosen if credentials is None else {**chosen, "broker_credentials": credentials}


def auth_settings(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments of an aiokafka client that say how to connect and who we are."""
    refuse_untranslatable(settings.kafka)
    kafka = settings.kafka
    protocol, mechanism = _protocol(kafka), _mechanism(kafka)
    chosen: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        chosen["ssl_context"] = ssl_context(kafka)
    if mechanism in _PASSWORD_MECHANISMS:
        username, password = _username_and_password(kafka)
        chosen |= {"sasl_mechanism": mechanism, "sasl_plain_username": username, "sasl_plain_password": password}
    elif mechanism == "GSSAPI":
        chosen |= {"sasl_mechanism": mechanism, "sasl_kerberos_service_name": _kerberos_service(kafka)}
    return chosen


def faust_credentials(kafka: Mapping[str, str]) -> CredentialsT | None:
    """Return Faust's credentials object for these properties, or None for a plaintext connection."""
    protocol, mechanism = _protocol(kafka), _mechanism(kafka)
    if protocol == "PLAINTEXT":
        return None
    import faust

    context = ssl_context(kafka) if protocol.endswith("SSL") else None
    if mechanism is None:
        return faust.SSLCredentials(context)
    if mechanism == "GSSAPI":
        return faust.GSSAPICredentials(kerberos_service_name=_kerberos_service(kafka), ssl_context=context)
    username, password = _username_and_password(kafka)
    return faust.SASLCredentials(username=username, password=password, mechanism=mechanism, ssl_context=context)


def broker_urls(bootstrap_servers: str, *, scheme: str = "kafka") -> str:
    """Return the bootstrap servers the way Faust writes them: one URL each, with `;` between."""
    return ";".join(f"{scheme}://{server.strip().rpartition('//')[2]}" for server in bootstrap_servers.split(","))


def refuse_untranslatable(kafka: Mapping[str, str]) -> None:
    """Raise ConfigurationError for the first property that the worker's client cannot honour."""
    for name in sorted(kafka):
        if name in _WHAT_THE_WORKER_DOES:
            _refuse_another_behaviour(name, kafka[name])
        elif name not in _FAUST_NAMES and name not in _SECURITY_NAMES:
            raise ConfigurationError(
                f"{_variable(name)}: the worker's client has nothing like `{name}`. {_remedy(name)}"
            )


# --- TLS -------------------------------------------------------------------------------------------------------------


def ssl_context(kafka: Mapping[str, str]) -> ssl.SSLContext:
    """Build the TLS context that librdkafka would use for the same properties."""
    context = _context_with_authorities(kafka)
    _load_own_certificate(context, kafka)
    if suites := kafka.get("ssl.cipher.suites"):
        _try("ssl.cipher.suites", lambda: context.set_ciphers(suites))
    if kafka.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if kafka.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _context_with_authorities(kafka: Mapping[str, str]) -> ssl.SSLContext:
    location, pem = kafka.get("ssl.ca.location"), kafka.get("ssl.ca.pem")
    if location == "probe":  # librdkafka's word for "wherever this system keeps them", which is our default too
        location = None
    where = {"capath": location} if location and os.path.isdir(location) else {"cafile": location}
    name = "ssl.ca.location" if location else "ssl.ca.pem"
    return _try(name, lambda: ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=pem, **where))


def _load_own_certificate(context: ssl.SSLContext, kafka: Mapping[str, str]) -> None:
    certificate, key = kafka.get("ssl.certificate.location"), kafka.get("ssl.key.location")
    if key and not certificate:
        raise ConfigurationError(
            f"{_variable('ssl.key.location')} names a key without a certificate. "
            f"Set {_variable('ssl.certificate.location')} as well."
        )
    if certificate:
        password = kafka.get("ssl.key.password", "")  # never None: OpenSSL would ask on the terminal
        _try("ssl.certificate.location", lambda: context.load_cert_chain(certificate, key, password))


def _try(name: str, action: Callable[[], _T]) -> _T:
    try:
        return action()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigurationError(
            f"{_variable(name)} cannot be used: {error}. Check that the file exists, is PEM and is readable."
        ) from error


# --- who we are ------------------------------------------------------------------------------------------------------


def _protocol(kafka: Mapping[str, str]) -> str:
    protocol = kafka.get("security.protocol", "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        raise ConfigurationError(
            f"{_variable('security.protocol')} is {protocol!r}. Write one of: {', '.join(_PROTOCOLS)}."
        )
    _refuse_unused(kafka, _SSL_NAMES, protocol.endswith("SSL"), "SSL or SASL_SSL")
    _refuse_unused(kafka, _SASL_NAMES, protocol.startswith("SASL"), "SASL_SSL or SASL_PLAINTEXT")
    return protocol


def _refuse_unused(kafka: Mapping[str, str], names: frozenset[str], used: bool, protocols: str) -> None:
    if not used and (unused := sorted(names & kafka.keys())):
        raise ConfigurationError(
            f"{_variable(unused[0])} has no effect with this security.protocol. "
            f"Set {_variable('security.protocol')} to {protocols}, or remove it."
        )


def _mechanism(kafka: Mapping[str, str]) -> str | None:
    if not _protocol(kafka).startswith("SASL"):
        return None
    mechanism = kafka.get("sasl.mechanism", kafka.get("sasl.mechanisms", "GSSAPI")).upper()  # librdkafka's default
    if mechanism not in (*_PASSWORD_MECHANISMS, "GSSAPI"):
        raise ConfigurationError(
            f"{_variable('sasl.mechanism')} is {mechanism}, which the worker cannot speak. "
            f"Use one of: {', '.join(_PASSWORD_MECHANISMS)}, GSSAPI; or TLS client certificates with security.protocol=SSL."
        )
    return mechanism


def _username_and_password(kafka: Mapping[str, str]) -> tuple[str, str]:
    for name in ("sasl.username", "sasl.password"):
        if not kafka.get(name):
            raise ConfigurationError(f"{_variable(name)} is missing. Set it, or name a file in {_variable(name)}_FILE.")
    return kafka["sasl.username"], kafka["sasl.password"]


def _kerberos_service(kafka: Mapping[str, str]) -> str:
    if importlib.util.find_spec("gssapi") is None:
        raise ConfigurationError("GSSAPI on the worker needs the package gssapi. Run: pip install gssapi")
    return kafka.get("sasl.kerberos.service.name", "kafka")


# --- everything else -------------------------------------------------------------------------------------------------


def _converted(name: str, text: str, convert: Callable[[str], object]) -> object:
    try:
        return convert(text)
    except ValueError:
        raise ConfigurationError(
            f"{_variable(name)} is {text!r}. Write a whole number of milliseconds or bytes."
        ) from None


def _check_timeouts(chosen: Mapping[str, Any]) -> None:
    """Refuse what Faust would refuse later, in the operator's own words."""
    session_s = chosen["broker_session_timeout"]
    if chosen["broker_heartbeat_interval"] >= session_s:
        raise ConfigurationError(
            f"{_variable('heartbeat.interval.ms')} is not below the session timeout of {session_s:g} s. Use a third of it."
        )
    if chosen.get("broker_request_timeout", 90.0) <= session_s:
        raise ConfigurationError(
            f"{_variable('socket.timeout.ms')} is not above the session timeout of {session_s:g} s. "
            "Raise it, or lower WAIT_FOR_ME_SESSION_TIMEOUT_MS."
        )


def _refuse_another_behaviour(name: str, value: str) -> None:
    same = _WHAT_THE_WORKER_DOES[name]
    if value.lower() not in same:
        raise ConfigurationError(
            f"{_variable(name)} is {value!r}, but the worker's guarantees rest on {' or '.join(sorted(same))}. Remove it."
        )


def _remedy(name: str) -> str:
    return _REMEDY_BY_NAME.get(name, "Remove it from the worker's environment; clients and executors may keep it.")


def _variable(name: str) -> str:
    return "WAIT_FOR_ME_KAFKA_" + name.upper().replace(".", "_")
