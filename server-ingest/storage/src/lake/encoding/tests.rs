//! What is encoded, read back by readers written for it; whole columns are read back by Parquet's reader in `lake::tests`.

use super::{bits_of, differences, hybrid};

/// The reader of the Parquet specification, by the letter.
fn read(bytes: &[u8], bits: u32, count: usize) -> Vec<u32> {
    let (mut at, mut values) = (0, Vec::new());
    while values.len() < count {
        let header = varint(bytes, &mut at);
        if header & 1 == 0 {
            let width = bits.div_ceil(8) as usize;
            let mut value = [0; 4];
            value[..width].copy_from_slice(&bytes[at..][..width]);
            at += width;
            values.extend(vec![u32::from_le_bytes(value); (header >> 1) as usize]);
        } else {
            let packed = (header >> 1) as usize * 8;
            for index in 0..packed {
                let bit = |bit: usize| u32::from(bytes[at + bit / 8] >> (bit % 8) & 1);
                let start = index * bits as usize;
                values.push((0..bits as usize).map(|offset| bit(start + offset) << offset).sum());
            }
            at += packed * bits as usize / 8;
        }
    }
    assert_eq!(at, bytes.len(), "nothing is left over");
    assert!(values[count..].iter().all(|value| *value == 0) && values.len() < count + 8, "only the last group is filled up");
    values.truncate(count);
    values
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        value |= u64::from(bytes[*at] & 0x7f) << shift;
        shift += 7;
        *at += 1;
        if bytes[*at - 1] < 0x80 {
            return value;
        }
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// The reader of `DELTA_BINARY_PACKED`, by the letter.
fn read_differences(bytes: &[u8]) -> Vec<i64> {
    let mut at = 0;
    let [block, miniblocks, count, first] = std::array::from_fn(|_| varint(bytes, &mut at));
    let (miniblocks, count) = (miniblocks as usize, count as usize);
    let miniblock = block as usize / miniblocks;
    assert!(miniblock.is_multiple_of(32) && block.is_multiple_of(128));
    let mut values = if count > 0 { vec![zigzag(first)] } else { Vec::new() };
    while values.len() < count {
        let least = zigzag(varint(bytes, &mut at));
        let widths = bytes[at..][..miniblocks].to_vec();
        at += miniblocks;
        for width in widths.into_iter().map(usize::from) {
            if values.len() == count {
                assert_eq!(width, 0, "a miniblock that is not needed has no width");
                continue;
            }
            for index in 0..miniblock {
                let bit = |bit: usize| u64::from(bytes[at + bit / 8] >> (bit % 8) & 1);
                let above = (0..width).map(|offset| bit(index * width + offset) << offset).sum::<u64>();
                if values.len() < count {
                    let last = *values.last().unwrap();
                    values.push(last.wrapping_add(least).wrapping_add(above.cast_signed()));
                }
            }
            at += miniblock * width / 8;
        }
    }
    assert_eq!(at, bytes.len(), "nothing is left over");
    values
}

fn seeded() -> impl FnMut(u64) -> u64 {
    let mut state = 7u64;
    move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn differences_are_read_back() {
    let mut random = seeded();
    for case in 0..2000 {
        let count = if case < 200 { case } else { random(600) as usize };
        // Of every width up to the whole 64 bits, rising or not.
        let width = random(65) as u32;
        let mut last = 0i64;
        let values: Vec<i64> = (0..count)
            .map(|_| {
                let wide = random(1 << 31) << 33 ^ random(1 << 31) << 16 ^ random(1 << 16);
                let step = wide.checked_shr(64 - width).unwrap_or(0).cast_signed();
                last = if case % 2 == 0 { last.wrapping_add(step) } else { step };
                last
            })
            .collect();
        let mut bytes = Vec::new();
        differences(&mut bytes, &values);
        assert_eq!(read_differences(&bytes), values, "{count} values of {width} bits");
    }
    for values in [vec![i64::MIN, i64::MAX, 0, i64::MIN], vec![i64::MAX; 3], vec![-1, 1], vec![0; 129]] {
        let mut bytes = Vec::new();
        differences(&mut bytes, &values);
        assert_eq!(read_differences(&bytes), values);
    }
}

#[test]
fn what_is_encoded_is_read_back() {
    let mut random = seeded();
    for case in 0..3000 {
        let bits = 1 + random(if case % 10 == 0 { 32 } else { 9 }) as u32;
        let mut values = Vec::new();
        for _ in 0..random(20) {
            let value = random(1 << bits) as u32;
            let length = if random(2) == 0 { 1 } else { random(40) as usize };
            values.extend(vec![value; length]);
        }
        let mut bytes = Vec::new();
        hybrid(&mut bytes, &values, bits);
        assert_eq!(read(&bytes, bits, values.len()), values, "{bits} bits");
    }
}

#[test]
fn widths_are_what_the_largest_number_needs() {
    assert_eq!([0, 1, 2, 3, 4, 255, 256].map(bits_of), [0, 1, 2, 2, 3, 8, 9]);
}
