/**
 * Where the services of the graph stand: callers left of what they call, by layers, each layer ordered so that few lines cross.
 *
 * Calls may go round in circles. An edge back to a service that is being visited does not count for the layers.
 */

export interface Edge {
  readonly caller: string;
  readonly callee: string;
}

export interface Position {
  readonly layer: number;
  readonly row: number;
}

/** Passes over the layers; more change little. */
const SWEEPS = 6;

export function layoutOf(names: readonly string[], edges: readonly Edge[]): Map<string, Position> {
  const calls = new Map<string, string[]>(names.map(name => [name, []]));
  for (const { caller, callee } of edges) {
    if (caller !== callee && calls.has(callee)) calls.get(caller)?.push(callee);
  }
  const forward = forwardEdges(names, calls);
  const layers = layersOf(names, forward);
  const rows: string[][] = [];
  for (const name of names) {
    const layer = layers.get(name) ?? 0;
    while (rows.length <= layer) rows.push([]);
    rows[layer]!.push(name);
  }
  order(rows, forward);
  return new Map(rows.flatMap((row, layer) => row.map((name, index) => [name, { layer, row: index }] as const)));
}

/** The edges without those that close a circle. */
function forwardEdges(names: readonly string[], calls: ReadonlyMap<string, readonly string[]>): Edge[] {
  const called = new Set([...calls.values()].flat());
  const state = new Map<string, "open" | "done">();
  const forward: Edge[] = [];
  // Entries first: the circle is cut where it leads back.
  for (const start of [...names.filter(name => !called.has(name)), ...names]) {
    if (state.has(start)) continue;
    state.set(start, "open");
    const path: { name: string; next: number }[] = [{ name: start, next: 0 }];
    while (path.length > 0) {
      const top = path.at(-1)!;
      const callee = calls.get(top.name)?.[top.next++];
      if (callee === undefined) {
        state.set(top.name, "done");
        path.pop();
      } else if (state.get(callee) !== "open") {
        forward.push({ caller: top.name, callee });
        if (!state.has(callee)) {
          state.set(callee, "open");
          path.push({ name: callee, next: 0 });
        }
      }
    }
  }
  return forward;
}

/** The longest way from an entry. */
function layersOf(names: readonly string[], forward: readonly Edge[]): Map<string, number> {
  const layers = new Map(names.map(name => [name, 0]));
  for (let round = 0, isChanged = true; isChanged && round <= names.length; round++) {
    isChanged = false;
    for (const { caller, callee } of forward) {
      const least = layers.get(caller)! + 1;
      if (layers.get(callee)! < least) {
        layers.set(callee, least);
        isChanged = true;
      }
    }
  }
  return layers;
}

/** Sorts each layer by the middle of its neighbours. */
function order(rows: string[][], forward: readonly Edge[]): void {
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const places = new Map<string, number>();
    for (const row of rows) {
      for (const [index, name] of row.entries()) places.set(name, row.length > 1 ? index / (row.length - 1) : 0.5);
    }
    const isDown = sweep % 2 === 0;
    for (const row of rows) {
      const middle = new Map(
        row.map(name => {
          const near = forward.flatMap(edge => {
            if (isDown && edge.callee === name) return [places.get(edge.caller)!];
            if (!isDown && edge.caller === name) return [places.get(edge.callee)!];
            return [];
          });
          const own = places.get(name)!;
          return [name, near.length > 0 ? near.reduce((sum, value) => sum + value, 0) / near.length : own] as const;
        }),
      );
      row.sort((left, right) => middle.get(left)! - middle.get(right)!);
    }
  }
}
