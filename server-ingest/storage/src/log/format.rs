//! The bytes of the log, as `docs/storage-format.md` describes them. Pure functions; all integers are little endian.

use bytes::Bytes;
use uuid::Uuid;

use super::{BatchId, Door, Frame, MAX_PAYLOAD_BYTES};
use crate::otlp::Envelope;

/// Version of `log.meta` and of segments.
pub(super) const VERSION: u32 = 1;

/// Version of the file of batch ids. Version 1 did not say how many records had been refused; it is still read.
pub(super) const IDS_VERSION: u32 = 2;

/// Commits start at multiples of it, and a segment's header fills the first one.
pub(super) const BLOCK_BYTES: u64 = 4096;

/// Bytes of a segment's header that carry something; the rest of its block is zero.
pub(super) const SEGMENT_HEADER_BYTES: usize = 72;

/// Bytes before a frame's lists and payload.
pub(super) const FRAME_HEADER_BYTES: usize = 72;

/// Bytes of `log.meta`.
pub(super) const META_BYTES: usize = 64;

/// Largest body of a frame. A refused span or record took at least two bytes of the payload, and its index takes four.
pub(super) const MAX_BODY_BYTES: u64 = 3 * MAX_PAYLOAD_BYTES as u64;

const SEGMENT_MAGIC: &[u8; 8] = b"SCTRWAL\0";
const META_MAGIC: &[u8; 8] = b"SCTRMETA";
const IDS_MAGIC: &[u8; 8] = b"SCTRIDS\0";
const IDS_HEADER_BYTES: usize = 40;
const ID_ENTRY_BYTES: usize = 36;
const ID_ENTRY_BYTES_V1: usize = 32;
/// Stands for a number of refused records that is not known.
const UNKNOWN: u32 = u32::MAX;
const FLAG_LAST_OF_COMMIT: u16 = 1;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    /// Damaged; says how.
    Damaged(&'static str),
    /// Made by a version that is not ours.
    Version { version: u32, supported: u32 },
}

/// First block of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log_id: Uuid,
    /// The position its first frame has or will have.
    pub(super) first: u64,
    /// How often the file was put to use, this time included; 1 means that bytes never written are zero.
    pub(super) generation: u64,
    /// Size of the file.
    pub(super) segment_bytes: u64,
    pub(super) created_unix_nano: u64,
    /// First position of the segment before it; 0 when there was none. Tells a missing segment from a damaged one.
    pub(super) previous: u64,
}

impl SegmentHeader {
    /// The header block, and the seed all checksums in this segment start from.
    pub(super) fn encode(&self) -> ([u8; BLOCK_BYTES as usize], u32) {
        let mut block = [0_u8; BLOCK_BYTES as usize];
        block[0..8].copy_from_slice(SEGMENT_MAGIC);
        block[8..12].copy_from_slice(&VERSION.to_le_bytes());
        block[16..32].copy_from_slice(self.log_id.as_bytes());
        block[32..40].copy_from_slice(&self.first.to_le_bytes());
        block[40..48].copy_from_slice(&self.generation.to_le_bytes());
        block[48..56].copy_from_slice(&self.segment_bytes.to_le_bytes());
        block[56..64].copy_from_slice(&self.created_unix_nano.to_le_bytes());
        block[64..72].copy_from_slice(&self.previous.to_le_bytes());
        let seed = checksum_around(&block[..SEGMENT_HEADER_BYTES]);
        block[12..16].copy_from_slice(&seed.to_le_bytes());
        (block, seed)
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<(Self, u32), Invalid> {
        let (_, seed) = check_preamble(bytes, SEGMENT_MAGIC, "this is not a segment of a log", VERSION)?;
        let header = Self {
            log_id: Uuid::from_bytes(array(bytes, 16)),
            first: u64_at(bytes, 32),
            generation: u64_at(bytes, 40),
            segment_bytes: u64_at(bytes, 48),
            created_unix_nano: u64_at(bytes, 56),
            previous: u64_at(bytes, 64),
        };
        Ok((header, seed))
    }
}

/// What stands before a frame's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) body_crc: u32,
    /// The opening of the log that wrote it; never falls along a segment.
    pub(super) session: u32,
    pub(super) position: u64,
    /// All frames up to this position were synced before this one was written.
    pub(super) synced: u64,
    pub(super) received_unix_nano: u64,
    pub(super) batch_id: BatchId,
    pub(super) payload_bytes: u32,
    pub(super) rejected_spans: u32,
    pub(super) rejected_records: u32,
    pub(super) door: u8,
    pub(super) envelope: u8,
    /// The next frame starts with the next block, not directly behind this one.
    pub(super) last_of_commit: bool,
}

