/** Services: how busy, how often wrong, how slow; who calls whom; and the operations of one. */
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { ask, useAnswer } from "../../api";
import { ago, compact, count, decimal, duration, exact, percent } from "../../format";
import { address, rangeOf, setQuery } from "../../route";
import { useShortcuts } from "../../shortcuts";
import type { GraphAnswer, Operation, SeriesAnswer, ServiceSummary } from "../../types";
import { fillBuckets } from "../../ui/buckets";
import { colorsOf } from "../../ui/colors";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/link";
import { useSorted } from "../../ui/sort";
import { Failed, FailedLine, Waiting } from "../../ui/states";
import { chartParameters, rangeParameters } from "../../ui/time";
import { Nothing } from "../search/nothing";
import { Graph } from "./graph";

export function ServicesView({ query }: { query: URLSearchParams }): JSX.Element {
  const range = rangeParameters(query);
  const key = `services|${range.start}|${range.end}`;
  const services = useAnswer(key, signal => ask<{ services: ServiceSummary[] }>("/api/v1/services", range, signal));
  const series = useAnswer(key, signal =>
    ask<SeriesAnswer>("/api/v1/series", { ...chartParameters(query), by: "service", limit: 50 }, signal),
  );
  const graph = useAnswer(key, signal => ask<GraphAnswer>("/api/v1/service-graph", range, signal));
  const chosen = query.get("service");
  const reload = () => {
    for (const answer of [services, series, graph]) answer.reload();
  };
  useShortcuts("Services", [{ keys: "r", what: "refresh", act: reload }]);
  useEffect(() => {
    document.title = "Services · Scouter";
  }, []);
  const names = useMemo(() => services.value?.services.map(service => service.service) ?? [], [services.value]);
  const colors = useMemo(() => colorsOf(names), [names]);

  if (services.error && !services.value) return <Failed error={services.error} retry={reload} />;
  if (!services.value) return <Waiting what="Looking for services" />;
  if (services.value.services.length === 0) return <Nothing query={query} isFiltered={false} />;
  return (
    <div class="scroll">
      <div class="page-body">
        {services.error && <FailedLine error={services.error} retry={reload} />}
        {graph.error && <FailedLine error={graph.error} retry={graph.reload} />}
        {graph.value && graph.value.nodes.length > 0 && (
          <section aria-label="Who calls whom">
            <Graph graph={graph.value} colors={colors} query={query} />
            {graph.value.sampled_one_in > 1 && (
              <p class="muted small">From one trace in {count(graph.value.sampled_one_in)}, its counts scaled up.</p>
            )}
          </section>
        )}
        <Table services={services.value.services} series={series.value} colors={colors} chosen={chosen} />
        {series.error && <FailedLine error={series.error} retry={series.reload} />}
        {chosen && <Operations key={chosen} service={chosen} query={query} />}
      </div>
    </div>
  );
}

interface TableProps {
  services: readonly ServiceSummary[];
  series: SeriesAnswer | null;
  colors: ReadonlyMap<string, number>;
  chosen: string | null;
}

const NUMBERS = ["Spans", "Per second", "Errors", "p50", "p95", "p99", "Last seen"];

function errorShare(counts: { span_count: number; error_count: number }): number {
  return counts.error_count / Math.max(counts.span_count, 1);
}

