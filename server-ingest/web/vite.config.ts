import { readFileSync } from "node:fs";
import { defineConfig } from "vite";

/** The server that `npm run dev` passes questions on to. */
const server = process.env["SCOUTER_SERVER"] ?? "http://127.0.0.1:8000";

/** Preact is part of what is served, and its licence asks to be named. */
const licence = readFileSync(new URL("node_modules/preact/LICENSE", import.meta.url), "utf8").trim();

// Three files with fixed names: `server-ingest/src/http/page.rs` carries them in the binary and tells browsers when they changed.
export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "assets/page.js",
        assetFileNames: "assets/page[extname]",
        codeSplitting: false,
        postBanner: `/*! With Preact.\n\n${licence}\n*/`,
      },
    },
  },
  server: {
    proxy: Object.fromEntries(["/api", "/scouter", "/healthz"].map(path => [path, server])),
  },
});
