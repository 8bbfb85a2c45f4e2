"""`HttpConfig`: spans by OTLP over HTTP, credentials that stay secret, faults named."""

from __future__ import annotations

import uuid

import pytest

from conftest import Server
from scouter import ConfigError
from scouter.tracing import flush_tracer, init_tracer, stats
from scouter.transport import HttpConfig, TransportType


def test_spans_arrive_over_http(server: Server) -> None:
    for token in (None, server.token()):
        service = f"http-{uuid.uuid4()}"
        config = HttpConfig(f"http://127.0.0.1:{server.http_port}", "guest", "guest", token, compression="gzip")
        with init_tracer(service, transport_config=config).start_as_current_span("x", attributes={"a": 1}):
            pass
        assert flush_tracer(10), stats()
        (row,) = server.spans(service)
        assert row["name"] == "x"


def test_wrong_credentials_are_an_account_of_dropped_spans(server: Server) -> None:
    config = HttpConfig(f"http://127.0.0.1:{server.http_port}", "guest", "wrong", timeout_secs=2)
    init_tracer("http", transport_config=config).start_span("x").end()
    assert not flush_tracer(5)
    counters = stats()
    assert (counters["exported"], counters["ended"]) == (0, 1)
    assert "401" in str(counters["last_error"]) or "UNAUTHENTICATED" in str(counters["last_error"]), counters


def test_settings_come_from_arguments_then_variables_then_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCOUTER_SERVER_URI", "SCOUTER_USERNAME", "SCOUTER_PASSWORD", "SCOUTER_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert (HttpConfig().server_uri, HttpConfig().username) == ("http://localhost:8000", "guest")
    monkeypatch.setenv("SCOUTER_SERVER_URI", "https://scouter.example")
    monkeypatch.setenv("SCOUTER_USERNAME", "ada")
    monkeypatch.setenv("SCOUTER_PASSWORD", "hunter2")
    config = HttpConfig()
    assert (config.server_uri, config.username, config.transport_type) == ("https://scouter.example", "ada", TransportType.Http)
    assert HttpConfig("http://localhost:1").server_uri == "http://localhost:1"
    monkeypatch.setenv("SCOUTER_AUTH_TOKEN", "t0ken")
    for secret in ("hunter2", "t0ken"):
        assert secret not in repr(HttpConfig()) + str(HttpConfig())
    assert HttpConfig()._auth_token == "t0ken"
    monkeypatch.setenv("SCOUTER_HTTP_CA_FILE", "/ca.pem")
    assert (HttpConfig().ca_file, HttpConfig(ca_file="/other.pem").ca_file) == ("/ca.pem", "/other.pem")
    monkeypatch.setenv("SCOUTER_SERVER_URI", " ")
    assert HttpConfig().server_uri == "http://localhost:8000"
    assert HttpConfig("localhost:1/scouter/").server_uri == "http://localhost:1/scouter"


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match="server_uri") as raised:
        HttpConfig("ftp://x", timeout_secs=-1, compression="lzma")  # type: ignore[arg-type]
    assert "timeout_secs" in str(raised.value)
    assert "compression" in str(raised.value)
    with pytest.raises(ConfigError, match="plaintext"):
        HttpConfig("http://scouter.example:8000")
    HttpConfig("http://scouter.example:8000", insecure=True)


@pytest.mark.parametrize(
    "address",
    [
        "http://ada:qqqzzz@localhost",
        "http://ada:qqq/zzz@localhost",
        "http://ada:12/zzz@localhost",
        "https://ada:qqq?zzz@localhost",
        "https://localhost/?token=qqq",
        "http://[::1",
    ],
)
def test_a_password_in_the_address_is_refused_and_no_part_of_it_is_shown(address: str) -> None:
    with pytest.raises(ConfigError, match="server_uri") as raised:
        HttpConfig(address)
    assert "qqq" not in str(raised.value)
    assert "zzz" not in str(raised.value)
    config = HttpConfig("http://localhost:1")
    with pytest.raises(ConfigError, match="server_uri"):
        config.server_uri = address
    assert config.server_uri == "http://localhost:1"
