/** Tables that are ordered by a click on the head of a column. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { Icon } from "./icons";

/** What the rows are ordered by, by the name of the column. */
type Columns<Row> = Record<string, (row: Row) => string | number>;

interface Sorted<Row> {
  readonly rows: readonly Row[];
  /** The head of a column. */
  readonly head: (column: string, look?: string) => JSX.Element;
}

/** As they came until a column is chosen: texts from A, numbers from the greatest, and the other way round at the second click. */
export function useSorted<Row>(rows: readonly Row[], columns: Columns<Row>): Sorted<Row> {
  const [order, setOrder] = useState<{ column: string; isDescending: boolean } | null>(null);
  const value = order && columns[order.column];
  const sorted = value
    ? rows.toSorted((left, right) => compare(value(left), value(right)) * (order.isDescending ? -1 : 1))
    : rows;
  const head = (column: string, look?: string) => {
    const isChosen = order?.column === column;
    const isText = typeof (rows[0] && columns[column]?.(rows[0])) === "string";
    return (
      <th key={column} class={look} aria-sort={isChosen ? (order.isDescending ? "descending" : "ascending") : "none"}>
        <button
          type="button"
          class="sort-button"
          onClick={() => setOrder({ column, isDescending: isChosen ? !order.isDescending : !isText })}
        >
          {column}
          <Icon name="down" size={10} />
        </button>
      </th>
    );
  };
  return { rows: sorted, head };
}

function compare(left: string | number, right: string | number): number {
  if (typeof left === "string" || typeof right === "string") return String(left).localeCompare(String(right));
  return left - right;
}
