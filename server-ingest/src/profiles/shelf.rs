//! Where profiles are kept: in a folder, or in the object store whose tables servers share.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use scouter_storage::lake::ObjectFolder;

use super::{Profile, ProfileError, SUFFIX, failed};

#[derive(Debug)]
pub(super) enum Shelf {
    Folder(PathBuf),
    /// With the version of each object that was read.
    Shared(Box<ObjectFolder>, Mutex<HashMap<String, String>>),
}

impl Shelf {
    pub(super) fn shared(objects: ObjectFolder) -> Self {
        Self::Shared(Box::new(objects), Mutex::default())
    }

    /// Replaces a profile as a whole, durably.
    pub(super) fn put(&self, name: &str, profile: &Profile) -> Result<(), ProfileError> {
        let path = self.path(name);
        let text = serde_json::to_vec(profile).map_err(|error| failed(&path, "written")(error.into()))?;
        match self {
            Self::Folder(folder) => replace(folder, &path, &text),
            Self::Shared(objects, _) => objects.put(name, text),
        }
        .map_err(failed(&path, "written"))
    }

    /// The profiles that came or changed since this was last called.
    pub(super) fn news(&self) -> Result<Vec<Profile>, ProfileError> {
        match self {
            Self::Folder(folder) => read_all(folder),
            Self::Shared(objects, known) => {
                let listed = objects.list().map_err(failed(Path::new(objects.name()), "listed"))?;
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                let mut news = Vec::new();
                let mut read = Vec::new();
                for (name, version) in listed {
                    if Path::new(&name).extension().is_some_and(|suffix| suffix == SUFFIX) && known.get(&name) != Some(&version) {
                        let path = self.path(&name);
                        let text = objects.get(&name).map_err(failed(&path, "read"))?;
                        news.push(parse(&path, &text)?);
                        read.push((name, version));
                    }
                }
                // Not before all of them are there: those that are lost by an error come again.
                known.extend(read);
                Ok(news)
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(name),
            Self::Shared(objects, _) => Path::new(objects.name()).join(name),
        }
    }
}

fn read_all(folder: &Path) -> Result<Vec<Profile>, ProfileError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(folder, "read")(error)),
    };
    let mut profiles = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(folder, "read"))?.path();
        if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
            let text = fs::read(&path).map_err(failed(&path, "read"))?;
            profiles.push(parse(&path, &text)?);
        }
    }
    Ok(profiles)
}

fn parse(path: &Path, text: &[u8]) -> Result<Profile, ProfileError> {
    serde_json::from_slice(text).map_err(|error| failed(path, "read")(error.into()))
}

fn replace(folder: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}
