/** Questions to the server. */
import { useEffect, useRef, useState } from "preact/hooks";
import { expire, freshToken } from "./session";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** What the person can do, in a sentence. */
    readonly action: string,
  ) {
    super(message);
  }
}

export type Parameters = URLSearchParams | Record<string, string | number | readonly string[] | null | undefined>;

function query(parameters: Parameters | undefined): string {
  if (!parameters) return "";
  if (parameters instanceof URLSearchParams) return parameters.size ? `?${parameters}` : "";
  const all = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value === null || value === undefined || value === "") continue;
    for (const item of typeof value === "object" ? value : [String(value)]) all.append(name, item);
  }
  return all.size ? `?${all}` : "";
}

export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  const token = await freshToken();
  const headers = new Headers(init.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw new ApiError(
      0,
      "UNREACHABLE",
      "The server cannot be reached.",
      "Check that scouter-server is running, then try again.",
    );
  }
  if (response.ok) return response;
  if (response.status === 401 && token) expire(token);
  throw await refusal(response);
}

async function refusal(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => ({}))) as {
    error?: string;
    code?: string;
    suggested_action?: string;
  };
  const text = body.error ?? `The server answered with status ${response.status}.`;
  return new ApiError(response.status, body.code ?? "", text, body.suggested_action ?? advice(response.status));
}

function advice(status: number): string {
  if (status === 403) return "Ask an administrator for the permission to read.";
  if (status === 422 || status === 504) return "Narrow the time range or the filter.";
  if (status === 429 || status === 503) return "Wait a moment, then try again.";
  if (status >= 500) return "The log of scouter-server says more.";
  return "";
}

export async function ask<T>(path: string, parameters?: Parameters, signal?: AbortSignal): Promise<T> {
  const response = await send(path + query(parameters), signal ? { signal } : {});
  return (await response.json()) as T;
}

export interface Answer<T> {
  /** The last good answer, which stays while a new one is on its way. */
  readonly value: T | null;
  readonly error: ApiError | null;
  readonly loading: boolean;
  /** Asks again. */
  readonly reload: () => void;
}

/**
 * The answer to a question, asked whenever `key` changes; a null key asks nothing. A question that is not waited for any more is called off, which
 * ends it on the server too. When `key` changes in its part before the first `|`, the old answer is dropped at once.
 */
export function useAnswer<T>(key: string | null, question: (signal: AbortSignal) => Promise<T>): Answer<T> {
  const [round, setRound] = useState(0);
  const [state, setState] = useState<{ subject: string; value: T | null; error: ApiError | null; loading: boolean }>({
    subject: "",
    value: null,
    error: null,
    loading: key !== null,
  });
  const latest = useRef(question);
  latest.current = question;
  useEffect(() => {
    if (key === null) {
      setState({ subject: "", value: null, error: null, loading: false });
      return;
    }
    const subject = key.split("|", 1)[0]!;
    const stop = new AbortController();
    setState(old => ({ subject, value: old.subject === subject ? old.value : null, error: null, loading: true }));
    latest.current(stop.signal).then(
      value => {
        if (!stop.signal.aborted) setState({ subject, value, error: null, loading: false });
      },
      (error: unknown) => {
        if (stop.signal.aborted) return;
        const known =
          error instanceof ApiError ? error : new ApiError(0, "PAGE", `This page failed: ${String(error)}`, "");
        setState(old => ({ ...old, error: known, loading: false }));
      },
    );
    return () => stop.abort();
  }, [key, round]);
  return { ...state, reload: () => setRound(count => count + 1) };
}
