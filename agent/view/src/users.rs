//! The users that this host itself has, by its files: a directory over the network may never answer, least of all while a fault holds it.

use std::collections::BTreeMap;

use crate::error::ViewError;
use crate::text;

/// Where useradd and systemd-sysusers write the users of this host.
const LIST: &str = "/etc/passwd";
/// Where systems that boot images (rpm-ostree) have the users of their packages.
const IMAGE_LIST: &str = "/usr/lib/passwd";
/// The kernel takes this for "no change", so it is neither a user nor a group.
const NO_ID: u32 = u32::MAX;

/// A user by number, with its first group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// The host's own users by name and by number; of lines for one name or one number the first counts.
#[derive(Debug, Default)]
pub struct Users {
    by_name: BTreeMap<String, User>,
    names: BTreeMap<u32, String>,
}

impl Users {
    pub fn read() -> Result<Self, ViewError> {
        let image = text::read_if_there(IMAGE_LIST)?.unwrap_or_default();
        Ok(Self::parse(&format!("{}\n{image}", text::read(LIST)?)))
    }

    /// For those to whom a name is a help and no more: without a list that can be read, no user has one.
    pub(crate) fn read_if_readable() -> Self {
        Self::read().unwrap_or_default()
    }

    /// Lines that are malformed, and those of NIS, are passed over, as the C library does where it asks no NIS.
    pub fn parse(listed: &str) -> Self {
        let mut users = Self::default();
        for (name, user) in listed.lines().filter_map(user) {
            users.by_name.entry(name.to_owned()).or_insert(user);
            users.names.entry(user.uid).or_insert_with(|| name.to_owned());
        }
        users
    }

    pub fn by_name(&self, name: &str) -> Option<User> {
        self.by_name.get(name).copied()
    }

    pub fn name_of(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(String::as_str)
    }
}

fn user(line: &str) -> Option<(&str, User)> {
    let mut fields = line.trim_start().split(':');
    let name = fields.next()?;
    // A NIS line takes users from a directory or leaves them out, and its numbers are 0 where it names none.
    if name.is_empty() || name.starts_with(['+', '-', '#']) {
        return None;
    }
    let uid = number(fields.nth(1)?)?;
    let gid = number(fields.next()?)?;
    Some((name, User { uid, gid }))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != NO_ID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_and_of_a_number_counts() {
        let users = Users::parse("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\nredis:x:101:5::/:\nredis:x:0:0::/:\n");
        assert_eq!(users.name_of(0), Some("root"));
        assert_eq!(users.name_of(101), Some("redis"));
        assert_eq!(users.by_name("redis"), Some(User { uid: 101, gid: 5 }));
        assert_eq!(users.by_name("toor"), Some(User { uid: 0, gid: 0 }));
        assert_eq!(users.by_name("redi"), None);
    }

    #[test]
    fn malformed_lines_are_no_users() {
        let lines = [
            "",
            ":",
            "fracas",
            "fracas:x",
            "fracas:x:7",
            "fracas:x::7::/:",
            "fracas:x:7:::/:",
            "fracas:x:seven:7::/:",
            "fracas:x:-1:7::/:",
            "fracas:x:4294967295:7::/:",
            "fracas:x:7:4294967295::/:",
            "fracas:x:4294967296:7::/:",
            "#fracas:x:7:7::/:",
            ":x:7:7::/:",
        ];
        for line in lines {
            let users = Users::parse(line);
            assert!(users.by_name.is_empty() && users.names.is_empty(), "{line:?}: {users:?}");
        }
        // They do not hide what follows them.
        let users = Users::parse(&format!("{}\nfracas:x:7:8::/:", lines.join("\n")));
        assert_eq!(users.by_name("fracas"), Some(User { uid: 7, gid: 8 }));
    }

    #[test]
    fn lines_of_nis_are_no_users() {
        let users = Users::parse("+fracas::::::\n+fracas:x:7:7::/:\n-fracas:x:7:7::/:\n+@netgroup:x:7:7::/:\n+\n+::0:0:::\n");
        for name in ["fracas", "+fracas", "-fracas", "+@netgroup", "+", ""] {
            assert_eq!(users.by_name(name), None, "{name}");
        }
        assert_eq!((users.name_of(0), users.name_of(7)), (None, None));
    }

    #[test]
    fn this_hosts_list_has_the_users_that_the_system_knows() {
        let users = Users::read().unwrap();
        let output = std::process::Command::new("id").args(["-u", "nobody"]).output().unwrap();
        let uid = String::from_utf8(output.stdout).unwrap();
        assert_eq!(users.by_name("nobody").unwrap().uid.to_string(), uid.trim());
        assert_eq!(users.name_of(0), Some("root"));
    }
}
