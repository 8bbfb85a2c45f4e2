"""How spans and records travel to a Scouter server."""

from __future__ import annotations

from typing import TypeAlias

from scouter.transport._configs import GrpcConfig, HttpConfig, KafkaConfig, RabbitMQConfig, RedisConfig, TransportType

__all__ = ["GrpcConfig", "HttpConfig", "KafkaConfig", "RabbitMQConfig", "RedisConfig", "TransportConfig", "TransportType"]

TransportConfig: TypeAlias = GrpcConfig | HttpConfig | KafkaConfig | RabbitMQConfig | RedisConfig
"""Any of the configurations: the one line that decides how spans and records travel."""
