//! Protobuf fields of a byte slice, one after the other, without building anything.
//!
//! Follows the protobuf encoding guide: varints of at most ten bytes, field numbers from 1, four wire types. Groups are
//! refused: OTLP has none, and skipping them needs a stack. Lengths are checked before a slice is taken.

/// What a field holds, by wire type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) wire: Wire<'a>,
}

/// Where a message stopped being protobuf; `at` is the unread rest of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken<'a> {
    pub(crate) what: &'static str,
    pub(crate) at: &'a [u8],
}

/// The fields of one message in wire order. After an error it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    #[inline]
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The fields up to the first that cannot be read; for bytes that were judged.
    #[inline(always)]
    pub(crate) fn readable(self) -> Readable<'a> {
        Readable(self)
    }

    /// True when no byte is left.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline(always)]
    fn read(&mut self) -> Result<Field<'a>, &'static str> {
        let tag = self.varint()?;
        if tag > u64::from(u32::MAX) {
            return Err("a field tag is above 32 bits");
        }
        let number = (tag >> 3) as u32;
        if number == 0 {
            return Err("a field has the number 0");
        }
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                if length > self.rest.len() as u64 {
                    return Err("a length is greater than what is left");
                }
                let (bytes, rest) = self.rest.split_at(length as usize);
                self.rest = rest;
                Wire::Bytes(bytes)
            }
            3 | 4 => return Err("a field is a group, which is not supported"),
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err("a field has an unknown wire type"),
        };
        Ok(Field { number, wire })
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<u64, &'static str> {
        match *self.rest {
            [low, ref rest @ ..] if low < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low))
            }
            [low, high, ref rest @ ..] if high < 0x80 => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            if index == 9 && byte > 1 {
                return Err("a varint is above 64 bits");
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err("a varint does not end")
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or("a fixed-width field is cut off")?;
        self.rest = rest;
        Ok(*bytes)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Broken<'a>>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let at = self.rest;
        Some(self.read().map_err(|what| {
            self.rest = &[];
            Broken { what, at }
        }))
    }
}

/// The fields of one message that can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Readable<'a>(Fields<'a>);

impl Readable<'_> {
    /// True when no byte is left.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> Iterator for Readable<'a> {
    type Item = Field<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Field<'a>> {
        if self.0.rest.is_empty() {
            return None;
        }
        match self.0.read() {
            Ok(field) => Some(field),
            Err(_) => {
                self.0.rest = &[];
                None
            }
        }
    }
}
