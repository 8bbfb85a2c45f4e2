"""The exporter for those who keep the SDK's own processors."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from scouter import _scouter
from scouter.errors import ScouterError
from scouter.transport import GrpcConfig

__all__ = ["GrpcSpanExporter"]

_logger = logging.getLogger("scouter")


class GrpcSpanExporter(_scouter.SpanExporter, SpanExporter):
    """Sends batches of spans to a Scouter server; for `BatchSpanProcessor`, `SimpleSpanProcessor` and the like.

    `export` answers with what became of the batch: logging in, retries and a fresh login are inside it, within the
    configuration's deadline. The interpreter's lock is not held while it waits.

    Building one needs no network. After a fork it works in the child as well.

    Args:
        transport_config: Server and credentials. From the environment if omitted.

    Raises:
        ConfigError: If a setting is wrong.
    """

    def __init__(self, transport_config: GrpcConfig | None = None) -> None:
        from scouter.tracing._fork import renew_in_child

        renew_in_child(self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends `spans` and waits for the server's answer.

        Args:
            spans: Ended spans.

        Returns:
            ``SUCCESS`` when the server has stored every one of them, ``FAILURE`` otherwise; the reason is logged.
        """
        try:
            self.send(spans)
        except ScouterError as error:
            _logger.error("spans not delivered: %d; %s", len(spans), error)
            return SpanExportResult.FAILURE
        except Exception:
            _logger.exception("spans not delivered: %d", len(spans))
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Returns whether nothing was left in flight: every `export` waits for its own outcome.

        Args:
            timeout_millis: Time to wait for exports running on other threads.

        Returns:
            True when none runs any more.
        """
        return super().force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 5000) -> None:
        """Closes the connection. Later exports fail. Calling it again does nothing.

        Args:
            timeout_millis: The longest it waits for running exports.
        """
        super().shutdown(timeout_millis)
