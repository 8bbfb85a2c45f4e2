/** The SQL box: a question, its answer as a table, and where it is wrong when it is. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, send } from "../../api";
import { count, counted } from "../../format";
import { go, setQuery } from "../../route";
import { useShortcuts } from "../../shortcuts";
import type { SqlAnswer } from "../../types";
import { Icon } from "../../ui/icons";
import { Empty } from "../../ui/states";
import { useVirtual } from "../../ui/virtual";
import { EXAMPLES } from "./examples";
import { cellText, csvCell, positionOf } from "./text";

interface State {
  readonly running: boolean;
  readonly answer: SqlAnswer | null;
  readonly error: ApiError | null;
  readonly took: number;
}

const NOTHING: State = { running: false, answer: null, error: null, took: 0 };

export function SqlView({ query }: { query: URLSearchParams }): JSX.Element {
  const given = query.get("q") ?? "";
  const [text, setText] = useState(given || EXAMPLES[0]!.query);
  const [state, setState] = useState<State>(NOTHING);
  const stop = useRef<AbortController | null>(null);
  const editor = useRef<HTMLTextAreaElement>(null);

  const run = (question: string) => {
    stop.current?.abort();
    const controller = new AbortController();
    stop.current = controller;
    setState({ ...NOTHING, running: true });
    const started = performance.now();
    ask(question, controller.signal).then(
      answer => setState({ running: false, answer, error: null, took: performance.now() - started }),
      (error: unknown) => {
        if (controller.signal.aborted) return;
        const known = error instanceof ApiError ? error : new ApiError(0, "", String(error), "");
        setState({ running: false, answer: null, error: known, took: performance.now() - started });
      },
    );
  };
  const submit = (question = text) => {
    if (!question.trim()) return;
    setText(question);
    if (question === given) run(question);
    else setQuery({ q: question });
  };
  const cancel = () => {
    stop.current?.abort();
    setState(NOTHING);
  };
  useEffect(() => {
    if (given) {
      setText(given);
      run(given);
    }
    return () => stop.current?.abort();
  }, [given]);
  useEffect(() => {
    document.title = "SQL · Scouter";
  }, []);
  useShortcuts("SQL", [{ keys: "/", what: "write (Ctrl+Enter asks)", act: () => editor.current?.focus() }]);

  const position = state.error ? positionOf(state.error.message, text) : null;
  const select = () => {
    if (!position || !editor.current) return;
    editor.current.focus();
    editor.current.setSelectionRange(position.offset, position.offset + position.length);
  };
  return (
    <div class="sql-view">
      <form
        class="sql-form"
        onSubmit={event => {
          event.preventDefault();
          submit();
        }}
      >
        <textarea
          ref={editor}
          aria-label="SQL"
          spellcheck={false}
          rows={Math.min(Math.max(text.split("\n").length, 4), 14)}
          value={text}
          onInput={event => setText(event.currentTarget.value)}
          onKeyDown={event => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
              event.preventDefault();
              submit();
            }
          }}
        />
        <div class="sql-actions">
          {state.running ? (
            <button type="button" class="button" onClick={cancel}>
              Stop
            </button>
          ) : (
            <button type="submit" class="button primary">
              Ask <kbd>Ctrl ↵</kbd>
            </button>
          )}
          <select
            class="examples"
            aria-label="Examples"
            value=""
            onChange={event => {
              const example = EXAMPLES[Number(event.currentTarget.value)];
              event.currentTarget.value = "";
              if (example) submit(example.query);
            }}
          >
            <option value="">Examples</option>
            {EXAMPLES.map((example, index) => (
              <option key={example.name} value={index}>
                {example.name}
              </option>
            ))}
          </select>
          <span class="spacer" />
          <span class="muted number" role="status">
            {state.running && "Asking…"}
            {state.answer && `${counted(state.answer.rows.length, "row")} in ${Math.round(state.took)} ms`}
          </span>
          {state.answer && state.answer.rows.length > 0 && <Download answer={state.answer} />}
        </div>
      </form>
      {state.error && (
        <div class="sql-error" role="alert">
          <p>
            <Icon name="error" />{" "}
            <strong>{state.error.code === "INVALID_ARGUMENT" ? "This cannot be asked" : "No answer"}</strong>
          </p>
          <pre>{state.error.message}</pre>
          {position && (
            <p>
              Line {position.line}, column {position.column}.{" "}
              <button type="button" class="text-button" onClick={select}>
                Show it
              </button>
            </p>
          )}
          {state.error.action && <p>{state.error.action}</p>}
        </div>
      )}
      {state.answer &&
        (state.answer.rows.length > 0 ? <Answer answer={state.answer} /> : <Empty icon="sql" title="No row passes" />)}
      {!state.answer && !state.error && !state.running && <Start ask={submit} />}
    </div>
  );
}

async function ask(query: string, signal: AbortSignal): Promise<SqlAnswer> {
  const body = JSON.stringify({ query });
  const response = await send("/api/v1/sql", {
    method: "POST",
    body,
    headers: { "content-type": "application/json" },
    signal,
  });
  return (await response.json()) as SqlAnswer;
}

function Start({ ask: submit }: { ask: (query: string) => void }): JSX.Element {
  return (
    <div class="sql-start">
      <h2 class="section-title">Questions to begin with</h2>
      <ul>
        {EXAMPLES.map(example => (
          <li key={example.name}>
            <button type="button" onClick={() => submit(example.query)}>
              <strong>{example.name}</strong>
              <code>{example.query}</code>
            </button>
          </li>
        ))}
      </ul>
      <p class="muted">
        Tables: <code>spans</code>, the view <code>trace_spans</code>, and one table for each kind of monitoring record.{" "}
        <code>SHOW TABLES</code> lists them. Everything is read only.
      </p>
    </div>
  );
}

const ROW_HEIGHT = 28;
/** Longer texts are cut in the table; a click on the cell shows them. */
const LONGEST_CELL = 200;

