//! Operators' certificates that open nothing any more: a list in a file, in force for a running controller as soon as it is written.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use proto_model::time::Timestamp;

use crate::identity::is_operator;
use crate::private::change_private;

/// Characters of a key's SHA-256 in hex.
const FINGERPRINT_CHARS: usize = 64;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// Every certificate of this operator that began until then.
    Operator { name: String, until: Timestamp },
    /// Every certificate for this key, by its SHA-256 in hex.
    Key(String),
}

impl Revocation {
    /// A key's fingerprint, or an operator's name: then what was issued until now.
    pub fn parse(text: &str, now: Timestamp) -> Option<Self> {
        if text.len() == FINGERPRINT_CHARS && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Some(Self::Key(text.to_ascii_lowercase()));
        }
        let name = text.to_owned();
        is_operator(text).then_some(Self::Operator { name, until: now })
    }

    fn line(&self) -> String {
        match self {
            Self::Operator { name, until } => format!("operator {name} {}\n", until.0),
            Self::Key(key) => format!("key {key}\n"),
        }
    }

    fn of_line(line: &str) -> Option<Self> {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["operator", name, until] => Some(Self::Operator {
                name: name.to_owned(),
                until: Timestamp(until.parse().ok()?),
            }),
            ["key", key] => Some(Self::Key(key.to_owned())),
            _ => None,
        }
    }

    fn covers(&self, shown: &ShownCertificate) -> bool {
        match self {
            Self::Operator { name, until } => *name == shown.operator && shown.begins.is_none_or(|begins| begins <= *until),
            Self::Key(key) => shown.key.as_deref() == Some(key.as_str()),
        }
    }
}

/// What an operator's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCertificate {
    pub operator: String,
    /// SHA-256 of the public key, in hex.
    pub key: Option<String>,
    pub begins: Option<Timestamp>,
    pub ends: Option<Timestamp>,
    /// Whoever issued it, by name.
    pub issuer: Vec<u8>,
}

/// The list, read again whenever its file has changed.
#[derive(Debug)]
pub struct RevocationList {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Debug, Default)]
struct Read {
    stamp: Option<(u64, u64, i64, i64)>,
    list: Vec<Revocation>,
}

impl RevocationList {
    /// No file is an empty list.
    pub fn open(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: Mutex::default(),
        }
    }

    /// Whether the certificate is revoked; a list that cannot be read revokes all of them, since nobody knows.
    pub fn covers(&self, shown: &ShownCertificate) -> bool {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match refresh(&self.path, &mut read) {
            Ok(()) => read.list.iter().any(|revocation| revocation.covers(shown)),
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "the list of revoked certificates cannot be read: no certificate of an operator counts");
                true
            }
        }
    }

    /// Adds to the list; on the disk when it returns.
    pub fn add(&self, revocation: &Revocation) -> io::Result<()> {
        change_private(&self.path, |text| Ok(text + &revocation.line()))
    }
}

fn refresh(path: &Path, read: &mut Read) -> io::Result<()> {
    let stamp = match fs::metadata(path) {
        Ok(metadata) => Some(stamp_of(&metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if stamp == read.stamp {
        return Ok(());
    }
    let text = match stamp {
        Some(_) => fs::read_to_string(path)?,
        None => String::new(),
    };
    let lines = text
        .lines()
        .map(|line| Revocation::of_line(line).ok_or(ErrorKind::InvalidData.into()));
    read.list = lines.collect::<io::Result<_>>()?;
    read.stamp = stamp;
    Ok(())
}

fn stamp_of(metadata: &Metadata) -> (u64, u64, i64, i64) {
    (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(operator: &str, key: &str, begins: i64) -> ShownCertificate {
        ShownCertificate {
            operator: operator.to_owned(),
            key: Some(key.to_owned()),
            begins: Some(Timestamp(begins)),
            ends: None,
            issuer: Vec::new(),
        }
    }

    #[test]
    fn a_name_covers_what_was_issued_before_and_a_key_all_of_its_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked-operators");
        let (list, elsewhere) = (RevocationList::open(&path), RevocationList::open(&path));
        let key = "ab".repeat(32);
        assert!(!list.covers(&shown("ann", &key, 5)));
        // Another process writes; the one that reads obeys at once.
        elsewhere.add(&Revocation::parse("ann", Timestamp(10)).unwrap()).unwrap();
        assert!(list.covers(&shown("ann", "x", 5)) && list.covers(&shown("ann", "x", 10)));
        assert!(!list.covers(&shown("ann", "x", 11)) && !list.covers(&shown("bob", "x", 5)));
        elsewhere
            .add(&Revocation::parse(&key.to_uppercase(), Timestamp(10)).unwrap())
            .unwrap();
        assert!(list.covers(&shown("bob", &key, 99)) && list.covers(&shown("ann", "x", 5)));
        assert_eq!(Revocation::parse("../ann", Timestamp(1)), None);
    }

    #[test]
    fn a_list_that_cannot_be_read_revokes_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked-operators");
        fs::write(&path, "operator ann soon\n").unwrap();
        let list = RevocationList::open(&path);
        assert!(list.covers(&shown("bob", "x", 5)));
        fs::write(&path, "operator ann 7\n").unwrap();
        assert!(!list.covers(&shown("bob", "x", 5)) && list.covers(&shown("ann", "x", 5)));
    }
}
