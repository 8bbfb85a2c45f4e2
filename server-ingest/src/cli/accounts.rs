//! `user` and `key`: on the folder itself, whether a server is running on it or not.

use std::{io::Read, path::PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::{
    auth::{Accounts, Permissions, TokenKey, random_password},
    config::{key_folder, parse_storage},
};

/// The folder whose users and keys are meant.
#[derive(Debug, Clone, Args)]
pub(super) struct Folder {
    /// Folder of the log, the tables and the keys
    #[arg(long, env = "SCOUTER_STORAGE_URI", default_value = "./scouter_storage", value_name = "FOLDER")]
    storage: String,
    /// The folder that the server calls --state, if users and keys are not in the storage
    #[arg(long, env = "SCOUTER_STATE", value_name = "FOLDER")]
    state: Option<PathBuf>,
}

/// What can be done to users.
#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user; prints a password if none is given
    Add {
        #[command(flatten)]
        folder: Folder,
        /// What he logs in as
        name: String,
        /// What he may do, of write, read and admin
        #[arg(long, default_value = "write,read", value_name = "LIST")]
        permissions: Permissions,
        /// Read the password from stdin
        #[arg(long)]
        password_stdin: bool,
    },
    /// List users
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Refuse a user from now on, his sessions too
    Deactivate {
        #[command(flatten)]
        folder: Folder,
        /// His name
        name: String,
    },
    /// Let a deactivated user in again
    Activate {
        #[command(flatten)]
        folder: Folder,
        /// His name
        name: String,
    },
    /// Change what a user may do, from his next request on
    Permit {
        #[command(flatten)]
        folder: Folder,
        /// His name
        name: String,
        /// What he may do, of write, read and admin
        permissions: Permissions,
    },
    /// Give a user another password and end his sessions; prints one if none is given
    Passwd {
        #[command(flatten)]
        folder: Folder,
        /// His name
        name: String,
        /// Read the password from stdin
        #[arg(long)]
        password_stdin: bool,
    },
}

/// What can be done to keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key and print it, this once
    Create {
        #[command(flatten)]
        folder: Folder,
        /// What it is for
        name: String,
        /// What its holder may do, of write, read and admin
        #[arg(long, default_value = "write", value_name = "LIST")]
        permissions: Permissions,
        /// Refuse it after so many days
        #[arg(long, value_name = "DAYS")]
        expires_in_days: Option<u32>,
    },
    /// List keys
    List {
        #[command(flatten)]
        folder: Folder,
    },
    /// Refuse a key from now on
    Revoke {
        #[command(flatten)]
        folder: Folder,
        /// Its id, the part of it after the first underscore
        id: String,
    },
}

impl Folder {
    fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(state) = self.state.as_ref().filter(|state| !state.as_os_str().is_empty()) {
            return Ok(key_folder(state));
        }
        let mut faults = Vec::new();
        let storage = parse_storage(&self.storage, &mut faults);
        if let Some(fault) = faults.pop() {
            bail!(fault);
        }
        Ok(key_folder(&storage))
    }

    fn accounts(&self) -> anyhow::Result<Accounts> {
        Ok(Accounts::open(&self.path()?)?)
    }
}

/// `scouter-server user`.
pub(super) fn user(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add { folder, name, permissions, password_stdin } => {
            let password = Password::choose(password_stdin)?;
            folder.accounts()?.add_user(&name, &password.text, permissions.clone())?;
            println!("user {name} was added and may {permissions}");
            password.show();
        }
        UserCommand::List { folder } => {
            let rows = folder.accounts()?.rows();
            println!("{:24}  {:16}  state", "name", "permissions");
            for user in &rows.users {
                let state = if user.active { "active" } else { "inactive" };
                println!("{:24}  {:16}  {state}", user.name, user.permissions.to_string());
            }
        }
        UserCommand::Deactivate { folder, name } => {
            folder.accounts()?.set_active(&name, false)?;
            println!("user {name} is refused from now on");
        }
        UserCommand::Activate { folder, name } => {
            folder.accounts()?.set_active(&name, true)?;
            println!("user {name} may log in again");
        }
        UserCommand::Permit { folder, name, permissions } => {
            folder.accounts()?.set_permissions(&name, permissions.clone())?;
            println!("user {name} may {permissions}");
        }
        UserCommand::Passwd { folder, name, password_stdin } => {
            let password = Password::choose(password_stdin)?;
            folder.accounts()?.set_password(&name, &password.text)?;
            println!("user {name} has another password, and has to log in again");
            password.show();
        }
    }
    Ok(())
}

/// `scouter-server key`.
pub(super) fn key(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create { folder, name, permissions, expires_in_days } => {
            let signing = TokenKey::open(&folder.path()?)?;
            let key = folder.accounts()?.create_key(&signing, &name, permissions.clone(), expires_in_days)?;
            eprintln!("key {} for {name} may {permissions}; it is shown this once:", key.row.id);
            println!("{}", key.text);
        }
        KeyCommand::List { folder } => {
            let rows = folder.accounts()?.rows();
            println!("{:12}  {:24}  {:16}  {:20}  state", "id", "name", "permissions", "expires");
            for key in &rows.keys {
                let state = if key.revoked { "revoked" } else { "good" };
                let expires = key.expires.map_or_else(|| "never".to_owned(), date);
                println!("{:12}  {:24}  {:16}  {expires:20}  {state}", key.id, key.name, key.permissions.to_string());
            }
        }
        KeyCommand::Revoke { folder, id } => {
            let key = folder.accounts()?.revoke_key(&id)?;
            println!("key {id} for {} is refused from now on", key.name);
        }
    }
    Ok(())
}

fn date(unix_seconds: u64) -> String {
    let time = i64::try_from(unix_seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map_or_else(|| "?".to_owned(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// A password, and whether someone has to be told.
struct Password {
    text: String,
    is_made: bool,
}

impl Password {
    /// Never an argument: those are seen by everyone on the machine.
    fn choose(from_stdin: bool) -> anyhow::Result<Self> {
        if !from_stdin {
            return Ok(Self { text: random_password(), is_made: true });
        }
        let mut text = String::new();
        std::io::stdin().take(64 * 1024).read_to_string(&mut text).context("the password cannot be read from stdin")?;
        Ok(Self { text: text.trim_end_matches(['\r', '\n']).to_owned(), is_made: false })
    }

    fn show(&self) {
        if self.is_made {
            println!("password: {}", self.text);
        }
    }
}
