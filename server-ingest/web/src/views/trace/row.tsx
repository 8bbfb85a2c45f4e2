/** One span of the waterfall: its place in the tree, its bar in time. */
import type { JSX } from "preact";
import { count, duration } from "../../format";
import { Icon } from "../../ui/icons";
import type { Stretch, Trace } from "./model";

export interface RowProps {
  trace: Trace;
  index: number;
  color: number;
  window: Stretch;
  showCritical: boolean;
  isCollapsed: boolean;
  isSelected: boolean;
  isFound: boolean;
  isMissingParent: boolean;
  onSelect: (index: number) => void;
  onToggle: (index: number, all: boolean) => void;
}

/** Deeper spans are not moved further to the right; a number tells their depth. */
const DEEPEST_INDENT = 24;

export function Row(props: RowProps): JSX.Element {
  const { trace, index, color, isCollapsed, isSelected } = props;
  const span = trace.spans[index]!;
  const below = trace.below[index]!;
  const hiddenErrors = isCollapsed ? trace.errorsBelow[index]! : 0;
  const isError = span.status === "error";
  const length = trace.end[index]! - trace.start[index]!;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the tree has the keys
    <div
      id={`span-${index}`}
      class={`row service-${color}${isSelected ? " selected" : ""}${isError ? " error" : ""}${props.isFound ? " found" : ""}`}
      role="row"
      tabIndex={-1}
      aria-level={span.depth + 1}
      aria-selected={isSelected}
      aria-expanded={below > 0 ? !isCollapsed : undefined}
      onClick={() => props.onSelect(index)}
      onDblClick={() => below > 0 && props.onToggle(index, false)}
    >
      <div
        class="row-name"
        role="gridcell"
        style={{ paddingLeft: `calc(8px + ${Math.min(span.depth, DEEPEST_INDENT)} * var(--indent))` }}
      >
        {below > 0 ? (
          <button
            type="button"
            class={`fold${isCollapsed ? "" : " open"}`}
            tabIndex={-1}
            aria-label={isCollapsed ? `Unfold ${count(below)} spans` : `Fold ${count(below)} spans`}
            onClick={event => {
              event.stopPropagation();
              props.onToggle(index, event.altKey);
            }}
          >
            <Icon name="chevron" size={10} />
          </button>
        ) : (
          <span class="fold" />
        )}
        <span class="swatch" />
        {span.depth > DEEPEST_INDENT && <span class="depth">{span.depth}</span>}
        {isError && (
          <span class="error-mark" title="This span failed">
            <Icon name="error" size={13} />
          </span>
        )}
        {span.genai && (
          <span class="genai-mark" title={`GenAI: ${span.genai}`}>
            <Icon name={span.genai === "execute_tool" ? "tool" : "spark"} size={12} />
          </span>
        )}
        <span class="span-name">{span.name || "(no name)"}</span>
        <span class="span-service">{span.service}</span>
        {props.isMissingParent && (
          <span class="badge" title="Its parent is not stored: it was not sent, or has not come yet">
            no parent
          </span>
        )}
        {isCollapsed && <span class={`badge${hiddenErrors > 0 ? " bad" : ""}`}>+{count(below)}</span>}
      </div>
      <div class="row-time" role="gridcell">
        <div class="scale">
          <Bar {...props} length={length} />
        </div>
      </div>
    </div>
  );
}

function Bar({ trace, index, window, showCritical, length }: RowProps & { length: number }): JSX.Element | null {
  const start = trace.start[index]!;
  const end = trace.end[index]!;
  const span = window.to - window.from;
  const share = (value: number) => (100 * (Math.min(Math.max(value, window.from), window.to) - window.from)) / span;
  if (end < window.from || start > window.to) {
    return <span class={`outside ${end < window.from ? "before" : "after"}`} aria-hidden="true" />;
  }
  // A bar that goes on beyond the window fades out there.
  const cut = `${start < window.from ? " cut-left" : ""}${end > window.to ? " cut-right" : ""}`;
  const left = share(start);
  const right = share(end);
  const stretches = showCritical ? (trace.critical.get(index) ?? []) : [];
  return (
    <>
      <span class={`bar${cut}`} style={{ left: `${left}%`, width: `${right - left}%` }} />
      {stretches.map(stretch =>
        stretch.to < window.from || stretch.from > window.to ? null : (
          <span
            key={stretch.from}
            class="critical"
            style={{ left: `${share(stretch.from)}%`, width: `${share(stretch.to) - share(stretch.from)}%` }}
          />
        ),
      )}
      <span class="bar-label" style={{ left: `${right}%` }}>
        {duration(length)}
      </span>
    </>
  );
}
