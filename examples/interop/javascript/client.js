// The story of ../README.md, told by OpenTelemetry's SDK for JavaScript. All that is said about the destination is in OTEL_EXPORTER_OTLP_*
// variables.
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, createTraceState, defaultTextMapGetter, defaultTextMapSetter, trace } from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter as GrpcExporter } from "@opentelemetry/exporter-trace-otlp-grpc";
import { OTLPTraceExporter as JsonExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { OTLPTraceExporter as ProtobufExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import { defaultResource, detectResources, envDetector } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";

const exporters = { grpc: GrpcExporter, "http/protobuf": ProtobufExporter, "http/json": JsonExporter };
const exporter = new exporters[process.env.OTEL_EXPORTER_OTLP_PROTOCOL]();
const provider = new NodeTracerProvider({
  resource: defaultResource().merge(detectResources({ detectors: [envDetector] })),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
const tracer = provider.getTracer("interop", "1.2.3");

const after = (milliseconds) => [1_750_000_000 + Math.floor(milliseconds / 1000), (milliseconds % 1000) * 1_000_000 + 123];
const w3c = new W3CTraceContextPropagator();
const headers = { traceparent: process.env.TRACEPARENT, tracestate: process.env.TRACESTATE };
const incoming = w3c.extract(ROOT_CONTEXT, headers, defaultTextMapGetter);

const linked = {
  traceId: "0af7651916cd43dd8448eb211c80319c",
  spanId: "b7ad6b7169203331",
  traceFlags: TraceFlags.SAMPLED,
  traceState: createTraceState("linked=yes"),
  isRemote: true,
};
const order = tracer.startSpan(
  "order",
  {
    kind: SpanKind.SERVER,
    startTime: after(0),
    links: [{ context: linked, attributes: { reason: "retry" } }],
    attributes: {
      text: "häl\"lo\n✓",
      flag: true,
      count: 4_503_599_627_370_497,
      ratio: 0.25,
      texts: ["a", "b"],
      flags: [true, false],
      counts: [1, -2],
      ratios: [0.5, -1.5],
      bytes: new Uint8Array([0, 1, 255]),
      map: { key: "value", number: 7 },
      "http.request.method": "POST",
      "http.response.status_code": 200,
    },
  },
  incoming,
);
order.addEvent("cache.miss", { "cache.key": "basket", size: 3 }, after(100));

const inOrder = trace.setSpan(incoming, order);
const charge = tracer.startSpan("charge", { kind: SpanKind.CLIENT, startTime: after(200) }, inOrder);
const inCharge = trace.setSpan(inOrder, charge);
const outgoing = {};
w3c.inject(inCharge, outgoing, defaultTextMapSetter);
console.log(outgoing.traceparent);
charge.addEvent("exception", { "exception.type": "CardRefused", "exception.message": "no funds" }, after(250));
charge.setStatus({ code: SpanStatusCode.ERROR, message: "card refused" });
tracer.startSpan("audit", { startTime: after(260) }, inCharge).end(after(270));
charge.end(after(300));
order.setStatus({ code: SpanStatusCode.OK });
order.end(after(1500));

await provider.forceFlush();
await provider.shutdown();
