//! What can be done to users and keys, by the command line and by the API alike. All of it blocks: hashes and syncs.

use rand::RngCore;

use super::{
    AccountError, Accounts, Key, NewKey, Permissions, TokenKey,
    accounts::User,
    keys::{new_key, random_hex},
    users::{new_password, new_user},
};

/// A password no one has to think of: 128 random bits.
pub fn random_password() -> String {
    random_hex(16)
}

impl Accounts {
    /// Adds a user.
    ///
    /// # Errors
    /// The name is taken or cannot be one, or the password cannot.
    pub fn add_user(&self, name: &str, password: &str, permissions: Permissions) -> Result<(), AccountError> {
        let user = new_user(name, password, permissions)?;
        self.change(|rows| {
            if rows.user(name).is_some() {
                return Err(AccountError::UserExists { name: name.to_owned() });
            }
            rows.users.push(user);
            Ok(())
        })
    }

    /// Gives a user another password; his sessions end.
    ///
    /// # Errors
    /// There is no such user, or the password cannot be one.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), AccountError> {
        let password_hash = new_password(name, password)?;
        self.change_user(name, |user| {
            user.password_hash = password_hash;
            user.stamp = rand::rng().next_u64();
        })
    }

    /// Lets a user in, or no more; his sessions end when he is not.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_active(&self, name: &str, active: bool) -> Result<(), AccountError> {
        self.change_user(name, |user| {
            if user.active && !active {
                user.stamp = rand::rng().next_u64();
            }
            user.active = active;
        })
    }

    /// Changes what a user may do, from his next request on.
    ///
    /// # Errors
    /// There is no such user.
    pub fn set_permissions(&self, name: &str, permissions: Permissions) -> Result<(), AccountError> {
        self.change_user(name, |user| user.permissions = permissions)
    }

    /// Makes a key; its text is in what is returned and nowhere else.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn create_key(&self, signing: &TokenKey, name: &str, permissions: Permissions, days: Option<u32>) -> Result<NewKey, AccountError> {
        let key = new_key(signing, name, permissions, days)?;
        let row = key.row.clone();
        self.change(|rows| {
            rows.keys.push(row);
            Ok(())
        })?;
        Ok(key)
    }

    /// Refuses a key from now on.
    ///
    /// # Errors
    /// There is no such key.
    pub fn revoke_key(&self, id: &str) -> Result<Key, AccountError> {
        self.change(|rows| {
            let key = rows.key_mut(id)?;
            key.revoked = true;
            Ok(key.clone())
        })
    }

    fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) -> Result<(), AccountError> {
        self.change(|rows| {
            change(rows.user_mut(name)?);
            Ok(())
        })
    }
}
