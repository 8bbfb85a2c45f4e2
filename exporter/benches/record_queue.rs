//! What inserting an item costs the thread that does it, and what a record costs to a durable acknowledgement, as protobuf and as JSON.
//!
//! `SCOUTER_SERVER_BIN=... cargo bench -p scouter-exporter --bench record_queue -- [rounds]`. Without a server the last part does not run.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a benchmark that cannot go on has failed")]

#[path = "../tests/exporter/server.rs"]
#[allow(dead_code, reason = "the tests' server, of which little is needed here")]
mod recording;

#[path = "shared/measure.rs"]
#[allow(dead_code, reason = "shared by benchmarks")]
mod measure;

use std::{
    hint::black_box,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use scouter_exporter::{
    GrpcConfig, Payload, Pipeline, QueueConfig,
    encode::{EncodedRecords, RecordSubject},
    queue::{EvalRecord, Feature, FeatureValue, Features, Metric, Metrics, Profile, Queue, RecordQueue, RecordQueueConfig},
};

const PATIENCE: Duration = Duration::from_secs(60);
const ITEMS: usize = 200_000;
const RECORDS: usize = 400_000;
/// As many as a queue hands over at once.
const CHUNK: usize = 512;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(5);
    insert(rounds);
    sizes();
    match std::env::var("SCOUTER_SERVER_BIN") {
        Ok(program) => deliver(&program, rounds),
        Err(_) => println!("SCOUTER_SERVER_BIN names no server: records are not delivered"),
    }
}

