//! The walk over a whole request that decides what of it is stored.
//!
//! Two kinds of fault exist. *Broken framing* means that bytes cannot be told apart into fields; *content* faults (ids,
//! UTF-8, depth) leave the framing readable. Inside a span both reject the span. Above spans broken framing refuses the
//! request, and a content fault in a resource or scope rejects the spans that would carry it.
//!
//! Not judged: unknown fields (beyond their framing), enum values, times, `end < start`, duplicate attribute keys.

use scouter_tonic::limits::MAX_ATTRIBUTE_DEPTH;
use scouter_tonic::message::monitoring_record::Record;

use super::field::{Broken, Field, Fields, Wire};
use super::{Envelope, MAX_REJECTED, Malformed, RejectReason, Rejected, Verdict, record, usual_key_value};

/// Decides what of `payload` can be stored, in one pass and without building messages.
///
/// # Errors
/// [`Malformed`] when the request as a whole cannot be parsed, or when more than [`MAX_REJECTED`] of its spans or records
/// would be rejected.
pub fn judge(payload: &[u8], envelope: Envelope) -> Result<Verdict, Malformed> {
    let judge = Judge { payload };
    let mut verdict = Verdict::default();
    for field in Fields::new(payload) {
        let field = field.map_err(|broken| judge.malformed(broken))?;
        if field.number == envelope.resource_spans_field() {
            let message = bytes(field).map_err(|what| judge.wrong_type(what, payload))?;
            judge.resource_spans(message, &mut verdict)?;
        } else if Some(field.number) == envelope.records_field() {
            let message = bytes(field).map_err(|what| judge.wrong_type(what, payload))?;
            judge.record(message, &mut verdict)?;
        }
    }
    Ok(verdict)
}

/// Why a walk over a message stopped.
enum Fault<'a> {
    Broken(Broken<'a>),
    Content(RejectReason),
}

impl<'a> From<Broken<'a>> for Fault<'a> {
    fn from(broken: Broken<'a>) -> Self {
        Self::Broken(broken)
    }
}

type Judged<'a> = Result<(), Fault<'a>>;

struct Judge<'a> {
    payload: &'a [u8],
}

impl<'a> Judge<'a> {
    fn resource_spans(&self, message: &'a [u8], verdict: &mut Verdict) -> Result<(), Malformed> {
        let mut fault = None;
        // The resource may follow the spans it belongs to, so it is judged in a walk of its own.
        for field in Fields::new(message) {
            let field = field.map_err(|broken| self.malformed(broken))?;
            let judged = match field.number {
                1 => self.part(message, field, resource),
                3 => self.part(message, field, |bytes| utf8(bytes, "the schema_url of a resource")),
                _ => Ok(None),
            };
            fault = fault.or(judged?);
        }
        for field in Fields::new(message).readable().filter(|field| field.number == 2) {
            let message = bytes(field).map_err(|what| self.wrong_type(what, message))?;
            self.scope_spans(message, fault, verdict)?;
        }
        Ok(())
    }

    /// Judges the spans of one scope in one walk, unless a fault of the scope comes to light: then they are judged again.
    fn scope_spans(&self, message: &'a [u8], fault: Option<RejectReason>, verdict: &mut Verdict) -> Result<(), Malformed> {
        let (spans, rejected) = (verdict.spans, verdict.rejected_spans.len());
        if let Some(found) = self.spans_under(message, fault, verdict)? {
            verdict.spans = spans;
            verdict.rejected_spans.truncate(rejected);
            self.spans_under(message, Some(found), verdict)?;
        }
        Ok(())
    }

