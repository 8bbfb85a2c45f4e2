//! Parquet's encodings of whole numbers, as pure functions: the "RLE/bit-packing hybrid" of levels and dictionary keys, and
//! `DELTA_BINARY_PACKED` of 64-bit numbers and of lengths.

/// Numbers of a block of differences, which share one smallest difference.
const BLOCK: usize = 128;

/// Numbers of a miniblock, which share one width.
const MINIBLOCK: usize = 32;

/// Bits that numbers up to `max` need.
pub(super) fn bits_of(max: usize) -> u32 {
    usize::BITS - max.leading_zeros()
}

/// `values` of `bits` each, as runs where eight or more are equal, else packed in groups of eight.
pub(super) fn hybrid(out: &mut Vec<u8>, values: &[u32], bits: u32) {
    let mut packed_to = 0;
    let mut at = 0;
    while at < values.len() {
        let value = values[at];
        let length = values[at..].iter().take_while(|other| **other == value).count();
        // A run may only follow whole groups, so its first values may have to fill the group before it.
        let fill = (8 - (at - packed_to) % 8) % 8;
        if length >= fill + 8 {
            pack(out, &values[packed_to..at + fill], bits);
            run(out, value, length - fill, bits);
            packed_to = at + length;
        }
        at += length;
    }
    pack(out, &values[packed_to..], bits);
}

/// `length` times the same value.
pub(super) fn run(out: &mut Vec<u8>, value: u32, length: usize, bits: u32) {
    if length > 0 {
        varint(out, (length as u64) << 1);
        out.extend_from_slice(&value.to_le_bytes()[..bits.div_ceil(8) as usize]);
    }
}

/// One run of packed groups; the last is filled up with zeros.
fn pack(out: &mut Vec<u8>, values: &[u32], bits: u32) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(8);
    varint(out, (groups as u64) << 1 | 1);
    let end = out.len() + groups * bits as usize;
    let (mut waiting, mut waiting_bits) = (0u64, 0);
    for value in values {
        waiting |= u64::from(*value) << waiting_bits;
        waiting_bits += bits;
        if waiting_bits >= 32 {
            out.extend_from_slice(&(waiting as u32).to_le_bytes());
            waiting >>= 32;
            waiting_bits -= 32;
        }
    }
    out.extend_from_slice(&waiting.to_le_bytes()[..waiting_bits.div_ceil(8) as usize]);
    out.resize(end, 0);
}

/// `values` as `DELTA_BINARY_PACKED`: the first one, then blocks of differences, each less the block's smallest.
pub(super) fn differences(out: &mut Vec<u8>, values: &[i64]) {
    varint(out, BLOCK as u64);
    varint(out, (BLOCK / MINIBLOCK) as u64);
    varint(out, values.len() as u64);
    let Some((first, rest)) = values.split_first() else { return varint(out, 0) };
    varint(out, zigzag(*first));
    let mut last = *first;
    for block in rest.chunks(BLOCK) {
        let mut above = [0u64; BLOCK];
        let mut least = i64::MAX;
        for (difference, value) in above.iter_mut().zip(block) {
            let step = value.wrapping_sub(last);
            last = *value;
            least = least.min(step);
            *difference = step.cast_unsigned();
        }
        varint(out, zigzag(least));
        let mut widths = [0; BLOCK / MINIBLOCK];
        for (width, miniblock) in widths.iter_mut().zip(above[..block.len()].chunks_mut(MINIBLOCK)) {
            let mut all = 0;
            for difference in miniblock {
                *difference = difference.wrapping_sub(least.cast_unsigned());
                all |= *difference;
            }
            *width = (u64::BITS - all.leading_zeros()) as u8;
        }
        out.extend_from_slice(&widths);
        // A miniblock that is begun is written whole; what is behind the last value is zero.
        for (width, miniblock) in widths.iter().zip(above.chunks(MINIBLOCK)) {
            pack_wide(out, miniblock, u32::from(*width));
        }
    }
}

/// Numbers of up to 64 bits; their bits together are a multiple of 32.
fn pack_wide(out: &mut Vec<u8>, values: &[u64], bits: u32) {
    let (mut waiting, mut waiting_bits) = (0u64, 0);
    if bits == 0 {
        return;
    }
    for value in values {
        waiting |= value << waiting_bits;
        waiting_bits += bits;
        if waiting_bits >= 64 {
            out.extend_from_slice(&waiting.to_le_bytes());
            waiting_bits -= 64;
            waiting = if waiting_bits == 0 { 0 } else { value >> (bits - waiting_bits) };
        }
    }
    out.extend_from_slice(&waiting.to_le_bytes()[..waiting_bits.div_ceil(8) as usize]);
}

pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests;
