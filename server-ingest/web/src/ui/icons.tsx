/** The few pictures of the page, drawn on a grid of 16. */
import type { JSX } from "preact";

const paths = {
  traces: "M2 3.5h7M5 8h8M5 12.5h5",
  chat: "M2.5 3h11v8h-6L4.5 13.5V11h-2z",
  services:
    "M3.5 5.5a2 2 0 1 0 0-.01M12.5 3.5a1.8 1.8 0 1 0 0-.01M12.5 12.5a1.8 1.8 0 1 0 0-.01M5.4 5.2l5.3-1.4M5 6.6l6 4.9",
  records: "M2.5 13.5v-11M2.5 13.5h11M5 10.5l2.5-3.5 2.5 2 3-4.5",
  sql: "M2.5 4l3.5 4-3.5 4M8 12.5h5.5",
  sun: "M8 5.2a2.8 2.8 0 1 0 .01 0M8 1.2v1.6M8 13.2v1.6M1.2 8h1.6M13.2 8h1.6M3.2 3.2l1.1 1.1M11.7 11.7l1.1 1.1M3.2 12.8l1.1-1.1M11.7 4.3l1.1-1.1",
  moon: "M13 9.6A5.5 5.5 0 0 1 6.4 3 5.5 5.5 0 1 0 13 9.6z",
  help: "M6 6.2a2 2 0 1 1 2.9 1.8c-.6.3-.9.7-.9 1.4M8 11.9v.2M8 1.8a6.2 6.2 0 1 0 .01 0",
  leave: "M9.5 2.5h-6v11h6M7 8h7M11.5 5.2L14.2 8l-2.7 2.8",
  close: "M4 4l8 8M12 4l-8 8",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  check: "M3 8.5l3.2 3.2L13 4.5",
  chevron: "M6 3.5L10.5 8 6 12.5",
  reload: "M13.2 8A5.2 5.2 0 1 1 11.6 4.2M13 2v3h-3",
  clock: "M8 1.8a6.2 6.2 0 1 0 .01 0M8 4.5V8l2.4 1.6",
  search: "M7 2.2a4.8 4.8 0 1 0 .01 0M10.6 10.6l3.2 3.2",
  plus: "M8 3v10M3 8h10",
  error: "M8 1.8a6.2 6.2 0 1 0 .01 0M8 4.6v4M8 11v.2",
  tool: "M9.8 2.6a3.4 3.4 0 0 0-3 4.9L2.6 11.7l1.7 1.7 4.2-4.2a3.4 3.4 0 0 0 4.9-3.9l-2 2-1.9-.5-.5-1.9 2-2a3.4 3.4 0 0 0-1.2-.3z",
  spark: "M8 1.8l1.5 4.7L14.2 8l-4.7 1.5L8 14.2 6.5 9.5 1.8 8l4.7-1.5z",
  link: "M6.5 9.5l3-3M7.2 4.6l1.6-1.6a2.8 2.8 0 0 1 4 4l-1.6 1.6M8.8 11.4l-1.6 1.6a2.8 2.8 0 0 1-4-4l1.6-1.6",
  down: "M3.5 6L8 10.5 12.5 6",
  download: "M8 2.5v7.5M4.8 7L8 10.2 11.2 7M2.8 13.2h10.4",
} as const;

export type IconName = keyof typeof paths;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }): JSX.Element {
  return (
    <svg class="icon" width={size} height={size} viewBox="0 0 16 16" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  );
}
