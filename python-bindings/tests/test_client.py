"""`ScouterClient` and its asynchronous twin against the real server: what was sent is told, as objects, frames and tables."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.server
import inspect
import json
import subprocess
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

import pytest
from opentelemetry.trace import Link, SpanContext, StatusCode

import scouter
from conftest import REPOSITORY, Server, free_port, running_server
from scouter import AsyncScouterClient, Features, GrpcConfig, Metrics, ScouterClient, ScouterQueue
from scouter.client import (
    BinnedMetrics,
    BinnedPsiFeatureMetrics,
    BinnedSpcFeatureMetrics,
    DriftRequest,
    DriftType,
    GetProfileRequest,
    ProfileStatusRequest,
    TagRecord,
    TimeInterval,
    TraceFilters,
    TraceMetricsRequest,
    _session,
)
from scouter.client._session import Answer, Authenticate, Call, Failed, Pause, Request, Session, _Held
from scouter.errors import AuthenticationError, ConfigError, NotFoundError, RequestError, ScouterError, UnavailableError
from scouter.tracing import ScouterTracer, flush_tracer, init_tracer
from scouter.transport import HttpConfig

PROFILES = REPOSITORY / "exporter" / "tests" / "fixtures" / "scouter-0.25"


@pytest.fixture
def config(server: Server) -> HttpConfig:
    return HttpConfig(f"http://127.0.0.1:{server.http_port}", "guest", "guest")


@pytest.fixture
def client(config: HttpConfig) -> Iterator[ScouterClient]:
    with ScouterClient(config) as client:
        yield client


@pytest.fixture
def service(server: Server) -> str:
    """Three traces: the latest has two spans, one of them failed."""
    name = f"asked-{uuid.uuid4()}"
    tracer = cast(ScouterTracer, init_tracer(name, transport_config=server.config()))
    for number in range(2):
        tracer.start_span("early", attributes={"number": number}).end()
    with tracer.start_as_current_span(
        "root", links=[Link(SpanContext(3, 4, True), {"why": "retry"})], tags={"env": "prod", "run": name}, baggage={"tenant": "blue"}
    ) as root:
        root.set_input({"q": "é"})  # type: ignore[attr-defined]
        with tracer.start_as_current_span("leaf", attributes={"share": 0.5, "ok": True, "big": 1 << 60, "names": ["a", "b"]}) as leaf:
            leaf.add_event("tried", {"attempt": 1})
            leaf.set_status(StatusCode.ERROR, "did not work")
    assert flush_tracer(10)
    return name


def test_traces_are_listed_page_by_page(client: ScouterClient, service: str) -> None:
    filters = TraceFilters(service_name=service, limit=2)
    page = client.get_paginated_traces(filters)
    assert (len(page), page.has_next, page.has_previous) == (2, True, False)
    latest = page.items[0]
    assert (latest.root_operation, latest.span_count, latest.has_errors, latest.error_count) == ("root", 2, True, 1)
    assert latest.start_time.tzinfo is timezone.utc
    assert {a.key: a.value for a in latest.resource_attributes}["service.name"] == service
    assert page.next_cursor is not None
    rest = client.get_paginated_traces(filters.at(page.next_cursor))
    assert (len(rest), rest.has_next, rest.has_previous) == (1, False, True)
    assert rest.previous_cursor is not None
    back = client.get_paginated_traces(filters.at(rest.previous_cursor, "previous"))
    assert [trace.trace_id for trace in back] == [trace.trace_id for trace in page]
    assert [trace.trace_id for trace in client.iter_traces(filters)] == [t.trace_id for t in [*page.items, *rest.items]]
    assert [trace.root_operation for trace in client.iter_traces(TraceFilters(service_name=service, has_errors=True))] == ["root"]
    (service_row,) = [row for row in client.get_services().services if row.service == service]
    assert (service_row.span_count, service_row.error_count) == (4, 1)


def test_a_trace_is_told_whole(client: ScouterClient, service: str) -> None:
    spans = client.get_trace_spans_from_filters(TraceFilters(service_name=service))
    root, leaf = spans
    assert ([span.span_name for span in spans], leaf.depth, leaf.path) == (["root", "leaf"], 1, [root.span_id, leaf.span_id])
    assert (root.input, leaf.status_code, leaf.status_message, leaf.parent_span_id) == ({"q": "é"}, 2, "did not work", root.span_id)
    assert {a.key: a.value for a in leaf.attributes} == {"share": 0.5, "ok": True, "big": 1 << 60, "names": ["a", "b"]}
    assert [(event.name, event.attributes[0].key) for event in leaf.events] == [("tried", "attempt")]
    assert [(link.span_id, link.attributes[0].value) for link in root.links] == [(f"{4:016x}", "retry")]
    assert leaf.end_time - leaf.start_time == timedelta(microseconds=leaf.duration_nano // 1000) or leaf.duration_nano % 1000
    assert spans.get_span_by_name("leaf") is leaf
    assert spans.get_span_by_name("none") is None
    assert [span.span_id for span in client.get_trace_spans(root.trace_id)] == [root.span_id, leaf.span_id]
    assert len(client.get_trace_spans(root.trace_id, "another")) == 0
    assert len(client.get_trace_spans("0" * 31 + "1")) == 0
    client.get_trace_baggage(root.trace_id)
    assert client.get_trace_spans_by_tags({"run": service}).spans == spans.spans
    assert client.get_trace_spans_by_tags({"run": service, "env": "test"}, match_all=True).spans == []


def test_tables_have_columns_and_types(client: ScouterClient, service: str) -> None:
    import pyarrow as pa

    spans = client.get_trace_spans_from_filters(TraceFilters(service_name=service))
    frame = spans.to_pandas()
    assert list(frame["span_name"]) == ["root", "leaf"]
    assert frame["attributes"][1]["big"] == 1 << 60
    assert str(frame["start_time"].dtype).endswith("UTC]")
    table = spans.to_arrow()
    assert table.schema.field("start_time").type == pa.timestamp("us", tz="UTC")
    assert table.schema.field("path").type == pa.list_(pa.string())
    assert json.loads(table["attributes"][1].as_py())["names"] == ["a", "b"]
    assert json.loads(table["events"][1].as_py())[0]["attributes"] == {"attempt": 1}
    nothing = client.get_paginated_traces(TraceFilters(service_name="nobody"))
    assert list(nothing.to_pandas().columns) == nothing.to_arrow().column_names
    assert client.get_paginated_traces(TraceFilters(service_name=service)).to_arrow().num_rows == 3


def test_traces_are_counted_over_time(client: ScouterClient, service: str) -> None:
    now = datetime.now(timezone.utc)
    asked = TraceMetricsRequest(now - timedelta(hours=1), now + timedelta(hours=1), "5 minutes", service_name=service)
    metrics = client.get_trace_metrics(asked)
    assert sum(bucket.trace_count for bucket in metrics.metrics) == 3
    assert max(bucket.error_rate for bucket in metrics.metrics) > 0
    assert metrics.to_pandas()["trace_count"].sum() == 3


def test_tags_are_given_and_found(client: ScouterClient, service: str) -> None:
    trace_id = client.get_trace_spans_from_filters(TraceFilters(service_name=service)).spans[0].trace_id
    assert {tag.key: tag.value for tag in client.get_tags("trace", trace_id).tags} == {"env": "prod", "run": service}
    assert client.insert_tags([TagRecord("trace", trace_id, "env", "test"), TagRecord("model", service, "stage", "canary")])
    assert client.insert_tags([TagRecord("model", service, "stage", "live")])
    assert {tag.key: tag.value for tag in client.get_tags("trace", trace_id).tags}["env"] == "test"
    assert [(tag.entity_type, tag.value) for tag in client.get_tags("model", service).tags] == [("model", "live")]
    assert client.get_entities_by_tags("trace", {"run": service, "env": "test"}, match_all=True) == [trace_id]
    assert client.get_entities_by_tags("trace", {"run": service, "env": "prod"}, match_all=True) == []


def profile(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((PROFILES / f"profile_{kind}.json").read_text())
    made["config"].update(uid=str(uuid.uuid4()), name=f"{kind}-{uuid.uuid4()}")
    return made


def test_records_of_profiles(client: ScouterClient, server: Server, tmp_path: Path) -> None:
    profiles = {kind: profile(kind) for kind in ("spc", "custom", "psi_categorical")}
    assert client.register_profile(profiles["spc"], set_active=True)
    assert client.register_profile(json.dumps(profiles["custom"]))
    file = tmp_path / "psi.json"
    file.write_text(json.dumps(profiles["psi_categorical"]))
    assert client.register_profile(file)

    config = profiles["spc"]["config"]
    spc = GetProfileRequest(config["name"], config["space"], config["version"], DriftType.Spc)
    saved = client.download_profile(spc, tmp_path / "spc.json")
    assert json.loads(Path(saved).read_text())["config"]["uid"] == config["uid"]
    assert client.update_profile_status(ProfileStatusRequest(config["name"], config["space"], config["version"], "Spc", False))

    queues = ScouterQueue.from_profile(profiles, server.config())
    for number in range(30):
        queues["spc"].insert(Features({f"f{n}": float(number) for n in range(8)}))
        queues["custom"].insert(Metrics({"mae": float(number)}))
        queues["psi_categorical"].insert(Features({"region": "us-west-2"}))
    assert queues.flush(10)
    queues.shutdown()

    uids = {kind: profile["config"]["uid"] for kind, profile in profiles.items()}
    kinds = client.get_record_kinds()
    assert uids["spc"] in {entity.entity for entity in kinds["spc"].entities}
    series = client.get_records("spc", uids["spc"], names=["f1"]).series
    assert [one.name for one in series] == ["f1"]
    (point, *_) = series[0].points
    assert (point.count is not None and point.count >= 1, point.bins) == (True, None)
    psi = client.get_records("psi", uids["psi_categorical"])
    assert sum(sum((point.bins or {}).values()) for one in psi.series for point in one.points) == 30
    assert set(psi.to_pandas()["name"]) == {"region"}

    def asked(kind: str) -> DriftRequest:
        return DriftRequest(uids[kind], "cap", TimeInterval.OneHour, 10)

    drift = client.get_binned_drift(asked("spc"), DriftType.Spc)
    assert isinstance(drift, BinnedSpcFeatureMetrics)
    assert len(drift.features["f1"].values) == len(drift.features["f1"].created_at) >= 1
    metrics = client.get_binned_drift(asked("custom"), "Custom")
    assert isinstance(metrics, BinnedMetrics)
    mae = metrics["mae"]
    assert mae is not None
    assert mae.stats[0].lower_bound <= mae.stats[0].avg <= mae.stats[0].upper_bound
    found = client.get_binned_drift(asked("psi_categorical"), DriftType.Psi)
    assert isinstance(found, BinnedPsiFeatureMetrics)
    assert abs(sum(found.features["region"].bins.values()) - 1) < 1e-6
    assert client.get_genai_task_binned_drift(asked("spc")).metrics == {}


def test_sql(client: ScouterClient, service: str) -> None:
    query = f"SELECT name, count(*) AS n FROM spans WHERE service_name = '{service}' GROUP BY name ORDER BY name"
    expected = [{"name": "early", "n": 2}, {"name": "leaf", "n": 1}, {"name": "root", "n": 1}]
    assert client.sql(query).to_dicts() == expected
    table = client.sql_arrow(query)
    assert table.to_pylist() == expected
    with pytest.raises(RequestError, match="SELEC") as raised:
        client.sql("SELEC 1")
    assert (raised.value.status, raised.value.code) == (400, "INVALID_ARGUMENT")
    assert raised.value.suggested_action


def test_the_asynchronous_client_has_every_method_of_the_other(config: HttpConfig, service: str) -> None:
    methods = [name for name in vars(ScouterClient) if not name.startswith("_") and name != "close"]
    assert len(methods) >= 20
    for name in methods:
        ours, theirs = inspect.signature(getattr(AsyncScouterClient, name)), inspect.signature(getattr(ScouterClient, name))
        assert ours.parameters == theirs.parameters, name

    async def ask() -> None:
        async with AsyncScouterClient(config) as client:
            pages = [client.get_paginated_traces(TraceFilters(service_name=service)) for _ in range(20)]
            assert {len(page) for page in await asyncio.gather(*pages)} == {3}
            traces = [trace async for trace in client.iter_traces(TraceFilters(service_name=service, limit=1))]
            assert len(traces) == 3
            spans = await client.get_trace_spans(traces[0].trace_id)
            assert (await client.get_tags("trace", spans.spans[0].trace_id)).tags
            assert (await client.sql("SELECT 1 AS one")).to_dicts() == [{"one": 1}]
            with pytest.raises(NotFoundError, match="check"):
                await client.get_records("nothing", "x")  # type: ignore[arg-type]

    asyncio.run(ask())


class Fickle(http.server.BaseHTTPRequestHandler):
    """A server whose tokens do not last: it says of each what the test wants."""

    log: list[str]
    statuses: list[int]
    life = 3600
    login: str | None = None
    encoding: str | None = None
    drops = False

    def do_GET(self) -> None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        Fickle.log.append(f"{self.path.rpartition('/')[2].partition('?')[0]} {token or self.headers.get('username')}")
        is_login = "/auth/" in self.path
        status = 200 if is_login or not Fickle.statuses else Fickle.statuses.pop(0)
        body = {"token": f"t{len(Fickle.log)}", "expires_in_seconds": Fickle.life} if is_login else {"tags": [], "error": "no", "code": "X"}
        text = json.dumps(body) if Fickle.login is None or not is_login else Fickle.login
        self.send_response(status)
        self.send_header("retry-after", "0")
        if Fickle.encoding is not None:
            self.send_header("content-encoding", Fickle.encoding)
        self.end_headers()
        if Fickle.drops:
            with contextlib.suppress(OSError):
                for _ in range(700):
                    self.wfile.write(b" ")
                    time.sleep(0.1)
        with contextlib.suppress(OSError):
            self.wfile.write(text.encode())

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def fickle() -> Iterator[HttpConfig]:
    Fickle.log, Fickle.statuses, Fickle.life = [], [], 3600
    Fickle.login, Fickle.encoding, Fickle.drops = None, None, False
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fickle) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield HttpConfig(f"http://127.0.0.1:{server.server_address[1]}", "ada", "secret", timeout_secs=5)
        server.shutdown()
        thread.join()


def test_one_login_serves_many_questions_and_a_refused_token_costs_one_more(fickle: HttpConfig) -> None:
    with ScouterClient(fickle) as client:
        Fickle.statuses = [200, 200, 401, 200]
        for _ in range(3):
            client.get_tags("trace", "x")
    assert Fickle.log == ["login ada", "tags t1", "tags t1", "tags t1", "login ada", "tags t5", "logout t5"]


def test_a_token_is_renewed_before_its_end(fickle: HttpConfig) -> None:
    Fickle.life, Fickle.statuses = 0, [200, 200]
    with ScouterClient(fickle) as client:
        client.get_tags("trace", "x")
        client.get_tags("trace", "x")
    assert [line.split()[0] for line in Fickle.log] == ["login", "tags", "login", "tags"]
    Fickle.log, Fickle.life, Fickle.statuses = [], 3600, [200, 200]
    client = ScouterClient(fickle)
    client.get_tags("trace", "x")
    assert client._session._held is not None
    client._session._held = dataclasses.replace(client._session._held, renews_at=0.0)
    client.get_tags("trace", "x")
    assert Fickle.log == ["login ada", "tags t1", "refresh t1", "tags t3"]
    client.close()


def test_threads_share_one_login(fickle: HttpConfig) -> None:
    Fickle.statuses = [200] * 8
    with ScouterClient(fickle) as client:
        threads = [threading.Thread(target=client.get_tags, args=("trace", "x")) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [line for line in Fickle.log if line.startswith("login")] == ["login ada"]


def test_a_busy_server_is_asked_again_until_the_deadline(fickle: HttpConfig) -> None:
    with ScouterClient(fickle) as client:
        Fickle.statuses = [503, 429, 200]
        assert client.get_tags("trace", "x").tags == []
        assert Fickle.statuses == []
    late = HttpConfig(fickle.server_uri, timeout_secs=0.5)
    Fickle.statuses = [503] * 100
    with ScouterClient(late) as client, pytest.raises(UnavailableError, match="come back later"):
        client.get_tags("trace", "x")


@pytest.mark.parametrize("ends_in", ["pause", "attempt"])
def test_a_busy_server_is_named_wherever_the_time_ends(ends_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(_session, "time", types.SimpleNamespace(monotonic=lambda: now))
    session = Session(HttpConfig("http://localhost:1", auth_token="given", timeout_secs=5))
    steps = session.steps(Call("GET", "/x", Answer.json))
    assert isinstance(next(steps), Request)
    assert isinstance(steps.send(Answer(503, {}, b'{"error": "too much to do"}')), Pause)
    if ends_in == "attempt":
        assert isinstance(steps.send(None), Request)
    now += 6
    with pytest.raises(UnavailableError, match=r"come back later.*too much to do"):
        steps.send(None if ends_in == "pause" else Failed(TimeoutError(), was_sent=True))


def test_errors_say_what_to_do(config: HttpConfig, client: ScouterClient, tmp_path: Path) -> None:
    wrong = HttpConfig(config.server_uri, "guest", "no such password")
    with ScouterClient(wrong) as refused, pytest.raises(AuthenticationError, match="SCOUTER_PASSWORD") as raised:
        refused.get_services()
    assert "no such password" not in str(raised.value) + repr(refused)
    with (
        ScouterClient(HttpConfig(config.server_uri, auth_token="stale")) as refused,
        pytest.raises(AuthenticationError, match="auth_token"),
    ):
        refused.get_services()
    nobody = HttpConfig(f"http://127.0.0.1:{free_port()}", timeout_secs=2)
    with ScouterClient(nobody) as alone, pytest.raises(UnavailableError, match="SCOUTER_SERVER_URI"):
        alone.get_services()
    with pytest.raises(RequestError, match="hexadecimal"):
        client.get_trace_spans("no id")
    with pytest.raises(NotFoundError):
        client.download_profile(GetProfileRequest("no", "such", "1.0.0", "Spc"), tmp_path / "x")
    with pytest.raises(ConfigError, match="drift_type"):
        client.register_profile({"config": {}})
    with pytest.raises(TypeError, match="HttpConfig"):
        ScouterClient(GrpcConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "body",
    [
        "<html>",
        "[]",
        "null",
        "{}",
        '{"token": null}',
        '{"token": ""}',
        '{"token": "t", "expires_in_seconds": "soon"}',
        '{"token": "t", "expires_in_seconds": NaN}',
        "[" * 100_000,
    ],
)
def test_a_login_that_is_no_scouter_servers_is_named(body: str, fickle: HttpConfig) -> None:
    Fickle.login = body
    with ScouterClient(fickle) as client, pytest.raises(RequestError, match="is it a Scouter server"):
        client.get_tags("trace", "x")

    async def ask() -> None:
        async with AsyncScouterClient(fickle) as client:
            await client.get_tags("trace", "x")

    with pytest.raises(RequestError, match="is it a Scouter server"):
        asyncio.run(ask())


def test_an_answer_that_is_not_encoded_as_it_says_is_none(fickle: HttpConfig) -> None:
    Fickle.encoding = "gzip"
    with ScouterClient(fickle) as client, pytest.raises(UnavailableError, match="DecodingError"):
        client.get_tags("trace", "x")


def test_the_deadline_is_that_of_the_whole_answer(fickle: HttpConfig) -> None:
    """Each drop is in time by itself; all of them would take more than a minute."""
    Fickle.drops = True
    slow = HttpConfig(fickle.server_uri, auth_token="key", timeout_secs=0.5)
    begun = time.monotonic()
    with ScouterClient(slow) as client, pytest.raises(UnavailableError, match=r"0\.5 s"):
        client.get_tags("trace", "x")

    async def ask() -> None:
        async with AsyncScouterClient(slow) as client:
            await client.get_tags("trace", "x")

    with pytest.raises(UnavailableError, match=r"0\.5 s"):
        asyncio.run(ask())
    assert time.monotonic() - begun < 20


def test_a_login_of_another_thread_is_waited_for_until_the_deadline(fickle: HttpConfig) -> None:
    with ScouterClient(HttpConfig(fickle.server_uri, timeout_secs=0.2)) as client, client._lock, pytest.raises(UnavailableError):
        client.get_tags("trace", "x")


def test_a_token_refused_twice_at_once_is_replaced_once_and_kept_whole() -> None:
    """Two threads had the old token refused; the later one finds the new token, which it leaves as it is."""
    session = Session(HttpConfig("http://localhost:1", "ada", "secret"))
    session._held = _Held("old", time.monotonic() + 100, time.monotonic() + 100)
    call: Call[object] = Call("GET", "/x", Answer.json)
    refused, issued = Answer(401, {}, b"{}"), Answer(200, {}, b'{"token": "new", "expires_in_seconds": 100}')
    threads = [session.steps(call), session.steps(call)]
    for steps in threads:
        assert isinstance(next(steps), Request)
    (first, second) = threads
    wanted = first.send(refused)
    assert isinstance(wanted, Authenticate)
    login = session.authentication(wanted)
    step = next(login)
    # What was refused cannot renew itself.
    assert isinstance(step, Request)
    assert step.target.endswith("/auth/login")
    with pytest.raises(StopIteration):
        login.send(issued)
    late = second.send(refused)
    assert isinstance(late, Authenticate)
    assert list(session.authentication(late)) == []
    for steps in threads:
        again = steps.send(None)
        assert isinstance(again, Request)
        assert again.headers["authorization"] == "Bearer new"
    # And it is known how long it lasts: there is something to log out of.
    assert isinstance(next(session.farewell()), Request)


def test_an_answer_of_another_kind_is_named(fickle: HttpConfig) -> None:
    Fickle.statuses = [200]
    with ScouterClient(fickle) as client, pytest.raises(RequestError, match="is it a Scouter server"):
        client.get_trace_baggage("0" * 32)


def test_a_forked_child_asks_over_connections_of_its_own(
    server: Server, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run_python(
        """
