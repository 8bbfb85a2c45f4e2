/** Who calls whom: boxes of services, lines as wide as they are busy, red where calls fail. */
import type { JSX } from "preact";
import { useMemo, useState } from "preact/hooks";
import { compact, count, duration, percent } from "../../format";
import { address, go, rangeOf } from "../../route";
import type { GraphAnswer } from "../../types";
import { useSize } from "../../ui/size";
import { layoutOf } from "./layout";

const BOX_WIDTH = 176;
const BOX_HEIGHT = 46;
const ROW_GAP = 22;
const PAD = 16;
/** What a label beside a line takes. */
const LABEL_WIDTH = 130;

type Edge = GraphAnswer["edges"][number];

interface GraphProps {
  graph: GraphAnswer;
  colors: ReadonlyMap<string, number>;
  query: URLSearchParams;
}

export function Graph({ graph, colors, query }: GraphProps): JSX.Element {
  const { ref, width } = useSize<HTMLDivElement>();
  const [hover, setHover] = useState<string | null>(null);
  const layout = useMemo(
    () =>
      layoutOf(
        graph.nodes.map(node => node.service),
        graph.edges,
      ),
    [graph],
  );
  const layers = Math.max(...[...layout.values()].map(position => position.layer), 0) + 1;
  const rowsIn = new Map<number, number>();
  for (const { layer } of layout.values()) rowsIn.set(layer, (rowsIn.get(layer) ?? 0) + 1);
  const mostRows = Math.max(...rowsIn.values(), 1);
  const height = mostRows * (BOX_HEIGHT + ROW_GAP) - ROW_GAP + 2 * PAD;
  const gap = layers > 1 ? Math.min(Math.max((width - 2 * PAD - layers * BOX_WIDTH) / (layers - 1), 30), 180) : 0;
  const drawn = layers * BOX_WIDTH + (layers - 1) * gap + 2 * PAD;
  const at = (service: string) => {
    const { layer, row } = layout.get(service)!;
    const own = rowsIn.get(layer)! * (BOX_HEIGHT + ROW_GAP) - ROW_GAP;
    return { x: PAD + layer * (BOX_WIDTH + gap), y: (height - own) / 2 + row * (BOX_HEIGHT + ROW_GAP) };
  };
  /** Beside the end of its line, on the side away from where the line comes from, and clear of the labels before. */
  const labelAt = (edge: Edge, before: readonly Edge[]): number => {
    const end = at(edge.callee).y;
    const isBelow = (other: Edge) => at(other.caller).y < end;
    const rank = before.filter(other => other.callee === edge.callee && isBelow(other) === isBelow(edge)).length;
    return end + BOX_HEIGHT / 2 + (isBelow(edge) ? 15 + 13 * rank : -7 - 13 * rank);
  };
  const busiest = Math.max(...graph.edges.map(edge => edge.call_count), 1);
  const known = graph.edges.filter(edge => layout.has(edge.caller) && layout.has(edge.callee));
  return (
    <div class="graph" ref={ref}>
      {width > 0 && (
        <svg
          width={Math.max(drawn, 10)}
          height={height}
          role="img"
          aria-label={`${graph.nodes.length} services and ${known.length} connections`}
        >
          <defs>
            <marker
              id="arrow"
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="7"
              markerHeight="7"
              markerUnits="userSpaceOnUse"
              orient="auto"
            >
              <path d="M0 0.8L7 4L0 7.2z" />
            </marker>
          </defs>
          {known.map((edge, index) => {
            const from = at(edge.caller);
            const to = at(edge.callee);
            const isNear = hover === null || hover === edge.caller || hover === edge.callee;
            const isBad = edge.error_count > 0;
            return (
              <g key={`${edge.caller} ${edge.callee}`} class={`edge${isBad ? " bad" : ""}${isNear ? "" : " dim"}`}>
                <title>
                  {`${edge.caller} → ${edge.callee}: ${count(edge.call_count)} calls, ${percent(edge.error_count, edge.call_count)} failed, p50 ${duration(edge.p50_nano)}, p99 ${duration(edge.p99_nano)}`}
                </title>
                <path
                  d={curve(from, to)}
                  stroke-width={1 + 2.5 * Math.sqrt(edge.call_count / busiest)}
                  marker-end="url(#arrow)"
                />
                {gap > LABEL_WIDTH && to.x > from.x && (
                  <text x={to.x - 14} y={labelAt(edge, known.slice(0, index))} text-anchor="end">
                    {compact(edge.call_count)} {edge.call_count === 1 ? "call" : "calls"} · {duration(edge.p50_nano)}
                  </text>
                )}
              </g>
            );
          })}
          {graph.nodes.map(node => {
            const { x, y } = at(node.service);
            const target = address("/search", { ...rangeOf(query), service: node.service });
            return (
              <a
                key={node.service}
                href={target}
                class={`node service-${colors.get(node.service) ?? 0}`}
                aria-label={`Traces of ${node.service}`}
                onMouseEnter={() => setHover(node.service)}
                onMouseLeave={() => setHover(null)}
                onClick={event => {
                  event.preventDefault();
                  go(target);
                }}
              >
                <rect class="node-box" x={x} y={y} width={BOX_WIDTH} height={BOX_HEIGHT} rx={7} />
                <rect class="node-swatch" x={x + 10} y={y + 11} width={9} height={9} rx={2} />
                <text class="node-name" x={x + 26} y={y + 19.5}>
                  {short(node.service)}
                </text>
                <text class="node-note" x={x + 10} y={y + 36}>
                  {compact(node.span_count)} spans
                </text>
                {node.error_count > 0 && (
                  <text class="node-note bad" x={x + BOX_WIDTH - 10} y={y + 36} text-anchor="end">
                    {percent(node.error_count, node.span_count)} errors
                  </text>
                )}
              </a>
            );
          })}
        </svg>
      )}
    </div>
  );
}

interface Point {
  x: number;
  y: number;
}

function curve(from: Point, to: Point): string {
  const y1 = from.y + BOX_HEIGHT / 2;
  const y2 = to.y + BOX_HEIGHT / 2;
  if (to.x > from.x) {
    const x1 = from.x + BOX_WIDTH;
    const x2 = to.x - 2;
    const bend = (x2 - x1) / 2;
    return `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  // Back to an earlier layer, or to itself: below the boxes.
  const x1 = from.x + BOX_WIDTH / 2;
  const x2 = to.x + BOX_WIDTH / 2 + (from.x === to.x && from.y === to.y ? 24 : 0);
  const low = Math.max(from.y, to.y) + BOX_HEIGHT + 18;
  return `M${x1} ${from.y + BOX_HEIGHT}C${x1} ${low} ${x2} ${low} ${x2} ${to.y + BOX_HEIGHT + 2}`;
}

function short(name: string): string {
  return name.length > 19 ? `${name.slice(0, 18)}…` : name;
}
