/** A colour for each service: the first that is seen gets the first, and keeps it in every view of this tab. */

export const COLORS = 10;

const KEY = "scouter.colors";
/** More names are not remembered. */
const MOST_NAMES = 1000;

const storage = typeof sessionStorage === "undefined" ? null : sessionStorage;

function remembered(): string[] {
  try {
    const names: unknown = JSON.parse(storage?.getItem(KEY) ?? "[]");
    return Array.isArray(names) ? names.map(String) : [];
  } catch {
    return [];
  }
}

const known = new Map(remembered().map((name, index) => [name, index]));

/** A number from 0 to [`COLORS`] - 1 for each name; neighbours of the same first sight differ. */
export function colorsOf(names: Iterable<string>): Map<string, number> {
  const colors = new Map<string, number>();
  const before = known.size;
  for (const name of [...new Set(names)].sort()) {
    const index = known.get(name) ?? known.size;
    if (known.size < MOST_NAMES) known.set(name, index);
    colors.set(name, index % COLORS);
  }
  if (known.size > before) storage?.setItem(KEY, JSON.stringify([...known.keys()]));
  return colors;
}
