/** The time range: some that end now, all time, or two moments. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { clock, day, sameDay, zone } from "../format";
import { setQuery } from "../route";
import { Icon } from "./icons";
import { DEFAULT_START, PRESETS } from "./time";

function words(query: URLSearchParams): string {
  const start = query.get("start") ?? DEFAULT_START;
  const end = query.get("end");
  const preset = end ? undefined : PRESETS.find(([value]) => value === start);
  if (preset) return preset[1];
  const from = new Date(start);
  const to = end ? new Date(end) : null;
  if (Number.isNaN(from.getTime())) return `${start} to ${end ?? "now"}`;
  const fromText = `${day(from)} ${clock(from)}`;
  if (!to || Number.isNaN(to.getTime())) return `${fromText} to ${end ?? "now"}`;
  return `${fromText} – ${sameDay(from, to) ? clock(to) : `${day(to)} ${clock(to)}`}`;
}

export function TimeRange({ query }: { query: URLSearchParams }): JSX.Element {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const close = (event: Event) => {
      if (!box.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", close);
    return () => removeEventListener("pointerdown", close);
  }, [open]);
  const choose = (start: string, end: string | null) => {
    setQuery({ start, end, cursor: null });
    setOpen(false);
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it only hears Escape on its way up
    <div class="range" ref={box} onKeyDown={event => event.key === "Escape" && setOpen(false)}>
      <button
        type="button"
        class="button"
        aria-haspopup="dialog"
        aria-expanded={open}
        title={`Times are ${zone()}`}
        onClick={() => setOpen(!open)}
      >
        <Icon name="clock" size={14} />
        <span class="range-words">{words(query)}</span>
        <Icon name="down" size={12} />
      </button>
      {open && (
        <div class="popover range-popover" role="dialog" aria-label="Time range">
          <ul>
            {PRESETS.map(([value, text]) => (
              <li key={value}>
                <button type="button" aria-current={words(query) === text} onClick={() => choose(value, null)}>
                  {text}
                </button>
              </li>
            ))}
          </ul>
          <Custom query={query} choose={choose} />
        </div>
      )}
    </div>
  );
}

function Custom({
  query,
  choose,
}: {
  query: URLSearchParams;
  choose: (start: string, end: string) => void;
}): JSX.Element {
  const now = Date.now();
  const [from, setFrom] = useState(local(query.get("start"), now - 3600_000));
  const [to, setTo] = useState(local(query.get("end"), now));
  const isReversed = new Date(from) >= new Date(to);
  return (
    <form
      onSubmit={event => {
        event.preventDefault();
        if (!isReversed) choose(new Date(from).toISOString(), new Date(to).toISOString());
      }}
    >
      <label>
        From
        <input
          type="datetime-local"
          step="1"
          required
          value={from}
          onInput={event => setFrom(event.currentTarget.value)}
        />
      </label>
      <label>
        To
        <input type="datetime-local" step="1" required value={to} onInput={event => setTo(event.currentTarget.value)} />
      </label>
      {isReversed && <p class="field-error">The range ends before it starts.</p>}
      <p class="muted small">Times are {zone()}.</p>
      <button type="submit" class="button primary" disabled={isReversed}>
        Show
      </button>
    </form>
  );
}

function local(text: string | null, otherwise: number): string {
  const given = new Date(text ?? "");
  const date = Number.isNaN(given.getTime()) ? new Date(otherwise) : given;
  return `${day(date)}T${clock(date)}`;
}
