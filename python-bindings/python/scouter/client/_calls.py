"""Every question, once for both clients."""

# pandas and pyarrow bring no types that pyright reads.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from scouter.client._records import (
    BinnedMetrics,
    BinnedPsiFeatureMetrics,
    BinnedSpcFeatureMetrics,
    DriftRequest,
    DriftType,
    GetProfileRequest,
    ProfileStatusRequest,
    RecordKinds,
    RecordsResponse,
    Services,
    SqlResult,
    profile_body,
)
from scouter.client._session import Answer, Call, quoted
from scouter.client._tables import needed, parsed, text_of
from scouter.client._traces import (
    TagRecord,
    TagsResponse,
    TraceBaggageResponse,
    TraceFilters,
    TraceMetricsRequest,
    TraceMetricsResponse,
    TracePaginationResponse,
    TraceSpansResponse,
)

_T = TypeVar("_T")
Drift = BinnedMetrics | BinnedPsiFeatureMetrics | BinnedSpcFeatureMetrics

_DRIFT: dict[DriftType, tuple[str, type[Any]]] = {
    DriftType.Spc: ("spc", BinnedSpcFeatureMetrics),
    DriftType.Psi: ("psi", BinnedPsiFeatureMetrics),
    DriftType.Custom: ("custom", BinnedMetrics),
    DriftType.GenAI: ("agent/workflow", BinnedMetrics),
    DriftType.Agent: ("agent/workflow", BinnedMetrics),
}


def _reads(of: type[_T]) -> Callable[[Answer], _T]:
    return lambda answer: parsed(of, answer.json())


def _is_done(answer: Answer) -> bool:
    return answer.status < 300


def traces(filters: TraceFilters) -> Call[TracePaginationResponse]:
    return Call("POST", "/scouter/trace/paginated", _reads(TracePaginationResponse), body=filters._body())


def spans(trace_id: str, service_name: str | None) -> Call[TraceSpansResponse]:
    given = [("trace_id", trace_id)] + ([] if service_name is None else [("service_name", service_name)])
    return Call("GET", "/scouter/trace/spans", _reads(TraceSpansResponse), given)


def spans_of_filters(filters: TraceFilters) -> Call[TraceSpansResponse]:
    return Call("POST", "/scouter/trace/spans/filters", _reads(TraceSpansResponse), body=filters._body())


def spans_of_tags(tags: Mapping[str, str], match_all: bool, service_name: str | None) -> Call[TraceSpansResponse]:
    body = {
        "entity_type": "trace",
        "tag_filters": [{"key": key, "value": value} for key, value in tags.items()],
        "match_all": match_all,
        "service_name": service_name,
    }
    return Call("POST", "/scouter/trace/spans/tags", _reads(TraceSpansResponse), body=body)


def baggage(trace_id: str) -> Call[TraceBaggageResponse]:
    return Call("GET", "/scouter/trace/baggage", _reads(TraceBaggageResponse), [("trace_id", trace_id)])


def metrics(request: TraceMetricsRequest) -> Call[TraceMetricsResponse]:
    return Call("POST", "/scouter/trace/metrics", _reads(TraceMetricsResponse), body=request._body())


def services(start: datetime | str | None, end: datetime | str | None) -> Call[Services]:
    return Call("GET", "/api/v1/services", _reads(Services), _range(start, end))


def tags(entity_type: str, entity_id: str) -> Call[TagsResponse]:
    return Call("GET", "/scouter/tags", _reads(TagsResponse), [("entity_type", entity_type), ("entity_id", entity_id)])


def insert_tags(tags: Iterable[TagRecord]) -> Call[bool]:
    body = {"tags": [{"entity_type": t.entity_type, "entity_id": t.entity_id, "key": t.key, "value": t.value} for t in tags]}
    # Of a tag's values the latest counts, so that the same one twice is the same.
    return Call("POST", "/scouter/tags", _is_done, body=body)


def entities_of_tags(entity_type: str, tags: Mapping[str, str], match_all: bool) -> Call[list[str]]:
    pairs = [{"key": key, "value": value} for key, value in tags.items()]
    body = {"entity_type": entity_type, "tags": pairs, "match_all": match_all}
    return Call("POST", "/scouter/tags/entity", lambda answer: list(answer.json()["entity_id"]), body=body)


def record_kinds(start: datetime | str | None, end: datetime | str | None) -> Call[RecordKinds]:
    return Call("GET", "/api/v1/records", _reads(RecordKinds), _range(start, end))


def records(
    kind: str, entity: str, names: Sequence[str], start: datetime | str | None, end: datetime | str | None, bucket: str | None
) -> Call[RecordsResponse]:
    given = [("entity", entity), *(("name", name) for name in names), *_range(start, end)]
    if bucket is not None:
        given.append(("bucket", bucket))
    return Call("GET", f"/api/v1/records/{quoted(kind)}", _reads(RecordsResponse), given)


def drift(request: DriftRequest, drift_type: DriftType | str) -> Call[Drift]:
    path, of = _DRIFT[DriftType(drift_type)]
    return Call("GET", f"/scouter/drift/{path}", _reads(of), request._parameters())


def tasks(request: DriftRequest) -> Call[BinnedMetrics]:
    return Call("GET", "/scouter/drift/agent/task", _reads(BinnedMetrics), request._parameters())


def register_profile(profile: object, set_active: bool, deactivate_others: bool) -> Call[bool]:
    return Call("POST", "/scouter/profile", _is_done, body=profile_body(profile, set_active, deactivate_others))


def profile_status(request: ProfileStatusRequest) -> Call[bool]:
    body = {
        "space": request.space,
        "name": request.name,
        "version": request.version,
        "active": request.active,
        "drift_type": DriftType(request.drift_type).value,
        "deactivate_others": request.deactivate_others,
    }
    return Call("PUT", "/scouter/profile/status", _is_done, body=body)


def profile(request: GetProfileRequest) -> Call[Mapping[str, Any]]:
    kind = DriftType(request.drift_type).value
    given = [("space", request.space), ("name", request.name), ("version", request.version), ("drift_type", kind)]
    return Call("GET", "/scouter/profile", lambda answer: dict(answer.json()[kind]), given)


def sql(query: str) -> Call[SqlResult]:
    return Call("POST", "/api/v1/sql", _reads(SqlResult), body={"query": query})


def sql_arrow(query: str) -> Call[Any]:
    # Before anything is asked.
    needed("pyarrow")

    def read(answer: Answer) -> Any:
        import pyarrow.ipc

        with pyarrow.ipc.open_stream(answer.content) as stream:
            return stream.read_all()

    kind = "application/vnd.apache.arrow.stream"
    return Call("POST", "/api/v1/sql", read, body={"query": query, "format": "arrow"}, accept=kind)


def _range(start: datetime | str | None, end: datetime | str | None) -> list[tuple[str, str]]:
    given = {"start": text_of(start), "end": text_of(end)}
    return [(name, value) for name, value in given.items() if value is not None]


def profile_text(profile: Mapping[str, Any]) -> str:
    """A profile as Scouter's ``save_to_json`` writes it."""
    return json.dumps(profile, indent=2, ensure_ascii=False)
