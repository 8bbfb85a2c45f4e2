//! Profiles in PostgreSQL, as Scouter registers them: an entity, whose number its records carry, and the profile, which Scouter's workers take
//! when it is due.

use std::{collections::HashMap, str::FromStr, time::SystemTime};

use chrono::Utc;
use tokio_postgres::Client;

use super::{PostgresError, text, write::is_about_data};
use crate::profiles::{Profile, Profiles};

/// What PostgreSQL has: the time of each profile's last change.
pub(super) type Synced = HashMap<String, u64>;

const ENTITY: &str = "
INSERT INTO scouter.drift_entities (uid, space, name, version, drift_type) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (uid) DO UPDATE SET space = excluded.space, name = excluded.name, version = excluded.version, drift_type = excluded.drift_type
RETURNING id";

/// A change of the schedule sets the next run anew; another one leaves what the workers have set.
const PROFILE: &str = "
INSERT INTO scouter.drift_profile AS known
    (uid, created_at, updated_at, name, space, version, drift_type, profile, active, schedule, next_run, scouter_version,
     major, minor, patch, pre_tag, build_tag, entity_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (uid) DO UPDATE SET
    updated_at = excluded.updated_at, profile = excluded.profile, active = excluded.active, schedule = excluded.schedule,
    scouter_version = excluded.scouter_version, entity_id = excluded.entity_id,
    next_run = CASE WHEN known.schedule = excluded.schedule THEN known.next_run ELSE excluded.next_run END";

/// Writes the profiles that changed since they were last written.
pub(super) async fn sync(client: &mut Client, profiles: &Profiles, synced: &mut Synced) -> Result<(), PostgresError> {
    for profile in profiles.all() {
        if synced.get(&profile.uid) == Some(&profile.updated_unix_nano) {
            continue;
        }
        match write(client, &profile).await {
            Ok(()) => {}
            // Another entity has this space, name and version, under a uid of its own. Its records wait under their own uid.
            Err(PostgresError::Database(error)) if is_about_data(&error) => {
                tracing::error!(
                    uid = profile.uid,
                    error = &error as &dyn std::error::Error,
                    "PostgreSQL does not take a profile; its records are written and wait for it"
                );
            }
            Err(error) => return Err(error),
        }
        synced.insert(profile.uid.clone(), profile.updated_unix_nano);
    }
    Ok(())
}

async fn write(client: &mut Client, profile: &Profile) -> Result<(), PostgresError> {
    let clean = |given: &str| text::text(given).into_owned();
    let (uid, key) = (clean(&profile.uid), &profile.key);
    let (space, name, version, kind) = (clean(&key.space), clean(&key.name), clean(&key.version), key.drift_type.name());
    let parts = Version::of(&version);
    let json = text::json(&profile.profile);
    let (created, updated) = (time(profile.created_unix_nano), time(profile.updated_unix_nano));
    let transaction = client.transaction().await?;
    let entity_id: i32 = transaction.query_one(ENTITY, &[&uid, &space, &name, &version, &kind]).await?.get(0);
    transaction
        .execute(
            PROFILE,
            &[
                &uid,
                &created,
                &updated,
                &name,
                &space,
                &version,
                &kind,
                &json,
                &profile.active,
                &clean(&profile.schedule),
                &next_run(&profile.schedule),
                &clean(&profile.scouter_version),
                &parts.major,
                &parts.minor,
                &parts.patch,
                &parts.pre,
                &parts.build,
                &entity_id,
            ],
        )
        .await?;
    transaction.commit().await?;
    Ok(())
}

/// When a schedule is due next; now, if it is none that is understood.
fn next_run(schedule: &str) -> SystemTime {
    let next = cron::Schedule::from_str(schedule).ok().and_then(|schedule| schedule.upcoming(Utc).next());
    next.unwrap_or_else(Utc::now).into()
}

pub(super) fn time(unix_nano: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_nanos(unix_nano)
}

/// `major.minor.patch-pre+build`; parts that are not there are 0 or nothing.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    major: i32,
    minor: i32,
    patch: i32,
    pre: Option<String>,
    build: Option<String>,
}

impl Version {
    fn of(text: &str) -> Self {
        let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build.to_owned())));
        let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(numbers, pre)| (numbers, Some(pre.to_owned())));
        let mut numbers = numbers.split('.').map(|number| number.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        Self { major: next(), minor: next(), patch: next(), pre, build }
    }
}

#[cfg(test)]
mod tests;
