/** The SQL box: a question, its answer as a table, and where it is wrong when it is. */
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, send } from "../../api";
import { count, counted } from "../../format";
import { go, setQuery } from "../../route";
import { useShortcuts } from "../../shortcuts";
import type { SqlAnswer } from "../../types";
import { Icon } from "../../ui/icons";
import { capital, Empty } from "../../ui/states";
import { useVirtual } from "../../ui/virtual";
import { EXAMPLES } from "./examples";
import { cellText, fractionDigits, hasFraction, isNumeric, positionOf, withoutPosition } from "./text";

interface State {
  /** What was run; the text may have been changed since. */
  readonly question: string;
  readonly running: boolean;
  readonly answer: SqlAnswer | null;
  readonly error: ApiError | null;
  readonly took: number;
}

const NOTHING: State = { question: "", running: false, answer: null, error: null, took: 0 };

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
    setState({ ...NOTHING, question, running: true });
    const started = performance.now();
    ask(question, controller.signal).then(
      answer => setState({ ...NOTHING, question, answer, took: performance.now() - started }),
      (error: unknown) => {
        if (!controller.signal.aborted) setState({ ...NOTHING, question, error: known(error) });
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
  useShortcuts("SQL", [{ keys: "/", what: "write (Ctrl+Enter runs it)", act: () => editor.current?.focus() }]);

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
              Run <kbd>Ctrl ↵</kbd>
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
            {state.running && "Running…"}
            {state.answer && `${counted(state.answer.rows.length, "row")} in ${Math.round(state.took)} ms`}
          </span>
          {state.answer && state.answer.rows.length > 0 && (
            <Download question={state.question} onFailed={error => setState({ ...state, error })} />
          )}
        </div>
        <p class="muted small">
          Tables: <code>spans</code>, the view <code>trace_spans</code>, and one for each kind of monitoring record;{" "}
          <code>SHOW TABLES</code> lists them. All are read only.
        </p>
      </form>
      {state.error && (
        <div class="sql-error" role="alert">
          <p>
            <Icon name="error" />{" "}
            <strong>{state.error.code === "INVALID_ARGUMENT" ? "The query has an error" : "The query failed"}</strong>
          </p>
          <pre>{position ? withoutPosition(state.error.message) : state.error.message}</pre>
          {position && (
            <p>
              Line {position.line}, column {position.column}.{" "}
              <button type="button" class="text-button" onClick={select}>
                Show it
              </button>
            </p>
          )}
          {state.error.action && <p>{capital(state.error.action)}</p>}
        </div>
      )}
      {state.answer &&
        (state.answer.rows.length > 0 ? <Answer answer={state.answer} /> : <Empty icon="sql" title="No rows" />)}
      {!state.answer && !state.error && !state.running && <Start ask={submit} />}
    </div>
  );
}

function post(body: Record<string, string>, signal?: AbortSignal): Promise<Response> {
  return send("/api/v1/sql", {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "content-type": "application/json" },
    ...(signal && { signal }),
  });
}

async function ask(query: string, signal: AbortSignal): Promise<SqlAnswer> {
  // As text, 64-bit integers keep all their digits.
  const response = await post({ query, int64: "string" }, signal);
  return (await response.json()) as SqlAnswer;
}

function known(error: unknown): ApiError {
  return error instanceof ApiError ? error : new ApiError(0, "", String(error), "");
}

function Start({ ask: submit }: { ask: (query: string) => void }): JSX.Element {
  return (
    <div class="sql-start">
      <h2 class="section-title">Queries to begin with</h2>
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
    </div>
  );
}

const ROW_HEIGHT = 28;
/** Longer texts are cut in the table; a click on the cell shows them. */
const LONGEST_CELL = 200;

function Answer({ answer }: { answer: SqlAnswer }): JSX.Element {
  const virtual = useVirtual<HTMLDivElement>(answer.rows.length, ROW_HEIGHT);
  const [open, setOpen] = useState<{ column: string; text: string } | null>(null);
  const isNumber = answer.columns.map((_, column) => isNumeric(answer.types[column]));
  const digits = useMemo(
    () =>
      answer.columns.map((_, column) =>
        hasFraction(answer.types[column])
          ? answer.rows.reduce((most, row) => Math.max(most, fractionDigits(cellText(row[column]))), 0)
          : 0,
      ),
    [answer],
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
        aria-label="Result"
        tabIndex={0}
      >
        <table class="table dense" aria-rowcount={answer.rows.length}>
          <thead>
            <tr>
              {answer.columns.map((column, index) => (
                <th key={index} class={isNumber[index] ? "number" : undefined} title={answer.types[index]}>
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
                      {value !== null && <Padding text={text} digits={digits[column] ?? 0} />}
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

/** What a number lacks of the longest fraction in its column, unseen, so that points stand below each other. */
function Padding({ text, digits }: { text: string; digits: number }): JSX.Element | null {
  const own = fractionDigits(text);
  if (own === digits) return null;
  return (
    <span class="unseen" aria-hidden="true">
      {own === 0 && "."}
      {"0".repeat(digits - own)}
    </span>
  );
}

/** The server's own CSV: it is asked once more, since what the page has is only what is shown. */
function Download({ question, onFailed }: { question: string; onFailed: (error: ApiError) => void }): JSX.Element {
  const [isBusy, setBusy] = useState(false);
  const save = async () => {
    setBusy(true);
    try {
      const response = await post({ query: question, format: "csv" });
      const url = URL.createObjectURL(await response.blob());
      const link = document.createElement("a");
      link.href = url;
      link.download = "result.csv";
      link.click();
      URL.revokeObjectURL(url);
    } catch (error) {
      onFailed(known(error));
    }
    setBusy(false);
  };
  return (
    <button type="button" class="button" disabled={isBusy} onClick={save}>
      <Icon name="download" size={14} /> CSV
    </button>
  );
}
