/** A link inside the page: opens without a reload, and in a new tab when asked to. */
import type { ComponentChildren, JSX } from "preact";
import { go } from "../route";

interface LinkProps {
  to: string;
  children: ComponentChildren;
  class?: string | undefined;
  title?: string | undefined;
  label?: string | undefined;
  current?: boolean | undefined;
}

export function isPlainClick(event: MouseEvent): boolean {
  return event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
}

export function Link({ to, children, class: className, title, label, current }: LinkProps): JSX.Element {
  return (
    <a
      href={to}
      class={className}
      title={title}
      aria-label={label}
      aria-current={current ? "page" : undefined}
      onClick={event => {
        if (!isPlainClick(event)) return;
        event.preventDefault();
        go(to);
      }}
    >
      {children}
    </a>
  );
}