import os
from scouter import ScouterClient
client = ScouterClient()
client.get_services()
child = os.fork()
for _ in range(20):
    client.get_services()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.close()
""",
        env={"SCOUTER_SERVER_URI": f"http://127.0.0.1:{server.http_port}"},
    )
    assert done.returncode == 0, done.stderr


def test_a_server_that_restarts_is_asked_on() -> None:
    with running_server() as first:
        ports = (first.grpc_port, first.http_port, first.otlp_grpc_port)
        client = ScouterClient(HttpConfig(f"http://127.0.0.1:{first.http_port}", "guest", "guest", timeout_secs=2))
        client.get_services()
        token = client._session._held
    with pytest.raises(UnavailableError):
        client.get_services()
    # Its storage is new, and so are its keys: the connections are gone, and the token is worth nothing.
    with running_server(ports):
        assert client.get_services().services == []
        assert client._session._held != token
        client.close()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, client: ScouterClient, service: str) -> None:
    import sys

    page = client.get_paginated_traces(TraceFilters(service_name=service))
    for module in ("pandas", "pyarrow", "httpx"):
        monkeypatch.setitem(sys.modules, module, None)
    for ask, extra in ((page.to_pandas, "pandas"), (page.to_arrow, "pyarrow"), (ScouterClient, "client")):
        with pytest.raises(ScouterError, match=rf"pip install 'scouter-otel\[{extra}\]'"):
            ask()
    monkeypatch.undo()


def test_the_package_does_not_load_the_client_unasked(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_python("import sys, scouter; assert not {'httpx', 'scouter.client', 'pandas', 'pyarrow'} & set(sys.modules)")
    assert done.returncode == 0, done.stderr
    assert scouter.ScouterClient is ScouterClient
