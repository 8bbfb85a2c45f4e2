"""`AsyncScouterClient`: `ScouterClient` for an event loop."""

# pandas and pyarrow bring no types that pyright reads.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from typing_extensions import Self

from scouter.client import _calls as calls
from scouter.client._http import arguments, came, checked, failed, failures, httpx_module, left, settings
from scouter.client._records import (
    BinnedMetrics,
    DriftRequest,
    DriftType,
    GetProfileRequest,
    ProfileStatusRequest,
    RecordKinds,
    RecordsResponse,
    Services,
    SqlResult,
)
from scouter.client._session import Answer, Call, Came, Failed, Pause, Request, Session, Step
from scouter.client._traces import (
    TagRecord,
    TagsResponse,
    TraceBaggageResponse,
    TraceFilters,
    TraceListItem,
    TraceMetricsRequest,
    TraceMetricsResponse,
    TracePaginationResponse,
    TraceSpansResponse,
)
from scouter.errors import ScouterError
from scouter.transport import HttpConfig

if TYPE_CHECKING:
    import httpx as _httpx
    import pyarrow as _pa

__all__ = ["AsyncScouterClient"]

_T = TypeVar("_T")


class AsyncScouterClient:
    """Asks a Scouter server as `ScouterClient` does, without blocking the event loop. Tasks of one loop may share it.

    Args:
        config: Where the server is and who asks. From the environment if omitted, see `HttpConfig`.

    Raises:
        ConfigError: If a setting is wrong.
        ScouterError: If httpx is not installed.
    """

    def __init__(self, config: HttpConfig | None = None) -> None:
        self._config = checked(config)
        self._session = Session(self._config)
        self._lock = asyncio.Lock()
        self._http: _httpx.AsyncClient = httpx_module().AsyncClient(**settings(self._config))

    async def get_paginated_traces(self, filters: TraceFilters) -> TracePaginationResponse:
        """See `ScouterClient.get_paginated_traces`."""
        return await self._ask(calls.traces(filters))

    async def iter_traces(self, filters: TraceFilters | None = None) -> AsyncIterator[TraceListItem]:
        """See `ScouterClient.iter_traces`."""
        asked = filters or TraceFilters()
        while True:
            page = await self.get_paginated_traces(asked)
            for trace in page.items:
                yield trace
            if page.next_cursor is None:
                return
            asked = asked.at(page.next_cursor)

    async def get_trace_spans(self, trace_id: str, service_name: str | None = None) -> TraceSpansResponse:
        """See `ScouterClient.get_trace_spans`."""
        return await self._ask(calls.spans(trace_id, service_name))

    async def get_trace_spans_from_filters(self, filters: TraceFilters) -> TraceSpansResponse:
        """See `ScouterClient.get_trace_spans_from_filters`."""
        return await self._ask(calls.spans_of_filters(filters))

    async def get_trace_spans_by_tags(
        self, tags: Mapping[str, str], *, match_all: bool = False, service_name: str | None = None
    ) -> TraceSpansResponse:
        """See `ScouterClient.get_trace_spans_by_tags`."""
        return await self._ask(calls.spans_of_tags(tags, match_all, service_name))

    async def get_trace_baggage(self, trace_id: str) -> TraceBaggageResponse:
        """See `ScouterClient.get_trace_baggage`."""
        return await self._ask(calls.baggage(trace_id))

    async def get_trace_metrics(self, request: TraceMetricsRequest) -> TraceMetricsResponse:
        """See `ScouterClient.get_trace_metrics`."""
        return await self._ask(calls.metrics(request))

    async def get_services(self, start: datetime | str | None = None, end: datetime | str | None = None) -> Services:
        """See `ScouterClient.get_services`."""
        return await self._ask(calls.services(start, end))

    async def get_tags(self, entity_type: str, entity_id: str) -> TagsResponse:
        """See `ScouterClient.get_tags`."""
        return await self._ask(calls.tags(entity_type, entity_id))

    async def insert_tags(self, tags: Iterable[TagRecord]) -> bool:
        """See `ScouterClient.insert_tags`."""
        return await self._ask(calls.insert_tags(tags))

    async def get_entities_by_tags(self, entity_type: str, tags: Mapping[str, str], *, match_all: bool = False) -> list[str]:
        """See `ScouterClient.get_entities_by_tags`."""
        return await self._ask(calls.entities_of_tags(entity_type, tags, match_all))

    async def get_record_kinds(self, start: datetime | str | None = None, end: datetime | str | None = None) -> RecordKinds:
        """See `ScouterClient.get_record_kinds`."""
        return await self._ask(calls.record_kinds(start, end))

    async def get_records(
        self,
        kind: Literal["psi", "spc", "custom", "eval", "observability", "task", "workflow"],
        entity: str,
        *,
        names: Sequence[str] = (),
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        bucket: str | None = None,
    ) -> RecordsResponse:
        """See `ScouterClient.get_records`."""
        return await self._ask(calls.records(kind, entity, names, start, end, bucket))

    async def get_binned_drift(self, drift_request: DriftRequest, drift_type: DriftType | str) -> calls.Drift:
        """See `ScouterClient.get_binned_drift`."""
        return await self._ask(calls.drift(drift_request, drift_type))

    async def get_genai_task_binned_drift(self, drift_request: DriftRequest) -> BinnedMetrics:
        """See `ScouterClient.get_genai_task_binned_drift`."""
        return await self._ask(calls.tasks(drift_request))

    async def register_profile(self, profile: object, set_active: bool = False, deactivate_others: bool = False) -> bool:
        """See `ScouterClient.register_profile`."""
        return await self._ask(calls.register_profile(profile, set_active, deactivate_others))

    async def update_profile_status(self, request: ProfileStatusRequest) -> bool:
        """See `ScouterClient.update_profile_status`."""
        return await self._ask(calls.profile_status(request))

    async def download_profile(self, request: GetProfileRequest, path: Path | None = None) -> str:
        """See `ScouterClient.download_profile`."""
        target = path or Path(f"{Path(request.name).name}.json")
        target.write_text(calls.profile_text(await self._ask(calls.profile(request))), encoding="utf-8")
        return str(target)

    async def sql(self, query: str) -> SqlResult:
        """See `ScouterClient.sql`."""
        return await self._ask(calls.sql(query))

    async def sql_arrow(self, query: str) -> _pa.Table:
        """See `ScouterClient.sql_arrow`."""
        table: _pa.Table = await self._ask(calls.sql_arrow(query))
        return table

    async def aclose(self) -> None:
        """Logs out and closes the connections. Never raises."""
        with contextlib.suppress(ScouterError):
            await self._drive(self._session.farewell())
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Closes it."""
        await self.aclose()

    def __repr__(self) -> str:
        """Whom it asks; no secrets."""
        return f"AsyncScouterClient({self._config!r})"

    async def _ask(self, call: Call[_T]) -> _T:
        return await self._drive(self._session.steps(call))

    async def _drive(self, steps: Generator[Step, Came, _T]) -> _T:
        result: Came = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                value: _T = end.value
                return value
            result = None
            if isinstance(step, Request):
                result = await self._send(step)
            elif isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
            else:
                try:
                    await asyncio.wait_for(self._lock.acquire(), left(step.deadline))
                except asyncio.TimeoutError as error:
                    raise self._session.too_late() from error
                try:
                    await self._drive(self._session.authentication(step))
                finally:
                    self._lock.release()

    async def _send(self, request: Request) -> Answer | Failed:
        seconds = left(request.deadline)
        try:
            # Each step may take all of the time, and the steps together no more.
            asked = self._http.request(request.method, request.target, timeout=seconds, **arguments(request))
            answer = await asyncio.wait_for(asked, seconds)
            return came(answer, answer.content)
        except asyncio.TimeoutError:
            return failed(httpx_module().ReadTimeout("the answer went on after the deadline"))
        except failures() as error:
            return failed(error)
