"""What is asked about monitoring records and profiles, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum
from os import PathLike
from pathlib import Path
from typing import Any, cast

from scouter.client._tables import Rows, text_of
from scouter.errors import ConfigError

__all__ = [
    "BinnedMetric",
    "BinnedMetricStats",
    "BinnedMetrics",
    "BinnedPsiFeatureMetrics",
    "BinnedPsiMetric",
    "BinnedSpcFeatureMetrics",
    "DriftRequest",
    "DriftType",
    "GetProfileRequest",
    "ProfileStatusRequest",
    "RecordEntity",
    "RecordKind",
    "RecordKinds",
    "RecordPoint",
    "RecordSeries",
    "RecordsResponse",
    "Service",
    "Services",
    "SpcDriftFeature",
    "SqlResult",
    "TimeInterval",
]


class DriftType(Enum):
    """Kinds of profiles."""

    Spc = "Spc"
    Psi = "Psi"
    Custom = "Custom"
    GenAI = "GenAI"
    Agent = "Agent"


class TimeInterval(Enum):
    """How far back a question about drift looks."""

    FifteenMinutes = "FifteenMinutes"
    ThirtyMinutes = "ThirtyMinutes"
    OneHour = "OneHour"
    FourHours = "FourHours"
    SixHours = "SixHours"
    TwelveHours = "TwelveHours"
    TwentyFourHours = "TwentyFourHours"
    SevenDays = "SevenDays"
    Custom = "Custom"


@dataclass
class DriftRequest:
    """Which records, in how many bins.

    Args:
        uid: The profile's.
        space: The profile's; the uid alone decides.
        time_interval: How far back; not looked at where both times are given.
        max_data_points: Bins at most, 1 to 10,000.
        start_datetime: Not before, with `end_datetime`; a time without a zone is in UTC.
        end_datetime: Before this.
    """

    uid: str
    space: str = ""
    time_interval: TimeInterval | str = TimeInterval.TwentyFourHours
    max_data_points: int = 100
    start_datetime: datetime | None = None
    end_datetime: datetime | None = None

    def _parameters(self) -> list[tuple[str, str]]:
        interval = self.time_interval.value if isinstance(self.time_interval, TimeInterval) else self.time_interval
        given = {
            "uid": self.uid,
            "time_interval": interval,
            "max_data_points": str(self.max_data_points),
            "start_custom_datetime": text_of(self.start_datetime),
            "end_custom_datetime": text_of(self.end_datetime),
        }
        return [(name, value) for name, value in given.items() if value is not None]


@dataclass(frozen=True)
class BinnedMetricStats:
    """A metric in one bin of time."""

    avg: float
    lower_bound: float
    upper_bound: float


@dataclass(frozen=True)
class BinnedMetric:
    """A metric over time, latest bin first."""

    metric: str
    created_at: list[datetime]
    stats: list[BinnedMetricStats]


@dataclass(frozen=True)
class BinnedMetrics:
    """Metrics over time, by name."""

    metrics: dict[str, BinnedMetric]

    def __getitem__(self, key: str) -> BinnedMetric | None:
        return self.metrics.get(key)


@dataclass(frozen=True)
class SpcDriftFeature:
    """A feature's means over time, latest bin first."""

    created_at: list[datetime]
    values: list[float]


@dataclass(frozen=True)
class BinnedSpcFeatureMetrics:
    """Features over time, by name."""

    features: dict[str, SpcDriftFeature]


@dataclass(frozen=True)
class BinnedPsiMetric:
    """A feature's stability index over time, latest bin first."""

    created_at: list[datetime]
    psi: list[float]
    overall_psi: float
    bins: dict[int, float]


@dataclass(frozen=True)
class BinnedPsiFeatureMetrics:
    """Features over time, by name."""

    features: dict[str, BinnedPsiMetric]


@dataclass
class GetProfileRequest:
    """Which profile."""

    name: str
    space: str
    version: str
    drift_type: DriftType | str


@dataclass
class ProfileStatusRequest:
    """Which profile, and whether it is active."""

    name: str
    space: str
    version: str
    drift_type: DriftType | str
    active: bool
    deactivate_others: bool = False


