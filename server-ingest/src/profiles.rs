//! The profiles that clients register: what a record's `entity_uid` stands for, and in which space it is.
//!
//! Each profile is one file in `profiles/` beside the tables, replaced as a whole and synced before its client is answered; the file's
//! name is a digest of the uid, which is text of a client's choice. All of them are in memory. Servers that share tables share the profiles
//! ([`Profiles::look`]); if two register one for the same thing at once, the last one stays. Whoever keeps copies elsewhere waits for
//! [`Profiles::changes`].
//!
//! A profile is known by its uid, and there is one for a space, name, version and kind: registering such a one again replaces what it
//! says, keeps the uid, and tells the client so. Judging what a profile asks for is not done here; Scouter's workers do that.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use scouter_storage::lake::Objects;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::watch;

mod shelf;

use shelf::Shelf;

const FOLDER: &str = "profiles";
const SUFFIX: &str = "json";
/// One for each model and agent of a large company, a hundred times over.
const MAX_PROFILES: usize = 100_000;
const LONGEST_NAME: usize = 256;
/// Scouter's default: every midnight.
const DEFAULT_SCHEDULE: &str = "0 0 0 * * *";

/// The kinds of profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DriftType {
    /// Control charts.
    Spc,
    /// Population stability.
    Psi,
    /// Metrics of the user's own.
    Custom,
    /// Evaluations; `GenAI` to older clients.
    #[serde(alias = "GenAI")]
    Agent,
}

impl DriftType {
    /// Scouter's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Spc => "Spc",
            Self::Psi => "Psi",
            Self::Custom => "Custom",
            Self::Agent => "Agent",
        }
    }
}

/// What there is one profile for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProfileKey {
    /// The space.
    pub space: String,
    /// Of the model or agent.
    pub name: String,
    /// Of the model or agent.
    pub version: String,
    /// The kind.
    pub drift_type: DriftType,
}

/// A registered profile.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    /// What records name as their entity.
    pub uid: String,
    /// What it is for.
    pub key: ProfileKey,
    /// Whether Scouter's workers should look at it.
    pub active: bool,
    /// When they should, as a cron expression with seconds.
    pub schedule: String,
    /// The client's version.
    pub scouter_version: String,
    /// Nanoseconds since 1970.
    pub created_unix_nano: u64,
    /// Nanoseconds since 1970.
    pub updated_unix_nano: u64,
    /// The JSON of the profile as its client wrote it, but for the uid.
    pub profile: String,
}

/// Why a profile is not registered.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// It is not a profile.
    #[error("the profile cannot be read: {reason}")]
    Invalid {
        /// What is wrong.
        reason: String,
    },
    /// Another one has its uid.
    #[error("the uid {uid:?} is that of another profile, {space}/{name} {version}")]
    UidTaken {
        /// The uid.
        uid: String,
        /// Whose it is.
        space: String,
        /// Whose it is.
        name: String,
        /// Whose it is.
        version: String,
    },
    /// There is none to change.
    #[error("there is no such profile")]
    Unknown,
    /// There are as many as can be.
    #[error("there are {MAX_PROFILES} profiles, which is as many as are kept")]
    TooMany,
    /// The disk.
    #[error("{path} cannot be {action}")]
    File {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A profile to be registered.
#[derive(Debug)]
pub struct NewProfile<'a> {
    /// Its kind.
    pub drift_type: DriftType,
    /// Its JSON.
    pub profile: &'a str,
    /// Whether it is to be looked at.
    pub active: bool,
    /// Whether all other versions are no longer to be.
    pub deactivate_others: bool,
}

#[derive(Debug, Default)]
struct View {
    by_uid: HashMap<String, Arc<Profile>>,
    uids: BTreeMap<ProfileKey, String>,
}

/// All profiles of this server.
#[derive(Debug)]
pub struct Profiles {
    shelf: Shelf,
    view: RwLock<View>,
    /// Held while files change.
    changing: Mutex<()>,
    changed: watch::Sender<u64>,
    /// The second of the last look that somebody asked for.
    looked_at: AtomicU64,
}

/// What of a profile is read here.
#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    config: &'a RawValue,
    #[serde(default)]
    scouter_version: Option<String>,
}

#[derive(Deserialize)]
struct Config {
    space: String,
    name: String,
    version: String,
    #[serde(default)]
    uid: Option<String>,
    #[serde(default)]
    drift_type: Option<DriftType>,
    #[serde(default)]
    alert_config: Option<AlertConfig>,
}