function Answer({ answer }: { answer: SqlAnswer }): JSX.Element {
  const virtual = useVirtual<HTMLDivElement>(answer.rows.length, ROW_HEIGHT);
  const [open, setOpen] = useState<{ column: string; text: string } | null>(null);
  const isNumber = answer.columns.map((_, column) =>
    answer.rows.every(row => typeof row[column] === "number" || row[column] === null),
  );
  const above = virtual.first * ROW_HEIGHT;
  const below = (answer.rows.length - virtual.last) * ROW_HEIGHT;
  return (
    <>
      <div
        class="sql-answer"
        ref={virtual.ref}
        onScroll={virtual.onScroll}
        role="region"
        aria-label="Answer"
        tabIndex={0}
      >
        <table class="table dense" aria-rowcount={answer.rows.length}>
          <thead>
            <tr>
              {answer.columns.map((column, index) => (
                <th key={index} class={isNumber[index] ? "number" : undefined} title={answer.types?.[index]}>
                  {column}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {above > 0 && (
              <tr aria-hidden="true">
                <td style={{ height: `${above}px` }} />
              </tr>
            )}
            {answer.rows.slice(virtual.first, virtual.last).map((row, index) => (
              <tr key={virtual.first + index} style={{ height: `${ROW_HEIGHT}px` }}>
                {row.map((value, column) => {
                  const text = cellText(value);
                  const name = answer.columns[column] ?? "";
                  const isTrace = name === "trace_id" && /^[0-9a-f]{32}$/.test(text);
                  return (
                    <td key={column} class={isNumber[column] ? "number" : undefined}>
                      {value === null ? (
                        <span class="muted">null</span>
                      ) : isTrace ? (
                        <a
                          class="mono"
                          href={`/trace/${text}`}
                          onClick={event => {
                            event.preventDefault();
                            go(`/trace/${text}`);
                          }}
                        >
                          {text}
                        </a>
                      ) : text.length > LONGEST_CELL ? (
                        <button type="button" class="cell-button" onClick={() => setOpen({ column: name, text })}>
                          {text.slice(0, LONGEST_CELL)}…
                        </button>
                      ) : (
                        text
                      )}
                    </td>
                  );
                })}
              </tr>
            ))}
            {below > 0 && (
              <tr aria-hidden="true">
                <td style={{ height: `${below}px` }} />
              </tr>
            )}
          </tbody>
        </table>
      </div>
      {open && (
        <div class="sql-cell">
          <header>
            <strong>{open.column}</strong>
            <span class="muted">{count(open.text.length)} characters</span>
            <button type="button" class="icon-button" aria-label="Close" onClick={() => setOpen(null)}>
              <Icon name="close" />
            </button>
          </header>
          <pre>{open.text}</pre>
        </div>
      )}
    </>
  );
}

function Download({ answer }: { answer: SqlAnswer }): JSX.Element {
  const save = () => {
    const line = (cells: readonly unknown[]) => cells.map(csvCell).join(",");
    const text = [line(answer.columns), ...answer.rows.map(line)].join("\r\n");
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = "answer.csv";
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <button type="button" class="button" onClick={save}>
      <Icon name="download" size={14} /> CSV
    </button>
  );
}
