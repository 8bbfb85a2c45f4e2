/** Monitoring records: the entities that are watched, their series as charts, and the traces they belong to. */
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { ask, useAnswer } from "../../api";
import { ago, count, counted, exact, latest } from "../../format";
import { setQuery } from "../../route";
import { useShortcuts } from "../../shortcuts";
import type { RecordKinds } from "../../types";
import { Empty, Failed, FailedLine, Waiting } from "../../ui/states";
import { isAllTime, rangeParameters } from "../../ui/time";
import { Newest } from "../search/nothing";
import { EntityCharts } from "./entity";

export const KINDS: Record<string, { name: string; what: string }> = {
  psi: { name: "Population stability", what: "how many values of a feature fell into each bin" },
  spc: { name: "Process control", what: "sample means of features" },
  custom: { name: "Metrics", what: "values of your own metrics" },
  eval: { name: "Evaluation records", what: "interactions to be evaluated" },
  task: { name: "Evaluation tasks", what: "checks that passed or failed" },
  workflow: { name: "Evaluation workflows", what: "the share of checks that passed" },
  observability: { name: "Requests", what: "requests and errors of a service" },
};

export function RecordsView({ query }: { query: URLSearchParams }): JSX.Element {
  const range = rangeParameters(query);
  const answer = useAnswer(`records|${range.start}|${range.end}`, signal =>
    ask<RecordKinds>("/api/v1/records", range, signal),
  );
  useShortcuts("Records", [{ keys: "r", what: "refresh", act: answer.reload }]);
  useEffect(() => {
    document.title = "Records · Scouter";
  }, []);
  const entities = useMemo(() => entitiesOf(answer.value), [answer.value]);
  const chosen = query.get("entity") ?? entities[0]?.entity ?? null;

  if (answer.error && !answer.value) return <Failed error={answer.error} retry={answer.reload} />;
  if (!answer.value) return <Waiting what="Looking for records" />;
  if (entities.length === 0 || chosen === null) return <NoRecords query={query} />;
  const entity = entities.find(candidate => candidate.entity === chosen);
  return (
    <div class="records-view">
      <nav class="entities" aria-label="Entities">
        <ul>
          {entities.map(({ entity: id, kinds, rows, last }) => (
            <li key={id}>
              <button type="button" aria-current={id === chosen} onClick={() => setQuery({ entity: id })}>
                <span class="mono entity-id">{id}</span>
                <span class="muted">{kinds.map(({ kind }) => KINDS[kind]?.name ?? kind).join(", ")}</span>
                <span class="muted number" title={exact(String(last))}>
                  {counted(rows, "record")} · {ago(String(last))}
                </span>
              </button>
            </li>
          ))}
        </ul>
      </nav>
      <div class="scroll">
        <div class="page-body">
          {answer.error && <FailedLine error={answer.error} retry={answer.reload} />}
          {entity ? (
            <EntityCharts key={chosen} entity={chosen} kinds={entity.kinds} query={query} />
          ) : (
            <Empty icon="records" title="Nothing of this entity in this time">
              <p>
                No record of <span class="mono">{chosen}</span> is stored here.
              </p>
              {!isAllTime(query) && <Newest key={chosen} what="record" find={signal => newestRecord(signal, chosen)} />}
            </Empty>
          )}
        </div>
      </div>
    </div>
  );
}

export interface Entity {
  entity: string;
  rows: number;
  last: bigint;
  kinds: { kind: string; names: string[] }[];
}

function entitiesOf(answer: RecordKinds | null): Entity[] {
  const all = new Map<string, Entity>();
  for (const { kind, entities } of answer?.kinds ?? []) {
    for (const { entity, row_count, last_unix_nano, names } of entities) {
      const known = all.get(entity) ?? { entity, rows: 0, last: 0n, kinds: [] };
      const last = BigInt(last_unix_nano);
      known.rows += row_count;
      known.kinds.push({ kind, names });
      if (last > known.last) known.last = last;
      all.set(entity, known);
    }
  }
  return [...all.values()].sort((left, right) => (left.last < right.last ? 1 : -1));
}

/** Of one entity, or of any. */
async function newestRecord(signal: AbortSignal, of?: string): Promise<string | null> {
  const { kinds } = await ask<RecordKinds>("/api/v1/records", undefined, signal);
  const entities = kinds.flatMap(kind => kind.entities).filter(({ entity }) => of === undefined || entity === of);
  return latest(entities.map(entity => entity.last_unix_nano));
}

function NoRecords({ query }: { query: URLSearchParams }): JSX.Element {
  return (
    <Empty
      icon="records"
      title={isAllTime(query) ? "No monitoring record is stored yet" : "No monitoring record in this time"}
    >
      {!isAllTime(query) && <Newest what="record" find={newestRecord} />}
      <p>Services send what they observe about their own quality beside their spans, over the same connection:</p>
      <dl class="pairs wide">
        {Object.values(KINDS).map(({ name, what }) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
    </Empty>
  );
}

export function recordsHeading(kind: string, names: number): string {
  return `${KINDS[kind]?.name ?? kind}${names > 1 ? ` · ${count(names)}` : ""}`;
}
