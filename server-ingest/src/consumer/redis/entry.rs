//! Entries of a stream, as Redis sends them. Names and values are bytes: whoever may add an entry may give it any, and one that could not be read
//! would come again for ever. Nothing is copied.

use ::redis::Value;
use bytes::Bytes;

use super::super::ConsumerError;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// In their order; none if the entry was deleted and a group still has its id.
    pub(super) fields: Vec<(Bytes, Bytes)>,
}

impl Entry {
    pub(super) fn field(&self, name: &str) -> Option<Bytes> {
        self.fields.iter().find(|(its_name, _)| its_name == name.as_bytes()).map(|(_, value)| value.clone())
    }

    /// What it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.fields.iter().map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// Those of XREADGROUP's reply, which names each stream.
pub(super) fn of_read(reply: Value) -> Result<Vec<Entry>, ConsumerError> {
    let mut entries = Vec::new();
    for (_stream, its_entries) in pairs(reply, "XREADGROUP")? {
        entries.extend(all(its_entries, "XREADGROUP")?);
    }
    Ok(entries)
}

/// Those of XAUTOCLAIM's, after the id where the next claim begins.
pub(super) fn of_claim(reply: Value) -> Result<(String, Vec<Entry>), ConsumerError> {
    let mut parts = list(reply, "XAUTOCLAIM")?.into_iter();
    let (Some(next), Some(entries)) = (parts.next(), parts.next()) else { return Err(unexpected("XAUTOCLAIM")) };
    Ok((id(next, "XAUTOCLAIM")?, all(entries, "XAUTOCLAIM")?))
}

fn all(entries: Value, command: &'static str) -> Result<Vec<Entry>, ConsumerError> {
    // Older ones send nothing in the place of an entry that was deleted.
    let there = list(entries, command)?.into_iter().filter(|entry| *entry != Value::Nil);
    there.map(|entry| one(entry, command)).collect()
}

fn one(entry: Value, command: &'static str) -> Result<Entry, ConsumerError> {
    let mut parts = list(entry, command)?.into_iter();
    let (Some(its_id), Some(fields)) = (parts.next(), parts.next()) else { return Err(unexpected(command)) };
    let id = id(its_id, command)?;
    let fields = pairs(fields, command)?;
    let fields = fields.into_iter().map(|(name, value)| Ok((text(name, command)?, text(value, command)?)));
    Ok(Entry { id, fields: fields.collect::<Result<_, ConsumerError>>()? })
}

/// Names with what is theirs: one list of both in the older protocol for fields, a list of pairs for streams, a map in the newer one.
fn pairs(value: Value, command: &'static str) -> Result<Vec<(Value, Value)>, ConsumerError> {
    let mut values = match value {
        Value::Map(pairs) => return Ok(pairs),
        Value::Nil => return Ok(Vec::new()),
        Value::Array(values) => values.into_iter(),
        _ => return Err(unexpected(command)),
    };
    let mut pairs = Vec::new();
    while let Some(first) = values.next() {
        pairs.push(match first {
            Value::Array(pair) => <[Value; 2]>::try_from(pair).map_err(|_| unexpected(command))?.into(),
            name => (name, values.next().ok_or_else(|| unexpected(command))?),
        });
    }
    Ok(pairs)
}

fn list(value: Value, command: &'static str) -> Result<Vec<Value>, ConsumerError> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        _ => Err(unexpected(command)),
    }
}

fn id(value: Value, command: &'static str) -> Result<String, ConsumerError> {
    String::from_utf8(text(value, command)?.into()).map_err(|_| unexpected(command))
}

fn text(value: Value, command: &'static str) -> Result<Bytes, ConsumerError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        Value::SimpleString(text) => Ok(text.into()),
        _ => Err(unexpected(command)),
    }
}

fn unexpected(command: &'static str) -> ConsumerError {
    ConsumerError(format!("redis: the reply is not one of {command}"))
}

#[cfg(test)]
mod tests;
