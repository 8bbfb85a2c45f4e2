import { readdirSync } from "node:fs";
import { defineConfig } from "vite";

const folders = ["unit", "browser"];
const tests = folders.flatMap(folder =>
  readdirSync(new URL(`tests/${folder}`, import.meta.url))
    .filter(name => name.endsWith(".test.ts") || name === "speed.ts")
    .map(name => [`${folder}/${name.slice(0, -3)}`, `tests/${folder}/${name}`]),
);

// Node 20 reads no TypeScript: the tests are translated, and run by node's own test runner.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    ssr: true,
    outDir: ".tests",
    target: "node20",
    minify: false,
    rollupOptions: { input: Object.fromEntries(tests), external: ["playwright-core"] },
  },
});
