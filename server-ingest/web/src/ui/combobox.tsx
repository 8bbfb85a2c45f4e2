/** An input that suggests values: the ARIA pattern of a combobox with a list. */
import type { JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Icon } from "./icons";

export interface Option {
  readonly value: string;
  /** Beside the value, small: a count, a type. */
  readonly note?: string;
}

interface ComboboxProps {
  label: string;
  value: string;
  placeholder: string;
  /** Values whose text contains `typed`, best first. */
  suggest: (typed: string, signal: AbortSignal) => Promise<Option[]>;
  onChange: (value: string) => void;
  /** Whether a text that is not suggested can be taken. */
  free?: boolean;
  autofocus?: boolean;
  clearable?: boolean;
  class?: string;
}

/** Between two keys of somebody who types. */
const TYPING_MILLISECONDS = 120;

export function Combobox(props: ComboboxProps): JSX.Element {
  const { label, value, placeholder, onChange, free = false, clearable = true } = props;
  const id = useId();
  const input = useRef<HTMLInputElement>(null);
  const [text, setText] = useState(value);
  const [open, setOpen] = useState(false);
  const [typed, setTyped] = useState(false);
  const [options, setOptions] = useState<Option[] | null>(null);
  const [active, setActive] = useState(-1);
  const suggest = useRef(props.suggest);
  suggest.current = props.suggest;

  useEffect(() => {
    setText(value);
  }, [value]);
  useEffect(() => {
    if (props.autofocus) input.current?.focus();
  }, [props.autofocus]);
  useEffect(() => {
    if (!open) return;
    const stop = new AbortController();
    const timer = setTimeout(
      () => {
        suggest.current(typed ? text : "", stop.signal).then(
          found => {
            if (stop.signal.aborted) return;
            setOptions(found);
            setActive(typed && found.length > 0 ? 0 : -1);
          },
          () => {
            if (!stop.signal.aborted) setOptions([]);
          },
        );
      },
      typed ? TYPING_MILLISECONDS : 0,
    );
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [open, text, typed]);

  const close = () => {
    setOpen(false);
    setTyped(false);
    setOptions(null);
    setActive(-1);
  };
  const take = (taken: string) => {
    setText(taken);
    close();
    if (taken !== value) onChange(taken);
  };
  const leave = () => {
    const exact = options?.find(option => option.value === text);
    if (text === "" || exact || (free && typed)) take(text);
    else {
      setText(value);
      close();
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const last = (options?.length ?? 0) - 1;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!open) setOpen(true);
      else if (last >= 0) setActive(event.key === "ArrowDown" ? Math.min(active + 1, last) : Math.max(active - 1, 0));
    } else if (event.key === "Enter" && open) {
      event.preventDefault();
      const chosen = options?.[active];
      if (chosen) take(chosen.value);
      else if (free || text === "") take(text);
    } else if (event.key === "Escape" && open) {
      event.stopPropagation();
      setText(value);
      close();
    }
  };

  return (
    <div class={`combobox ${props.class ?? ""}`}>
      <label for={id}>{label}</label>
      <div class="combobox-field">
        <input
          id={id}
          ref={input}
          type="text"
          role="combobox"
          autocomplete="off"
          spellcheck={false}
          aria-expanded={open}
          aria-controls={`${id}-list`}
          aria-autocomplete="list"
          aria-activedescendant={active >= 0 ? `${id}-${active}` : undefined}
          placeholder={placeholder}
          value={text}
          onFocus={event => {
            event.currentTarget.select();
            setOpen(true);
          }}
          onClick={() => setOpen(true)}
          onInput={event => {
            setText(event.currentTarget.value);
            setTyped(true);
            setOpen(true);
          }}
          onKeyDown={onKeyDown}
          onBlur={leave}
        />
        {clearable && value !== "" && (
          <button type="button" class="clear" aria-label={`Clear ${label.toLowerCase()}`} onClick={() => take("")}>
            <Icon name="close" size={12} />
          </button>
        )}
        {open && options !== null && (
          <ul id={`${id}-list`} class="options" role="listbox" aria-label={label}>
            {options.map((option, index) => (
              // biome-ignore lint/a11y/useKeyWithClickEvents: the input has the keys, as the pattern asks
              <li
                key={option.value}
                id={`${id}-${index}`}
                role="option"
                aria-selected={index === active}
                class={index === active ? "active" : undefined}
                ref={index === active ? scrollIntoList : null}
                onMouseDown={event => event.preventDefault()}
                onClick={() => take(option.value)}
              >
                <span class="option-value">{option.value}</span>
                {option.note && <span class="option-note">{option.note}</span>}
              </li>
            ))}
            {options.length === 0 && (
              <li class="option-none">{free && text ? "Enter takes it as written" : "Nothing like that here"}</li>
            )}
          </ul>
        )}
      </div>
    </div>
  );
}

function scrollIntoList(item: HTMLLIElement | null): void {
  item?.scrollIntoView({ block: "nearest" });
}
