/** What to do when nothing was found: widen the search, or send the first span. */
import type { JSX } from "preact";
import { ask, useAnswer } from "../../api";
import { ago, exact, latest, milliseconds } from "../../format";
import { setQuery } from "../../route";
import { session } from "../../session";
import type { AboutServer, ServiceSummary } from "../../types";
import { Command } from "../../ui/copy";
import { Empty, Waiting } from "../../ui/states";
import { allTime, between, isAllTime } from "../../ui/time";
import { isNarrowed, nothingNarrowed } from "./filter";

function AllTime(): JSX.Element {
  return (
    <button type="button" class="button" onClick={() => setQuery({ ...allTime, cursor: null })}>
      Look at all time
    </button>
  );
}

/** When the newest was, and the way there; `find` asks for its moment, which is null where nothing is stored at all. */
export function Newest({
  what,
  find,
}: {
  what: string;
  find: (signal: AbortSignal) => Promise<string | null>;
}): JSX.Element | null {
  const answer = useAnswer(`newest ${what}`, find);
  const nanos = answer.value;
  if (nanos === null) return answer.error && <AllTime />;
  const around = () => {
    const at = milliseconds(nanos);
    setQuery({ ...between(at - 3600_000, at + 1000), cursor: null });
  };
  return (
    <>
      <p>
        The newest {what} is from <time title={exact(nanos)}>{ago(nanos)}</time>.
      </p>
      <div class="state-actions">
        <button type="button" class="button primary" onClick={around}>
          Go to the newest {what}s
        </button>
        <AllTime />
      </div>
    </>
  );
}

interface NothingProps {
  query: URLSearchParams;
  isFiltered?: boolean;
}

export function Nothing({ query, isFiltered = isNarrowed(query) }: NothingProps): JSX.Element {
  const services = useAnswer("all-services", signal =>
    ask<{ services: ServiceSummary[] }>("/api/v1/services", undefined, signal),
  );
  if (services.loading && !services.value) return <Waiting what="Looking further" />;
  const known = services.value?.services ?? [];
  if (services.value && known.length === 0) return <FirstSpan />;
  if (!isFiltered) {
    return (
      <Empty icon="search" title="No trace in this time">
        <Newest what="trace" find={async () => latest(known.map(service => service.last_seen_unix_nano))} />
      </Empty>
    );
  }
  return (
    <Empty icon="search" title="No trace matches">
      <div class="state-actions">
        <button type="button" class="button primary" onClick={() => setQuery({ ...nothingNarrowed, cursor: null })}>
          Clear the filter
        </button>
        {!isAllTime(query) && <AllTime />}
      </div>
    </Empty>
  );
}

/** No span was ever stored here. */
export function FirstSpan(): JSX.Element {
  const about = useAnswer("about", signal => ask<AboutServer>("/api/v1/server", undefined, signal));
  // The commands are copied as they stand, so they are shown when they are right.
  if (about.loading && !about.value) return <Waiting what="Asking where to send" />;
  const isGuest = about.value?.development && session.get()?.user === "guest";
  const authorization = isGuest ? "Basic Z3Vlc3Q6Z3Vlc3Q=" : "Bearer YOUR_INGEST_KEY";
  const grpc = about.value?.grpc ?? `${location.hostname}:50051`;
  return (
    <Empty icon="traces" title="Nothing is stored yet. Send the first span:">
      <div class="first-span">
        <h3>From a shell</h3>
        <Command text={curl(location.origin, authorization)} />
        <h3>From Python</h3>
        <Command text={python(grpc)} />
        <h3>From any OpenTelemetry SDK or Collector</h3>
        <Command
          text={`export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf\nexport OTEL_EXPORTER_OTLP_ENDPOINT=${location.origin}\nexport OTEL_EXPORTER_OTLP_HEADERS="authorization=${authorization.replaceAll(" ", "%20").replaceAll("=", "%3D")}"`}
        />
        {!isGuest && (
          <p class="muted">
            An administrator makes an ingest key with <code>scouter-server key create NAME</code>.
          </p>
        )}
        <button type="button" class="button primary" onClick={() => location.reload()}>
          I have sent one
        </button>
      </div>
    </Empty>
  );
}

function curl(origin: string, authorization: string): string {
  return `now=$(date +%s)
curl ${origin}/v1/traces -H 'content-type: application/json' -H 'authorization: ${authorization}' -d '{
  "resourceSpans": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shell"}}]},
    "scopeSpans": [{"spans": [{
      "traceId": "'$(od -An -N16 -tx1 /dev/urandom | tr -d ' ')'", "spanId": "'$(od -An -N8 -tx1 /dev/urandom | tr -d ' ')'",
      "name": "hello", "kind": 1, "startTimeUnixNano": "'$now'000000000", "endTimeUnixNano": "'$now'250000000"
    }]}]
  }]
}'`;
}

function python(grpc: string): string {
  return `from scouter.tracing import init_tracer, shutdown_tracer
from scouter.transport import GrpcConfig

tracer = init_tracer(service_name="hello", transport_config=GrpcConfig(server_uri="http://${grpc}"))
with tracer.start_as_current_span("hello"):
    print("traced")
shutdown_tracer()`;
}
