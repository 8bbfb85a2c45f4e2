"""Runs other people's tests twice: with OpenTelemetry's SDK, and with our provider in its place.

The source distributions of OpenTelemetry's API and SDK and of the instrumentations below contain their tests. They are
taken from PyPI at the versions that `requirements.txt` names, unpacked beside the build results, and run as they are.
What counts is what the SDK passes: of that, ours must pass `WANTED` of 100, and each test that it does not pass must be
named in `EXCLUSIONS` with the reason. Some tests depend on the time things take: a suite in which ours falls short is run
a second time, alone, and the table says so.

    python run.py --work FOLDER [--only NAME ...]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import subprocess
import sys
import tarfile
import threading
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
WANTED = 99.0
TIMEOUT_SECS = 600


@dataclass(frozen=True)
class Suite:
    """Tests of one distribution."""

    name: str
    distribution: str
    paths: tuple[str, ...] = ("tests",)


SUITES = (
    Suite(
        "API",
        "opentelemetry-api",
        (
            "tests/attributes",
            "tests/baggage",
            "tests/context",
            "tests/propagators",
            "tests/test_implementation.py",
            "tests/trace",
            "tests/util",
        ),
    ),
    Suite("SDK, tracing", "opentelemetry-sdk", ("tests/trace", "tests/context")),
    Suite("ASGI", "opentelemetry-instrumentation-asgi"),
    Suite("FastAPI", "opentelemetry-instrumentation-fastapi"),
    Suite("httpx", "opentelemetry-instrumentation-httpx"),
    Suite("requests", "opentelemetry-instrumentation-requests"),
    Suite("SQLAlchemy", "opentelemetry-instrumentation-sqlalchemy"),
    Suite("asyncio", "opentelemetry-instrumentation-asyncio"),
    Suite("threading", "opentelemetry-instrumentation-threading"),
    Suite("logging", "opentelemetry-instrumentation-logging"),
    Suite("celery", "opentelemetry-instrumentation-celery"),
    Suite("gRPC", "opentelemetry-instrumentation-grpc"),
    Suite("OpenAI", "opentelemetry-instrumentation-openai-v2"),
)

EXCLUSIONS: dict[str, str] = {}
"""Tests that the SDK passes and our provider does not, by ``suite::test``, each with the reason."""


@dataclass
class Outcome:
    """What one run of one suite came to."""

    passed: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    log: str = ""


def pinned(distribution: str) -> str:
    """The version of a distribution, as `requirements.txt` has it."""
    for line in (HERE / "requirements.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if name == distribution:
            return version.strip()
    raise SystemExit(f"{distribution} is not in requirements.txt")


def unpacked(suite: Suite, work: Path) -> Path:
    """The folder of a suite's source, downloaded when it is not there."""
    version = pinned(suite.distribution)
    stem = f"{suite.distribution.replace('-', '_')}-{version}"
    folder = work / stem
    if folder.is_dir():
        return folder
    download = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", str(work)]
    subprocess.run([sys.executable, "-m", *download, f"{suite.distribution}=={version}"], check=True)
    with tarfile.open(work / f"{stem}.tar.gz") as archive:
        archive.extractall(work, filter="data")
    return folder


def run(suite: Suite, folder: Path, work: Path, *, ours: bool) -> Outcome:
    """Runs a suite in a process of its own."""
    report = work / f"{folder.name}-{'ours' if ours else 'sdk'}.xml"
    report.unlink(missing_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "SCOUTER_"))}
    # Some tests start `python`.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    environment["PYTHONPATH"] = str(HERE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    if ours:
        command += ["-p", "plugin"]
    try:
        done = subprocess.run(
            [*command, *suite.paths], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECS, check=False
        )
        log = done.stdout + done.stderr
    except subprocess.TimeoutExpired as late:
        log = f"no end within {TIMEOUT_SECS} s\n{late.stdout!r}"
    outcome = Outcome(log=log)
    if not report.exists():
        return outcome
    unlucky: set[str] = set()
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if any(child.tag in ("failure", "error", "skipped") for child in case):
            unlucky.add(name)
        else:
            outcome.passed.add(name)
    # A test whose parts are reported apart has passed when all of them have.
    outcome.passed -= unlucky
    outcome.others = unlucky
    return outcome


def main() -> int:
    """Runs everything and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where sources and reports are kept")
    parser.add_argument("--only", nargs="*", help="names of suites")
    arguments = parser.parse_args()
    work: Path = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    suites = [suite for suite in SUITES if not arguments.only or suite.name in arguments.only]
    folders = {suite: unpacked(suite, work) for suite in suites}
    # Both runs go on beside each other, but never of the same suite: some listen on a fixed port.
    locks = {suite: threading.Lock() for suite in suites}

    def all_of(order: list[Suite], ours: bool) -> dict[Suite, Outcome]:
        outcomes = {}
        for suite in order:
            with locks[suite]:
                outcomes[suite] = run(suite, folders[suite], work, ours=ours)
        return outcomes

    half = len(suites) // 2
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sdk_run = pool.submit(all_of, suites, False)
        our_run = pool.submit(all_of, suites[half:] + suites[:half], True)
        by_sdk, by_us = sdk_run.result(), our_run.result()

    print(f"{'tests of':14} {'version':>8} {'the SDK passes':>15} {'ours of these':>14}")
    wanted = reached = 0
    unexplained: list[str] = []
    for suite in suites:
        sdk, us = by_sdk[suite], by_us[suite]
        missed = sorted(sdk.passed - us.passed)
        again = ""
        if missed:
            us = run(suite, folders[suite], work, ours=True)
            late = [name for name in missed if name in us.passed]
            missed = [name for name in missed if name not in us.passed]
            again = f"   at the second try: {', '.join(late)}" if late else ""
        wanted += len(sdk.passed)
        reached += len(sdk.passed) - len(missed)
        print(f"{suite.name:14} {pinned(suite.distribution):>8} {len(sdk.passed):>15} {len(sdk.passed) - len(missed):>14}{again}")
        for name in missed:
            reason = EXCLUSIONS.get(f"{suite.name}::{name}")
            print(f"    not passed: {name}: {reason or 'NOT EXPLAINED'}")
            if reason is None:
                unexplained.append(name)
                (work / "last-failure.log").write_text(us.log)
        if not sdk.passed:
            print(sdk.log[-2000:])
            unexplained.append(f"{suite.name}: the SDK passes nothing")
    share = 100.0 * reached / max(wanted, 1)
    print(f"{'together':14} {'':>8} {wanted:>15} {reached:>14}   {share:.1f} %")
    return 0 if not unexplained and share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
