/** The whole trace as one picture; dragging on it chooses what the waterfall shows. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { duration } from "../../format";
import { useStore } from "../../store";
import { theme } from "../../theme";
import { useSize } from "../../ui/size";
import type { Stretch, Trace } from "./model";

interface MinimapProps {
  trace: Trace;
  colors: ReadonlyMap<string, number>;
  window: Stretch;
  onWindow: (window: Stretch | null) => void;
}

const HEIGHT = 44;

export function Minimap({ trace, colors, window, onWindow }: MinimapProps): JSX.Element {
  const { ref, width } = useSize<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const look = useStore(theme);

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || width === 0) return;
    const scale = devicePixelRatio || 1;
    element.width = Math.round(width * scale);
    element.height = Math.round(HEIGHT * scale);
    context.scale(scale, scale);
    draw(context, element, trace, colors, width);
  }, [trace, colors, width, look]);

  const at = (event: PointerEvent): number => {
    const box = ref.current!.getBoundingClientRect();
    return (Math.min(Math.max(event.clientX - box.left, 0), box.width) / box.width) * trace.duration;
  };
  const shown = drag ? { from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) } : window;
  const isWhole = shown.from <= 0 && shown.to >= trace.duration;
  const share = (value: number) => `${(100 * value) / trace.duration}%`;
  return (
    <div
      class="minimap"
      ref={ref}
      role="img"
      title="Drag to look closer, double click for the whole"
      aria-label={`The trace from 0 to ${duration(trace.duration)}; drag to look closer, double click for the whole`}
      onPointerDown={event => {
        if (event.button !== 0) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        setDrag({ from: at(event), to: at(event) });
      }}
      onPointerMove={event => drag && setDrag({ ...drag, to: at(event) })}
      onPointerUp={() => {
        if (drag && Math.abs(drag.to - drag.from) > trace.duration / Math.max(width, 1)) {
          onWindow({ from: Math.min(drag.from, drag.to), to: Math.max(drag.from, drag.to) });
        }
        setDrag(null);
      }}
      onPointerCancel={() => setDrag(null)}
      onDblClick={() => onWindow(null)}
    >
      <canvas ref={canvas} class="minimap-canvas" />
      {!isWhole && (
        <>
          <div class="minimap-shade" style={{ left: "0", width: share(shown.from) }} />
          <div class="minimap-shade" style={{ left: share(shown.to), right: "0" }} />
        </>
      )}
    </div>
  );
}

function draw(
  context: CanvasRenderingContext2D,
  element: HTMLCanvasElement,
  trace: Trace,
  colors: ReadonlyMap<string, number>,
  width: number,
): void {
  const style = getComputedStyle(element);
  const palette = Array.from({ length: 10 }, (_, index) => style.getPropertyValue(`--service-${index}`).trim());
  const failed = style.getPropertyValue("--error").trim();
  const rows = trace.spans.length;
  const rowHeight = Math.min((HEIGHT - 8) / rows, 5);
  context.clearRect(0, 0, width, HEIGHT);
  // Errors last: a pixel may stand for many spans.
  for (const isErrorTurn of [false, true]) {
    for (let index = 0; index < rows; index++) {
      const span = trace.spans[index]!;
      if ((span.status === "error") !== isErrorTurn) continue;
      context.fillStyle = isErrorTurn ? failed : palette[colors.get(span.service) ?? 0]!;
      const from = (trace.start[index]! / trace.duration) * width;
      const to = (trace.end[index]! / trace.duration) * width;
      context.fillRect(
        from,
        4 + index * rowHeight,
        Math.max(to - from, 1),
        Math.max(rowHeight - 0.6, isErrorTurn ? 1.2 : 0.6),
      );
    }
  }
}
