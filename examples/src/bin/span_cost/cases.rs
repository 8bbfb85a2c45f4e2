//! What is measured.

use scouter_examples::{
    door::{Compression, Door},
    spans::Size,
};

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) size: Size,
    pub(crate) door: Door,
    pub(crate) compression: Compression,
    /// Spans in a request.
    pub(crate) batch: u64,
    /// Spans a second; `None` is as fast as it goes.
    pub(crate) rate: Option<f64>,
    /// Spans to send.
    pub(crate) spans: u64,
}

const BATCHES: [u64; 5] = [10, 100, 512, 1000, 8192];

impl Case {
    fn new(size: Size, door: Door, compression: Compression, batch: u64) -> Self {
        let spans = match (size, batch) {
            (Size::Llm, _) => 30_000,
            (_, 10) => 250_000,
            _ => 1_000_000,
        };
        Self { size, door, compression, batch, rate: None, spans }
    }

    /// About the bytes of one request.
    pub(crate) fn request_bytes(&self) -> usize {
        let span = match self.size {
            Size::Small => 470,
            Size::Medium => 810,
            Size::Llm => 8200,
        };
        self.batch as usize * span
    }

    /// Requests under way at once: enough to keep one CPU busy, few enough not to measure a queue.
    pub(crate) fn concurrency(&self) -> usize {
        if self.batch <= 10 { 32 } else { 4 }
    }

    pub(crate) fn name(&self) -> String {
        let size = match self.size {
            Size::Small => "470 B",
            Size::Medium => "810 B",
            Size::Llm => "8 KiB",
        };
        let rate = self.rate.map_or_else(String::new, |rate| format!(", {rate} spans/s"));
        format!("{size}, {}, {}, batches of {}{rate}", self.door.name(), self.compression.name(), self.batch)
    }
}

/// The choice, or every combination.
pub(crate) fn cases(full: bool) -> Vec<Case> {
    use Compression::{Gzip, Plain, Zstd};
    use Door::{OtlpGrpc, OtlpHttp, ScouterGrpc};
    // Batches of 8192 large spans would be above the server's limit of a request.
    let fits = |case: &Case| case.request_bytes() < 48 * 1024 * 1024;
    let at_a_pace = Case { rate: Some(50_000.0), spans: 250_000, ..Case::new(Size::Small, ScouterGrpc, Plain, 512) };
    if full {
        let mut cases = Vec::new();
        for size in [Size::Small, Size::Medium, Size::Llm] {
            for door in [ScouterGrpc, OtlpGrpc, OtlpHttp] {
                for compression in [Plain, Gzip, Zstd] {
                    cases.extend(BATCHES.map(|batch| Case::new(size, door, compression, batch)).into_iter().filter(fits));
                }
            }
        }
        cases.push(at_a_pace);
        return cases;
    }
    let mut cases = BATCHES.map(|batch| Case::new(Size::Small, ScouterGrpc, Plain, batch)).to_vec();
    cases.extend([
        Case::new(Size::Small, OtlpGrpc, Plain, 512),
        Case::new(Size::Small, OtlpHttp, Plain, 512),
        Case { spans: 400_000, ..Case::new(Size::Small, ScouterGrpc, Gzip, 512) },
        Case::new(Size::Small, ScouterGrpc, Zstd, 512),
        Case::new(Size::Medium, ScouterGrpc, Plain, 512),
        Case::new(Size::Llm, ScouterGrpc, Plain, 64),
        at_a_pace,
    ]);
    cases
}
