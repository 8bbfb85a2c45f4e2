/** What stands where there is nothing to show: waiting, empty, failed. Each says what to do. */
import type { ComponentChildren, JSX } from "preact";
import type { ApiError } from "../api";
import { Icon, type IconName } from "./icons";

export function Waiting({ what }: { what: string }): JSX.Element {
  return (
    <div class="state" role="status">
      <span class="spinner" aria-hidden="true" />
      <p>{what}</p>
    </div>
  );
}

interface EmptyProps {
  icon?: IconName;
  title: string;
  children?: ComponentChildren;
}

export function Empty({ icon, title, children }: EmptyProps): JSX.Element {
  return (
    <div class="state empty">
      {icon && <Icon name={icon} size={28} />}
      <h2>{title}</h2>
      {children}
    </div>
  );
}

export function Failed({ error, retry }: { error: ApiError; retry?: () => void }): JSX.Element {
  return (
    <div class="state failed" role="alert">
      <Icon name="error" size={28} />
      <h2>{error.message}</h2>
      {error.action && <p>{capital(error.action)}</p>}
      {retry && (
        <button type="button" class="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** A failure beside an answer that is still shown. */
export function FailedLine({ error, retry }: { error: ApiError; retry: () => void }): JSX.Element {
  return (
    <div class="failed-line" role="alert">
      <Icon name="error" />
      <span>
        {error.message} {capital(error.action)}
      </span>
      <button type="button" class="text-button" onClick={retry}>
        Try again
      </button>
    </div>
  );
}

/** A sentence of what the server says in part of one. */
export function capital(text: string): string {
  return text && `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}
