//! Other encodings of a request: legal ones that prost would never write, and damaged ones.

/// The messages of a trace request, as far as their fields are messages.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Request,
    ResourceSpans,
    Resource,
    ScopeSpans,
    Scope,
    Span,
    Event,
    Link,
    KeyValue,
    AnyValue,
    Array,
    Map,
    Leaf,
}

impl Kind {
    fn field(self, number: u64) -> Option<Self> {
        Some(match (self, number) {
            (Self::Request, 1) => Self::ResourceSpans,
            (Self::ResourceSpans, 1) => Self::Resource,
            (Self::ResourceSpans, 2) => Self::ScopeSpans,
            (Self::ScopeSpans, 1) => Self::Scope,
            (Self::ScopeSpans, 2) => Self::Span,
            (Self::Resource, 1) | (Self::Scope, 3) | (Self::Span, 9) | (Self::Event, 3) | (Self::Link, 4) | (Self::Map, 1) => {
                Self::KeyValue
            }
            (Self::Resource, 3) | (Self::Span, 15) => Self::Leaf,
            (Self::Span, 11) => Self::Event,
            (Self::Span, 13) => Self::Link,
            (Self::KeyValue, 2) | (Self::Array, 1) => Self::AnyValue,
            (Self::AnyValue, 5) => Self::Array,
            (Self::AnyValue, 6) => Self::Map,
            _ => return None,
        })
    }
}

/// A small generator, so that a failing case is its seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % sides.max(1)
    }
}

/// Reorders, repeats and splits fields of a well-formed message, and adds unknown ones, at every level.
pub(super) fn scramble(kind: Kind, message: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    for (tag, body, raw) in split(message) {
        match kind.field(tag >> 3) {
            Some(child) if tag & 7 == 2 => {
                let body = scramble(child, body, dice);
                let parts = split(&body);
                if parts.len() > 1 && dice.roll(4) == 0 {
                    // One message in two pieces, which merge when it stands alone and are two when it is in a list.
                    let cut = body.len() - parts[dice.roll(parts.len())..].iter().map(|(.., raw)| raw.len()).sum::<usize>();
                    fields.push(delimited(tag, &body[..cut]));
                    fields.push(delimited(tag, &body[cut..]));
                } else {
                    fields.push(delimited(tag, &body));
                }
            }
            _ => fields.push(raw.to_vec()),
        }
    }
    if !fields.is_empty() && dice.roll(3) == 0 {
        let copy = fields[dice.roll(fields.len())].clone();
        fields.insert(dice.roll(fields.len() + 1), copy);
    }
    if dice.roll(4) == 0 {
        let unknown: &[u8] = match dice.roll(4) {
            0 => &[0xf8, 0x3e, 0x96, 0x01],
            1 => &[0xfa, 0x3e, 0x03, 0xff, 0x00, 0xff],
            2 => &[0xf9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8],
            _ => &[0xfd, 0x3e, 1, 2, 3, 4],
        };
        fields.insert(dice.roll(fields.len() + 1), unknown.to_vec());
    }
    if fields.len() > 1 && dice.roll(2) == 0 {
        for index in (1..fields.len()).rev() {
            fields.swap(index, dice.roll(index + 1));
        }
    }
    fields.concat()
}

/// Changes, cuts, inserts or repeats a few bytes.
pub(super) fn damage(payload: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        if payload.is_empty() {
            return;
        }
        let at = dice.roll(payload.len());
        match dice.roll(6) {
            0 => payload[at] ^= 1 << dice.roll(8),
            1 => payload[at] = dice.roll(256) as u8,
            2 => drop(payload.remove(at)),
            3 => payload.insert(at, dice.roll(256) as u8),
            4 => payload.truncate(at),
            _ => {
                let end = (at + dice.roll(40)).min(payload.len());
                let copy = payload[at..end].to_vec();
                payload.splice(at..at, copy);
            }
        }
    }
}

fn split(message: &[u8]) -> Vec<(u64, &[u8], &[u8])> {
    let (mut rest, mut fields) = (message, Vec::new());
    while !rest.is_empty() {
        let start = rest;
        let tag = prost::encoding::decode_varint(&mut rest).expect("a well-formed tag");
        let length = match tag & 7 {
            0 => {
                prost::encoding::decode_varint(&mut rest).expect("a well-formed varint");
                0
            }
            1 => 8,
            5 => 4,
            _ => prost::encoding::decode_varint(&mut rest).expect("a well-formed length") as usize,
        };
        let (body, after) = rest.split_at(length);
        rest = after;
        fields.push((tag, body, &start[..start.len() - rest.len()]));
    }
    fields
}

fn delimited(tag: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(tag, &mut out);
    prost::encoding::encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(body);
    out
}
