"""A RabbitMQ of a test's own, killed at the end; its data stays in its folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import free_port, wait_until

# A new queue outlives a kill this much later: the decision to make it is in the broker's memory for up to two seconds after it said that
# it is there, and all that it confirmed goes with it.
DEFINITION_SECONDS = 2.5

# Debian's own start script changes to another user; this is what it starts.
_FOLDERS = f"/usr/lib/rabbitmq/bin{os.pathsep}{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"


@contextlib.contextmanager
def running_rabbitmq(folder: Path, port: int) -> Iterator[None]:
    """The broker on this port, with its user guest."""
    programs = [shutil.which(name, path=_FOLDERS) for name in ("epmd", "rabbitmq-server")]
    if None in programs:
        pytest.fail("there is no rabbitmq-server; scripts/setup.sh installs it", pytrace=False)
    names = free_port()
    (folder / "rabbitmq.conf").write_text("vm_memory_high_watermark.absolute = 512MB\ndisk_free_limit.absolute = 10MB\n")
    (folder / "plugins").write_text("[].\n")
    settings = {
        "HOME": str(folder),
        "ERL_EPMD_PORT": str(names),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
    }
    commands = [[str(programs[0]), "-port", str(names), "-address", "127.0.0.1"], [str(programs[1])]]
    log = folder / "broker.log"
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("ab") as output:
            for command in commands:
                # Each is a group with what it starts.
                process = subprocess.Popen(
                    command,
                    env={**os.environ, **settings},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                processes.append(process)
        wait_until(lambda: _answers(port), 120, f"RabbitMQ is up; its log is {log}")
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    """Whether it speaks AMQP already: its port is open some time before."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
        probe.sendall(b"AMQP\x00\x00\x09\x01")
        return bool(probe.recv(1))
    return False
