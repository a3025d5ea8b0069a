//! The users of this host that commands run as.

use std::path::Path;

/// The list of users; whoever only a directory service knows is not among them.
const PASSWD: &str = "/etc/passwd";
/// Longest list read, in bytes.
const PASSWD_BYTES_MAX: u64 = 4 << 20;

/// A user of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    /// Its own group: commands have no other.
    pub(super) gid: u32,
}

impl User {
    /// The user of this name.
    ///
    /// # Errors
    ///
    /// In a line: there is none, or the list cannot be read.
    pub(super) fn named(name: &str) -> Result<Self, String> {
        let users = users()?;
        let found = users.into_iter().find(|user| user.name == name);
        found.ok_or_else(|| format!("there is no user {name:?} in {PASSWD}: make one"))
    }

    /// The user that this process runs as.
    ///
    /// # Errors
    ///
    /// As [`Self::named`].
    pub(super) fn own() -> Result<Self, String> {
        let uid = rustix::process::geteuid().as_raw();
        let found = users()?.into_iter().find(|user| user.uid == uid);
        found.ok_or_else(|| format!("there is no user with id {uid} in {PASSWD}"))
    }

    /// Whether this process may run something as this user.
    ///
    /// # Errors
    ///
    /// Why not, in a line.
    pub(super) fn check(&self) -> Result<(), String> {
        match rustix::process::geteuid().as_raw() {
            0 => Ok(()),
            own if own == self.uid => Ok(()),
            own => Err(format!(
                "the agent runs as the user with id {own}, so it can run nothing as {}: run it as \
                 root",
                self.name
            )),
        }
    }
}

fn users() -> Result<Vec<User>, String> {
    let bytes = durable::read_bounded(Path::new(PASSWD), PASSWD_BYTES_MAX)
        .map_err(|error| format!("cannot read {PASSWD}: {error}"))?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// `name:x:uid:gid:...`, one a line; what is no such line is passed over.
fn parse(text: &str) -> Vec<User> {
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(User { name, uid, gid })
    };
    text.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_id() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# comment\nweb:x:7:8::/srv:/bin/false\n\
                    broken:x:a:8::/:/\nshort:x\n";
        let user = |name: &str, uid, gid| User { name: name.to_owned(), uid, gid };
        assert_eq!(parse(text), [user("root", 0, 0), user("web", 7, 8)]);
        let own = User::own().unwrap();
        assert_eq!(User::named(&own.name).unwrap().uid, own.uid);
        assert!(own.check().is_ok(), "itself");
        let none = User::named("no-such-user").unwrap_err();
        assert_eq!(none, "there is no user \"no-such-user\" in /etc/passwd: make one");
    }
}