    /// Judges the spans of one scope; with a `fault` above them they are all rejected. Stops at the first fault that the
    /// scope adds, and answers it.
    fn spans_under(
        &self,
        message: &'a [u8],
        fault: Option<RejectReason>,
        verdict: &mut Verdict,
    ) -> Result<Option<RejectReason>, Malformed> {
        for field in Fields::new(message) {
            let field = field.map_err(|broken| self.malformed(broken))?;
            let found = match field.number {
                1 => self.part(message, field, scope)?,
                2 => {
                    let span = bytes(field).map_err(|what| self.wrong_type(what, message))?;
                    self.span(span, fault, verdict)?;
                    None
                }
                3 => self.part(message, field, |bytes| utf8(bytes, "the schema_url of a scope"))?,
                _ => None,
            };
            if fault.is_none() && found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    #[inline]
    fn span(&self, message: &'a [u8], fault: Option<RejectReason>, verdict: &mut Verdict) -> Result<(), Malformed> {
        let reason = fault.or_else(|| {
            span(message).err().map(|fault| match fault {
                Fault::Content(reason) => reason,
                Fault::Broken(Broken { what, at }) => RejectReason::Broken { what, offset: self.offset(at) },
            })
        });
        if let Some(reason) = reason {
            self.reject(&mut verdict.rejected_spans, verdict.spans, reason, message)?;
        }
        verdict.spans += 1;
        Ok(())
    }

    /// Judges a monitoring record, or each row of a group of them.
    fn record(&self, message: &'a [u8], verdict: &mut Verdict) -> Result<(), Malformed> {
        match record::decode(message) {
            Ok(Record::Group(group)) => group.rows().try_for_each(|row| self.one_record(record::judge_row(row), message, verdict)),
            Ok(record) => self.one_record(record::judge(&record), message, verdict),
            Err(reason) => self.one_record(Err(reason), message, verdict),
        }
    }

    fn one_record(&self, judged: Result<(), RejectReason>, message: &'a [u8], verdict: &mut Verdict) -> Result<(), Malformed> {
        if let Err(reason) = judged {
            self.reject(&mut verdict.rejected_records, verdict.records, reason, message)?;
        }
        verdict.records += 1;
        Ok(())
    }

    /// Judges one field of a message above spans: broken framing in it refuses the request, other faults are returned.
    fn part(
        &self,
        parent: &'a [u8],
        field: Field<'a>,
        judge: impl FnOnce(&'a [u8]) -> Judged<'a>,
    ) -> Result<Option<RejectReason>, Malformed> {
        let bytes = bytes(field).map_err(|what| self.wrong_type(what, parent))?;
        match judge(bytes) {
            Ok(()) => Ok(None),
            Err(Fault::Content(reason)) => Ok(Some(reason)),
            Err(Fault::Broken(broken)) => Err(self.malformed(broken)),
        }
    }

    fn reject(&self, list: &mut Vec<Rejected>, index: u32, reason: RejectReason, at: &'a [u8]) -> Result<(), Malformed> {
        if list.len() == MAX_REJECTED {
            return Err(Malformed { offset: self.offset(at), what: "more than 65536 spans or records of the request are invalid" });
        }
        list.push(Rejected { index, reason });
        Ok(())
    }

    fn malformed(&self, broken: Broken<'a>) -> Malformed {
        Malformed { offset: self.offset(broken.at), what: broken.what }
    }

    fn wrong_type(&self, what: &'static str, message: &'a [u8]) -> Malformed {
        Malformed { offset: self.offset(message), what }
    }

    /// Where `part`, a slice of the payload, begins in it.
    fn offset(&self, part: &'a [u8]) -> usize {
        part.as_ptr().addr().saturating_sub(self.payload.as_ptr().addr())
    }
}

fn resource(message: &[u8]) -> Judged<'_> {
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => key_value(inside(field, message)?, 1, "an attribute of a resource")?,
            2 => varint(field, message)?,
            3 => entity_ref(inside(field, message)?)?,
            _ => {}
        }
    }
    Ok(())
}

fn entity_ref(message: &[u8]) -> Judged<'_> {
    for field in Fields::new(message) {
        let field = field?;
        if (1..=4).contains(&field.number) {
            utf8(inside(field, message)?, "a string of an entity reference")?;
        }
    }
    Ok(())
}

fn scope(message: &[u8]) -> Judged<'_> {
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => utf8(inside(field, message)?, "the name of a scope")?,
            2 => utf8(inside(field, message)?, "the version of a scope")?,
            3 => key_value(inside(field, message)?, 1, "an attribute of a scope")?,
            4 => varint(field, message)?,
            _ => {}
        }
    }
    Ok(())
}

fn span(message: &[u8]) -> Judged<'_> {
    let (mut trace_id, mut span_id, mut parent_span_id): (&[u8], &[u8], &[u8]) = (&[], &[], &[]);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => trace_id = inside(field, message)?,
            2 => span_id = inside(field, message)?,
            3 => utf8(inside(field, message)?, "trace_state")?,
            4 => parent_span_id = inside(field, message)?,
            5 => utf8(inside(field, message)?, "the name of the span")?,
            6 | 10 | 12 | 14 => varint(field, message)?,
            7 | 8 => fixed64(field, message)?,
            9 => key_value(inside(field, message)?, 1, "an attribute of the span")?,
            11 => event(inside(field, message)?)?,
            13 => link(inside(field, message)?)?,
            15 => status(inside(field, message)?)?,
            16 => fixed32(field, message)?,
            _ => {}
        }
    }
    let reason = match (trace_id, span_id, parent_span_id) {
        (id, ..) if id.len() != 16 => RejectReason::TraceIdLength { bytes: id.len() },
        (id, ..) if id.iter().all(|byte| *byte == 0) => RejectReason::TraceIdZero,
        (_, id, _) if id.len() != 8 => RejectReason::SpanIdLength { bytes: id.len() },
        (_, id, _) if id.iter().all(|byte| *byte == 0) => RejectReason::SpanIdZero,
        (.., id) if !id.is_empty() && id.len() != 8 => RejectReason::ParentSpanIdLength { bytes: id.len() },
        _ => return Ok(()),
    };
    Err(Fault::Content(reason))
}

fn event(message: &[u8]) -> Judged<'_> {
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => fixed64(field, message)?,
            2 => utf8(inside(field, message)?, "the name of an event")?,
            3 => key_value(inside(field, message)?, 1, "an attribute of an event")?,
            4 => varint(field, message)?,
            _ => {}
        }
    }
    Ok(())
}

