/** The filter as fields that suggest what is really stored. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask } from "../../api";
import { compact } from "../../format";
import { setQuery } from "../../route";
import type { AttributeKey, AttributeValue } from "../../types";
import { Combobox, type Option } from "../../ui/combobox";
import { Icon } from "../../ui/icons";
import {
  conditionOf,
  conditionText,
  filterOf,
  isDuration,
  isNarrowed,
  nothingNarrowed,
  OPERATORS,
  REPEATED,
  takesValue,
} from "./filter";

export function Filters({ query }: { query: URLSearchParams }): JSX.Element {
  const set = (name: string, value: string) => setQuery({ [name]: value, cursor: null });
  return (
    <div class="filters" role="search" aria-label="Filter">
      <div class="filter-fields">
        <Combobox
          label="Service"
          placeholder="any"
          value={query.get("service") ?? ""}
          suggest={suggestValues(query, "service", "service", "operation")}
          onChange={value => setQuery({ service: value, operation: null, cursor: null })}
          free
        />
        <Combobox
          label="Operation"
          placeholder="any"
          class="wide"
          value={query.get("operation") ?? ""}
          suggest={suggestValues(query, "operation", "operation")}
          onChange={value => set("operation", value)}
          free
        />
        <label class="field">
          Status
          <select value={query.get("status") ?? ""} onChange={event => set("status", event.currentTarget.value)}>
            <option value="">any</option>
            <option value="error">error</option>
            <option value="ok">ok</option>
            <option value="unset">unset</option>
          </select>
        </label>
        <DurationField label="Longer than" name="min_duration" query={query} />
        <DurationField label="Shorter than" name="max_duration" query={query} />
        <TextField query={query} />
        <AddCondition query={query} />
      </div>
      <Chips query={query} />
    </div>
  );
}

/** The values of `key` among the spans that pass the rest of the filter. */
function suggestValues(query: URLSearchParams, key: string, ...without: string[]) {
  return async (typed: string, signal: AbortSignal): Promise<Option[]> => {
    const parameters = filterOf(query);
    for (const name of without) parameters.delete(name);
    if (typed) parameters.set("q", typed);
    const answer = await ask<{ values: AttributeValue[] }>(
      `/api/v1/attributes/${encodeURIComponent(key)}/values`,
      parameters,
      signal,
    );
    return answer.values.map(value => ({ value: String(value.value), note: compact(value.count) }));
  };
}

function DurationField({ label, name, query }: { label: string; name: string; query: URLSearchParams }): JSX.Element {
  const value = query.get(name) ?? "";
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const isBad = !isDuration(text.trim());
  const apply = () => {
    const next = text.trim().replace(/\s+/g, "").replace("µ", "u");
    if (!isBad && next !== value) setQuery({ [name]: next, cursor: null });
  };
  return (
    <label class="field short">
      {label}
      <input
        type="text"
        placeholder="100ms"
        value={text}
        aria-invalid={isBad}
        title={isBad ? "A number with a unit: 250us, 10ms, 1.5s, 2m" : undefined}
        onInput={event => setText(event.currentTarget.value)}
        onBlur={apply}
        onKeyDown={event => event.key === "Enter" && apply()}
      />
      {isBad && <span class="field-error">e.g. 10ms, 1.5s</span>}
    </label>
  );
}

function TextField({ query }: { query: URLSearchParams }): JSX.Element {
  const value = query.get("text") ?? "";
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  const apply = () => text.trim() !== value && setQuery({ text: text.trim(), cursor: null });
  return (
    <label class="field">
      Contains
      <input
        id="search-text"
        type="search"
        placeholder="any text"
        value={text}
        onInput={event => setText(event.currentTarget.value)}
        onBlur={apply}
        onKeyDown={event => event.key === "Enter" && apply()}
      />
    </label>
  );
}

function AddCondition({ query }: { query: URLSearchParams }): JSX.Element {
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
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: it only hears Escape on its way up
    <div class="add-condition" ref={box} onKeyDown={event => event.key === "Escape" && setOpen(false)}>
      <button id="add-attribute" type="button" class="button" aria-expanded={open} onClick={() => setOpen(!open)}>
        <Icon name="plus" size={12} /> Attribute
      </button>
      {open && <ConditionForm query={query} onDone={() => setOpen(false)} />}
    </div>
  );
}

