//! What questions cost over half a million spans in ten flushes.
//!
//! `cargo bench -p scouter-query --bench questions`. `SCOUTER_BENCH_FLUSHES=200` makes that ten million; with `SCOUTER_BENCH_MERGED=1` the
//! files are merged before the first question.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot go on has failed")]

#[path = "../tests/query/stored.rs"]
#[allow(dead_code, reason = "shared with the tests")]
mod stored;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use scouter_storage::columns::Table;
use scouter_storage::store::MaintenanceOptions;
use tokio::runtime::Runtime;

use stored::{Stored, maintained_store, request, trace_id, varied_span};

const SPANS_PER_FILE: u64 = 50_000;

fn flushes() -> u64 {
    std::env::var("SCOUTER_BENCH_FLUSHES").ok().and_then(|text| text.parse().ok()).unwrap_or(10)
}

async fn filled() -> Stored {
    let is_merged = std::env::var_os("SCOUTER_BENCH_MERGED").is_some();
    let maintenance =
        MaintenanceOptions { interval: Duration::ZERO, merge_min_age: Duration::ZERO, rest: 0.0, ..MaintenanceOptions::default() };
    let stored = maintained_store(maintenance);
    for file in 0..flushes() {
        for start in (file * SPANS_PER_FILE..(file + 1) * SPANS_PER_FILE).step_by(1000) {
            stored.put(&request(&format!("service {}", start / 1000 % 7), (start..start + 1000).map(varied_span).collect())).await;
        }
        stored.store.flush().await.unwrap();
    }
    if is_merged {
        stored.store.maintain().await.unwrap();
    }
    let snapshot = stored.store.cut(Table::Spans).await.unwrap().snapshot;
    println!("{} spans in {} files", snapshot.rows(), snapshot.files.len());
    stored
}

fn questions(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let stored = runtime.block_on(filled());
    let mut group = criterion.benchmark_group(format!("{}k_spans", flushes() * SPANS_PER_FILE / 1000));
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
            number = (number + 104_729) % (flushes() * SPANS_PER_FILE / 3);
            let trace = runtime.block_on(stored.engine.trace(trace_id(1 + u128::from(number)))).unwrap();
            assert!(!trace.spans.is_empty());
        });
    });
    group.finish();
}

criterion_group!(benches, questions);
criterion_main!(benches);
