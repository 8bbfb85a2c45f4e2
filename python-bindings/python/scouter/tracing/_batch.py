"""How ended spans wait until they are sent."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

from scouter.errors import ConfigError

__all__ = ["BatchConfig"]

_logger = logging.getLogger("scouter")


@dataclass(frozen=True)
class BatchConfig:
    """Size and pace of the queue between ended spans and the network.

    A field that is ``None`` takes the variable of OpenTelemetry named beside it, or the default.
    The defaults hold a burst of 32768 spans and show a span on the server within half a second.

    Args:
        max_queue_size: Spans held at most; a span that ends while the queue is full is dropped and counted.
            ``OTEL_BSP_MAX_QUEUE_SIZE``, else 32768.
        scheduled_delay_ms: The longest a span waits for others before it is sent. ``OTEL_BSP_SCHEDULE_DELAY``, else 500.
        max_export_batch_size: Spans of one request; reaching it sends at once.
            ``OTEL_BSP_MAX_EXPORT_BATCH_SIZE``, else 512.
        max_queue_bytes: Encoded bytes held at most, whatever the number of spans. 64 MiB by default.

    Raises:
        ConfigError: If a field is not a positive integer, or a batch is larger than the queue.
    """

    max_queue_size: int | None = None
    scheduled_delay_ms: int | None = None
    max_export_batch_size: int | None = None
    max_queue_bytes: int | None = None

    def __post_init__(self) -> None:
        faults: list[str] = []
        for field in ("max_queue_size", "scheduled_delay_ms", "max_export_batch_size", "max_queue_bytes"):
            value: object = getattr(self, field)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**40):
                faults.append(f"{field} must be a positive integer or None, not {value!r}")
        if (
            not faults
            and self.max_queue_size is not None
            and self.max_export_batch_size is not None
            and self.max_export_batch_size > self.max_queue_size
        ):
            faults.append(f"max_export_batch_size ({self.max_export_batch_size}) must not exceed max_queue_size ({self.max_queue_size})")
        if faults:
            raise ConfigError("invalid BatchConfig: " + "; ".join(faults))


def warn_of_unreadable_variables() -> None:
    """Says which variables of the queue are not numbers. OpenTelemetry asks that they count as unset."""
    for name in ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"):
        value = os.environ.get(name, "").strip()
        if value and not value.isdecimal():
            _logger.warning("%s is %r, which is not a number: it counts as unset", name, value)
