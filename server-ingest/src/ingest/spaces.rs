//! Records of a caller who may write in some spaces only.
//!
//! A record belongs to the space of the profile its `entity_uid` names. One of another space, or of a uid that nobody registered, is refused
//! alone; its neighbours are stored. Tags of traces belong to no space, as spans do.

use scouter_storage::otlp::{Envelope, records_in};
use scouter_tonic::message::monitoring_record::Record;

use crate::{
    auth::{Caller, Permission, Permissions},
    profiles::Profiles,
};

/// Whom a submission comes from, where that limits what is taken of it.
#[derive(Debug, Clone)]
pub struct Limited {
    name: String,
    permissions: Permissions,
}

impl Limited {
    /// The limits of a caller; none if he may write everywhere.
    pub fn of(caller: &Caller) -> Option<Self> {
        let is_limited = !caller.permissions.allow(Permission::Write);
        is_limited.then(|| Self { name: caller.name.clone(), permissions: caller.permissions.clone() })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The ascending indexes of the judged records that he may not write, and the words for the first of them. Those in `rejected`, which
    /// ascends too, were refused before and are not named again.
    pub(super) fn foreign_records(&self, payload: &[u8], envelope: Envelope, rejected: &[u32], profiles: &Profiles) -> (Vec<u32>, String) {
        let (mut foreign, mut words) = (Vec::new(), String::new());
        for (index, record) in (0_u32..).zip(records_in(payload, envelope)) {
            if rejected.binary_search(&index).is_ok() {
                continue;
            }
            if let Some(fault) = record.and_then(|record| self.fault(&record, profiles)) {
                if words.is_empty() {
                    words = format!("record {index}: {fault}");
                }
                foreign.push(index);
            }
        }
        (foreign, words)
    }

    /// Whether some record is of a uid that nobody has registered here. Another server may have.
    pub(super) fn has_unknown_records(payload: &[u8], envelope: Envelope, profiles: &Profiles) -> bool {
        let is_unknown = |record: Record| entity_uid(&record).is_some_and(|uid| profiles.by_uid(uid).is_none());
        records_in(payload, envelope).flatten().any(is_unknown)
    }

    fn fault(&self, record: &Record, profiles: &Profiles) -> Option<String> {
        let uid = entity_uid(record)?;
        match profiles.by_uid(uid) {
            Some(profile) if self.permissions.allow_in(Permission::Write, &profile.key.space) => None,
            Some(profile) => Some(format!("{} has no permission to write in the space {:?}", self.name, profile.key.space)),
            None => Some(format!("{} may write in some spaces only, and no profile with the uid {uid:?} is registered", self.name)),
        }
    }
}

/// The profile that a record is of; a tag of a trace is of none.
fn entity_uid(record: &Record) -> Option<&str> {
    Some(match record {
        Record::Psi(record) => &record.entity_uid,
        Record::Spc(record) => &record.entity_uid,
        Record::Custom(record) => &record.entity_uid,
        Record::Eval(record) => &record.entity_uid,
        Record::Observability(record) => &record.entity_uid,
        Record::AgentTask(record) => &record.entity_uid,
        Record::AgentWorkflow(record) => &record.entity_uid,
        Record::Group(group) => &group.entity_uid,
        Record::Tag(tag) if tag.entity_type.eq_ignore_ascii_case("trace") => return None,
        Record::Tag(tag) => &tag.entity_id,
    })
}

#[cfg(test)]
mod tests;
