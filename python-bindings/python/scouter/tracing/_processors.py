"""Processors of ours: the one that hands ended spans to Rust, and the one that fills in defaults at a span's start."""

# Each of the two leaves out what of `__new__` is the other's.
# pyright: reportInconsistentConstructor=false

from __future__ import annotations

import logging
from collections.abc import Mapping

from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.util.types import AnyValue

from scouter import _scouter
from scouter.tracing._fork import renew_in_child
from scouter.transport import TransportConfig

__all__ = ["DefaultsProcessor", "DestinationProcessor", "GrpcSpanProcessor"]

_logger = logging.getLogger("scouter")

ENTITY_KEY = "scouter.entity"
"""Every attribute that names an entity starts so."""

ACTIVE_ENTITY_BAGGAGE = "scouter.active.entity_uid"


class GrpcSpanProcessor(_scouter.SpanProcessor, sdk.SpanProcessor):
    """Encodes each ended span to OTLP bytes and queues them; Rust delivers them without the interpreter's lock.

    `on_end` costs the ending thread the encoding and nothing else: it does no I/O, waits for nothing and raises nothing.
    A span that does not fit in the queue is dropped and counted, see `stats`.

    It can be added to any SDK provider with `add_span_processor`.

    Args:
        transport_config: Server and credentials. From the environment if omitted.
        max_queue_size: See `BatchConfig`.
        scheduled_delay_ms: See `BatchConfig`.
        max_export_batch_size: See `BatchConfig`.
        max_queue_bytes: See `BatchConfig`.
        default_entity_key: An attribute key that is left out of spans which name another entity.

    Raises:
        ConfigError: If a setting is wrong.
    """

    def __init__(
        self,
        transport_config: TransportConfig | None = None,
        *,
        max_queue_size: int | None = None,
        scheduled_delay_ms: int | None = None,
        max_export_batch_size: int | None = None,
        max_queue_bytes: int | None = None,
        default_entity_key: str | None = None,
    ) -> None:
        # The settings have been read by `__new__`.
        renew_in_child(self)


class DestinationProcessor(_scouter.SpanProcessor, sdk.SpanProcessor):
    """A second destination with a queue, a connection and an account of its own. One that is slow or gone costs the first nothing.

    Args:
        transport_config: A Scouter server, or
        otlp: an OTLP server.
        max_queue_size: See `BatchConfig`.
        scheduled_delay_ms: See `BatchConfig`.
        max_export_batch_size: See `BatchConfig`.
        max_queue_bytes: See `BatchConfig`.
        sample_ratio: Share of the recorded traces that goes there.

    Raises:
        ConfigError: If a setting is wrong.
    """

    def __init__(
        self,
        transport_config: TransportConfig | None = None,
        *,
        otlp: _scouter.OtlpTarget | None = None,
        max_queue_size: int | None = None,
        scheduled_delay_ms: int | None = None,
        max_export_batch_size: int | None = None,
        max_queue_bytes: int | None = None,
        sample_ratio: float | None = None,
    ) -> None:
        # The settings have been read by `__new__`.
        self.name = "a second Scouter server" if otlp is None else otlp.endpoint
        renew_in_child(self)


class DefaultsProcessor(sdk.SpanProcessor):
    """Sets default attributes at the start of a span, where the span does not have them already.

    Args:
        attributes: The defaults. A value given to the span, at its start or later, wins.
        entity_uid: Set as ``scouter.entity.<uid>`` unless the span names an entity, or baggage does.
    """

    def __init__(self, attributes: Mapping[str, AnyValue], entity_uid: str | None = None) -> None:
        self._attributes = dict(attributes)
        self._entity_uid = entity_uid
        self._entity_key = f"{ENTITY_KEY}.{entity_uid}"

    def on_start(self, span: sdk.Span, parent_context: Context | None = None) -> None:
        """Fills in what is missing. Never raises."""
        try:
            present = span.attributes or {}
            missing = {key: value for key, value in self._attributes.items() if key not in present}
            if (
                self._entity_uid is not None
                and not any(key.startswith(ENTITY_KEY) for key in present)
                and baggage.get_baggage(ACTIVE_ENTITY_BAGGAGE, parent_context) is None
            ):
                missing[self._entity_key] = self._entity_uid
            if missing:
                span.set_attributes(missing)
        except Exception:
            _logger.warning("default attributes were not set on a span", exc_info=True)