fn link(message: &[u8]) -> Judged<'_> {
    let (mut trace_id, mut span_id): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => trace_id = inside(field, message)?,
            2 => span_id = inside(field, message)?,
            3 => utf8(inside(field, message)?, "the trace_state of a link")?,
            4 => key_value(inside(field, message)?, 1, "an attribute of a link")?,
            5 => varint(field, message)?,
            6 => fixed32(field, message)?,
            _ => {}
        }
    }
    match (trace_id.len(), span_id.len()) {
        (16, 8) => Ok(()),
        (16, bytes) => Err(Fault::Content(RejectReason::LinkSpanIdLength { bytes })),
        (bytes, _) => Err(Fault::Content(RejectReason::LinkTraceIdLength { bytes })),
    }
}

fn status(message: &[u8]) -> Judged<'_> {
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            2 => utf8(inside(field, message)?, "the message of the status")?,
            3 => varint(field, message)?,
            _ => {}
        }
    }
    Ok(())
}

#[inline(always)]
fn key_value<'a>(message: &'a [u8], depth: usize, whose: &'static str) -> Judged<'a> {
    match usual_key_value(message) {
        Some((key, value)) if depth <= MAX_ATTRIBUTE_DEPTH && is_plain(value) && key.is_ascii() => Ok(()),
        _ => any_key_value(message, depth, whose),
    }
}

/// Whether a value is a short string of ASCII, a truth value, a short whole number or a double, and nothing else.
#[inline(always)]
fn is_plain(value: &[u8]) -> bool {
    match value {
        [0x0a, length, text @ ..] => *length < 0x80 && usize::from(*length) == text.len() && text.is_ascii(),
        [0x10 | 0x18, number] => *number < 0x80,
        [0x18, low, high] => *low >= 0x80 && *high < 0x80,
        [0x21, bits @ ..] => bits.len() == 8,
        _ => false,
    }
}

fn any_key_value<'a>(message: &'a [u8], depth: usize, whose: &'static str) -> Judged<'a> {
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => utf8(inside(field, message)?, whose)?,
            2 => any_value(inside(field, message)?, depth, whose)?,
            3 => varint(field, message)?,
            _ => {}
        }
    }
    Ok(())
}

/// Recursion is bounded: a value below [`MAX_ATTRIBUTE_DEPTH`] ends the walk.
fn any_value<'a>(message: &'a [u8], depth: usize, whose: &'static str) -> Judged<'a> {
    if depth > MAX_ATTRIBUTE_DEPTH {
        return Err(Fault::Content(RejectReason::TooDeep));
    }
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            1 => utf8(inside(field, message)?, whose)?,
            2 | 3 | 8 => varint(field, message)?,
            4 => fixed64(field, message)?,
            5 | 6 => {
                let list = inside(field, message)?;
                for element in Fields::new(list) {
                    let element = element?;
                    match (element.number, field.number) {
                        (1, 5) => any_value(inside(element, list)?, depth + 1, whose)?,
                        (1, _) => key_value(inside(element, list)?, depth + 1, whose)?,
                        _ => {}
                    }
                }
            }
            7 => drop(inside(field, message)?),
            _ => {}
        }
    }
    Ok(())
}

#[inline(always)]
fn utf8<'a>(bytes: &'a [u8], field: &'static str) -> Judged<'a> {
    // Most strings are short ASCII, for which `is_ascii` is the cheaper test.
    if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(()) } else { Err(Fault::Content(RejectReason::NotUtf8 { field })) }
}

const WRONG_TYPE: &str = "a known field has a wire type that is not its own";

#[inline(always)]
fn bytes(field: Field<'_>) -> Result<&[u8], &'static str> {
    match field.wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(WRONG_TYPE),
    }
}

/// The bytes of a length-delimited field of `message`.
#[inline(always)]
fn inside<'a>(field: Field<'a>, message: &'a [u8]) -> Result<&'a [u8], Fault<'a>> {
    bytes(field).map_err(|what| Fault::Broken(Broken { what, at: message }))
}

#[inline(always)]
fn varint<'a>(field: Field<'a>, message: &'a [u8]) -> Judged<'a> {
    if matches!(field.wire, Wire::Varint(_)) { Ok(()) } else { Err(Fault::Broken(Broken { what: WRONG_TYPE, at: message })) }
}

#[inline(always)]
fn fixed64<'a>(field: Field<'a>, message: &'a [u8]) -> Judged<'a> {
    if matches!(field.wire, Wire::Fixed64(_)) { Ok(()) } else { Err(Fault::Broken(Broken { what: WRONG_TYPE, at: message })) }
}

#[inline(always)]
fn fixed32<'a>(field: Field<'a>, message: &'a [u8]) -> Judged<'a> {
    if matches!(field.wire, Wire::Fixed32(_)) { Ok(()) } else { Err(Fault::Broken(Broken { what: WRONG_TYPE, at: message })) }
}
