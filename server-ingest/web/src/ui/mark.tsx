/** The sign of Scouter: a small waterfall. */
import type { JSX } from "preact";

export function Mark({ size }: { size: number }): JSX.Element {
  return (
    <svg class="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" />
      <path d="M7 10h18M11 16h10M15 22h10" />
    </svg>
  );
}
