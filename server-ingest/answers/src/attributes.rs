//! Which attributes spans have, and with which values: what a search box suggests.

use std::collections::HashMap;

use futures::StreamExt;
use scouter_query::{AttributeTest, Condition, Engine, QueryError, Reader, Selection, Wanted};
use scouter_storage::columns::{Table, promoted_column};
use serde::Serialize;

use crate::columns::Columns;
use crate::error::AnswerError;
use crate::filter::{FILTER_PARAMETERS, SpanFilter, State};
use crate::groups::{ENTRY_BYTES, Groups};
use crate::json::{TypedAttribute, TypedValue, typed_attributes};
use crate::parameters::Parameters;
use crate::span::tags;

/// The newest spans that are looked at: suggestions need not know all.
const SAMPLED_SPANS: usize = 20_000;

#[derive(Debug, Serialize)]
struct Keys {
    attributes: Vec<Key>,
    sampled_spans: usize,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Key {
    key: String,
    #[serde(rename = "where")]
    places: Vec<&'static str>,
    types: Vec<TypeCount>,
    count: u64,
}

#[derive(Debug, Serialize)]
struct TypeCount {
    #[serde(rename = "type")]
    name: &'static str,
    count: u64,
}

#[derive(Debug, Serialize)]
struct Values {
    key: String,
    values: Vec<ValueCount>,
    sampled_spans: usize,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct ValueCount {
    #[serde(flatten)]
    value: TypedValue,
    count: u64,
}

/// Narrows `conditions` to the newest spans for which they hold, some more where many started at once.
async fn newest(reader: &mut Reader, mut conditions: Vec<Condition>) -> Result<Vec<Condition>, QueryError> {
    // Times first and alone: the attributes of rows that fall out again would be read for nothing.
    let selection = Selection::new(Table::Spans, &["start_unix_nano"], conditions.clone()).largest("start_unix_nano", SAMPLED_SPANS);
    let mut rows = reader.rows(selection).await?;
    let (mut count, mut oldest) = (0, i64::MAX);
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        count += batch.num_rows();
        oldest = Columns(&batch).integers("start_unix_nano")?.iter().flatten().fold(oldest, i64::min);
    }
    if count >= SAMPLED_SPANS {
        conditions.push(Condition::AtLeast("start_unix_nano", oldest));
    }
    Ok(conditions)
}

/// Sets of attributes that repeat from row to row, read once each.
#[derive(Default)]
struct Repeated {
    sets: HashMap<String, Vec<TypedAttribute>>,
    /// Since it was last asked.
    grown: usize,
}

impl Repeated {
    /// How much larger a set is than its JSON, about.
    const GROWTH: usize = 6;

    fn read(&mut self, json: &str) -> &[TypedAttribute] {
        if !self.sets.contains_key(json) {
            self.grown += json.len() * Self::GROWTH + ENTRY_BYTES;
            self.sets.insert(json.to_owned(), typed_attributes(json));
        }
        self.sets.get(json).map_or(&[], Vec::as_slice)
    }

