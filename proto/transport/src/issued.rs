//! Operators' certificates that were issued: a list in a file, so that an authority is not retired under those who have nothing newer. It opens nothing to anybody.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use proto_model::time::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::identity::{Identity, fingerprint_of_key, validity_of};
use crate::private::change_private;
use crate::revocation::ShownCertificate;

/// One that was issued, and the fingerprint of the authority that did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    pub shown: ShownCertificate,
    pub authority: String,
}

impl IssuedCertificate {
    /// What an operator's certificate says; `None` for any other.
    pub fn of(certificate: &CertificateDer<'_>, authority: &str) -> Option<Self> {
        let Identity::Operator { name, .. } = Identity::of_certificate(certificate) else {
            return None;
        };
        let validity = validity_of(certificate);
        Some(Self {
            shown: ShownCertificate {
                operator: name,
                key: fingerprint_of_key(certificate),
                begins: validity.map(|(begins, _)| begins),
                ends: validity.map(|(_, ends)| ends),
                issuer: Vec::new(),
            },
            authority: authority.to_owned(),
        })
    }

    fn line(&self) -> String {
        let (shown, at) = (&self.shown, |at: Option<Timestamp>| at.unwrap_or_default().0);
        let key = shown.key.as_deref().unwrap_or("-");
        format!(
            "{} {key} {} {} {}\n",
            shown.operator,
            self.authority,
            at(shown.begins),
            at(shown.ends)
        )
    }

    fn of_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [operator, key, authority, begins, ends] = words[..] else {
            return None;
        };
        let at = |text: &str| text.parse().ok().map(Timestamp);
        Some(Self {
            shown: ShownCertificate {
                operator: operator.to_owned(),
                key: Some(key.to_owned()),
                begins: Some(at(begins)?),
                ends: Some(at(ends)?),
                issuer: Vec::new(),
            },
            authority: authority.to_owned(),
        })
    }
}

/// The list; no file is an empty one.
#[derive(Debug, Clone)]
pub struct IssuedList(PathBuf);

impl IssuedList {
    pub fn open(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// On the disk when it returns. What has ended is left out from then on.
    pub fn add(&self, issued: &IssuedCertificate, now: Timestamp) -> io::Result<()> {
        change_private(&self.0, |text| {
            let mut all = self.all_of(&text)?;
            all.retain(|one| one.shown.ends.is_some_and(|ends| ends > now));
            all.push(issued.clone());
            Ok(all.iter().map(IssuedCertificate::line).collect())
        })
    }

    /// Operators who have a certificate that still opens something, and none of this authority.
    pub fn without(&self, authority: &str, now: Timestamp, is_revoked: impl Fn(&ShownCertificate) -> bool) -> io::Result<Vec<String>> {
        let mut has_one: BTreeMap<String, bool> = BTreeMap::new();
        for issued in self.read()? {
            if issued.shown.ends.is_some_and(|ends| ends > now) && !is_revoked(&issued.shown) {
                *has_one.entry(issued.shown.operator).or_default() |= issued.authority == authority;
            }
        }
        Ok(has_one.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect())
    }

    fn read(&self) -> io::Result<Vec<IssuedCertificate>> {
        let text = match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read?,
        };
        self.all_of(&text)
    }

    fn all_of(&self, text: &str) -> io::Result<Vec<IssuedCertificate>> {
        let lines = text.lines().enumerate().map(|(at, line)| {
            IssuedCertificate::of_line(line).ok_or_else(|| {
                let what = format!(
                    "{}:{}: not a line of this list; remove the line, and give its operator a new certificate",
                    self.0.display(),
                    at + 1
                );
                io::Error::new(ErrorKind::InvalidData, what)
            })
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use proto_model::role::Role;

    use super::*;
    use crate::authority::{AUTHORITY_LIFE_MS, Authority};

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const DAY_MS: u64 = 86_400_000;

    #[test]
    fn who_has_nothing_newer_is_named_until_it_ends_or_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let list = IssuedList::open(&folder.path().join("issued-operators"));
        let authority = Authority::make(AUTHORITY_LIFE_MS, NOW).unwrap();
        let issue = |name: &str, of: &str, days: u64| {
            let (certificate, _) = authority.issue_operator(name, Role::Viewer, NOW, days * DAY_MS).unwrap();
            list.add(&IssuedCertificate::of(&certificate, of).unwrap(), NOW).unwrap();
        };
        for (name, of, days) in [("ann", "old", 30), ("bob", "old", 30), ("kim", "old", 2), ("bob", "new", 30)] {
            issue(name, of, days);
        }
        let left = |at: Timestamp, revoked: &str| list.without("new", at, |shown| shown.operator == revoked).unwrap();
        assert_eq!(left(NOW, ""), ["ann", "kim"]);
        assert_eq!(left(NOW.plus_ms(3 * DAY_MS), ""), ["ann"]);
        assert_eq!(left(NOW, "ann"), ["kim"]);
        std::fs::write(folder.path().join("issued-operators"), "half a li").unwrap();
        let error = list.without("new", NOW, |_| false).unwrap_err().to_string();
        assert!(error.contains("issued-operators:1: "), "{error}");
    }
}