#[derive(Deserialize)]
struct AlertConfig {
    #[serde(default)]
    schedule: Option<String>,
}

impl Profiles {
    /// Reads the profiles in the folder beside users and keys.
    ///
    /// # Errors
    /// A file of them cannot be read.
    pub fn open(state: &Path) -> Result<Self, ProfileError> {
        Self::on(Shelf::Folder(state.join(FOLDER)))
    }

    /// Reads those that servers share. Blocking.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn open_shared(objects: &Objects) -> Result<Self, ProfileError> {
        Self::on(Shelf::shared(objects.folder(FOLDER)))
    }

    fn on(shelf: Shelf) -> Result<Self, ProfileError> {
        let profiles =
            Self { shelf, view: RwLock::default(), changing: Mutex::new(()), changed: watch::Sender::new(0), looked_at: AtomicU64::new(0) };
        profiles.look()?;
        Ok(profiles)
    }

    /// Takes in what other servers have registered. Blocking.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn look(&self) -> Result<(), ProfileError> {
        let news = self.shelf.news()?;
        if !news.is_empty() {
            let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
            news.into_iter().for_each(|profile| view.put(Arc::new(profile)));
            drop(view);
            self.changed.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }

    /// The profile with this uid.
    pub fn by_uid(&self, uid: &str) -> Option<Arc<Profile>> {
        self.read().by_uid.get(uid).cloned()
    }

    /// The profile of this space, name, version and kind.
    pub fn find(&self, key: &ProfileKey) -> Option<Arc<Profile>> {
        let view = self.read();
        view.uids.get(key).and_then(|uid| view.by_uid.get(uid)).cloned()
    }

    /// All of them, by space, name, version and kind.
    pub fn all(&self) -> Vec<Arc<Profile>> {
        let view = self.read();
        view.uids.values().filter_map(|uid| view.by_uid.get(uid)).cloned().collect()
    }

    /// Counts the changes since the server's start; wakes whoever waits.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The space, name, version and kind a profile is for, and its uid if it has one.
    ///
    /// # Errors
    /// It is not a profile of that kind.
    pub fn identify(drift_type: DriftType, profile: &str) -> Result<(ProfileKey, Option<String>), ProfileError> {
        let (_, config) = read_profile(drift_type, profile)?;
        let Config { space, name, version, uid, .. } = config;
        Ok((ProfileKey { space, name, version, drift_type }, uid.filter(|uid| !uid.is_empty())))
    }

    /// Registers a profile, or replaces what the one of the same space, name, version and kind says. Blocking.
    ///
    /// # Errors
    /// It is not a profile, its uid is another's, or it cannot be written; then it is not registered.
    pub fn register(&self, new: &NewProfile<'_>) -> Result<Arc<Profile>, ProfileError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_at_others()?;
        let (key, own_uid) = Self::identify(new.drift_type, new.profile)?;
        let (read, config) = read_profile(new.drift_type, new.profile)?;
        let known = self.find(&key);
        let uid = match (&known, &own_uid) {
            (Some(known), _) => known.uid.clone(),
            (None, Some(uid)) => uid.clone(),
            (None, None) => return Err(invalid("its config has no uid")),
        };
        if known.is_none() {
            if let Some(other) = self.by_uid(&uid) {
                let ProfileKey { space, name, version, .. } = other.key.clone();
                return Err(ProfileError::UidTaken { uid, space, name, version });
            }
            if self.read().by_uid.len() >= MAX_PROFILES {
                return Err(ProfileError::TooMany);
            }
        }
        if new.deactivate_others {
            self.deactivate_others(&key)?;
        }
        let now = unix_nano_now();
        let profile = Profile {
            profile: with_uid(new.profile, own_uid.as_deref(), &uid)?,
            uid,
            key,
            active: new.active,
            schedule: config.alert_config.and_then(|alert| alert.schedule).unwrap_or_else(|| DEFAULT_SCHEDULE.to_owned()),
            scouter_version: read.scouter_version.unwrap_or_default(),
            created_unix_nano: known.map_or(now, |known| known.created_unix_nano),
            updated_unix_nano: now,
        };
        self.store(profile)
    }

    /// Says whether a profile is to be looked at. Blocking.
    ///
    /// # Errors
    /// There is none, or it cannot be written.
    pub fn set_active(&self, key: &ProfileKey, active: bool, deactivate_others: bool) -> Result<Arc<Profile>, ProfileError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.look_at_others()?;
        let known = self.find(key).ok_or(ProfileError::Unknown)?;
        if deactivate_others {
            self.deactivate_others(key)?;
        }
        self.store(Profile { active, updated_unix_nano: unix_nano_now(), ..Profile::clone(&known) })
    }

    /// Whether other servers register profiles too.
    pub fn is_shared(&self) -> bool {
        matches!(self.shelf, Shelf::Shared(..))
    }

    /// Takes in what others have registered, unless that was done within the last second.
    pub async fn look_soon(self: &Arc<Self>) {
        let second = unix_nano_now() / 1_000_000_000;
        if self.looked_at.swap(second, Ordering::Relaxed) != second {
            let profiles = Arc::clone(self);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || profiles.look()).await {
                tracing::debug!(error = %anyhow::Error::new(error), "profiles of other servers cannot be read");
            }
        }
    }

    /// What others have registered counts, if there are others.
    fn look_at_others(&self) -> Result<(), ProfileError> {
        if self.is_shared() { self.look() } else { Ok(()) }
    }

    /// The other versions of the same thing.
    fn deactivate_others(&self, key: &ProfileKey) -> Result<(), ProfileError> {
        let is_other = |profile: &Profile| {
            let other = &profile.key;
            other.space == key.space && other.name == key.name && other.drift_type == key.drift_type && other.version != key.version
        };
        for other in self.all().into_iter().filter(|profile| profile.active && is_other(profile)) {
            self.store(Profile { active: false, updated_unix_nano: unix_nano_now(), ..Profile::clone(&other) })?;
        }
        Ok(())
    }

    fn store(&self, profile: Profile) -> Result<Arc<Profile>, ProfileError> {
        self.shelf.put(&file_name(&profile.uid), &profile)?;
        let profile = Arc::new(profile);
        self.view.write().unwrap_or_else(PoisonError::into_inner).put(Arc::clone(&profile));
        self.changed.send_modify(|changes| *changes += 1);
        Ok(profile)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn put(&mut self, profile: Arc<Profile>) {
        self.uids.insert(profile.key.clone(), profile.uid.clone());
        self.by_uid.insert(profile.uid.clone(), profile);
    }
}

