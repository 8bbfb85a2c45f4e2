//! A process that lives for milliseconds: a command, a function in a cloud. Its spans arrive, or it ends in time.
//!
//! `cargo run -p scouter-exporter --example short_lived`, with a server on localhost:50051 or `SCOUTER_GRPC_URI` set.

use std::time::{Duration, Instant};

use scouter_exporter::{
    GrpcConfig, GrpcSpanProcessor, QueueConfig,
    opentelemetry::{
        KeyValue,
        trace::{TraceContextExt, Tracer, TracerProvider},
    },
    opentelemetry_sdk::{Resource, trace::SdkTracerProvider},
};

/// All the time that telemetry may take from this process.
const BUDGET: Duration = Duration::from_millis(800);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Building costs neither a connection nor a thread; those come with the first span.
    let config = GrpcConfig { timeout: BUDGET, ..GrpcConfig::from_env()? };
    let processor = GrpcSpanProcessor::new(config, QueueConfig::from_env()?)?;
    let pipeline = processor.pipeline().clone();
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("resize").build())
        .with_span_processor(processor)
        .build();

    provider.tracer("resize").in_span("resize image", |context| {
        context.span().set_attribute(KeyValue::new("image.width", 640));
    });

    // `main` returning delivers nothing by itself. This does, and a server that is away does not hold up the exit.
    let begun = Instant::now();
    let report = pipeline.shutdown(BUDGET);
    let spans = &report.stats.spans;
    println!("{} of {} spans delivered in {:?}", spans.exported, spans.ended, begun.elapsed());
    if let Some(error) = &report.stats.last_error {
        println!("last error: {error}");
    }
    Ok(())
}