function ConditionForm({ query, onDone }: { query: URLSearchParams; onDone: () => void }): JSX.Element {
  const [key, setKey] = useState("");
  const [type, setType] = useState("");
  const [operator, setOperator] = useState("=");
  const [value, setValue] = useState("");
  const types = useRef(new Map<string, string>());

  const suggestKeys = async (typed: string, signal: AbortSignal): Promise<Option[]> => {
    const parameters = filterOf(query);
    if (typed) parameters.set("q", typed);
    parameters.set("limit", "100");
    const answer = await ask<{ attributes: AttributeKey[] }>("/api/v1/attributes", parameters, signal);
    return answer.attributes.map(attribute => {
      // With several types the text is compared, so that none is missed.
      const names = attribute.types.map(item => item.type);
      if (names.length === 1 && names[0]) types.current.set(attribute.key, names[0]);
      return { value: attribute.key, note: `${names.join(", ")} · ${compact(attribute.count)}` };
    });
  };
  const add = (finalValue = value) => {
    if (!key || (takesValue(operator) && finalValue === "")) return;
    setQuery({
      attr: [...query.getAll("attr"), conditionText({ key, type, operator, value: finalValue })],
      cursor: null,
    });
    onDone();
  };
  return (
    <form
      class="popover condition"
      aria-label="Attribute"
      onSubmit={event => {
        event.preventDefault();
        add();
      }}
    >
      <Combobox
        label="Key"
        placeholder="gen_ai.request.model"
        value={key}
        suggest={suggestKeys}
        onChange={next => {
          setKey(next);
          setType(types.current.get(next) ?? "");
        }}
        free
        autofocus
        clearable={false}
      />
      <label class="field">
        Operator
        <select value={operator} onChange={event => setOperator(event.currentTarget.value)}>
          {OPERATORS.map(({ sign, words }) => (
            <option key={sign} value={sign}>
              {words}
            </option>
          ))}
        </select>
      </label>
      {takesValue(operator) && (
        <Combobox
          key={key}
          label="Value"
          placeholder="any"
          value={value}
          suggest={key ? suggestValues(query, key) : async () => []}
          onChange={next => {
            setValue(next);
          }}
          free
          clearable={false}
        />
      )}
      <button type="submit" class="button primary" disabled={!key || (takesValue(operator) && value === "")}>
        Add
      </button>
    </form>
  );
}

const NAMES: Record<string, string> = {
  attr: "",
  tag: "tag ",
  entity: "entity ",
  queue: "record ",
  trace_id: "trace ",
  kind: "kind ",
};

function Chips({ query }: { query: URLSearchParams }): JSX.Element | null {
  const chips = REPEATED.flatMap(name => query.getAll(name).map((value, index) => ({ name, value, index })));
  if (!isNarrowed(query)) return null;
  return (
    <div class="chips">
      {chips.map(({ name, value, index }) => (
        <span key={`${name}${value}`} class="chip">
          {NAMES[name]}
          {name === "attr" ? <ConditionWords text={value} /> : <span>{value}</span>}
          <button
            type="button"
            aria-label={`Remove ${value}`}
            onClick={() => setQuery({ [name]: query.getAll(name).filter((_, at) => at !== index), cursor: null })}
          >
            <Icon name="close" size={10} />
          </button>
        </span>
      ))}
      {query.get("root") && (
        <span class="chip">
          {query.get("root") === "true" ? "only roots" : "no roots"}
          <button type="button" aria-label="Remove" onClick={() => setQuery({ root: null, cursor: null })}>
            <Icon name="close" size={10} />
          </button>
        </span>
      )}
      <button type="button" class="text-button" onClick={() => setQuery({ ...nothingNarrowed, cursor: null })}>
        Clear the filter
      </button>
    </div>
  );
}

function ConditionWords({ text }: { text: string }): JSX.Element {
  const condition = conditionOf(text);
  if (!condition) return <span>{text}</span>;
  const words = OPERATORS.find(operator => operator.sign === condition.operator)?.words ?? condition.operator;
  return (
    <span title={text}>
      <span class="chip-key">{condition.key}</span> {words} <strong>{condition.value}</strong>
    </span>
  );
}
