/** Bars or lines over time, with a marker that follows the pointer and a range that is chosen by dragging. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { clock, day, sameDay } from "../format";
import { decadeTicks, timeTicks, valueTicks } from "./scale";
import { useSize } from "./size";

export interface Line {
  readonly name: string;
  /** A class of `chart.css` that gives the colour. */
  readonly look: string;
  /** By bucket; null where there is nothing. */
  readonly values: readonly (number | null)[];
  /** A bar of something else than the stack counts: thinner, in front of it. */
  readonly isInFront?: boolean;
}

interface ChartProps {
  title: string;
  kind: "bars" | "lines";
  /** Starts of the buckets in milliseconds, evenly spaced, gaps filled. */
  buckets: readonly number[];
  bucketWidth: number;
  /** Bars are stacked in this order. */
  lines: readonly Line[];
  format: (value: number) => string;
  /** Of the axis, when it is another. */
  tickFormat?: (value: number) => string;
  onZoom?: ((start: number, end: number) => void) | undefined;
  height?: number;
  /** For values that differ by more than their differences tell. Only lines have it. */
  isLogarithmic?: boolean;
  /** One sentence for those who do not see it. */
  summary: string;
}

const LEFT = 62;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
/** The most that a character of a tick takes. */
const CHARACTER = 7;

export function Chart(props: ChartProps): JSX.Element {
  const { title, kind, buckets, bucketWidth, lines, format, onZoom, summary } = props;
  const height = props.height ?? 132;
  const { ref, width } = useSize<HTMLDivElement>();
  const [hover, setHover] = useState<number | null>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);

  const start = buckets[0] ?? 0;
  const end = (buckets.at(-1) ?? 0) + bucketWidth;
  const plot = Math.max(width - LEFT - RIGHT, 10);
  const x = (at: number) => LEFT + ((at - start) / (end - start || 1)) * plot;
  const moment = (pixel: number) => start + (Math.min(Math.max(pixel - LEFT, 0), plot) / plot) * (end - start);
  const top = Math.max(...buckets.map((_, index) => height_of(kind, lines, index)), 0);
  const { ticks, share } = props.isLogarithmic ? logarithmic(lines) : linear(top, kind === "bars");
  const y = (value: number) => TOP + (1 - share(value)) * (height - TOP - BOTTOM);

  const pixel = (event: PointerEvent) => event.clientX - (ref.current?.getBoundingClientRect().left ?? 0);
  const bucketAt = (at: number) => Math.min(Math.max(Math.floor((at - start) / bucketWidth), 0), buckets.length - 1);
  const finish = () => {
    if (drag && onZoom && Math.abs(x(drag.to) - x(drag.from)) > 4)
      onZoom(Math.min(drag.from, drag.to), Math.max(drag.from, drag.to));
    setDrag(null);
  };

  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">{title}</span>
        <span class="legend">
          {lines.map(line => (
            <span key={line.name} class={`legend-item ${line.look}`}>
              {line.name}
            </span>
          ))}
        </span>
      </figcaption>
      <div class="chart-plot" ref={ref}>
        {width > 0 && (
          <svg
            width={width}
            height={height}
            role="img"
            aria-label={`${title}. ${summary}`}
            class={onZoom ? "zoomable" : undefined}
            onPointerDown={event => {
              if (!onZoom || event.button !== 0) return;
              event.currentTarget.setPointerCapture(event.pointerId);
              const at = moment(pixel(event));
              setDrag({ from: at, to: at });
            }}
            onPointerMove={event => {
              const at = moment(pixel(event));
              setHover(bucketAt(at));
              if (drag) setDrag({ ...drag, to: at });
            }}
            onPointerUp={finish}
            onPointerCancel={() => setDrag(null)}
            onPointerLeave={() => setHover(null)}
          >
            {ticks.map(tick => (
              <g key={tick}>
                <line class="grid" x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} />
                <text class="tick" x={LEFT - 8} y={y(tick) + 4} text-anchor="end">
                  {(props.tickFormat ?? format)(tick)}
                </text>
              </g>
            ))}
            {timeTicks(start, end, Math.max(Math.floor(plot / 76), 2)).map(tick => {
              const isAtEdge = x(tick.at) + (tick.text.length * CHARACTER) / 2 > width;
              return (
                <text
                  key={tick.at}
                  class="tick"
                  x={isAtEdge ? width : x(tick.at)}
                  y={height - 5}
                  text-anchor={isAtEdge ? "end" : "middle"}
                >
                  {tick.text}
                </text>
              );
            })}
            {kind === "bars" ? (
              <Bars lines={lines} buckets={buckets} x={x} y={y} width={(bucketWidth / (end - start)) * plot} />
            ) : (
              lines.map(line => (
                <path key={line.name} class={`line ${line.look}`} d={path(line.values, buckets, bucketWidth, x, y)} />
              ))
            )}
            {kind === "lines" &&
              lines.map((line, index) => (
                <Dots
                  key={line.name}
                  line={line}
                  above={lines.slice(index + 1)}
                  buckets={buckets}
                  bucketWidth={bucketWidth}
                  x={x}
                  y={y}
                />
              ))}
            {hover !== null && buckets[hover] !== undefined && (
              <line
                class="marker"
                x1={x(buckets[hover] + bucketWidth / 2)}
                x2={x(buckets[hover] + bucketWidth / 2)}
                y1={TOP}
                y2={height - BOTTOM}
              />
            )}
            {drag && (
              <rect
                class="selection"
                x={Math.min(x(drag.from), x(drag.to))}
                width={Math.abs(x(drag.to) - x(drag.from))}
                y={TOP}
                height={height - TOP - BOTTOM}
              />
            )}
          </svg>
        )}
        {hover !== null && buckets[hover] !== undefined && !drag && (
          <div
            class={`tooltip ${x(buckets[hover]) > width / 2 ? "left" : "right"}`}
            style={{ left: `${x(buckets[hover] + bucketWidth / 2)}px` }}
          >
            <div class="tooltip-head">{bucketText(buckets[hover], bucketWidth)}</div>
            {lines.map(line => {
              const value = line.values[hover];
              return (
                <div key={line.name} class="tooltip-row">
                  <span class={`legend-item ${line.look}`}>{line.name}</span>
                  <span class="number">{value === null || value === undefined ? "–" : format(value)}</span>
                </div>
              );
            })}
          </div>
        )}
      </div>
    </figure>
  );
}

