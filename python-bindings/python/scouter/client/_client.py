"""`ScouterClient`: what a Scouter server has stored, as typed objects."""

# pandas and pyarrow bring no types that pyright reads.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownParameterType=false

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

from typing_extensions import Self

from scouter.client import _calls as calls
from scouter.client._http import arguments, came, checked, content_by, failed, failures, httpx_module, left, settings, time_limits
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

__all__ = ["ScouterClient"]

_T = TypeVar("_T")


class ScouterClient:
    """Asks a Scouter server, over HTTP, and waits for its answers.

    It logs in when the first question is asked, renews its token before that ends, and asks once more where a token was refused.
    Threads may share it, and a forked child uses connections of its own. Needs ``httpx``: ``pip install 'scouter-otel[client]'``.

    Args:
        config: Where the server is and who asks. From the environment if omitted, see `HttpConfig`.

    Raises:
        ConfigError: If a setting is wrong.
        ScouterError: If httpx is not installed.
    """

    def __init__(self, config: HttpConfig | None = None) -> None:
        self._config = checked(config)
        httpx_module()
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._session = Session(self._config)
        self._lock = threading.Lock()
        self._http: _httpx.Client = httpx_module().Client(**settings(self._config))

    def get_paginated_traces(self, filters: TraceFilters) -> TracePaginationResponse:
        """Lists traces, latest first.

        Args:
            filters: Which ones, and how many a page.

        Returns:
            A page of them.
        """
        return self._ask(calls.traces(filters))

    def iter_traces(self, filters: TraceFilters | None = None) -> Iterator[TraceListItem]:
        """Goes through all traces, latest first, page by page.

        Args:
            filters: Which ones.

        Yields:
            Each trace.
        """
        asked = filters or TraceFilters()
        while True:
            page = self.get_paginated_traces(asked)
            yield from page.items
            if page.next_cursor is None:
                return
            asked = asked.at(page.next_cursor)

    def get_trace_spans(self, trace_id: str, service_name: str | None = None) -> TraceSpansResponse:
        """Gets the spans of a trace, however old it is.

        Args:
            trace_id: 32 hexadecimal digits.
            service_name: Only spans of this service.

        Returns:
            The spans, depth first; none if the trace is not known.
        """
        return self._ask(calls.spans(trace_id, service_name))

    def get_trace_spans_from_filters(self, filters: TraceFilters) -> TraceSpansResponse:
        """Gets the spans of the latest trace that passes.

        Args:
            filters: Which traces.

        Returns:
            The spans, depth first.
        """
        return self._ask(calls.spans_of_filters(filters))

    def get_trace_spans_by_tags(
        self, tags: Mapping[str, str], *, match_all: bool = False, service_name: str | None = None
    ) -> TraceSpansResponse:
        """Gets the spans of all traces that have tags.

        Args:
            tags: Keys and values.
            match_all: Whether a trace needs all of them rather than one.
            service_name: Only spans of this service.

        Returns:
            The spans, trace by trace.
        """
        return self._ask(calls.spans_of_tags(tags, match_all, service_name))

    def get_trace_baggage(self, trace_id: str) -> TraceBaggageResponse:
        """Gets the baggage that came with the spans of a trace.

        Args:
            trace_id: 32 hexadecimal digits.

        Returns:
            Its entries.
        """
        return self._ask(calls.baggage(trace_id))

    def get_trace_metrics(self, request: TraceMetricsRequest) -> TraceMetricsResponse:
        """Counts traces over time, with their durations and failures.

        Args:
            request: Which traces, in which intervals.

        Returns:
            The intervals in which traces began.
        """
        return self._ask(calls.metrics(request))

    def get_services(self, start: datetime | str | None = None, end: datetime | str | None = None) -> Services:
        """Lists the services that have spans.

        Args:
            start: Not before; also ``"now-1h"``.
            end: Before this.

        Returns:
            The services, by name.
        """
        return self._ask(calls.services(start, end))

    def get_tags(self, entity_type: str, entity_id: str) -> TagsResponse:
        """Gets the tags of an entity.

        Args:
            entity_type: ``"trace"``, or what the tags were given to.
            entity_id: Its id.

        Returns:
            The tags.
        """
        return self._ask(calls.tags(entity_type, entity_id))

    def insert_tags(self, tags: Iterable[TagRecord]) -> bool:
        """Gives tags to entities. A key that an entity has already gets the new value.

        Args:
            tags: At most 1000.

        Returns:
            True; they are stored.
        """
        return self._ask(calls.insert_tags(tags))

    def get_entities_by_tags(self, entity_type: str, tags: Mapping[str, str], *, match_all: bool = False) -> list[str]:
        """Finds entities that have tags.

        Args:
            entity_type: What kind of entities.
            tags: Keys and values.
            match_all: Whether an entity needs all of them rather than one.

        Returns:
            Their ids.
        """
        return self._ask(calls.entities_of_tags(entity_type, tags, match_all))

    def get_record_kinds(self, start: datetime | str | None = None, end: datetime | str | None = None) -> RecordKinds:
        """Tells which kinds of monitoring records there are, and whose.

        Args:
            start: Not before; also ``"now-1h"``.
            end: Before this.

        Returns:
            Every kind.
        """
        return self._ask(calls.record_kinds(start, end))

    def get_records(
        self,
        kind: Literal["psi", "spc", "custom", "eval", "observability", "task", "workflow"],
        entity: str,
        *,
        names: Sequence[str] = (),
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        bucket: str | None = None,
    ) -> RecordsResponse:
        """Gets the records of an entity over time.

        Args:
            kind: ``"psi"``, ``"spc"``, ``"custom"``, ``"eval"``, ``"observability"``, ``"task"`` or ``"workflow"``.
            entity: The profile's uid.
            names: Only these features, metrics or tasks.
            start: Not before; also ``"now-1h"``.
            end: Before this.
            bucket: Length of an interval, such as ``"1m"``.

        Returns:
            The records as series.
        """
        return self._ask(calls.records(kind, entity, names, start, end, bucket))

    def get_binned_drift(self, drift_request: DriftRequest, drift_type: DriftType | str) -> calls.Drift:
        """Gets the records of a profile in bins of time, as Scouter draws them.

        Args:
            drift_request: Whose, and how many bins.
            drift_type: The profile's kind.

        Returns:
            `BinnedSpcFeatureMetrics`, `BinnedPsiFeatureMetrics`, or `BinnedMetrics` for all other kinds.
        """
        return self._ask(calls.drift(drift_request, drift_type))

    def get_genai_task_binned_drift(self, drift_request: DriftRequest) -> BinnedMetrics:
        """Gets the results of evaluation tasks in bins of time.

        Args:
            drift_request: Whose, and how many bins.

        Returns:
            The tasks.
        """
        return self._ask(calls.tasks(drift_request))

    def register_profile(self, profile: object, set_active: bool = False, deactivate_others: bool = False) -> bool:
        """Makes a profile known to the server.

        Args:
            profile: An object with ``model_dump_json()``, a dict, JSON, or a path to JSON.
            set_active: Whether it is active.
            deactivate_others: Whether other versions of it become inactive.

        Returns:
            True; it is registered.
        """
        return self._ask(calls.register_profile(profile, set_active, deactivate_others))

    def update_profile_status(self, request: ProfileStatusRequest) -> bool:
        """Makes a profile active or inactive.

        Args:
            request: Which, and what it becomes.

        Returns:
            True; it is so.
        """
        return self._ask(calls.profile_status(request))

    def download_profile(self, request: GetProfileRequest, path: Path | None = None) -> str:
        """Writes a profile into a file, for `ScouterQueue.from_path`.

        Args:
            request: Which.
            path: Where to; ``<name>.json`` in this folder if omitted.

        Returns:
            The file's path.
        """
        target = path or Path(f"{Path(request.name).name}.json")
        target.write_text(calls.profile_text(self._ask(calls.profile(request))), encoding="utf-8")
        return str(target)

    def sql(self, query: str) -> SqlResult:
        """Asks in SQL, over spans and records; see the server's document of its HTTP API.

        Args:
            query: A ``SELECT``.

        Returns:
            Its rows.
        """
        return self._ask(calls.sql(query))

    def sql_arrow(self, query: str) -> _pa.Table:
        """Asks in SQL, with columns in their own types. ``to_pandas()`` of what it gives makes a data frame.

        Args:
            query: A ``SELECT``.

        Returns:
            The table.
        """
        table: _pa.Table = self._ask(calls.sql_arrow(query))
        return table

    def close(self) -> None:
        """Logs out and closes the connections. Never raises."""
        if self._pid == os.getpid():
            with contextlib.suppress(ScouterError):
                self._drive(self._session.farewell())
        self._http.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Closes it."""
        self.close()

    def __repr__(self) -> str:
        """Whom it asks; no secrets."""
        return f"ScouterClient({self._config!r})"

    def _ask(self, call: Call[_T]) -> _T:
        if self._pid != os.getpid():
            # What the parent has open is the parent's.
            self._renew()
        return self._drive(self._session.steps(call))

    def _drive(self, steps: Generator[Step, Came, _T]) -> _T:
        result: Came = None
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                value: _T = end.value
                return value
            result = None
            if isinstance(step, Request):
                result = self._send(step)
            elif isinstance(step, Pause):
                time.sleep(step.seconds)
            else:
                if not self._lock.acquire(timeout=left(step.deadline)):
                    raise self._session.too_late()
                try:
                    self._drive(self._session.authentication(step))
                finally:
                    self._lock.release()

    def _send(self, request: Request) -> Answer | Failed:
        limits = time_limits(request.deadline)
        try:
            with self._http.stream(request.method, request.target, extensions=limits, **arguments(request)) as answer:
                return came(answer, content_by(request.deadline, answer))
        except failures() as error:
            return failed(error)
