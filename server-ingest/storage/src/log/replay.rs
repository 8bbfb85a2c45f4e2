//! Reading durable frames back.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use super::folder::{Segment, damaged};
use super::scan::{Check, Step, Walk};
use super::{Frame, LogError, Position};

/// Iterates over durable frames in position order; see [`super::Log::replay`]. Ends after the first error.
///
/// It may run beside appends and trims: a segment that is trimmed meanwhile stays readable to it.
pub struct Replay {
    dir: PathBuf,
    segments: VecDeque<Arc<Segment>>,
    walk: Option<Walk>,
    /// Position of the next frame it gives.
    next: u64,
    until: u64,
}

impl Replay {
    /// The frames of `segments` (in order) after `after` up to and with `until`.
    pub(super) fn new(dir: PathBuf, mut segments: VecDeque<Arc<Segment>>, after: Position, until: Position) -> Self {
        while segments.get(1).is_some_and(|second| second.header.first <= after.0.saturating_add(1)) {
            segments.pop_front();
        }
        Self { dir, segments, walk: None, next: after.0.saturating_add(1), until: until.0 }
    }

    fn read_next(&mut self) -> Result<(Position, Frame), LogError> {
        loop {
            let walk = match &mut self.walk {
                Some(walk) if self.segments.front().is_none_or(|following| walk.expected() < following.header.first) => walk,
                _ => {
                    let segment = self.segments.pop_front();
                    let found = segment.as_ref().map_or(0, |segment| segment.header.first);
                    let expected = self.walk.as_ref().map_or(self.next, Walk::expected);
                    let Some(segment) = segment.filter(|_| found <= expected) else {
                        return Err(LogError::MissingSegment { dir: self.dir.clone(), expected, found });
                    };
                    self.walk.insert(Walk::new(segment)?)
                }
            };
            let check = if walk.expected() < self.next { Check::HeaderOnly } else { Check::Body };
            match walk.step(check)? {
                Step::Gap(gap) => return Err(damaged(&walk.segment().path, gap.offset, gap.what)),
                Step::Frame { .. } if check == Check::HeaderOnly => {}
                Step::Frame { header, body_offset } => {
                    let body = Bytes::copy_from_slice(walk.body(&header, body_offset)?);
                    let frame = header.frame(body).map_err(|what| damaged(&walk.segment().path, body_offset, what))?;
                    return Ok((Position(header.position), frame));
                }
            }
        }
    }
}

impl Iterator for Replay {
    type Item = Result<(Position, Frame), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.until {
            return None;
        }
        let read = self.read_next();
        self.next = if read.is_ok() { self.next + 1 } else { u64::MAX };
        if read.is_err() {
            self.until = 0;
        }
        Some(read)
    }
}
