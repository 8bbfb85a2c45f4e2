/** One entity: a chart for each feature, metric or task; the newest records; the traces that name it. */
import type { JSX } from "preact";
import { ask, useAnswer } from "../../api";
import { ago, compact, count, counted, decimal, duration, exact, moment } from "../../format";
import { address, rangeOf, setQuery } from "../../route";
import type { RecordPoint, RecordSeries, TracePage } from "../../types";
import { LongText } from "../../ui/attributes";
import { axisOf, fillBuckets } from "../../ui/buckets";
import { Chart, type Line } from "../../ui/chart";
import { Copy } from "../../ui/copy";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/link";
import { Failed, Waiting } from "../../ui/states";
import { between, chartParameters, rangeParameters } from "../../ui/time";
import { recordsHeading } from "./records";

interface EntityProps {
  entity: string;
  kinds: readonly { kind: string; names: string[] }[];
  query: URLSearchParams;
}

export function EntityCharts({ entity, kinds, query }: EntityProps): JSX.Element {
  return (
    <>
      <header class="entity-head">
        <h1 class="mono">{entity}</h1>
        <Copy text={entity} what="the entity" />
        <span class="spacer" />
        <Link to={address("/search", { ...rangeOf(query), entity })} class="button">
          Traces of this entity
        </Link>
      </header>
      {kinds.map(({ kind }) => (
        <Kind key={kind} kind={kind} entity={entity} query={query} />
      ))}
      <LinkedTraces entity={entity} query={query} />
    </>
  );
}

function Kind({ kind, entity, query }: { kind: string; entity: string; query: URLSearchParams }): JSX.Element {
  const range = chartParameters(query);
  const answer = useAnswer(`${kind}/${entity}|${range.start}|${range.end}`, signal =>
    ask<RecordSeries>(`/api/v1/records/${kind}`, { entity, ...range }, signal),
  );
  if (answer.error) return <Failed error={answer.error} retry={answer.reload} />;
  if (!answer.value) return <Waiting what="Reading records" />;
  const { series, bucket_nano, records } = answer.value;
  // One axis for all of them.
  const axis = axisOf(
    range,
    series.flatMap(item => item.points),
  );
  return (
    <section>
      <h2 class="section-title">{recordsHeading(kind, series.length)}</h2>
      <div class="charts">
        {series.map(item => (
          <Series key={item.name} kind={kind} name={item.name} points={item.points} axis={axis} bucket={bucket_nano} />
        ))}
      </div>
      {records.length > 0 && <Newest records={records} query={query} />}
    </section>
  );
}

interface SeriesProps {
  kind: string;
  name: string;
  points: RecordPoint[];
  axis: [start: string, end: string];
  bucket: string;
}

function Series({ kind, name, points, axis, bucket }: SeriesProps): JSX.Element {
  const filled = fillBuckets(...axis, bucket, points);
  const total = points.reduce((sum, point) => sum + point.count, 0);
  const { lines, isBars, format } = linesOf(kind, filled.points);
  return (
    <Chart
      title={name || "(no name)"}
      kind={isBars ? "bars" : "lines"}
      buckets={filled.starts}
      bucketWidth={filled.width}
      lines={lines}
      format={format}
      onZoom={(start, end) => setQuery(between(start, end))}
      summary={`${counted(total, "record")}.`}
    />
  );
}

/** More bins are drawn in the colours of the first. */
const BIN_LOOKS = 10;

function linesOf(
  kind: string,
  points: readonly (RecordPoint | null)[],
): { lines: Line[]; isBars: boolean; format: (value: number) => string } {
  const values = (of: (point: RecordPoint) => number | string | undefined) =>
    points.map(point => {
      const value = point ? Number(of(point) ?? Number.NaN) : Number.NaN;
      return Number.isFinite(value) ? value : null;
    });
  switch (kind) {
    case "psi": {
      const ids = [...new Set(points.flatMap(point => point?.bins?.map(bin => bin.bin_id) ?? []))].sort(
        (left, right) => left - right,
      );
      return {
        isBars: true,
        format: compact,
        lines: ids.map(id => ({
          name: `bin ${id}`,
          look: `bin-${id % BIN_LOOKS}`,
          values: values(point => point.bins?.find(bin => bin.bin_id === id)?.bin_count),
        })),
      };
    }
    case "observability":
      return {
        isBars: true,
        format: compact,
        lines: [{ name: "sum", look: "soft", values: values(point => point.sum) }],
      };
    case "eval":
      return {
        isBars: true,
        format: compact,
        lines: [{ name: "records", look: "soft", values: values(point => point.count) }],
      };
    case "task":
      return {
        isBars: true,
        format: compact,
        lines: [
          { name: "passed", look: "soft", values: values(point => point.passed) },
          { name: "failed", look: "bad", values: values(point => point.count - (point.passed ?? 0)) },
        ],
      };
    default:
      return {
        isBars: false,
        format: decimal,
        lines: [
          { name: "max", look: "p50", values: values(point => point.max) },
          { name: "mean", look: "p99", values: values(point => point.mean) },
          { name: "min", look: "p50", values: values(point => point.min) },
        ],
      };
  }
}