def profile_body(profile: object, set_active: bool, deactivate_others: bool) -> dict[str, Any]:
    """What registers a profile: an object with ``model_dump_json()``, a dict, JSON, or a path to JSON."""
    dump = getattr(profile, "model_dump_json", None)
    if callable(dump):
        text = str(dump())
    elif isinstance(profile, Mapping):
        text = json.dumps(cast("Mapping[str, Any]", profile))
    elif isinstance(profile, PathLike):
        text = Path(cast("PathLike[str]", profile)).read_text(encoding="utf-8")
    elif isinstance(profile, str):
        text = profile
    else:
        raise ConfigError(f"a profile is an object with model_dump_json(), a dict, JSON or a path, not {type(profile).__name__}")
    try:
        drift_type = json.loads(text)["config"]["drift_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError("a profile is JSON with a config that has a drift_type") from error
    return {"drift_type": drift_type, "profile": text, "active": set_active, "deactivate_others": deactivate_others}


def _nanos(value: str) -> datetime:
    seconds, nanos = divmod(int(value), 1_000_000_000)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=nanos // 1000)


@dataclass(frozen=True)
class RecordEntity:
    """An entity that has records of a kind."""

    entity: str
    row_count: int
    first_unix_nano: int
    last_unix_nano: int
    names: list[str]


@dataclass(frozen=True)
class RecordKind:
    """A kind of records, and whose there are."""

    kind: str
    table: str
    row_count: int
    entities: list[RecordEntity]


@dataclass(frozen=True)
class RecordKinds(Rows):
    """Every kind of records."""

    kinds: list[RecordKind]
    _ITEM = RecordKind

    def __getitem__(self, kind: str) -> RecordKind:
        """The kind of that name."""
        return next(each for each in self.kinds if each.kind == kind)

    def _items(self) -> list[RecordKind]:
        return self.kinds


@dataclass(frozen=True)
class RecordPoint:
    """Records of one interval. What their kind does not have is None."""

    name: str
    start_time: datetime
    count: int | None
    mean: float | None
    min: float | None
    max: float | None
    sum: float | None
    passed: int | None
    bins: dict[int, int] | None


@dataclass(frozen=True)
class RecordSeries:
    """Records of one feature, metric, task or status over time."""

    name: str
    points: list[RecordPoint]

    @classmethod
    def _read(cls, value: Mapping[str, Any]) -> RecordSeries:
        name = str(value["name"])
        return cls(name, [_point(name, point) for point in value["points"]])


def _point(name: str, point: Mapping[str, Any]) -> RecordPoint:
    bins = point.get("bins")
    numbers = {key: point.get(key) for key in ("count", "mean", "min", "max", "sum", "passed")}
    counts = None if bins is None else {int(each["bin_id"]): int(each["bin_count"]) for each in bins}
    return RecordPoint(name=name, start_time=_nanos(point["start_unix_nano"]), bins=counts, **numbers)


@dataclass(frozen=True)
class RecordsResponse(Rows):
    """Records of one entity: as series, and for evaluations, tasks and workflows the newest rows as they are stored.

    As a table it is the points of all series.
    """

    kind: str
    entity: str
    bucket_nano: int
    series: list[RecordSeries]
    records: list[dict[str, Any]]
    _ITEM = RecordPoint

    def _items(self) -> list[RecordPoint]:
        return [point for series in self.series for point in series.points]


@dataclass(frozen=True)
class Service:
    """A service that has spans."""

    service: str
    span_count: int
    error_count: int
    first_unix_nano: int
    last_unix_nano: int

    @classmethod
    def _read(cls, value: Mapping[str, Any]) -> Service:
        return cls(
            value["service"],
            value["span_count"],
            value["error_count"],
            int(value["first_seen_unix_nano"]),
            int(value["last_seen_unix_nano"]),
        )


@dataclass(frozen=True)
class Services(Rows):
    """Services that have spans, by name."""

    services: list[Service]
    _ITEM = Service

    def _items(self) -> list[Service]:
        return self.services


@dataclass(frozen=True)
class SqlResult:
    """Rows of an answer to SQL. Binaries are hexadecimal text; `sql_arrow` keeps every type."""

    columns: list[str]
    types: list[str]
    rows: list[list[Any]]
    elapsed_ms: float

    def to_dicts(self) -> list[dict[str, Any]]:
        """Gives each row as a dict.

        Returns:
            The rows.
        """
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]
