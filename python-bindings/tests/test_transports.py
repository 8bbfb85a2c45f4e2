"""The configurations of `scouter.transport`: where each field comes from, what is refused, what is hidden; one program over each."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator

import pytest

from conftest import Server
from scouter import ConfigError, Metric, Metrics, ScouterQueue
from scouter.tracing import flush_tracer, init_tracer, stats
from scouter.transport import HttpConfig, RabbitMQConfig, RedisConfig, TransportConfig, TransportType

PROFILE = {
    "config": {"sample_size": 1, "space": "s", "name": "n", "version": "1", "uid": str(uuid.uuid4()), "drift_type": "Custom"},
    "metrics": {"mae": 0.0},
}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("there is no redis-server; scripts/setup.sh installs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(folder), "--requirepass", "hidden"]
    with subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while not answers(port):
            assert time.monotonic() < deadline, "Redis does not come up"
            time.sleep(0.05)
        yield f"redis://:hidden@127.0.0.1:{port}"
        process.kill()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def entries(redis: str) -> int:
    port = redis.rpartition(":")[2]
    command = ["redis-cli", "-p", port, "-a", "hidden", "--no-auth-warning", "XLEN", "scouter_monitoring"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def send(config: TransportConfig) -> None:
    """One program: the configuration alone says how."""
    with init_tracer("transports", transport_config=config).start_as_current_span("score"):
        pass
    queue = ScouterQueue.from_profile({"ranker": PROFILE}, config)
    queue["ranker"].insert(Metrics(metrics=[Metric("mae", 0.5)]))
    assert flush_tracer(20), stats()
    assert queue.shutdown().undelivered == 0


def test_spans_and_records_go_over_http(server: Server) -> None:
    before = server.sql("SELECT count(*) AS n FROM custom_drift")[0]["n"]
    send(HttpConfig(f"http://127.0.0.1:{server.http_port}"))
    assert server.sql("SELECT count(*) AS n FROM custom_drift")[0]["n"] == before + 1


def test_spans_and_records_go_to_redis(redis: str) -> None:
    send(RedisConfig(redis))
    assert entries(redis) == 2


def test_settings_come_from_arguments_then_variables_then_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_ADDR", "REDIS_CHANNEL", "REDIS_MODE", "RABBITMQ_ADDR", "RABBITMQ_HOST", "RABBITMQ_PORT", "RABBITMQ_QUEUE"):
        monkeypatch.delenv(name, raising=False)
    assert (RedisConfig().address, RedisConfig().channel, RedisConfig().mode) == ("redis://127.0.0.1:6379", "scouter_monitoring", "stream")
    assert (RabbitMQConfig().host, RabbitMQConfig().port, RabbitMQConfig().queue) == ("localhost", 5672, "scouter_monitoring")
    monkeypatch.setenv("REDIS_ADDR", "rediss://ada:hunter2@redis.example:1")
    monkeypatch.setenv("RABBITMQ_ADDR", "amqps://ada:hunter%322@rabbit.example/blue")
    redis, rabbit = RedisConfig(), RabbitMQConfig("localhost")
    assert redis.address == "rediss://redis.example:1"
    assert (rabbit.host, rabbit.port, rabbit.username, rabbit.virtual_host, rabbit.tls) == ("rabbit.example", 5671, "ada", "blue", True)
    assert (redis.transport_type, rabbit.transport_type) == (TransportType.Redis, TransportType.RabbitMQ)
    for config in (redis, rabbit):
        assert "hunter2" not in repr(config) + str(config)


def test_every_fault_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="address") as raised:
        RedisConfig("http://x:hunter2@y", mode="list", timeout_secs=-1)
    assert "mode" in str(raised.value)
    assert "timeout_secs" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match="plaintext"):
        RedisConfig("redis://:secret@redis.example:6379")
    RedisConfig("redis://:secret@redis.example:6379", insecure=True)
    monkeypatch.delenv("RABBITMQ_ADDR", raising=False)
    with pytest.raises(ConfigError, match="port must be"):
        RabbitMQConfig("rabbit.example", 0)