    fn grown(&mut self) -> usize {
        std::mem::take(&mut self.grown)
    }
}

/// The attribute keys of the newest spans that pass a filter, most frequent first.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn attribute_keys(engine: &Engine, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let filter = SpanFilter::take(&mut parameters)?;
    let part = parameters.one("q")?.map(|part| part.to_lowercase());
    let limit = parameters.count("limit", 500, 5000)?;
    parameters.end(&[&FILTER_PARAMETERS[..], &["q", "limit"]].concat())?;
    let conditions = filter.conditions();
    let (keys, sampled_spans) = engine
        .ask(move |mut reader| async move {
            let conditions = newest(&mut reader, conditions).await?;
            let columns = ["attributes", "resource_attributes"];
            let mut rows = reader.rows(Selection::new(Table::Spans, &columns, conditions)).await?;
            let mut keys: Groups<String, HashMap<(&'static str, &'static str), u64>> = Groups::default();
            let (mut resources, mut sampled) = (Repeated::default(), 0);
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                sampled += batch.num_rows();
                let columns = Columns(&batch);
                let (of_spans, of_resources) = (columns.words("attributes")?, columns.words("resource_attributes")?);
                let mut add = |place: &'static str, attribute: &TypedAttribute| -> Result<(), QueryError> {
                    match keys.get_mut(attribute.key.as_str()) {
                        Some(counts) => counts,
                        None => keys.of(attribute.key.clone())?,
                    }
                    .entry((place, attribute.value.type_name()))
                    .and_modify(|count| *count += 1)
                    .or_insert(1);
                    Ok(())
                };
                for row in 0..columns.rows() {
                    typed_attributes(of_spans.or_empty(row)).iter().try_for_each(|attribute| add("span", attribute))?;
                    resources.read(of_resources.or_empty(row)).iter().try_for_each(|attribute| add("resource", attribute))?;
                }
                // Of a key each place and type is counted: a small map.
                reader.hold(keys.grown() * 4 + resources.grown())?;
            }
            Ok((keys, sampled))
        })
        .await?;
    let mut attributes: Vec<Key> = keys
        .into_iter()
        .filter(|(key, _)| part.as_ref().is_none_or(|part| key.to_lowercase().contains(part)))
        .map(|(key, counts)| {
            let mut places: Vec<&'static str> = counts.keys().map(|(place, _)| *place).collect();
            // "span" before "resource".
            places.sort_by(|left, right| right.cmp(left));
            places.dedup();
            let mut types: HashMap<&'static str, u64> = HashMap::new();
            for ((_, name), count) in &counts {
                *types.entry(name).or_default() += count;
            }
            let mut types: Vec<TypeCount> = types.into_iter().map(|(name, count)| TypeCount { name, count }).collect();
            types.sort_by(|left, right| right.count.cmp(&left.count).then(left.name.cmp(right.name)));
            Key { key, places, count: counts.values().sum(), types }
        })
        .collect();
    attributes.sort_by(|left, right| right.count.cmp(&left.count).then_with(|| left.key.cmp(&right.key)));
    let truncated = attributes.len() > limit;
    attributes.truncate(limit);
    Ok(Keys { attributes, sampled_spans, truncated })
}

