/** Attributes with their types, as they were sent. */
import { Fragment, type JSX } from "preact";
import { useState } from "preact/hooks";
import type { Attribute, TypedValue } from "../types";
import { Copy } from "./copy";

/** A typed value as plain JSON, for people: large integers keep their digits as text only where JSON would bend them. */
export function plain(value: TypedValue): unknown {
  switch (value.type) {
    case "array":
      return (value.value as TypedValue[]).map(plain);
    case "map":
      return Object.fromEntries((value.value as Attribute[]).map(item => [item.key, plain(item)]));
    case "int": {
      const number = Number(value.value);
      return Number.isSafeInteger(number) ? number : value.value;
    }
    default:
      return value.value;
  }
}

export function textOf(value: TypedValue): string {
  if (value.type === "string" || value.type === "int" || value.type === "bytes") return String(value.value);
  if (value.type === "double") {
    const number = value.value;
    return typeof number === "number" && Number.isInteger(number) ? number.toFixed(1) : String(number);
  }
  if (value.type === "array" || value.type === "map") return JSON.stringify(plain(value), null, 2);
  return String(value.value);
}

interface TableProps {
  attributes: readonly Attribute[];
  /** Makes a link that finds spans with the same value. */
  onFilter?: ((attribute: Attribute) => void) | undefined;
}

export function AttributeTable({ attributes, onFilter }: TableProps): JSX.Element {
  return (
    <table class="attributes">
      <colgroup>
        <col class="key" />
        <col />
        <col class="type" />
      </colgroup>
      <tbody>
        {attributes.map((attribute, index) => {
          const text = pretty(attribute);
          // What has lines of its own takes the whole width, below its key.
          const isTall = text.includes("\n");
          const value = (
            <td colSpan={isTall ? 3 : 1}>
              <LongText text={text} kind={isTall && attribute.type === "string" ? "code" : attribute.type} />
              <Actions attribute={attribute} onFilter={onFilter} />
            </td>
          );
          return (
            // A key may come twice.
            <Fragment key={index}>
              <tr>
                <th scope="row" colSpan={isTall ? 2 : 1}>
                  <Breakable text={attribute.key} />
                </th>
                {!isTall && value}
                <td class="type">{attribute.type}</td>
              </tr>
              {isTall && <tr class="tall">{value}</tr>}
            </Fragment>
          );
        })}
      </tbody>
    </table>
  );
}

function Actions({ attribute, onFilter }: { attribute: Attribute; onFilter: TableProps["onFilter"] }): JSX.Element {
  return (
    <span class="attribute-actions">
      {onFilter && ["string", "int", "bool", "double"].includes(attribute.type) && (
        <button
          type="button"
          class="text-button"
          title="Find traces with this value"
          onClick={() => onFilter(attribute)}
        >
          find
        </button>
      )}
      <Copy text={textOf(attribute)} what={attribute.key} />
    </span>
  );
}

/** A dotted name that is broken at its dots when it must be. */
export function Breakable({ text }: { text: string }): JSX.Element {
  const parts = text.split(/(?<=[._])/);
  return <>{parts.map((part, index) => [index > 0 && <wbr key={index} />, part])}</>;
}

/** Longer values are folded, unless that hides less than it costs to unfold. */
const LONG = 320;
const LINES = 8;
const SPARED = 1.5;

/** JSON up to this length stays in one line. */
const SHORT_JSON = 40;

function pretty(value: TypedValue): string {
  const text = textOf(value);
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    const content: unknown = JSON.parse(text);
    const line = JSON.stringify(content);
    return line.length > SHORT_JSON ? JSON.stringify(content, null, 2) : line;
  } catch {
    return text;
  }
}

export function LongText({ text, kind }: { text: string; kind: string }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const lines = text.split("\n");
  const isLong = text.length > LONG * SPARED || lines.length > LINES * SPARED;
  const shown = isLong && !isOpen ? lines.slice(0, LINES).join("\n").slice(0, LONG) : text;
  return (
    <>
      <span class={`value value-${kind}`}>
        {shown === "" ? <em class="muted">empty</em> : shown}
        {isLong && !isOpen && "…"}
      </span>
      {isLong && (
        <button type="button" class="text-button unfold" onClick={() => setOpen(!isOpen)}>
          {isOpen ? "less" : `all ${text.length.toLocaleString("en-US")} characters`}
        </button>
      )}
    </>
  );
}
