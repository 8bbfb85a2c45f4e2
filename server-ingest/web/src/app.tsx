/** The frame around the views: where to go, which time, and the keys that work everywhere. */
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { address, go, place, rangeOf } from "./route";
import { logout, session } from "./session";
import { EVERYWHERE, Help, useShortcuts } from "./shortcuts";
import { useStore } from "./store";
import { switchTheme, theme } from "./theme";
import { Icon, type IconName } from "./ui/icons";
import { Link } from "./ui/link";
import { Mark } from "./ui/mark";
import { TimeRange } from "./ui/range";
import { Empty } from "./ui/states";
import { ConversationsView, ConversationView } from "./views/genai/conversations";
import { Login } from "./views/login";
import { RecordsView } from "./views/records/records";
import { SearchView } from "./views/search/search";
import { ServicesView } from "./views/services/services";
import { SqlView } from "./views/sql/sql";
import { TraceView } from "./views/trace/trace";

interface Area {
  readonly path: string;
  readonly name: string;
  readonly icon: IconName;
  readonly key: string;
}

const AREAS: readonly Area[] = [
  { path: "/search", name: "Traces", icon: "traces", key: "t" },
  { path: "/conversations", name: "Conversations", icon: "chat", key: "c" },
  { path: "/services", name: "Services", icon: "services", key: "s" },
  { path: "/records", name: "Records", icon: "records", key: "r" },
  { path: "/sql", name: "SQL", icon: "sql", key: "q" },
];

export function App(): JSX.Element {
  const current = useStore(session);
  return current ? <Frame user={current.user} /> : <Login />;
}

function Frame({ user }: { user: string }): JSX.Element {
  const { path, query } = useStore(place);
  const look = useStore(theme);
  const [isHelp, setHelp] = useState(false);
  const view = viewOf(path, query);

  useEffect(() => {
    if (path === "/") go(address("/search", query), "replace");
  }, [path, query]);
  // On a narrow screen the tabs scroll.
  useEffect(() => {
    if (view.area)
      document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [view.area]);
  useShortcuts(EVERYWHERE, [
    ...AREAS.map(area => ({
      keys: `g ${area.key}`,
      what: area.name,
      act: () => go(address(area.path, rangeOf(place.get().query))),
    })),
    { keys: "d", what: "light or dark", act: switchTheme },
    { keys: "?", what: "these keys", act: () => setHelp(true) },
  ]);

  return (
    <div class="frame">
      <a class="skip" href="#main">
        Skip to the content
      </a>
      <header class="top">
        <Link to={address("/search", rangeOf(query))} class="brand" label="Scouter, all traces">
          <Mark size={20} />
          <span>Scouter</span>
        </Link>
        <nav aria-label="Views">
          {AREAS.map(area => (
            <Link
              key={area.path}
              to={address(area.path, rangeOf(query))}
              current={view.area === area.path}
              title={`g ${area.key}`}
            >
              <Icon name={area.icon} size={15} />
              <span>{area.name}</span>
            </Link>
          ))}
        </nav>
        <span class="spacer" />
        {view.hasRange && <TimeRange query={query} />}
        <button
          type="button"
          class="icon-button"
          aria-label={look === "dark" ? "Light" : "Dark"}
          title={`${look === "dark" ? "Light" : "Dark"} (d)`}
          onClick={switchTheme}
        >
          <Icon name={look === "dark" ? "sun" : "moon"} />
        </button>
        <button type="button" class="icon-button" aria-label="Keys" title="Keys (?)" onClick={() => setHelp(true)}>
          <Icon name="help" />
        </button>
        <button
          type="button"
          class="icon-button"
          aria-label={`Log out ${user}`}
          title={`Log out ${user}`}
          onClick={logout}
        >
          <Icon name="leave" />
        </button>
      </header>
      <main id="main" tabIndex={-1}>
        {view.element}
      </main>
      {isHelp && <Help onClose={() => setHelp(false)} />}
    </div>
  );
}

interface View {
  readonly area: string;
  readonly hasRange: boolean;
  readonly element: JSX.Element;
}

function viewOf(path: string, query: URLSearchParams): View {
  const [, area = "", thing = ""] = path.split("/");
  switch (area) {
    case "":
    case "search":
      return { area: "/search", hasRange: true, element: <SearchView query={query} /> };
    case "trace":
      return { area: "/search", hasRange: false, element: <TraceView id={decoded(thing)} query={query} /> };
    case "conversations":
      return thing
        ? { area: "/conversations", hasRange: false, element: <ConversationView id={decoded(thing)} query={query} /> }
        : { area: "/conversations", hasRange: true, element: <ConversationsView query={query} /> };
    case "services":
      return { area: "/services", hasRange: true, element: <ServicesView query={query} /> };
    case "records":
      return { area: "/records", hasRange: true, element: <RecordsView query={query} /> };
    case "sql":
      return { area: "/sql", hasRange: false, element: <SqlView query={query} /> };
    default:
      return { area: "", hasRange: false, element: <Lost path={path} /> };
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function Lost({ path }: { path: string }): JSX.Element {
  return (
    <Empty icon="search" title="There is no such page">
      <p class="mono">{path}</p>
      <Link to="/search" class="button primary">
        All traces
      </Link>
    </Empty>
  );
}
