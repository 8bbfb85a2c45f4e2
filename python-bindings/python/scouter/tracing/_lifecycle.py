"""What `init_tracer` has installed in this process, and how it ends: flush, shutdown, statistics, exit."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from opentelemetry.sdk import trace as sdk

from scouter import _scouter
from scouter.tracing._fork import at_child_exit, renew_in_child
from scouter.tracing._processors import DefaultsProcessor, DestinationProcessor, GrpcSpanProcessor
from scouter.tracing._provider import ProcessorSlot

__all__ = [
    "EXIT_TIMEOUT_SECS",
    "Installation",
    "ShutdownReport",
    "deliver_on_sigterm",
    "flush_tracer",
    "installations",
    "prepare_exit",
    "shut_down_processors",
    "shutdown_tracer",
    "stats",
]

_logger = logging.getLogger("scouter")

EXIT_TIMEOUT_SECS = 5.0
"""How long the end of the process waits for spans to be delivered."""

_MAX_TIMEOUT_SECS = 86400.0
_THREAD_NAME = "scouter-second-destination"


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


_Native = GrpcSpanProcessor | DestinationProcessor


class _Installations:
    """Every provider of this process that `init_tracer` feeds from; the last one is the current one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._all: list[Installation] = []
        self._exit_arranged = False
        self._retiring: list[GrpcSpanProcessor] = []
        self._retired: dict[str, Any] = {}
        self._is_over = False
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
            private = [i.native for i in self._all if i.mode == "none"]
            self._all = [i for i in self._all if i.mode != "none"]
            self._retiring.extend(p for p in private if p is not None)
            self._is_over = True
        self.retired()

    def retire(self, processors: Sequence[sdk.SpanProcessor]) -> None:
        """Goes on counting processors that another configuration takes the place of. The lock is held.

        When a shutdown came between, the account begins anew.
        """
        if self._is_over:
            self._is_over = False
            self._retiring = []
            self._retired = {}
            return
        self._retiring.extend(p for p in processors if isinstance(p, GrpcSpanProcessor))

    def retired(self) -> None:
        """Keeps the last counts of retired processors that are shut down, and lets go of them."""
        with self.lock:
            done = [p for p in self._retiring if p.is_shut_down]
            self._retiring = [p for p in self._retiring if not p.is_shut_down]
            for processor in done:
                _add(self._retired, processor.stats())

    def stats(self) -> dict[str, Any]:
        with self.lock:
            total = dict(self._retired)
            natives = [*self._retiring, *(i.native for i in self._all)]
            for native in natives:
                if native is not None:
                    _add(total, native.stats())
            return total

    def arrange_exit(self) -> None:
        if not self._exit_arranged:
            self._exit_arranged = True
            atexit.register(_at_exit)
        at_child_exit(_at_exit)

    def _after_fork_in_child(self) -> None:
        self.lock = threading.Lock()
        # The account of this process begins here; what was retired is the parent's.
        self._retiring = []
        self._retired = {}


def _add(total: dict[str, Any], counts: dict[str, Any]) -> None:
    for key, value in counts.items():
        if isinstance(value, int) and isinstance(total.get(key, 0), int):
            total[key] = total.get(key, 0) + value
        elif value is not None or key not in total:
            total[key] = value


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
    return _shut_down_all(timeout, _logger.warning)


def _shut_down_all(timeout: float, tell: Callable[[str], None]) -> ShutdownReport:
    deadline = _deadline(timeout)
    delivered = undelivered = 0
    complete = True
    for installation in installations.all():
        report = shut_down_processors(installation.slot.ours, max(0.0, deadline - time.monotonic()), tell)
        delivered += report.delivered
        undelivered += report.undelivered
        complete &= report.complete
    installations.forget_private()
    return ShutdownReport(delivered, undelivered, complete)


def stats() -> dict[str, int | str | None]:
    """Returns what became of the spans since `init_tracer`, summed over all providers and configurations.

    Calling `init_tracer` again goes on with the account; after `shutdown_tracer` it begins anew.

    Returns:
        Counts by name; ``last_error`` holds the last words of a server or of the network.
    """
    return installations.stats()


def _flush_processors(processors: Sequence[sdk.SpanProcessor], deadline: float) -> bool:
    ours, others = _apart(processors)

    # The SDK's own processors may ignore their timeout; they must not make this wait.
    def flush_others() -> bool:
        return all([p.force_flush(_millis_left(deadline)) is not False for p in others])

    pending = _start(flush_others) if others else None
    # One that is shut down has told what became of its spans, and is not waited for.
    flushed = all([p.force_flush(0) for p in ours if p.is_shut_down])
    flushed &= all(_scouter.flush_together([p for p in ours if not p.is_shut_down], max(0.0, deadline - time.monotonic())))
    return flushed and (pending is None or pending(deadline) is True)


