"""Monitoring records: features, metrics and evaluations of a model, counted where they are made and delivered by Rust.

`ScouterQueue` holds one queue a profile. Inserting never raises and never waits for a network: what cannot be used is
counted, logged once to the logger ``scouter``, and told by `ScouterQueue.stats`.
"""

from __future__ import annotations

from scouter._scouter import EntityType, EvalRecord, Feature, Features, Metric, Metrics, Queue
from scouter.queue._features import FeatureMixin, convert_to_features
from scouter.queue._queue import QueueReport, ScouterQueue

__all__ = [
    "EntityType",
    "EvalRecord",
    "Feature",
    "FeatureMixin",
    "Features",
    "Metric",
    "Metrics",
    "Queue",
    "QueueReport",
    "ScouterQueue",
    "convert_to_features",
]
