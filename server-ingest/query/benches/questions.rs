//! What questions cost over half a million spans in ten flushes.
//!
//! `cargo bench -p scouter-query --bench questions`

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on has failed")]

#[path = "../tests/query/stored.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod stored;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use scouter_query::Limits;
use tokio::runtime::Runtime;

use stored::{Stored, request, store_with, trace_id, varied_span};

const FILES: u64 = 10;
const SPANS_PER_FILE: u64 = 50_000;

async fn filled() -> Stored {
    let stored = store_with(Duration::from_secs(3600), Limits::default());
    for file in 0..FILES {
        for start in (file * SPANS_PER_FILE..(file + 1) * SPANS_PER_FILE).step_by(1000) {
            stored.put(&request(&format!("service {}", start / 1000 % 7), (start..start + 1000).map(varied_span).collect())).await;
        }
        stored.store.flush().await.unwrap();
    }
    stored
}

fn questions(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let stored = runtime.block_on(filled());
    let mut group = criterion.benchmark_group("500k_spans");
    group.sample_size(20);
    for (name, sql) in [
        ("nothing", "SELECT 1"),
        ("count", "SELECT count(*) FROM spans"),
        ("group_by_service", "SELECT service_name, count(*), avg(duration_nano) FROM spans GROUP BY service_name"),
        ("promoted_column", "SELECT count(*) FROM spans WHERE http_route = '/ask'"),
        ("attr", "SELECT count(*) FROM spans WHERE attr(attributes, 'http.route') = '/ask'"),
        ("attr_that_is_rare", "SELECT count(*) FROM spans WHERE attr(attributes, 'gen_ai.request.model') = 'small-model'"),
    ] {
        group.bench_function(name, |bencher| bencher.iter(|| runtime.block_on(stored.engine.sql(black_box(sql))).unwrap()));
    }
    group.bench_function("trace_by_id", |bencher| {
        let mut number = 0;
        bencher.iter(|| {
            number = (number + 104_729) % (FILES * SPANS_PER_FILE / 3);
            let trace = runtime.block_on(stored.engine.trace(trace_id(1 + u128::from(number)))).unwrap();
            assert!(!trace.spans.is_empty());
        });
    });
    group.finish();
}

criterion_group!(benches, questions);
criterion_main!(benches);