/** Columns that a reader of the list does not need: the entity is above, the partition is the server's. */
const HIDDEN = new Set([
  "entity_uid",
  "date",
  "created_at_unix_nano",
  "start_time_unix_nano",
  "end_time_unix_nano",
  "trace_id",
  "created_at",
]);

function Newest({
  records,
  query,
}: {
  records: readonly Record<string, unknown>[];
  query: URLSearchParams;
}): JSX.Element {
  return (
    <details class="section newest">
      <summary>
        <h3>Newest records</h3>
        <span class="muted">{count(records.length)}</span>
      </summary>
      <ol class="record-list">
        {records.map((record, index) => (
          <li key={index}>
            <div class="record-head">
              <Created record={record} />
              {typeof record["trace_id"] === "string" && (
                <Link to={address(`/trace/${record["trace_id"]}`, rangeOf(query))} class="trace-link">
                  <Icon name="traces" size={13} /> trace
                </Link>
              )}
            </div>
            <dl class="pairs">
              {Object.entries(record)
                .filter(
                  ([name, value]) =>
                    !HIDDEN.has(name) &&
                    value !== null &&
                    value !== "" &&
                    !(Array.isArray(value) && value.length === 0),
                )
                .map(([name, value]) => (
                  <div key={name}>
                    <dt>{name}</dt>
                    <dd>
                      <LongText text={typeof value === "string" ? value : JSON.stringify(value, null, 1)} kind="code" />
                    </dd>
                  </div>
                ))}
            </dl>
          </li>
        ))}
      </ol>
    </details>
  );
}

function Created({ record }: { record: Record<string, unknown> }): JSX.Element | null {
  const nanos = record["created_at_unix_nano"];
  if (typeof nanos !== "string") return null;
  return (
    <time class="number" title={exact(nanos)}>
      {moment(nanos)} <span class="muted">{ago(nanos)}</span>
    </time>
  );
}

function LinkedTraces({ entity, query }: { entity: string; query: URLSearchParams }): JSX.Element {
  const range = rangeParameters(query);
  const answer = useAnswer(`${entity}|${range.start}|${range.end}`, signal =>
    ask<TracePage>("/api/v1/traces", { entity, ...range, limit: 20 }, signal),
  );
  if (answer.error) return <Failed error={answer.error} retry={answer.reload} />;
  if (!answer.value) return <Waiting what="Looking for traces" />;
  const { traces } = answer.value;
  return (
    <section>
      <h2 class="section-title">Linked traces</h2>
      {traces.length === 0 ? (
        <p class="muted">
          No span in this time names this entity. Spans do so by the attribute <code>scouter.entity</code>, which{" "}
          <code>span.set_entity(uid)</code> sets.
        </p>
      ) : (
        <table class="table">
          <tbody>
            {traces.map(trace => (
              <tr key={trace.trace_id}>
                <td class="number muted" title={exact(trace.start_unix_nano)}>
                  {moment(trace.start_unix_nano)}
                </td>
                <th scope="row">
                  <Link to={address(`/trace/${trace.trace_id}`, rangeOf(query))}>
                    <span class="muted">{trace.root.service}</span> {trace.root.name}
                  </Link>
                </th>
                <td class="number">{counted(trace.span_count, "span")}</td>
                <td class={`number${trace.error_count > 0 ? " bad-text" : " muted"}`}>
                  {counted(trace.error_count, "error")}
                </td>
                <td class="number">{duration(trace.duration_nano)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