interface Axis {
  readonly ticks: number[];
  /** From 0 at the bottom to 1 at the top. */
  readonly share: (value: number) => number;
}

/** Bars count, and half of a trace is none. */
function linear(top: number, isCount: boolean): Axis {
  const ticks = valueTicks(top, isCount);
  const max = ticks.at(-1) ?? 1;
  return { ticks, share: value => value / max };
}

function logarithmic(lines: readonly Line[]): Axis {
  const values = lines.flatMap(line => line.values.filter((value): value is number => value !== null && value > 0));
  const ticks = decadeTicks(Math.min(...values), Math.max(...values));
  const [low, high] = [Math.log10(ticks[0]!), Math.log10(ticks.at(-1)!)];
  return { ticks, share: value => (Math.log10(Math.max(value, ticks[0]!)) - low) / (high - low) };
}

function height_of(kind: "bars" | "lines", lines: readonly Line[], index: number): number {
  const of = (some: readonly Line[]) => some.map(line => line.values[index] ?? 0);
  if (kind === "lines") return Math.max(...of(lines));
  const stacked = of(lines.filter(line => !line.isInFront)).reduce((sum, value) => sum + value, 0);
  return Math.max(stacked, ...of(lines.filter(line => line.isInFront)));
}

function bucketText(start: number, width: number): string {
  const from = new Date(start);
  const to = new Date(start + width);
  return `${sameDay(from, new Date()) ? "" : `${day(from)} `}${clock(from)} – ${sameDay(from, to) ? "" : `${day(to)} `}${clock(to)}`;
}

interface BarsProps {
  lines: readonly Line[];
  buckets: readonly number[];
  x: (at: number) => number;
  y: (value: number) => number;
  width: number;
}

function Bars({ lines, buckets, x, y, width }: BarsProps): JSX.Element {
  const gap = width > 4 ? 1 : 0;
  const whole = Math.max(width - gap, 1);
  return (
    <g>
      {buckets.map((bucket, index) => {
        let below = 0;
        return lines.map(line => {
          const value = line.values[index] ?? 0;
          if (value <= 0) return null;
          const bottom = y(line.isInFront ? 0 : below);
          if (!line.isInFront) below += value;
          // A single error among thousands must be seen.
          const height = Math.max(bottom - y(line.isInFront ? value : below), 1.5);
          const thickness = line.isInFront ? Math.max(whole * 0.4, 1) : whole;
          return (
            <rect
              key={`${bucket}-${line.name}`}
              class={`bar ${line.look}`}
              x={x(bucket) + (whole - thickness) / 2}
              width={thickness}
              y={bottom - height}
              height={height}
            />
          );
        });
      })}
    </g>
  );
}

function path(
  values: readonly (number | null)[],
  buckets: readonly number[],
  width: number,
  x: (at: number) => number,
  y: (value: number) => number,
): string {
  let text = "";
  let isPenDown = false;
  values.forEach((value, index) => {
    if (value === null) {
      isPenDown = false;
      return;
    }
    text += `${isPenDown ? "L" : "M"}${x(buckets[index]! + width / 2).toFixed(1)} ${y(value).toFixed(1)}`;
    isPenDown = true;
  });
  return text;
}

interface DotsProps {
  line: Line;
  /** The lines that are drawn over it. */
  above: readonly Line[];
  buckets: readonly number[];
  bucketWidth: number;
  x: (at: number) => number;
  y: (value: number) => number;
}

/** Points whose neighbours are empty: a line alone would not show them. */
function Dots({ line, above, buckets, bucketWidth, x, y }: DotsProps): JSX.Element {
  return (
    <g>
      {line.values.map((value, index) => {
        const isAlone =
          value !== null && (line.values[index - 1] ?? null) === null && (line.values[index + 1] ?? null) === null;
        return (
          isAlone && (
            <circle
              key={buckets[index]}
              class={`dot ${line.look}`}
              cx={x(buckets[index]! + bucketWidth / 2)}
              cy={y(value)}
              // A ring round those of the same value, which would hide it.
              r={2.5 + 2 * above.filter(other => other.values[index] === value).length}
            />
          )
        );
      })}
    </g>
  );
}
