"""What a user of the published scouter-ml 0.25.0 does, told over stdin and stdout.

Arguments: the gRPC address, the HTTP address, the folder of the profiles. It prints one JSON object a line and waits for a line in between.
"""

import json
import random
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from scouter import Feature, Features, Metric, Metrics, ScouterQueue
from scouter._scouter import (
    CustomDriftProfile,
    DriftAlertPaginationRequest,
    EvalRecord,
    GenAIEvalProfile,
    PsiDriftProfile,
    SpcDriftProfile,
    TraceFilters,
    TraceMetricsRequest,
)
from scouter.client import (
    DriftRequest,
    GetProfileRequest,
    ProfileStatusRequest,
    ScouterClient,
    TimeInterval,
)
from scouter.tracing import flush_tracer, init_tracer, shutdown_tracer
from scouter.transport import GrpcConfig, HttpConfig
from scouter.types import DriftType

GRPC, HTTP, PROFILES = sys.argv[1], sys.argv[2], Path(sys.argv[3])
KINDS = {
    "custom": (CustomDriftProfile, DriftType.Custom),
    "spc": (SpcDriftProfile, DriftType.Spc),
    "psi": (PsiDriftProfile, DriftType.Psi),
    "genai": (GenAIEvalProfile, DriftType.GenAI),
}


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


def hear() -> None:
    sys.stdin.readline()


def path(kind: str) -> Path:
    return PROFILES / f"profile_{kind}.json"


def features() -> Features:
    return Features(features=[Feature.float(f"f{index}", random.gauss(index, 1)) for index in range(10)])


def insert(queue: ScouterQueue, round: int) -> None:
    """As much as each queue publishes at once."""
    for index in range(25):
        queue["spc"].insert(features())
        queue["custom"].insert(Metrics(metrics=[Metric("acc", index), Metric("mae", round)]))
        queue["genai"].insert(EvalRecord(context={"input": f"{round}-{index}", "response": "Paris"}))


def trace(tracer: object, round: int) -> list[str]:
    """A trace of three spans; their ids."""
    with tracer.start_as_current_span(f"root {round}", tags=[{"team": "blue"}]) as root:
        root.set_attribute("answer", 42)
        root.set_tag("env", "prod")
        ids = [root.span_id]
        for index in range(2):
            with tracer.start_as_current_span(f"child {index}") as child:
                child.set_attribute("index", index)
                ids.append(child.span_id)
        say(trace_id=root.trace_id, span_ids=ids)
    return ids


def main() -> None:
    client = ScouterClient(HttpConfig(server_uri=HTTP, username="guest", password="guest"))
    uids = {}
    for kind, (profile_class, _) in KINDS.items():
        profile = profile_class.from_file(path(kind))
        assert client.register_profile(profile, set_active=True)
        uids[kind] = profile.config.uid
    say(uids=uids)

    paths = {kind: path(kind) for kind in KINDS}
    tracer = init_tracer(service_name="released", transport_config=GrpcConfig(server_uri=GRPC, username="guest", password="guest"))
    queues = [
        ScouterQueue.from_path(paths, transport_config=GrpcConfig(server_uri=GRPC, username="guest", password="guest")),
        ScouterQueue.from_path(paths, transport_config=HttpConfig(server_uri=HTTP, username="guest", password="guest")),
    ]
    for round in range(2):
        for _ in range(10):
            trace(tracer, round)
        for queue in queues:
            insert(queue, round)
        flush_tracer()
        say(done=round)
        hear()
    for _ in range(1000):
        queues[0]["psi"].insert(features())
    say(done="psi")
    hear()
    for queue in queues:
        queue.shutdown()
    shutdown_tracer()

    def drift(kind: str) -> object:
        """For each name the means of its bins, or its bins of values."""
        request = DriftRequest(uid=uids[kind], space="cap", time_interval=TimeInterval.FifteenMinutes, max_data_points=1)
        answer = client.get_binned_drift(request, KINDS[kind][1])
        if kind == "spc":
            return {name: feature.values for name, feature in answer.features.items()}
        if kind == "psi":
            return {name: feature.bins for name, feature in answer.features.items()}
        return {name: [stats.avg for stats in metric.stats] for name, metric in answer.metrics.items()}

    trace_id = sys.stdin.readline().strip()
    now = datetime.now(timezone.utc)
    filters = TraceFilters(service_name="released", limit=7, start_time=now - timedelta(hours=1), end_time=now)
    pages, items = [], []
    while True:
        page = client.get_paginated_traces(filters)
        pages.append(len(page.items))
        items.extend(page.items)
        if not page.has_next:
            break
        filters.cursor_start_time = page.next_cursor.start_time
        filters.cursor_trace_id = page.next_cursor.trace_id
        filters.direction = "next"
    metrics = TraceMetricsRequest(
        start_time=now - timedelta(hours=1), end_time=now, bucket_interval="1 hour", service_name="released"
    )
    buckets = client.get_trace_metrics(metrics).metrics
    say(
        pages=pages,
        listed=sorted(item.trace_id for item in items),
        listed_as=sorted({(item.service_name, item.span_count, item.has_errors) for item in items}),
        counted=sum(bucket.trace_count for bucket in buckets),
        filtered=len(client.get_trace_spans_from_filters(TraceFilters(trace_ids=[trace_id])).spans),
        baggage=sorted([member.key, member.value] for member in client.get_trace_baggage(trace_id).baggage),
        alerts=len(client.get_alerts(DriftAlertPaginationRequest(uid=uids["spc"], active=True)).items),
        drift={kind: drift(kind) for kind in KINDS},
        tags=[[tag.key, tag.value] for tag in client.get_tags("trace", trace_id).tags],
        spans=[[span.span_name, span.depth] for span in client.get_trace_spans(trace_id).spans],
        switched=client.update_profile_status(
            ProfileStatusRequest(name="spc", space="cap", version="0.1.0", drift_type=DriftType.Spc, active=False)
        ),
        profile=json.loads(
            Path(
                client.download_profile(
                    GetProfileRequest(name="custom", space="cap", version="0.1.0", drift_type=DriftType.Custom),
                    PROFILES / "downloaded.json",
                )
            ).read_text()
        ),
    )


main()
