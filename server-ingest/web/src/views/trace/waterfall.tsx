/** The waterfall: only the rows in sight are in the document, so that a trace of any size scrolls. */
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { tickDuration } from "../../format";
import { durationTicks } from "../../ui/scale";
import { useVirtual } from "../../ui/virtual";
import { type Stretch, type Trace, visibleRows } from "./model";
import { Row } from "./row";

export const ROW_HEIGHT = 28;
const HEADER_HEIGHT = 28;

/** Behind the bars, for their durations. */
const LABEL_WIDTH = 72;
/** The least between two ticks of the axis. */
const TICK_WIDTH = 48;

interface WaterfallProps {
  trace: Trace;
  colors: ReadonlyMap<string, number>;
  window: Stretch;
  collapsed: ReadonlySet<number>;
  showCritical: boolean;
  selected: number | null;
  found: readonly number[];
  onSelect: (index: number) => void;
  onToggle: (index: number, all: boolean) => void;
  onOpen: () => void;
}

export function Waterfall(props: WaterfallProps): JSX.Element {
  const { trace, window, collapsed, selected, onSelect, onToggle } = props;
  const rows = useMemo(() => visibleRows(trace, collapsed), [trace, collapsed]);
  const virtual = useVirtual<HTMLDivElement>(rows.length, ROW_HEIGHT, HEADER_HEIGHT);
  const found = useMemo(() => new Set(props.found), [props.found]);
  const [nameWidth, setNameWidth] = useState(() => (matchMedia("(max-width: 860px)").matches ? 50 : 40));
  const axisWidth = (virtual.width * (100 - nameWidth)) / 100 - LABEL_WIDTH;
  const most = Math.min(Math.max(Math.floor(axisWidth / TICK_WIDTH), 1), 5);
  const row = selected === null ? -1 : rowOf(rows, selected);

  const { reveal } = virtual;
  useEffect(() => {
    if (row >= 0) reveal(row, "center");
  }, [row, reveal]);

  const onKeyDown = (event: KeyboardEvent) => {
    const move = (to: number) => {
      event.preventDefault();
      const index = rows[Math.min(Math.max(to, 0), rows.length - 1)];
      if (index !== undefined) onSelect(index);
    };
    const page = Math.max(Math.floor((virtual.ref.current?.clientHeight ?? 0) / ROW_HEIGHT) - 2, 1);
    switch (event.key) {
      case "ArrowDown":
        return move(row + 1);
      case "ArrowUp":
        return move(row < 0 ? 0 : row - 1);
      case "PageDown":
        return move(row + page);
      case "PageUp":
        return move(row - page);
      case "Home":
        return move(0);
      case "End":
        return move(rows.length - 1);
      case "ArrowRight":
        if (selected === null) return;
        if (collapsed.has(selected)) {
          event.preventDefault();
          onToggle(selected, event.altKey);
        } else if (trace.below[selected]! > 0) move(row + 1);
        return;
      case "ArrowLeft":
        if (selected === null) return;
        if (trace.below[selected]! > 0 && !collapsed.has(selected)) {
          event.preventDefault();
          onToggle(selected, event.altKey);
        } else {
          const parent = trace.spans[selected]!.parent_index;
          if (parent !== null) {
            event.preventDefault();
            onSelect(parent);
          }
        }
        return;
      case "Enter":
        event.preventDefault();
        return props.onOpen();
    }
  };

  return (
    <div
      class="waterfall"
      ref={virtual.ref}
      role="treegrid"
      aria-label="Spans"
      aria-rowcount={rows.length}
      aria-activedescendant={row >= 0 ? `span-${selected}` : undefined}
      tabIndex={0}
      style={{ "--name-width": `${nameWidth}%` }}
      onScroll={virtual.onScroll}
      onKeyDown={onKeyDown}
    >
      <div class="waterfall-head">
        <div class="row-name">
          <span>Span</span>
          <Divider width={nameWidth} onWidth={setNameWidth} />
        </div>
        <div class="row-time axis">
          <div class="scale">
            {durationTicks(window.from, window.to, most).map(tick => (
              <span
                key={tick}
                class="axis-tick"
                style={{ left: `${(100 * (tick - window.from)) / (window.to - window.from)}%` }}
              >
                {tickDuration(tick)}
              </span>
            ))}
          </div>
        </div>
      </div>
      <div class="rows" style={{ height: `${rows.length * ROW_HEIGHT}px` }}>
        <div class="rows-seen" style={{ transform: `translateY(${virtual.first * ROW_HEIGHT}px)` }}>
          {rows.slice(virtual.first, virtual.last).map(index => {
            const span = trace.spans[index]!;
            return (
              <Row
                key={index}
                trace={trace}
                index={index}
                color={props.colors.get(span.service) ?? 0}
                window={window}
                showCritical={props.showCritical}
                isCollapsed={collapsed.has(index)}
                isSelected={index === selected}
                isFound={found.has(index)}
                isMissingParent={span.parent_index === null && span.parent_span_id !== null}
                onSelect={onSelect}
                onToggle={onToggle}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** Where `index` is among the rows that are shown; they are in order. */
function rowOf(rows: readonly number[], index: number): number {
  let low = 0;
  let high = rows.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (rows[middle]! < index) low = middle + 1;
    else if (rows[middle]! > index) high = middle - 1;
    else return middle;
  }
  return -1;
}

function Divider({ width, onWidth }: { width: number; onWidth: (width: number) => void }): JSX.Element {
  const clamp = (value: number) => Math.min(Math.max(value, 15), 75);
  return (
    <div
      class="divider"
      role="separator"
      aria-orientation="vertical"
      aria-label="Width of the names"
      aria-valuenow={Math.round(width)}
      aria-valuemin={15}
      aria-valuemax={75}
      tabIndex={0}
      onKeyDown={event => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        event.preventDefault();
        event.stopPropagation();
        onWidth(clamp(width + (event.key === "ArrowLeft" ? -2 : 2)));
      }}
      onPointerDown={event => {
        event.preventDefault();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={event => {
        if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
        const box = event.currentTarget.closest(".waterfall")!.getBoundingClientRect();
        onWidth(clamp((100 * (event.clientX - box.left)) / box.width));
      }}
    />
  );
}
