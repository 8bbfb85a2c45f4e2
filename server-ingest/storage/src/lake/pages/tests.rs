//! Runs and packed groups, read back by a reader written for it; whole columns are read back by Parquet's reader in `lake::tests`.

use super::{bits_of, hybrid};

/// The reader of the Parquet specification, by the letter.
fn read(bytes: &[u8], bits: u32, count: usize) -> Vec<u32> {
    let (mut at, mut values) = (0, Vec::new());
    while values.len() < count {
        let (mut header, mut shift) = (0u64, 0);
        loop {
            header |= u64::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            at += 1;
            if bytes[at - 1] < 0x80 {
                break;
            }
        }
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

#[test]
fn what_is_encoded_is_read_back() {
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
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
