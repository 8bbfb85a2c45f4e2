//! Protobuf's wire format: varints and length-delimited fields, written forward.

/// A tag of a length-delimited field with a number below 16.
pub(super) const fn delimited(field: u8) -> u8 {
    field << 3 | 2
}

/// A tag of a varint field with a number below 16.
pub(super) const fn varint_field(field: u8) -> u8 {
    field << 3
}

/// A tag of a fixed 64-bit field with a number below 16.
pub(super) const fn fixed64_field(field: u8) -> u8 {
    field << 3 | 1
}

/// Bytes `value` takes as a varint.
#[inline]
pub(super) const fn varint_len(value: u64) -> usize {
    // 7 bits a byte: ceil(bits / 7) for 1 ..= 64 bits, with 0 taking one bit.
    ((64 - (value | 1).leading_zeros()) as usize * 9 + 64) / 64
}

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    let mut bytes = [0_u8; 10];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    out.extend_from_slice(&bytes[..=len]);
}

/// A length-delimited field; left out when it is empty, as proto3 does.
#[inline]
pub(super) fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_bytes_always(out, tag, bytes);
    }
}

#[inline]
pub(super) fn put_bytes_always(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.reserve(bytes.len() + 11);
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A fixed 64-bit field; left out when it is zero.
#[inline]
pub(super) fn put_fixed64(out: &mut Vec<u8>, tag: u8, value: u64) {
    if value != 0 {
        let mut bytes = [tag; 9];
        bytes[1..].copy_from_slice(&value.to_le_bytes());
        out.extend_from_slice(&bytes);
    }
}

/// A 32-bit count; left out when it is zero.
#[inline]
pub(super) fn put_count(out: &mut Vec<u8>, tag: u8, value: u32) {
    if value != 0 {
        out.push(tag);
        put_varint(out, u64::from(value));
    }
}

/// Writes a nested message whose length is not known before it is written.
///
/// Two bytes are kept free for the length, which fits messages of 128 to 16383 bytes; others are moved by the difference.
#[inline]
pub(super) fn put_nested(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[tag, 0, 0]);
    let start = out.len();
    write(out);
    let len = out.len() - start;
    let at = start - 2;
    if (0x80..0x4000).contains(&len) {
        out[at] = len as u8 | 0x80;
        out[at + 1] = (len >> 7) as u8;
    } else {
        close_odd_length(out, at, len);
    }
}

#[cold]
fn close_odd_length(out: &mut Vec<u8>, at: usize, len: usize) {
    let needed = varint_len(len as u64);
    if needed > 2 {
        out.resize(out.len() + needed - 2, 0);
    }
    out.copy_within(at + 2..at + 2 + len, at + needed);
    out.truncate(at + needed + len);
    let mut rest = len;
    for slot in &mut out[at..at + needed] {
        *slot = rest as u8 | 0x80;
        rest >>= 7;
    }
    out[at + needed - 1] &= 0x7f;
}

/// Reads a varint; `None` when it is cut off or longer than ten bytes.
pub(super) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Splits the first length-delimited field off; `None` when the bytes do not start with one.
pub(super) fn split_field(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (len, len_bytes) = read_varint(bytes.get(1..)?)?;
    let start = 1 + len_bytes;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    Some((bytes.get(start..end)?, end))
}
