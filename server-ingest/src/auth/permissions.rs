//! What a caller may do: everywhere, or in some spaces only.
//!
//! Scouter groups profiles into spaces, and what it lets a user do is written `read:SPACE` and `write:SPACE`. A permission without a
//! space, or with the space `all`, holds everywhere. Spans belong to no space: whoever may write somewhere may send them, and whoever may
//! read everywhere may read them. Records and profiles belong to the space of their profile.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Scouter's word for all spaces.
const EVERYWHERE: &str = "all";
const LONGEST_SPACE: usize = 128;

/// One thing that may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Send spans and records, register profiles.
    Write,
    /// Ask.
    Read,
    /// Change users and keys.
    Admin,
}

impl Permission {
    const ALL: [Self; 3] = [Self::Write, Self::Read, Self::Admin];

    fn bit(self) -> u8 {
        match self {
            Self::Write => 1,
            Self::Read => 2,
            Self::Admin => 4,
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Admin => "admin",
        })
    }
}

/// A set of permissions, written `write,read` or `write:models,read:models`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Permissions {
    everywhere: u8,
    spaces: BTreeMap<String, u8>,
}

impl Permissions {
    /// Every permission there is.
    pub fn all() -> Self {
        Permission::ALL.into_iter().collect()
    }

    /// Whether `permission` is among them for every space.
    pub fn allow(&self, permission: Permission) -> bool {
        self.everywhere & permission.bit() != 0
    }

    /// Whether `permission` is among them for this space.
    pub fn allow_in(&self, permission: Permission, space: &str) -> bool {
        self.allow(permission) || self.spaces.get(space).is_some_and(|bits| bits & permission.bit() != 0)
    }

    /// Whether `permission` is among them for any space.
    pub fn allow_somewhere(&self, permission: Permission) -> bool {
        self.allow(permission) || self.spaces.values().any(|bits| bits & permission.bit() != 0)
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        let everywhere = permissions.into_iter().fold(0, |bits, permission| bits | permission.bit());
        Self { everywhere, spaces: BTreeMap::new() }
    }
}

impl FromStr for Permissions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut permissions = Self::default();
        for word in text.split(',').map(str::trim) {
            let (name, space) = word.split_once(':').map_or((word, EVERYWHERE), |(name, space)| (name.trim(), space.trim()));
            let permission = Permission::ALL.into_iter().find(|permission| permission.to_string() == name);
            let permission = permission.ok_or_else(|| {
                format!("{word:?} is no permission; they are write, read and admin, and write:SPACE and read:SPACE for one space")
            })?;
            match space {
                EVERYWHERE => permissions.everywhere |= permission.bit(),
                _ if permission == Permission::Admin => return Err(format!("{word:?} is no permission; admin holds everywhere")),
                space if space.is_empty() || space.len() > LONGEST_SPACE || space.chars().any(|c| c == ':' || c.is_control()) => {
                    return Err(format!("{word:?} names no space; a space has 1 to {LONGEST_SPACE} bytes, no comma and no colon"));
                }
                space => *permissions.spaces.entry(space.to_owned()).or_default() |= permission.bit(),
            }
        }
        Ok(permissions)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |bits: u8| Permission::ALL.into_iter().filter(move |permission| bits & permission.bit() != 0);
        let everywhere = named(self.everywhere).map(|permission| permission.to_string());
        let spaces = self.spaces.iter().flat_map(|(space, bits)| named(*bits).map(move |permission| format!("{permission}:{space}")));
        f.write_str(&everywhere.chain(spaces).collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