fn profile(kind: &str) -> Profile {
    Profile::from_path(format!("{}/tests/fixtures/scouter-0.25/profile_{kind}.json", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Nobody listens there, and the queue has room for what a round leaves.
fn nowhere() -> RecordQueue {
    let config = GrpcConfig { server_uri: "http://127.0.0.1:9".to_owned(), ..GrpcConfig::default() };
    let settings = RecordQueueConfig { max_records: 8_000_000, max_bytes: 4 << 30, ..RecordQueueConfig::default() };
    let kinds = ["psi", "psi_categorical", "spc", "custom", "genai"];
    RecordQueue::new(kinds.map(|kind| (kind, profile(kind))), config, settings).unwrap()
}

/// A name, the alias of a queue, and what is done with it.
type Case<'a> = (&'static str, &'static str, Box<dyn Fn(&Queue) + 'a>);

fn insert(rounds: usize) {
    let ten = |count: usize| Features::new((0..count).map(|index| Feature::float(format!("f{index}"), index as f64 + 0.3)));
    let (three, ten) = (ten(3), ten(10));
    let mixed = Features::new([Feature::float("age", 41.0), Feature::string("region", "us-west-2")]);
    let lent: Vec<(&str, FeatureValue<'_>)> = ["f0", "f1", "f2"].map(|name| (name, FeatureValue::Float(1.5))).to_vec();
    let metrics = Metrics::new([Metric::new("acc", 0.9), Metric::new("mae", 12.5)]);
    let record = EvalRecord::from_json(format!("{{\"question\":\"{}\"}}", "x".repeat(200)));
    let cases: [Case<'_>; 7] = [
        ("PSI, 3 features", "psi", Box::new(|queue| queue.insert(black_box(&three)).unwrap())),
        ("PSI, 3 features, lent", "psi", Box::new(|queue| queue.insert_features(black_box(&lent)).unwrap())),
        ("PSI, a number and a category", "psi_categorical", Box::new(|queue| queue.insert(black_box(&mixed)).unwrap())),
        ("PSI, 10 features", "psi", Box::new(|queue| queue.insert(black_box(&ten)).unwrap())),
        ("SPC, 10 features", "spc", Box::new(|queue| queue.insert(black_box(&ten)).unwrap())),
        ("custom, 2 metrics", "custom", Box::new(|queue| queue.insert(black_box(&metrics)).unwrap())),
        ("evaluation, 200 bytes", "genai", Box::new(|queue| queue.insert(black_box(&record)).unwrap())),
    ];
    println!("CPU ns an item on the inserting thread, records included; {ITEMS} items, {rounds} rounds, median (range)");
    for (name, alias, work) in &cases {
        let mut rounds: Vec<f64> = (0..rounds)
            .map(|_| {
                let queues = nowhere();
                let queue = queues.get(alias).unwrap();
                (0..1000).for_each(|_| work(&queue));
                let start = measure::thread_cpu();
                (0..ITEMS).for_each(|_| work(&queue));
                let took = (measure::thread_cpu() - start).as_nanos() as f64 / ITEMS as f64;
                assert_eq!(queues.stats().delivery.records.dropped.total(), 0);
                queues.shutdown(Duration::ZERO);
                took
            })
            .collect();
        println!("{name:30} {}", spread(&mut rounds));
    }
}

/// Median and range.
fn spread(values: &mut [f64]) -> String {
    values.sort_unstable_by(f64::total_cmp);
    format!("{:8.2} ({:.2} to {:.2})", values[values.len() / 2], values[0], values[values.len() - 1])
}

struct Server {
    child: Child,
    grpc: String,
    _storage: tempfile::TempDir,
}

impl Server {
    fn start(program: &str) -> Self {
        let storage = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["serve", "--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--otlp-grpc-addr=", "--otlp-http-addr="])
            .arg("--storage")
            .arg(storage.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = lines.find_map(|line| line.unwrap().strip_prefix("listening grpc=").map(str::to_owned)).unwrap();
        Self { child, grpc: listening.split(' ').next().unwrap().to_owned(), _storage: storage }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Bytes a record of one request as each contender sends it: as it is, and compressed as clients do.
fn sizes() {
    const COUNT: usize = 4096;
    println!("\nbytes a record of {COUNT} in one request");
    println!("{:24} {:>12} {:>12} {:>12}", "", "as it is", "gzip", "zstd");
    let sizes = [("typed", Payload::Auto), ("JSON", Payload::Json)].map(|(name, payload)| {
        let server = recording::Server::start();
        let pipeline = Pipeline::new(GrpcConfig { payload, ..server.config() }, QueueConfig::default()).unwrap();
        let mut records = EncodedRecords::default();
        chunk_into(&mut records, 0, COUNT);
        assert!(pipeline.try_push_records(&records));
        pipeline.flush(PATIENCE).unwrap();
        pipeline.shutdown(PATIENCE);
        let bodies: Vec<u8> = server.inserts().iter().flat_map(|insert| insert.body.to_vec()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        gzip.write_all(&bodies).unwrap();
        let lengths = [bodies.len(), gzip.finish().unwrap().len(), zstd::encode_all(&*bodies, 3).unwrap().len()];
        let [plain, gzip, zstd] = lengths.map(|bytes| bytes as f64 / COUNT as f64);
        println!("{name:24} {plain:>12.1} {gzip:>12.2} {zstd:>12.2}");
        [plain, gzip, zstd]
    });
    let ratio = |index: usize| sizes[1][index] / sizes[0][index];
    println!("{:24} {:>11.1}x {:>11.1}x {:>11.1}x", "JSON beside typed", ratio(0), ratio(1), ratio(2));
}

/// One contender after the other, each with a server of its own; both take the very same records from memory.
fn deliver(program: &str, rounds: usize) {
    println!("\n{RECORDS} records to a durable acknowledgement, client and server on this machine, {rounds} rounds, median (range)");
    println!("{:24} {:>32} {:>16} {:>30}", "", "records/s", "bytes a record", "client CPU ns a record");
    let contenders = [("typed", Payload::Auto), ("JSON", Payload::Json)];
    let mut rates = [Vec::new(), Vec::new()];
    let mut costs = [Vec::new(), Vec::new()];
    let mut bytes = [0.0; 2];
    for _ in 0..rounds {
        for (index, (_, payload)) in contenders.iter().enumerate() {
            let server = Server::start(program);
            let config = GrpcConfig { server_uri: format!("http://{}", server.grpc), payload: *payload, ..GrpcConfig::default() };
            let queue = QueueConfig { max_spans: 1 << 20, max_bytes: 1 << 30, ..QueueConfig::default() };
            let pipeline = Pipeline::new(GrpcConfig { timeout: PATIENCE, ..config }, queue).unwrap();
            assert!(pipeline.try_push_records(&chunk(0, 1)));
            pipeline.flush(PATIENCE).unwrap();
            let (start, cpu) = (Instant::now(), cpu_nanos());
            for first in (0..RECORDS).step_by(CHUNK) {
                assert!(pipeline.try_push_records(&chunk(first, CHUNK.min(RECORDS - first))));
            }
            pipeline.flush(PATIENCE).unwrap();
            rates[index].push(RECORDS as f64 / start.elapsed().as_secs_f64());
            costs[index].push((cpu_nanos() - cpu) as f64 / RECORDS as f64);
            let stats = pipeline.stats();
            assert_eq!(stats.records.exported, RECORDS as u64 + 1, "{stats:?}");
            bytes[index] = stats.bytes as f64 / stats.records.exported as f64;
            pipeline.shutdown(PATIENCE);
        }
    }
    for (index, (name, _)) in contenders.iter().enumerate() {
        println!("{name:24} {:>32} {:>16.1} {:>30}", spread(&mut rates[index]), bytes[index], spread(&mut costs[index]));
    }
    let median = |rates: &[f64]| rates[rates.len() / 2];
    println!(
        "typed beside JSON: {:.1} times the records/s, {:.1} times fewer bytes",
        median(&rates[0]) / median(&rates[1]),
        bytes[1] / bytes[0]
    );
}

/// Bins, means and metrics as queues publish them.
fn chunk(first: usize, count: usize) -> EncodedRecords {
    let mut records = EncodedRecords::default();
    chunk_into(&mut records, first, count);
    records
}

fn chunk_into(records: &mut EncodedRecords, first: usize, count: usize) {
    let uid = "01a20603-d2ca-7c60-9c68-017104d6a373";
    let subjects: Vec<RecordSubject> = (0..10).map(|feature| RecordSubject::new(uid, &format!("feature_{feature}"))).collect();
    for number in first..first + count {
        let (subject, created_at) = (&subjects[number / 10 % 10], 1_795_397_246_472_867_420 + number as u64 * 1000);
        match number % 10 {
            0 => records.push_spc(subject, created_at, number as f64 / 3.0),
            1 => records.push_custom(subject, created_at, number as f64 / 7.0),
            bin => records.push_psi(subject, created_at, bin as i64, 90 + number as u64 % 20),
        }
    }
}

/// CPU time of this process so far.
fn cpu_nanos() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the structure it is given.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let nanos = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    nanos(usage.ru_utime) + nanos(usage.ru_stime)
}
