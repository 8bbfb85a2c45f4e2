/** A button that copies a text, and a command with such a button. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "./icons";

export function Copy({ text, what }: { text: string; what: string }): JSX.Element {
  const [done, setDone] = useState(false);
  return (
    <button
      type="button"
      class="icon-button copy"
      aria-label={done ? "Copied" : `Copy ${what}`}
      title={done ? "Copied" : `Copy ${what}`}
      onClick={event => {
        event.stopPropagation();
        void write(text).then(() => {
          setDone(true);
          setTimeout(() => setDone(false), 1500);
        });
      }}
    >
      <Icon name={done ? "check" : "copy"} size={14} />
    </button>
  );
}

async function write(text: string): Promise<void> {
  // A page that comes over plain HTTP from another machine has no clipboard of its own.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "off-screen";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

export function Command({ text }: { text: string }): JSX.Element {
  return (
    <div class="command">
      <pre>{text}</pre>
      <Copy text={text} what="the command" />
    </div>
  );
}