def _apart(processors: Sequence[sdk.SpanProcessor]) -> tuple[list[_Native], list[sdk.SpanProcessor]]:
    """Those whose waits are bounded and in Rust, and those written in Python."""
    ours = [p for p in processors if isinstance(p, (GrpcSpanProcessor, DestinationProcessor))]
    return ours, [p for p in processors if not isinstance(p, (GrpcSpanProcessor, DestinationProcessor, DefaultsProcessor))]


def shut_down_processors(
    processors: Sequence[sdk.SpanProcessor], timeout: float, tell: Callable[[str], None] = _logger.warning
) -> ShutdownReport:
    deadline = _deadline(timeout)
    ours, others = _apart(processors)

    def shut_down_others() -> bool:
        for processor in others:
            processor.shutdown()
        return True

    pending = _start(shut_down_others) if others else None
    delivered = undelivered = 0
    complete = True
    told_before = [processor.is_shut_down for processor in ours]
    reports = _scouter.shut_down_together(ours, max(0.0, deadline - time.monotonic()))
    for processor, report, was_told in zip(ours, reports, told_before, strict=True):
        where = ""
        if isinstance(processor, GrpcSpanProcessor):
            delivered += report["delivered"]
            undelivered += report["undelivered"]
        else:
            where = f" to {processor.name}"
        if not was_told and report["undelivered"]:
            reason = report["last_error"]
            tell(f"spans not delivered{where}: {report['undelivered']}" + (f"; last error: {reason}" if reason else ""))
    if pending is not None and pending(deadline) is not True:
        complete = False
        tell("a second exporter did not shut down in time")
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

    done = threading.Event()

    def run_and_tell() -> None:
        run()
        done.set()

    try:
        threading.Thread(target=run_and_tell, name=_THREAD_NAME, daemon=True).start()
    except RuntimeError:
        # The interpreter is ending and starts no thread any more.
        if not _spare_thread.run(run_and_tell):
            run_and_tell()

    def wait(deadline: float) -> bool | None:
        done.wait(max(0.0, deadline - time.monotonic()))
        return result[0] if result else None

    return wait


class _SpareThread:
    """A thread for the end of the process: from Python 3.12 on none can be started there, and a second exporter may hang."""

    def __init__(self) -> None:
        self._renew()
        renew_in_child(self)

    def _renew(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def keep_ready(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=_THREAD_NAME, daemon=True)
            self._thread.start()

    def run(self, function: Callable[[], None]) -> bool:
        """Gives `function` to the thread. False when there is none."""
        if self._thread is None or not self._thread.is_alive():
            return False
        self._work.put(function)
        return True

    def _serve(self) -> None:
        while True:
            self._work.get()()

    def _after_fork_in_child(self) -> None:
        was_ready = self._thread is not None
        self._renew()
        if was_ready:
            self.keep_ready()


_spare_thread = _SpareThread()


def prepare_exit(processors: Sequence[sdk.SpanProcessor]) -> None:
    """Makes ready for the end of the process whatever these processors need then."""
    if _apart(processors)[1]:
        _spare_thread.keep_ready()


def wants_delivery_on_sigterm(otherwise: bool) -> bool:
    """What ``SCOUTER_FLUSH_ON_SIGTERM`` says.

    Args:
        otherwise: The answer where it says nothing.

    Returns:
        Whether SIGTERM delivers what is queued before it ends the process.
    """
    said = os.environ.get("SCOUTER_FLUSH_ON_SIGTERM", "").strip().lower()
    if said in ("true", "1"):
        return True
    if said in ("false", "0"):
        return False
    if said:
        _logger.warning("SCOUTER_FLUSH_ON_SIGTERM is %r, which is neither true nor false: it counts as unset", said)
    return otherwise


def deliver_on_sigterm() -> None:
    """Delivers what is queued when SIGTERM is about to end the process, for which Python runs nothing; then the signal ends it.

    Who handles the signal himself is left alone.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, _frame: object) -> None:
    # The program may have been interrupted while it held any lock, so another thread does it.
    thread = threading.Thread(target=_at_exit, name=_THREAD_NAME, daemon=True)
    thread.start()
    thread.join(EXIT_TIMEOUT_SECS + 1)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _at_exit() -> None:
    with contextlib.suppress(Exception):
        _shut_down_all(EXIT_TIMEOUT_SECS, _tell_at_exit)


def _tell_at_exit(message: str) -> None:
    # Who has set up logging may look elsewhere than at stderr, where who ends a program looks.
    if _logger.hasHandlers():
        _logger.warning(message)
    if sys.stderr is not None and not _logs_to_stderr():
        with contextlib.suppress(OSError, ValueError):
            print(f"scouter: {message}", file=sys.stderr, flush=True)


def _logs_to_stderr() -> bool:
    logger: logging.Logger | None = _logger
    while logger is not None:
        for handler in logger.handlers:
            if getattr(handler, "stream", None) is sys.stderr and handler.level <= logging.WARNING:
                return _logger.isEnabledFor(logging.WARNING)
        logger = logger.parent if logger.propagate else None
    return False
