/** The keys of the page: one table that acts and that the help shows. */
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Dialog } from "./ui/dialog";

export interface Shortcut {
  /** One key, or two after each other with a space between. */
  readonly keys: string;
  readonly what: string;
  readonly act: () => void;
}

interface Group {
  readonly name: string;
  readonly shortcuts: readonly Shortcut[];
}

/** The group of keys that belong to no view. */
export const EVERYWHERE = "Everywhere";

const active: Group[] = [];
let pending = "";
let pendingSince = 0;
/** For the second key. */
const PATIENCE_MILLISECONDS = 1200;

function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName))
  );
}

export function startShortcuts(): void {
  addEventListener("keydown", event => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const key = event.key;
    const sequence = pending && event.timeStamp - pendingSince < PATIENCE_MILLISECONDS ? `${pending} ${key}` : key;
    pending = "";
    // What was opened last is asked first.
    for (const group of [...active].reverse()) {
      for (const shortcut of group.shortcuts) {
        if (shortcut.keys === sequence) {
          event.preventDefault();
          shortcut.act();
          return;
        }
      }
    }
    if (active.some(group => group.shortcuts.some(shortcut => shortcut.keys.startsWith(`${key} `)))) {
      pending = key;
      pendingSince = event.timeStamp;
    }
  });
}

/** These keys work, and stand in the help, as long as the component is there. */
export function useShortcuts(name: string, shortcuts: readonly Shortcut[]): void {
  const group = useRef<{ name: string; shortcuts: readonly Shortcut[] }>({ name, shortcuts });
  group.current.shortcuts = shortcuts;
  useEffect(() => {
    const mine = group.current;
    active.push(mine);
    return () => {
      active.splice(active.indexOf(mine), 1);
    };
  }, []);
}

export function Help({ onClose }: { onClose: () => void }): JSX.Element {
  return (
    <Dialog title="Keys" onClose={onClose}>
      <div class="help">
        {inOrder(active).map(group => (
          <section key={group.name}>
            <h3>{group.name}</h3>
            <dl>
              {group.shortcuts.map(shortcut => (
                <div key={shortcut.keys}>
                  <dt>
                    {shortcut.keys.split(" ").map(key => (
                      <kbd key={key}>{NAMES[key] ?? key}</kbd>
                    ))}
                  </dt>
                  <dd>{shortcut.what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}

/** The keys of the view first, wherever the reader came from. */
function inOrder(groups: readonly Group[]): Group[] {
  const isEverywhere = (group: Group) => Number(group.name === EVERYWHERE);
  return [...groups].sort((left, right) => isEverywhere(left) - isEverywhere(right));
}

const NAMES: Record<string, string> = {
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
  Escape: "Esc",
};
