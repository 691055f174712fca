"""librdkafka's property names on the worker's client: translated, agreed with, or refused by name; never dropped."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaProducer
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from wait_for_me.errors import ConfigurationError
from wait_for_me_app.kafka_translation import auth_settings, broker_urls, faust_settings, refuse_untranslatable
from wait_for_me_app.settings import Settings

SCRAM = {
    "security.protocol": "sasl_ssl",
    "sasl.mechanisms": "SCRAM-SHA-512",
    "sasl.username": "me",
    "sasl.password": "secret",
}


def settings(**properties: str) -> Settings:
    return Settings(bootstrap_servers="k1:9092,k2:9092", kafka={k.replace("_", "."): v for k, v in properties.items()})


def refusal(properties: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        faust_settings(Settings(kafka=properties))
    return str(caught.value)


def test_a_plaintext_cluster_needs_no_credentials() -> None:
    """Without properties there are the addresses and the session timeout, and nothing that could surprise."""
    chosen = faust_settings(settings())
    assert chosen["broker"] == "kafka://k1:9092;kafka://k2:9092"
    assert chosen["broker_session_timeout"] == 10.0
    assert chosen["broker_heartbeat_interval"] == 1.0
    assert "broker_credentials" not in chosen
    assert auth_settings(settings()) == {"security_protocol": "PLAINTEXT"}


def test_faust_takes_every_setting_that_is_handed_to_it() -> None:
    """A name that Faust does not know would be an error only when a worker starts."""
    everything = settings(
        client_id="c",
        group_instance_id="g",
        heartbeat_interval_ms="1000",
        max_poll_interval_ms="300000",
        socket_timeout_ms="60000",
        metadata_max_age_ms="5000",
        connections_max_idle_ms="600000",
        compression_type="lz4",
        max_partition_fetch_bytes="2000000",
    )
    app = faust.App("x", **faust_settings(everything), autodiscover=False)
    assert app.conf.broker_client_id == "c"
    assert app.conf.broker_request_timeout == app.conf.producer_request_timeout == 60.0
    assert app.conf.consumer_group_instance_id == "g"
    assert app.conf.consumer_connections_max_idle_ms == 600_000
    assert app.conf.producer_compression_type == "lz4"
    assert [str(url) for url in app.conf.broker] == ["kafka://k1:9092", "kafka://k2:9092"]


def test_the_scheme_of_the_transport_can_be_another() -> None:
    """The worker's own transport registers under a name of its own; a protocol before the host is not part of it."""
    assert broker_urls("PLAINTEXT://a:1,[::1]:2", scheme="lanes") == "lanes://a:1;lanes://[::1]:2"


def test_a_password_login_over_tls_becomes_fausts_credentials() -> None:
    """What Faust then hands to aiokafka equals what aiokafka gets from us directly."""
    chosen = Settings(kafka=SCRAM)
    credentials = faust_settings(chosen)["broker_credentials"]
    assert isinstance(credentials, faust.SASLCredentials)
    through_faust, direct = dict(credentials_to_aiokafka_auth(credentials)), auth_settings(chosen)
    contexts = through_faust.pop("ssl_context"), direct.pop("ssl_context")
    assert all(isinstance(one, ssl.SSLContext) and one.check_hostname for one in contexts)
    assert through_faust == direct
    assert direct["sasl_mechanism"] == "SCRAM-SHA-512"
    assert direct["sasl_plain_password"] == "secret"


