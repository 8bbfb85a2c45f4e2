module scouter/interop/jaeger

go 1.25

require github.com/jaegertracing/jaeger v1.62.0
