"""GrpcConfig: where each field comes from, what is refused, what is hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scouter import ConfigError, GrpcConfig, ScouterError
from scouter.tracing import BatchConfig
from scouter.transport import TransportType


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRPC_URI", "USERNAME", "PASSWORD", "GRPC_INSECURE", "GRPC_CA_FILE"):
        monkeypatch.delenv(f"SCOUTER_{name}", raising=False)


def test_defaults_are_guest_on_this_machine() -> None:
    config = GrpcConfig()
    assert (config.server_uri, config.username) == ("http://localhost:50051", "guest")
    assert config.timeout_secs == 10.0
    assert config.keep_alive_interval_secs is None
    assert config.insecure is False
    assert config.transport_type == TransportType.Grpc


def test_the_environment_fills_what_is_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOUTER_GRPC_URI", "https://scouter.example:443")
    monkeypatch.setenv("SCOUTER_USERNAME", "ada")
    monkeypatch.setenv("SCOUTER_PASSWORD", "lovelace")
    assert GrpcConfig().server_uri == "https://scouter.example:443"
    assert GrpcConfig().username == "ada"
    assert GrpcConfig(username="grace").username == "grace"


def test_scouters_positional_order() -> None:
    config = GrpcConfig("http://localhost:9090", "ada", "secret", 1.5, 0.5, 20, 3, True)
    assert (config.timeout_secs, config.connect_timeout_secs) == (1.5, 0.5)
    assert (config.keep_alive_interval_secs, config.keep_alive_timeout_secs, config.keep_alive_while_idle) == (20.0, 3.0, True)


def test_the_password_is_never_shown() -> None:
    config = GrpcConfig(password="hunter2", headers={"x-key": "hunter3"})
    config.password = "hunter4"
    assert "***" in repr(config)
    for text in (repr(config), str(config), f"{config}"):
        assert "hunter" not in text
    with pytest.raises(AttributeError):
        _ = config.password


@pytest.mark.parametrize("name", ["timeout_secs", "connect_timeout_secs", "keep_alive_interval_secs", "keep_alive_timeout_secs"])
@pytest.mark.parametrize("seconds", [1e19, 86_401.0])
def test_times_without_end_are_refused(name: str, seconds: Any) -> None:
    with pytest.raises(ConfigError, match=name.removesuffix("_secs")):
        GrpcConfig(**{name: seconds})


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        GrpcConfig("ftp://nowhere", timeout_secs=-1, connect_timeout_secs=float("nan"), compression="lzma")  # type: ignore[arg-type]
    message = str(caught.value)
    for name in ("server_uri", "timeout_secs", "connect_timeout_secs", "compression"):
        assert name in message
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ScouterError)


@pytest.mark.parametrize(
    "settings",
    [
        {"server_uri": "http://user:secret@localhost:1"},
        {"server_uri": "http://scouter.example:50051"},
        {"headers": {"authorization": "x"}},
        {"timeout_secs": 0},
        {"timeout_secs": float("inf")},
    ],
)
def test_what_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        GrpcConfig(**settings)
    assert "secret" not in str(caught.value)


def test_plaintext_to_another_host_must_be_said_out_loud() -> None:
    assert GrpcConfig("http://scouter.example:50051", insecure=True).insecure


def test_a_wrong_change_leaves_the_config_as_it_was() -> None:
    config = GrpcConfig("http://localhost:1")
    with pytest.raises(ConfigError):
        config.server_uri = "ftp://nowhere"
    assert config.server_uri == "http://localhost:1"


def test_a_missing_ca_file_is_a_configuration_error(tmp_path: Path) -> None:
    from scouter.tracing import GrpcSpanExporter

    with pytest.raises(ConfigError, match="ca_file"):
        GrpcSpanExporter(GrpcConfig("https://localhost:1", ca_file=tmp_path / "missing.pem"))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_queue_size": 0},
        {"scheduled_delay_ms": -1},
        {"max_queue_size": 10, "max_export_batch_size": 11},
        {"max_queue_size": "9"},
    ],
)
def test_batch_config_refuses_nonsense(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        BatchConfig(**settings)
