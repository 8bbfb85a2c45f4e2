"""A Kafka of a test's own, broker and controller in one process, killed at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import free_port, wait_until

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scouter"


def _java(*arguments: str) -> list[str]:
    """Runs a class of the Kafka that scripts/setup.sh gets."""
    folder = os.environ.get("SCOUTER_KAFKA")
    found = [Path(folder)] if folder else sorted(_CACHE.glob("kafka-*"))
    if not found:
        pytest.fail(f"there is no Kafka in {_CACHE}; scripts/setup.sh gets it", pytrace=False)
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return ["java", *options, "-cp", str(found[-1] / "*"), *arguments]


@contextlib.contextmanager
def running_kafka(folder: Path) -> Iterator[str]:
    """The address of its broker."""
    broker, controller = (f"127.0.0.1:{free_port()}" for _ in range(2))
    properties = folder / "server.properties"
    properties.write_text(
        f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{controller}
listeners=PLAINTEXT://{broker},CONTROLLER://{controller}
advertised.listeners=PLAINTEXT://{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={folder / "data"}
num.partitions=3
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
log.index.size.max.bytes=1048576
"""
    )
    cluster = ["--cluster-id", "4L6g3nShT-eMCtK--X86sw"]
    subprocess.run(_java("kafka.tools.StorageTool", "format", *cluster, "--config", str(properties)), check=True, stdout=subprocess.DEVNULL)
    log = folder / "broker.log"
    with log.open("ab") as output:
        command = _java("kafka.Kafka", str(properties))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        # Those who come before it serves wait for it.
        wait_until(lambda: _is_open(broker), 120, f"Kafka is up; its log is {log}")
        yield broker
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_open(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
