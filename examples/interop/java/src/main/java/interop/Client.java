package interop;

import static io.opentelemetry.api.common.AttributeKey.booleanArrayKey;
import static io.opentelemetry.api.common.AttributeKey.booleanKey;
import static io.opentelemetry.api.common.AttributeKey.doubleArrayKey;
import static io.opentelemetry.api.common.AttributeKey.doubleKey;
import static io.opentelemetry.api.common.AttributeKey.longArrayKey;
import static io.opentelemetry.api.common.AttributeKey.longKey;
import static io.opentelemetry.api.common.AttributeKey.stringArrayKey;
import static io.opentelemetry.api.common.AttributeKey.stringKey;
import static io.opentelemetry.api.common.AttributeKey.valueKey;

import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import io.opentelemetry.context.propagation.TextMapGetter;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** The story of ../README.md. All that is said about the destination is in OTEL_* variables. */
public final class Client {
  private static final Instant BEGIN = Instant.ofEpochSecond(1_750_000_000L, 123);

  private static Instant after(long milliseconds) {
    return BEGIN.plusMillis(milliseconds);
  }

  public static void main(String[] arguments) {
    var sdk = AutoConfiguredOpenTelemetrySdk.initialize().getOpenTelemetrySdk();
    Tracer tracer = sdk.getTracer("interop", "1.2.3");

    var w3c = W3CTraceContextPropagator.getInstance();
    var headers = Map.of("traceparent", System.getenv("TRACEPARENT"), "tracestate", System.getenv("TRACESTATE"));
    Context incoming = w3c.extract(Context.root(), headers, new Headers());

    SpanContext linked =
        SpanContext.createFromRemoteParent(
            "0af7651916cd43dd8448eb211c80319c",
            "b7ad6b7169203331",
            TraceFlags.getSampled(),
            TraceState.builder().put("linked", "yes").build());
    Span order =
        tracer
            .spanBuilder("order")
            .setParent(incoming)
            .setSpanKind(SpanKind.SERVER)
            .setStartTimestamp(BEGIN)
            .addLink(linked, Attributes.of(stringKey("reason"), "retry"))
            .setAttribute("text", "häl\"lo\n✓")
            .setAttribute(booleanKey("flag"), true)
            .setAttribute(longKey("count"), 4_503_599_627_370_497L)
            .setAttribute(doubleKey("ratio"), 0.25)
            .setAttribute(stringArrayKey("texts"), List.of("a", "b"))
            .setAttribute(booleanArrayKey("flags"), List.of(true, false))
            .setAttribute(longArrayKey("counts"), List.of(1L, -2L))
            .setAttribute(doubleArrayKey("ratios"), List.of(0.5, -1.5))
            .setAttribute(valueKey("bytes"), Value.of(new byte[] {0, 1, (byte) 255}))
            .setAttribute(valueKey("map"), Value.of(Map.of("key", Value.of("value"), "number", Value.of(7))))
            .setAttribute("http.request.method", "POST")
            .setAttribute(longKey("http.response.status_code"), 200L)
            .startSpan();
    order.addEvent("cache.miss", Attributes.of(stringKey("cache.key"), "basket", longKey("size"), 3L), after(100));

    Context inOrder = incoming.with(order);
    Span charge =
        tracer.spanBuilder("charge").setParent(inOrder).setSpanKind(SpanKind.CLIENT).setStartTimestamp(after(200)).startSpan();
    Context inCharge = inOrder.with(charge);
    var outgoing = new HashMap<String, String>();
    w3c.inject(inCharge, outgoing, Map::put);
    System.out.println(outgoing.get("traceparent"));
    charge.addEvent(
        "exception",
        Attributes.of(stringKey("exception.type"), "CardRefused", stringKey("exception.message"), "no funds"),
        after(250));
    charge.setStatus(StatusCode.ERROR, "card refused");
    tracer.spanBuilder("audit").setParent(inCharge).setStartTimestamp(after(260)).startSpan().end(after(270));
    charge.end(after(300));
    order.setStatus(StatusCode.OK);
    order.end(after(1500));

    var flushed = sdk.getSdkTracerProvider().forceFlush().join(60, TimeUnit.SECONDS);
    sdk.close();
    System.exit(flushed.isSuccess() ? 0 : 1);
  }

  private static final class Headers implements TextMapGetter<Map<String, String>> {
    @Override
    public Iterable<String> keys(Map<String, String> headers) {
      return headers.keySet();
    }

    @Override
    public String get(Map<String, String> headers, String key) {
      return headers.get(key);
    }
  }
}