async def test_aiokafka_takes_the_direct_settings() -> None:
    """The keyword names are aiokafka's own; building a client checks them without a broker."""
    producer = AIOKafkaProducer(bootstrap_servers="localhost:1", **auth_settings(Settings(kafka=SCRAM)))
    assert producer.client._sasl_mechanism == "SCRAM-SHA-512"
    await producer.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate with its key, in two files."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    try:
        subprocess.run([*command, "-passout", "pass:open", *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no `openssl` on the PATH to make a certificate with")
    return folder


def test_client_certificates_and_authorities_are_loaded(certificate: Path) -> None:
    """TLS without SASL: the certificate is who we are."""
    kafka = {
        "security.protocol": "SSL",
        "ssl.ca.location": str(certificate / "cert.pem"),
        "ssl.certificate.location": str(certificate / "cert.pem"),
        "ssl.key.location": str(certificate / "key.pem"),
        "ssl.key.password": "open",
    }
    credentials = faust_settings(Settings(kafka=kafka))["broker_credentials"]
    assert isinstance(credentials, faust.SSLCredentials)
    assert credentials.context.get_ca_certs()
    assert credentials.context.verify_mode == ssl.CERT_REQUIRED


def test_a_key_with_a_wrong_password_is_refused_and_nobody_is_asked_for_it(certificate: Path) -> None:
    """OpenSSL would ask on the terminal, and a service would hang there."""
    kafka = {
        "security.protocol": "SSL",
        "ssl.certificate.location": str(certificate / "cert.pem"),
        "ssl.key.location": str(certificate / "key.pem"),
    }
    assert "WAIT_FOR_ME_KAFKA_SSL_CERTIFICATE_LOCATION cannot be used" in refusal(kafka)


def test_authorities_may_be_a_folder_a_text_or_the_systems(certificate: Path) -> None:
    """`ssl.ca.location` and `ssl.ca.pem` mean what they mean to librdkafka."""
    text = (certificate / "cert.pem").read_text()
    for name, value in (("ssl.ca.location", str(certificate)), ("ssl.ca.location", "probe"), ("ssl.ca.pem", text)):
        context = auth_settings(Settings(kafka={"security.protocol": "ssl", name: value}))["ssl_context"]
        assert context.check_hostname
    assert context.get_ca_certs()


def test_checks_are_switched_off_only_by_the_property_that_says_so() -> None:
    """Name check and certificate check have one property each."""
    named = auth_settings(Settings(kafka={"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": "none"}))
    assert (named["ssl_context"].check_hostname, named["ssl_context"].verify_mode) == (False, ssl.CERT_REQUIRED)
    off = auth_settings(Settings(kafka={"security.protocol": "SSL", "enable.ssl.certificate.verification": "false"}))
    assert off["ssl_context"].verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"ssl.crl.location": "/crl"}, "WAIT_FOR_ME_KAFKA_SSL_CRL_LOCATION: the worker's client has nothing like"),
        ({"ssl.keystore.location": "/store"}, "Export it to PEM"),
        ({"ssl.certificate.pem": "x"}, "WAIT_FOR_ME_KAFKA_SSL_CERTIFICATE_LOCATION"),
        ({"sasl.oauthbearer.method": "oidc"}, "sasl.oauthbearer.method"),
        ({"linger.ms": "50"}, "clients and executors may keep it"),
        ({"partitioner": "consistent_random"}, "rest on murmur2 or murmur2_random"),
        ({"acks": "1"}, "rest on -1 or all"),
        ({"isolation.level": "read_uncommitted"}, "rest on read_committed"),
        ({"security.protocol": "tls"}, "Write one of: PLAINTEXT, SSL"),
        ({"ssl.ca.location": "/ca.pem"}, "has no effect with this security.protocol"),
        ({"sasl.username": "me"}, "SASL_SSL or SASL_PLAINTEXT"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}, "which the worker cannot speak"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}, "SASL_USERNAME is missing"),
        ({"security.protocol": "SASL_SSL"}, "pip install gssapi"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/no/such.pem"}, "Check that the file exists"),
        ({"security.protocol": "SSL", "ssl.key.location": "/k"}, "a key without a certificate"),
        ({"security.protocol": "SSL", "ssl.cipher.suites": "nonsense"}, "SSL_CIPHER_SUITES cannot be used"),
        ({"heartbeat.interval.ms": "soon"}, "Write a whole number"),
        ({"heartbeat.interval.ms": "10000"}, "not below the session timeout"),
        ({"socket.timeout.ms": "10000"}, "not above the session timeout"),
    ],
)
def test_what_the_worker_cannot_honour_stops_it_by_name(properties: dict[str, str], said: str) -> None:
    """A dropped property is a check that everybody believes in and nobody makes."""
    assert said in refusal(properties)


def test_properties_that_ask_for_what_the_worker_does_anyway_are_welcome() -> None:
    """One environment may serve the client, the executor and the worker."""
    refuse_untranslatable({"acks": "all", "partitioner": "murmur2_random", "enable.auto.commit": "false"})


def test_importing_the_translation_loads_neither_faust_nor_aiokafka() -> None:
    """The command line imports it, and must answer at once."""
    script = "import sys, wait_for_me_app.kafka_translation; print({'faust', 'aiokafka'} & set(sys.modules))"
    done: Any = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
