// The story of ../README.md, told by OpenTelemetry's SDK for Go. All that is said about the destination is in OTEL_EXPORTER_OTLP_* variables.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := tell(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func exporter(ctx context.Context) (*otlptrace.Exporter, error) {
	switch protocol := os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "http/protobuf":
		return otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q", protocol)
	}
}

func tell(ctx context.Context) error {
	exporter, err := exporter(ctx)
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter))
	tracer := provider.Tracer("interop", trace.WithInstrumentationVersion("1.2.3"))

	begin := time.Unix(1_750_000_000, 123)
	after := func(milliseconds int) time.Time { return begin.Add(time.Duration(milliseconds) * time.Millisecond) }
	w3c := propagation.TraceContext{}
	incoming := w3c.Extract(ctx, propagation.MapCarrier{"traceparent": os.Getenv("TRACEPARENT"), "tracestate": os.Getenv("TRACESTATE")})

	linkedTrace, _ := trace.TraceIDFromHex("0af7651916cd43dd8448eb211c80319c")
	linkedSpan, _ := trace.SpanIDFromHex("b7ad6b7169203331")
	linkedState, _ := trace.ParseTraceState("linked=yes")
	linked := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: linkedTrace, SpanID: linkedSpan, TraceState: linkedState, TraceFlags: trace.FlagsSampled, Remote: true,
	})
	inOrder, order := tracer.Start(incoming, "order",
		trace.WithSpanKind(trace.SpanKindServer),
		trace.WithTimestamp(begin),
		trace.WithLinks(trace.Link{SpanContext: linked, Attributes: []attribute.KeyValue{attribute.String("reason", "retry")}}),
		trace.WithAttributes(
			attribute.String("text", "häl\"lo\n✓"),
			attribute.Bool("flag", true),
			attribute.Int64("count", 4_503_599_627_370_497),
			attribute.Float64("ratio", 0.25),
			attribute.StringSlice("texts", []string{"a", "b"}),
			attribute.BoolSlice("flags", []bool{true, false}),
			attribute.Int64Slice("counts", []int64{1, -2}),
			attribute.Float64Slice("ratios", []float64{0.5, -1.5}),
			attribute.ByteSlice("bytes", []byte{0, 1, 255}),
			attribute.Map("map", attribute.String("key", "value"), attribute.Int64("number", 7)),
			attribute.String("http.request.method", "POST"),
			attribute.Int64("http.response.status_code", 200),
		))
	order.AddEvent("cache.miss", trace.WithTimestamp(after(100)),
		trace.WithAttributes(attribute.String("cache.key", "basket"), attribute.Int64("size", 3)))

	inCharge, charge := tracer.Start(inOrder, "charge", trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(after(200)))
	outgoing := propagation.MapCarrier{}
	w3c.Inject(inCharge, outgoing)
	fmt.Println(outgoing["traceparent"])
	charge.AddEvent("exception", trace.WithTimestamp(after(250)),
		trace.WithAttributes(attribute.String("exception.type", "CardRefused"), attribute.String("exception.message", "no funds")))
	charge.SetStatus(codes.Error, "card refused")
	_, audit := tracer.Start(inCharge, "audit", trace.WithTimestamp(after(260)))
	audit.End(trace.WithTimestamp(after(270)))
	charge.End(trace.WithTimestamp(after(300)))
	order.SetStatus(codes.Ok, "")
	order.End(trace.WithTimestamp(after(1500)))

	if err := provider.ForceFlush(ctx); err != nil {
		return err
	}
	return provider.Shutdown(ctx)
}