fn read_profile(drift_type: DriftType, profile: &str) -> Result<(Read<'_>, Config), ProfileError> {
    let read: Read<'_> = serde_json::from_str(profile).map_err(|error| invalid(&error.to_string()))?;
    // A list of the right length would pass for an object.
    if !profile.trim_start().starts_with('{') || !read.config.get().starts_with('{') {
        return Err(invalid("it is an object with an object `config` in it"));
    }
    let config: Config = serde_json::from_str(read.config.get()).map_err(|error| invalid(&format!("its config: {error}")))?;
    if let Some(own) = config.drift_type.filter(|own| *own != drift_type) {
        return Err(invalid(&format!("it is one of {}, and was sent as one of {}", own.name(), drift_type.name())));
    }
    for (what, text) in [("space", &config.space), ("name", &config.name), ("version", &config.version)] {
        if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
            return Err(invalid(&format!("its {what} is {text:?}; it has 1 to {LONGEST_NAME} bytes that print")));
        }
    }
    if config.uid.as_ref().is_some_and(|uid| uid.len() > LONGEST_NAME) {
        return Err(invalid("its uid is too long"));
    }
    Ok((read, config))
}

/// The profile with the uid it has here. What a client wrote is changed only where it says another one.
fn with_uid(profile: &str, own: Option<&str>, uid: &str) -> Result<String, ProfileError> {
    if own == Some(uid) {
        return Ok(profile.to_owned());
    }
    let mut value: serde_json::Value = serde_json::from_str(profile).map_err(|error| invalid(&error.to_string()))?;
    value["config"]["uid"] = uid.into();
    Ok(value.to_string())
}

fn file_name(uid: &str) -> String {
    format!("{:032x}.{SUFFIX}", twox_hash::XxHash3_128::oneshot(uid.as_bytes()))
}

fn invalid(reason: &str) -> ProfileError {
    ProfileError::Invalid { reason: reason.to_owned() }
}

fn failed<'a>(path: &'a Path, action: &'static str) -> impl Fn(io::Error) -> ProfileError + 'a {
    move |source| ProfileError::File { path: path.to_owned(), action, source }
}

fn unix_nano_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