/// Where the values of a key are found.
enum Source {
    /// A text column.
    Column(&'static str),
    /// The status, by its name.
    Status,
    /// The lists in a column.
    Lists(&'static str),
    /// A tag.
    Tag(String),
    /// An attribute of the span, else of its resource.
    Attribute(String),
}

impl Source {
    fn of(key: &str) -> Self {
        match key {
            "service" => Self::Column("service_name"),
            "operation" => Self::Column("name"),
            "kind" => Self::Column("kind"),
            "status" => Self::Status,
            "entity" => Self::Lists("entity_ids"),
            // Those of exceptions are attributes of events.
            "exception.type" | "exception.message" => promoted_column(key).map_or_else(|| Self::Attribute(key.to_owned()), Self::Column),
            _ => match key.strip_prefix("tag.") {
                Some(tag) => Self::Tag(tag.to_owned()),
                None => Self::Attribute(key.to_owned()),
            },
        }
    }

    fn columns(&self) -> Vec<&'static str> {
        match self {
            Self::Column(column) | Self::Lists(column) => vec![column],
            Self::Status => vec!["status_code"],
            Self::Tag(_) => vec!["tags"],
            Self::Attribute(_) => vec!["attributes", "resource_attributes"],
        }
    }

    /// Rows without it would use up the sample.
    fn condition(&self) -> Option<Condition> {
        let present = |key: &str| AttributeTest { key: key.to_owned(), wanted: Wanted::Present };
        match self {
            Self::Column(column) => Some(Condition::Present(column)),
            Self::Status | Self::Lists(_) => None,
            Self::Tag(key) => Some(Condition::Tag(present(key))),
            Self::Attribute(key) => Some(Condition::Attribute(present(key))),
        }
    }

    fn values(&self, columns: Columns<'_>, resources: &mut Repeated, mut add: impl FnMut(TypedValue)) -> Result<(), QueryError> {
        let text = |text: &str| TypedValue::String(text.to_owned());
        match self {
            Self::Column(column) => {
                let words = columns.words(column)?;
                (0..columns.rows()).filter_map(|row| words.get(row)).for_each(|word| add(text(word)));
            }
            Self::Status => {
                let codes = columns.codes("status_code")?;
                codes.iter().flatten().for_each(|code| add(text(State::of(code).name())));
            }
            Self::Lists(column) => {
                let lists = columns.texts_in_lists(column)?;
                (0..columns.rows()).for_each(|row| lists.of(row).for_each(|element| add(text(element))));
            }
            Self::Tag(key) => {
                let words = columns.words("tags")?;
                let all = (0..columns.rows()).flat_map(|row| tags(words.get(row)));
                all.filter(|tag| tag.key == *key).for_each(|tag| add(TypedValue::String(tag.value)));
            }
            Self::Attribute(key) => {
                let (of_spans, of_resources) = (columns.words("attributes")?, columns.words("resource_attributes")?);
                for row in 0..columns.rows() {
                    let of_span = typed_attributes(of_spans.or_empty(row)).into_iter().find(|attribute| attribute.key == *key);
                    if let Some(attribute) = of_span {
                        add(attribute.value);
                    } else if let Some(attribute) =
                        resources.read(of_resources.or_empty(row)).iter().find(|attribute| attribute.key == *key)
                    {
                        add(attribute.value.clone());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The values of a key among the newest spans that pass a filter and have it, most frequent first.
///
/// # Errors
/// As [`AnswerError`] says.
pub async fn attribute_values(engine: &Engine, key: &str, mut parameters: Parameters) -> Result<impl Serialize + use<>, AnswerError> {
    let filter = SpanFilter::take(&mut parameters)?;
    let part = parameters.one("q")?.map(|part| part.to_lowercase());
    let limit = parameters.count("limit", 50, 1000)?;
    parameters.end(&[&FILTER_PARAMETERS[..], &["q", "limit"]].concat())?;
    let source = Source::of(key);
    let mut conditions = filter.conditions();
    conditions.extend(source.condition());
    let (counts, sampled_spans) = engine
        .ask(move |mut reader| async move {
            let conditions = newest(&mut reader, conditions).await?;
            let mut rows = reader.rows(Selection::new(Table::Spans, &source.columns(), conditions)).await?;
            let mut counts: HashMap<(&'static str, String), (TypedValue, u64)> = HashMap::new();
            let (mut resources, mut grown, mut sampled) = (Repeated::default(), 0, 0);
            while let Some(batch) = rows.next().await {
                let batch = batch?;
                sampled += batch.num_rows();
                source.values(Columns(&batch), &mut resources, |value| {
                    let Some(text) = value.text() else { return };
                    if part.as_ref().is_none_or(|part| text.to_lowercase().contains(part)) {
                        let bytes = text.len();
                        let (_, count) = counts.entry((value.type_name(), text)).or_insert((value, 0));
                        // Key and value are the same text.
                        grown += if *count == 0 { 2 * bytes + size_of::<((&str, String), (TypedValue, u64))>() + ENTRY_BYTES } else { 0 };
                        *count += 1;
                    }
                })?;
                reader.hold(std::mem::take(&mut grown) + resources.grown())?;
            }
            Ok((counts, sampled))
        })
        .await?;
    let mut values: Vec<_> = counts.into_iter().collect();
    values.sort_by(|(left, (_, fewer)), (right, (_, more))| more.cmp(fewer).then_with(|| left.cmp(right)));
    let truncated = values.len() > limit;
    values.truncate(limit);
    let values = values.into_iter().map(|(_, (value, count))| ValueCount { value, count }).collect();
    Ok(Values { key: key.to_owned(), values, sampled_spans, truncated })
}
