"""What `init_tracer` has installed in this process, and how it ends: flush, shutdown, statistics, exit."""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry.sdk import trace as sdk

from scouter.tracing._fork import at_child_exit, renew_in_child
from scouter.tracing._processors import DefaultsProcessor, GrpcSpanProcessor
from scouter.tracing._provider import ProcessorSlot

__all__ = [
    "EXIT_TIMEOUT_SECS",
    "Installation",
    "ShutdownReport",
    "flush_tracer",
    "installations",
    "shut_down_processors",
    "shutdown_tracer",
    "stats",
]

_logger = logging.getLogger("scouter")

EXIT_TIMEOUT_SECS = 5.0
"""How long the end of the process waits for spans to be delivered."""

_MAX_TIMEOUT_SECS = 86400.0


@dataclass(frozen=True)
class ShutdownReport:
    """What became of the spans when the tracer was shut down.

    Args:
        delivered: Spans stored by the server since `init_tracer`.
        undelivered: Spans that ended and are not known to be stored: dropped, refused, failed or still on their way.
        complete: Whether everything stopped in time.
    """

    delivered: int
    undelivered: int
    complete: bool


@dataclass
class Installation:
    """A provider that one pipeline of ours feeds from."""

    mode: Literal["set", "attach", "none"]
    provider: sdk.TracerProvider
    slot: ProcessorSlot

    @property
    def native(self) -> GrpcSpanProcessor | None:
        for processor in self.slot.ours:
            if isinstance(processor, GrpcSpanProcessor):
                return processor
        return None


class _Installations:
    """Every provider of this process that `init_tracer` feeds from; the last one is the current one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._all: list[Installation] = []
        self._exit_arranged = False
        renew_in_child(self)

    def all(self) -> list[Installation]:
        with self.lock:
            return list(self._all)

    def find(self, provider: object) -> Installation | None:
        return next((i for i in self._all if i.provider is provider), None)

    def make_current(self, installation: Installation) -> None:
        self._all = [i for i in self._all if i is not installation] + [installation]

    def current(self) -> Installation | None:
        with self.lock:
            return self._all[-1] if self._all else None

    def forget_private(self) -> None:
        with self.lock:
            self._all = [i for i in self._all if i.mode != "none"]

    def arrange_exit(self) -> None:
        if not self._exit_arranged:
            self._exit_arranged = True
            atexit.register(_at_exit)
        at_child_exit(_at_exit)

    def _after_fork_in_child(self) -> None:
        self.lock = threading.Lock()


installations = _Installations()


def flush_tracer(timeout: float = 5.0) -> bool:
    """Waits until every span that ended before this call is delivered. Other threads go on running.

    Args:
        timeout: The longest it waits, in seconds; more than a day is a day.

    Returns:
        True when the servers have stored every one of them. False when time ran out, or some were refused.
    """
    deadline = _deadline(timeout)
    delivered = True
    for installation in installations.all():
        delivered &= _flush_processors(installation.slot.ours, deadline)
    return delivered


def shutdown_tracer(timeout: float = 5.0) -> ShutdownReport:
    """Delivers what is queued and stops. Spans that end later are dropped and counted. Never raises.

    It may be called again, and `init_tracer` may be called after it.

    Args:
        timeout: The longest it waits, in seconds; more than a day is a day.

    Returns:
        What became of the spans. When some were not delivered, a warning says so as well.
    """
    deadline = _deadline(timeout)
    delivered = undelivered = 0
    complete = True
    for installation in installations.all():
        report = shut_down_processors(installation.slot.ours, max(0.0, deadline - time.monotonic()))
        delivered += report.delivered
        undelivered += report.undelivered
        complete &= report.complete
    installations.forget_private()
    return ShutdownReport(delivered, undelivered, complete)


def stats() -> dict[str, int | str | None]:
    """Returns what became of the spans since `init_tracer`, summed over its providers.

    Returns:
        Counts by name; ``last_error`` holds the last words of a server or of the network.
    """
    total: dict[str, Any] = {}
    for installation in installations.all():
        native = installation.native
        if native is None:
            continue
        for key, value in native.stats().items():
            if isinstance(value, int) and isinstance(total.get(key, 0), int):
                total[key] = total.get(key, 0) + value
            elif value is not None or key not in total:
                total[key] = value
    return total


def _flush_processors(processors: Sequence[sdk.SpanProcessor], deadline: float) -> bool:
    ours = [p for p in processors if isinstance(p, GrpcSpanProcessor)]
    others = [p for p in processors if not isinstance(p, (GrpcSpanProcessor, DefaultsProcessor))]

    # The SDK's own processors may ignore their timeout; they must not make this wait.
    def flush_others() -> bool:
        return all([p.force_flush(_millis_left(deadline)) is not False for p in others])

    pending = _start(flush_others) if others else None
    flushed = all([p.force_flush(_millis_left(deadline)) for p in ours])
    return flushed and (pending is None or pending(deadline) is True)


def shut_down_processors(processors: Sequence[sdk.SpanProcessor], timeout: float) -> ShutdownReport:
    deadline = _deadline(timeout)
    others = [p for p in processors if not isinstance(p, (GrpcSpanProcessor, DefaultsProcessor))]

    def shut_down_others() -> bool:
        for processor in others:
            processor.shutdown()
        return True

    pending = _start(shut_down_others) if others else None
    delivered = undelivered = 0
    complete = True
    for processor in processors:
        if not isinstance(processor, GrpcSpanProcessor):
            continue
        first = not processor.is_shut_down
        report = processor.shutdown_within(max(0.0, deadline - time.monotonic()))
        delivered += report["delivered"]
        undelivered += report["undelivered"]
        if first and report["undelivered"]:
            reason = report["last_error"]
            _logger.warning("spans not delivered: %d%s", report["undelivered"], f"; last error: {reason}" if reason else "")
    if pending is not None and pending(deadline) is not True:
        complete = False
        _logger.warning("a second exporter did not shut down in time")
    return ShutdownReport(delivered, undelivered, complete)


def _deadline(timeout: float) -> float:
    # What is not a number is no time at all; more than a day, infinity included, is a day: threads cannot wait for ever.
    return time.monotonic() + (min(max(timeout, 0.0), _MAX_TIMEOUT_SECS) if timeout == timeout else 0.0)


def _millis_left(deadline: float) -> int:
    return max(0, int((deadline - time.monotonic()) * 1000))


def _start(function: Callable[[], bool]) -> Callable[[float], bool | None]:
    """Runs `function` on a daemon thread; the returned function waits for it, and answers None when time ran out."""
    result: list[bool] = []

    def run() -> None:
        try:
            result.append(function())
        except Exception:
            _logger.warning("a span processor failed", exc_info=True)
            result.append(False)

    thread = threading.Thread(target=run, name="scouter-second-destination", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # The interpreter is ending and starts no thread any more.
        run()
        return lambda _deadline: result[0]

    def wait(deadline: float) -> bool | None:
        thread.join(max(0.0, deadline - time.monotonic()))
        return result[0] if result else None

    return wait


def _at_exit() -> None:
    with contextlib.suppress(Exception):
        shutdown_tracer(EXIT_TIMEOUT_SECS)