impl FrameHeader {
    pub(super) fn encode(&self, seed: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0_u8; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&seed.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.session.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.received_unix_nano.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.batch_id.0);
        bytes[56..60].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[60..64].copy_from_slice(&self.rejected_spans.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.rejected_records.to_le_bytes());
        bytes[68] = self.door;
        bytes[69] = self.envelope;
        let flags = if self.last_of_commit { FLAG_LAST_OF_COMMIT } else { 0 };
        bytes[70..72].copy_from_slice(&flags.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None`: not a frame of this segment, or not a whole header.
    pub(super) fn decode(bytes: &[u8; FRAME_HEADER_BYTES], seed: u32) -> Option<Self> {
        if u32_at(bytes, 0) != seed || u32_at(bytes, 4) != crc32c::crc32c_append(seed, &bytes[8..]) {
            return None;
        }
        Some(Self {
            body_crc: u32_at(bytes, 8),
            session: u32_at(bytes, 12),
            position: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
            received_unix_nano: u64_at(bytes, 32),
            batch_id: BatchId(array(bytes, 40)),
            payload_bytes: u32_at(bytes, 56),
            rejected_spans: u32_at(bytes, 60),
            rejected_records: u32_at(bytes, 64),
            door: bytes[68],
            envelope: bytes[69],
            last_of_commit: u16::from_le_bytes(array(bytes, 70)) & FLAG_LAST_OF_COMMIT != 0,
        })
    }

    /// What is remembered of it when it is gone.
    pub(super) fn id_entry(&self) -> IdEntry {
        IdEntry {
            position: self.position,
            received_unix_nano: self.received_unix_nano,
            batch_id: self.batch_id,
            rejected_records: Some(self.rejected_records),
        }
    }

    /// Bytes of lists and payload.
    pub(super) fn body_bytes(&self) -> u64 {
        4 * (u64::from(self.rejected_spans) + u64::from(self.rejected_records)) + u64::from(self.payload_bytes)
    }

    /// Bytes from this frame's start to where a frame of the same commit would start.
    pub(super) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.body_bytes())
    }

    /// The frame this header and its body (already checked against `body_crc`) make; an error says what is unknown in it.
    pub(super) fn frame(&self, body: Bytes) -> Result<Frame, &'static str> {
        let lists = 4 * self.rejected_spans as usize;
        let payload = lists + 4 * self.rejected_records as usize;
        Ok(Frame {
            door: Door::from_number(self.door).ok_or("unknown door")?,
            envelope: match self.envelope {
                1 => Envelope::Otlp,
                2 => Envelope::Scouter,
                _ => return Err("unknown envelope"),
            },
            received_unix_nano: self.received_unix_nano,
            batch_id: self.batch_id,
            rejected_spans: indexes(&body[..lists]),
            rejected_records: indexes(&body[lists..payload]),
            payload: body.slice(payload..),
        })
    }
}

/// Bytes of a frame with a body of `body_bytes`, padded to a multiple of eight.
pub(super) fn frame_bytes(body_bytes: u64) -> u64 {
    (FRAME_HEADER_BYTES as u64 + body_bytes).next_multiple_of(8)
}

/// Bytes of lists and payload of a frame.
pub(super) fn body_bytes(frame: &Frame) -> u64 {
    4 * (frame.rejected_spans.len() + frame.rejected_records.len()) as u64 + frame.payload.len() as u64
}

/// What `log.meta` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) log_id: Uuid,
    /// Everything before it was trimmed: the oldest segment starts with it.
    pub(super) first: u64,
    /// At least so many frames are known to be durable; a log that ends before is damaged, not torn.
    pub(super) durable: u64,
    /// The last opening for writing.
    pub(super) session: u32,
}

impl Meta {
    pub(super) fn encode(&self) -> [u8; META_BYTES] {
        let mut bytes = [0_u8; META_BYTES];
        bytes[0..8].copy_from_slice(META_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log_id.as_bytes());
        bytes[32..40].copy_from_slice(&self.first.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.durable.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.session.to_le_bytes());
        let crc = checksum_around(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        if bytes.len() != META_BYTES {
            return Err(Invalid::Damaged("log.meta has the wrong length"));
        }
        check_preamble(bytes, META_MAGIC, NOT_A_LOGS, VERSION)?;
        Ok(Self {
            log_id: Uuid::from_bytes(array(bytes, 16)),
            first: u64_at(bytes, 32),
            durable: u64_at(bytes, 40),
            session: u32_at(bytes, 48),
        })
    }
}

/// One remembered batch id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IdEntry {
    pub(super) position: u64,
    pub(super) received_unix_nano: u64,
    pub(super) batch_id: BatchId,
    /// How many of its monitoring records were refused; unknown of batches that came from a file of version 1.
    pub(super) rejected_records: Option<u32>,
}

/// The file of batch ids whose frames were trimmed.
pub(super) fn encode_ids<'a>(log_id: Uuid, entries: impl Iterator<Item = &'a IdEntry>) -> Vec<u8> {
    let mut bytes = vec![0_u8; IDS_HEADER_BYTES];
    let mut count = 0_u64;
    for entry in entries {
        bytes.extend_from_slice(&entry.position.to_le_bytes());
        bytes.extend_from_slice(&entry.received_unix_nano.to_le_bytes());
        bytes.extend_from_slice(&entry.batch_id.0);
        bytes.extend_from_slice(&entry.rejected_records.unwrap_or(UNKNOWN).to_le_bytes());
        count += 1;
    }
    bytes[0..8].copy_from_slice(IDS_MAGIC);
    bytes[8..12].copy_from_slice(&IDS_VERSION.to_le_bytes());
    bytes[16..32].copy_from_slice(log_id.as_bytes());
    bytes[32..40].copy_from_slice(&count.to_le_bytes());
    let crc = checksum_around(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn decode_ids(bytes: &[u8]) -> Result<(Uuid, Vec<IdEntry>), Invalid> {
    if bytes.len() < IDS_HEADER_BYTES {
        return Err(Invalid::Damaged("the file of batch ids is cut short"));
    }
    let (version, _) = check_preamble(bytes, IDS_MAGIC, NOT_A_LOGS, IDS_VERSION)?;
    let entry_bytes = if version == 1 { ID_ENTRY_BYTES_V1 } else { ID_ENTRY_BYTES };
    let entries = &bytes[IDS_HEADER_BYTES..];
    if u64_at(bytes, 32).checked_mul(entry_bytes as u64) != Some(entries.len() as u64) {
        return Err(Invalid::Damaged("the file of batch ids does not hold as many as it says"));
    }
    let entries = entries.chunks_exact(entry_bytes).map(|entry| IdEntry {
        position: u64_at(entry, 0),
        received_unix_nano: u64_at(entry, 8),
        batch_id: BatchId(array(entry, 16)),
        rejected_records: (version > 1).then(|| u32_at(entry, 32)).filter(|count| *count != UNKNOWN),
    });
    Ok((Uuid::from_bytes(array(bytes, 16)), entries.collect()))
}

const NOT_A_LOGS: &str = "this is not a file of a log";

/// Checks magic, version and checksum of a file that starts {magic 8, version 4, crc 4}; returns version and checksum. All versions
/// from 1 to `newest` have them there.
fn check_preamble(bytes: &[u8], magic: &[u8; 8], otherwise: &'static str, newest: u32) -> Result<(u32, u32), Invalid> {
    if &bytes[0..8] != magic {
        return Err(Invalid::Damaged(otherwise));
    }
    let crc = u32_at(bytes, 12);
    let version = u32_at(bytes, 8);
    // The version is looked at first: another version may keep its checksum elsewhere.
    if !(1..=newest).contains(&version) {
        return Err(Invalid::Version { version, supported: newest });
    }
    if crc != checksum_around(bytes) {
        return Err(Invalid::Damaged("checksum mismatch in a header"));
    }
    Ok((version, crc))
}

/// Checksum of all but the four bytes at 12, where it is kept.
fn checksum_around(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..])
}

fn indexes(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|index| u32_at(index, 0)).collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has the array's length")
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}
