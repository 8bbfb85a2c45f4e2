//! Walking over the frames of one segment, and judging what comes where they end.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::LogError;
use super::folder::{Segment, damaged};
use super::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, FrameHeader, MAX_BODY_BYTES, u32_at};

const WINDOW_BYTES: usize = 1024 * 1024;

/// What a step found.
pub(super) enum Step {
    /// The next frame; its body starts at `body_offset`.
    Frame { header: FrameHeader, body_offset: u64 },
    /// The next frame is not, or not wholly, where it should be.
    Gap(Gap),
}

/// A place where a frame should be and is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gap {
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

/// Whether a step reads and checks the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    Body,
    HeaderOnly,
}

/// Stands before a frame of a segment.
pub(super) struct Walk {
    segment: Arc<Segment>,
    window: Window,
    /// Where the next frame should start, and its position.
    offset: u64,
    expected: u64,
    /// Session of the last frame passed.
    session: u32,
    /// End of the last frame passed.
    end: u64,
}

impl Walk {
    pub(super) fn new(segment: Arc<Segment>) -> Result<Self, LogError> {
        let length = segment.file.metadata().map_err(|error| LogError::io("read", &segment.path, error))?.len();
        Ok(Self {
            window: Window { bytes: Vec::new(), start: 0, file_bytes: length.min(segment.header.segment_bytes) },
            offset: BLOCK_BYTES,
            expected: segment.header.first,
            session: 0,
            end: BLOCK_BYTES,
            segment,
        })
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Position of the frame it stands before.
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// Where the next commit goes: the first block after all frames passed.
    pub(super) fn next_commit(&self) -> u64 {
        self.end.next_multiple_of(BLOCK_BYTES)
    }

    /// Bytes of the file that are there; less than the segment's size when the file was cut.
    pub(super) fn file_bytes(&self) -> u64 {
        self.window.file_bytes
    }

    /// Looks at the next frame and passes it if it is whole.
    pub(super) fn step(&mut self, check: Check) -> Result<Step, LogError> {
        let (offset, header) = match self.header_at(self.offset)? {
            Some(header) if header.position == self.expected && header.session >= self.session => (self.offset, header),
            _ => {
                // After a torn commit the next session starts with a fresh block.
                let block = self.offset.next_multiple_of(BLOCK_BYTES);
                match self.header_at(block)? {
                    Some(header) if header.position == self.expected && header.session > self.session => (block, header),
                    _ => return Ok(Step::Gap(Gap { offset: self.offset, what: "there is no frame where one should start" })),
                }
            }
        };
        let body_offset = offset + FRAME_HEADER_BYTES as u64;
        if header.body_bytes() > MAX_BODY_BYTES || body_offset + header.body_bytes() > self.window.file_bytes {
            return Ok(Step::Gap(Gap { offset, what: "the frame is longer than its segment" }));
        }
        if check == Check::Body {
            let body = self.window.get(&self.segment, body_offset, header.body_bytes())?;
            if crc32c::crc32c_append(self.segment.seed, body) != header.body_crc {
                return Ok(Step::Gap(Gap { offset, what: "the frame's checksum does not match its content" }));
            }
        }
        self.end = offset + header.frame_bytes();
        self.offset = if header.last_of_commit { self.end.next_multiple_of(BLOCK_BYTES) } else { self.end };
        self.expected += 1;
        self.session = header.session;
        Ok(Step::Frame { header, body_offset })
    }

    /// The bytes of a body that a step has checked.
    pub(super) fn body(&mut self, header: &FrameHeader, body_offset: u64) -> Result<&[u8], LogError> {
        self.window.get(&self.segment, body_offset, header.body_bytes())
    }

    /// Judges the gap at the end of the last segment. Only frames whose sync never ended may be missing there: how far they
    /// reach (the torn end). An error when a later frame says that the missing one had been synced.
    pub(super) fn torn_end(&mut self, gap: Gap) -> Result<u64, LogError> {
        let mut end = self.torn_end_of_first(gap)?;
        let mut offset = gap.offset + 8;
        while offset + FRAME_HEADER_BYTES as u64 <= self.window.file_bytes {
            let length = (self.window.file_bytes - offset).min(WINDOW_BYTES as u64);
            let bytes = self.window.get(&self.segment, offset, length)?;
            let marks = (0..bytes.len() - FRAME_HEADER_BYTES + 1).step_by(8);
            let marked: Vec<usize> = marks.filter(|at| u32_at(bytes, *at) == self.segment.seed).collect();
            for at in marked {
                let found = offset + at as u64;
                let Some(header) = self.header_at(found)? else { continue };
                if header.position <= self.expected || header.session < self.session {
                    continue;
                }
                if header.synced >= self.expected {
                    return Err(damaged(&self.segment.path, gap.offset, gap.what));
                }
                end = end.max((found + header.frame_bytes()).min(self.window.file_bytes));
            }
            // The last header of this stretch may reach into the next.
            offset += (length - FRAME_HEADER_BYTES as u64 + 8) & !7;
        }
        Ok(end)
    }

    /// End of the unfinished frame at the gap itself.
    fn torn_end_of_first(&mut self, gap: Gap) -> Result<u64, LogError> {
        if self.segment.header.generation == 1 {
            return self.last_written(gap.offset);
        }
        // In a used segment only a whole header tells an unfinished frame from stale bytes.
        match self.header_at(gap.offset)? {
            Some(header) if header.position == self.expected && header.session >= self.session => {
                Ok((gap.offset + header.frame_bytes()).min(self.window.file_bytes))
            }
            // The file ends inside the header: its rest may have been zeros, which giving the file its size back would restore.
            _ if self.window.file_bytes < gap.offset + FRAME_HEADER_BYTES as u64 => Ok(self.window.file_bytes.max(gap.offset)),
            _ => Ok(gap.offset),
        }
    }

    /// In a segment that was all zeros: the end of what is not zero from `offset` on.
    fn last_written(&mut self, offset: u64) -> Result<u64, LogError> {
        let mut end = offset;
        let mut at = offset;
        while at < self.window.file_bytes {
            let length = (self.window.file_bytes - at).min(WINDOW_BYTES as u64);
            let bytes = self.window.get(&self.segment, at, length)?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += length;
        }
        Ok(end)
    }

    fn header_at(&mut self, offset: u64) -> Result<Option<FrameHeader>, LogError> {
        if offset + FRAME_HEADER_BYTES as u64 > self.window.file_bytes {
            return Ok(None);
        }
        let bytes = self.window.get(&self.segment, offset, FRAME_HEADER_BYTES as u64)?;
        Ok(FrameHeader::decode(bytes.try_into().expect("a header's bytes were asked for"), self.segment.seed))
    }
}

/// A stretch of the file in memory, so that small frames do not cost a system call each.
struct Window {
    bytes: Vec<u8>,
    start: u64,
    file_bytes: u64,
}

impl Window {
    /// `length` bytes at `offset`, which the caller checked to be inside the file.
    fn get(&mut self, segment: &Segment, offset: u64, length: u64) -> Result<&[u8], LogError> {
        let inside = offset >= self.start && offset + length <= self.start + self.bytes.len() as u64;
        if !inside {
            let read = length.max((WINDOW_BYTES as u64).min(self.file_bytes.saturating_sub(offset)));
            self.bytes.resize(usize::try_from(read).expect("a frame fits into memory"), 0);
            self.start = offset;
            if let Err(error) = segment.file.read_exact_at(&mut self.bytes, offset) {
                self.bytes.clear();
                return Err(LogError::io("read", &segment.path, error));
            }
        }
        let from = usize::try_from(offset - self.start).expect("an offset in the window");
        Ok(&self.bytes[from..from + usize::try_from(length).expect("a length in the window")])
    }
}