function Table({ services, series, colors, chosen }: TableProps): JSX.Element {
  const group = (service: ServiceSummary) => series?.groups.find(candidate => candidate.group === service.service);
  const { rows, head } = useSorted(services, {
    Service: service => service.service,
    Spans: service => service.span_count,
    "Per second": service => service.span_count,
    Errors: errorShare,
    p50: service => Number(group(service)?.total.p50_nano ?? 0),
    p95: service => Number(group(service)?.total.p95_nano ?? 0),
    p99: service => Number(group(service)?.total.p99_nano ?? 0),
    "Last seen": service => Number(service.last_seen_unix_nano),
  });
  const seconds = series ? Number(BigInt(series.end_unix_nano) - BigInt(series.start_unix_nano)) / 1e9 : 0;
  return (
    <table class="table hover">
      <thead>
        <tr>
          {head("Service")}
          <th class="trend">Spans over time</th>
          {NUMBERS.map(column => head(column, "number"))}
        </tr>
      </thead>
      <tbody>
        {rows.map(service => {
          const own = group(service);
          return (
            <tr
              key={service.service}
              class={service.service === chosen ? "chosen" : undefined}
              onClick={() => setQuery({ service: service.service === chosen ? null : service.service }, "replace")}
            >
              <th scope="row">
                <span class={`swatch service-${colors.get(service.service)}`} />
                <button type="button" class="row-button" aria-expanded={service.service === chosen}>
                  {service.service}
                </button>
              </th>
              <td class="trend">{series && own && <Trend series={series} points={own.points} />}</td>
              <td class="number">{count(service.span_count)}</td>
              <td class="number">{seconds > 0 ? rate(service.span_count / seconds) : "–"}</td>
              <td class={`number${service.error_count > 0 ? " bad-text" : " muted"}`}>
                {percent(service.error_count, service.span_count)}
              </td>
              <td class="number">{own ? duration(own.total.p50_nano) : ""}</td>
              <td class="number">{own ? duration(own.total.p95_nano) : ""}</td>
              <td class="number">{own ? duration(own.total.p99_nano) : ""}</td>
              <td class="number muted" title={exact(service.last_seen_unix_nano)}>
                {ago(service.last_seen_unix_nano)}
              </td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

function rate(perSecond: number): string {
  return perSecond < 0.001 ? "< 0.001" : decimal(perSecond);
}

const TREND_WIDTH = 140;
const TREND_HEIGHT = 22;

function Trend({
  series,
  points,
}: {
  series: SeriesAnswer;
  points: SeriesAnswer["groups"][number]["points"];
}): JSX.Element {
  const filled = fillBuckets(series.start_unix_nano, series.end_unix_nano, series.bucket_nano, points);
  const most = Math.max(...filled.points.map(point => point?.count ?? 0), 1);
  const width = TREND_WIDTH / Math.max(filled.points.length, 1);
  return (
    <svg class="trend-picture" width={TREND_WIDTH} height={TREND_HEIGHT} aria-hidden="true">
      {filled.points.map((point, index) => {
        if (!point) return null;
        const height = Math.max((TREND_HEIGHT * point.count) / most, 1.5);
        const failed = point.error_count > 0 ? Math.max((TREND_HEIGHT * point.error_count) / most, 1.5) : 0;
        const x = index * width;
        return (
          <g key={filled.starts[index]}>
            <rect class="bar soft" x={x} y={TREND_HEIGHT - height} width={Math.max(width - 0.6, 0.8)} height={height} />
            {failed > 0 && (
              <rect
                class="bar bad"
                x={x}
                y={TREND_HEIGHT - failed}
                width={Math.max(width - 0.6, 0.8)}
                height={failed}
              />
            )}
          </g>
        );
      })}
    </svg>
  );
}

const NONE: readonly Operation[] = [];

function Operations({ service, query }: { service: string; query: URLSearchParams }): JSX.Element {
  const range = rangeParameters(query);
  const answer = useAnswer(`${service}|${range.start}|${range.end}`, signal =>
    ask<{ operations: Operation[]; truncated: boolean }>(
      "/api/v1/operations",
      { ...range, service, limit: 200 },
      signal,
    ),
  );
  const { rows, head } = useSorted(answer.value?.operations ?? NONE, {
    Operation: operation => operation.operation,
    Kind: operation => operation.kind,
    Spans: operation => operation.span_count,
    Errors: errorShare,
    Mean: operation => Number(operation.avg_duration_nano),
    Longest: operation => Number(operation.max_duration_nano),
  });
  if (answer.error) return <Failed error={answer.error} retry={answer.reload} />;
  if (!answer.value) return <Waiting what="Reading operations" />;
  const find = (change: Record<string, string>) => address("/search", { ...rangeOf(query), service, ...change });
  return (
    <section>
      <div class="results-head">
        <h2 class="section-title">Operations of {service}</h2>
        <span class="spacer" />
        <Link to={find({})} class="button">
          Traces of {service}
        </Link>
        <Link to={find({ status: "error" })} class="button">
          Errors of {service}
        </Link>
      </div>
      <table class="table">
        <thead>
          <tr>
            {head("Operation")}
            {head("Kind")}
            {head("Spans", "number")}
            {head("Errors", "number")}
            {head("Mean", "number")}
            {head("Longest", "number")}
            <th>
              <span class="off-screen">Search</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map(operation => (
            <tr key={`${operation.operation}/${operation.kind}`}>
              <th scope="row">
                <Link to={find({ operation: operation.operation })}>{operation.operation || "(no name)"}</Link>
              </th>
              <td class="muted">{operation.kind.toLowerCase()}</td>
              <td class="number">{compact(operation.span_count)}</td>
              <td class={`number${operation.error_count > 0 ? " bad-text" : " muted"}`}>
                {percent(operation.error_count, operation.span_count)}
              </td>
              <td class="number">{duration(operation.avg_duration_nano)}</td>
              <td class="number">{duration(operation.max_duration_nano)}</td>
              <td class="number">
                <Link to={find({ operation: operation.operation, sort: "slowest" })} title="The slowest traces with it">
                  <Icon name="search" size={13} />
                  <span class="off-screen">The slowest</span>
                </Link>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
      {answer.value.truncated && <p class="muted small">There are more; these are the most frequent.</p>}
    </section>
  );
}
