/** Attributes with their types, as they were sent. */
import type { JSX } from "preact";
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
      <thead class="off-screen">
        <tr>
          <th>Key</th>
          <th>Value</th>
          <th>Type</th>
        </tr>
      </thead>
      <tbody>
        {attributes.map((attribute, index) => (
          // A key may come twice.
          <tr key={index}>
            <th scope="row">
              <Breakable text={attribute.key} />
            </th>
            <td>
              <Value value={attribute} />
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
            </td>
            <td class="type">{attribute.type}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A dotted name that is broken at its dots when it must be. */
export function Breakable({ text }: { text: string }): JSX.Element {
  const parts = text.split(/(?<=[._])/);
  return <>{parts.map((part, index) => [index > 0 && <wbr key={index} />, part])}</>;
}

/** Longer values are folded. */
const LONG = 320;

export function Value({ value }: { value: TypedValue }): JSX.Element {
  return <LongText text={pretty(value)} kind={value.type} />;
}

function pretty(value: TypedValue): string {
  const text = textOf(value);
  if (value.type !== "string" || !/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

export function LongText({ text, kind }: { text: string; kind: string }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const lines = text.split("\n");
  const isLong = text.length > LONG || lines.length > 8;
  const shown = isLong && !isOpen ? lines.slice(0, 8).join("\n").slice(0, LONG) : text;
  return (
    <>
      <span class={`value value-${kind}`}>
        {shown === "" ? <em class="muted">empty</em> : shown}
        {isLong && !isOpen && "…"}
      </span>
      {isLong && (
        <button type="button" class="text-button" onClick={() => setOpen(!isOpen)}>
          {isOpen ? "less" : `all ${text.length.toLocaleString("en-US")} characters`}
        </button>
      )}
    </>
  );
}
