/** A real `scouter-server` on free ports with a folder of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Server {
  readonly url: string;
  readonly grpc: string;
  stop(): Promise<void>;
}

const PATIENCE_MILLISECONDS = 60_000;

export async function startServer(): Promise<Server> {
  const program = process.env["SCOUTER_SERVER_BIN"];
  if (!program) throw new Error("SCOUTER_SERVER_BIN names the scouter-server to test");
  const folder = mkdtempSync(join(tmpdir(), "scouter-page."));
  const log = join(folder, "server.log");
  const any = "127.0.0.1:0";
  const flags = ["--grpc-addr", any, "--http-addr", any, "--otlp-grpc-addr", "", "--otlp-http-addr", ""];
  const environment = { ...process.env };
  for (const name of ["SCOUTER_DEFAULT_USERNAME", "SCOUTER_DEFAULT_PASSWORD"]) delete environment[name];
  const child = spawn(program, ["serve", "--storage", join(folder, "storage"), ...flags], {
    stdio: ["ignore", "pipe", openSync(log, "w")],
    env: environment,
  });
  const line = await firstLine(child, () => readFileSync(log, "utf8"));
  const address = (door: string) => new RegExp(` ${door}=(\\S+)`).exec(line)?.[1] ?? "";
  return {
    url: `http://${address("http")}`,
    grpc: address("grpc"),
    async stop() {
      const ended = new Promise(resolve => child.once("exit", resolve));
      child.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function firstLine(child: ChildProcess, log: () => string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const timer = setTimeout(() => reject(new Error(`the server is not ready: ${log()}`)), PATIENCE_MILLISECONDS);
    child.stdout?.on("data", chunk => {
      text += String(chunk);
      if (!text.includes("\n")) return;
      clearTimeout(timer);
      resolve(text);
    });
    child.once("exit", code => {
      clearTimeout(timer);
      reject(new Error(`the server ended with code ${code}: ${log()}`));
    });
  });
}

const BASIC = `Basic ${Buffer.from("guest:guest").toString("base64")}`;

/** OTLP/HTTP with JSON. */
export async function sendSpans(server: Server, request: unknown): Promise<void> {
  const headers = { "content-type": "application/json", authorization: BASIC };
  const response = await fetch(`${server.url}/v1/traces`, { method: "POST", headers, body: JSON.stringify(request) });
  const answer = (await response.json()) as { partialSuccess?: { rejectedSpans?: string } };
  if (!response.ok || Number(answer.partialSuccess?.rejectedSpans ?? 0) > 0) {
    throw new Error(`spans were refused: ${response.status} ${JSON.stringify(answer)}`);
  }
}

/** Monitoring records as Scouter's clients send them: JSON in the first field of `InsertMessageRequest`. */
export async function sendRecords(server: Server, records: unknown[]): Promise<void> {
  const json = Buffer.from(JSON.stringify({ records }));
  const message = Buffer.concat([Buffer.from([0x0a]), varint(json.length), json]);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  const client = http2.connect(`http://${server.grpc}`);
  try {
    const stream = client.request({
      ":method": "POST",
      ":path": "/scouter.grpc.v1.MessageService/InsertMessage",
      "content-type": "application/grpc",
      te: "trailers",
      authorization: BASIC,
    });
    const status = new Promise<string>((resolve, reject) => {
      const read = (headers: http2.IncomingHttpHeaders) => {
        if (headers["grpc-status"] !== undefined) resolve(`${headers["grpc-status"]} ${headers["grpc-message"] ?? ""}`);
      };
      stream.on("response", read);
      stream.on("trailers", read);
      stream.on("error", reject);
    });
    stream.resume();
    stream.end(Buffer.concat([head, message]));
    const text = await status;
    if (!text.startsWith("0")) throw new Error(`records were refused: ${text}`);
  } finally {
    client.close();
  }
}

function varint(value: number): Buffer {
  const bytes = [];
  let rest = value;
  while (rest > 127) {
    bytes.push((rest & 127) | 128);
    rest >>>= 7;
  }
  return Buffer.from([...bytes, rest]);
}
