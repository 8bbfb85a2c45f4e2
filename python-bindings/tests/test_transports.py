"""The configurations of `scouter.transport`: where each field comes from, what is refused, what is hidden; one program over each."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from conftest import Server, free_port, running_server, wait_until
from kafka import running_kafka
from rabbitmq import DEFINITION_SECONDS, running_rabbitmq
from scouter import ConfigError, Metric, Metrics, ScouterQueue
from scouter.tracing import flush_tracer, init_tracer, shutdown_tracer, stats
from scouter.transport import HttpConfig, KafkaConfig, RabbitMQConfig, RedisConfig, TransportConfig, TransportType

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


def send(config: TransportConfig, service: str = "transports") -> None:
    """One program: the configuration alone says how."""
    with init_tracer(service, transport_config=config).start_as_current_span("score"):
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


def test_spans_and_records_go_over_kafka_into_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_USERNAME", raising=False)
    service = f"kafka-{uuid.uuid4()}"
    with running_kafka(tmp_path) as brokers, running_server(options=[f"--kafka-brokers={brokers}"]) as server:
        send(KafkaConfig(brokers=brokers, timeout_secs=60), service)
        wait_until(lambda: len(server.spans(service)) == 1, 60, "the span is stored")
        wait_until(lambda: server.sql("SELECT count(*) AS n FROM custom_drift")[0]["n"] == 1, 30, "the record is stored")


KAFKA_VARIABLES = (
    "KAFKA_BROKERS",
    "KAFKA_USERNAME",
    "KAFKA_KEY",
    "KAFKA_PASSWORD",
    "KAFKA_SECRET",
    "KAFKA_TOPIC",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "SCOUTER_KAFKA_TOPIC",
)


def test_settings_of_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KAFKA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    plain = KafkaConfig()
    assert (plain.brokers, plain.topic, plain.security_protocol, plain.compression_type) == (
        "localhost:9092",
        "scouter_monitoring",
        "PLAINTEXT",
        "gzip",
    )
    assert (plain.transport_type, plain.timeout_secs, plain.message_max_bytes) == (TransportType.Kafka, 10, 1024 * 1024)
    # As Scouter has them: in this order, and TLS with a password unless something else is said.
    scouters = KafkaConfig("ada", "hunter2", "kafka.example:9093", "blue", "lz4", 2_000, 2_097_164)
    assert (scouters.username, scouters.brokers, scouters.topic, scouters.compression_type) == ("ada", "kafka.example:9093", "blue", "lz4")
    assert (scouters.security_protocol, scouters.sasl_mechanism) == ("SASL_SSL", "PLAIN")
    assert (scouters.timeout_secs, scouters.message_max_bytes) == (2, 2_097_164)
    assert KafkaConfig(compression_type="zstd").compression_type == "zstd"
    library = {"bootstrap.servers": "kafka.example:9092", "security.protocol": "SSL", "ssl.ca.location": "/ca.pem"}
    of_library = KafkaConfig(config=library)
    assert (of_library.brokers, of_library.security_protocol, of_library.ca_file) == ("kafka.example:9092", "SSL", "/ca.pem")
    monkeypatch.setenv("KAFKA_KEY", "eve")
    monkeypatch.setenv("KAFKA_SECRET", "hunter2")
    monkeypatch.setenv("KAFKA_SASL_MECHANISM", "scram-sha-256")
    of_variables = KafkaConfig()
    assert (of_variables.username, of_variables.sasl_mechanism) == ("eve", "SCRAM-SHA-256")
    for config in (scouters, of_variables):
        assert "hunter2" not in repr(config) + str(config)


def test_every_fault_of_kafkas_settings_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KAFKA_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="plaintext"):
        KafkaConfig("ada", "hunter2", "kafka.example:9092", security_protocol="SASL_PLAINTEXT")
    with pytest.raises(ConfigError, match=r"batch\.size") as raised:
        KafkaConfig("ada", "", "ada:hunter2@kafka.example", config={"batch.size": "1"}, compression_type="brotli", timeout_secs=-1)  # type: ignore[arg-type]
    for fault in ("brokers", "password", "compression_type", "timeout_secs"):
        assert fault in str(raised.value)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match="brokers") as raised:
        KafkaConfig("ada", "x", "ada:hunter2@kafka.example:9092", security_protocol="SASL_PLAINTEXT")
    assert "hunter2" not in str(raised.value)
    monkeypatch.delenv("RABBITMQ_ADDR", raising=False)
    with pytest.raises(ConfigError, match="host") as raised:
        RabbitMQConfig("ada:hunter2@rabbit.example")
    assert "hunter2" not in str(raised.value)


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
        RedisConfig("http://x:hunter2@y", mode="list", timeout_secs=-1)  # type: ignore[arg-type]
    assert "mode" in str(raised.value)
    assert "timeout_secs" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match="plaintext"):
        RedisConfig("redis://:secret@redis.example:6379")
    RedisConfig("redis://:secret@redis.example:6379", insecure=True)
    monkeypatch.delenv("RABBITMQ_ADDR", raising=False)
    with pytest.raises(ConfigError, match="port must be"):
        RabbitMQConfig("rabbit.example", 0)


@pytest.mark.parametrize(
    "address",
    [
        "redis://ada:qqq/zzz@localhost",
        "redis://ada:12/zzz@localhost",
        "redis://ada:qqq@zzz@localhost/x",
        "redis://:qqqzzz",
        "redis://[::1",
        "http://x:qqqzzz@localhost:port",
        "unix:///x?pass=qqqzzz",
    ],
)
def test_no_part_of_a_password_is_shown_and_what_is_wrong_is_a_configuration_error(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_ADDR", address.replace("redis:", "amqp:"))
    for make in (lambda: RedisConfig(address), RabbitMQConfig):
        try:
            shown = repr(make())
        except ConfigError as error:
            shown = str(error)
        assert "qqq" not in shown
        assert "zzz" not in shown


def test_variables_are_read_as_rust_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RABBITMQ_ADDR", raising=False)
    for variable, value, make in (
        ("REDIS_INSECURE", "yes", RedisConfig),
        ("REDIS_MODE", "list", RedisConfig),
        ("RABBITMQ_INSECURE", "yes", RabbitMQConfig),
        ("RABBITMQ_PORT", "many", RabbitMQConfig),
        ("RABBITMQ_PORT", "0", RabbitMQConfig),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(variable, value)
            with pytest.raises(ConfigError, match=r"true or false|stream or pubsub|port"):
                make()
    monkeypatch.setenv("REDIS_MODE", "PubSub")
    monkeypatch.setenv("REDIS_CA_FILE", "/ca.pem")
    monkeypatch.setenv("RABBITMQ_PORT", " 7 ")
    monkeypatch.setenv("RABBITMQ_QUEUE", " ")
    assert (RedisConfig().mode, RedisConfig().ca_file, RedisConfig(mode="stream").mode) == ("pubsub", "/ca.pem", "stream")
    assert (RabbitMQConfig().port, RabbitMQConfig(port=8).port, RabbitMQConfig().queue) == (7, 8, "scouter_monitoring")
    assert RabbitMQConfig("rabbit.example", tls=True, virtual_host="blue").virtual_host == "blue"
    with pytest.raises(ConfigError, match="timeout"):
        RabbitMQConfig(timeout_secs=86_401)


def test_a16_attempts_at_a_broker_that_is_gone_pause_whatever_max_retries_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RABBITMQ_ADDR", "REDIS_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for config in (
        RabbitMQConfig("127.0.0.1", free_port(), max_retries=0, timeout_secs=1),
        RedisConfig(f"redis://127.0.0.1:{free_port()}", timeout_secs=1),
    ):
        init_tracer("transports", transport_config=config).start_span("x").end()
        used = time.process_time()
        assert not flush_tracer(3)
        # Scouter's goes round as fast as it can, for ever.
        assert time.process_time() - used < 1.5
        assert 0 < cast(int, stats()["retries"]) < 50
        shutdown_tracer(0)


def test_a17_what_rabbitmq_confirmed_outlives_it(tmp_path: Path) -> None:
    service, port = f"rabbit-{uuid.uuid4()}", free_port()
    with running_rabbitmq(tmp_path, port):
        send(RabbitMQConfig("127.0.0.1", port, "guest", "guest", timeout_secs=30), service)
        time.sleep(DEFINITION_SECONDS)
    # Killed, not asked to stop. What was neither durable, persistent nor confirmed is gone.
    with running_rabbitmq(tmp_path, port), running_server(options=[f"--rabbitmq-addr=amqp://guest:guest@127.0.0.1:{port}"]) as server:
        wait_until(lambda: len(server.spans(service)) == 1, 30, "the span is stored")
        wait_until(lambda: server.sql("SELECT count(*) AS n FROM custom_drift")[0]["n"] == 1, 30, "the record is stored")
