/** Of a long list, the part that can be seen. */
import type { RefObject } from "preact";
import { useCallback, useEffect, useLayoutEffect, useState } from "preact/hooks";
import { useSize } from "./size";

export interface Virtual<E extends Element> {
  readonly ref: RefObject<E | null>;
  /** Of the part that can be seen. */
  readonly width: number;
  readonly first: number;
  /** Exclusive. */
  readonly last: number;
  readonly onScroll: () => void;
  /** Scrolls as little as shows the row; `how` "center" puts it into the middle when it was out of sight. */
  readonly reveal: (row: number, how?: "nearest" | "center") => void;
}

/** Drawn beyond what is seen, so that scrolling shows no gap. */
const OVERSCAN = 8;

export function useVirtual<E extends HTMLElement>(count: number, rowHeight: number, header = 0): Virtual<E> {
  const { ref, width, height } = useSize<E>();
  const [top, setTop] = useState(0);
  const onScroll = useCallback(() => setTop(ref.current?.scrollTop ?? 0), [ref]);
  // A list that got shorter leaves the scroll position behind its end.
  useLayoutEffect(() => {
    if (count >= 0) onScroll();
  }, [count, onScroll]);
  const reveal = useCallback(
    (row: number, how: "nearest" | "center" = "nearest") => {
      const element = ref.current;
      if (!element || row < 0) return;
      const from = row * rowHeight;
      const room = element.clientHeight - header;
      if (from >= element.scrollTop && from + rowHeight <= element.scrollTop + room) return;
      if (how === "center") element.scrollTop = Math.max(from - room / 2, 0);
      else element.scrollTop = from < element.scrollTop ? from : from + rowHeight - room;
      onScroll();
    },
    [ref, rowHeight, header, onScroll],
  );
  useEffect(onScroll, [onScroll]);
  const first = Math.max(Math.floor(top / rowHeight) - OVERSCAN, 0);
  const last = Math.min(Math.ceil((top + height) / rowHeight) + OVERSCAN, count);
  return { ref, width, first: Math.min(first, last), last, onScroll, reveal };
}
