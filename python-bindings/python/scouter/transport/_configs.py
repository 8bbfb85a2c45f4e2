"""The configurations, which are Rust's; their types are in the stub beside this file."""

from __future__ import annotations

from scouter._scouter import GrpcConfig, HttpConfig, KafkaConfig, RabbitMQConfig, RedisConfig, TransportType

__all__ = ["GrpcConfig", "HttpConfig", "KafkaConfig", "RabbitMQConfig", "RedisConfig", "TransportType"]
